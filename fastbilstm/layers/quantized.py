"""Dense and Embedding with int8 weights, as Keras 3's `model.quantize("int8")` makes them.

No file names these classes: the reader chooses them by the dtype policy (keras/precision.py). The specification, in
NumPy.
"""

import numpy as np

from .base import REGISTRY, BaseLayer, Option, activation, boolean, integer, real
from .core import Dense, Embedding

PREFIX = "int8."


def quantize_rows(x, low, high, epsilon):
    """x (..., F) -> whole numbers (..., F) in low..high, and the scale of each row (..., 1).

    scale = high / (max|x| + epsilon); x * scale is rounded to the nearest, halves to even.
    """
    high, epsilon = x.dtype.type(high), x.dtype.type(epsilon)
    scale = high / (np.abs(x).max(axis=-1, keepdims=True) + epsilon)
    return np.clip(np.rint(x * scale), low, high), scale


def int8_dense(x, kernel, kernel_scale, bias, activation, levels):
    """x (..., F), kernel (F, U) of whole numbers, kernel_scale (U,) -> activation(q(x).K / (s_K * s_x) + b) (..., U).

    The product of whole numbers is exact: float64 holds them up to 2**53, and Keras sums in int32.
    """
    whole, scale = quantize_rows(x, *levels)
    product = (whole.astype(np.float64) @ kernel.astype(np.float64)).astype(x.dtype)
    y = product / (kernel_scale * scale)
    return activation(y if bias is None else y + bias)


def _scales_fit(layer, tensors, role):
    scale = tensors[layer.weight_names[role]]
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        layer.fail(f"its {role} holds a value that is no positive number")


class Int8Dense(BaseLayer):
    """Dense with int8 kernel. Each call quantizes the input, too, row by row."""

    options = {
        "units": Option(integer(1)),
        "activation": Option(activation, None),
        "use_bias": Option(boolean, True),
        "quantized_low": Option(integer(-128)),
        "quantized_high": Option(integer(1)),
        "quantized_epsilon": Option(real),
    }
    ignored = Dense.ignored

    def weight_shapes(self, shapes):
        roles = {"kernel": (shapes[0][-1] if shapes else None, self.units)}
        if self.use_bias:
            roles["bias"] = (self.units,)
        return {**roles, "kernel_scale": (self.units,)}

    output_shape = Dense.output_shape

    def bind(self, tensors, dtype):
        _scales_fit(self, tensors, "kernel_scale")
        super().bind(tensors, dtype)

    def compute(self, x, mask):
        levels = self.quantized_low, self.quantized_high, self.quantized_epsilon
        weights = {"bias": None, **self.weights}
        return int8_dense(x, **weights, activation=self.activation_function(), levels=levels)


class Int8WeightsDense(Dense):
    """Dense with int8 kernel; the input is not quantized (activation_quantizer=None). The kernel is K / s_K."""

    def weight_shapes(self, shapes):
        return {**super().weight_shapes(shapes), "kernel_scale": (self.units,)}

    def bind(self, tensors, dtype):
        _scales_fit(self, tensors, "kernel_scale")
        super().bind(tensors, dtype)
        self.weights["kernel"] = self.weights["kernel"] / self.weights.pop("kernel_scale")


class Int8Embedding(Embedding):
    """Embedding with an int8 table and a scale for each row: the table is E / s_E."""

    def weight_shapes(self, shapes):
        return {**super().weight_shapes(shapes), "embeddings_scale": (self.input_dim,)}

    def bind(self, tensors, dtype):
        _scales_fit(self, tensors, "embeddings_scale")
        super().bind(tensors, dtype)
        self.weights["embeddings"] = self.weights["embeddings"] / self.weights.pop("embeddings_scale")[:, np.newaxis]


REGISTRY[f"{PREFIX}Dense"] = Int8Dense
REGISTRY[f"{PREFIX}weights.Dense"] = Int8WeightsDense
REGISTRY[f"{PREFIX}Embedding"] = Int8Embedding
