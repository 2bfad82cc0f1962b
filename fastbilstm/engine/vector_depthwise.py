"""Depthwise, separable and transposed convolutions on the float32 kernels.

Each has the call and the result of the layer that it replaces. Imports NumPy and the compiled module `_kernels`; knows
nothing of files.
"""

import math

import numpy as np

from .. import _kernels
from ..layers import Tensor
from ..layers.windows import margins, reach
from .vector_elementwise import OnKernels, moved
from .vector_layers import contiguous, packed_matrix, row_activation
from .vector_windows import channels_back, channels_last, windows_of


class Spatial(OnKernels):
    """What these convolutions have in common: where the channels are, and the activation, which comes last."""

    def __init__(self, layer):
        super().__init__(layer)
        self.activation, self.bias = row_activation(layer), layer.weights.get("bias")
        self.bias = None if self.bias is None else contiguous(self.bias)

    def call(self, inputs, kwargs, states):
        layer = self.layer
        x = channels_last(layer, inputs[0].value, states)
        width = layer.length(layer.rank - 1, x.shape[-2])
        misplaced = layer.channels_first and layer.use_bias and layer.misplaces_bias
        if self.activation is None or (misplaced and layer.weights["bias"].size == width > 1):
            return layer.call(inputs, kwargs, states)
        y = channels_back(layer, self.convolved(x, states), states)
        self.activation.apply(y)
        return [Tensor(y)]

    def convolved(self, x, states):
        """x (B, *spatial, C) -> (B, *spatial, F), with the bias."""
        raise NotImplementedError


class VectorDepthwise(Spatial):
    """DepthwiseConv, and SeparableConv, whose second kernel is a product."""

    def __init__(self, layer, weights="float32"):
        super().__init__(layer)
        pointwise = layer.weights.get("pointwise_kernel")
        kernel = contiguous(layer.weights["depthwise_kernel" if pointwise is not None else layer.role])
        self.channels, self.multiplier = kernel.shape[-2:]
        self.kernel, self.pointwise = kernel.reshape(-1, self.channels * self.multiplier), None
        if pointwise is not None:
            (self.pointwise,) = packed_matrix(pointwise.reshape(pointwise.shape[-2:]), self.bias, weights)
            self.bias, self.form = None, self.pointwise.form

    def convolved(self, x, states):
        layer, channels = self.layer, self.channels * self.multiplier
        if self.multiplier > 1:  # a copy of each channel for each of its kernels
            view = np.broadcast_to(x[..., np.newaxis], (*x.shape, self.multiplier))
            x = moved(states, x, (*x.shape[:-1], channels), view, lambda y: y.reshape(view.shape))
        windows = windows_of(layer, x.shape, layer.kernel_size, layer.strides, layer.dilation_rate)
        y = states.array(len(x), *(window[0] for window in windows), channels)
        _kernels.convolve_depthwise(x, self.kernel, self.bias, y, windows)
        if self.pointwise is None:
            return y
        return self.pointwise.product(y, states.array(*y.shape[:-1], self.pointwise.columns))


class VectorTransposed(Spatial):
    """Conv1DTranspose, Conv2DTranspose and Conv3DTranspose."""

    def __init__(self, layer):
        super().__init__(layer)
        kernel = layer.weights["kernel"]  # (*taps, F, C)
        *taps, filters, channels = kernel.shape
        self.kernel = _kernels.Matrix(kernel.reshape(math.prod(taps) * filters, channels).T)

    def convolved(self, x, states):
        layer = self.layer
        lengths = [layer.length(axis, size) for axis, size in enumerate(x.shape[1:-1])]
        spans = map(reach, layer.kernel_size, layer.dilation_rate)
        starts = [margins(*axis, layer.padding)[0] for axis in zip(lengths, spans, layer.strides)]
        windows = tuple(zip(x.shape[1:-1], layer.kernel_size, layer.strides, layer.dilation_rate, starts))
        y = states.array(len(x), *lengths, layer.filters)
        return _kernels.convolve_transposed(x, self.kernel, self.bias, y, windows, states.scratch)
