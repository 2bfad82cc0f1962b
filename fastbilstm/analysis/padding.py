"""Does the output for a row depend on the other rows of the batch, or on the amount of masked padding?

Walks the graph with the layers of the specification: once at compilation, and again for a call in which only some
inputs have rows of different lengths. Imports nothing of the engine.
"""

import numpy as np

from ..errors import UnsupportedLayerError
from ..graph import Constant, flatten_refs
from ..layers import Functional, Tensor, core, merging, normalization, recurrent, reshaping
from ..layers import activation as activations
from ..layers.functional import TimeDistributed, Wrapper
from ..layers.operation import Operation
from ..record import Record

# ---- rows of a batch ------------------------------------------------------------------------------------------------


def rows_are_independent(network):
    """Whether no node looks across the rows of a batch."""
    for node, specs in zip(network.graph.nodes, network.node_specs):
        layer = network.inner[node.layer]
        while isinstance(layer, Wrapper):
            layer = layer.inner[0]
        if isinstance(layer, Functional):
            if not rows_are_independent(layer):
                return False
        elif isinstance(layer, merging.Attention):
            # With inputs of two axes, the rows of the batch attend to each other.
            if len(specs[0].shape) < 3:
                return False
        elif not layer.rows_independent:
            return False
    return True


def outputs_without_rows(network):
    """(number of the output, its layer) of each output of a model whose first axis is not the batch."""
    graph, found = network.graph, []
    for number, ref in enumerate(graph.outputs):
        if ref.node < len(graph.inputs):
            continue
        layer = network.inner[graph.nodes[ref.node - len(graph.inputs)].layer]
        if isinstance(layer, Functional):
            found += [(number, part) for output, part in outputs_without_rows(layer) if output == ref.tensor]
        elif ref.tensor in layer.outputs_without_rows:
            found.append((number, layer))
    return found


def check_outputs(network):
    """Refuse a model with an output that has no rows: Keras repeats it for each batch."""
    problems = [
        f"layer {layer.name!r} ({layer.class_name}): output {number} of the model is one of its weights, which has no "
        f"rows; outputs=[{layer.name!r}] keeps its first output alone"
        for number, layer in outputs_without_rows(network)
    ]
    if problems:
        raise UnsupportedLayerError(problems)


# ---- masked padding -------------------------------------------------------------------------------------------------

# Operations that make a mask from the padded input, or from another mask.
_MASKS = ("NotEqual", "Equal", "Any", "ConvertToTensor", "Cast")
# The kinds of tensors:
# FREE     does not depend on padding
# ALIGNED  has a time axis and a mask over it; at kept timesteps it does not depend on padding
# BARE     as ALIGNED, but a layer dropped the mask
# MASK     is such a mask itself
# RAW      is the padded input
# INPUT    is what layers made of the padded input, each timestep by itself
# None     is anything else
FREE, ALIGNED, BARE, MASK, RAW, INPUT = "free", "aligned", "bare", "mask", "raw", "input"

_MULTIHEAD = ("MultiHeadAttention", "GroupQueryAttention")
_ROWWISE = (
    *(core.Dense, core.Identity, activations.ReLU, activations.LeakyReLU, activations.ELU),
    *(activations.ThresholdedReLU, activations.Activation),
)


class Padding(Record):
    """How the output of a model depends on padding.

    Attributes
    ----------
    text : str
        A sentence for `summary()`: whether the output depends on the amount of masked padding.
    free : bool
        Whether it does not (for a sequence: at the row's own timesteps). Then rows need no padding at all.
    layer : str
        The layer because of which the output depends on padding, or "".
    values : tuple of float
        For each input, the number that padding must hold so that it is masked.
    outputs : tuple of (int or None)
        For each output, the input whose timesteps it has, or None.
    """

    text: str
    free: bool
    layer: str
    values: tuple
    outputs: tuple


def verdict(network, runner=None, ragged=None):
    """The Padding of a model.

    Parameters
    ----------
    network : Functional
    runner : Functional or None
        The engine's network; None if the specification itself runs.
    ragged : dict of int to int, optional
        The padded inputs. Each maps to the first input with the same padding. Default: all inputs, each with a padding
        of its own.
    """
    walk, count = _Walk(), len(network.graph.inputs)
    ragged = {k: k for k in range(count)} if ragged is None else ragged
    kinds = walk.results(network, [(RAW, ragged[k]) if k in ragged else (FREE, None) for k in range(count)])
    if not walk.uses_mask:
        text = "no masks: every timestep counts"
    elif any(kind != FREE for kind, _ in kinds):
        text = f"the answer depends on the amount of padding ({walk.reason or 'a sequence is returned'})"
    elif runner is None or "numpy" in _labels(runner):
        text = "the answer does not depend on the amount of masked padding, up to rounding"
    else:
        text = "the answer does not depend on the amount of masked padding, to the bit"
    layer = walk.reason
    if all(kind in (FREE, ALIGNED, BARE) for kind, _ in kinds):
        found = [*map(walk.unknown, ragged), *(walk.loose.get(k) for kind, k in kinds if kind != FREE)]
        # Two inputs: one may have masked timesteps (even nothing else) where the other has none.
        found += [walk.attends.get(first) for k, first in ragged.items() if k != first]
        layer = next(filter(None, found), None)
    elif layer is None:
        layer = "an output that is made step by step"
    if layer and not walk.uses_mask:
        layer += ", which no mask reaches,"
    values = tuple(next(iter(walk.pads.get(ragged.get(k), [0.0]))) for k in range(count))
    outputs = tuple(origin if kind in (ALIGNED, BARE) else None for kind, origin in kinds)
    return Padding(text, not layer, layer or "", values, outputs)


def _masked_value(layer):
    """The number that a Masking layer masks if a whole timestep holds it; None if no number is masked."""
    value = np.float32(layer.mask_value) if layer.version.is_keras3 else layer.mask_value
    value = float(layer.dtype.type(value))
    with np.errstate(all="ignore"):
        (masked,) = layer.call([Tensor(np.full((1, 1, 1), value, layer.dtype), None)], {}, {})
    return value if np.isfinite(value) and not masked.mask.any() else None


def _unequal_value(layer, node):
    """The number that NotEqual compares with; None if it does not compare with one number."""
    operands = layer.arguments(node.args, node.kwargs).values()
    operands = [value.array if isinstance(value, Constant) else value for value in operands]
    numbers = [value for value in operands if isinstance(value, (int, float, np.ndarray)) and np.size(value) == 1]
    return float(layer.dtype.type(np.ravel(numbers[0])[0])) if len(numbers) == 1 else None


def _labels(runner):
    yield from runner.labels.values()
    for layer in runner.inner:
        if hasattr(layer, "labels"):
            yield from _labels(layer)


class _Walk:
    """Finds (kind, origin) of every tensor. The origin is the input whose padding the mask marks."""

    def __init__(self):
        self.uses_mask, self.reason = False, None
        # By input: the values that its masks mask (None: not known), and the layer that decides them. `whole`: inputs
        # that are cast to integers.
        self.pads, self.makers, self.whole = {}, {}, set()
        # By input. `loose`: the layer whose output depends on padding at masked timesteps, but not at kept ones.
        # `attends`: the attention layer whose output does so if no timestep is kept.
        self.loose, self.attends = {}, {}

    def masks_value(self, layer, origin, value):
        self.pads.setdefault(origin, set()).add(value)
        self.makers.setdefault(origin, f"the mask of layer {layer.name!r} ({layer.class_name})")

    def unknown(self, origin):
        """Why no single padding value is masked by all masks of an input; None if there is one."""
        found = self.pads.get(origin, {0.0})
        (value,) = found if len(found) == 1 else (None,)
        known = value is not None and (origin not in self.whole or value == int(value))
        return None if known else self.makers[origin]

    def results(self, network, inputs):
        values = [[given] for given in inputs]
        for (_, origin), given in zip(inputs, network.graph.inputs):
            if given.dtype.startswith(("int", "uint", "bool")):
                self.whole.add(origin)
        for node, specs in zip(network.graph.nodes, network.node_specs):
            layer = network.inner[node.layer]
            refs = flatten_refs((node.args, {k: v for k, v in node.kwargs.items() if k != "mask"}))
            given = [values[ref.node][ref.tensor] for ref in refs]
            masks = [values[ref.node][ref.tensor] for ref in flatten_refs(node.kwargs.get("mask"))]
            states = bool(flatten_refs(node.kwargs.get("initial_state"))) or len(refs) > 1
            if given and all(kind == FREE for kind, _ in (*given, *masks)):
                outputs = [(FREE, None)] * len(specs)
            elif isinstance(layer, Functional):
                outputs = self.results(layer, given) if not masks else [(None, None)] * len(specs)
            else:
                outputs = [self.kind(layer, node, given, masks, specs)] * len(specs)
                if isinstance(layer, (recurrent.Recurrent, recurrent.Bidirectional)):
                    outputs = self.recurrent(layer, given, masks, states, len(specs))
                if masks and network.drops_given_masks and given[0][0] != ALIGNED:
                    # The layer uses the mask given in the call, and attaches none to its output.
                    outputs = [(None, None)] * len(specs)
            outputs = [
                (BARE if kind == ALIGNED and not spec.masked else kind, origin)
                for (kind, origin), spec in zip(outputs, specs)
            ]
            if any(kind is None for kind, _ in outputs) and all(kind is not None for kind, _ in given):
                self.reason = self.reason or f"layer {layer.name!r} ({layer.class_name})"
            values.append(outputs)
        return [values[ref.node][ref.tensor] for ref in network.graph.outputs]

    def kind(self, layer, node, given, masks, specs):
        kinds = {ALIGNED if kind == BARE and masks else kind for kind, _ in given}
        origins = {origin for kind, origin in given if kind != FREE}
        origin = origins.pop() if len(origins) == 1 else None
        if origin is None or None in kinds or any(mask != (MASK, origin) for mask in masks):
            return None, None
        reverse = isinstance(layer, core.ReversibleEmbedding) and node.kwargs.get("reverse")
        embeds = isinstance(layer, core.Embedding) and not reverse
        if (embeds and layer.mask_zero) or isinstance(layer, core.Masking):
            self.uses_mask = True
            if kinds == {RAW} and len(specs[0].shape) > 2:
                self.masks_value(layer, origin, _masked_value(layer) if isinstance(layer, core.Masking) else 0.0)
            else:
                self.masks_value(layer, origin, None)
            return (ALIGNED, origin) if kinds <= {RAW, INPUT} else (None, None)
        if isinstance(layer, Operation) and (name := type(layer).__name__) in _MASKS:
            if kinds == {RAW} and name != "Equal":
                self.masks_value(layer, origin, _unequal_value(layer, node) if name == "NotEqual" else 0.0)
            elif kinds != {MASK} or name in ("Equal", "NotEqual"):
                self.masks_value(layer, origin, None)
            return (MASK, origin) if kinds <= {RAW, INPUT, MASK} else (None, None)
        if isinstance(layer, Operation) and kinds == {MASK} and self.keeps_masks(layer, node, given, specs):
            return MASK, origin
        if isinstance(layer, Operation) and type(layer).__name__ == "ZerosLike" and kinds == {ALIGNED}:
            return MASK, origin
        if embeds:
            return INPUT, origin
        if layer.class_name == "TextVectorization":
            # It pads its rows with 0, like an input of token ids.
            return (INPUT, origin) if layer.output_mode == "int" and kinds <= {RAW, INPUT} else (None, None)
        if masks:
            self.uses_mask = True
        if reverse or isinstance(layer, _ROWWISE) or self.is_last_axis(layer, specs):
            if kinds == {RAW} and not isinstance(layer, core.Identity):
                return INPUT, origin
            return (next(iter(kinds)), origin) if len(kinds) == 1 else (None, None)
        if kinds == {BARE} and isinstance(layer, TimeDistributed) and isinstance(layer.inner[0], _ROWWISE):
            return BARE, origin
        if kinds != {ALIGNED}:
            return None, None
        if isinstance(layer, reshaping.GlobalAveragePooling1D) and specs and layer.time_axis == 1:
            return FREE, None
        if isinstance(layer, merging.Merge) and not isinstance(layer, merging.Concatenate):
            return (ALIGNED, origin) if specs[0].masked or masks else (None, None)
        if isinstance(layer, merging.Concatenate) and layer.axis in (-1, len(specs[0].shape) - 1):
            return (ALIGNED, origin) if specs[0].masked or masks else (None, None)
        if isinstance(layer, merging.Attention) or layer.class_name in _MULTIHEAD:
            self.attends.setdefault(origin, f"layer {layer.name!r} ({layer.class_name})")
        if isinstance(layer, merging.Attention) and not layer.config.get("causal") and not masks:
            return (ALIGNED, origin) if specs[0].masked and len(specs) == 1 else (None, None)
        if layer.class_name in _MULTIHEAD:
            plain = len(specs) == 1 and specs[0].masked and len(specs[0].shape) == 3 and not layer.sliding_window
            # A masked query attends equally to all timesteps.
            self.loose.setdefault(origin, self.attends[origin])
            return (ALIGNED, origin) if plain else (None, None)
        if isinstance(layer, TimeDistributed) and isinstance(layer.inner[0], _ROWWISE):
            return ALIGNED, origin
        return None, None

    def keeps_masks(self, layer, node, given, specs):
        """Whether an operation on masks that are False at padding gives such a mask, too.

        Keras writes the masks of merging layers as such operations.
        """
        name, rank = type(layer).__name__, len(specs[0].shape)
        named = layer.arguments(node.args, node.kwargs)
        if name in ("LogicalOr", "LogicalAnd"):
            return len(given) == 2
        joined = len(given) == (len(named["xs"]) if name == "Concatenate" else 1)
        return name in ("ExpandDims", "Concatenate") and joined and named.get("axis") in (-1, rank - 1) and rank > 2

    def is_last_axis(self, layer, specs):
        if not isinstance(layer, (normalization.BatchNormalization, normalization.LayerNormalization)):
            return False
        return [axis % len(specs[0].shape) for axis in layer.axis] == [len(specs[0].shape) - 1]

    def recurrent(self, layer, given, masks, states, count):
        kind, origin = given[0]
        parts = layer.inner if isinstance(layer, recurrent.Bidirectional) else (layer,)
        both = isinstance(layer, recurrent.Bidirectional)
        masked = kind == ALIGNED if not masks else masks == [(MASK, origin)] and kind in (ALIGNED, BARE, RAW, INPUT)
        if masks:
            self.uses_mask = True
        if not masked or states or any(part.time_major or part.zeroes_late for part in parts):
            return [(None, None)] * count
        sequences = parts[0].return_sequences
        if not sequences and any(part.masked_output == "zero" for part in parts):
            return [(None, None)] + [(FREE, None)] * (count - 1)
        if sequences and not both and layer.go_backwards:
            # Keras reverses the outputs but not their mask.
            return [(None, None)] + [(FREE, None)] * (count - 1)
        if sequences and both and parts[0].go_backwards:
            return [(None, None)] * count
        if not sequences:
            return [(FREE, None)] * count
        outputs = 2 if both and layer.merge_mode is None else 1
        return [(ALIGNED, origin)] * outputs + [(FREE, None)] * (count - outputs)
