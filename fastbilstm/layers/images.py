"""Resizing, CenterCrop, RandomCrop, and layers over images that do nothing at inference; the specification, in NumPy.

Keras 3 casts what these layers are given to floats in `predict`, whole numbers, too; not inside TimeDistributed.
"""

import numpy as np

from ..errors import InputError
from .base import Option, boolean, choice, integer, real, register
from .core import Augmentation
from .resizing import FILTERS, interpolate, whole_again
from .windows import DATA_FORMAT, Spatial


def ratio(size, target, other, dtype):
    """size * target / other as a whole number, cut off; computed in `dtype`, as Keras does."""
    return int(dtype(size * target) / dtype(other))


def window(x, sizes):
    """The window of these sizes in the middle of x (B, H, W, C)."""
    starts = [(size - kept) // 2 for size, kept in zip(x.shape[1:3], sizes)]
    return x[:, starts[0] : starts[0] + sizes[0], starts[1] : starts[1] + sizes[1]]


def padded(x, sizes, value):
    """x (B, H, W, C) between two stripes of `value`, each of the same size, so that its sides have nearly the ratio of
    `sizes`.
    """
    (rows, columns), (height, width) = x.shape[1:3], sizes
    wanted = ratio(columns, height, width, np.float32), ratio(rows, width, height, np.float32)
    stripes = [max(part - size, 0) // 2 for part, size in zip(wanted, (rows, columns))]
    return np.pad(x, [(0, 0), *((n, n) for n in stripes), (0, 0)], constant_values=value)


class Resized(Spatial):
    """Images of one size, (B, height, width, C)."""

    exact = True
    rank = 2
    options = {"height": Option(integer(1)), "width": Option(integer(1)), "data_format": DATA_FORMAT}
    ignored = ("bounding_box_format",)

    @property
    def target(self):
        return self.height, self.width

    def length(self, axis, size):
        return self.target[axis]

    def widest(self, x, dtype=np.float32):
        """The largest window in the middle of x (B, H, W, C) whose sides have the ratio of the target's."""
        (rows, columns), (height, width) = x.shape[1:3], self.target
        kept = ratio(columns, height, width, dtype), ratio(rows, width, height, dtype)
        if 0 in kept and not self.version.is_keras3:
            raise InputError(
                f"layer {self.name!r} ({self.class_name}): of {(rows, columns)} pixels nothing is left in the "
                f"ratio {height}:{width}; tf.keras refuses them, too"
            )
        return window(x, [max(min(part, size), 1) for part, size in zip(kept, (rows, columns))])


@register
class Resizing(Resized):
    """Keras always interpolates in float32, this class in the dtype of computation; whole numbers are rounded."""

    casts_in_wrappers = False
    options = {
        **Resized.options,
        "interpolation": Option(
            lambda value: choice("bilinear", "nearest", "area", *FILTERS)(str(value).lower()), "bilinear"
        ),
        "crop_to_aspect_ratio": Option(boolean, False),
        "pad_to_aspect_ratio": Option(boolean, False),
        "fill_mode": Option(choice("constant"), "constant"),
        "fill_value": Option(real, 0.0),
        "antialias": Option(boolean, False),
    }

    @classmethod
    def check_config(cls, config, version):
        if config["crop_to_aspect_ratio"] and config["pad_to_aspect_ratio"]:
            yield "pad_to_aspect_ratio", True, "does not go with crop_to_aspect_ratio"

    def slide(self, x):
        return whole_again(self.resized(x.astype(self.dtype, copy=False)), x.dtype, self.version)

    def resized(self, x):
        if self.crop_to_aspect_ratio:
            x = self.widest(x)
        elif self.pad_to_aspect_ratio:
            x = padded(x, self.target, self.fill_value)
        return interpolate(x, self.target, self.interpolation, self.antialias)


@register
class CenterCrop(Resized):
    """A window in the middle; a smaller image is cropped to the ratio of the sides and made larger."""

    def slide(self, x):
        if x.shape[1] >= self.height and x.shape[2] >= self.width:
            return window(x, self.target)
        return interpolate(self.widest(x, float if self.version.is_keras3 else np.float32), self.target, "bilinear")


@register
class RandomCrop(Resized):
    """At inference Keras 3 returns images as they are; tf.keras crops them to the ratio and resizes them."""

    casts_in_wrappers = False
    ignored = (*Resized.ignored, "seed", "rng_type", "factor")

    @classmethod
    def check_config(cls, config, version):
        if not version.is_keras3 and version.version < (2, 9):
            yield "height", config["height"], f"belongs to a RandomCrop of {version}, which is not known here"

    @property
    def passes_mask(self):
        return self.version.is_keras3

    def length(self, axis, size):
        return size if self.version.is_keras3 else self.target[axis]

    def slide(self, x):
        return x if self.version.is_keras3 else interpolate(self.widest(x), self.target, "bilinear")


@register
class Equalization(Augmentation):
    """In Keras 3.15 its output is its input, which no layer but TimeDistributed can take."""

    casts_in_wrappers = False
    ignored = ("value_range", "bins", "data_format", "bounding_box_format", "factor")


@register
class MaxNumBoundingBoxes(Augmentation):
    """Images alone; boxes are other inputs, which are refused."""

    casts_in_wrappers = False
    ignored = ("max_number", "fill_value", "data_format", "bounding_box_format", "factor")
