"""Op nodes of `keras.ops`, and the layer Dot, on the kernels: elements, reductions, views, joining, products.

`kernels_for` decides by the dtypes of the tensors and the arguments; what it does not take runs in NumPy. Imports NumPy
and the compiled module `_kernels`; knows nothing of files.
"""

import inspect
from functools import partial

import numpy as np

from .. import _kernels, activations
from ..activations import kernel_code
from ..graph import Constant, Ref, flatten_refs, map_refs
from ..layers import Tensor
from .vector_elementwise import FLOAT, MOST_AXES, OnKernels, each, joined_along, moved, reduced
from .vector_layers import compiled_activation, contiguous
from .vector_normalization import unit_rows

# Class of an op node -> what `_kernels.elementwise` calls it, if it does.
ELEMENTS = {
    **{name: name.lower() for name in ("Add", "Subtract", "Multiply", "Maximum", "Minimum", "Negative", "Absolute")},
    **{
        name: name.lower()
        for name in ("Square", "Sqrt", "Rsqrt", "Reciprocal", "Floor", "Ceil", "Sign", "Equal", "Less")
    },
    **{"TrueDivide": "divide", "SquaredDifference": "squared_difference", "DivideNoNan": "divide_no_nan"},
    **{"NotEqual": "not_equal", "LessEqual": "less_equal", "Greater": "greater", "GreaterEqual": "greater_equal"},
    **{f"Logical{name}": f"logical_{name.lower()}" for name in ("And", "Or", "Xor", "Not")},
    "Where": "where",
}
ACTIVATIONS = {
    **{"Tanh": activations.tanh, "Sigmoid": activations.sigmoid, "Exp": activations.exponential},
    **{"Relu": activations.relu, "Relu6": activations.relu6, "LeakyRelu": activations.leaky_relu},
    **{"Elu": activations.elu, "Selu": activations.selu, "Celu": activations.celu, "Gelu": activations.gelu},
    **{"Softplus": activations.softplus, "Softsign": activations.softsign, "Silu": activations.silu},
    **{"Mish": activations.mish, "LogSigmoid": activations.log_sigmoid, "TanhShrink": activations.tanh_shrink},
    **{"HardSigmoid": activations.relu6_hard_sigmoid, "HardSilu": activations.hard_silu},
    **{"HardTanh": activations.hard_tanh, "HardShrink": activations.hard_shrink},
    **{"SoftShrink": activations.soft_shrink, "SparsePlus": activations.sparse_plus},
    **{"SparseSigmoid": activations.sparse_sigmoid, "Squareplus": activations.squareplus},
    **{"Softmax": activations.softmax, "LogSoftmax": activations.log_softmax, "Sparsemax": activations.sparsemax},
}
REDUCTIONS = {"Sum": "sum", "Mean": "mean", "Max": "max", "Min": "min", "Any": "any", "All": "all"}
# Operations whose results are views of their only tensor.
VIEWS = {
    *("GetItem", "Slice", "Split", "SplitSizes", "Unstack", "ExpandDims", "Squeeze", "Reshape", "Ravel", "BroadcastTo"),
    *("Transpose", "MatrixTranspose", "Swapaxes", "Moveaxis", "Flip", "StopGradient"),
}
JOINS = {"Concatenate", "Stack"}


class VectorOperation(OnKernels):
    """An op node. `named`: its arguments by name, with a Ref for each tensor; tensors are given in the order of those.

    If their dtypes or shapes are none of the kernels', the specification computes.
    """

    def __init__(self, layer, named):
        super().__init__(layer)
        self.named, self.n_inputs, self.casts_input = named, None, False

    def call(self, inputs, kwargs, states):
        if all(t.value.dtype in TAKEN and t.value.ndim <= MOST_AXES for t in inputs):
            found = self.compute([contiguous(t.value, t.value.dtype) for t in inputs], states)
            if found is not None:
                return [Tensor(found)]
        return self.specified(inputs)

    def specified(self, inputs):
        given = iter(inputs)
        return self.layer.call_operation((), map_refs(lambda _: next(given), self.named))

    def compute(self, values, states):
        """The result, or None."""
        raise NotImplementedError


BOOL = np.dtype(bool)
TAKEN = (FLOAT, np.dtype(np.int32), np.dtype(np.int64), BOOL)


class Elements(VectorOperation):
    """`operands`: for each operand a Ref or a constant array."""

    def __init__(self, layer, named, operands):
        super().__init__(layer, named)
        self.operands = operands
        self.constants = tuple(k for k, operand in enumerate(operands) if not isinstance(operand, Ref))

    def compute(self, values, states):
        given, name = iter(values), ELEMENTS[class_of(self.layer)]
        operands = [next(given) if isinstance(operand, Ref) else operand for operand in self.operands]
        if _kernels.result_dtype(name, [x.dtype for x in operands]) is None:
            return None
        return each(states, name, *operands, constants=self.constants)


class Casts(VectorOperation):
    """Cast and ConvertToTensor; the dtype that a tensor has already stays."""

    def call(self, inputs, kwargs, states):
        x, dtype = inputs[0].value, self.named.get("dtype")
        target = x.dtype if dtype is None else self.layer.named_dtype(dtype)
        if target == x.dtype:
            return self.specified([Tensor(contiguous(x, x.dtype), inputs[0].mask)])
        return super().call(inputs, kwargs, states)

    def compute(self, values, states):
        (x,), target = values, self.layer.named_dtype(self.named["dtype"])
        if target == FLOAT and _kernels.result_dtype("cast", [x.dtype]) is not None:
            return each(states, "cast", x)
        if target == BOOL and _kernels.result_dtype("not_equal", [x.dtype] * 2) is not None:
            return each(states, "not_equal", x, np.zeros((), x.dtype), constants=(1,))
        return None


class Fills(VectorOperation):
    """ZerosLike, and OnesLike that gives booleans."""

    def compute(self, values, states):
        (x,), one, dtype = values, class_of(self.layer) == "OnesLike", self.named.get("dtype")
        dtype = x.dtype if dtype is None else self.layer.named_dtype(dtype)
        if dtype not in TAKEN or (one and dtype != BOOL):
            return None
        return _kernels.fill(states.array(*x.shape, dtype=dtype), int(one))


class Activations(VectorOperation):
    """`axis`: that of softmax and the like."""

    def __init__(self, layer, named, activation, axis):
        super().__init__(layer, named)
        self.activation, self.axis = activation, axis

    def compute(self, values, states):
        (x,) = values
        if x.dtype != FLOAT or not -x.ndim <= self.axis < x.ndim:
            return None
        view = np.moveaxis(x, self.axis, -1)
        y = moved(states, x, view.shape, view)
        self.activation.apply(y)
        if self.axis % x.ndim == x.ndim - 1:
            return y
        return moved(states, y, x.shape, np.moveaxis(y, -1, self.axis))


class Pads(VectorOperation):
    """Pad with zeros: `widths` (before, after) for each axis."""

    def __init__(self, layer, named, widths):
        super().__init__(layer, named)
        self.widths = widths

    def compute(self, values, states):
        (x,) = values
        if len(self.widths) != x.ndim:
            return None
        y = states.array(*(n + sum(width) for n, width in zip(x.shape, self.widths)), dtype=x.dtype)
        _kernels.fill(y, 0)
        inner = y[tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, self.widths))]
        return _kernels.copy(x, y, x, inner)


class Limits(VectorOperation):
    """Clip between two numbers."""

    def __init__(self, layer, named, low, high):
        super().__init__(layer, named)
        self.low, self.high = low, high

    def compute(self, values, states):
        (x,) = values
        if x.dtype != FLOAT:
            return None
        y = each(states, "minimum", x, self.high, constants=(1,))
        return each(states, "maximum", y, self.low, constants=(1,))


class Reductions(VectorOperation):
    """Along axes that are neighbours."""

    def __init__(self, layer, named, axes, keepdims):
        super().__init__(layer, named)
        self.axes, self.keepdims = axes, keepdims

    def compute(self, values, states):
        (x,), name = values, REDUCTIONS[class_of(self.layer)]
        axes = range(x.ndim) if self.axes is None else sorted(axis % x.ndim for axis in self.axes)
        if x.dtype != (bool if name in ("any", "all") else FLOAT) or not x.size or not axes:
            return None
        first, last = axes[0], axes[-1] + 1
        if list(axes) != list(range(first, last)):
            return None
        kept = (1,) * (last - first) if self.keepdims else ()
        return reduced(states, name, x, first, last, x.shape[:first] + kept + x.shape[last:])


class Views(VectorOperation):
    """Results of the specification that are views of the tensor; they are copied where they do not follow in memory."""

    def call(self, inputs, kwargs, states):
        x = inputs[0].value
        x = contiguous(x, x.dtype) if x.dtype in TAKEN else x
        found = self.specified([Tensor(x, inputs[0].mask)])
        return [Tensor(self.laid_out(x, y, states), mask) for y, mask in found]

    @staticmethod
    def laid_out(x, y, states):
        if y.flags.c_contiguous or x.dtype not in TAKEN or y.ndim > MOST_AXES:
            return y
        return moved(states, x, y.shape, y)


class Joins(VectorOperation):
    """Concatenate and Stack of one dtype."""

    def __init__(self, layer, named, axis):
        super().__init__(layer, named)
        self.axis = axis

    def compute(self, values, states):
        if len({value.dtype for value in values}) > 1:
            return None
        if class_of(self.layer) == "Stack":
            values = [np.expand_dims(value, self.axis) for value in values]
        return joined_along(self.axis, values, [None] * len(values), states)


class Products(VectorOperation):
    """Matmul of tensors of two axes or more."""

    def compute(self, values, states):
        a, b = values
        if a.dtype != FLOAT or b.dtype != FLOAT or a.ndim < 2 or b.ndim < 2 or a.ndim < b.ndim:
            return None
        if (b.ndim > 2 and a.shape[:-2] != b.shape[:-2]) or a.shape[-1] != b.shape[-2]:
            return None
        flat = a.reshape((1, -1, a.shape[-1]) if b.ndim == 2 else (-1, *a.shape[-2:]))
        y = product(states, flat, b.reshape(-1, *b.shape[-2:]), False)
        return y.reshape(*a.shape[:-1], b.shape[-1])


def product(states, a, b, transposed):
    """a[k].b[k] for each k: a (B, M, K), b (B, K, N), or (B, N, K) if transposed -> (B, M, N)."""
    y = states.array(*a.shape[:2], b.shape[1 if transposed else 2])
    return _kernels.batch_product(a, b, y, transposed, states.scratch)


class VectorDot(OnKernels):
    """The layer Dot of floats."""

    def call(self, inputs, kwargs, states):
        values, layer = [contiguous(tensor.value) for tensor in inputs], self.layer
        axes = layer.both_axes([value.ndim for value in values])
        if any(not value.size or value.ndim > MOST_AXES for value in values):
            return layer.call(inputs, kwargs, states)
        if layer.normalize:
            limit = 1e-7 if layer.version.is_keras3 else 1e-12
            values = [
                unit_rows(states, value, (axis,), layer.version.is_keras3, limit) for value, axis in zip(values, axes)
            ]
        turned = [np.moveaxis(value, axis, -1) for value, axis in zip(values, axes)]
        shape = (len(values[0]), *turned[0].shape[1:-1], *turned[1].shape[1:-1])
        flat = [
            moved(states, value, view.shape, view).reshape(len(view), -1, view.shape[-1])
            for value, view in zip(values, turned)
        ]
        if len(flat[0]) != len(flat[1]) or flat[0].shape[-1] != flat[1].shape[-1]:
            return layer.call(inputs, kwargs, states)
        return [Tensor(product(states, *flat, True).reshape(shape if len(shape) > 1 else (*shape, 1)))]


# ---- which operations -----------------------------------------------------------------------------------------------


def class_of(layer):
    """The name of the operation; ConvertToTensor and the like have classes of their own."""
    return type(layer).__name__


def number(value):
    """A number in the arguments; None if it is something else."""
    if isinstance(value, Constant) and value.dtype in (None, "float32") and value.array.ndim == 0:
        value = value.array.item()
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def operand_of(value, dtype):
    """A constant among operands of a dtype as an array; None if promotion would change the dtype of the others."""
    if isinstance(value, Constant):
        array = value.array
        fits = value.dtype in (None, dtype.name) and array.dtype.kind in ("iuf" if dtype == FLOAT else "iu")
        return np.array(array, dtype, order="C") if fits and dtype != BOOL else None
    value = number(value)
    if value is None or dtype == BOOL or (dtype != FLOAT and not isinstance(value, int)):
        return None
    return np.array(value, dtype) if dtype == FLOAT or abs(value) < 2**31 else None


def kernels_for(layer, named, dtype_of_ref):
    """What runs an op node: a VectorOperation, or None. `dtype_of_ref`: from a Ref to the dtype of the tensor."""
    name, refs = class_of(layer), flatten_refs(named)
    dtypes = [dtype_of_ref(ref) for ref in refs]
    if not refs or any(dtype not in TAKEN for dtype in dtypes):
        return None
    first = named.get("x", named.get("inputs"))
    alone = len(refs) == 1 and isinstance(first, Ref)
    others = {key: value for key, value in named.items() if key != "x"}
    if name in ELEMENTS:
        return elements(layer, named, refs, dtypes)
    if name in VIEWS and alone:
        return Views(layer, named)
    if name in JOINS:
        values = named.get("xs", first)
        whole = isinstance(values, (list, tuple)) and all(isinstance(value, Ref) for value in values)
        axis = named.get("axis", 0)
        return Joins(layer, named, axis) if whole and isinstance(axis, int) and len(set(dtypes)) == 1 else None
    if name == "Matmul" and list(map(type, named.values())) == [Ref, Ref] and dtypes == [FLOAT] * 2:
        return Products(layer, named)
    if not alone:
        return None
    if name in ("Cast", "ConvertToTensor") and named.get("dtype") in (None, "float32", "float", "bool"):
        return Casts(layer, named)
    if name in ("ZerosLike", "OnesLike") and ("bool" in (named.get("dtype"), dtypes[0].name) or name == "ZerosLike"):
        return Fills(layer, named)
    if name in REDUCTIONS and named.get("initial") is None:
        return reductions(layer, named, dtypes[0])
    if name == "Pad" and named.get("mode", "constant") == "constant" and number(named.get("constant_values") or 0) == 0:
        widths = named["pad_width"]
        pairs = isinstance(widths, (list, tuple)) and all(is_pair(width) for width in widths)
        return Pads(layer, named, [tuple(width) for width in widths]) if pairs else None
    if dtypes[0] != FLOAT:
        return None
    if name in ACTIVATIONS:
        options = dict(defaults(type(layer))) | others
        axis = options.pop("axis", -1)
        plain = all(value is None or isinstance(value, (int, float, bool)) for value in options.values())
        if not isinstance(axis, int) or not plain:
            return None
        code = kernel_code(partial(ACTIVATIONS[name], **options))
        return None if code is None else Activations(layer, named, compiled_activation(code), axis)
    if name == "Clip":
        low, high = (number(named.get(key)) for key in ("x_min", "x_max"))
        if low is not None and high is not None:
            return Limits(layer, named, *(np.array(value, np.float32) for value in (low, high)))
    return None


def is_pair(value):
    whole = isinstance(value, (list, tuple)) and all(isinstance(n, int) and n >= 0 for n in value)
    return whole and len(value) == 2


def defaults(cls):
    """The options of an activation as its node has them, and their defaults."""
    found = inspect.signature(cls.operate).parameters.values()
    return [(p.name, p.default) for p in found if p.name not in ("self", "x") and p.default is not p.empty]


def elements(layer, named, refs, dtypes):
    values = [named.get(key) for key in layer.parameters if key in named]
    floats = [dtype for dtype in dtypes if dtype != BOOL] or dtypes
    operands = [value if isinstance(value, Ref) else operand_of(value, floats[0]) for value in values]
    if any(operand is None for operand in operands) or len(flatten_refs(operands)) != len(refs):
        return None
    known = dict(zip(refs, dtypes))
    types = [known[operand] if isinstance(operand, Ref) else operand.dtype for operand in operands]
    if _kernels.result_dtype(ELEMENTS[class_of(layer)], types) is None:
        return None
    return Elements(layer, named, operands)


def reductions(layer, named, dtype):
    axis, keepdims = named.get("axis"), bool(named.get("keepdims", False))
    axes = axis if axis is None or isinstance(axis, (list, tuple)) else [axis]
    whole = axes is None or (axes and all(isinstance(a, int) and not isinstance(a, bool) for a in axes))
    if not whole or dtype != (bool if class_of(layer) in ("Any", "All") else FLOAT):
        return None
    return Reductions(layer, named, axes, keepdims)
