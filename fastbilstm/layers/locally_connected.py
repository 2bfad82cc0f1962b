"""LocallyConnected1D and LocallyConnected2D, convolutions whose windows have kernels of their own: the specification.

The three implementations of tf.keras compute the same from arrays of other shapes; all are turned into one kernel for
each window. Imports NumPy.
"""

import functools
import math

import numpy as np

from .base import Option, activation, boolean, choice, integer, register
from .convolution import is_foreign
from .windows import DATA_FORMAT, Spatial, count, sizes, taps


def options(rank):
    return {
        "filters": Option(integer(1)),
        "kernel_size": Option(sizes(rank)),
        "strides": Option(sizes(rank), [1] * rank),
        "padding": Option(choice("valid", "same"), "valid"),
        "data_format": DATA_FORMAT,
        "activation": Option(activation, None),
        "use_bias": Option(boolean, True),
        "implementation": Option(choice(1, 2, 3), 1),
    }


class LocallyConnected(Spatial):
    """y[p] = x[window p].kernel[p] + bias[p]; bias (*windows, F).

    The kernel of implementation 1 is (windows, taps * C, F). That of 2 is (*spatial, C, *windows, F), of which only
    what lies inside a window counts. That of 3 is a list of what counts, sorted by output, then by input. With
    channels_first, C and F stand before the spatial axes.
    """

    ignored = ("input_dim",)
    own_kernels = None

    @classmethod
    def check_config(cls, config, version):
        yield from super().check_config(config, version)
        if config["activation"] == "glu":
            yield "activation", "glu", "halves the number of filters, which is not supported"
        if config["padding"] == "same" and config["implementation"] == 1:
            yield "padding", "same", "with implementation=1 is nothing Keras computes"
        if is_foreign(version):
            yield "padding", config["padding"], f"was computed by {version.backend}, which is not supported"
        if version.framework == "keras1" and config["data_format"] == "channels_first":
            yield "data_format", "channels_first", "of Keras 1 is not supported"

    def length(self, axis, size):
        return count(size, self.kernel_size[axis], self.strides[axis], self.padding)

    def channels(self, channels):
        return self.filters

    def output_shape(self, shape):
        output = super().output_shape(shape)
        if None in output[1:]:
            self.fail(
                f"its input has shape {tuple(shape)}; each position has weights of its own, so no size may be free"
            )
        return output

    def weight_shapes(self, shapes):
        free = (None,) * self.rank
        shape = shapes[0] if shapes else (None, *free, None)
        spatial, channels = (shape[2:] if self.channels_first else shape[1:-1]), self.channels_of(shape)
        lengths = tuple(map(self.length, range(self.rank), spatial))
        known = None not in (*spatial, channels)
        if self.implementation == 1:
            taps = math.prod(self.kernel_size)
            kernel = (math.prod(lengths) if known else None, taps * channels if known else None, self.filters)
        elif self.implementation == 2:
            first = self.channels_first
            kernel = (
                (channels, *spatial, self.filters, *lengths) if first else (*spatial, channels, *lengths, self.filters)
            )
        else:
            kernel = (int(self.inside(spatial).sum()) * channels * self.filters if known else None,)
        return {"kernel": kernel, **({"bias": (*lengths, self.filters)} if self.use_bias else {})}

    # ---- windows

    def places(self, axis, size):
        """(windows, taps): where each tap of each window lies along an axis; "same" centres the windows."""
        before = self.kernel_size[axis] // 2 if self.padding == "same" else 0
        starts = np.arange(self.length(axis, size)) * self.strides[axis] - before
        return starts[:, np.newaxis] + np.arange(self.kernel_size[axis])

    def grid(self, spatial):
        """`places` of each axis, to be broadcast to (*windows, *taps)."""
        for axis, size in enumerate(spatial):
            places = self.places(axis, size)
            shape = [1] * 2 * self.rank
            shape[axis], shape[self.rank + axis] = places.shape
            yield places.reshape(shape), size

    def inside(self, spatial):
        """(*windows, *taps): whether a tap lies inside the input."""
        return functools.reduce(np.logical_and, ((at >= 0) & (at < size) for at, size in self.grid(spatial)))

    # ---- kernels

    def kernels(self, spatial):
        """(windows, taps * C, F): the kernel of each window, 0 beyond the ends."""
        if self.own_kernels is None:
            make = {1: self.kernels_side_by_side, 2: self.kernels_of_matrix, 3: self.kernels_of_list}
            kernel = make[self.implementation](spatial)
            self.own_kernels = kernel.reshape(math.prod(kernel.shape[: self.rank]), -1, self.filters)
        return self.own_kernels

    def kernels_side_by_side(self, spatial):
        windows = map(self.length, range(self.rank), spatial)
        kernel, size = self.weights["kernel"], self.kernel_size
        if not self.channels_first:
            return kernel.reshape(*windows, *size, -1, self.filters)
        return np.moveaxis(kernel.reshape(*windows, -1, *size, self.filters), self.rank, -2)

    def kernels_of_matrix(self, spatial):
        kernel = self.weights["kernel"]
        if self.channels_first:
            kernel = np.moveaxis(kernel, (0, 1 + self.rank), (self.rank, -1))
        grid = [np.clip(places, 0, size - 1) for places, size in self.grid(spatial)]
        lengths = kernel.shape[self.rank + 1 : -1]
        windows = np.indices(lengths).reshape(self.rank, *lengths, *[1] * self.rank)
        return np.where(self.inside(spatial)[..., np.newaxis, np.newaxis], kernel[(*grid, slice(None), *windows)], 0)

    def kernels_of_list(self, spatial):
        inside, values, rank = self.inside(spatial), self.weights["kernel"], self.rank
        windows, size = inside.shape[:rank], inside.shape[rank:]
        channels = values.size // (int(inside.sum()) * self.filters)
        if self.channels_first:  # (F, *windows, C, *taps)
            shape, mask = (self.filters, *windows, channels, *size), np.expand_dims(inside, (0, 1 + rank))
            axes = (*range(1, 1 + rank), *range(2 + rank, 2 + 2 * rank), 1 + rank, 0)
        else:  # (*windows, F, *taps, C)
            shape, mask = (*windows, self.filters, *size, channels), np.expand_dims(inside, (rank, 2 * rank + 1))
            axes = (*range(rank), *range(rank + 1, 2 * rank + 1), 2 * rank + 1, rank)
        kernel = np.zeros(shape, values.dtype)
        kernel[np.broadcast_to(mask, shape)] = values
        return np.transpose(kernel, axes)

    def slide(self, x):
        spatial = x.shape[1:-1]
        ends = [(max(-places.min(), 0), max(places.max() + 1 - size, 0)) for places, size in self.grid(spatial)]
        x = np.pad(x, [(0, 0), *ends, (0, 0)])
        parts = [part for _, part in taps(x, self.kernel_size, self.strides, [1] * self.rank)]
        columns, windows = np.stack(parts, axis=-2), parts[0].shape[1:-1]
        kernels = self.kernels(spatial)
        columns = columns.reshape(len(x), *kernels.shape[:2])
        y = np.swapaxes(np.swapaxes(columns, 0, 1) @ kernels, 0, 1).reshape(len(x), *windows, self.filters)
        if not self.use_bias:
            return y
        bias = self.weights["bias"]
        if self.channels_first:  # where Keras reshapes (*windows, F) to (F, *windows) without moving an axis
            bias = np.moveaxis(bias.reshape(self.filters, *windows), 0, -1)
        return y + bias

    def compute(self, x, mask):
        return self.activation_function()(super().compute(x, mask))


@register
class LocallyConnected1D(LocallyConnected):
    options = options(1)


@register
class LocallyConnected2D(LocallyConnected):
    rank = 2
    options = options(2)
