"""What the answer of a model may depend on beside its rows and kept timesteps: other rows, and masked padding.

Walks the graph once, at compilation, with the layers of the specification. Imports nothing of the engine.
"""

from .graph import flatten_refs
from .layers import Functional, core, merging, normalization, recurrent, reshaping
from .layers import activation as activations
from .layers.functional import TimeDistributed
from .layers.operation import Operation

# ---- rows of a batch ------------------------------------------------------------------------------------------------


def rows_are_independent(network):
    """Whether no node looks across the rows of a batch."""
    for node, specs in zip(network.graph.nodes, network.node_specs):
        layer = network.inner[node.layer]
        while isinstance(layer, TimeDistributed):
            layer = layer.inner[0]
        if isinstance(layer, Functional):
            if not rows_are_independent(layer):
                return False
        elif isinstance(layer, merging.Attention):
            # Inputs of two axes attend across the batch.
            if len(specs[0].shape) < 3:
                return False
        elif not layer.apart:
            return False
    return True


# ---- masked padding -------------------------------------------------------------------------------------------------

# Operations that make a mask of the padded input, or another of a mask.
_MASKS = ("NotEqual", "Equal", "Any", "ConvertToTensor", "Cast")
# What a tensor is: FREE does not depend on padding; ALIGNED has a time axis and a mask over it, and at kept timesteps
# does not depend on padding; MASK is such a mask itself; INPUT is the padded input; None is anything else.
FREE, ALIGNED, MASK, INPUT = "free", "aligned", "mask", "input"

_ROWWISE = (
    *(core.Dense, core.Identity, activations.ReLU, activations.LeakyReLU, activations.ELU),
    *(activations.ThresholdedReLU, activations.Activation),
)


def verdict(network, runner=None):
    """Whether the answer depends on the amount of masked padding, in a sentence for `summary()`.

    `runner` is the engine's network, or None if the specification runs.
    """
    walk = _Walk()
    kinds = walk.results(network, [(INPUT, k) for k in range(len(network.graph.inputs))])
    if not walk.uses_mask:
        return "no masks: every timestep counts"
    if any(kind != FREE for kind, _ in kinds):
        return f"the answer depends on the amount of padding ({walk.reason or 'a sequence is returned'})"
    if runner is None or "numpy" in _labels(runner):
        return "the answer does not depend on the amount of masked padding, up to rounding"
    return "the answer does not depend on the amount of masked padding, to the bit"


def _labels(runner):
    yield from runner.labels.values()
    for layer in runner.inner:
        if hasattr(layer, "labels"):
            yield from _labels(layer)


class _Walk:
    """Follows (kind, origin) of every tensor; origin is the input whose padding a mask is about."""

    def __init__(self):
        self.uses_mask, self.reason = False, None

    def results(self, network, inputs):
        values = [[given] for given in inputs]
        for node, specs in zip(network.graph.nodes, network.node_specs):
            layer = network.inner[node.layer]
            refs = flatten_refs((node.args, {k: v for k, v in node.kwargs.items() if k != "mask"}))
            given = [values[ref.node][ref.tensor] for ref in refs]
            masks = [values[ref.node][ref.tensor] for ref in flatten_refs(node.kwargs.get("mask"))]
            states = bool(flatten_refs(node.kwargs.get("initial_state"))) or len(refs) > 1
            if isinstance(layer, Functional):
                outputs = self.results(layer, given) if not masks else [(None, None)] * len(specs)
            else:
                outputs = [self.kind(layer, given, masks, states, specs)] * len(specs)
                if isinstance(layer, (recurrent.Recurrent, recurrent.Bidirectional)):
                    outputs = self.recurrent(layer, given, masks, states, len(specs))
            if any(kind is None for kind, _ in outputs) and all(kind is not None for kind, _ in given):
                self.reason = self.reason or f"layer {layer.name!r} ({layer.class_name})"
            values.append(outputs)
        return [values[ref.node][ref.tensor] for ref in network.graph.outputs]

    def kind(self, layer, given, masks, states, specs):
        kinds = {kind for kind, _ in given}
        origins = {origin for kind, origin in given if kind != FREE}
        if kinds == {FREE} and not masks:
            return FREE, None
        origin = origins.pop() if len(origins) == 1 else None
        if origin is None or None in kinds or any(mask != (MASK, origin) for mask in masks):
            return None, None
        if (isinstance(layer, core.Embedding) and layer.mask_zero) or isinstance(layer, core.Masking):
            self.uses_mask = True
            return (ALIGNED, origin) if kinds == {INPUT} else (None, None)
        if isinstance(layer, Operation) and type(layer).__name__ in _MASKS:
            return (MASK, origin) if kinds <= {INPUT, MASK} else (None, None)
        if isinstance(layer, core.Embedding):
            return INPUT, origin
        if layer.class_name == "TextVectorization":
            # Its rows are padded with 0 as those of an input of token ids are.
            return (INPUT, origin) if layer.output_mode == "int" and kinds == {INPUT} else (None, None)
        if masks:
            self.uses_mask = True
        if isinstance(layer, _ROWWISE) or self.is_last_axis(layer, specs):
            return (next(iter(kinds)), origin) if len(kinds) == 1 else (None, None)
        if kinds != {ALIGNED}:
            return None, None
        if isinstance(layer, reshaping.GlobalAveragePooling1D) and specs and layer.time_axis == 1:
            return FREE, None
        if isinstance(layer, merging.Merge) and not isinstance(layer, merging.Concatenate):
            return (ALIGNED, origin) if specs[0].masked or masks else (None, None)
        if isinstance(layer, merging.Concatenate) and layer.axis in (-1, len(specs[0].shape) - 1):
            return (ALIGNED, origin) if specs[0].masked or masks else (None, None)
        if isinstance(layer, merging.Attention) and not layer.config.get("causal") and not masks:
            return (ALIGNED, origin) if specs[0].masked and len(specs) == 1 else (None, None)
        if layer.class_name in ("MultiHeadAttention", "GroupQueryAttention"):
            plain = len(specs) == 1 and specs[0].masked and len(specs[0].shape) == 3 and not layer.sliding_window
            return (ALIGNED, origin) if plain else (None, None)
        if isinstance(layer, TimeDistributed) and isinstance(layer.inner[0], _ROWWISE):
            return ALIGNED, origin
        return None, None

    def is_last_axis(self, layer, specs):
        if not isinstance(layer, (normalization.BatchNormalization, normalization.LayerNormalization)):
            return False
        return [axis % len(specs[0].shape) for axis in layer.axis] == [len(specs[0].shape) - 1]

    def recurrent(self, layer, given, masks, states, count):
        kind, origin = given[0]
        if kind == FREE and not masks and all(other == (FREE, None) for other in given):
            return [(FREE, None)] * count
        parts = layer.inner if isinstance(layer, recurrent.Bidirectional) else (layer,)
        both = isinstance(layer, recurrent.Bidirectional)
        masked = kind == ALIGNED if not masks else masks == [(MASK, origin)] and kind in (ALIGNED, INPUT)
        if masks:
            self.uses_mask = True
        if not masked or states or any(part.time_major or part.zeroes_late for part in parts):
            return [(None, None)] * count
        sequences = parts[0].return_sequences
        if not sequences and any(part.masked_output == "zero" for part in parts):
            return [(None, None)] + [(FREE, None)] * (count - 1)
        if sequences and not both and layer.go_backwards:
            # The outputs are reversed, the mask that goes with them is not.
            return [(None, None)] + [(FREE, None)] * (count - 1)
        if sequences and both and parts[0].go_backwards:
            return [(None, None)] * count
        if not sequences:
            return [(FREE, None)] * count
        outputs = 2 if both and layer.merge_mode is None else 1
        return [(ALIGNED, origin)] * outputs + [(FREE, None)] * (count - outputs)
