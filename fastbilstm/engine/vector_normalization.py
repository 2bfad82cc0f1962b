"""Layer, RMS, Unit and GroupNormalization on the float32 vector kernels.

Each has the call and the result of the layer that it replaces. Imports NumPy and the compiled module `_kernels`.
"""

import math

import numpy as np

from .. import _kernels
from ..layers import Tensor
from ..layers.normalization import LayerNormalization, RMSNormalization
from .vector_elementwise import MOST_AXES, OnKernels, constant, each, moved, reduced
from .vector_layers import adopt, contiguous


class VectorNormalization(LayerNormalization):
    """A row is all of the last axes; other axes are brought to the end, and back."""

    def __init__(self, layer):
        adopt(self, layer)
        self.layer, self.passes_mask = layer, layer.passes_mask
        self.is_rms = isinstance(layer, RMSNormalization)
        weights = {role: contiguous(array).reshape(-1) for role, array in self.weights.items()}
        self.gamma, self.beta = weights.get("scale" if self.is_rms else "gamma"), weights.get("beta")
        self.keeps_mean = self.is_rms or self.rms_scaling

    def call(self, inputs, kwargs, states):
        x, mask = inputs[0]
        axes = self.layer.normalized_axes(x.ndim)
        order = [axis for axis in range(x.ndim) if axis not in axes] + list(axes)
        turns = order != list(range(x.ndim))
        if turns and x.ndim > MOST_AXES:
            return self.layer.call(inputs, kwargs, states)
        x = contiguous(x)
        if turns:
            view = x.transpose(order)
            x = moved(states, x, view.shape, view)
        y, size = states.array(*x.shape), math.prod(x.shape[x.ndim - len(axes) :])
        rows = (-1, size) if size else (0, 1)
        _kernels.normalize(
            x.reshape(rows), self.gamma, self.beta, self.epsilon, y.reshape(rows), self.keeps_mean, self.is_rms
        )
        if turns:
            view = y.transpose(np.argsort(order))
            y = moved(states, y, view.shape, view)
        return [Tensor(y, mask if self.passes_mask else None)]


def unit_rows(states, x, axes, is_keras3, limit):
    """x / |x| along neighbouring axes: |x| is at least `limit` in Keras 3, |x|^2 in tf.keras."""
    first, last = axes[0], axes[-1] + 1
    shape = x.shape[:first] + (1,) * (last - first) + x.shape[last:]
    square = reduced(states, "sum", each(states, "square", x), first, last, shape)
    if is_keras3:
        inverse = each(states, "minimum", each(states, "rsqrt", square), constant(1 / limit), constants=(1,))
        return each(states, "multiply", x, inverse)
    square = each(states, "maximum", square, constant(limit), constants=(1,))
    return each(states, "divide", x, each(states, "sqrt", square))


class VectorUnitNormalization(OnKernels):
    def call(self, inputs, kwargs, states):
        x, mask = inputs[0]
        axes = self.layer.normalized_axes(x.ndim)
        if axes != tuple(range(axes[0], axes[-1] + 1)) or x.ndim > MOST_AXES or not x.size:
            return self.layer.call(inputs, kwargs, states)
        y = unit_rows(states, contiguous(x), axes, self.layer.version.is_keras3, 1e-12)
        return [Tensor(y, mask if self.layer.passes_mask else None)]


class VectorGroupNormalization(OnKernels):
    """Each group of channels of a row is brought together, normalized as one row, and brought back."""

    def __init__(self, layer):
        super().__init__(layer)
        self.gamma, self.beta = (layer.weights.get(role) for role in ("gamma", "beta"))

    def call(self, inputs, kwargs, states):
        x, mask = inputs[0]
        axis, groups, size = self.layer.channels(x.shape)
        if x.ndim >= MOST_AXES or not x.size:
            return self.layer.call(inputs, kwargs, states)
        x = contiguous(x)
        parts = np.moveaxis(x.reshape(*x.shape[:axis], groups, size, *x.shape[axis + 1 :]), axis, 1)
        rows = moved(states, x, parts.shape, parts)
        y = states.array(len(x) * groups, rows.size // (len(x) * groups))
        _kernels.normalize(rows.reshape(y.shape), None, None, self.layer.epsilon, y)
        back = np.moveaxis(y.reshape(parts.shape), 1, axis)
        y = moved(states, y, x.shape, back, lambda array: array.reshape(back.shape))
        shape = [groups * size if k == axis else 1 for k in range(x.ndim)]
        for name, weight in (("multiply", self.gamma), ("add", self.beta)):
            if weight is not None:
                y = each(states, name, y, constant(np.reshape(weight, shape)), constants=(1,))
        return [Tensor(y, mask if self.layer.passes_mask else None)]
