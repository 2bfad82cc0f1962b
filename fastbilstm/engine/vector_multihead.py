"""MultiHeadAttention, GroupQueryAttention, AdditiveAttention and every Attention with a mask of its own, on kernels.

Each has the call and the result of the layer that it replaces. Imports NumPy and the compiled module `_kernels`.
"""

import numpy as np

from .. import _kernels
from ..activations import sigmoid
from ..layers import Tensor
from ..layers.activation import rules_of_masked_softmax
from ..layers.merging import AdditiveAttention, Attention
from ..layers.multihead import MultiHeadAttention
from .pending_table import PendingTable
from .vector_layers import adopt, contiguous, in_numpy, packed_matrix, worth_a_thread


def wide_mask(make, keys, reads):
    """The mask (..., Tq or 1, Tk or 1) that `make()` gives, as the kernel reads it: of three axes and all keys."""

    def wide():
        mask = make()
        mask = mask.astype(bool, copy=False).reshape((1,) * (3 - mask.ndim) + mask.shape)
        return np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:2], keys)))

    return in_numpy(wide, *reads)


def masks_of(inputs, kwargs=None):
    """The masks that a call is given: those of its tensors, and tensors among its options."""
    given = [tensor.value for tensor in (kwargs or {}).values() if isinstance(tensor, Tensor)]
    return [tensor.mask for tensor in inputs if tensor.mask is not None] + given


class VectorMultiHead(MultiHeadAttention):
    """Projections by packed products, then each head of each row by itself. Inputs of three axes.

    With `embeddings` (V, F) all inputs are what an Embedding gives, and its token ids follow them. Their projections
    are kept in tables once that pays (`PendingTable`): then a token is a row to copy, with the same bits.
    """

    def __init__(self, layer, weights="float32", embeddings=None):
        adopt(self, layer)
        self.layer, self.parts, self.tables = layer, {}, {}
        self.embeddings = embeddings
        if embeddings is not None:
            self.n_inputs, self.casts_input = None, False
        names = ("query", "key", "value", *(["gate"] if self.use_gate else []))
        for part in names:
            kernel, bias = self.weights[f"{part}/kernel"], self.weights.get(f"{part}/bias")
            bias = None if bias is None else bias.reshape(-1)
            (self.parts[part],) = packed_matrix(kernel.reshape(len(kernel), -1), bias, weights)
        kernel = self.weights["attention_output/kernel"]
        bias = self.weights.get("attention_output/bias")
        bias = None if bias is None else bias.reshape(-1)
        self.out_sizes, kernel = kernel.shape[2:], kernel.reshape(kernel.shape[0] * kernel.shape[1], -1)
        (self.parts["attention_output"],) = packed_matrix(kernel, bias, weights)
        forms = {part.form for part in self.parts.values()}
        self.form = "int8" if "int8" in forms else "float32"
        # Keras 3 may add some biases along another axis; see `misplaced`.
        biases = [array for role, array in self.weights.items() if role.endswith("/bias") and array.ndim > 1]
        vectors = [bias for bias in biases if sum(size > 1 for size in bias.shape) == 1]
        self.may_misplace = self.version.is_keras3 and bool(vectors)
        # Where no call fits, no table is ever made, and none is waited for.
        waits = embeddings is not None and self.fits_sequences()
        self.pending_table = PendingTable(len(embeddings)) if waits else None

    def fits_sequences(self):
        """Whether the kernel computes calls with tensors of three axes, as far as the layer says."""
        return not self.may_misplace and list(self.layer.axes(3)) == [1]

    def fits(self, inputs, kwargs):
        """Whether the kernel computes this call; else the specification does."""
        if any(tensor.value.ndim != 3 for tensor in inputs) or not self.fits_sequences():
            return False
        value, key = inputs[1].value, inputs[-1].value
        return 0 < value.shape[1] == key.shape[1]

    def call(self, inputs, kwargs, states):
        ids = None
        if self.embeddings is not None:
            *inputs, (ids, _) = inputs
        if not self.fits(inputs, kwargs):
            return self.layer.call(inputs, kwargs, states)
        if self.pending_table is not None:
            self.pending_table.read(ids.size, self.make_tables)
        x = contiguous(inputs[0].value)
        query, value, key = (
            self.projected(part, tensor.value, states, ids)
            for part, tensor in (("query", inputs[0]), ("value", inputs[1]), ("key", inputs[-1]))
        )
        (heads, groups), (depth, width) = self.layer.heads, self.layer.sizes_of_heads
        scale = np.float32(1 / np.sqrt(depth))
        mask, masked, zeroes = self.joined_mask(inputs, kwargs), None, False
        if mask is not None and mask.ndim > 3:  # given for each head
            return self.layer.call(inputs, kwargs, states)
        if mask is not None:
            if self.is_fused(3, kwargs):
                masked = float(np.finfo(np.float32).min / 2)
            else:
                robust = self.config.get("softmax_robust_masking")
                replaces, zeroes = rules_of_masked_softmax(self.version, robust)
                masked = -1e9 if replaces else None
        y = states.array(*x.shape[:2], heads * width)
        weights = None
        if kwargs.get("return_attention_scores"):
            weights = states.array(len(x), heads, x.shape[1], key.shape[1])
        steps = len(x) * x.shape[1] * key.shape[1]
        parallel = worth_a_thread(heads * (depth + width), steps)
        if mask is not None:
            mask = wide_mask(lambda: self.joined_mask(inputs, kwargs), key.shape[1], masks_of(inputs, kwargs))
        _kernels.attend_heads(
            query, key, value, heads, groups, mask, masked, zeroes, scale, y, states.scratch,
            weights=weights, n_threads=states.n_threads if parallel else 1,
        )  # fmt: skip
        if self.use_gate:
            gate, ungated = self.projected("gate", x, states), y
            y = in_numpy(lambda: ungated * sigmoid(gate), ungated, gate)
        out = self.projected("attention_output", y, states)
        out = out.reshape(*x.shape[:2], *self.out_sizes)
        outputs = [Tensor(out, inputs[0].mask if self.sees_masks else None)]
        return outputs if weights is None else [*outputs, Tensor(weights)]

    def projected(self, part, x, states, ids=None):
        matrix, table = self.parts[part], None if ids is None else self.tables.get(part)
        y = states.array(*x.shape[:2], matrix.columns)
        if table is not None:
            return _kernels.gather(table, contiguous(ids, ids.dtype), y)
        return matrix.product(contiguous(x), y)

    def make_tables(self):
        rows, parts = contiguous(self.embeddings), ("query", "key", "value")
        shapes = {part: (len(rows), self.parts[part].columns) for part in parts}
        self.tables = {part: self.parts[part].product(rows, np.empty(shapes[part], np.float32)) for part in parts}


class VectorScores(Attention):
    """Attention and AdditiveAttention over inputs of three axes, with any mask; one head."""

    def __init__(self, layer):
        adopt(self, layer)
        self.layer, self.additive, self.scale = layer, None, 1.0
        if isinstance(layer, AdditiveAttention):
            self.additive = self.weights["scale"] if self.use_scale else None
        elif self.score_mode == "concat":
            self.scale = float(self.weights["scale"]) if self.use_scale else 1.0
            self.additive = self.weights["concat_score_weight"]
        else:
            self.scale = float(self.weights["scale"]) if self.use_scale else 1.0
        self.is_additive = isinstance(layer, AdditiveAttention) or self.score_mode == "concat"
        self.packed = {}

    def score_matrix(self, depth):
        """The weights of the additive score as a matrix (D, 1); None for the dot product."""
        if self.is_additive and depth not in self.packed:
            column = np.ones(depth, np.float32) if self.additive is None else np.broadcast_to(self.additive, depth)
            self.packed[depth] = _kernels.Matrix(column.reshape(depth, 1))
        return self.packed.get(depth)

    def call(self, inputs, kwargs, states):
        if any(tensor.value.ndim != 3 for tensor in inputs) or inputs[1].value.shape[1] == 0:
            return self.layer.call(inputs, kwargs, states)
        query, value, key = (contiguous(tensor.value) for tensor in (inputs[0], inputs[1], inputs[-1]))
        query_mask, value_mask = inputs[0].mask, inputs[1].mask
        causal = self.config.get("causal") or kwargs.get("use_causal_mask")

        def joined():
            keep = np.ones((1, 1, 1), bool) if value_mask is None else value_mask[:, np.newaxis, :]
            return keep & np.tril(np.ones((query.shape[1], key.shape[1]), bool)) if causal else keep

        keep = None
        if causal or value_mask is not None:
            keep = wide_mask(joined, key.shape[1], masks_of(inputs[1:2]))
        y, weights = states.array(*query.shape[:2], value.shape[2]), None
        if kwargs.get("return_attention_scores"):
            weights = states.array(len(query), 1, query.shape[1], key.shape[1])
        depth = query.shape[2]
        parallel = worth_a_thread(depth + value.shape[2], len(query) * query.shape[1] * key.shape[1])
        _kernels.attend_heads(
            query, key, value, 1, 1, keep, None, False, self.scale, y, states.scratch,
            self.score_matrix(depth), weights, states.n_threads if parallel else 1,
        )  # fmt: skip
        if query_mask is not None:
            wide, whole, is_keras3 = query_mask[:, :, np.newaxis], y, self.version.is_keras3
            y = in_numpy(lambda: np.where(wide, whole, np.float32(0)) if is_keras3 else whole * wide, query_mask, whole)
        lost = self.version.is_keras3 and self.version.version < (3, 4)
        result = [Tensor(y, None if lost else query_mask)]
        return result if weights is None else [*result, Tensor(weights[:, 0])]
