"""What the operations have in common: `keras.ops` nodes, TensorFlow functions and TensorFlow ops in functional models.

An operation names its arguments as Keras 3 does; the readers bring every dialect to these names. This file holds what
all operations share: which values are tensors, the dtype and shape of a result, and whether the rows of a batch stay
independent. Imports NumPy; knows nothing of files.
"""

import inspect
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..graph import Constant
from .base import REGISTRY, BaseLayer, Spec, Tensor, name_of

# Two trials find the shape of a result. Each has a size for the free batch axis and one for other free axes.
TRIALS = ((2, 5), (3, 7))


class Weak(NamedTuple):
    """A constant that takes the dtype of the other operands: numbers and lists of numbers in TensorFlow."""

    array: Any


class Tried(Spec):
    """A Spec with the shapes of the tensor in the trials, and its values there if they follow from shapes alone."""

    tried: Any = None
    known: Any = None

    @classmethod
    def of(cls, shape, masked, dtype, tried, known):
        spec = cls(shape, masked, dtype)
        spec.tried, spec.known = tried, known
        return spec


def known(spec):
    """The values of a tensor in the trials; None if they depend on more than shapes."""
    return getattr(spec, "known", None)


def operation(*parameters, **names):
    """Class decorator: register under "ops.<class name>" with the names of the call's parameters."""

    def decorate(cls):
        cls.parameters = parameters
        REGISTRY["ops." + names.get("name", cls.__name__)] = cls
        return cls

    return decorate


class Operation(BaseLayer):
    """One operation on tensors and constants. Subclasses state `operate`, in NumPy.

    Attributes
    ----------
    parameters : tuple of str
        Names of the arguments, in the order of the call.
    variadic : str or None
        The argument that takes all positional arguments.
    tensors : tuple of str
        Arguments that are tensors even if they are written as lists of numbers.
    choices : dict of str to tuple
        The values that an argument may have, if they are few; the reader refuses any other.
    shaping : tuple
        Arguments that decide the shape of the result. They may be tensors only if their values follow from shapes.
    exact : bool
        Whether NumPy gives an element the same bits at any place in the batch.
    may_return_input : bool
        Whether Keras may return the tensor that it was given, with its mask.
    rows_independent : bool
        Whether each row of the results depends only on the same row of the tensors; known after `infer_operation`.
    """

    options: dict = {}
    parameters: tuple = ()
    variadic: Any = None
    tensors: tuple = ("x", "x1", "x2", "xs", "indices", "condition", "operands")
    choices: dict = {}
    shaping: tuple = ("newshape", "shape", "axes", "axis", "repeats", "pad_width", "sizes", "num_classes", "k", "num")
    exact = False
    may_return_input = False
    rows_independent = True

    def operate(self, **named):
        """Arrays and constants in, an array or a list of arrays out."""
        raise NotImplementedError

    def keeps_rows_independent(self, named):
        """Whether rows stay independent, given the Specs and constants of a call; False where it is not certain."""
        return False

    def arguments(self, args, kwargs):
        """The arguments of a call by name, with those that are stored in the config of the node."""
        if self.variadic and args:
            args = (list(args),)
        given = dict(zip(self.parameters, args))
        if len(args) > len(self.parameters) or set(kwargs) - set(self.parameters) or set(given) & set(kwargs):
            self.fail(f"it is called with {len(args)} arguments and {sorted(kwargs)}")
        return {**self.config, **given, **kwargs}

    @classmethod
    def check_call(cls, config, args, kwargs, kind):
        """Yield (option, value, reason) for what is not supported in a call; tensors in it are of type `kind`."""
        if cls.variadic and args:
            args = (list(args),)
        known = inspect.signature(cls.operate).parameters.values()
        given = {**config, **dict(zip(cls.parameters, args)), **kwargs}
        for value in args[len(cls.parameters) :]:
            yield "argument", str(value)[:60], "is not known to fastbilstm"
        for name in set(kwargs) - set(cls.parameters):
            yield f"argument {name}", str(kwargs[name])[:60], "is not known to fastbilstm"
        for parameter in list(known)[1:]:
            if parameter.default is parameter.empty and parameter.name not in given:
                yield f"argument {parameter.name}", None, "is missing in the file"
        for name, allowed in cls.choices.items():
            if name in given and not any(given[name] is value or given[name] == value for value in allowed):
                yield name, given[name], f"is not supported; expected one of {', '.join(map(repr, allowed))}"

    def call_operation(self, args, kwargs):
        named = self.arguments(args, kwargs)
        values = {name: values_of(value) for name, value in named.items()}
        try:
            results = self.operate(**values)
        except (ValueError, IndexError) as error:
            shapes = ", ".join(str(np.shape(t.value)) for t in all_of_type(named, Tensor))
            raise InputError(f"layer {self.name!r} ({self.class_name}): tensors of shapes {shapes}: {error}") from error
        masks = {id(t.value): t.mask for t in all_of_type(named, Tensor)} if self.may_return_input else {}
        results = results if isinstance(results, (list, tuple)) else [results]
        return [Tensor(np.asarray(y), masks.get(id(y))) for y in results]

    # ---- shapes and dtypes: the operation is tried on zeros of two sizes; what differs between the results is free

    def infer_operation(self, args, kwargs):
        named = self.arguments(args, kwargs)
        specs = all_of_type(named, Spec)
        for name in self.shaping:
            if any(known(spec) is None for spec in all_of_type(self.shaping_part(named.get(name)), Spec)):
                self.fail(f"its {name} depends on data: the shape of the result would, too, which is not supported")
        self.rows_independent = self.rows_independent and self.call_keeps_rows_independent(named, specs)
        # A free axis that is combined with an axis of known size must have that size. Seldom so must the batch axis.
        shapes = [spec.shape for spec in specs] + [c.array.shape for c in all_of_type(named, Constant)]
        sizes = sorted({size for shape in shapes for size in shape if size and size > 1})
        trials = [TRIALS, *([(batch, size) for batch, _ in TRIALS] for size in (*sizes, *range(1, 33)))]
        trials += [[(size, other) for _, other in TRIALS] for size in (*sizes, 1)]
        for trial in trials:
            try:
                first, second = (self.try_out(named, k, *free) for k, free in enumerate(trial))
            except (ValueError, IndexError, TypeError, ArithmeticError, MemoryError) as error:
                reason = error
                continue
            break
        else:
            self.fail(f"its arguments do not fit: shapes {[spec.shape for spec in specs]} ({reason})")
        masked = self.may_return_input and any(spec.masked for spec in specs)
        from_shapes = all(known(spec) is not None for spec in specs)
        return [
            Tried.of(
                tuple(a if a == b else None for a, b in zip(y.shape, z.shape)),
                masked,
                None if y.dtype == self.floatx else name_of(y.dtype),
                (y.shape, z.shape) if trial is TRIALS else None,
                (y, z) if from_shapes else None,
            )
            for y, z in zip(first, second)
        ]

    def shaping_part(self, value):
        """The part of a shaping argument that decides the shape."""
        return value

    def try_out(self, named, k, batch, size):
        def stand_in(spec):
            if known(spec) is not None:
                return spec.known[k]
            zero = spec.zero(self.floatx)
            if getattr(spec, "tried", None) is not None and (batch, size) == TRIALS[k]:
                return np.broadcast_to(zero, spec.tried[k])
            shape = [(batch if axis == 0 else size) if s is None else s for axis, s in enumerate(spec.shape)]
            return np.broadcast_to(zero, shape)

        values = {name: values_of(value, stand_in) for name, value in named.items()}
        with np.errstate(all="ignore"):
            results = self.operate(**values)
        return [np.asarray(y) for y in (results if isinstance(results, (list, tuple)) else [results])]

    def call_keeps_rows_independent(self, named, specs):
        if not specs or all(known(spec) is not None for spec in specs):
            return True
        if any(known(spec) is not None or not spec.shape for spec in specs):
            return False
        return bool(self.keeps_rows_independent(named))

    # ---- dtypes

    @property
    def floatx(self):
        """The dtype of computation; before weights are bound, float32."""
        return np.dtype(np.float32 if self.dtype is None else self.dtype)

    def named_dtype(self, name):
        """The dtype that an option names; float32 means the dtype of computation."""
        return self.floatx if name in ("float32", "float") else np.dtype(name)

    def operand(self, value):
        """An array as it is; a list of numbers as the tensor that Keras 3 or TensorFlow makes of it."""
        if not isinstance(value, (list, tuple)) or isinstance(value, Weak):
            return value
        array = np.asarray(value)
        if not self.version.is_keras3:
            return Weak(array)
        return array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))

    def promote(self, *values, also_float=False):
        """Cast operands to one dtype. Python numbers take that of the tensors, with `also_float` at least a float."""
        values = [self.operand(value) for value in values]
        arrays = [value for value in values if isinstance(value, (np.ndarray, np.generic))]
        others = [np.asarray(v.array if isinstance(v, Weak) else v) for v in values if not any(v is a for a in arrays)]
        dtype = self.common_dtype([a.dtype for a in arrays], {o.dtype.kind for o in others})
        if also_float and dtype.kind != "f":
            dtype = self.floatx
        return [np.asarray(v.array if isinstance(v, Weak) else v).astype(dtype, copy=False) for v in values]

    def common_dtype(self, dtypes, weak=()):
        """The dtype of a result: the widest float, else the widest whole number, else bool."""
        floats = [dtype for dtype in dtypes if dtype.kind == "f"]
        if floats:
            return max(floats, key=lambda dtype: dtype.itemsize)
        if "f" in weak:
            return self.floatx
        whole = [dtype for dtype in dtypes if dtype.kind in "iu"]
        if whole:
            return np.result_type(*whole)
        if weak & {"i", "u"}:
            return np.dtype(np.int64 if self.version.is_keras3 and self.floatx.itemsize == 8 else np.int32)
        return np.dtype(np.bool_)

    def promote_tensors(self, *values, also_float=False):
        """As `promote`, but first Python numbers become float32 and int32 tensors in Keras 3."""
        if self.version.is_keras3:
            kinds = {bool: np.bool_, int: np.int32, float: np.float32}
            values = [kinds[type(v)](v) if type(v) in kinds else v for v in values]
        return self.promote(*values, also_float=also_float)

    def as_float(self, x):
        """Whole numbers and booleans, cast to the dtype of computation."""
        (x,) = self.promote(x)
        return x if x.dtype.kind == "f" else x.astype(self.floatx)


def values_of(value, of_spec=None):
    """Tensors (or, by `of_spec`, Specs) and constants inside nested arguments -> arrays."""
    if isinstance(value, Tensor):
        return value.value
    if isinstance(value, Spec):
        return of_spec(value)
    if isinstance(value, Constant):
        return Weak(value.array) if value.dtype is None else value.array
    if isinstance(value, (list, tuple)):
        return [values_of(item, of_spec) for item in value]
    if isinstance(value, dict):
        return {key: values_of(item, of_spec) for key, item in value.items()}
    return value


def all_of_type(value, kind):
    """The objects of type `kind` inside nested arguments."""
    if isinstance(value, kind):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)) and not isinstance(value, (Tensor, Spec)):
        return [item for part in value for item in all_of_type(part, kind)]
    return []


# ---- rules for rows -------------------------------------------------------------------------------------------------


def rank_of(value):
    """Axes of a Spec or a constant; 0 for a number."""
    if isinstance(value, Spec):
        return len(value.shape)
    return np.ndim(value.array if isinstance(value, Constant) else value)


def same_rows(*values):
    """Whether operands that are broadcast agree in their rows: every tensor has as many axes as the result."""
    rank = max(map(rank_of, values))
    for value in values:
        if isinstance(value, Spec):
            if len(value.shape) != rank:
                return False
        elif rank_of(value) == rank and np.shape(value.array if isinstance(value, Constant) else value)[:1] not in (
            (),
            (1,),
        ):
            return False
    return True


def avoids_batch_axis(axis, rank):
    """Whether no axis is the batch axis; `axis` is a number or several."""
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    whole = all(isinstance(a, int) and not isinstance(a, bool) and -rank <= a < rank for a in axes)
    return bool(axes) and whole and all(a % rank != 0 for a in axes)
