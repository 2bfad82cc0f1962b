"""Which models can be streamed: those whose output at a timestep depends only on that timestep and earlier ones.

Walks the graph with the layers of the specification. A layer that is not known to be causal is refused, and the error
names it. Imports nothing of the engine.
"""

from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..graph import Ref, flatten_refs
from ..layers import Functional, Spec, merging, recurrent, reshaping
from ..layers.functional import TimeDistributed
from ..layers.operation import Operation, rank_of
from ..layers.operations import Elementwise
from . import padding

# The two kinds of tensors. STREAM has a time axis (axis 1) and arrives in pieces. LAST arrives
# whole: after each piece it is the output for the sequence so far.
STREAM, LAST = "stream", "last"

# Layers by their Keras class. These compute each element by itself, or look up each token:
_ANY_RANK = {"Identity", "Embedding", "ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Rescaling"}
# These work along the last axis, which must not be the time axis:
_LAST_AXIS = {"Dense", "Masking", "Activation"}
# These work along the axes that an option names:
_AXES = {"BatchNormalization", "LayerNormalization", "UnitNormalization", "Softmax"}
_CONVOLUTIONS = {"Conv1D", "DepthwiseConv1D", "SeparableConv1D"}
# Operations along an axis. Those that compute each element by itself are Elementwise.
_AXIS_OPERATIONS = {"Any", "All", "ExpandDims", "Concatenate"}
_REASONS = {
    "Bidirectional": "reads the sequence backwards, too",
    "GlobalAveragePooling1D": "takes the mean over all timesteps",
    "GlobalMaxPooling1D": "takes the maximum over all timesteps",
    "Flatten": "puts all timesteps into one row",
    "Permute": "moves the time axis",
    "RepeatVector": "has no time axis in its input",
    "Dot": "multiplies across timesteps",
    "GroupNormalization": "normalizes over all timesteps",
}


class Place(NamedTuple):
    """A node whose layer needs a stand-in.

    `kind`: "recurrent", "convolution", "reshape", or the Places of a model inside.
    """

    kind: Any
    layer: Any
    masked: bool = False


def find_places(network: Functional) -> tuple[dict[int, Place], list[Any]]:
    """(Places of the layers that need a stand-in, by node number; kinds of the outputs)."""
    given = [(STREAM, Spec(i.shape)) for i in network.graph.inputs]
    for part, (_, spec) in zip(network.graph.inputs, given):
        if len(spec.shape) < 2:
            raise InputError(
                f"the model cannot be streamed: input {part.name!r} of shape {spec.shape} has no time axis"
            )
    return _walk(network, given, ())


def _walk(network, given, path):
    """(Places by node number, kinds of the outputs) of a network or of a model inside."""
    values, places = [[pair] for pair in given], {}
    for number, (node, specs) in enumerate(zip(network.graph.nodes, network.node_specs), start=len(given)):
        layer = network.inner[node.layer]
        reads = [values[ref.node][ref.tensor] for ref in flatten_refs((node.args, node.kwargs))]
        kinds = {kind for kind, _ in reads}
        here = (*path, layer.name)
        if STREAM not in kinds:
            if any(getattr(part, "stateful", False) for part in _all_inside(layer)):
                _refuse(here, layer, "is stateful and reads an answer that is complete at every step")
            outputs = [LAST] * len(specs)
        elif isinstance(layer, Functional):
            refs = flatten_refs(node.args)
            inputs = [values[ref.node][ref.tensor] for ref in refs]
            if len(inputs) != len(reads):
                _refuse(here, layer, "is called with a mask")
            inner, outputs = _walk(layer, inputs, here)
            places[number] = Place(inner, layer)
        else:
            reason = "joins a sequence with an answer for all of it" if len(kinds) > 1 else _reason(layer, node, reads)
            if reason:
                _refuse(here, layer, reason)
            outputs = [STREAM] * len(specs)
            if isinstance(layer, recurrent.Recurrent):
                outputs = [STREAM if layer.return_sequences else LAST] + [LAST] * (len(specs) - 1)
                places[number] = Place("recurrent", layer, reads[0][1].masked or len(reads) > 1)
            elif _names(layer) & _CONVOLUTIONS and history(layer):
                places[number] = Place("convolution", layer)
            elif isinstance(layer, reshaping.Reshape):
                places[number] = Place("reshape", layer)
        values.append(list(zip(outputs, specs)))
    return places, [values[ref.node][ref.tensor][0] for ref in network.graph.outputs]


def _refuse(path, layer, reason):
    raise InputError(f"the model cannot be streamed: layer {'/'.join(path)!r} ({layer.class_name}) {reason}")


def _all_inside(layer):
    yield layer
    for part in layer.inner:
        yield from _all_inside(part)


def _names(layer):
    return {cls.__name__ for cls in type(layer).__mro__}


def _reason(layer, node, reads):
    """Why a layer cannot be called with a piece of a sequence; None if it can."""
    names, ranks = _names(layer), {len(spec.shape) for _, spec in reads}
    n_tensors = len(flatten_refs(node.args)) + len(flatten_refs(node.kwargs.get("initial_state")))
    rank = len(reads[0][1].shape)
    if isinstance(layer, Operation):
        return _reason_operation(layer, node, ranks, reads)
    if isinstance(layer, recurrent.Recurrent):
        if layer.class_name.startswith("ConvLSTM"):
            return "has images as states, which a stream does not keep"
        if layer.go_backwards:
            return "reads the sequence backwards"
        if layer.time_major:
            return "has the time axis first (time_major)"
        return "is called with initial states; a stream begins with zeros" if n_tensors > 1 else None
    if isinstance(layer, merging.Merge):
        times = {spec.shape[1] for _, spec in reads} - {None}
        if len(ranks) > 1 or len(times) > 1:
            return "joins inputs whose time axes are not the same"
        if isinstance(layer, merging.Concatenate) and layer.axis % rank < 2:
            return "joins along the time axis"
        return None
    if isinstance(layer, TimeDistributed):
        return _reason_inside(layer.inner[0])
    if names & _CONVOLUTIONS:
        return _reason_convolution(layer)
    if isinstance(layer, reshaping.Reshape):
        target, shape = layer.target_shape, reads[0][1].shape
        sizes = {reshaping.product(shape[2:]), reshaping.product(target[1:])}
        keeps = len(target) > 1 and len(sizes) == 1 and None not in sizes and min(target[1:]) > 0
        return None if keeps and target[0] in (-1, shape[1]) else "does not keep the time axis"
    if names & (_LAST_AXIS | _AXES) and rank < 3:
        return "works over axis 1, which is the time axis"
    if names & _AXES:
        axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
        if any(axis % rank < 2 for axis in axes):
            return "works along the time axis"
        return "has a masked input" if "Softmax" in names and reads[0][1].masked else None
    if "PReLU" in names:
        return None if 1 in (layer.shared_axes or ()) else "has a slope of its own for every timestep"
    if "Rescaling" in names and any(np.ndim(layer.config[option]) for option in ("scale", "offset")):
        return "has an array as an option"
    if names & (_ANY_RANK | _LAST_AXIS):
        return None
    if "Attention" in layer.class_name:
        return "looks at all timesteps"
    return _REASONS.get(layer.class_name, "is not known to look at one timestep alone")


def _reason_inside(layer):
    """Why TimeDistributed cannot be streamed, or None.

    All timesteps become rows of one batch for the layer inside, so that layer must not look across rows.
    """
    for part in _all_inside(layer):
        if isinstance(part, Functional) and not padding.rows_are_independent(part):
            return "holds a model that looks across the rows of a batch"
        if "FunctionLayer" in _names(part):
            return f"holds layer {part.name!r}, a function of the user, which may look across the rows of a batch"
    return None


def _reason_operation(layer, node, ranks, reads):
    name, rank = type(layer).__name__, min(ranks)
    if len(ranks) > 1:
        return "joins inputs of different ranks"
    if len({spec.shape[1] for _, spec in reads if rank > 1} - {None}) > 1:
        return "joins inputs whose time axes are not the same"
    constants = {**dict(zip(layer.parameters, node.args)), **layer.config, **node.kwargs}
    if isinstance(layer, Elementwise):
        wide = any(
            isinstance(v, (list, tuple, dict)) or rank_of(v) for v in constants.values() if not isinstance(v, Ref)
        )
        return "has an array as an operand" if wide else None
    if name in _AXIS_OPERATIONS:
        axes = constants.get("axis")
        axes = axes if isinstance(axes, (list, tuple)) else [axes]
        lowest = 3 if name != "ExpandDims" else 2
        wide = rank + (name == "ExpandDims")
        fits = rank >= lowest and axes and all(isinstance(axis, int) and axis % wide >= 2 for axis in axes)
        return None if fits else "works along the time axis"
    return "is not known to look at one timestep alone"


def _whole(value):
    return int(value[0]) if isinstance(value, (list, tuple)) else int(value)


def history(layer: Any) -> int:
    """How many earlier timesteps a causal convolution reads."""
    return (_whole(layer.config["kernel_size"]) - 1) * _whole(layer.config.get("dilation_rate", 1))


def _reason_convolution(layer):
    if _whole(layer.config.get("strides", 1)) != 1:
        return "skips timesteps (strides)"
    if layer.config.get("data_format") == "channels_first":
        return "has the time axis last (data_format)"
    if history(layer) and layer.config.get("padding") != "causal":
        return f"reads later timesteps (padding={layer.config.get('padding')!r})"
    return None
