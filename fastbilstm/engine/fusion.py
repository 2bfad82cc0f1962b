"""From a network of the specification to the steps of a `Network`: what is dropped, folded and fused.

Layers that do nothing at inference vanish, an Embedding goes into the recurrent layer after it, BatchNormalization and
linear Dense into the product beside them, the mean over queries through Attention. Knows nothing of files.
"""

import copy
from functools import partial

from ..activations import kernel_code
from ..graph import Ref, flatten_refs, map_refs
from ..layers import Functional, activation, core, normalization, recurrent, reshaping
from ..layers.functional import Operation, TimeDistributed, Wrapper
from . import distributed, folds_before, joined_features, vector_recurrent
from .calls import Call, Calls
from .folding import (
    DENSE,
    has_attention_kernel,
    has_kernels,
    is_linear,
    row_function,
    scale_and_offset,
    scaled,
)
from .kernels_by_class import family, kernels_of
from .network import Network, Step, side_by_side
from .vector_embedded import VectorEmbedded, VectorRepeated
from .vector_layers import VectorActivation, VectorAttention, VectorDense, compiled_activation

# Bytes for the states that a direction keeps: 2,048 timesteps of 64 units.
BEGINNINGS = 2**20


def fuse(functional, budget, weights="float32"):
    """The Network that gives what a Functional gives; `weights`: their form, see weight_forms.py."""
    return Builder(functional, budget, weights).build()


class Builder(Calls):
    """Turns the nodes of a Functional into the steps of a Network, in time that grows with their number."""

    def __init__(self, functional, budget, weights):
        super().__init__(functional, does_nothing)
        self.budget, self.weights, self.cache = budget, weights, {}

    def build(self):
        network, graph = self.network, self.network.graph
        n_dropped = len(self.alias)
        for call in list(self.calls.values()):
            if len(self.alias) > n_dropped:  # a node was folded that this call may read
                call.args, call.kwargs = map_refs(self.resolve, call.args), map_refs(self.resolve, call.kwargs)
            self.fold_after(call)
        self.results = [self.resolve(ref) for ref in graph.outputs]
        if any(isinstance(layer, TimeDistributed) for layer in network.inner):
            distributed.join(self, fuse)
        # From the last one on: what goes into a layer takes along what would go into it.
        for number in reversed(list(self.calls)):
            self.replace(number)
        self.drop_unread(self.results)
        for call in self.calls.values():
            if call.runner is None:
                call.runner, self.labels[call.index] = self.convert_operation(call) or self.convert(call.layer, call)
        self.keep_beginnings()
        return Network(network, self.schedule(), self.results, self.labels, self.into)

    def keep_beginnings(self):
        """Let directions of recurrent layers keep the states after padding, as far as tables leave room for them."""
        found = {id(part): part for call in self.calls.values() for part in getattr(call.runner, "directions", ())}
        for part in found.values():
            if self.budget.takes(BEGINNINGS):
                part.packed.keep_beginnings(BEGINNINGS)

    def fold_after(self, call):
        """BatchNormalization, or an activation, into the linear Dense or convolution before it."""
        before = self.producer(call) if call.plain else None
        if before is None or not before.plain or before.activation is not None or self.is_shared(before):
            return
        if not (type(before.layer) in DENSE or is_convolution(before.layer)) or not is_linear(before.layer):
            return
        if isinstance(call.layer, normalization.BatchNormalization):
            found = scale_and_offset(call.layer, self.rank(call))
            if found is None:
                return
            before.folds.append(scaled(*found))
        else:
            code = self.activation_code(call)
            if code is None:
                return
            before.activation = compiled_activation(code)
        self.merge(call, before, "folded")
        self.alias[Ref(call.number)] = Ref(before.number)
        self.remove(call)
        self.users[before.number] += self.users.pop(call.number, 0)

    def activation_code(self, call):
        """What the kernels call the activation of a call; None if they have none, or if it is no activation."""
        layer = call.layer
        masked = isinstance(layer, activation.Softmax) and (not call.plain or any(map(self.is_masked, call.refs)))
        function = None if masked else row_function(layer)
        return None if function is None else kernel_code(function)

    def replace(self, number):
        """Products and attention with what is fused into them; everything else is converted afterwards."""
        call = self.calls.get(number)
        layer = call.layer if call else None
        if isinstance(layer, (recurrent.Recurrent, recurrent.Bidirectional)) and has_kernels(layer):
            self.replace_recurrent(call)
        elif type(layer) in DENSE:
            fold = folds_before.fold(self, call)
            special = bool(fold or call.folds or call.activation)
            make = partial(VectorDense, layer, fold, call.folds, call.activation, self.weights)
            call.runner = self.cached(layer, make, special)
            self.labels[call.index] = self.label_of(call.runner)
        elif layer is not None and (family(layer) in ("convolution", "pooling") or is_whole_pooling(layer)):
            self.replace_windows(call)
        elif isinstance(layer, reshaping.GlobalAveragePooling1D) and call.plain and layer.time_axis == 1:
            before = self.producer_of_attention(call)
            if before is not None:
                self.change(call, before.args, before.kwargs)
                self.remove(before)
                call.runner = VectorAttention(before.layer, pooling=layer)
                self.labels[call.index] = "vector, mean over queries first"
                self.merge(before, call, "vector, mean over queries first")
        elif hasattr(layer, "sizes_of_heads") and call.plain and self.weights == "float32":
            self.replace_heads(call)
        elif has_attention_kernel(layer) and call.plain and self.rank(call) == 3:
            call.runner = VectorAttention(layer)
            self.labels[call.index] = "vector"

    def replace_heads(self, call):
        """Attention of an embedded sequence with itself: its projections go into tables."""
        embedding, make = self.embedding_read_by(call), kernels_of(call.layer)
        if embedding is None or make is None or len(set(call.refs)) > 1 or self.rank(call) != 3:
            return
        rows = embedding.layer.weights["embeddings"]
        (heads, groups), (depth, width) = call.layer.heads, call.layer.sizes_of_heads
        if self.budget.takes(len(rows) * 4 * (heads * depth + groups * (depth + width))):
            call.runner = make(call.layer, embeddings=rows)
            self.labels[call.index] = "vector"
            self.change(call, ([*call.refs, embedding.refs[0]],), call.kwargs)

    def replace_windows(self, call):
        """Convolutions, perhaps with the pooling after them."""
        from .vector_windows import VectorConv, pools_in_place  # saves time at start, where there is no such layer

        before = self.producer(call) if call.plain and pools_in_place(call.layer) else None
        conv, pooling = call, None
        if before is not None and before.plain and is_convolution(before.layer) and self.has_row_activation(before):
            conv, pooling = before, call.layer
        elif not is_convolution(call.layer):
            return
        embedding = self.embedding_before(conv)
        if pooling is not None:
            self.change(call, conv.args, conv.kwargs)
            self.remove(conv)
        rows = None if embedding is None else embedding.layer.weights["embeddings"]
        if embedding is None and pooling is None and not conv.folds and conv.activation is None:
            return
        call.runner = VectorConv(conv.layer, conv.folds, conv.activation, pooling, rows, self.weights)
        self.labels[call.index] = "vector" if pooling else self.label_of(call.runner)
        if pooling is not None:
            self.merge(conv, call, self.label_of(call.runner))
        if embedding is not None:
            width = conv.layer.kernel_size[0] * conv.layer.filters
            self.look_up(call, embedding, call.runner, self.budget.takes(len(rows) * 4 * width))

    def has_row_activation(self, call):
        return call.activation is not None or kernel_code(call.layer.activation_function()) is not None

    def embedding_before(self, call):
        """The call of the Embedding that a convolution may take in; None if there is none.

        Not of a causal one: a stream puts frames of zeros before the first timestep, and no token id stands for those.
        """
        layer = call.layer
        whole = len(layer.kernel_size) == 1 and layer.kernel_size[0] > 1 and layer.groups == 1
        return self.embedding_read_by(call) if call.plain and whole and layer.padding != "causal" else None

    def look_up(self, call, embedding, layer, project):
        """Let a layer do the lookup of the Embedding before it."""
        call.runner = VectorEmbedded(embedding.layer, layer, project)
        self.change(call, call.reading(embedding.refs[0]), call.kwargs)
        self.merge(embedding, call, "in a table of projections" if project else "rows read in place")

    def producer_of_attention(self, call):
        number = call.refs[0].node
        found = self.calls.get(number)
        if found is None or self.users[number] != 1 or not has_attention_kernel(found.layer) or not found.plain:
            return None
        if self.rank(found) != 3 or call.layer.keepdims:
            return None
        # Keras 3.0 to 3.3 lose the mask on the way to the pooling layer: there masked queries count.
        version = self.network.version
        if version.is_keras3 and version.version < (3, 4) and any(self.is_masked(ref) for ref in found.refs):
            return None
        return found

    def cached(self, layer, make, special=False):
        """One object for all calls of a layer: packed once, and a stateful one has one state."""
        if special:
            return make()
        if id(layer) not in self.cache:
            self.cache[id(layer)] = make()
        return self.cache[id(layer)]

    def replace_recurrent(self, call):
        layer, fold = call.layer, folds_before.fold(self, call)
        embedding, joined = self.embedding_read_by(call), joined_features.find(self, call)
        quirk = call.kwargs.get("mask") and self.network.drops_given_masks
        if embedding is not None and not quirk:
            rows = embedding.layer.weights["embeddings"]
            project = self.budget.takes(len(rows) * 4 * vector_recurrent.padded_width(layer))
            self.look_up(call, embedding, vector_recurrent.recurrent(layer, fold, rows, self.weights), project)
        elif joined is not None:
            joined_features.replace(self, call, *joined, fold)
        else:
            call.runner = self.cached(
                layer, lambda: vector_recurrent.recurrent(layer, fold, None, self.weights), fold is not None
            )
            repeat = self.repeat_before(call)
            if repeat is not None:
                call.runner = VectorRepeated(repeat.layer, call.runner)
                self.change(call, call.reading(repeat.refs[0]), call.kwargs)
                self.merge(repeat, call, "rows read in place")
        self.labels[call.index] = self.label_of(call.runner)

    def repeat_before(self, call):
        """The call of the RepeatVector that gives the first argument of a recurrent call; None if there is none."""
        found = self.calls.get(call.refs[0].node) if call.refs and not call.kwargs.get("mask") else None
        if found is None or not isinstance(found.layer, reshaping.RepeatVector) or not found.plain:
            return None
        return None if getattr(call.layer, "time_major", False) else found

    def convert_operation(self, call):
        """(what runs an op node on kernels, its label), or None; the call then has its tensors alone as arguments."""
        if not isinstance(call.layer, Operation):
            return None
        from .vector_operations import kernels_for  # saves time at start, where there is no op node

        named = call.layer.arguments(call.args, call.kwargs)
        made = kernels_for(call.layer, named, self.dtype_of)
        if made is None:
            return None
        refs = flatten_refs(named)
        call.args, call.kwargs = (refs if len(refs) > 1 else refs[0],), {}
        return made, "vector"

    def convert(self, layer, call=None):
        """(what runs a layer that nothing is fused with, its label)."""
        if isinstance(layer, Functional):
            network = fuse(layer, self.budget, self.weights)
            return network, worst(network.labels.values())
        if isinstance(layer, Wrapper):
            wrapper = copy.copy(layer)
            inner, label = self.convert(layer.inner[0])
            wrapper.inner, wrapper.has_kernels = (inner,), getattr(inner, "has_kernels", False)
            return wrapper, label
        if isinstance(layer, (recurrent.Recurrent, recurrent.Bidirectional)) and has_kernels(layer):
            made = self.cached(layer, lambda: vector_recurrent.recurrent(layer, weights=self.weights))
            return made, self.label_of(made)
        if type(layer) in DENSE:
            made = self.cached(layer, lambda: VectorDense(layer, weights=self.weights))
            return made, self.label_of(made)
        code = self.activation_code(call or Call(None, layer, None, (), {}))
        if code is not None:
            return VectorActivation(layer, compiled_activation(code)), "vector"
        make = kernels_of(layer, self.weights)
        if make is not None:
            made = self.cached(layer, lambda: make(layer))
            return made, self.label_of(made)
        return layer, "elementwise" if layer.exact else "numpy"

    def label_of(self, made):
        """What computes a layer, and the form of the weights that its products read, if it is not float32."""
        forms = {getattr(part, "form", "float32") for part in getattr(made, "directions", (made,))} - {"float32"}
        return ", ".join(["vector", *sorted(forms)])

    def only_mask(self, call):
        """The mask given in a call that has one tensor and nothing else; None if it is another call."""
        given = [name for name, value in call.kwargs.items() if value]
        fits = given == ["mask"] and isinstance(call.kwargs["mask"], Ref) and len(call.args) == len(call.refs) == 1
        special = self.network.drops_given_masks or isinstance(call.layer, Functional)
        return call.kwargs["mask"] if fits and not special else None

    def schedule(self):
        """The steps in order, with the values that each one is the last to read."""
        kept, steps = {ref.node for ref in self.results}, []
        for number, call in reversed(self.calls.items()):
            ended = tuple(call.reads - kept)
            kept |= call.reads
            mask = self.only_mask(call)
            plain = (call.plain or mask is not None) and not isinstance(call.runner, Operation)
            n_inputs = call.runner.n_inputs
            if plain and n_inputs is not None and len(call.refs) != n_inputs:
                plain = False
            refs = call.refs if plain else None
            steps.append(Step(number, call.runner, call.args, call.kwargs, refs, mask, ended))
        return side_by_side(steps[::-1])


def does_nothing(layer):
    return is_linear(layer) if isinstance(layer, activation.Activation) else isinstance(layer, core.Identity)


def is_whole_pooling(layer):
    return isinstance(layer, reshaping.GlobalMaxPooling1D)


def is_convolution(layer):
    """Whether it is a Conv1D, Conv2D or Conv3D whose channels come last."""
    kinds = [kind.__name__ for kind in type(layer).__mro__] if family(layer) == "convolution" else []
    return "Conv" in kinds and not layer.channels_first


def worst(labels):
    """The label of a model inside a model: numpy if any of its layers runs there."""
    return "numpy" if "numpy" in labels else "vector"
