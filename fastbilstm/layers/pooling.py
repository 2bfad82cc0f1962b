"""Pooling over windows of a sequence, an image or a volume, and over a whole one: the specification, in NumPy.

GlobalAveragePooling1D and GlobalMaxPooling1D, which know masks, are in reshaping.py. Imports NumPy.
"""

import functools

import numpy as np

from .base import BaseLayer, Option, boolean, choice, optional, register
from .convolution import is_foreign
from .windows import DATA_FORMAT, Spatial, count, padded, sizes, taps


def lowest(dtype):
    """The least finite number of a dtype."""
    return (np.finfo if np.dtype(dtype).kind == "f" else np.iinfo)(dtype).min


class Pooling(Spatial):
    """Poolings over windows. With `strides` None, the strides are as long as the windows."""

    @classmethod
    def check_config(cls, config, version):
        yield from super().check_config(config, version)
        if config["padding"] == "same" and is_foreign(version):
            yield "padding", "same", f"was computed by {version.backend}, which is not supported"

    @property
    def steps(self):
        return self.strides or self.pool_size

    def length(self, axis, size):
        return count(size, self.pool_size[axis], self.steps[axis], self.padding)

    def windows(self, x, value):
        """For each tap, what all windows see there; beyond the ends that is `value`."""
        x = padded(x, self.pool_size, self.steps, self.padding, value)
        return [part for _, part in taps(x, self.pool_size, self.steps, [1] * self.rank)]


class MaxPooling(Pooling):
    """The largest number of each window. Keras starts from the least finite number, and NaN never wins."""

    exact = True
    casts_input = False

    def slide(self, x):
        least = lowest(x.dtype)
        return functools.reduce(np.fmax, self.windows(x, least), np.asarray(least, x.dtype))


class AveragePooling(Pooling):
    """The mean of each window; positions beyond the ends do not count."""

    exact = True

    def slide(self, x):
        ones = np.ones((1, *x.shape[1:-1], 1), x.dtype)
        return sum(self.windows(x, 0)) / sum(self.windows(ones, 0))


def options(rank):
    return {
        "pool_size": Option(sizes(rank), [2] * rank),
        "strides": Option(optional(sizes(rank)), None),
        "padding": Option(choice("valid", "same"), "valid"),
        "data_format": DATA_FORMAT,
    }


@register
class MaxPooling1D(MaxPooling):
    options = options(1)


@register
class MaxPooling2D(MaxPooling):
    rank = 2
    options = options(2)


@register
class MaxPooling3D(MaxPooling):
    rank = 3
    options = options(3)


@register
class AveragePooling1D(AveragePooling):
    options = options(1)


@register
class AveragePooling2D(AveragePooling):
    rank = 2
    options = options(2)


@register
class AveragePooling3D(AveragePooling):
    rank = 3
    options = options(3)


# ---- windows of an output size --------------------------------------------------------------------------------------


class AdaptivePooling(Spatial):
    """As many windows as `output_size` along each axis; window i of an axis of n is n i / m to n (i + 1) / m.

    The first end is rounded down and the last one up, so that windows may overlap. An axis is pooled after the other.
    """

    exact = True

    def output_shape(self, shape):
        output = super().output_shape(shape)
        if None in (shape[2:] if self.channels_first else shape[1:-1]):
            self.fail(
                f"its input has shape {tuple(shape)}; Keras pools no axis of free size into windows of its own size"
            )
        return output

    def length(self, axis, size):
        return self.output_size[axis]

    def slide(self, x):
        for axis, windows in enumerate(self.output_size, start=1):
            size = x.shape[axis]
            ends = [(k * size // windows, -(-(k + 1) * size // windows)) for k in range(windows)]
            parts = [[x.take(t, axis) for t in range(*window)] for window in ends]
            x = np.stack([self.pooled(part) for part in parts], axis)
        return x

    def pooled(self, parts):
        """One array from those of the positions of a window."""
        raise NotImplementedError


class AdaptiveAveragePooling(AdaptivePooling):
    def pooled(self, parts):
        return sum(parts) / np.asarray(len(parts), parts[0].dtype)


class AdaptiveMaxPooling(AdaptivePooling):
    def pooled(self, parts):
        return functools.reduce(np.fmax, parts, np.asarray(lowest(parts[0].dtype), parts[0].dtype))


for _rank in (1, 2, 3):
    for _kind in (AdaptiveAveragePooling, AdaptiveMaxPooling):
        _options = {"output_size": Option(sizes(_rank)), "data_format": DATA_FORMAT}
        register(type(f"{_kind.__name__}{_rank}D", (_kind,), {"rank": _rank, "options": _options}))


# ---- whole images and volumes ---------------------------------------------------------------------------------------


class GlobalPooling(BaseLayer):
    """One number for each channel; `rank` is the number of spatial axes."""

    rank = 2
    passes_mask = False
    options = {"data_format": DATA_FORMAT, "keepdims": Option(boolean, False)}

    @property
    def axes(self):
        first = 2 if self.data_format == "channels_first" else 1
        return tuple(range(first, first + self.rank))

    def output_shape(self, shape):
        self.require_rank(shape, self.rank + 2)
        sizes = [1 if axis in self.axes else size for axis, size in enumerate(shape)]
        return tuple(size for axis, size in enumerate(sizes) if self.keepdims or axis not in self.axes)


@register
class GlobalAveragePooling2D(GlobalPooling):
    def compute(self, x, mask):
        return np.mean(x, axis=self.axes, keepdims=self.keepdims)


@register
class GlobalMaxPooling2D(GlobalPooling):
    exact = True
    casts_input = False

    def compute(self, x, mask):
        return np.max(x, axis=self.axes, keepdims=self.keepdims)


@register
class GlobalAveragePooling3D(GlobalAveragePooling2D):
    rank = 3


@register
class GlobalMaxPooling3D(GlobalMaxPooling2D):
    rank = 3
