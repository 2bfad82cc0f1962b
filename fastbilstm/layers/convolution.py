"""Convolutions of sequences, images and volumes, depthwise, separable and transposed ones: the specification, in NumPy.

A convolution is a sum of matrix products, one for each tap of the kernel. For inputs of few channels, all taps go side
by side into one product, with the same result. The classes at the end have Keras' names and one to three spatial axes.
Imports NumPy.
"""

import numpy as np

from ..errors import InputError
from .base import Option, activation, boolean, choice, integer, optional, register
from .windows import DATA_FORMAT, Spatial, count, margins, padded, reach, sizes, taps

# With so few channels, or a quarter of the filters as in ConvLSTM, one product for each tap costs more than a copy of
# the input for each tap.
NARROW = 8


# ---- what is computed -----------------------------------------------------------------------------------------------


def product(x, matrix):
    """x (..., C) @ matrix (C, F), computed as a product of two matrices."""
    if len(matrix) == 1:
        return x * matrix[0]  # which NumPy computes slowly as a product
    return (x.reshape(-1, x.shape[-1]) @ matrix).reshape(*x.shape[:-1], matrix.shape[1])


def convolve(x, kernel, strides, dilation_rate, groups=1):
    """y[t] = sum over taps k of x[t*s + k*d].kernel[k], along each spatial axis; the kernel is not flipped.

    x (B, *spatial, C), kernel (*taps, C / groups, F) -> (B, *windows, F). Each group of channels gives its own
    part of the filters.
    """
    if groups > 1:
        parts = zip(np.split(x, groups, axis=-1), np.split(kernel, groups, axis=-1))
        return np.concatenate([convolve(*part, strides, dilation_rate) for part in parts], axis=-1)
    found = taps(x, kernel.shape[:-2], strides, dilation_rate)
    if x.shape[-1] <= max(NARROW, kernel.shape[-1] // 4):
        columns = np.concatenate([part for _, part in found], axis=-1)
        return product(columns, kernel.reshape(-1, kernel.shape[-1]))
    return sum(product(part, kernel[tap]) for tap, part in found)


def convolve_depthwise(x, kernel, strides, dilation_rate):
    """y[t, c*M + m] = sum over taps k of x[t*s + k*d, c] * kernel[k, c, m]: each channel by itself.

    x (B, *spatial, C), kernel (*taps, C, M) -> (B, *windows, C * M).
    """
    found = taps(x, kernel.shape[:-2], strides, dilation_rate)
    y = sum(part[..., np.newaxis] * kernel[tap] for tap, part in found)
    return y.reshape(*y.shape[:-2], kernel.shape[-2] * kernel.shape[-1])


def convolve_transposed(x, kernel, strides, dilation_rate, lengths, starts):
    """y[t*s + k*d] += x[t].kernel[k]^T: each input step adds a multiple of the kernel.

    x (B, *spatial, C), kernel (*taps, F, C) -> (B, *lengths, F): the part of y that begins at `starts`.
    """
    kernel_size, spatial = kernel.shape[:-2], x.shape[1:-1]
    whole = [
        max((n - 1) * s + reach(k, d), start + length)
        for n, s, k, d, start, length in zip(spatial, strides, kernel_size, dilation_rate, starts, lengths)
    ]
    y = np.zeros((len(x), *whole, kernel.shape[-2]), x.dtype)
    for tap in np.ndindex(*kernel_size):
        first = [k * d for k, d in zip(tap, dilation_rate)]
        steps = [slice(t, t + (n - 1) * s + 1, s) for t, n, s in zip(first, spatial, strides)]
        y[(slice(None), *steps)] += product(x, kernel[tap].T)
    return y[(slice(None), *(slice(start, start + length) for start, length in zip(starts, lengths)))]


# ---- layers ---------------------------------------------------------------------------------------------------------


def options(rank, paddings=("valid", "same"), **more):
    """The options of a convolution with so many spatial axes."""
    return {
        "kernel_size": Option(sizes(rank)),
        "strides": Option(sizes(rank), [1] * rank),
        "padding": Option(choice(*paddings), "valid"),
        "data_format": DATA_FORMAT,
        "dilation_rate": Option(sizes(rank), [1] * rank),
        "activation": Option(activation, None),
        "use_bias": Option(boolean, True),
        "groups": Option(choice(1), 1),
        **more,
    }


def is_foreign(version):
    """Whether Theano or CNTK was the backend: Theano flips kernels, and places those of even size differently."""
    return version.is_multi_backend and version.backend != "tensorflow"


class Convolution(Spatial):
    """What all convolutions have in common: strides, padding, dilation, bias and activation.

    Attributes
    ----------
    allows_dilated_strides : bool
        Whether strides and dilation may both be above 1.
    """

    # If the layer has LoRA, the file holds the merged kernel.
    ignored = ("input_dim", "lora_rank", "lora_alpha")
    allows_dilated_strides = last_is_free = False

    @classmethod
    def check_config(cls, config, version):
        yield from super().check_config(config, version)
        if config["activation"] == "glu":
            yield "activation", "glu", "halves the number of filters, which is not supported"
        if max(config["strides"]) > 1 and max(config["dilation_rate"]) > 1 and not cls.allows_dilated_strides:
            yield "dilation_rate", config["dilation_rate"], "with strides above 1 is nothing Keras computes"
        if is_foreign(version):
            yield "padding", config["padding"], f"was computed by {version.backend}, which is not supported"

    def length(self, axis, size):
        span = reach(self.kernel_size[axis], self.dilation_rate[axis])
        return count(size, span, self.strides[axis], self.padding)

    def channels(self, channels):
        return self.filters

    def with_bias(self, roles, size):
        return {**roles, "bias": (size,)} if self.use_bias else roles

    def padded(self, x):
        spans = [reach(*axis) for axis in zip(self.kernel_size, self.dilation_rate)]
        return padded(x, spans, self.strides, self.padding)

    def output_shape(self, shape):
        output = super().output_shape(shape)
        self.last_is_free = output[-1] is None
        return output

    def slide(self, x):
        y = self.convolve(x)
        if not self.use_bias:
            return y
        bias = self.weights["bias"]
        if self.channels_first and bias.size == y.shape[-2] > 1 and self.misplaces_bias:
            if self.last_is_free:
                raise InputError(
                    f"layer {self.name!r} ({self.class_name}): as many steps as channels come out of an input of free "
                    f"size, and Keras' call and predict add the bias along different axes then"
                )
            return y + bias[:, np.newaxis]  # y is (B, *spatial, C) here
        return y + bias

    @property
    def misplaces_bias(self):
        """Whether Keras adds the bias of channels_first along the last axis if it fits: from 3.7 on, on TensorFlow.

        add() in keras/src/backend/tensorflow/numpy.py looks for an axis of the size of the bias, from the last one on.
        """
        version = self.version
        return version.is_keras3 and version.version >= (3, 7) and version.backend == "tensorflow"

    def convolve(self, x):
        """x (B, *spatial, C) -> (B, *windows, F), before bias and activation."""
        raise NotImplementedError

    def compute(self, x, mask):
        # The activation comes last: softmax works along the last axis, which is a spatial one in channels_first.
        return self.activation_function()(super().compute(x, mask))


class Conv(Convolution):
    """Kernel (*taps, C / groups, F)."""

    @classmethod
    def check_config(cls, config, version):
        yield from super().check_config(config, version)
        if config["filters"] % config["groups"]:
            yield "groups", config["groups"], f"does not divide filters={config['filters']}"

    def weight_shapes(self, shapes):
        channels = self.channels_of(shapes[0]) if shapes else None
        if channels is not None:
            if channels % self.groups:
                self.fail(f"groups is {self.groups}, which does not divide {channels} channels")
            channels //= self.groups
        return self.with_bias({"kernel": (*self.kernel_size, channels, self.filters)}, self.filters)

    def convolve(self, x):
        return convolve(self.padded(x), self.weights["kernel"], self.strides, self.dilation_rate, self.groups)


class DepthwiseConv(Convolution):
    """Kernel (*taps, C, depth_multiplier); from Keras 3.15 on, windows may be dilated and strided."""

    allows_dilated_strides = True

    @property
    def role(self):
        return "kernel" if self.version.is_keras3 else "depthwise_kernel"

    def channels(self, channels):
        return None if channels is None else channels * self.depth_multiplier

    def weight_shapes(self, shapes):
        channels = self.channels_of(shapes[0]) if shapes else None
        kernel = {self.role: (*self.kernel_size, channels, self.depth_multiplier)}
        return self.with_bias(kernel, self.channels(channels))

    def convolve(self, x):
        return convolve_depthwise(self.padded(x), self.weights[self.role], self.strides, self.dilation_rate)


class SeparableConv(Convolution):
    """A depthwise convolution, then one with kernels of size 1: (*taps, C, M) and (1, C * M, F)."""

    allows_dilated_strides = True

    @classmethod
    def check_config(cls, config, version):
        yield from super().check_config(config, version)
        if config["padding"] == "causal" and version.is_keras3:
            yield "padding", "causal", "is nothing Keras 3 computes here"

    def weight_shapes(self, shapes):
        channels = self.channels_of(shapes[0]) if shapes else None
        between = None if channels is None else channels * self.depth_multiplier
        kernels = {
            "depthwise_kernel": (*self.kernel_size, channels, self.depth_multiplier),
            "pointwise_kernel": (*[1] * self.rank, between, self.filters),
        }
        return self.with_bias(kernels, self.filters)

    def convolve(self, x):
        depthwise, pointwise = self.weights["depthwise_kernel"], self.weights["pointwise_kernel"]
        y = convolve_depthwise(self.padded(x), depthwise, self.strides, self.dilation_rate)
        return product(y, pointwise.reshape(pointwise.shape[-2:]))


class ConvTranspose(Convolution):
    """Kernel (*taps, F, C). The output has the length from which Conv would make this input."""

    @classmethod
    def check_config(cls, config, version):
        yield from super().check_config(config, version)
        extra = config["output_padding"] or ()
        for added, size, stride, dilation in zip(
            extra, config["kernel_size"], config["strides"], config["dilation_rate"]
        ):
            if added >= stride:
                yield "output_padding", extra, f"is not below strides={config['strides']}"
            elif config["padding"] == "same" and reach(size, dilation) % 2 + added == 0:
                yield "output_padding", extra, "with padding='same' and an even kernel is nothing Keras computes"

    def weight_shapes(self, shapes):
        channels = self.channels_of(shapes[0]) if shapes else None
        return self.with_bias({"kernel": (*self.kernel_size, self.filters, channels)}, self.filters)

    def length(self, axis, size):
        if size is None:
            return None
        span, stride = reach(self.kernel_size[axis], self.dilation_rate[axis]), self.strides[axis]
        if self.output_padding is None:
            return size * stride + (max(span - stride, 0) if self.padding == "valid" else 0)
        kept = span if self.padding == "valid" else span % 2
        return (size - 1) * stride + kept + self.output_padding[axis]

    def convolve(self, x):
        lengths = list(map(self.length, range(self.rank), x.shape[1:-1]))
        spans = map(reach, self.kernel_size, self.dilation_rate)
        starts = [margins(*axis, self.padding)[0] for axis in zip(lengths, spans, self.strides)]
        return convolve_transposed(x, self.weights["kernel"], self.strides, self.dilation_rate, lengths, starts)


FILTERS = {"filters": Option(integer(1))}
MULTIPLIER = {"depth_multiplier": Option(integer(1), 1)}


@register
class Conv1D(Conv):
    options = options(1, ("valid", "same", "causal"), **FILTERS, groups=Option(integer(1), 1))


@register
class Conv2D(Conv):
    rank = 2
    options = options(2, **FILTERS, groups=Option(integer(1), 1))


@register
class Conv3D(Conv):
    rank = 3
    options = options(3, **FILTERS, groups=Option(integer(1), 1))


@register
class DepthwiseConv1D(DepthwiseConv):
    options = options(1, **MULTIPLIER)


@register
class DepthwiseConv2D(DepthwiseConv):
    rank = 2
    options = options(2, **MULTIPLIER)


@register
class SeparableConv1D(SeparableConv):
    options = options(1, ("valid", "same", "causal"), **FILTERS, **MULTIPLIER)


@register
class SeparableConv2D(SeparableConv):
    rank = 2
    options = options(2, **FILTERS, **MULTIPLIER)


@register
class Conv1DTranspose(ConvTranspose):
    options = options(1, **FILTERS, output_padding=Option(optional(sizes(1, 0)), None))


@register
class Conv2DTranspose(ConvTranspose):
    rank = 2
    options = options(2, **FILTERS, output_padding=Option(optional(sizes(2, 0)), None))


@register
class Conv3DTranspose(ConvTranspose):
    rank = 3
    options = options(3, **FILTERS, output_padding=Option(optional(sizes(3, 0)), None))
