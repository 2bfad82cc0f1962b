"""The `keras.ops` nodes that carry masks: Keras 3 writes them into functional configs beside the layers.

They are known as "ops.<Name>", because some share their name with a layer. The specification, in NumPy.
"""

import numpy as np

from .base import REGISTRY, Spec
from .core import round_to
from .functional import Operation


def constant(x):
    """An operand; Keras makes a float32 tensor of a number, whatever it is compared with."""
    return np.float32(x) if isinstance(x, float) else x


def operation(*parameters):
    """Class decorator: register under "ops.<class name>" with the names of the call's parameters."""

    def decorate(cls):
        cls.parameters = parameters
        REGISTRY["ops." + cls.__name__] = cls
        return cls

    return decorate


@operation("x1", "x2")
class NotEqual(Operation):
    def operate(self, x1, x2):
        return constant(x1) != constant(x2)


@operation("x1", "x2")
class Equal(Operation):
    def operate(self, x1, x2):
        return constant(x1) == constant(x2)


@operation("x1", "x2")
class LogicalOr(Operation):
    def operate(self, x1, x2):
        return np.logical_or(x1, x2)


@operation("x1", "x2")
class LogicalAnd(Operation):
    def operate(self, x1, x2):
        return np.logical_and(x1, x2)


@operation("x")
class LogicalNot(Operation):
    def operate(self, x):
        return np.logical_not(x)


class Reduction(Operation):
    """any / all along an axis."""

    def shape(self, named, shapes):
        shape = list(shapes["x"])
        axes = named.get("axis")
        axes = range(len(shape)) if axes is None else axes if isinstance(axes, (list, tuple)) else [axes]
        axes = {axis % len(shape) for axis in axes}
        keep = named.get("keepdims", False)
        return [1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes]

    def operate(self, x, axis=None, keepdims=False):
        axis = tuple(axis) if isinstance(axis, list) else axis
        return self.reduce(x, axis=axis, keepdims=bool(keepdims))


@operation("x", "axis", "keepdims")
class Any(Reduction):
    reduce = staticmethod(np.any)


@operation("x", "axis", "keepdims")
class All(Reduction):
    reduce = staticmethod(np.all)


@operation("x", "axis")
class ExpandDims(Operation):
    def shape(self, named, shapes):
        shape = list(shapes["x"])
        axis = named["axis"]
        shape.insert(axis if axis >= 0 else axis + len(shape) + 1, 1)
        return shape

    def operate(self, x, axis):
        return np.expand_dims(x, axis)


class Like(Operation):
    def shape(self, named, shapes):
        return shapes["x"]

    def operate(self, x, dtype=None):
        if dtype not in (None, "bool"):
            self.fail(f"dtype is {dtype!r}; fastbilstm knows this operation for masks (bool)")
        return self.fill(x, dtype=x.dtype if dtype is None else np.bool_)


@operation("x", "dtype")
class OnesLike(Like):
    fill = staticmethod(np.ones_like)


@operation("x", "dtype")
class ZerosLike(Like):
    fill = staticmethod(np.zeros_like)


@operation("x", "dtype")
class ConvertToTensor(Like):
    fill = staticmethod(lambda x, dtype: x.astype(dtype, copy=False))


@operation("x", "dtype")
class Cast(Like):
    """To half precision it rounds: Keras 3 casts the input of Masking so, and masks what is then equal."""

    def operate(self, x, dtype):
        if dtype in ("float16", "bfloat16"):
            return round_to(dtype, x.astype(self.dtype, copy=False))
        if dtype in ("float32", "float64"):
            return x.astype(self.dtype, copy=False)
        if dtype not in ("bool", "int32", "int64"):
            self.fail(f"dtype is {dtype!r}, which is not supported")
        return x.astype(dtype, copy=False)


@operation("xs", "axis")
class Concatenate(Operation):
    def infer_operation(self, args, kwargs):
        named = self.arguments(args, kwargs)
        shapes = [spec.shape for spec in named["xs"]]
        axis = named.get("axis", 0) % len(shapes[0])
        sizes = [shape[axis] for shape in shapes]
        shape = list(shapes[0])
        shape[axis] = None if None in sizes else sum(sizes)
        return [Spec(tuple(shape))]

    def operate(self, xs, axis=0):
        return np.concatenate(xs, axis=axis)
