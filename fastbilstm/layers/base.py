"""BaseLayer: what all layers of the specification have in common: options, weights, shapes, masks, a call.

A layer class states its options as in Keras, the shapes of its weights, the shape and mask of its output, and what it
computes, in NumPy. Imports NumPy; knows nothing of files.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import activations
from ..errors import FileFormatError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import NoReturn

    from numpy.typing import DTypeLike, NDArray

    from ..graph import KerasVersion, Layer

REQUIRED = object()


class Tensor(NamedTuple):
    """A value in the graph, and the mask that Keras attaches to it (None: no mask)."""

    value: Any
    mask: Any = None


class Spec(NamedTuple):
    """What is known of a tensor before a call: its shape (None: an axis of any size), whether it has a mask, and its
    dtype (None: that of computation; "string").
    """

    shape: tuple[int | None, ...]
    masked: bool = False
    dtype: Any = None

    def zero(self, floatx, rank=0):
        """An element of its dtype, an array of `rank` axes, where `floatx` is that of computation."""
        return np.full((1,) * rank, b"" if self.dtype == "string" else 0, dtype_of(self.dtype or floatx))


def dtype_of(name):
    """NumPy's dtype for one of ours: strings are objects."""
    return np.dtype(object if name == "string" else name)


def name_of(dtype):
    """The opposite of `dtype_of`."""
    return "string" if dtype.kind == "O" else dtype.name


# ---- options --------------------------------------------------------------------------------------------------------


class Option(NamedTuple):
    """One option of a layer: `check(value)` returns the value to keep or raises ValueError."""

    check: Any
    default: Any = REQUIRED


def integer(minimum=1):
    def check(value):
        whole = isinstance(value, int) and not isinstance(value, bool)
        whole = whole or (isinstance(value, float) and value.is_integer())
        if not whole or value < minimum:
            raise ValueError(f"expected a whole number of at least {minimum}")
        return int(value)

    return check


def boolean(value):
    if value in (0, 1):
        return bool(value)
    raise ValueError("expected true or false")


def real(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("expected a number")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("expected a number below 1e308") from error


def optional(check):
    return lambda value: None if value is None else check(value)


def choice(*allowed):
    def check(value):
        if value not in allowed:
            raise ValueError(f"expected one of {', '.join(map(repr, allowed))}")
        return value

    return check


def integers(value):
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(v, bool) or not isinstance(v, int) for v in values):
        raise ValueError("expected a whole number or a list of them")
    return values


def activation(value):
    name = activations.normalize(value)
    if name is None:
        raise ValueError("it is not an activation of Keras")
    return name


# Options of every Keras layer that do not change what is computed from given arrays.
COMMON = {
    "name",
    "trainable",
    "dtype",
    "batch_input_shape",
    "batch_shape",
    "input_shape",
    "input_dtype",
    "input_length",
}
IGNORED_SUFFIXES = ("_initializer", "_regularizer", "_constraint")


# ---- layers ---------------------------------------------------------------------------------------------------------


class BaseLayer:
    """One layer of a model. A subclass has the name of its class in Keras.

    Attributes
    ----------
    options : dict of str to Option
        The options that are read from Keras' config.
    ignored : tuple of str
        Options that Keras stores but inference does not need.
    passes_mask : bool
        Whether the output gets the mask of the input; else the output has no mask.
    casts_input : bool
        Whether whole numbers are cast to the dtype of computation before the call.
    casts_in_wrappers : bool
        Whether it does so inside a TimeDistributed of Keras 3, too.
    n_inputs : int or None
        How many tensors a call takes; None: two or more.
    exact : bool
        Whether it only copies or compares, or computes each element by itself with + - * /. Then NumPy gives a row the
        same bits at any place in the batch.
    rows_independent : bool
        Whether each row of the output depends only on the same row of the inputs.
    outputs_without_rows : tuple of int
        Those of its outputs whose first axis is not the batch.
    """

    options: dict[str, Option] = {}
    ignored: tuple[str, ...] = ()
    passes_mask = True
    casts_input = True
    casts_in_wrappers = True
    n_inputs: int | None = 1
    dtype: Any = None
    exact = False
    rows_independent = True
    outputs_without_rows: tuple[int, ...] = ()

    def __init__(self, layer: Layer, version: KerasVersion, inner: Iterable[BaseLayer] = ()) -> None:
        self.name, self.config, self.version, self.inner = layer.name, layer.config, version, tuple(inner)
        self.class_name = layer.class_name
        self.weight_names = layer.weights
        self.weights: dict[str, NDArray[Any]] = {}
        self.sizes: dict[str, tuple[int, ...]] = {}

    def __getattr__(self, name: str) -> Any:
        config = self.__dict__.get("config", {})
        if name in type(self).options and name in config:
            return config[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def fail(self, text: str) -> NoReturn:
        """Raise FileFormatError for a model that contradicts itself."""
        raise FileFormatError(f"layer {self.name!r} ({self.class_name}): {text}")

    def activation_function(self, option="activation"):
        return activations.resolve(self.config[option], self.version.framework)

    @classmethod
    def check_config(cls, config: dict[str, Any], version: KerasVersion) -> Iterable[tuple[str, Any, str]]:
        """Yield (option, value, reason) for each unsupported combination of options; single ones are checked before."""
        for name, option in cls.options.items():
            if option.check is activation and activations.resolve(config[name], version.framework) is None:
                yield name, config[name], f"is no activation of {version.framework}"

    def weight_shapes(self, shapes: list[tuple[int | None, ...]]) -> dict[str, tuple[int | None, ...]]:
        """{role: shape} in Keras' order, for inputs of these shapes. A size that depends on an unknown one is None."""
        return {}

    def set_sizes(self, sizes: Mapping[str, tuple[int, ...]]) -> None:
        """Take the shapes of all arrays of the model by name, so that `checked_infer` can compare them."""
        self.sizes = {role: sizes[name] for role, name in self.weight_names.items()}
        for inner in self.inner:
            inner.set_sizes(sizes)

    def checked_infer(self, inputs: list[Spec], kwargs: dict[str, Any]) -> list[Spec]:
        """`infer`, after a check that the weights have the shapes that these inputs need."""
        self.check_sizes([spec.shape for spec in inputs])
        return self.infer(inputs, kwargs)

    def check_sizes(self, shapes: list[tuple[int | None, ...]]) -> None:
        if self.weight_names:
            for role, expected in self.weight_shapes(shapes).items():
                found = self.sizes[role]
                if len(found) != len(expected) or any(e not in (None, f) for e, f in zip(expected, found)):
                    self.fail(f"its {role} has shape {found}; the model needs {expected}")

    def set_dtype(self, dtype: DTypeLike) -> None:
        """Take the dtype of computation."""
        self.dtype = np.dtype(dtype)
        for inner in self.inner:
            inner.set_dtype(dtype)

    def bind(self, tensors: Mapping[str, NDArray[Any]], dtype: DTypeLike) -> None:
        """Take the weights, cast to the dtype of computation."""
        self.dtype = np.dtype(dtype)
        self.weights = {role: tensors[name].astype(dtype, copy=False) for role, name in self.weight_names.items()}
        for inner in self.inner:
            inner.bind(tensors, dtype)

    def output_shape(self, shape):
        return shape

    def output_dtype(self, dtype: str | None) -> str | None:
        """The dtype of the output, for an input of whole numbers, bool or strings that is not cast."""
        return dtype

    def infer(self, inputs: list[Spec], kwargs: dict[str, Any]) -> list[Spec]:
        """Return the Specs of the outputs for the Specs of the inputs; raise FileFormatError if they do not fit."""
        shape, masked, dtype = inputs[0]
        return [Spec(self.output_shape(shape), self.passes_mask and masked, self.output_dtype(dtype))]

    def compute(self, x, mask):
        """What the layer computes, in NumPy: x -> y. The mask is None or (B, T) bool, True = keep."""
        raise NotImplementedError

    def call(self, inputs: list[Tensor], kwargs: dict[str, Any], states: Any) -> list[Tensor]:
        """Tensors in, list of Tensors out. `states` holds what stateful layers remember, by layer object."""
        x = inputs[0]
        return [Tensor(self.compute(x.value, x.mask), x.mask if self.passes_mask else None)]

    def require_rank(self, shape, rank):
        if len(shape) != rank:
            self.fail(f"its input has shape {shape}; expected {rank} axes")


class Registry(dict):
    """{class name in Keras: class}. The modules in `rest` are imported when a name is missing, or to list all names.

    So a process that predicts once and ends starts sooner.
    """

    rest: tuple[str, ...] = ()

    def complete(self):
        for module in self.rest:
            importlib.import_module(f".{module}", __package__)
        self.rest = ()
        return self

    def __missing__(self, name):
        if not self.rest:
            raise KeyError(name)
        return self.complete()[name]

    def __contains__(self, name):
        return super().__contains__(name) or (bool(self.rest) and name in self.complete())

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default

    def __iter__(self):
        return super(Registry, self.complete()).__iter__()

    def items(self):
        return super(Registry, self.complete()).items()


REGISTRY = Registry()


def register(cls):
    """Class decorator: put a layer class into REGISTRY under its own name."""
    REGISTRY[cls.__name__] = cls
    return cls


def same_size(a, b):
    return a is None or b is None or a == b


def broadcast_mask(mask, value):
    """Append axes to a mask until it broadcasts against `value`."""
    return np.reshape(mask, mask.shape + (1,) * (value.ndim - mask.ndim))


def check_sequence_mask(layer: BaseLayer, x: NDArray[Any], mask: Any) -> NDArray[np.bool_] | None:
    """Return the mask of a (B, T, ...) sequence as (B, T) bool, or raise InputError."""
    if mask is None:
        return None
    mask = np.asarray(mask).astype(bool, copy=False)
    if mask.ndim == 3 and mask.shape[2] == 1:
        mask = mask[:, :, 0]
    if mask.shape != x.shape[:2]:
        raise InputError(
            f"layer {layer.name!r} ({layer.class_name}): its mask has shape {mask.shape} where its input has shape "
            f"{x.shape}; expected {x.shape[:2]}"
        )
    return mask
