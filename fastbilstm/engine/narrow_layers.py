"""Which arrays of a graph are narrowed, and which of their elements share a scale in int8; narrowing all of a model.

Kernels and embeddings are narrowed. Biases, normalizations and what Keras has quantized already stay as they are.
Imports NumPy; knows no files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import FileFormatError
from .weight_forms import narrowed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    from ..graph import Graph, Layer

# The axes of an array that share a scale: all but those of its columns, or all but those of its rows.
_COLUMNS, _HEADS, _OUT_OF_HEADS, _ROWS = slice(0, -1), slice(0, 1), slice(0, 2), slice(1, None)
_KERNELS = {"kernel": _COLUMNS, "recurrent_kernel": _COLUMNS}
_ATTENTION = {f"{part}/kernel": _HEADS for part in ("query", "key", "value", "gate")}
_ATTENTION["attention_output/kernel"] = _OUT_OF_HEADS
# By class, then by role. A class that is not here (one of your own, a transposed convolution) stays float32, but for
# EinsumDense: see `narrowed_roles`.
NARROWED = {
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "LSTMCell", "GRUCell", "SimpleRNNCell"), _KERNELS),
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), _KERNELS),
    **dict.fromkeys(("Dense", "Conv1D", "Conv2D", "Conv3D"), {"kernel": _COLUMNS}),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), {"pointwise_kernel": _COLUMNS}),
    **dict.fromkeys(("MultiHeadAttention", "GroupQueryAttention"), _ATTENTION),
    "Embedding": {"embeddings": _ROWS},
}


class Narrow(NamedTuple):
    """An array that is narrowed: the layer it belongs to, its role there, and which of its axes share a scale."""

    layer: Layer
    role: str
    sharing: slice

    def axes(self, array: NDArray[Any]) -> tuple[int, ...]:
        """The numbers of the axes, for `weight_forms.int8_codes`."""
        return tuple(range(array.ndim)[self.sharing])

    def fail(self, text: str) -> FileFormatError:
        """The error that says what is wrong with the array."""
        return FileFormatError(f"layer {self.layer.name!r} ({self.layer.class_name}): its {self.role} {text}")


def narrowed_roles(layer: Layer) -> Mapping[str, slice]:
    """The axes that share a scale, by role, of the arrays of a layer that are narrowed."""
    if layer.class_name != "EinsumDense":
        return NARROWED.get(layer.class_name, {})
    from ..layers.einsum_dense import summed_axes  # few models have it

    count = summed_axes(layer.config["equation"])
    return {"kernel": slice(0, count)} if count else {}


def narrow_arrays(graph: Graph) -> dict[str, Narrow]:
    """The arrays that are narrowed, by name; each once, however many layers share it.

    Raises
    ------
    FileFormatError
        If two layers share an array as rows and as columns.
    """
    found: dict[str, Narrow] = {}
    for _, layer in graph.walk():
        for role, sharing in narrowed_roles(layer).items():
            if role not in layer.weights:
                continue
            this = Narrow(layer, role, sharing)
            other = found.setdefault(layer.weights[role], this)
            if other.sharing != sharing:
                raise this.fail(f"is the {other.role} of layer {other.layer.name!r}, too, which scales it otherwise")
    return found


def narrow(graph: Graph, tensors: Mapping[str, NDArray[Any]], form: str) -> dict[str, NDArray[Any]]:
    """All arrays of a model, those of `narrow_arrays` rounded to a form of `weight_forms.FORMS`, as float32.

    Raises
    ------
    FileFormatError
        If the form cannot hold a number of an array; names layer, array and number.
    """
    changed: dict[str, NDArray[Any]] = {}
    for name, this in narrow_arrays(graph).items():
        if name not in tensors or tensors[name].dtype.kind != "f":
            continue  # what is wrong with it is told when the layers are built
        try:
            with np.errstate(over="ignore"):
                array = tensors[name].astype(np.float32, copy=False)
            changed[name] = narrowed(array, form, this.axes(array))
        except ValueError as error:
            raise this.fail(f"holds {error}: leave weights={form!r} (--weights {form}) out, or take another") from error
    return {**tensors, **changed}
