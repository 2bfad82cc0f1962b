"""Windows that slide along a sequence, an image or a volume: what convolutions and poolings have in common.

All functions take channels_last arrays, x (B, *spatial, C), with one spatial axis (time), two (height and width) or
three. For a channels_first layer, `Spatial` moves the channels to the end and back. Imports NumPy.
"""

import numpy as np

from ..errors import InputError
from .base import BaseLayer, Option, choice

DATA_FORMAT = Option(choice("channels_last", "channels_first", None), "channels_last")


# ---- options --------------------------------------------------------------------------------------------------------


def sizes(rank, minimum=1):
    """Check an option of one whole number for each spatial axis, or one for all of them; keep a list."""

    def check(value):
        values = list(value) if isinstance(value, (list, tuple)) else [value] * rank
        whole = all(isinstance(v, int) and not isinstance(v, bool) and v >= minimum for v in values)
        if len(values) != rank or not whole:
            raise ValueError(f"expected {rank} whole numbers of at least {minimum}, or one for all")
        return values

    return check


def pairs(rank):
    """Check an option of (before, after) for each spatial axis; keep [before, after] or a list of them.

    An int means all sides. For an image (a, b) means ((a, a), (b, b)), and so on for a volume.
    """
    if rank == 1:
        return sizes(2, 0)

    def check(value):
        values = list(value) if isinstance(value, (list, tuple)) else [value] * rank
        if len(values) != rank:
            raise ValueError(f"expected a whole number, {rank} of them, or {rank} pairs of them")
        return [sizes(2, 0)(v) for v in values]

    return check


# ---- windows --------------------------------------------------------------------------------------------------------


def reach(size, dilation):
    """How many positions a window of `size` taps spans if the taps are `dilation` positions apart."""
    return (size - 1) * dilation + 1


def count(size, window, stride, padding):
    """How many windows fit along an axis: None if its size is free; 0 or less if none fits."""
    if size is None:
        return None
    return (size - window) // stride + 1 if padding == "valid" else -(-size // stride)


def margins(size, window, stride, padding):
    """How many positions to add (before, after) along an axis so that `count` windows fit.

    "same" adds half of them on each side, an odd one at the end: a window of 2 sees x[t] and x[t + 1].
    """
    if padding == "valid":
        return 0, 0
    if padding == "causal":
        return window - 1, 0
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def padded(x, spans, strides, padding, value=0):
    """x with the margins, filled with `value`, that windows of these spans need along the spatial axes."""
    widths = [margins(*axis, padding) for axis in zip(x.shape[1:-1], spans, strides)]
    return x if not np.any(widths) else np.pad(x, [(0, 0), *widths, (0, 0)], constant_values=value)


def taps(x, kernel_size, strides, dilation_rate):
    """For each tap yield (index into the kernel, what all windows see there: x[:, tap*d :: s] along each axis)."""
    spans = [reach(*axis) for axis in zip(kernel_size, dilation_rate)]
    counts = [count(*axis, "valid") for axis in zip(x.shape[1:-1], spans, strides)]
    for tap in np.ndindex(*kernel_size):
        starts = [k * dilation for k, dilation in zip(tap, dilation_rate)]
        steps = [slice(t, t + (n - 1) * s + 1, s) for t, n, s in zip(starts, counts, strides)]
        yield tap, x[(slice(None), *steps)]


# ---- layers ---------------------------------------------------------------------------------------------------------


class Spatial(BaseLayer):
    """A layer over the spatial axes of (B, *spatial, C), or with channels_first of (B, C, *spatial).

    The output has no mask: no version of Keras supports masks in these layers.

    Attributes
    ----------
    rank : int
        Spatial axes: 1 for a sequence, 2 for an image, 3 for a volume.
    """

    rank = 1
    passes_mask = False

    @property
    def channels_first(self):
        return self.config.get("data_format") == "channels_first"

    def channels_of(self, shape):
        return shape[1 if self.channels_first else -1]

    def output_shape(self, shape):
        self.require_rank(shape, self.rank + 2)
        spatial = shape[2:] if self.channels_first else shape[1:-1]
        channels, spatial = self.channels(self.channels_of(shape)), tuple(map(self.length, range(self.rank), spatial))
        if any(size is not None and size < 1 for size in spatial):
            self.fail(f"its input of shape {tuple(shape)} is too small: nothing would be left of it")
        return (shape[0], channels, *spatial) if self.channels_first else (shape[0], *spatial, channels)

    def channels(self, channels):
        """How many channels the output has, for that many in the input."""
        return channels

    def length(self, axis, size):
        """The size of a spatial axis of the output, for its size in the input; None: free."""
        return size

    def compute(self, x, mask):
        x = np.moveaxis(x, 1, -1) if self.channels_first else x
        self.check_room(x)
        y = self.slide(x)
        return np.moveaxis(y, -1, 1) if self.channels_first else y

    def check_room(self, x):
        """Raise InputError if x (B, *spatial, C) is too small for an output."""
        if any(self.length(axis, size) < 1 for axis, size in enumerate(x.shape[1:-1])):
            raise InputError(
                f"layer {self.name!r} ({self.class_name}): its input of {x.shape[1:-1]} steps is too small: nothing "
                f"would be left of it"
            )

    def slide(self, x):
        """x (B, *spatial, C) -> y (B, *spatial, C)."""
        raise NotImplementedError
