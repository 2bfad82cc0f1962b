"""Lambda: a layer whose function is code in the file. The user gives a NumPy function in its place.

The function is kept in the layer's config; it is in no file. Imports NumPy; knows nothing of files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FastBiLSTMError, FileFormatError
from .base import Spec, Tensor, register
from .custom import FunctionLayer, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ..graph import Graph, Layer

# What free sizes are, other than that of the batch, when the function is called to find its output shape. A function
# may need some timesteps (`x[:, 9]`), so that longer ones follow.
_FREE_SIZES = (3, 16, 64)


@register
class Lambda(FunctionLayer):
    """Calls the user's function with the array of its input, or with a list of arrays."""

    n_inputs = None
    owner = "its"

    def infer(self, inputs: list[Spec], kwargs: dict[str, Any]) -> list[Spec]:
        """Two calls on zeros, of which every free size differs, show which sizes of the output are free."""
        if not callable(self.config.get("function")):
            self.fail(f"its function is needed: load(..., lambdas={{{self.name!r}: function}})")
        first_error: Exception | None = None
        for size in _FREE_SIZES:
            try:
                (found, same), (others, _) = self._tried(inputs, 2, size), self._tried(inputs, 3, size + 1)
                break
            except Exception as error:
                first_error = first_error or error
        else:
            shapes = ", ".join(str(_filled(spec.shape, 2, _FREE_SIZES[0])) for spec in inputs)
            self.fail(f"its function raised {type(first_error).__name__} on zeros of shape {shapes}: {first_error}")
        self.is_list = isinstance(found, list)
        results, others = (part if isinstance(part, list) else [part] for part in (found, others))
        self.expected = []
        for one, other in zip(results, others):
            rows = [_filled(inputs[0].shape[:1], count, 0) for count in (2, 3)]
            if one.ndim != other.ndim or [one.shape[:1], other.shape[:1]] != rows:
                self.fail(
                    f"its function gives shapes {one.shape} and {other.shape} for batches of {rows[0][0]} and "
                    f"{rows[1][0]} rows; expected the rows as first axis"
                )
            sizes = (a if a == b else None for a, b in zip(one.shape[1:], other.shape[1:]))
            self.expected.append((inputs[0].shape[0], *sizes))
        self.passes_mask = same and not self.version.is_multi_backend
        return [Spec(shape, self.passes_mask and inputs[0].masked) for shape in self.expected]

    def _tried(self, inputs: list[Spec], rows: int, size: int) -> tuple[Any, bool]:
        """What the function gives for zeros, and whether it is its argument."""
        zeros = [
            locked(np.zeros(_filled(shape, rows, size), self.dtype if dtype in (None, "float") else dtype))
            for shape, _, dtype in inputs
        ]
        given = zeros[0] if len(zeros) == 1 else zeros
        found = self.config["function"](given)
        if isinstance(found, (list, tuple)):
            return [np.asarray(part) for part in found], False
        return np.asarray(found), found is given

    def call(self, inputs: list[Tensor], kwargs: dict[str, Any], states: Any) -> list[Tensor]:
        arrays = [locked(tensor.value) for tensor in inputs]
        result = self._run("function", self.config["function"], arrays[0] if len(arrays) == 1 else arrays)
        # A function that returns its argument returns the tensor of Keras, with its mask.
        mask = inputs[0].mask if self.passes_mask else None
        return [Tensor(y, mask) for y in self.checked(result, inputs)]


def _filled(shape: tuple[int | None, ...], rows: int, size: int) -> tuple[int, ...]:
    return tuple((rows if axis == 0 else size) if given is None else given for axis, given in enumerate(shape))


def check_functions(lambdas: Any) -> dict[str, Callable[..., Any]]:
    """`lambdas` as `load` takes it, as a dict."""
    if lambdas is None:
        return {}
    if not isinstance(lambdas, dict) or not all(isinstance(name, str) and callable(f) for name, f in lambdas.items()):
        raise FastBiLSTMError(
            f"lambdas is {str(lambdas)[:80]}; expected a dict from names of Lambda layers to functions"
        )
    return dict(lambdas)


def check_names(given: Iterable[str], held: Iterable[str]) -> None:
    """Refuse names that match no Lambda layer."""
    held = list(held)
    if wrong := [name for name in given if name not in held]:
        names = ", ".join(map(repr, held)) or "none"
        raise FileFormatError(f"lambdas names {wrong[0]!r}; the Lambda layers are {names}")


def functions_of(graph: Graph) -> dict[str, Any]:
    """{name: function or None} of the Lambda layers; in a model or wrapper inside the model the name is a path."""
    return {
        "/".join(path): layer.config.get("function") for path, layer in graph.walk() if layer.class_name == "Lambda"
    }


def with_functions(graph: Graph, lambdas: Mapping[str, Any]) -> Graph:
    """The graph whose Lambda layers have these functions. FileFormatError names those that have none."""
    held = functions_of(graph)
    if not held and not lambdas:
        return graph
    check_names(lambdas, held)
    if missing := [name for name in held if name not in lambdas]:
        text = ", ".join(f"{name!r}: function" for name in missing)
        raise FileFormatError(
            f"the functions of its Lambda layers are in no file: give them as lambdas={{{text}}} to load"
        )

    def given(layers: tuple[Layer, ...], path: tuple[str, ...]) -> tuple[Layer, ...]:
        return tuple(one(layer, (*path, layer.name)) for layer in layers)

    def one(layer: Layer, path: tuple[str, ...]) -> Layer:
        if layer.class_name == "Lambda":
            return layer.replace(config={"function": lambdas["/".join(path)]})
        if layer.graph is not None:
            return layer.replace(graph=layer.graph.replace(layers=given(layer.graph.layers, path)))
        return layer.replace(layers=given(layer.layers, path)) if layer.layers else layer

    return graph.replace(layers=given(graph.layers, ()))
