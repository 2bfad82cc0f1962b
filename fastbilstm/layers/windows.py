"""Windows that slide along the axes of a sequence or an image: what convolutions and poolings have in common.

Everything is stated for channels last, x (B, *spatial, C) with one spatial axis (time) or two (height and width);
`Spatial` moves the channels of a channels_first layer there and back. Imports NumPy.
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

    For time an int means both, for an image an int means all four and (a, b) means ((a, a), (b, b)).
    """
    if rank == 1:
        return sizes(2, 0)

    def check(value):
        values = list(value) if isinstance(value, (list, tuple)) else [value] * rank
        if len(values) != rank:
            raise ValueError("expected a whole number, two of them, or two pairs of them")
        return [sizes(2, 0)(v) for v in values]

    return check


# ---- windows --------------------------------------------------------------------------------------------------------


def reach(size, dilation):
    """Positions a window of `size` taps spans when they lie `dilation` apart."""
    return (size - 1) * dilation + 1


def count(size, window, stride, padding):
    """How many windows fit along an axis: None for an axis of free size; 0 or less if there is no room for one."""
    if size is None:
        return None
    return (size - window) // stride + 1 if padding == "valid" else -(-size // stride)


def margins(size, window, stride, padding):
    """Positions that are added (before, after) an axis so that `count` windows fit.

    "same" splits them in half, the odd one goes behind: a window of 2 sees x[t] and x[t + 1].
    """
    if padding == "valid":
        return 0, 0
    if padding == "causal":
        return window - 1, 0
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def padded(x, spans, strides, padding, value=0):
    """x with the margins that windows of these spans need along its spatial axes, filled with `value`."""
    widths = [margins(*axis, padding) for axis in zip(x.shape[1:-1], spans, strides)]
    return x if not np.any(widths) else np.pad(x, [(0, 0), *widths, (0, 0)], constant_values=value)


def taps(x, kernel_size, strides, dilation_rate):
    """Yield (tap, what all windows see at that tap): an index into the kernel and x[:, tap*d :: s] of each axis."""
    spans = [reach(*axis) for axis in zip(kernel_size, dilation_rate)]
    counts = [count(*axis, "valid") for axis in zip(x.shape[1:-1], spans, strides)]
    for tap in np.ndindex(*kernel_size):
        starts = [k * dilation for k, dilation in zip(tap, dilation_rate)]
        steps = [slice(t, t + (n - 1) * s + 1, s) for t, n, s in zip(starts, counts, strides)]
        yield tap, x[(slice(None), *steps)]


# ---- layers ---------------------------------------------------------------------------------------------------------


class Spatial(BaseLayer):
    """A layer over the spatial axes of (B, *spatial, C), or of (B, C, *spatial) if its data_format says so.

    Masks end here: none of these layers supports them, in any version.

    Attributes
    ----------
    rank : int
        Spatial axes: 1 for a sequence, 2 for an image.
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
        """How many channels come out of so many."""
        return channels

    def length(self, axis, size):
        """The size of a spatial axis of the output, for that of the input; None is free."""
        return size

    def compute(self, x, mask):
        x = np.moveaxis(x, 1, -1) if self.channels_first else x
        self.check_room(x)
        y = self.slide(x)
        return np.moveaxis(y, -1, 1) if self.channels_first else y

    def check_room(self, x):
        """InputError if x (B, *spatial, C) is too small for the layer to give anything."""
        if any(self.length(axis, size) < 1 for axis, size in enumerate(x.shape[1:-1])):
            raise InputError(
                f"layer {self.name!r} ({self.class_name}): its input of {x.shape[1:-1]} steps is too small: nothing "
                f"would be left of it"
            )

    def slide(self, x):
        """x (B, *spatial, C) -> y (B, *spatial, C)."""
        raise NotImplementedError
