"""Any Keras file -> (Graph, tensors): finds the kind and version of the file, joins architecture and weights."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FileFormatError, UnsupportedLayerError
from ..graph import KerasVersion
from ..layers.functional import faults_of, sized
from ..layers.lambdas import check_names, with_functions
from ..layers.quantized import PREFIXES
from . import tfjs
from .architecture import given_config
from .archive import read_archive
from .asked import PLAIN, Asked
from .assets import with_vocabularies
from .backslashes import CONTAINERS, with_slashes
from .config import MODELS, ConfigReader, split_config
from .hdf5 import OPAQUE, attribute, from_bfloat16, is_group, json_attribute, open_file, size_of
from .nodes import RECURRENT, WRAPPERS
from .object_paths import arrays_in_paths, read_paths
from .other_files import what_json_is
from .registration import count_inputs, skeleton
from .sharded import open_sharded, read_json
from .shared_objects import merged
from .weight_groups import arrays_in_groups, read_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..graph import Graph

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"
# A Keras 3 architecture without weights or metadata does not say its version.
_UNKNOWN_KERAS3 = (3, 15)


def is_hdf5(head: bytes, source: str | bytes) -> bool:
    """HDF5 has its signature at byte 0, 512, 1024, 2048, ..."""
    if head.startswith(HDF5_MAGIC):
        return True
    if isinstance(source, bytes):
        places = (source[512 << k : (512 << k) + 8] for k in range(12))
        return any(place == HDF5_MAGIC for place in places)
    with open(source, "rb") as file:
        for k in range(12):
            file.seek(512 << k)
            if file.read(8) == HDF5_MAGIC:
                return True
    return False


def read_keras(
    source: str | bytes, head: bytes, label: str, config: Any = None, asked: Asked = PLAIN
) -> tuple[Graph, dict[str, NDArray[Any]]]:
    """Read a Keras file.

    Parameters
    ----------
    source : str or bytes
        A path or the content.
    head : bytes
        The first bytes, which show the kind of the file.
    label : str
        What errors call the file.
    config : dict, str or path, optional
        The architecture, for files that hold weights only.
    asked : Asked
        What else `load` was asked for.

    Returns
    -------
    (Graph, dict of str to ndarray)
    """
    if head.startswith(ZIP_MAGIC):
        if config is not None:
            raise FileFormatError(f"{label}: a .keras archive holds its own architecture; do not give config")
        model, metadata, weights, vocabularies = read_archive(source, label)
        if not isinstance(metadata, dict) or not isinstance(metadata.get("keras_version"), str):
            raise FileFormatError(f"{label}: metadata.json is no dictionary with a keras_version")
        text = metadata["keras_version"]
        if text.startswith("0."):
            raise FileFormatError(
                f"{label}: an archive of keras-core {text}, the preview of Keras 3, which is not supported: build the "
                "model in Keras 3, load the model.weights.h5 in the archive with load_weights, and save it"
            )
        version = KerasVersion.parse(text)
        inside = f"{label}: model.weights.h5"
        with open_file(weights, inside, size_of(source)) as stored, with_slashes(stored, inside) as file:
            read = lambda *a: read_paths(file, *a[:2], inside, a[2])  # noqa: E731
            held = lambda name, names: arrays_in_paths(file, name, names, inside)  # noqa: E731
            return assemble_parts(model, version, label, asked, read, vocabularies, held)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open_file(source, label))
        if "nb_layers" in file.attrs:
            raise FileFormatError(f"{label}: a weights file of Keras 0.x, which is not supported")
        root = stack.enter_context(with_slashes(file, label))
        is_paths = any(is_group(root, name) for name in CONTAINERS)
        container = file["model_weights"] if is_group(file, "model_weights") else file
        is_groups = any(name.startswith("layer_names") for name in container.attrs)
        if not is_groups and not is_paths:
            raise FileFormatError(
                f"{label}: an HDF5 file without Keras weights (no layer_names, no group 'layers'), {_contents(file)}"
            )
        if config is None and "model_config" in file.attrs:
            model = json_attribute(file, "model_config", label)
            split_config(model, label)
        else:
            model = given_config(config, label)
        version = _find_version(model, file, container, label, uses_config=config is not None, is_paths=not is_groups)
        notes = []

        def read(graph, trainable, names):
            if is_groups:
                return read_groups(container, graph, trainable, label, names, notes)
            return read_paths(root, graph, trainable, label, names, notes)

        def held(name, names):
            if is_groups:
                return arrays_in_groups(container, name, label)
            return arrays_in_paths(root, name, names, label)

        graph, tensors = assemble_parts(model, version, label, asked, read, held=held)
        return (graph if config is None else _with_notes(graph, notes)), tensors


def _with_notes(graph, notes):
    return graph.replace(notes=(*graph.notes, *notes))


def read_json_index(
    source: str | bytes, label: str, config: Any = None, asked: Asked = PLAIN
) -> tuple[Graph, dict[str, NDArray[Any]]]:
    """Read JSON that names files beside it: model.json of TensorFlow.js, `.weights.json`; like `read_keras`."""
    index = read_json(source, label)
    if isinstance(source, bytes):
        names_files = tfjs.is_tfjs(index) or (isinstance(index, dict) and "weight_map" in index)
        words = "JSON that names files beside it: give its path" if names_files else what_json_is(index)
        raise FileFormatError(f"{label}: {words}")
    if tfjs.is_tfjs(index):
        return _read_tfjs(index, source, label, config, asked)
    with open_sharded(index, source, label) as file:
        model = given_config(config, label)
        version = _find_version(model, file, file, label, uses_config=True, is_paths=True)
        notes = []
        graph, tensors = assemble_parts(
            model, version, label, asked, lambda g, t, n: read_paths(file, g, t, label, n, notes)
        )
        return _with_notes(graph, notes), tensors


def _contents(file):
    """What an HDF5 file that Keras did not write holds: who wrote it, or the names in it."""
    if any("pandas_type" in file[name].attrs for name in file if is_group(file, name)):
        return "but a table of pandas: it holds no model"
    if "_NCProperties" in file.attrs:
        return "but a netCDF file: it holds no model"
    names = ", ".join(name for name, _ in zip(file, range(5)))[:200]
    return f"but {names or 'nothing'}: if it is a checkpoint of training, save the model itself"


def _read_tfjs(index, path, label, config, asked):
    model, version, note = tfjs.read_topology(index, label)
    if config is not None or model is None:
        model, note = given_config(config, label), None
        version = version_of(model, model.get("keras_version"), model.get("backend"), label, is_paths=True)
    graph, tensors = assemble_parts(
        model,
        version,
        label,
        asked,
        lambda g, t, n: tfjs.read_weights(index, path, g, t, label, lambda file: read_paths(file, g, t, label, n)),
    )
    return _with_notes(graph, [] if note is None else [note]), tensors


def check_stored_dtypes(graph, tensors, stores_bfloat16, label):
    """Decode bfloat16 arrays that only the architecture tells of; refuse int8 arrays that it does not tell of."""
    for _, layer in graph.walk():
        for role, name in layer.weights.items():
            dtype = tensors[name].dtype
            if dtype == OPAQUE and stores_bfloat16:
                tensors[name] = from_bfloat16(tensors[name])
            elif dtype == OPAQUE:
                raise FileFormatError(f"{label}: array {name!r} has dtype {dtype}; expected numbers")
            elif dtype == np.int8 and not layer.class_name.startswith(PREFIXES):
                raise FileFormatError(
                    f"{label}: layer {layer.name!r} ({layer.class_name}): its {role} is of int8, and the architecture "
                    "does not say that the layer is quantized"
                )


def _find_version(model, file, container, label, uses_config, is_paths):
    text = model.get("keras_version")
    backend = model.get("backend")
    if not uses_config or text is None:
        text = attribute(file, "keras_version") or text or attribute(container, "keras_version")
        backend = backend or attribute(file, "backend") or attribute(container, "backend")
    return version_of(model, text, backend, label, is_paths)


def version_of(model, text, backend, label, is_paths):
    if text is None and "registered_name" in model:
        return KerasVersion("keras3", _UNKNOWN_KERAS3)
    if text is None and is_paths:
        raise FileFormatError(
            f"{label}: neither the file nor the architecture says which Keras wrote it; give the architecture as "
            "model.to_json() makes it, or add its keras_version"
        )
    return KerasVersion.parse(text, backend)


def class_names(class_name, config):
    """Keras' class name of each layer by name, in order; nested models as (class name, {...}), wrappers likewise."""
    entries = config if isinstance(config, list) else config.get("layers", [])
    result = {}
    for entry in entries:
        result[_entry_name(entry)] = _entry_class(entry)
    return result


def _entry_name(entry):
    inner = entry.get("config")
    return str(entry.get("name") or (inner.get("name") if isinstance(inner, dict) else None))


def _entry_class(entry):
    name, config = str(entry.get("class_name")), entry.get("config")
    if name in MODELS:
        return name, class_names(name, config)
    if name in WRAPPERS and isinstance(config, dict) and isinstance(config.get("layer"), dict):
        return name, {_entry_name(config["layer"]): _entry_class(config["layer"])}
    return name


def _check_numbers(model, label):
    """Refuse whole numbers that NumPy cannot hold, wherever they stand in an architecture."""
    stack = [model]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
        elif isinstance(item, int) and not -(2**63) <= item < 2**63:
            raise FileFormatError(f"{label}: the architecture holds a whole number beyond 64 bits")


def assemble_parts(model, version, label, asked, read_weights, vocabularies=None, held=None):
    _check_numbers(model, label)
    reader, outputs = ConfigReader(version, label, asked), asked.outputs
    class_name, config = split_config(model, label)
    try:
        graph = reader.read_model(class_name, config, outputs=outputs)
    except (AttributeError, TypeError, KeyError, IndexError, ValueError, RecursionError) as error:
        if isinstance(error, FileFormatError) or isinstance(error, UnsupportedLayerError):
            raise
        raise FileFormatError(f"{label}: the architecture is malformed ({type(error).__name__}: {error})") from error
    check_names(asked.lambdas, reader.lambda_names)
    problems = [text for name, found in reader.problems.items() if not outputs or name in reader.kept for text in found]
    names = class_names(class_name, config)
    if problems:
        raise UnsupportedLayerError(problems, label, _registrations(reader, names, outputs, held))
    graph = with_functions(with_vocabularies(graph, names, vocabularies or {}, label), asked.lambdas)
    graph, stored = merged(graph, read_weights(graph, reader.trainable, names))
    # Nodes of operations alone compute in the dtype of the inputs.
    dtype = "float64" if "float64" in (reader.dtypes or reader.input_dtypes) else "float32"
    notes = tuple(reader.notes)
    if {"float32", "float64"} <= reader.dtypes:
        notes += ("some layers are float64: all are computed in float64",)
    if version.is_keras3 and version.version == _UNKNOWN_KERAS3:
        notes += (f"the file does not say which Keras 3 wrote it; computed as Keras {version.version[0]}.15 does",)
    inputs = tuple(i.replace(shape=i.shape or _guess_shape(graph, stored, label)) for i in graph.inputs)
    graph = graph.replace(dtype=dtype, notes=notes, inputs=inputs)
    with faults_of(graph):  # what contradicts the architecture is not read
        sized(graph, {name: array.shape for name, array in stored.items()}, dtype)
    tensors = {name: array.read() for name, array in stored.items()}
    check_stored_dtypes(graph, tensors, reader.stores_bfloat16, label)
    return graph, {name: np.asarray(array, order="C") for name, array in tensors.items()}


def _registrations(reader, names, outputs, held):
    """For each class that is none of Keras', once: the call of `register_layer` that describes it."""
    found = {}
    for path, (name, config, nodes) in reader.unknown.items():
        if outputs and path[0] not in reader.kept:
            continue
        arrays = None
        if held is not None and len(path) == 1:
            with contextlib.suppress(FileFormatError):  # the class is named without them
                arrays = held(path[0], names)
        found.setdefault(name, skeleton(name, config, arrays, count_inputs(nodes)))
    return list(found.values())


# Layers that may stand first and say nothing of the shape, but that some take sequences alone.
_OF_SEQUENCES = ("Masking", "SpatialDropout1D")
_KEEPS_SHAPE = (*_OF_SEQUENCES, "Dropout", "GaussianNoise", "GaussianDropout", "AlphaDropout", "Activation")


def _guess_shape(graph, stored, label):
    """The input shape of a Sequential model that does not store one, from the weights of its first layer."""
    lead = (None,)
    for layer in graph.layers:
        if layer.class_name in _KEEPS_SHAPE:
            lead = (None, None) if layer.class_name in _OF_SEQUENCES else lead
            continue
        axes = lead[:1]
        while layer.class_name in WRAPPERS:
            axes = (*axes, None) if layer.class_name == "TimeDistributed" else axes
            layer = layer.layers[0]
        kernel = next((part.weights["kernel"] for _, part in layer.walk() if "kernel" in part.weights), None)
        if layer.class_name == "Embedding":
            return (*axes, None)
        if kernel is None:
            break
        if layer.class_name in RECURRENT and len(stored[kernel].shape) == 2:
            return (*axes, None, stored[kernel].shape[0])
        if layer.class_name == "Dense":
            return (*(lead if axes == lead[:1] else axes), stored[kernel].shape[0])
        if layer.class_name in ("Conv1D", "Conv2D", "Conv3D") and layer.config.get("data_format") != "channels_first":
            *sizes, features, _ = stored[kernel].shape
            return (*axes, *(None for _ in sizes), features * layer.config.get("groups", 1))
        break
    layer = graph.layers[0]
    raise FileFormatError(
        f"{label}: the model stores no input shape, and its first layer {layer.name!r} ({layer.class_name}) does not "
        "show it; save the model again after building it"
    )
