"""Operations along axes, and products: sums, extremes, norms, cumulative sums, sorting, matmul, einsum.

The specification, in NumPy. Arguments are named as in Keras 3.
"""

import numpy as np

from .base import REGISTRY, Spec
from .operation import Operation, avoids_batch_axis, operation, rank_of, same_rows
from .operations import DTYPES, AlongAxis
from .operations_shape import whole

# Keras' default epsilon, and the one in tf.math.l2_normalize.
EPSILON, L2_EPSILON = 1e-7, 1e-12


def axes_of(axis):
    """An axis argument as None, a number, or a tuple of numbers."""
    axis = whole(axis)
    return tuple(axis) if isinstance(axis, list) else axis


class Reduction(Operation):
    """`reduce(x, axis, keepdims)` along one axis, several axes, or all."""

    reduce = None

    def keeps_rows_independent(self, named):
        return avoids_batch_axis(named.get("axis"), rank_of(named["x"]))

    def prepare(self, x):
        (x,) = self.promote(x)
        return x

    def operate(self, x, axis=None, keepdims=False):
        return self.reduce(self.prepare(x), axes_of(axis), bool(keepdims))


def summed(x):
    """Booleans and small whole numbers as 32-bit integers, in which Keras 3 adds them."""
    if x.dtype.kind not in "bui" or x.dtype.itemsize > 2:
        return x
    return x.astype(np.uint32 if x.dtype.kind == "u" else np.int32)


@operation("x", "axis", "keepdims")
class Sum(Reduction):
    function = staticmethod(np.sum)

    def reduce(self, x, axis, keepdims):
        x = summed(x) if self.version.is_keras3 else x
        return self.function(x, axis=axis, keepdims=keepdims, dtype=x.dtype)


@operation("x", "axis", "keepdims", "dtype")
class Prod(Sum):
    function = staticmethod(np.prod)
    choices = {"dtype": (None,)}

    def operate(self, x, axis=None, keepdims=False, dtype=None):
        return super().operate(x, axis, keepdims)


@operation("x", "axis", "keepdims")
class Mean(Reduction):
    def reduce(self, x, axis, keepdims):
        if x.dtype.kind == "f" or self.version.is_keras3:
            return np.mean(self.as_float(x), axis=axis, keepdims=keepdims)
        # In TensorFlow the mean of whole numbers is a whole number, rounded towards zero.
        total = np.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype)
        return np.trunc(total / max(x.size // max(total.size, 1), 1)).astype(x.dtype)


@operation("x", "axis", "keepdims")
class Var(Reduction):
    function = staticmethod(np.var)

    def reduce(self, x, axis, keepdims):
        return self.function(self.as_float(x), axis=axis, keepdims=keepdims)


@operation("x", "axis", "keepdims")
class Std(Var):
    function = staticmethod(np.std)


class Extreme(Reduction):
    exact = True
    function = None

    def reduce(self, x, axis, keepdims):
        return self.function(x, axis=axis, keepdims=keepdims)


@operation("x", "axis", "keepdims", "initial")
class Max(Extreme):
    function, pair = staticmethod(np.max), staticmethod(np.maximum)

    def operate(self, x, axis=None, keepdims=False, initial=None):
        y = super().operate(x, axis, keepdims)
        return y if initial is None else self.pair(y, np.asarray(initial, y.dtype))


@operation("x", "axis", "keepdims", "initial")
class Min(Max):
    function, pair = staticmethod(np.min), staticmethod(np.minimum)


@operation("x", "axis", "keepdims")
class Any(Extreme):
    function = staticmethod(np.any)


@operation("x", "axis", "keepdims")
class All(Extreme):
    function = staticmethod(np.all)


@operation("x", "axis", "keepdims", "dtype")
class CountNonzero(Reduction):
    exact = True
    choices = {"dtype": ("int32", "int64", None)}

    def operate(self, x, axis=None, keepdims=False, dtype=None):
        dtype = dtype or ("int32" if self.version.is_keras3 else "int64")
        return np.asarray(np.count_nonzero(x, axis=axes_of(axis), keepdims=bool(keepdims))).astype(dtype)


@operation("x", "axis", "keepdims", "output_type")
class Argmax(Reduction):
    exact = True
    function = staticmethod(np.argmax)
    choices = {"output_type": ("int32", "int64", None)}

    def operate(self, x, axis=None, keepdims=False, output_type=None):
        if x.dtype.kind == "f" and self.version.is_keras3 and x.ndim:
            # Keras 3 ranks -0.0 below 0.0.
            x = np.where((x == 0) & np.signbit(x), -np.finfo(x.dtype).tiny, x)
        if axis is None and not self.version.is_keras3:
            axis = 0
        dtype = output_type or ("int32" if self.version.is_keras3 else "int64")
        return self.function(x, axis=whole(axis), keepdims=bool(keepdims)).astype(dtype)

    def keeps_rows_independent(self, named):
        return avoids_batch_axis(named.get("axis"), rank_of(named["x"]))


@operation("x", "axis", "keepdims", "output_type")
class Argmin(Argmax):
    function = staticmethod(np.argmin)


@operation("x", "axis", "keepdims")
class Logsumexp(Reduction):
    def reduce(self, x, axis, keepdims):
        x = self.as_float(x)
        top = np.max(x, axis=axis, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)
        y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
        if keepdims:
            return y
        return np.squeeze(y, axis=tuple(range(x.ndim)) if axis is None else axis)


def norm(x, order, axis, keepdims):
    """The Euclidean norm, or that of another order along one axis."""
    if order in (None, "euclidean", "fro") or (order == 2 and np.size(axis) == 1 and axis is not None):
        return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))
    if order in (np.inf, -np.inf):
        return (np.max if order > 0 else np.min)(np.abs(x), axis=axis, keepdims=keepdims)
    if order == 1:
        return np.sum(np.abs(x), axis=axis, keepdims=keepdims)
    if order == 0:
        return np.sum((x != 0).astype(x.dtype), axis=axis, keepdims=keepdims)
    return np.sum(np.abs(x) ** x.dtype.type(order), axis=axis, keepdims=keepdims) ** x.dtype.type(1 / order)


@operation("x", "ord", "axis", "keepdims")
class Norm(Reduction):
    def operate(self, x, ord=None, axis=None, keepdims=False):
        x, axis = self.as_float(x), axes_of(axis)
        several = (x.ndim if axis is None else np.size(axis)) > 1
        whole_tensor = axis is None and not self.version.is_keras3
        if several and not whole_tensor and ord not in (None, "euclidean", "fro"):
            self.fail(f"ord is {ord!r} over several axes; a norm of matrices is not supported")
        axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
        if axis is None and ord not in (None, "euclidean", "fro"):
            y = norm(np.ravel(x), ord, 0, False)
            return np.reshape(y, (1,) * x.ndim) if keepdims else y
        return norm(x, ord, axis, bool(keepdims))


@operation("x", "axis", "order", "epsilon")
class Normalize(AlongAxis):
    def operate(self, x, axis=-1, order=2, epsilon=None):
        x, axis = self.as_float(x), axes_of(axis)
        epsilon = EPSILON if epsilon is None else epsilon
        if order == 2:
            return x * np.minimum(1 / np.sqrt(np.sum(x * x, axis=axis, keepdims=True)), x.dtype.type(1 / epsilon))
        return x / np.maximum(norm(x, order, axis, True), x.dtype.type(epsilon))


@operation("x", "axis", "epsilon")
class L2Normalize(AlongAxis):
    """tf.math.l2_normalize."""

    def operate(self, x, axis=None, epsilon=L2_EPSILON):
        total = np.sum(x * x, axis=axes_of(axis), keepdims=True)
        return x * (1 / np.sqrt(np.maximum(total, x.dtype.type(epsilon))))


@operation("x", "axes", "keepdims", "synchronized")
class Moments(Operation):
    """Mean and variance."""

    choices = {"synchronized": (False,)}

    def keeps_rows_independent(self, named):
        return avoids_batch_axis(named["axes"], rank_of(named["x"]))

    def operate(self, x, axes, keepdims=False, synchronized=False):
        return [f(x, axis=axes_of(axes), keepdims=bool(keepdims)) for f in (np.mean, np.var)]


@operation("x", "axis", "weights")
class Average(Operation):
    def keeps_rows_independent(self, named):
        weights = named.get("weights")
        fits = weights is None or same_rows(named["x"], weights)
        return fits and avoids_batch_axis(named.get("axis"), rank_of(named["x"]))

    def operate(self, x, axis=None, weights=None):
        if weights is None:
            return np.mean(self.as_float(x), axis=axes_of(axis))
        x, weights = self.promote_tensors(x, weights, also_float=True)
        if x.ndim == weights.ndim or axis is None:
            return np.sum(x * weights, axis=axes_of(axis)) / np.sum(weights, axis=axes_of(axis))
        return np.tensordot(x, weights, [[whole(axis)], [0]]) / np.sum(weights)


# ---- cumulation and order -------------------------------------------------------------------------------------------


@operation("x", "axis", "dtype", "exclusive", "reverse")
class Cumsum(Operation):
    choices = {"dtype": DTYPES}
    function, neutral = staticmethod(np.cumsum), 0

    def keeps_rows_independent(self, named):
        default = None if self.version.is_keras3 else 0
        return avoids_batch_axis(named.get("axis", default), rank_of(named["x"]))

    def operate(self, x, axis=None, dtype=None, exclusive=False, reverse=False):
        axis = whole(axis)
        x = x if dtype is None else x.astype(self.named_dtype(dtype))
        x = x.astype(np.int32) if x.dtype == bool else x
        if axis is None:
            x, axis = (np.ravel(x) if self.version.is_keras3 else x), 0
        x = np.flip(x, axis) if reverse else x
        if exclusive:
            x = np.moveaxis(x, axis, 0)
            x = np.moveaxis(np.concatenate([np.full_like(x[:1], self.neutral), x[:-1]]), 0, axis)
        y = self.function(x, axis=axis, dtype=x.dtype)
        return np.flip(y, axis) if reverse else y


@operation("x", "axis", "dtype", "exclusive", "reverse")
class Cumprod(Cumsum):
    function, neutral = staticmethod(np.cumprod), 1


def order_of(x, axis, descending):
    """The indices that sort the elements; equal elements keep their order."""
    x = x.astype(np.int64) if x.dtype.kind in "bui" else x
    return np.argsort(-x if descending else x, axis=axis, kind="stable")


@operation("x", "axis", "direction", "stable")
class Argsort(AlongAxis):
    exact = True
    choices = {"direction": ("ASCENDING", "DESCENDING")}

    def operate(self, x, axis=-1, direction="ASCENDING", stable=False):
        x, axis = (np.ravel(x), 0) if axis is None else (x, whole(axis))
        return self.result(x, order_of(x, axis, direction == "DESCENDING"), axis)

    def result(self, x, order, axis):
        return order.astype(np.int32)


@operation("x", "axis", "direction", "stable")
class Sort(Argsort):
    def result(self, x, order, axis):
        return np.take_along_axis(x, order, axis)


@operation("x", "k", "sorted", "index_type")
class TopK(Operation):
    """The k largest elements along the last axis, and their indices."""

    exact = True
    choices = {"sorted": (True, None), "index_type": ("int32", "int64", None)}

    def keeps_rows_independent(self, named):
        return rank_of(named["x"]) > 1

    def operate(self, x, k=1, sorted=True, index_type=None):
        k = whole(k)
        if k > x.shape[-1]:
            raise ValueError(f"the last axis has {x.shape[-1]} elements; k is {k}")
        order = order_of(x, -1, True)[..., :k]
        return [np.take_along_axis(x, order, -1), order.astype(index_type or "int32")]


@operation("a", "n", "axis")
class Diff(AlongAxis):
    exact = True

    def keeps_rows_independent(self, named):
        return avoids_batch_axis(named.get("axis", -1), rank_of(named["a"]))

    def operate(self, a, n=1, axis=-1):
        return np.diff(a, n, axis)


# ---- products -------------------------------------------------------------------------------------------------------


class Product(Operation):
    """Keras 3 multiplies whole numbers as floats."""

    def product(self, function, *operands):
        operands = self.promote_tensors(*operands)
        dtype = operands[0].dtype
        if dtype.kind != "f" and self.version.is_keras3:
            operands = [x.astype(self.floatx) for x in operands]
        return function(*operands).astype(dtype, copy=False)


@operation("x1", "x2", "transpose_a", "transpose_b")
class Matmul(Product):
    def keeps_rows_independent(self, named):
        ranks = [rank_of(named[name]) for name in ("x1", "x2")]
        if not isinstance(named["x2"], Spec):
            return ranks[0] > ranks[1] or (ranks[1] == 2 and ranks[0] == 2 and not named.get("transpose_a"))
        return isinstance(named["x1"], Spec) and ranks[0] == ranks[1] > 2

    def operate(self, x1, x2, transpose_a=False, transpose_b=False):
        def multiply(x, y):
            x = np.swapaxes(x, -1, -2) if transpose_a else x
            return x @ (np.swapaxes(y, -1, -2) if transpose_b else y)

        return self.product(multiply, x1, x2)


@operation("x1", "x2")
class Dot(Product):
    def keeps_rows_independent(self, named):
        return not isinstance(named["x2"], Spec) and rank_of(named["x1"]) > 1

    def operate(self, x1, x2):
        return self.product(np.dot, x1, x2)


@operation("x1", "x2", "axes")
class Tensordot(Product):
    def keeps_rows_independent(self, named):
        axes, rank = named.get("axes", 2), rank_of(named["x1"])
        if isinstance(named["x2"], Spec) or not isinstance(named["x1"], Spec):
            return False
        if isinstance(axes, int):
            return 0 < axes < rank
        return isinstance(axes, (list, tuple)) and avoids_batch_axis(axes[0], rank)

    def operate(self, x1, x2, axes=2):
        return self.product(lambda x, y: np.tensordot(x, y, whole(axes)), x1, x2)


@operation("x1", "x2")
class Outer(Product):
    def operate(self, x1, x2):
        return np.outer(*self.promote_tensors(x1, x2))


@operation("operands", "subscripts")
class Einsum(Product):
    variadic = "operands"

    def keeps_rows_independent(self, named):
        terms, _, result = str(named["subscripts"]).replace(" ", "").partition("->")
        terms = terms.split(",")
        if len(terms) != len(named["operands"]) or not result[:1].isalpha():
            return False
        batch = result[0]
        tensors = all(
            term.startswith(batch) if isinstance(x, Spec) else batch not in term
            for term, x in zip(terms, named["operands"])
        )
        return tensors and all(term.count(batch) < 2 for term in terms) and result.count(batch) == 1

    def operate(self, operands, subscripts):
        return self.product(lambda *xs: np.einsum(subscripts.replace(" ", ""), *xs), *operands)


for _alias, _name in {"Amax": "Max", "Amin": "Min"}.items():
    REGISTRY[f"ops.{_alias}"] = REGISTRY[f"ops.{_name}"]
