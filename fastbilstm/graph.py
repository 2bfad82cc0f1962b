"""The description of a model: records, shape and mask inference. Holds no arrays and reads no files.

A Graph is a list of layers and a list of calls of these layers (nodes), as in Keras' functional API; Sequential
models are the same thing with one chain of calls. Layers may hold layers (Bidirectional, TimeDistributed) or a whole
Graph (a model inside a model). It knows names, options and topology; what a layer computes is in `layers/`.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import FileFormatError
from .record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

# Frameworks by the semantics they share: multi-backend Keras 1 and 2, tf.keras (with tf_keras), Keras 3.
FRAMEWORKS = ("keras1", "keras2", "tf_keras", "keras3")


class KerasVersion(Record):
    """The framework that wrote a file; it decides the semantics where versions differ.

    Attributes
    ----------
    framework : str
        One of FRAMEWORKS.
    version : tuple of int
        Up to three numbers.
    backend : str
        What Keras computed with; some layers depend on it.
    """

    framework: str
    version: tuple[int, ...]
    backend: str = "tensorflow"

    def check(self) -> None:
        if self.framework not in FRAMEWORKS:
            raise FileFormatError(f"framework {self.framework!r} is unknown; expected one of {FRAMEWORKS}")

    @classmethod
    def parse(cls, text: str | None, backend: str | None = "tensorflow") -> KerasVersion:
        """Read Keras' `keras_version` attribute, e.g. '1.2.2', '2.2.4-tf', '2.15.0', '3.15.1'; None means Keras 1."""
        text = "1" if text is None else str(text)
        parts = []
        for part in text.split("-")[0].split("."):
            digits = part[: len(part) - len(part.lstrip("0123456789"))] if not part.isdecimal() else part
            if not digits:
                break
            parts.append(int(digits[:9]))
        if not parts or not 0 <= parts[0] <= 3:
            raise FileFormatError(f"keras_version is {text!r}; fastbilstm reads files of Keras 1, 2 and 3")
        if parts[0] == 0:
            raise FileFormatError(f"keras_version is {text!r}: files of Keras 0.x are not supported")
        version = tuple(parts[:3])
        if parts[0] == 1:
            framework = "keras1"
        elif parts[0] == 3:
            framework = "keras3"
        else:
            # The last multi-backend release was 2.3.1; tf.keras says "-tf" up to TF 2.2 and 2.4 or more afterwards.
            framework = "tf_keras" if text.endswith("-tf") or version >= (2, 4) else "keras2"
        return cls(framework, version, str(backend or "tensorflow"))

    def __str__(self) -> str:
        name = "tf_keras" if self.framework == "tf_keras" else "keras"
        return f"{name} {'.'.join(map(str, self.version))}"

    @property
    def is_keras3(self) -> bool:
        return self.framework == "keras3"

    @property
    def is_multi_backend(self) -> bool:
        """Keras 1 or 2 as it was before it moved into TensorFlow."""
        return self.framework in ("keras1", "keras2")


class Ref(Record):
    """Output number `tensor` of node number `node`; model inputs are nodes too."""

    node: int
    tensor: int = 0


class Constant(Record):
    """A tensor written into the arguments of a call: nested lists of numbers, and their dtype.

    Without a dtype it takes that of the tensors beside it.
    """

    value: Any
    dtype: Any = None

    @cached_property
    def array(self) -> NDArray[Any]:
        return np.asarray(self.value, self.dtype)


class Layer(Record):
    """One layer: Keras' class and options, and the names of its weights in Keras' order.

    Attributes
    ----------
    name, class_name : str
    config : dict
        The options that matter at inference.
    weights : dict of str to str
        From the role of each array in the layer to its name in the model.
    layers : tuple of Layer
        Those inside a wrapper, such as Bidirectional.
    graph : Graph or None
        Of a model inside the model.
    ignored : tuple of str
        Options that Keras stores and inference does not need, in words.
    """

    name: str
    class_name: str
    config: dict[str, Any] = {}
    weights: dict[str, str] = {}
    layers: tuple[Layer, ...] = ()
    graph: Graph | None = None
    ignored: tuple[str, ...] = ()

    def walk(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Layer]]:
        """Yield (path, layer) for this layer and all inside it."""
        path = (*path, self.name)
        yield path, self
        inner = self.layers if self.graph is None else self.graph.layers
        for layer in inner:
            yield from layer.walk(path)


class Node(Record):
    """One call of a layer, by the number of the layer. `args` and `kwargs` hold Refs, constants, and lists or dicts of
    them.
    """

    layer: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = {}


class Input(Record):
    """A model input; `shape` counts the batch axis, None where a size is free.

    The shape itself may be None in a Sequential model inside another: it takes what it is called with.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str


class Graph(Record):
    """A model. Node numbers below len(inputs) are the inputs, the others are `nodes` in the order of execution.

    `output_structure`: "single", "list", "dict:" with the keys, or "nested:" with lists and dicts of output numbers as
    JSON; `input_structure` likewise.

    Attributes
    ----------
    name : str
    keras : KerasVersion
    inputs : tuple of Input
    layers : tuple of Layer
        Each once, however often it is called.
    nodes : tuple of Node
    outputs : tuple of Ref
    output_names : tuple of str
    input_structure, output_structure : str
        How Keras takes the inputs and gives the outputs.
    dtype : str
        The precision that the model was made for.
    notes : tuple of str
        What was found when the file was read, in sentences.
    """

    name: str
    keras: KerasVersion
    inputs: tuple[Input, ...]
    layers: tuple[Layer, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Ref, ...]
    output_names: tuple[str, ...]
    input_structure: str = "list"
    output_structure: str = "list"
    dtype: str = "float32"
    notes: tuple[str, ...] = ()

    def check(self) -> None:
        count = len(self.inputs)
        if self.dtype not in ("float32", "float64"):
            raise FileFormatError(f"model {self.name!r}: dtype is {self.dtype!r}; expected float32 or float64")
        for number, node in enumerate(self.nodes):
            if not 0 <= node.layer < len(self.layers):
                raise FileFormatError(f"model {self.name!r}: node {number} calls layer {node.layer}, which is missing")
            for ref in flatten_refs((node.args, node.kwargs)):
                if not 0 <= ref.node < count + number:
                    raise FileFormatError(f"model {self.name!r}: node {number} uses a tensor that comes after it")
        idle = set(range(len(self.layers))) - {node.layer for node in self.nodes}
        if idle:
            raise FileFormatError(f"model {self.name!r}: layer {self.layers[min(idle)].name!r} is never called")
        for ref in self.outputs:
            if not 0 <= ref.node < count + len(self.nodes):
                raise FileFormatError(f"model {self.name!r}: an output refers to node {ref.node}, which is missing")
        if len(self.outputs) != len(self.output_names):
            raise FileFormatError(f"model {self.name!r}: {len(self.outputs)} outputs, {len(self.output_names)} names")
        for nesting, length, what in (
            (self.output_nesting, len(self.outputs), "outputs"),
            (self.input_nesting, count, "inputs"),
        ):
            numbers = [] if nesting is None else _leaves(nesting)
            if nesting is not None and (numbers != list(range(length)) or not all(type(n) is int for n in numbers)):
                raise FileFormatError(f"model {self.name!r}: {length} {what} in lists of {numbers}")

    @property
    def input_keys(self) -> list[str] | None:
        """The keys of the inputs where they are a dict, in their order; else None."""
        return _keys(self.input_structure)

    @property
    def output_keys(self) -> list[str] | None:
        """The keys of the outputs where they are a dict, in their order; else None."""
        return _keys(self.output_structure)

    @property
    def output_nesting(self) -> Any:
        """The numbers of the outputs in the lists of lists that Keras returns (or dicts); None where they are none."""
        return _nesting(self.output_structure)

    @property
    def input_nesting(self) -> Any:
        """The numbers of the inputs in the lists of lists that Keras takes (or dicts); None where they are none."""
        return _nesting(self.input_structure)

    def walk(self) -> Iterator[tuple[tuple[str, ...], Layer]]:
        """Yield (path, layer) for all layers at every depth."""
        for layer in self.layers:
            yield from layer.walk()


def _keys(structure: str) -> list[str] | None:
    kind, _, keys = structure.partition(":")
    return keys.split("\0") if kind == "dict" else None


def _nesting(structure: str) -> Any:
    kind, _, text = structure.partition(":")
    return json.loads(text) if kind == "nested" else None


def _leaves(nesting: Any) -> list[Any]:
    if not isinstance(nesting, (list, dict)):
        return [nesting]
    parts = nesting.values() if isinstance(nesting, dict) else nesting
    return [leaf for part in parts for leaf in _leaves(part)]


def map_refs(function: Callable[[Any], Any], value: Any, kind: type = Ref) -> Any:
    """Apply `function` to every reference of a kind inside nested tuples, lists and dicts."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, (tuple, list)):
        return type(value)(map_refs(function, item, kind) for item in value)
    if isinstance(value, dict):
        return {key: map_refs(function, item, kind) for key, item in value.items()}
    return value


def flatten_refs(value: Any, kind: type = Ref) -> list[Any]:
    """List the references of a kind inside nested tuples, lists and dicts, in order."""
    found: list[Any] = []
    map_refs(found.append, value, kind)
    return found


# ---- JSON: the form in which a converted file holds the graph -------------------------------------------------------


def _value_to_json(value: Any) -> Any:
    if isinstance(value, Ref):
        return {"$ref": [value.node, value.tensor]}
    if isinstance(value, Constant):
        return {"$constant": [value.value, value.dtype]}
    if isinstance(value, (tuple, list)):
        return [_value_to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _value_to_json(item) for key, item in value.items()}
    return value


def _value_from_json(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"$ref"}:
        node, tensor = value["$ref"]
        return Ref(int(node), int(tensor))
    if isinstance(value, dict) and set(value) == {"$constant"}:
        numbers, dtype = value["$constant"]
        constant = Constant(numbers, dtype)
        if constant.array.dtype.kind not in "biuf":
            raise ValueError(f"a constant of dtype {constant.array.dtype}")
        return constant
    if isinstance(value, list):
        return [_value_from_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _value_from_json(item) for key, item in value.items()}
    return value


def _layer_to_json(layer: Layer) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": layer.name, "class_name": layer.class_name}
    # The function of a Lambda is in no file.
    entry |= {"config": {k: v for k, v in layer.config.items() if not callable(v)}, "weights": layer.weights}
    if layer.layers:
        entry["layers"] = [_layer_to_json(inner) for inner in layer.layers]
    if layer.graph is not None:
        entry["graph"] = graph_to_json(layer.graph)
    if layer.ignored:
        entry["ignored"] = list(layer.ignored)
    return entry


def _layer_from_json(entry: Any) -> Layer:
    return Layer(
        name=str(entry["name"]),
        class_name=str(entry["class_name"]),
        config=dict(entry["config"]),
        weights={str(role): str(name) for role, name in entry["weights"].items()},
        layers=tuple(_layer_from_json(inner) for inner in entry.get("layers", ())),
        graph=graph_from_json(entry["graph"]) if entry.get("graph") else None,
        ignored=tuple(entry.get("ignored", ())),
    )


def _shape_from_json(shape: Any) -> tuple[int | None, ...] | None:
    return None if shape is None else tuple(None if size is None else int(size) for size in shape)


def _input_from_json(entry: Any) -> Input:
    given = Input(str(entry["name"]), _shape_from_json(entry["shape"]), str(entry["dtype"]))
    if any(size is not None and size < 0 for size in given.shape or ()):
        raise FileFormatError(f"input {given.name!r} has shape {given.shape}")
    if not given.dtype.startswith(("float", "bfloat", "int", "uint", "bool", "string")):
        raise FileFormatError(f"input {given.name!r} has dtype {given.dtype!r}")
    return given


def graph_to_json(graph: Graph) -> dict[str, Any]:
    """Turn a Graph into plain dicts, lists, strings and numbers."""
    return {
        "name": graph.name,
        "keras": [graph.keras.framework, list(graph.keras.version), graph.keras.backend],
        "inputs": [
            {"name": i.name, "shape": None if i.shape is None else list(i.shape), "dtype": i.dtype}
            for i in graph.inputs
        ],
        "layers": [_layer_to_json(layer) for layer in graph.layers],
        "nodes": [
            {"layer": n.layer, "args": _value_to_json(n.args), "kwargs": _value_to_json(n.kwargs)} for n in graph.nodes
        ],
        "outputs": [[ref.node, ref.tensor] for ref in graph.outputs],
        "output_names": list(graph.output_names),
        "input_structure": graph.input_structure,
        "output_structure": graph.output_structure,
        "dtype": graph.dtype,
        "notes": list(graph.notes),
    }


def graph_from_json(entry: Any) -> Graph:
    """Inverse of `graph_to_json`; raises FileFormatError on anything malformed."""
    try:
        framework, version, backend = entry["keras"]
        return Graph(
            name=str(entry["name"]),
            keras=KerasVersion(framework, tuple(int(part) for part in version), str(backend)),
            inputs=tuple(_input_from_json(given) for given in entry["inputs"]),
            layers=tuple(_layer_from_json(layer) for layer in entry["layers"]),
            nodes=tuple(
                Node(int(n["layer"]), tuple(_value_from_json(n["args"])), dict(_value_from_json(n["kwargs"])))
                for n in entry["nodes"]
            ),
            outputs=tuple(Ref(int(node), int(tensor)) for node, tensor in entry["outputs"]),
            output_names=tuple(str(name) for name in entry["output_names"]),
            input_structure=str(entry["input_structure"]),
            output_structure=str(entry["output_structure"]),
            dtype=str(entry["dtype"]),
            notes=tuple(str(note) for note in entry["notes"]),
        )
    except FileFormatError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"the graph is malformed: {type(error).__name__}: {error}") from error
