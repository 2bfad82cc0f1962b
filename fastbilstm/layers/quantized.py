"""Dense, Embedding and ReversibleEmbedding with int8 or int4 weights, as Keras 3's `model.quantize` makes them.

No file names these classes: the reader chooses them by the dtype policy (keras/precision.py). EinsumDense is in
quantized_einsum.py. The specification, in NumPy.

Weights are whole numbers q and stand for q / scale, a scale for each unit or token; or, in groups of `block_size`
along the axis that is summed over, for (q - zero) * scale, a scale and a zero point for each group and unit.
"""

import numpy as np

from .base import REGISTRY, BaseLayer, Option, activation, boolean, integer, real
from .core import Dense, Embedding, ReversibleEmbedding

PREFIXES = ("int8.", "int4.")
LEVELS = {
    "quantized_low": Option(integer(-128)),
    "quantized_high": Option(integer(1)),
    "quantized_epsilon": Option(real),
}


def block_size(value):
    if integer(-1)(value) == 0:
        raise ValueError("expected -1 (no groups) or the size of a group")
    return int(value)


BLOCK_SIZE = {"block_size": Option(block_size, -1)}


def plain_class(class_name):
    """Keras' name of a class: that of a class here without its prefix."""
    return class_name.rpartition(".")[2] if class_name.startswith(PREFIXES) else class_name


# ---- numbers --------------------------------------------------------------------------------------------------------


def quantize_rows(x, low, high, epsilon, axis=-1):
    """x -> whole numbers of its shape in low..high, and the scale of each row, its size along `axis` being 1.

    scale = high / (max|x| along axis + epsilon); x * scale is rounded to the nearest, halves to even.
    """
    high, epsilon = x.dtype.type(high), x.dtype.type(epsilon)
    scale = high / (np.abs(x).max(axis=axis, keepdims=True) + epsilon)
    return np.clip(np.rint(x * scale), low, high), scale


def int8_dense(x, kernel, kernel_scale, bias, activation, levels):
    """x (..., F), kernel (F, U) of whole numbers, kernel_scale (U,) -> activation(q(x).K / (s_K * s_x) + b) (..., U).

    The product of whole numbers is exact: float64 holds them up to 2**53, and Keras sums in int32.
    """
    whole, scale = quantize_rows(x, *levels)
    product = (whole.astype(np.float64) @ kernel.astype(np.float64)).astype(x.dtype)
    y = product / (kernel_scale * scale)
    return activation(y if bias is None else y + bias)


def unpack(packed, size, axis=-1):
    """Bytes that hold two whole numbers of -8..7 each -> these numbers, `size` along the axis, as int8.

    The first is in the lower four bits.
    """
    packed = np.moveaxis(packed.astype(np.int8), axis, -1)
    halves = np.stack([packed, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)[..., :size]
    return np.moveaxis((halves & 15 ^ 8) - 8, -1, axis).astype(np.int8)


def dequantize(whole, scale, zero=None, groups=None):
    """whole (F, U) -> the floats that it stands for (F, U).

    scale (U,); or scale and zero (G, U), groups (F,): the group of each row.
    """
    if zero is None:
        return whole / scale
    return (whole - zero[groups]) * scale[groups]


# ---- what the layers share ------------------------------------------------------------------------------------------


def packed_size(size):
    return None if size is None else (size + 1) // 2


def group_shapes(layer, role, size, units, transposed=False):
    """{role: shape} of the scales and zero points of an int4 matrix that sums over `size`."""
    if layer.block_size == -1:
        return {f"{role}_scale": (units,)}
    shape = (None if size is None else -(-size // layer.block_size), units)
    return dict.fromkeys((f"{role}_scale", f"{role}_zero"), shape[::-1] if transposed else shape)


def check_numbers(layer, tensors):
    """Raise FileFormatError if a scale is no positive number, or an index of groups names none."""
    for role, name in layer.weight_names.items():
        values = tensors[name]
        if role.endswith("_scale") and not (np.isfinite(values).all() and (values > 0).all()):
            layer.fail(f"its {role} holds a value that is no positive number")
        if role == "g_idx":
            count = -(-len(values) // layer.block_size)
            if not ((values >= 0) & (values < count)).all():
                layer.fail(f"its g_idx holds a value outside 0 to {count - 1}, the groups of its weights")


class FloatWeights:
    """Beside a class of plain weights: what is on disk as whole numbers is taken as floats."""

    def bind(self, tensors, dtype):
        check_numbers(self, tensors)
        super().bind(tensors, dtype)
        given, self.weights = self.weights, {}
        for role, values in given.items():
            if f"{role}_scale" in given:
                found = [given.get(f"{role}_{part}") for part in ("scale", "zero")]
                groups = given["g_idx"].astype(np.intp) if found[1] is not None else None
                self.weights[role] = self.floats(role, values, *found, groups)
            elif role == "bias":
                self.weights[role] = values

    def floats(self, role, values, scale, zero, groups):
        """The floats of one role."""
        return dequantize(values, scale, zero, groups)


class QuantizedInputs:
    """Beside a class that multiplies: each call rounds its input to whole numbers, too."""

    @property
    def levels(self):
        return self.quantized_low, self.quantized_high, self.quantized_epsilon


# ---- Dense ----------------------------------------------------------------------------------------------------------


class Int8Dense(QuantizedInputs, BaseLayer):
    """Dense with int8 kernel. Each call quantizes the input, too, row by row."""

    options = {
        "units": Option(integer(1)),
        "activation": Option(activation, None),
        "use_bias": Option(boolean, True),
        **LEVELS,
    }
    ignored = Dense.ignored

    def weight_shapes(self, shapes):
        return {**Dense.weight_shapes(self, shapes), "kernel_scale": (self.units,)}

    output_shape = Dense.output_shape

    def bind(self, tensors, dtype):
        check_numbers(self, tensors)
        super().bind(tensors, dtype)

    def compute(self, x, mask):
        weights = {"bias": None, **self.weights}
        return int8_dense(x, **weights, activation=self.activation_function(), levels=self.levels)


class Int8WeightsDense(FloatWeights, Dense):
    """Dense with int8 kernel; the input is not quantized (activation_quantizer=None)."""

    def weight_shapes(self, shapes):
        return {**super().weight_shapes(shapes), "kernel_scale": (self.units,)}


class Int4Dense(Int8Dense):
    """Dense with int4 kernel, a scale for each unit. Each call quantizes the input to int8."""

    options = {**Int8Dense.options, **BLOCK_SIZE}

    def weight_shapes(self, shapes):
        roles = super().weight_shapes(shapes)
        return {**roles, "kernel": (roles["kernel"][0], packed_size(self.units))}

    def bind(self, tensors, dtype):
        super().bind(tensors, dtype)
        self.weights["kernel"] = unpack(self.weights["kernel"], self.units).astype(dtype)


class Int4WeightsDense(FloatWeights, Dense):
    """Dense with int4 kernel; the input is not quantized."""

    options = {**Dense.options, **BLOCK_SIZE}

    def weight_shapes(self, shapes):
        roles = super().weight_shapes(shapes)
        size = roles["kernel"][0]
        roles = {**roles, "kernel": (size, packed_size(self.units)), **group_shapes(self, "kernel", size, self.units)}
        return roles if self.block_size == -1 else {**roles, "g_idx": (size,)}

    def floats(self, role, values, *parts):
        return super().floats(role, unpack(values, self.units), *parts)


# ---- Embedding ------------------------------------------------------------------------------------------------------


class Int8Embedding(FloatWeights, Embedding):
    """Embedding with an int8 table and a scale for each token."""

    def weight_shapes(self, shapes):
        return {"embeddings": (self.input_dim, self.output_dim), "embeddings_scale": (self.input_dim,)}

    def floats(self, role, values, *parts):
        """The table is a kernel that lies the other way round: it sums over the numbers of a token."""
        if role != "embeddings":
            return super().floats(role, values, *parts)
        parts = (None if part is None else part.T for part in parts)
        return np.ascontiguousarray(super().floats(role, values.T, *parts).T)


class Int4Embedding(Int8Embedding):
    """Embedding with an int4 table."""

    options = {**Embedding.options, **BLOCK_SIZE}

    def weight_shapes(self, shapes):
        roles = {
            "embeddings": (self.input_dim, packed_size(self.output_dim)),
            **group_shapes(self, "embeddings", self.output_dim, self.input_dim, transposed=True),
        }
        return roles if self.block_size == -1 else {**roles, "g_idx": (self.output_dim,)}

    def floats(self, role, values, *parts):
        return super().floats(role, unpack(values, self.output_dim, axis=-1 if role == "embeddings" else 0), *parts)


# ---- ReversibleEmbedding --------------------------------------------------------------------------------------------


class Int8WeightsReversibleEmbedding(Int8Embedding, ReversibleEmbedding):
    """ReversibleEmbedding with int8 tables; what it is given in reverse is not quantized."""

    def weight_shapes(self, shapes):
        roles = super().weight_shapes(shapes)
        if self.tie_weights:
            return roles
        shape = self.output_dim, self.input_dim
        return {**roles, "reverse_embeddings": shape, "reverse_embeddings_scale": shape[1:]}


class Int4WeightsReversibleEmbedding(Int4Embedding, ReversibleEmbedding):
    """ReversibleEmbedding with int4 tables; what it is given in reverse is not quantized."""

    options = {**ReversibleEmbedding.options, **BLOCK_SIZE}

    def weight_shapes(self, shapes):
        roles = super().weight_shapes(shapes)
        if self.tie_weights:
            return roles
        groups = group_shapes(self, "reverse_embeddings", self.output_dim, self.input_dim)
        return {**roles, "reverse_embeddings": (packed_size(self.output_dim), self.input_dim), **groups}


class _QuantizedReverse(QuantizedInputs):
    """In reverse each call quantizes the input to int8, row by row."""

    def project(self, x):
        whole, scale = quantize_rows(x, *self.levels)
        return super().project(whole) / scale


class Int8ReversibleEmbedding(_QuantizedReverse, Int8WeightsReversibleEmbedding):
    options = {**Int8WeightsReversibleEmbedding.options, **LEVELS}


class Int4ReversibleEmbedding(_QuantizedReverse, Int4WeightsReversibleEmbedding):
    options = {**Int4WeightsReversibleEmbedding.options, **LEVELS}


REGISTRY.update(
    {
        "int8.Dense": Int8Dense,
        "int8.weights.Dense": Int8WeightsDense,
        "int8.Embedding": Int8Embedding,
        "int8.ReversibleEmbedding": Int8ReversibleEmbedding,
        "int8.weights.ReversibleEmbedding": Int8WeightsReversibleEmbedding,
        "int4.Dense": Int4Dense,
        "int4.weights.Dense": Int4WeightsDense,
        "int4.Embedding": Int4Embedding,
        "int4.ReversibleEmbedding": Int4ReversibleEmbedding,
        "int4.weights.ReversibleEmbedding": Int4WeightsReversibleEmbedding,
    }
)
