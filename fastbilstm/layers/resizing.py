"""Padding, cropping and upsampling of sequences, images and volumes: zeros around them, ends cut off, steps repeated.

The specification, in NumPy. No output has a mask, as in Keras.
"""

import numpy as np

from .base import Option, choice, integer, register
from .windows import DATA_FORMAT, Spatial, pairs, sizes


class ZeroPadding(Spatial):
    exact = True
    casts_input = False

    @property
    def widths(self):
        """(before, after) for each spatial axis."""
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


@register
class ZeroPadding3D(ZeroPadding):
    rank = 3
    options = {"padding": Option(pairs(3), 1), "data_format": DATA_FORMAT}


class Cropping(Spatial):
    exact = True
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


@register
class Cropping3D(Cropping):
    rank = 3
    options = {"cropping": Option(pairs(3), 1), "data_format": DATA_FORMAT}


@register
class UpSampling1D(Spatial):
    exact = True
    options = {"size": Option(integer(1), 2)}
    casts_input = False

    def length(self, axis, size):
        return None if size is None else size * self.size

    def slide(self, x):
        return np.repeat(x, self.size, axis=1)


@register
class UpSampling3D(Spatial):
    exact = True
    rank = 3
    options = {"size": Option(sizes(3), [2, 2, 2]), "data_format": DATA_FORMAT}
    casts_input = False

    def length(self, axis, size):
        return None if size is None else size * self.size[axis]

    def slide(self, x):
        for axis, factor in enumerate(self.size, start=1):
            x = np.repeat(x, factor, axis)
        return x


# ---- larger images --------------------------------------------------------------------------------------------------


def places(size, count):
    """The centres of `count` new pixels, in coordinates 0 to size - 1 of the old ones, rounded as in TensorFlow."""
    half, scale = np.float32(0.5), np.float32(size) / np.float32(count)
    return (np.arange(count, dtype=np.float32) + half) * scale - half


def along(axis, values, like):
    """Reshape one number for each position of an axis so that they broadcast."""
    return np.reshape(values, [-1 if k == axis else 1 for k in range(like.ndim)]).astype(like.dtype)


def nearest(x, axis, count):
    """`count` pixels of an axis, each a copy of the one that lies there."""
    scale = np.float32(x.shape[axis]) / np.float32(count)
    place = np.floor((np.arange(count, dtype=np.float32) + np.float32(0.5)) * scale)
    return np.take(x, np.minimum(place, x.shape[axis] - 1).astype(int), axis)


def bilinear(x, axis, count):
    """`count` pixels of an axis, linear between the centres and constant beyond the ends."""
    place = places(x.shape[axis], count)
    before = np.floor(place)
    low = np.take(x, np.maximum(before, 0).astype(int), axis)
    high = np.take(x, np.minimum(before + 1, x.shape[axis] - 1).astype(int), axis)
    return low + (high - low) * along(axis, place - before, x)


def summed(x, axis, near, weights):
    """Pixel k of the axis is the sum of pixels near[k], each times its weight; `near`, `weights` (count, taps)."""
    nearest = np.clip(near, 0, x.shape[axis] - 1).astype(int)
    return sum(np.take(x, tap, axis) * along(axis, w, x) for tap, w in zip(nearest.T, weights.T))


def weighted(x, axis, count, weight, radius, steps=None, antialias=False):
    """`count` pixels of an axis: means of those nearer than `radius`, weighted by distance.

    `steps`: TensorFlow looks the weights up in a table with that many entries for each pixel. `antialias`: where there
    are fewer pixels than before, a pixel reaches as far as it is large.
    """
    size = x.shape[axis]
    if steps is not None and not antialias:
        place, stretch = places(size, count), np.float32(1)
        place = np.rint(place * steps) / steps
    else:
        step = np.float32(1) / (np.float32(count) / np.float32(size))
        half = np.float32(0.5)
        place = (np.arange(count, dtype=np.float32) + half) * step - half
        stretch = max(step, np.float32(1)) if antialias else np.float32(1)
    reach = int(np.ceil(radius * stretch))
    near = np.floor(place)[:, np.newaxis] + np.arange(1 - reach, 1 + reach, dtype=np.float32)
    distance = np.abs(near - place[:, np.newaxis]) / stretch
    weights = np.where((near >= 0) & (near < size) & (distance < radius), weight(distance), 0)
    return summed(x, axis, near, weights / np.sum(weights, axis=1, keepdims=True))


def area(x, axis, count):
    """`count` pixels of an axis, each the mean of what it covers."""
    size = x.shape[axis]
    scale = np.float32(size) / np.float32(count)
    edges = np.arange(count + 1, dtype=np.float32) * scale
    start, end = edges[:-1, np.newaxis], edges[1:, np.newaxis]
    near = np.floor(start) + np.arange(int(np.ceil(scale)) + 1, dtype=np.float32)
    covered = np.clip(np.minimum(near + 1, end) - np.maximum(near, start), 0, None)
    return summed(x, axis, near, covered / scale)


def cubic(b, c):
    """The cubic filters of Mitchell and Netravali; (0, 1/2) is that of Keys."""

    def weight(d):
        near = ((12 - 9 * b - 6 * c) * d + (-18 + 12 * b + 6 * c)) * d**2 + (6 - 2 * b)
        far = (((-b - 6 * c) * d + (6 * b + 30 * c)) * d + (-12 * b - 48 * c)) * d + (8 * b + 24 * c)
        return np.where(d < 1, near, np.where(d < 2, far, 0)) / 6

    return weight


def lanczos(radius):
    return lambda d: np.sinc(d) * np.sinc(d / radius)


def gaussian(d):
    return np.exp(-2 * d**2)


def triangle(d):
    return 1 - d


# {interpolation in Keras: (weight of a pixel by its distance, radius, `steps` of `weighted`)}.
FILTERS = {
    "bicubic": (cubic(0, 0.5), 2, 1024),
    "mitchellcubic": (cubic(1 / 3, 1 / 3), 2),
    "lanczos3": (lanczos(3), 3),
    "lanczos5": (lanczos(5), 5),
    "gaussian": (gaussian, 1.5),
}


def interpolate(x, sizes, interpolation, antialias=False):
    """x (B, H, W, C) -> (B, *sizes, C), as `tf.image.resize` computes it for floats."""
    for axis, count in ((2, sizes[1]), (1, sizes[0])):
        if interpolation in ("nearest", "area"):
            x = (nearest if interpolation == "nearest" else area)(x, axis, count)
        elif interpolation == "bilinear" and not antialias:
            x = bilinear(x, axis, count)
        else:
            filtered = (triangle, 1) if interpolation == "bilinear" else FILTERS[interpolation]
            x = weighted(x, axis, count, *filtered, antialias=antialias)
    return x


def whole_again(y, dtype, version):
    """An image that Keras 3 was given in whole numbers of `dtype`: it rounds them, halves to even. Others stay."""
    if dtype.kind not in "iu" or not version.is_keras3:
        return y
    limits = np.iinfo(dtype)
    return np.clip(np.rint(y), limits.min, limits.max).astype(dtype)


@register
class UpSampling2D(Spatial):
    """Keras always interpolates in float32, this class in the dtype of computation; whole numbers are rounded."""

    exact = True
    rank = 2
    options = {
        "size": Option(sizes(2), [2, 2]),
        "data_format": DATA_FORMAT,
        "interpolation": Option(choice("nearest", "bilinear", *FILTERS), "nearest"),
    }
    casts_input = False

    def length(self, axis, size):
        return None if size is None else size * self.size[axis]

    def output_dtype(self, dtype):
        return dtype if self.interpolation == "nearest" or self.version.is_keras3 else None

    def slide(self, x):
        if self.interpolation == "nearest":
            return np.repeat(np.repeat(x, self.size[1], 2), self.size[0], 1)
        target = [size * factor for size, factor in zip(x.shape[1:3], self.size)]
        y = interpolate(x.astype(self.dtype, copy=False), target, self.interpolation)
        return whole_again(y, x.dtype, self.version)
