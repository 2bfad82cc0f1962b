"""Activation layers, among them Softmax with a mask: the specification, in NumPy."""

import numpy as np

from .. import activations
from ..errors import InputError
from .base import BaseLayer, Option, activation, boolean, integers, optional, real, register, same_size


@register
class Activation(BaseLayer):
    options = {"activation": Option(activation)}

    def output_shape(self, shape):
        if self.activation == "glu":
            if shape[-1] is not None and shape[-1] % 2:
                self.fail(f"glu halves the last axis, which has size {shape[-1]}")
            return (*shape[:-1], None if shape[-1] is None else shape[-1] // 2)
        return shape

    def compute(self, x, mask):
        return self.activation_function()(x)


@register
class ReLU(BaseLayer):
    exact = True
    options = {
        "max_value": Option(optional(real), None),
        "negative_slope": Option(optional(real), 0.0),
        "threshold": Option(optional(real), 0.0),
    }

    def compute(self, x, mask):
        return activations.relu(x, self.max_value, self.negative_slope or 0.0, self.threshold or 0.0)


@register
class LeakyReLU(BaseLayer):
    """`negative_slope` is called `alpha` before Keras 3; the reader renames it."""

    exact = True
    options = {"negative_slope": Option(real, 0.3)}

    def compute(self, x, mask):
        return activations.leaky_relu(x, self.negative_slope)


@register
class ELU(BaseLayer):
    options = {"alpha": Option(real, 1.0)}

    def compute(self, x, mask):
        return activations.elu(x, self.alpha)


@register
class ThresholdedReLU(BaseLayer):
    """x above theta, else 0."""

    exact = True
    options = {"theta": Option(real, 1.0)}

    def compute(self, x, mask):
        return x * (x > np.asarray(self.theta, x.dtype))


@register
class PReLU(BaseLayer):
    """LeakyReLU with a trained slope for each element; along `shared_axes` elements share one."""

    exact = True
    options = {"shared_axes": Option(optional(integers), None)}

    def weight_shapes(self, shapes):
        shape = list(shapes[0][1:]) if shapes else []
        for axis in (self.shared_axes or ()) if shapes else ():
            if not 1 <= axis <= len(shape):
                self.fail(f"shared_axes holds {axis}; the input has {len(shape) + 1} axes")
            shape[axis - 1] = 1
        return {"alpha": tuple(shape)}

    def compute(self, x, mask):
        return np.maximum(x, 0) - self.weights["alpha"] * np.maximum(-x, 0)


def rules_of_masked_softmax(version, robust):
    """(Whether masked elements are replaced by -1e9, not lowered by it; whether their result is 0).

    Keras adds -1e9 to them; from 3.13 on, and in tf.keras with `robust_masking`, it replaces them by -1e9. From Keras
    3.10 on their result is 0.
    """
    number = version.version if version.is_keras3 else (2,)
    return number >= (3, 13) or bool(robust), number >= (3, 10)


def masked_softmax(x, mask, axis, version, robust=False):
    """softmax(x) over the elements where the mask, broadcast against x, is true."""
    replaces, zeroes = rules_of_masked_softmax(version, robust)
    if replaces:
        x = np.where(mask if mask.dtype == bool else mask > 0.5, x, np.asarray(-1e9, x.dtype))
    else:
        x = x + (1 - mask.astype(x.dtype)) * np.asarray(-1e9, x.dtype)
    if len(axis) == 1:
        y = activations.softmax(x, axis)
    else:
        # Over several axes Keras subtracts the logarithm of the sum first. If all x are -1e9, float32 loses it.
        top = np.max(x, axis=axis, keepdims=True)
        y = np.exp(x - (np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top))
    return np.where(mask, y, 0) if zeroes else y


@register
class Softmax(BaseLayer):
    options = {"axis": Option(integers, [-1]), "robust_masking": Option(boolean, False)}

    def compute(self, x, mask):
        axis = tuple(self.axis)
        if mask is None:
            return activations.softmax(x, axis)
        if mask.ndim > x.ndim or not all(same_size(m, s) or m == 1 for m, s in zip(mask.shape[::-1], x.shape[::-1])):
            raise InputError(f"layer {self.name!r} (Softmax): mask {mask.shape} does not fit its input {x.shape}")
        return masked_softmax(x, mask, axis, self.version, self.robust_masking)
