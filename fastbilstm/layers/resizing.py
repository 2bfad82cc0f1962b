"""Longer and shorter sequences and images: zeros around them, ends cut off, steps repeated. In NumPy.

All of them end the mask, as in Keras. Imports NumPy.
"""

import numpy as np

from ..errors import InputError
from .base import Option, choice, integer, register
from .windows import DATA_FORMAT, Spatial, pairs, sizes


class ZeroPadding(Spatial):
    casts_input = False

    @property
    def widths(self):
        """(before, after) of each spatial axis."""
        return [self.padding] if self.rank == 1 else self.padding

    def length(self, axis, size):
        return None if size is None else size + sum(self.widths[axis])

    def slide(self, x):
        return np.pad(x, [(0, 0), *self.widths, (0, 0)])


@register
class ZeroPadding1D(ZeroPadding):
    options = {"padding": Option(pairs(1), 1), "data_format": DATA_FORMAT}


@register
class ZeroPadding2D(ZeroPadding):
    rank = 2
    options = {"padding": Option(pairs(2), 1), "data_format": DATA_FORMAT}


class Cropping(Spatial):
    casts_input = False

    @property
    def widths(self):
        return [self.cropping] if self.rank == 1 else self.cropping

    def length(self, axis, size):
        return None if size is None else size - sum(self.widths[axis])

    def slide(self, x):
        kept = [slice(before, size - after) for (before, after), size in zip(self.widths, x.shape[1:-1])]
        return x[(slice(None), *kept)]


@register
class Cropping1D(Cropping):
    options = {"cropping": Option(pairs(1), 1)}


@register
class Cropping2D(Cropping):
    rank = 2
    options = {"cropping": Option(pairs(2), 0), "data_format": DATA_FORMAT}


def interpolate(x, axis, factor):
    """x with `factor` steps for each step of an axis, on straight lines between the middles of the old steps.

    The old middles are at 0.5, 1.5, ...; the new ones at (t + 0.5) / factor. Beyond the first and the last it is level.
    """
    size = x.shape[axis]
    place = (np.arange(size * factor) + 0.5) / factor - 0.5
    before = np.floor(place)
    shape = [1] * x.ndim
    shape[axis] = -1
    weight = np.reshape(place - before, shape).astype(x.dtype)
    low = np.take(x, np.maximum(before, 0).astype(int), axis)
    high = np.take(x, np.minimum(before + 1, size - 1).astype(int), axis)
    return low + (high - low) * weight


@register
class UpSampling1D(Spatial):
    options = {"size": Option(integer(1), 2)}
    casts_input = False

    def length(self, axis, size):
        return None if size is None else size * self.size

    def slide(self, x):
        return np.repeat(x, self.size, axis=1)


@register
class UpSampling2D(Spatial):
    rank = 2
    options = {
        "size": Option(sizes(2), [2, 2]),
        "data_format": DATA_FORMAT,
        "interpolation": Option(choice("nearest", "bilinear"), "nearest"),
    }
    casts_input = False

    def length(self, axis, size):
        return None if size is None else size * self.size[axis]

    def slide(self, x):
        if self.interpolation == "nearest":
            return np.repeat(np.repeat(x, self.size[0], axis=1), self.size[1], axis=2)
        if x.dtype.kind != "f":
            if self.version.is_keras3:
                raise InputError(f"layer {self.name!r} (UpSampling2D): Keras rounds its answer to whole numbers")
            x = x.astype(self.dtype)
        # Keras does this in float32, whatever the dtype of computation; here it is done in that dtype.
        return interpolate(interpolate(x, 2, self.size[1]), 1, self.size[0])
