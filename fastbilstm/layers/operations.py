"""Operations on each element: arithmetic, functions, comparisons, logic, dtypes. The specification, in NumPy.

They are registered as "ops.<Name>", because some have the name of a layer. Arguments are named as in Keras 3.
"""

import math

import numpy as np

from .. import activations
from .base import REGISTRY
from .core import round_to
from .operation import Operation, avoids_batch_axis, operation, rank_of, same_rows

_erf, _erfc = (np.vectorize(f, otypes=[np.float64]) for f in (math.erf, math.erfc))


class Elementwise(Operation):
    """Computes each element of the result from one element of each operand, after broadcasting."""

    exact = True

    def keeps_rows_independent(self, named):
        return same_rows(*(named[name] for name in self.parameters if name in named and name in self.tensors))


class ExactOperation(Operation):
    """Copies or compares elements, so NumPy gives the same bits at any place."""

    exact = True


# ---- arithmetic -----------------------------------------------------------------------------------------------------


def divided_down(x, y):
    """The floor of the quotient, after the quotient was rounded to the dtype, as in TensorFlow."""
    return np.floor(x / y) if x.dtype.kind == "f" else x // y


def divided_or_zero(x, y):
    return np.where(y == 0, 0, x / np.where(y == 0, 1, y)).astype(x.dtype)


class Binary(Elementwise):
    """`function` of two operands of one dtype. `floats`: cast to floats; `strict`: numbers become tensors first."""

    floats, strict = False, False

    def operate(self, x1, x2):
        promote = self.promote_tensors if self.strict else self.promote
        return self.function(*promote(x1, x2, also_float=self.floats))


class TrueDivide(Binary):
    function, floats = staticmethod(np.true_divide), True

    def operate(self, x1, x2):
        x, y = self.promote(x1, x2)
        if x.dtype.kind == "f":
            return x / y
        # TensorFlow divides whole numbers in float64, but those of 8 and 16 bits in float32.
        wide = np.float32 if x.dtype.itemsize < 4 else np.float64
        wide = self.floatx if self.version.is_keras3 else wide
        return x.astype(wide) / y.astype(wide)


def binary(name, function, **traits):
    traits = {"function": staticmethod(function), "__module__": __name__, **traits}
    operation("x1", "x2", name=name)(type(name, (Binary,), traits))


operation("x1", "x2")(TrueDivide)
for _name, _function in {
    "Add": np.add,
    "Subtract": np.subtract,
    "Multiply": np.multiply,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "FloorDivide": divided_down,
    "SquaredDifference": lambda x, y: np.square(x - y),
}.items():
    binary(_name, _function)
binary("Power", np.power, exact=False)
binary("Mod", np.mod, strict=True, exact=False)
binary("DivideNoNan", divided_or_zero, floats=True)
binary("Arctan2", np.arctan2, floats=True, strict=True, exact=False)
binary("Logaddexp", np.logaddexp, floats=True, strict=True, exact=False)
for _name, _function in {
    "Equal": np.equal,
    "NotEqual": np.not_equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Less": np.less,
    "LessEqual": np.less_equal,
}.items():
    binary(_name, _function, strict=True)


@operation("xs")
class AddN(Elementwise):
    """The sum of several tensors (TensorFlow)."""

    def keeps_rows_independent(self, named):
        return same_rows(*named["xs"])

    def operate(self, xs):
        first, *others = self.promote(*xs)
        return sum(others, first)


# ---- functions of one tensor ----------------------------------------------------------------------------------------


class Unary(Elementwise):
    """`function` of floats; whole numbers are cast to the dtype of computation."""

    def operate(self, x):
        return self.function(self.as_float(x))


class Whole(Unary):
    """`function` of floats or whole numbers; with `counts`, booleans are whole numbers."""

    counts = False

    def operate(self, x):
        (x,) = self.promote(x)
        return self.function(x.astype(np.int32) if self.counts and x.dtype == bool else x)


def unary(cls, name, function, exact=False, **traits):
    traits = {"function": staticmethod(function), "__module__": __name__, "exact": exact, **traits}
    operation("x", name=name)(type(name, (cls,), traits))


for _name, _function in {
    **{f.__name__.capitalize(): f for f in (np.exp, np.expm1, np.log, np.log1p, np.log2, np.log10)},
    **{f.__name__.capitalize(): f for f in (np.sin, np.cos, np.tan, np.sinh, np.cosh, np.tanh)},
    **{f.__name__.capitalize(): f for f in (np.arcsin, np.arccos, np.arctan, np.arcsinh, np.arccosh, np.arctanh)},
    "Erf": lambda x: _erf(x).astype(x.dtype),
    "Erfc": lambda x: _erfc(x).astype(x.dtype),
    "Sigmoid": activations.sigmoid,
    "Softplus": activations.softplus,
    "Silu": activations.silu,
    "LogSigmoid": activations.log_sigmoid,
    "Selu": activations.selu,
    "Mish": activations.mish,
    "TanhShrink": activations.tanh_shrink,
    "Exp2": np.exp2,
}.items():
    unary(Unary, _name, _function)
for _name, _function in {
    "Sqrt": np.sqrt,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Softsign": activations.softsign,
    "HardSigmoid": activations.relu6_hard_sigmoid,
    "HardSilu": activations.hard_silu,
    "HardTanh": activations.hard_tanh,
    "SparseSigmoid": activations.sparse_sigmoid,
    "SparsePlus": activations.sparse_plus,
    "Isfinite": np.isfinite,
    "Isinf": np.isinf,
    "Isnan": np.isnan,
}.items():
    unary(Unary, _name, _function, exact=True)
for _name, _function in {
    "Negative": np.negative,
    "Sign": np.sign,
    "Reciprocal": lambda x: 1 / x,
    "ReciprocalNoNan": lambda x: divided_or_zero(np.ones_like(x), x),
    "Relu": activations.relu,
    "Relu6": activations.relu6,
}.items():
    unary(Whole, _name, lambda x, f=_function: f(x).astype(x.dtype, copy=False), exact=True)
unary(Whole, "Square", np.square, exact=True, counts=True)


@operation("x")
class Absolute(Elementwise):
    may_return_input = True

    def operate(self, x):
        return x if x.dtype.kind in "bu" else np.abs(x)


@operation("x", "decimals")
class Round(Elementwise):
    """To the nearest whole number, halves to the even one."""

    def operate(self, x, decimals=0):
        if not decimals or x.dtype.kind != "f":
            return x if decimals > 0 or (not decimals and x.dtype.kind != "f") else np.rint(x)
        factor = x.dtype.type(10.0**decimals)
        return np.rint(x * factor) / factor


@operation("x")
class StopGradient(Elementwise):
    def operate(self, x):
        return x[...]


@operation("x", "negative_slope")
class LeakyRelu(Elementwise):
    def operate(self, x, negative_slope=0.2):
        return activations.leaky_relu(x, negative_slope)


@operation("x", "alpha")
class Elu(Elementwise):
    exact = False
    function = staticmethod(activations.elu)

    def operate(self, x, alpha=1.0):
        return self.function(x, alpha)


@operation("x", "alpha")
class Celu(Elu):
    function = staticmethod(activations.celu)


@operation("x", "approximate")
class Gelu(Elementwise):
    exact = False

    def operate(self, x, approximate=True):
        return activations.gelu(x, bool(approximate))


@operation("x", "b")
class Squareplus(Elementwise):
    def operate(self, x, b=4):
        return activations.squareplus(x, b)


@operation("x", "threshold")
class HardShrink(Elementwise):
    function = staticmethod(activations.hard_shrink)

    def operate(self, x, threshold=0.5):
        return self.function(x, threshold)


@operation("x", "threshold")
class SoftShrink(HardShrink):
    function = staticmethod(activations.soft_shrink)


@operation("x", "threshold", "default_value")
class Threshold(Elementwise):
    def operate(self, x, threshold, default_value):
        return np.where(x > threshold, x, np.asarray(default_value, x.dtype))


class AlongAxis(Operation):
    """A function over one axis, where a row is not one element."""

    function = None

    def keeps_rows_independent(self, named):
        return avoids_batch_axis(named.get("axis", -1), rank_of(named["x"]))

    def operate(self, x, axis=-1):
        if axis is None:
            return np.reshape(self.function(np.ravel(x)), x.shape)
        return self.function(x, axis=axis)


for _name, _function in {
    "Softmax": activations.softmax,
    "LogSoftmax": activations.log_softmax,
    "Sparsemax": activations.sparsemax,
    "Glu": activations.glu,
}.items():
    operation("x", "axis", name=_name)(
        type(_name, (AlongAxis,), {"function": staticmethod(_function), "__module__": __name__})
    )


# ---- choosing and limiting ------------------------------------------------------------------------------------------


@operation("condition", "x1", "x2")
class Where(Elementwise):
    def operate(self, condition, x1, x2):
        (condition,) = self.promote(condition)
        return np.where(condition.astype(bool, copy=False), *self.promote(x1, x2))


@operation("x", "x_min", "x_max")
class Clip(Elementwise):
    """The limits are cast to the dtype of the tensor."""

    tensors = ("x", "x_min", "x_max")

    def operate(self, x, x_min, x_max):
        x = x.astype(np.int32) if x.dtype == bool else x
        low, high = (np.asarray(getattr(v, "array", v)).astype(x.dtype) for v in (x_min, x_max))
        return np.maximum(np.minimum(x, high), low)


@operation("x", "nan", "posinf", "neginf")
class NanToNum(Elementwise):
    may_return_input = True

    def operate(self, x, nan=0.0, posinf=None, neginf=None):
        return np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf) if x.dtype.kind == "f" else x


# ---- logic ----------------------------------------------------------------------------------------------------------


class Logical(Elementwise):
    def operate(self, x1, x2):
        values = (self.operand(v) for v in (x1, x2))
        return self.function(*(np.asarray(getattr(v, "array", v)).astype(bool) for v in values))


for _name in ("And", "Or", "Xor"):
    _traits = {"function": staticmethod(getattr(np, f"logical_{_name.lower()}")), "__module__": __name__}
    operation("x1", "x2", name=f"Logical{_name}")(type(f"Logical{_name}", (Logical,), _traits))


@operation("x")
class LogicalNot(Elementwise):
    def operate(self, x):
        return np.logical_not(x)


# ---- dtypes ---------------------------------------------------------------------------------------------------------

DTYPES = (None, "bool", "float32", "float64", "float")
DTYPES += tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


@operation("x", "dtype", "sparse", "ragged")
class Cast(Elementwise):
    """A cast to half precision rounds: Keras 3 casts the input of Masking so, and compares the rounded values."""

    choices = {"dtype": (*DTYPES, "float16", "bfloat16"), "sparse": (None, False), "ragged": (None, False)}
    may_return_input = True

    def operate(self, x, dtype=None, sparse=None, ragged=None):
        if dtype in ("float16", "bfloat16"):
            return round_to(dtype, self.as_float(x))
        return x if dtype is None else x.astype(self.named_dtype(dtype), copy=False)


REGISTRY["ops.ConvertToTensor"] = type("ConvertToTensor", (Cast,), {"__module__": __name__})
REGISTRY["ops.SaturateCast"] = type(
    "SaturateCast", (Cast,), {"__module__": __name__, "choices": {**Cast.choices, "dtype": ("float32", "float64")}}
)


class Like(Elementwise):
    """A tensor filled with one number, in the shape of another tensor."""

    choices = {"dtype": DTYPES}

    def operate(self, x, dtype=None):
        return np.full(x.shape, self.fill, x.dtype if dtype is None else self.named_dtype(dtype))


@operation("x", "dtype")
class OnesLike(Like):
    fill = 1


@operation("x", "dtype")
class ZerosLike(Like):
    fill = 0


@operation("x", "fill_value", "dtype")
class FullLike(Like):
    def operate(self, x, fill_value, dtype=None):
        value = np.asarray(getattr(fill_value, "array", fill_value))
        return np.broadcast_to(value.astype(x.dtype if dtype is None else self.named_dtype(dtype)), x.shape)


for _alias, _name in {"Abs": "Absolute", "Divide": "TrueDivide"}.items():
    REGISTRY[f"ops.{_alias}"] = REGISTRY[f"ops.{_name}"]
