"""Streaming: a sequence that arrives in pieces, each answered as if the whole sequence had been given.

`streamable` walks a model, refuses what looks at later timesteps, and puts a stand-in that remembers between pieces
in the place of each layer that looks at earlier ones; all other layers run as they are. What is remembered belongs to
the Stream, so that one model serves many. Imports NumPy; what a layer computes stays in `layers/` and `engine`.
"""

import copy
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from . import padding
from .errors import InputError
from .graph import Node, flatten_refs, map_refs
from .layers import Functional, Spec, Tensor, core, merging, recurrent, reshaping
from .layers.base import check_sequence_mask
from .layers.core import check_ids
from .layers.functional import Operation, TimeDistributed

# What a tensor is: a STREAM has a time axis (axis 1) and arrives in pieces; LAST is complete at every piece, the answer
# for the sequence so far.
STREAM, LAST = "stream", "last"

# Layers by their Keras class. Each element by itself, or the tokens of a lookup:
_ANY_RANK = {"Identity", "Embedding", "ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Rescaling"}
# The last axis, which must not be the time axis:
_LAST_AXIS = {"Dense", "Masking", "Activation"}
# The axes of an option:
_AXES = {"BatchNormalization", "LayerNormalization", "UnitNormalization", "Softmax"}
_CONVOLUTIONS = {"Conv1D", "DepthwiseConv1D", "SeparableConv1D"}
# Operations (`keras.ops`) on each element by itself, and along an axis:
_ELEMENT_OPERATIONS = {
    *("NotEqual", "Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalOr", "LogicalAnd", "LogicalNot"),
    *("OnesLike", "ZerosLike", "ConvertToTensor", "Cast", "Add", "Subtract", "Multiply", "Divide", "TrueDivide"),
    *("Maximum", "Minimum", "Negative", "Absolute", "Square", "Sqrt", "Exp", "Log", "Tanh", "Sigmoid", "Relu"),
}
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


# ---- which layers can be streamed -----------------------------------------------------------------------------------


class Place(NamedTuple):
    """What stands in for the layer of one node: a class below, or the Places of a model inside; whether it is masked."""

    stand_in: Any
    layer: Any
    masked: bool = False


def streamable(network, runner):
    """What runs the pieces in place of `runner`; raise InputError that names the layer that cannot be streamed."""
    given = [(STREAM, Spec(i.shape)) for i in network.graph.inputs]
    for part, (_, spec) in zip(network.graph.inputs, given):
        if len(spec.shape) < 2:
            raise InputError(f"the model cannot be streamed: input {part.name!r} of shape {spec.shape} has no time axis")
    places, kinds = _walk(network, given, ())
    return _with_stand_ins(runner, places), kinds


def _walk(network, given, path):
    """Places by node number, and the kinds of the outputs."""
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
                places[number] = Place(StreamRecurrent, layer, reads[0][1].masked or len(reads) > 1)
            elif _names(layer) & _CONVOLUTIONS and _history(layer):
                places[number] = Place(StreamConvolution, layer)
            elif isinstance(layer, reshaping.Reshape):
                places[number] = Place(StreamReshape, layer)
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
    """Why a layer cannot be called with a piece of its sequences, or None."""
    names, ranks = _names(layer), {len(spec.shape) for _, spec in reads}
    n_tensors = len(flatten_refs(node.args)) + len(flatten_refs(node.kwargs.get("initial_state")))
    rank = len(reads[0][1].shape)
    if isinstance(layer, Operation):
        return _reason_operation(layer, node, ranks, reads)
    if isinstance(layer, recurrent.Recurrent):
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
    if names & (_ANY_RANK | _LAST_AXIS):
        return None
    if "Attention" in layer.class_name:
        return "looks at all timesteps"
    return _REASONS.get(layer.class_name, "is not known to look at one timestep alone")


def _reason_inside(layer):
    """TimeDistributed calls the layer inside it for each timestep; timesteps must not meet in its batch."""
    for part in _all_inside(layer):
        if isinstance(part, Functional) and not padding.rows_are_independent(part):
            return "holds a model that looks across the rows of a batch"
        if "CustomLayer" in _names(part):
            return f"holds the registered layer {part.name!r}, which may look across the rows of a batch"
    return None


def _reason_operation(layer, node, ranks, reads):
    name, rank = type(layer).__name__, min(ranks)
    if len(ranks) > 1:
        return "joins inputs of different ranks"
    if name in _ELEMENT_OPERATIONS:
        constants = [*node.args, *node.kwargs.values(), *layer.config.values()]
        if any(isinstance(value, (list, tuple, dict)) for value in constants):
            return "has an array as an operand"
        return None
    if name in _AXIS_OPERATIONS:
        axes = padding._axes(layer, node)
        lowest = 3 if name != "ExpandDims" else 2
        wide = rank + (name == "ExpandDims")
        fits = rank >= lowest and axes and all(isinstance(axis, int) and axis % wide >= 2 for axis in axes)
        return None if fits else "works along the time axis"
    return "is not known to look at one timestep alone"


def _number(value):
    return int(value[0]) if isinstance(value, (list, tuple)) else int(value)


def _history(layer):
    """How many earlier timesteps a causal convolution reads."""
    return (_number(layer.config["kernel_size"]) - 1) * _number(layer.config.get("dilation_rate", 1))


def _reason_convolution(layer):
    if _number(layer.config.get("strides", 1)) != 1:
        return "skips timesteps (strides)"
    if layer.config.get("data_format") == "channels_first":
        return "has the time axis last (data_format)"
    if _history(layer) and layer.config.get("padding") != "causal":
        return f"reads later timesteps (padding={layer.config.get('padding')!r})"
    return None


# ---- what stands in for a layer -------------------------------------------------------------------------------------


def _stand_in(place, runner):
    if isinstance(place.stand_in, dict):
        return _with_stand_ins(runner, place.stand_in)
    if isinstance(runner, core.Embedding) and place.stand_in is StreamRecurrent:
        # The engine reads the rows of an Embedding in the recurrent layer after it.
        wrapper = copy.copy(runner)
        wrapper.layer = StreamRecurrent(place, runner.layer)
        return wrapper
    return place.stand_in(place, runner)


def _with_stand_ins(runner, places):
    """A copy of what runs a model, with the stand-ins of `places` (by node number)."""
    result = copy.copy(runner)
    if hasattr(runner, "steps"):
        result.steps = [
            step._replace(layer=_stand_in(places[step.number], step.layer), beside=False)
            if step.number in places
            else step._replace(beside=False)
            for step in runner.steps
        ]
        return result
    # One layer for each node: a layer that is called twice remembers two sequences.
    graph, first = runner.graph, len(runner.graph.inputs)
    layers = [runner.inner[node.layer] for node in graph.nodes]
    result.inner = [
        _stand_in(places[number], layer) if number in places else layer
        for number, layer in enumerate(layers, start=first)
    ]
    nodes = tuple(Node(number, node.args, node.kwargs) for number, node in enumerate(graph.nodes))
    result.graph = replace(graph, layers=tuple(graph.layers[node.layer] for node in graph.nodes), nodes=nodes)
    return result


class StandIn:
    """Called in place of a layer; what it remembers is a tuple of arrays in the Stream's states, by itself."""

    def __init__(self, place, runner):
        self.layer, self.runner, self.masked = place.layer, runner, place.masked
        self.name, self.class_name = place.layer.name, place.layer.class_name
        self.casts_input, self.n_inputs = runner.casts_input, runner.n_inputs


class StreamRecurrent(StandIn):
    """A recurrent layer that goes on from the states after the piece before, and from what was emitted last."""

    def project(self):
        self.runner.project()

    def call(self, inputs, kwargs, states):
        (x, given_mask), runner, kept = inputs[0], self.runner, states.get(self)
        mask = check_sequence_mask(runner, x, given_mask)
        start = None if kept is None else kept[:-1]
        outputs, last, *final = runner.run(x, mask, start, runner.masked_output, states)
        if mask is not None and kept is not None and runner.masked_output == "previous":
            before = kept[-1]
            if runner.return_sequences:
                waiting = ~np.logical_or.accumulate(mask, axis=1)
                outputs = np.where(waiting[:, :, np.newaxis], before[:, np.newaxis], outputs)
            last = np.where(np.any(mask, axis=1)[:, np.newaxis], last, before)
        states[self] = (*final, last)
        result = [Tensor(outputs, given_mask)] if runner.return_sequences else [Tensor(last)]
        return result + ([Tensor(state) for state in final] if runner.return_state else [])


class StreamConvolution(StandIn):
    """A causal convolution over the last rows of the pieces before and this one; zeros at first, as its padding."""

    def call(self, inputs, kwargs, states):
        x, mask = inputs[0]
        kept, size = states.get(self), _history(self.layer)
        before = np.zeros((len(x), size, *x.shape[2:]), x.dtype) if kept is None else kept[0]
        wide = np.concatenate([before, x], axis=1)
        states[self] = (wide[:, wide.shape[1] - size :].copy(),)
        wide_mask = None
        if mask is not None:
            wide_mask = np.concatenate([np.ones((len(x), size), bool), mask], axis=1)
        outputs = self.runner.call([Tensor(wide, wide_mask)], kwargs, states)
        return [Tensor(y[:, size:], None if m is None else m[:, size:]) for y, m in outputs]


class StreamReshape(StandIn):
    """A Reshape that keeps the time axis, whatever the number of timesteps."""

    def call(self, inputs, kwargs, states):
        x = inputs[0].value
        return [Tensor(np.reshape(x, (*x.shape[:2], *self.layer.target_shape[1:])))]


# ---- the stream -----------------------------------------------------------------------------------------------------


class Stream:
    """Sequences that arrive in pieces, `batch` of them side by side. Made by `Model.stream`.

    Every piece is answered with the rows that the whole sequences would give there. A recurrent layer with
    return_sequences=False, and what comes after it, answers for the sequence so far. Several streams on one model do
    not disturb each other; one stream must not be used by two threads at once. A stream can be pickled or deep-copied.
    """

    def __init__(self, model, batch=1):
        if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
            raise InputError(f"batch is {batch!r}; expected a whole number of at least 1")
        self.model, self.batch = model, int(batch)
        self._plan, self._kinds = model._streaming()
        self._states = {}
        self._fast = _fast_chain(self._plan, self.batch) if self._plan.backend == "vector" else None

    def push(self, x):
        """Answer the next timesteps.

        Parameters
        ----------
        x : array_like, list or dict
            As for `Model.predict`, with any number n of timesteps: (batch, n, ...), or token ids (batch, n). Without
            the time axis, (batch, ...) or ids (batch,), it is one timestep. Several inputs have the same n.

        Returns
        -------
        ndarray, list or dict of ndarray
            As the model: the n rows of each sequence, without their time axis where x has none. Outputs that have no
            time axis in the model are the answers for the sequences so far.

        Raises
        ------
        InputError
            If an array does not fit; the stream then stands where it stood before.
        """
        fast = self._fast
        if fast is not None:
            y = fast.push(x)
            if y is not None:
                return y
        arrays, timed = self._check(x)
        states = self._all_states()
        outputs = self._plan.run(arrays, states)
        if fast is not None:
            fast.set_states(states)
        self._states = states
        if not timed:
            outputs = [y[:, 0] if kind == STREAM else y for y, kind in zip(outputs, self._kinds)]
        return self.model._pack(outputs)

    def reset(self):
        """Begin new sequences, from zeros."""
        self._states = {}
        if self._fast is not None:
            self._fast.set_states({})

    @property
    def state(self):
        """What is remembered, as a list of tuples of arrays; assign it to this or another stream of the model to go on
        from there (`other.state = stream.state`).
        """
        states = self._all_states()
        return [tuple(a.copy() for a in states[part]) if part in states else None for part in self._parts()]

    @state.setter
    def state(self, value):
        parts = self._parts()
        fits = isinstance(value, (list, tuple)) and len(value) == len(parts)
        if not fits or not all(v is None or all(len(a) == self.batch for a in v) for v in value):
            raise InputError(f"this is no state of a stream of this model with batch {self.batch}")
        states = {part: tuple(np.array(a) for a in v) for part, v in zip(parts, value) if v is not None}
        if self._fast is not None:
            self._fast.set_states(states)
        self._states = states

    def __repr__(self):
        return f"<fastbilstm.Stream of {self.model.name!r}, batch {self.batch}>"

    def __reduce__(self):
        return _restore, (self.model, self.batch, self.state)

    def __deepcopy__(self, memo):
        return _restore(self.model, self.batch, self.state)

    def _all_states(self):
        states = dict(self._states)
        if self._fast is not None:
            states.update(self._fast.states())
        return states

    def _parts(self):
        return list(_stand_ins(self._plan.runner))

    def _check(self, x):
        """The pieces as arrays with a time axis, and whether they had one."""
        given, arrays, timed = self.model.graph.inputs, [], set()
        for number, (values, part) in enumerate(zip(self._by_input(x), given)):
            what, rank = f"input {part.name!r}", len(part.shape)
            try:
                array = np.asarray(values)
            except ValueError as error:
                raise InputError(f"{what}: rows of different lengths are no array ({error})") from error
            if array.dtype.kind not in "biuf":
                raise InputError(f"{what}: has dtype {array.dtype}; expected numbers")
            timed.add(array.ndim == rank)
            shape = array.shape
            if array.ndim == rank - 1:
                array = np.expand_dims(array, 1)
            sizes = zip(array.shape[2:], part.shape[2:])
            fits = array.ndim == rank and len(array) == self.batch and array.shape[1] > 0
            if not fits or any(size != expected for size, expected in sizes if expected is not None):
                rest = ", ".join("any" if size is None else str(size) for size in part.shape[2:])
                raise InputError(
                    f"{what}: has shape {shape}; expected ({self.batch}, timesteps{', ' + rest if rest else ''}) or, for "
                    f"one timestep, ({self.batch},{' ' + rest if rest else ''})"
                )
            limit = self._plan.id_limits[number]
            if limit is not None:
                check_ids(array, limit, f"{what}: the token id")
            arrays.append(array)
        if len(timed) > 1 or len({array.shape[1] for array in arrays}) > 1:
            raise InputError("the inputs differ in their number of timesteps")
        return arrays, timed.pop()

    def _by_input(self, x):
        inputs = self.model.graph.inputs
        if len(inputs) == 1 and not isinstance(x, dict):
            # A list may be one sequence of numbers, or the list of inputs that Keras takes as well.
            single = isinstance(x, (list, tuple)) and len(x) == 1 and np.ndim(x[0]) >= len(inputs[0].shape)
            return [x[0] if single else x]
        return self.model._by_input(x)


def _restore(model, batch, state):
    stream = Stream(model, batch)
    stream.state = state
    return stream


def _stand_ins(runner):
    """All stand-ins that remember something, in the order of the nodes."""
    for layer in [step.layer for step in runner.steps] if hasattr(runner, "steps") else runner.inner:
        layer = getattr(layer, "layer", layer) if isinstance(layer, core.Embedding) else layer
        if isinstance(layer, (StreamRecurrent, StreamConvolution)):
            yield layer
        elif isinstance(layer, Functional):
            yield from _stand_ins(layer)


# ---- one timestep without detours -----------------------------------------------------------------------------------


def _fast_chain(plan, batch):
    """A FastChain for a model that is a chain of recurrent and Dense layers without masks on the engine, else None."""
    from . import engine

    runner, graph = plan.runner, plan.network.graph
    if len(graph.inputs) != 1 or len(graph.outputs) != 1 or graph.output_structure.startswith("dict:"):
        return None
    number, parts = 0, []
    for step in runner.steps:
        if step.refs is None or len(step.refs) != 1 or step.refs[0].node != number or step.refs[0].tensor:
            return None
        number, layer = step.number, step.layer
        first = layer.layer if isinstance(layer, engine.VectorEmbedded) else layer
        if isinstance(first, StreamRecurrent):
            good = not first.masked and isinstance(first.runner, engine.VectorLSTM) and not first.runner.return_state
            if isinstance(layer, engine.VectorEmbedded):
                good = good and not layer.mask_zero and not parts
            if not good:
                return None
            parts.append(first)
        elif isinstance(layer, engine.VectorDense) and parts and layer.row_activation is not None:
            parts.append(layer)
        else:
            return None
    ends = [ref for ref in runner.results if (ref.node, ref.tensor) == (number, 0)]
    floats = graph.inputs[0].dtype.startswith(("float", "bfloat"))
    reads_ids = parts and parts[0].runner.input_dtype == np.int32
    return FastChain(parts, batch) if parts and len(ends) == 1 and (floats or reads_ids) else None


class FastChain:
    """One timestep through a chain of layers, each with its states and buffers prepared."""

    def __init__(self, parts, batch):
        from . import _kernels

        self.steps, self.calls = {}, []
        for part in parts:
            if isinstance(part, StreamRecurrent):
                layer = part.runner
                ids = layer.input_dtype == np.int32
                x = np.zeros((batch, 1) if ids else (batch, 1, layer.packed.features), layer.input_dtype)
                step = _kernels.StreamStep(layer.job(0, None), x, layer.return_sequences)
                self.steps[part] = step
                self.calls.append(step.push)
            else:
                self.calls.append(_dense(part))
        if len(self.calls) == 1:
            self.push = self.calls[0]

    def push(self, x):
        for call in self.calls:
            x = call(x)
            if x is None:
                return None
        return x

    def states(self):
        """What the stand-ins remember: h is also what was emitted last."""
        pairs = ((part, step.states()) for part, step in self.steps.items())
        return {part: (*final, final[0]) for part, final in pairs}

    def set_states(self, states):
        for part, step in self.steps.items():
            kept = states.get(part)
            step.set_states(None if kept is None else kept[:-1])


def _dense(layer):
    product, columns, activation = layer.packed.product, layer.packed.columns, layer.row_activation

    def call(x):
        y = np.empty((*x.shape[:-1], columns), np.float32)
        if x.ndim == 2:
            product(x, y, activation)
        else:
            product(x.reshape(-1, x.shape[-1]), y.reshape(-1, columns), activation)
        return y

    return call
