"""Custom layers: `register_layer` says which NumPy function computes a class that a file names.

Nothing from the file is executed; the function is the caller's own. A registered class is a layer of the specification
like any other: its options, weights, shapes and mask are checked when a model is loaded. Imports NumPy; knows nothing
of files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import FastBiLSTMError
from .base import REGISTRY, REQUIRED, BaseLayer, Option, Spec, Tensor
from .plugins import LOCK

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from numpy.typing import NDArray

_RESERVED = {"Functional", "Sequential", "Model", "Lambda", "InputLayer"}


class FunctionLayer(BaseLayer):
    """A layer that calls a function of the user. `infer` of a subclass sets `expected` and `is_list`."""

    casts_input = rows_independent = False  # its function may do anything
    owner = "its registered"
    expected: list[tuple[int | None, ...]]
    is_list: bool

    def checked(self, result: Any, inputs: list[Tensor]) -> list[Any]:
        """The arrays that the function gave, if they are those that are expected."""
        results = list(result) if isinstance(result, (list, tuple)) else [result]
        if len(results) != len(self.expected) or isinstance(result, (list, tuple)) != self.is_list:
            what = f"a list of {len(results)}" if isinstance(result, (list, tuple)) else "one array"
            wanted = f"a list of {len(self.expected)}" if self.is_list else "one array"
            self._wrong("function", f"gave {what}; by its output_shape it gives {wanted}")
        return [self._checked(y, shape, inputs) for y, shape in zip(results, self.expected)]

    def _checked(self, y: Any, shape: tuple[int | None, ...], inputs: list[Tensor]) -> Any:
        y = np.asarray(y)
        if y.dtype.kind not in "biuf":
            self._wrong("function", f"gave an array of dtype {y.dtype}; expected numbers")
        shape = (len(inputs[0].value) if shape[0] is None else shape[0], *shape[1:])
        if y.ndim != len(shape) or any(e is not None and e != size for e, size in zip(shape, y.shape)):
            self._wrong("function", f"gave an array of shape {y.shape}; expected {shape}")
        return y.astype(self.dtype, copy=False) if y.dtype.kind == "f" else y

    def _run(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            self._wrong(what, f"raised {type(error).__name__}: {error}", error)

    def _wrong(self, what: str, text: str, cause: Exception | None = None) -> NoReturn:
        raise FastBiLSTMError(f"layer {self.name!r} ({self.class_name}): {self.owner} {what} {text}") from cause


class CustomLayer(FunctionLayer):
    """The base of registered classes; `register_layer` sets their attributes."""

    ignored = ("autocast",)
    function: Any = None
    shape_rule: Any = None
    mask_rule: Any = None
    weight_rule: Any = None

    def weight_shapes(self, shapes: list[tuple[int | None, ...]]) -> dict[str, tuple[int | None, ...]]:
        rule = self.weight_rule
        if callable(rule):
            rule = self._asked(rule, "weights", self.config)
            if not isinstance(rule, (dict, list, tuple)):
                self.fail(f"its registered weights give {type(rule).__name__}; expected names or a dict of shapes")
        roles = dict(rule) if isinstance(rule, dict) else dict.fromkeys(rule)
        return {str(role): self.sizes.get(role, ()) if shape is None else tuple(shape) for role, shape in roles.items()}

    def infer(self, inputs: list[Spec], kwargs: dict[str, Any]) -> list[Spec]:
        shapes = [spec.shape for spec in inputs]
        given = shapes[0] if self.n_inputs == 1 else shapes
        found = (
            shapes[0] if self.shape_rule is None else self._asked(self.shape_rule, "output_shape", given, self.config)
        )
        self.is_list = isinstance(found, list)
        masked = inputs[0].masked if self.mask_rule == "pass" else any(spec.masked for spec in inputs)
        masked = masked and self.mask_rule != "drop"
        outputs = []
        for number, shape in enumerate(found if self.is_list else [found]):
            good = isinstance(shape, tuple) and len(shape) > 0
            if not good or not all(size is None or (type(size) is int and size >= 0) for size in shape):
                self.fail(
                    f"its registered output_shape gives {shape!r} for {given}; expected a tuple of whole numbers and "
                    "None, or a list of tuples for several outputs"
                )
            outputs.append(Spec(shape, masked and (number == 0 or callable(self.mask_rule))))
        self.expected = [spec.shape for spec in outputs]
        return outputs

    def call(self, inputs: list[Tensor], kwargs: dict[str, Any], states: Any) -> list[Tensor]:
        arrays: Any
        masks: Any
        arrays, masks = ([locked(part) for part in parts] for parts in zip(*inputs))
        if self.n_inputs == 1:
            arrays, masks = arrays[0], masks[0]
        weights = {role: locked(array) for role, array in self.weights.items()}
        result = self._run("function", self.function, arrays, masks, weights, dict(self.config))
        results = self.checked(result, inputs)
        return [Tensor(y, mask) for y, mask in zip(results, self._masks(masks, len(results)))]

    def _masks(self, given: Any, count: int) -> list[Any]:
        if self.mask_rule == "drop":
            return [None] * count
        if self.mask_rule == "pass":
            return [given if self.n_inputs == 1 else given[0]] + [None] * (count - 1)
        found = self._run("mask", self.mask_rule, given, dict(self.config))
        found = list(found) if self.is_list and isinstance(found, (list, tuple)) else [found]
        if len(found) != count:
            self._wrong("mask", f"gave {len(found)} masks for {count} outputs")
        return [None if mask is None else np.asarray(mask).astype(bool, copy=False) for mask in found]

    def _asked(self, rule: Callable[..., Any], what: str, *arguments: Any) -> Any:
        """Call a rule of `register_layer` while the model is read; if it raises, the model is refused."""
        try:
            return rule(*arguments)
        except Exception as error:
            self.fail(f"its registered {what} raised {type(error).__name__}: {error}")


def locked(array: Any) -> NDArray[Any] | None:
    """The array, read-only, because other layers and threads read it, too."""
    if array is None:
        return None
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def _keep(value: Any) -> Any:
    """An option as the file has it; Keras 3 writes tuples in a form of its own."""
    if isinstance(value, dict) and value.get("class_name") == "__tuple__":
        return list(value.get("items") or ())
    return value


def register_layer(
    name: str,
    call: Callable[[Any, Any, dict[str, NDArray[Any]], dict[str, Any]], Any],
    *,
    weights: list[str] | tuple[str, ...] | dict[str, Any] | Callable[[dict[str, Any]], Any] = (),
    options: list[str] | tuple[str, ...] | dict[str, Any] = (),
    output_shape: Callable[[Any, dict[str, Any]], tuple[int | None, ...] | list[Any]] | None = None,
    mask: Literal["drop", "pass"] | Callable[[Any, dict[str, Any]], Any] = "drop",
    n_inputs: int | None = 1,
) -> None:
    """Say what a layer class computes that is not one of Keras' own, so that files that name it can be read.

    Nothing from a file is ever executed: what runs is `call`. Register before loading, also before loading a converted
    file or unpickling a model; models that are loaded keep what they were loaded with. Registering a name again
    replaces it.

    Parameters
    ----------
    name : str
        The class as files name it: "AttentionWeightedAverage" for a class of any package, "package>Class" (or
        "module>Class") for one alone. The latter is needed where the class has the name of a Keras layer.
    call : callable
        call(x, mask, weights, config) -> array, or list of arrays where `output_shape` gives a list. x: array
        (batch, ...), floats in the dtype of computation, whole numbers as they come; mask: bool array or None; weights:
        dict of role to array in the dtype of computation; config: dict of the options. With n_inputs other than 1, x
        and mask are lists. Arrays are read-only. It may be called by several threads at once and must depend on
        nothing else.
    weights : sequence of str, dict or callable, optional
        The roles of the layer's arrays in the order of its `trainable_weights` and then `non_trainable_weights`, or a
        dict of role to shape (None: any size). A callable, weights(config), gives either: for arrays that depend on an
        option. The arrays of a layer inside the layer are "attribute/0", "attribute/1" in the order of its weights.
    options : sequence of str or dict, optional
        The options in the class's config that matter, or a dict of them to defaults. Those of every Keras layer (name,
        dtype, ...), initializers, regularizers and constraints need no mention; any other option in a file is refused.
    output_shape : callable, optional
        output_shape(shape, config) -> tuple, or list of tuples for several outputs; shape: tuple with None for sizes
        that are free, the batch first; a list of tuples with n_inputs other than 1. Default: the shape of the input.
    mask : {"drop", "pass"} or callable, optional
        What becomes of the mask of the (first) input: it ends here, or it is that of the (first) output. A callable,
        mask(mask, config), gives the mask of the output (a list of them for a list of outputs).
    n_inputs : int or None, optional
        How many tensors the layer is called with; None for any number from two on.

    Raises
    ------
    ValueError
        If an argument makes no sense, or the name is that of a layer that fastbilstm knows.

    Examples
    --------
    >>> def scale(x, mask, weights, config):
    ...     return x * weights["factor"] + config["shift"]
    >>> register_layer("Scale", scale, weights={"factor": (None,)}, options={"shift": 0.0}, mask="pass")
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"name is {name!r}; expected the name of a class")
    value: Any
    for what, value in (("call", call), ("output_shape", output_shape)):
        if not callable(value) and (what == "call" or value is not None):
            raise ValueError(f"register_layer({name!r}): {what} is {value!r}; expected a function")
    if mask not in ("drop", "pass") and not callable(mask):
        raise ValueError(f"register_layer({name!r}): mask is {mask!r}; expected 'drop', 'pass' or a function")
    if n_inputs is not None and (type(n_inputs) is not int or n_inputs < 1):
        raise ValueError(f"register_layer({name!r}): n_inputs is {n_inputs!r}; expected a whole number or None")
    for what, value in (("weights", weights), ("options", options)):
        names = list(value) if isinstance(value, (list, tuple, dict)) else [None]
        if not all(isinstance(part, str) for part in names) and not (what == "weights" and callable(value)):
            raise ValueError(f"register_layer({name!r}): {what} is {value!r}; expected a list of names or a dict")
    if isinstance(weights, dict) and not all(s is None or isinstance(s, (list, tuple)) for s in weights.values()):
        raise ValueError(f"register_layer({name!r}): weights is {weights!r}; expected shapes")
    defaults = options if isinstance(options, dict) else dict.fromkeys(options, REQUIRED)
    members = {
        "__doc__": call.__doc__,
        "options": {key: Option(_keep, default) for key, default in defaults.items()},
        "function": staticmethod(call),
        "shape_rule": None if output_shape is None else staticmethod(output_shape),
        "mask_rule": staticmethod(mask) if callable(mask) else mask,
        "weight_rule": staticmethod(weights) if callable(weights) else weights,
        "n_inputs": n_inputs,
    }
    with LOCK:
        known = REGISTRY.get(name)
        if name in _RESERVED or name.startswith("ops.") or (known is not None and not issubclass(known, CustomLayer)):
            raise ValueError(
                f"register_layer({name!r}): this is a layer of Keras; a class of this name in a package is registered "
                f"as 'package>{name}'"
            )
        REGISTRY[name] = type(name, (CustomLayer,), members)


def find_custom(*names: str) -> str | None:
    """The first of the names that is registered, or None."""
    for name in names:
        if name in REGISTRY and issubclass(REGISTRY[name], CustomLayer):
            return name
    return None
