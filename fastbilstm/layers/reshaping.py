"""Pooling over time and changes of shape. No output has a mask, as in Keras. The specification, in NumPy."""

import numpy as np

from ..errors import InputError
from .base import BaseLayer, Option, boolean, choice, integer, integers, register


class GlobalPooling1D(BaseLayer):
    passes_mask = False
    options = {
        "data_format": Option(choice("channels_last", "channels_first", None), "channels_last"),
        "keepdims": Option(boolean, False),
    }

    @property
    def time_axis(self):
        return 2 if self.data_format == "channels_first" else 1

    def output_shape(self, shape):
        self.require_rank(shape, 3)
        reduced = list(shape)
        reduced[self.time_axis] = 1
        return tuple(size for axis, size in enumerate(reduced) if self.keepdims or axis != self.time_axis)


@register
class GlobalAveragePooling1D(GlobalPooling1D):
    def compute(self, x, mask):
        axis = self.time_axis
        if mask is None:
            return np.mean(x, axis=axis, keepdims=self.keepdims)
        keep = np.asarray(mask).astype(bool)
        if keep.ndim != 2 or any(m not in (1, n) for m, n in zip(keep.shape, (x.shape[0], x.shape[axis]))):
            raise InputError(f"layer {self.name!r} ({self.class_name}): mask {keep.shape} for an input {x.shape}")
        keep = np.expand_dims(keep, 3 - axis)
        x = np.where(keep, x, 0) if self.version.is_keras3 and self.version.version >= (3, 15) else x * keep
        count = np.sum(keep.astype(x.dtype), axis=axis, keepdims=self.keepdims)
        # A row without any timestep gives 0/0 = NaN, as in Keras.
        return np.sum(x, axis=axis, keepdims=self.keepdims) / count


@register
class GlobalMaxPooling1D(GlobalPooling1D):
    """Takes the maximum over all timesteps, masked ones too, as Keras does."""

    exact = True
    casts_input = False

    def compute(self, x, mask):
        return np.max(x, axis=self.time_axis, keepdims=self.keepdims)


def product(sizes):
    """The product of sizes; None if one of them is None."""
    total = 1
    for size in sizes:
        if size is None:
            return None
        total *= size
    return total


@register
class Flatten(BaseLayer):
    exact = True
    passes_mask = False
    casts_input = False
    options = {"data_format": Option(choice("channels_last", "channels_first", None), "channels_last")}

    def output_shape(self, shape):
        return (shape[0], product(shape[1:]))

    def compute(self, x, mask):
        if self.data_format == "channels_first" and x.ndim > 2:
            x = np.moveaxis(x, 1, -1)
        return np.reshape(x, (x.shape[0], int(np.prod(x.shape[1:]))))


@register
class Reshape(BaseLayer):
    exact = True
    passes_mask = False
    casts_input = False
    options = {"target_shape": Option(integers)}

    def target(self, shape):
        known = product(size for size in self.target_shape if size != -1)
        total = product(shape)
        if self.target_shape.count(-1) > 1 or known is None or known < 0:
            self.fail(f"target_shape is {self.target_shape}")
        if total is None:
            return tuple(None if size == -1 else size for size in self.target_shape)
        if -1 in self.target_shape:
            free = total // known if known else 0
        else:
            free = None
        target = tuple(free if size == -1 else size for size in self.target_shape)
        if product(target) != total:
            self.fail(f"target_shape is {self.target_shape}, which does not hold the sizes {tuple(shape)}")
        return target

    def output_shape(self, shape):
        return (shape[0], *self.target(shape[1:]))

    def compute(self, x, mask):
        return np.reshape(x, (x.shape[0], *self.target(x.shape[1:])))


@register
class Permute(BaseLayer):
    exact = True
    passes_mask = False
    casts_input = False
    options = {"dims": Option(integers)}

    def output_shape(self, shape):
        if sorted(self.dims) != list(range(1, len(shape))):
            self.fail(f"dims is {self.dims} for an input of shape {shape}")
        return (shape[0], *(shape[axis] for axis in self.dims))

    def compute(self, x, mask):
        return np.transpose(x, (0, *self.dims))


@register
class RepeatVector(BaseLayer):
    exact = True
    passes_mask = False
    casts_input = False
    options = {"n": Option(integer(1))}

    def output_shape(self, shape):
        self.require_rank(shape, 2)
        return (shape[0], self.n, shape[1])

    def compute(self, x, mask):
        return np.repeat(x[:, np.newaxis], self.n, axis=1)
