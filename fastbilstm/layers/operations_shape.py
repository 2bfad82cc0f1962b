"""Operations that move elements: reshaping, slicing, joining, splitting.

The specification, in NumPy. Arguments are named as in Keras 3.
"""

import numpy as np

from ..errors import InputError
from .base import REGISTRY, Spec
from .operation import avoids_batch_axis, operation, rank_of
from .operations import ExactOperation


def whole(value):
    """A whole number or a nested list of them, made from numbers or tensors."""
    if isinstance(value, (list, tuple)) and not hasattr(value, "array"):
        return [whole(item) for item in value]
    value = getattr(value, "array", value)
    return value if value is None else np.asarray(value).astype(np.int64).tolist()


class OnAxis(ExactOperation):
    """Rows stay independent unless the axis is the batch axis."""

    def keeps_rows_independent(self, named):
        return avoids_batch_axis(named.get("axis"), rank_of(named["x"]))


# ---- axes -----------------------------------------------------------------------------------------------------------


@operation("x", "axis")
class ExpandDims(ExactOperation):
    def keeps_rows_independent(self, named):
        axes = named["axis"] if isinstance(named["axis"], list) else [named["axis"]]
        return avoids_batch_axis(axes, rank_of(named["x"]) + len(axes))

    def operate(self, x, axis):
        return np.expand_dims(x, tuple(axis) if isinstance(axis, (list, tuple)) else axis)


@operation("x", "axis")
class Squeeze(OnAxis):
    def operate(self, x, axis=None):
        return np.squeeze(x, tuple(axis) if isinstance(axis, (list, tuple)) else axis)


@operation("x", "axes")
class Transpose(ExactOperation):
    def keeps_rows_independent(self, named):
        return bool(named.get("axes")) and named["axes"][0] == 0

    def operate(self, x, axes=None):
        return np.transpose(x, whole(axes) or None)


@operation("x")
class MatrixTranspose(ExactOperation):
    """The last two axes exchanged (TensorFlow)."""

    def keeps_rows_independent(self, named):
        return rank_of(named["x"]) > 2

    def operate(self, x):
        return np.swapaxes(x, -1, -2)


@operation("x", "axis1", "axis2")
class Swapaxes(ExactOperation):
    may_return_input = True

    def keeps_rows_independent(self, named):
        return avoids_batch_axis([named["axis1"], named["axis2"]], rank_of(named["x"]))

    def operate(self, x, axis1, axis2):
        return x if axis1 % x.ndim == axis2 % x.ndim else np.swapaxes(x, axis1, axis2)


@operation("x", "source", "destination")
class Moveaxis(ExactOperation):
    may_return_input = True

    def keeps_rows_independent(self, named):
        rank = rank_of(named["x"])
        return avoids_batch_axis(named["source"], rank) and avoids_batch_axis(named["destination"], rank)

    def operate(self, x, source, destination):
        pairs = zip(np.ravel(source), np.ravel(destination))
        return x if all(a % x.ndim == b % x.ndim for a, b in pairs) else np.moveaxis(x, source, destination)


@operation("x", "newshape")
class Reshape(ExactOperation):
    def keeps_rows_independent(self, named):
        shape, target = named["x"].shape, named["newshape"]
        if not isinstance(target, (list, tuple)) or not target or any(isinstance(size, Spec) for size in target):
            return False
        if target[0] not in (-1, None) or None in shape[1:] or any(not size or size < 0 for size in target[1:]):
            return False
        return int(np.prod(shape[1:])) == int(np.prod(target[1:]))

    def operate(self, x, newshape):
        target = [-1 if size is None else size for size in np.ravel(whole(newshape)).tolist()]
        if target.count(-1) == 1 and x.size == 0:
            # NumPy cannot tell the free size of an empty tensor.
            rest = int(np.prod([size for size in target if size != -1]))
            target[target.index(-1)] = 0 if not rest else x.size // rest
        return np.reshape(x, target)


@operation("x")
class Ravel(ExactOperation):
    def operate(self, x):
        return np.ravel(x)


@operation("x", "shape")
class BroadcastTo(ExactOperation):
    def operate(self, x, shape):
        return np.broadcast_to(x, np.ravel(whole(shape)).tolist())


@operation("x", "axis")
class Flip(OnAxis):
    def operate(self, x, axis=None):
        return np.flip(x, None if axis is None else tuple(np.ravel(whole(axis)).tolist()))


@operation("x", "shift", "axis")
class Roll(OnAxis):
    def operate(self, x, shift, axis=None):
        return np.roll(x, whole(shift), whole(axis))


@operation("x", "repeats", "axis")
class Repeat(OnAxis):
    def operate(self, x, repeats, axis=None):
        return np.repeat(x, whole(repeats), axis)


@operation("x", "repeats")
class Tile(ExactOperation):
    def keeps_rows_independent(self, named):
        repeats, rank = named["repeats"], rank_of(named["x"])
        given = isinstance(repeats, (list, tuple)) and all(isinstance(r, int) for r in repeats)
        return given and (len(repeats) < rank or (len(repeats) == rank and repeats[0] == 1))

    def operate(self, x, repeats):
        return np.tile(x, np.ravel(whole(repeats)).tolist())


@operation("x", "pad_width", "mode", "constant_values")
class Pad(ExactOperation):
    choices = {"mode": ("constant", "reflect", "symmetric")}

    def keeps_rows_independent(self, named):
        width = named["pad_width"]
        return isinstance(width, (list, tuple)) and width[0] in ([0, 0], (0, 0))

    def operate(self, x, pad_width, mode="constant", constant_values=None):
        width = whole(pad_width)
        if mode != "constant":
            return np.pad(x, width, mode)
        value = getattr(constant_values, "array", constant_values)
        return np.pad(x, width, mode, constant_values=np.asarray(value or 0).astype(x.dtype))


@operation("x", "k")
class Tril(ExactOperation):
    cut = staticmethod(np.tril)

    def keeps_rows_independent(self, named):
        return rank_of(named["x"]) > 2

    def operate(self, x, k=0):
        return self.cut(x, whole(k))


@operation("x", "k")
class Triu(Tril):
    cut = staticmethod(np.triu)


@operation("x", "num_lower", "num_upper")
class BandPart(Tril):
    """Keeps the diagonals of each matrix that lie between two bounds; a negative bound keeps all (TensorFlow)."""

    def operate(self, x, num_lower, num_upper):
        lower, upper = whole(num_lower), whole(num_upper)
        x = np.triu(x, -lower) if lower >= 0 else x
        return np.tril(x, upper) if upper >= 0 else x


# ---- slices ---------------------------------------------------------------------------------------------------------

ELLIPSIS, SLICE = "...", "slice"


@operation("x", "key")
class GetItem(ExactOperation):
    """x[key]. A key holds numbers, {"slice": [start, stop, step]}, "..." and None for a new axis."""

    shaping = ("key",)

    def keeps_rows_independent(self, named):
        keys = named["key"] if isinstance(named["key"], list) else [named["key"]]
        rank = rank_of(named["x"])
        plain = all(k is None or isinstance(k, (int, str)) or self.is_constant_slice(k) for k in keys)
        if not plain or not keys:
            return False
        if keys[0] == ELLIPSIS:
            return sum(k is not None for k in keys[1:]) < rank
        return keys[0] == {SLICE: [None, None, None]}

    def shaping_part(self, value):
        return [key for key in (value if isinstance(value, list) else [value]) if isinstance(key, dict)]

    @staticmethod
    def is_constant_slice(key):
        return isinstance(key, dict) and all(part is None or isinstance(part, int) for part in key[SLICE])

    def operate(self, x, key):
        keys = key if isinstance(key, list) else [key]
        return x[tuple(self.index(k, x, number) for number, k in enumerate(keys))]

    def index(self, key, x, number):
        if isinstance(key, dict):
            return slice(*whole(key[SLICE]))
        if key is None:
            return None
        if isinstance(key, str):
            return Ellipsis
        key = np.asarray(getattr(key, "array", key))
        if key.dtype == bool or key.ndim:
            raise InputError(f"layer {self.name!r} ({self.class_name}): indexing with a tensor is not supported")
        return int(key)


@operation("inputs", "start_indices", "shape")
class Slice(ExactOperation):
    """`shape` elements from `start_indices` on; -1 means all that follow (TensorFlow)."""

    def keeps_rows_independent(self, named):
        start, shape = named["start_indices"], named["shape"]
        lists = isinstance(start, (list, tuple)) and isinstance(shape, (list, tuple))
        return lists and start[0] == 0 and shape[0] == -1

    def operate(self, inputs, start_indices, shape):
        starts, sizes = np.ravel(whole(start_indices)).tolist(), np.ravel(whole(shape)).tolist()
        for start, size, there in zip(starts, sizes, inputs.shape):
            if not 0 <= start <= start + max(size, 0) <= there:
                raise ValueError(f"a slice of {size} from {start} on leaves an axis of size {there}")
        ends = [None if size == -1 else start + size for start, size in zip(starts, sizes)]
        return inputs[tuple(map(slice, starts, ends))]


# ---- joining and splitting ------------------------------------------------------------------------------------------


def join_rows(axis, xs, extra=0):
    ranks = {rank_of(x) for x in xs}
    return len(ranks) == 1 and all(isinstance(x, Spec) for x in xs) and avoids_batch_axis(axis, ranks.pop() + extra)


@operation("xs", "axis")
class Concatenate(ExactOperation):
    def keeps_rows_independent(self, named):
        return join_rows(named.get("axis", 0), named["xs"])

    def operate(self, xs, axis=0):
        return np.concatenate(self.promote_tensors(*xs), axis=whole(axis))


@operation("x", "axis")
class Stack(ExactOperation):
    def keeps_rows_independent(self, named):
        return join_rows(named.get("axis", 0), named["x"], extra=1)

    def operate(self, x, axis=0):
        return np.stack(self.promote(*x), axis=axis)


@operation("xs")
class Hstack(ExactOperation):
    def keeps_rows_independent(self, named):
        return join_rows(1, named["xs"])

    def operate(self, xs):
        return np.hstack(self.promote(*xs))


@operation("xs")
class Vstack(ExactOperation):
    def operate(self, xs):
        return np.concatenate(self.promote(*xs), axis=0)


@operation("x1", "x2", "axis")
class Append(ExactOperation):
    def keeps_rows_independent(self, named):
        return join_rows(named.get("axis"), [named["x1"], named["x2"]])

    def operate(self, x1, x2, axis=None):
        return np.append(*self.promote_tensors(x1, x2), axis=axis)


@operation("x", "indices_or_sections", "axis")
class Split(OnAxis):
    """At indices, or into equal parts."""

    def keeps_rows_independent(self, named):
        return avoids_batch_axis(named.get("axis", 0), rank_of(named["x"]))

    def operate(self, x, indices_or_sections, axis=0):
        return np.split(x, whole(indices_or_sections), axis)


@operation("x", "sizes", "axis")
class SplitSizes(Split):
    """Into equal parts, or parts of given sizes, of which one may be -1 (TensorFlow)."""

    def operate(self, x, sizes, axis=0):
        sizes = whole(sizes)
        if isinstance(sizes, list):
            left = x.shape[axis] - sum(size for size in sizes if size != -1)
            sizes = [left if size == -1 else size for size in sizes]
            if sum(sizes) != x.shape[axis]:
                raise ValueError(f"parts of sizes {sizes} do not make an axis of size {x.shape[axis]}")
            return np.split(x, np.cumsum(sizes)[:-1], axis)
        return np.split(x, sizes, axis)


@operation("x", "num", "axis")
class Unstack(Split):
    def operate(self, x, num=None, axis=0):
        return [np.squeeze(part, axis) for part in np.split(x, x.shape[axis], axis)]


REGISTRY["ops.Copy"] = type("Copy", (REGISTRY["ops.StopGradient"],), {"__module__": __name__})
