"""A model as Keras lists it: inputs and outputs (TensorInfo), layers and their arrays (LayerInfo).

Users know both classes as names of `fastbilstm.model`, and so do pickles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from ..graph import Layer


class TensorInfo(Record):
    """An input or output of a model: its name, its shape (None: free; the batch axis first) and its dtype."""

    __module__ = "fastbilstm.model"

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class LayerInfo(Record):
    """A layer of a model as Keras lists it: `name`, `class_name`, `config` (what matters at inference), `layers`."""

    __module__ = "fastbilstm.model"

    name: str
    class_name: str
    config: dict[str, Any]
    layers: tuple[LayerInfo, ...]
    _weights: tuple[NDArray[Any], ...]
    _names: tuple[str, ...] = ()

    @property
    def weights(self) -> dict[str, NDArray[Any]]:
        """The layer's arrays by Keras' names, in Keras' order: "kernel", "recurrent_kernel"; those of layers inside by
        their names, too: "forward_lstm/kernel". The cell of a recurrent layer is left out."""
        return dict(zip(self._names, self._weights))

    def get_weights(self) -> list[NDArray[Any]]:
        """The layer's arrays, in Keras' layout and order."""
        return list(self._weights)


def listed_layers(layers: Iterable[Layer], tensors: Mapping[str, NDArray[Any]]) -> list[LayerInfo]:
    """A LayerInfo for each layer that Keras lists; a ForgetMask is what one of them does to another."""
    return [_info(layer, tensors) for layer in layers if layer.class_name != "ForgetMask"]


def find_layer(layers: Sequence[LayerInfo], name: str | None, index: int | None) -> LayerInfo:
    """The layer of a name or at an index, of which one is given; see `Model.get_layer`."""
    if (name is None) == (index is None):
        raise InputError("get_layer takes a name or an index")
    if index is None:
        found = [layer for layer in layers if layer.name == name]
        if not found:
            names = ", ".join(repr(layer.name) for layer in layers)
            raise InputError(f"there is no layer {name!r}; the layers are {names}")
        return found[0]
    if type(index) is not int or not -len(layers) <= index < len(layers):
        raise InputError(f"index is {index!r}; the model has {len(layers)} layers")
    return layers[index]


def _info(layer: Layer, tensors: Mapping[str, NDArray[Any]]) -> LayerInfo:
    inner = layer.layers if layer.graph is None else layer.graph.layers
    parts = tuple(listed_layers(inner, tensors))
    # Once each, though a cell that stands twice in a stack names them twice.
    names: dict[str, str] = {}
    for path, part in layer.walk():
        for role, name in part.weights.items():
            names.setdefault(name, "/".join((*path[1:], role)))
    weights = tuple(tensors[name] for name in names)
    return LayerInfo(layer.name, layer.class_name, dict(layer.config), parts, weights, tuple(names.values()))
