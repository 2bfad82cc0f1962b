"""Operations that take elements by index, or make tensors from sizes. The specification, in NumPy.

Arguments are named as in Keras 3.
"""

import numpy as np

from ..errors import InputError
from .base import Spec
from .operation import TRIALS, Tried, avoids_batch_axis, known, operation, rank_of
from .operations import DTYPES, ExactOperation
from .operations_shape import whole


def checked(layer, indices, size):
    """Indices as whole numbers; Keras 3 counts negative ones from the end, TensorFlow refuses them."""
    indices = np.asarray(getattr(indices, "array", indices)).astype(np.int64)
    if layer.version.is_keras3:
        indices = np.where(indices < 0, indices + size, indices)
    if indices.size and not 0 <= indices.min() <= indices.max() < size:
        raise InputError(f"layer {layer.name!r} ({layer.class_name}): an index lies outside 0 to {size - 1}")
    return indices


@operation("x", "indices", "axis", "batch_dims")
class Take(ExactOperation):
    def keeps_rows_independent(self, named):
        x, indices, axis = named["x"], named["indices"], named.get("axis")
        if not isinstance(x, Spec):
            # Rows of a constant table.
            return isinstance(indices, Spec) and axis in (None, 0)
        return not isinstance(indices, Spec) and avoids_batch_axis(axis, rank_of(x))

    def operate(self, x, indices, axis=None, batch_dims=0):
        (x,) = self.promote(x)
        axis = whole(axis)
        if axis is None and self.version.is_keras3:
            x, axis = np.ravel(x), 0
        axis = batch_dims if axis is None else axis % x.ndim
        indices = checked(self, indices, x.shape[axis])
        if not batch_dims:
            return np.take(x, indices, axis)
        batch_dims = batch_dims % indices.ndim
        lead = x.shape[:batch_dims]
        parts = [
            np.take(part, index, axis - batch_dims)
            for part, index in zip(
                np.reshape(x, (-1, *x.shape[batch_dims:])), np.reshape(indices, (-1, *indices.shape[batch_dims:]))
            )
        ]
        return np.reshape(np.stack(parts), (*lead, *parts[0].shape))


@operation("x", "indices", "axis")
class TakeAlongAxis(ExactOperation):
    def keeps_rows_independent(self, named):
        x, indices = named["x"], named["indices"]
        both = isinstance(x, Spec) and isinstance(indices, Spec) and rank_of(x) == rank_of(indices)
        return both and avoids_batch_axis(named.get("axis"), rank_of(x))

    def operate(self, x, indices, axis=None):
        size = x.size if axis is None else x.shape[axis]
        indices = checked(self, indices, size)
        if axis is None:
            return np.ravel(x)[indices]
        axis = axis % x.ndim
        lead = np.broadcast_shapes(*(s.shape[:axis] + (1,) + s.shape[axis + 1 :] for s in (x, indices)))
        wide = [np.broadcast_to(part, (*lead[:axis], part.shape[axis], *lead[axis + 1 :])) for part in (x, indices)]
        return np.take_along_axis(*wide, axis)


@operation("x", "indices", "batch_dims")
class GatherNd(ExactOperation):
    choices = {"batch_dims": (0, None)}

    def operate(self, x, indices, batch_dims=0):
        indices = np.asarray(getattr(indices, "array", indices)).astype(np.int64)
        parts = [checked(self, indices[..., k], x.shape[k]) for k in range(indices.shape[-1])]
        return x[tuple(parts)]


@operation("x", "num_classes", "axis", "dtype", "sparse", "on_value", "off_value")
class OneHot(ExactOperation):
    """Numbers outside 0..num_classes-1 give zeros."""

    choices = {"dtype": DTYPES, "sparse": (False, None)}

    def keeps_rows_independent(self, named):
        return avoids_batch_axis(named.get("axis", -1), rank_of(named["x"]) + 1)

    def operate(self, x, num_classes, axis=-1, dtype=None, sparse=False, on_value=None, off_value=None):
        (x,) = self.promote(x)
        dtype = self.floatx if dtype is None else self.named_dtype(dtype)
        hot = x.astype(np.int64)[..., np.newaxis] == np.arange(whole(num_classes))
        on, off = (1 if on_value is None else on_value), (0 if off_value is None else off_value)
        return np.moveaxis(np.where(hot, np.asarray(on, dtype), np.asarray(off, dtype)), -1, axis)


# ---- tensors made of shapes (TensorFlow) ----------------------------------------------------------------------------


class OfShape(ExactOperation):
    """Operations whose result depends on the sizes of the input, also on that of the batch."""

    rows_independent = False


@operation("x", "dtype")
class Shape(OfShape):
    choices = {"dtype": ("int32", "int64", None)}

    def operate(self, x, dtype=None):
        return np.asarray(self.measure(np.shape(x)), dtype or "int32")

    def measure(self, shape):
        return shape

    def infer_operation(self, args, kwargs):
        (spec,) = super().infer_operation(args, kwargs)
        if known(spec) is None:
            x = self.arguments(args, kwargs)
            pair = tuple(self.try_out(x, k, *free)[0] for k, free in enumerate(TRIALS))
            spec = Tried.of(spec.shape, False, spec.dtype, spec.tried, pair)
        return [spec]


@operation("x", "dtype")
class Size(Shape):
    def measure(self, shape):
        return int(np.prod(shape))


@operation("x", "dtype")
class Rank(Shape):
    def measure(self, shape):
        return len(shape)


@operation("shape", "fill_value", "dtype")
class Full(OfShape):
    choices = {"dtype": DTYPES}

    def operate(self, shape, fill_value, dtype=None):
        (value,) = self.promote(fill_value)
        shape = np.ravel(whole(shape)).astype(int).tolist()
        return np.full(shape, value if dtype is None else value.astype(self.named_dtype(dtype)))


@operation("shape", "dtype")
class Zeros(Full):
    value = 0

    def operate(self, shape, dtype="float32"):
        return super().operate(shape, self.value, dtype or "float32")


@operation("shape", "dtype")
class Ones(Zeros):
    value = 1


@operation("start", "stop", "step", "dtype")
class Arange(OfShape):
    choices = {"dtype": DTYPES}
    shaping = ("start", "stop", "step")

    def operate(self, start, stop=None, step=None, dtype=None):
        if stop is None:
            start, stop = 0, start
        start, stop, step = self.promote(start, stop, 1 if step is None else step)
        return np.arange(start, stop, step, start.dtype if dtype is None else self.named_dtype(dtype))


@operation("lengths", "maxlen", "dtype")
class SequenceMask(ExactOperation):
    """True for the first `lengths` of `maxlen` places."""

    tensors = ("lengths",)
    choices = {"dtype": DTYPES}
    shaping = ("maxlen",)

    def keeps_rows_independent(self, named):
        return named.get("maxlen") is not None and rank_of(named["lengths"]) > 0

    def operate(self, lengths, maxlen, dtype="bool"):
        maxlen = whole(maxlen)
        return (np.arange(maxlen) < np.asarray(lengths)[..., np.newaxis]).astype(self.named_dtype(dtype or "bool"))
