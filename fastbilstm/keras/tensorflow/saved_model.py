"""SavedModel folders of Keras models, and checkpoints -> (Graph, tensors). No code of a file is run.

saved_model.pb holds a program and a tree of objects. Keras stores with each object how it is made again: in
keras_metadata.pb from TensorFlow 2.5 on, before that in the tree itself. The weights are a checkpoint in variables/.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from ...errors import FileFormatError, UnsupportedLayerError
from ..architecture import given_config
from ..asked import PLAIN, Asked
from ..config import MODELS
from ..reader import assemble_parts, class_names, version_of
from .bundle import OBJECT_GRAPH, Bundle
from .files import PROGRAM, Folder, Members, is_zipped_saved_model
from .layers import read_in_order, read_layers, read_named
from .lookup_tables import Tables, vocabularies_of
from .objects import Objects
from .protobuf import message, repeated, text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...graph import Graph

METADATA, VARIABLES = "keras_metadata.pb", "variables/variables"
_ROOT = ("_tf_keras_sequential", "_tf_keras_network", "_tf_keras_model")
_DATA = re.compile(r"\.data-\d{5}-of-\d{5}$")
_UNKNOWN = "2.15.0"
_WAY_OUT = "build the model in Keras, load its weights there, and save it as .keras or .h5"


# ---- which files ----------------------------------------------------------------------------------------------------


def saved_model_files(path: str | bytes, head: bytes) -> Folder | Members | None:
    """The files of a SavedModel: of its folder, of the path of its saved_model.pb, of a zip; None if it is none."""
    if isinstance(path, bytes):
        return Members(path, "<bytes>") if head[:2] == b"PK" and is_zipped_saved_model(path, "<bytes>") else None
    if os.path.isdir(path):
        return Folder(path) if os.path.isfile(os.path.join(path, PROGRAM)) else None
    if os.path.basename(path) == PROGRAM:
        return Folder(os.path.dirname(path) or ".")
    return Members(path, path) if head[:2] == b"PK" and is_zipped_saved_model(path, path) else None


def checkpoint_of(path):
    """(folder, name of the checkpoint) that a path stands for: a prefix, one of its files, or their folder; or None."""
    if os.path.isdir(path):
        listed = os.path.join(path, "checkpoint")
        if not os.path.isfile(listed):
            return None
        with open(listed, "rb") as file:
            found = re.search(rb'^model_checkpoint_path: "([^"\n]+)"', file.read(1 << 16), re.MULTILINE)
        if found is None:
            raise FileFormatError(f"{listed}: names no checkpoint (model_checkpoint_path)")
        # Where the checkpoint was written says nothing of where it lies.
        return path, os.path.basename(os.fsdecode(found[1]).replace("\\", "/"))
    prefix = path.removesuffix(".index") if path.endswith(".index") else _DATA.sub("", path)
    if not os.path.isfile(f"{prefix}.index"):
        return None
    return os.path.dirname(prefix) or ".", os.path.basename(prefix)


# ---- SavedModel -----------------------------------------------------------------------------------------------------


def read_saved_model(
    files: Folder | Members, label: str, config: Any = None, asked: Asked = PLAIN
) -> tuple[Graph, dict[str, NDArray[Any]]]:
    """Read a SavedModel; like `reader.read_keras`. With `config`, the weights alone are taken from it."""
    program = files.read(PROGRAM)
    described = _described(files, program)
    root = described.get(0)
    bundle = Bundle(files, VARIABLES)
    if config is not None:
        found = _read_with_config(bundle, label, config, asked)
        files.check_unchanged()
        return found
    if root is None or root[0] not in _ROOT:
        raise FileFormatError(
            f"{label}: a SavedModel without a Keras model in it, as model.export() and tf.saved_model.save write it: "
            f"it holds a program, not an architecture. Give the architecture as config= (--config), or {_WAY_OUT}"
        )
    entry = root[1]
    model = entry.get("model_config") or {"class_name": entry.get("class_name"), "config": entry.get("config")}
    if not isinstance(model, dict) or model.get("class_name") not in MODELS or not model.get("config"):
        raise UnsupportedLayerError(
            [
                f"model ({entry.get('class_name')}) is no Sequential or functional model: a subclassed model has no "
                "architecture in its file"
            ],
            label,
        )
    version = version_of(model, entry.get("keras_version"), entry.get("backend"), label, is_paths=True)
    objects = Objects.of_checkpoint(bundle, OBJECT_GRAPH)
    nodes = _layers_by_name(objects, described, 0, label)
    names = class_names(model["class_name"], model["config"])
    vocabularies = vocabularies_of(Tables(program, files.name(PROGRAM), bundle, objects), nodes, names)
    graph, tensors = assemble_parts(
        model,
        version,
        label,
        asked,
        lambda graph, trainable, _: read_layers(bundle, nodes, objects, graph, trainable, label),
        vocabularies,
    )
    files.check_unchanged()
    return graph, tensors


def _described(files, program):
    """{number of the object: (its kind, what Keras stores of it)}."""
    if files.has(METADATA):
        where, found = files.name(METADATA), {}
        for _, node in repeated(files.read(METADATA), where, 1):
            fields = message(node, where, 2, (4,), (5,))
            found[fields[2]] = (text(fields[4], where), _json(fields[5], where))
        return found
    where, found = files.name(PROGRAM), {}
    for _, meta_graph in repeated(program, where, 2):
        tree = message(meta_graph, where, (7,))[7]
        for number, (_, node) in enumerate(repeated(tree, where, 1)):
            for _, user_object in repeated(node, where, 4):
                fields = message(user_object, where, (1,), (3,))
                found[number] = (text(fields[1], where), _json(fields[3], where))
        break  # several are of the same model
    return found


def _json(content, where):
    """Keras' metadata of one object; {} of objects that have none."""
    if not content:
        return {}
    try:
        found = json.loads(bytes(content), object_hook=_plain)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{where}: the metadata of an object is no valid JSON ({error})") from error
    return found if isinstance(found, dict) else {}


def _plain(entry):
    """Tuples and shapes as lists."""
    if entry.get("class_name") in ("__tuple__", "TensorShape") and set(entry) == {"class_name", "items"}:
        return entry["items"]
    return entry


def _layers_by_name(objects, described, root, label):
    """{name of the layer: its object} of the layers of a model."""
    found = {}
    for attribute, node in objects.children(root).items():
        if not re.fullmatch(r"layer(_with_weights)?-\d+", attribute) or node not in described:
            continue
        entry = described[node][1]
        inner = entry.get("config") if isinstance(entry.get("config"), dict) else {}
        name = entry.get("name") or inner.get("name")
        if found.setdefault(str(name), node) != node:
            raise FileFormatError(f"{label}: two layers share the name {str(name)!r}")
    return found


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def read_checkpoint(
    path: str | bytes, label: str, config: Any = None, asked: Asked = PLAIN
) -> tuple[Graph, dict[str, NDArray[Any]]]:
    """Read the weights of a checkpoint into the architecture that `config` gives; like `reader.read_keras`."""
    folder, name = checkpoint_of(path) or ("", "")
    if not name or not any(part.startswith(f"{name}.data-") for part in os.listdir(folder)):
        raise FileFormatError(
            f"{label}: a part of a TensorFlow checkpoint that does not lie beside its other part: give both files "
            "(.index and .data-...) in one folder"
        )
    if config is None:
        raise FileFormatError(
            f"{label}: a TensorFlow checkpoint: holds weights and no architecture; give the model's JSON "
            "(model.to_json()) as config= (--config)"
        )
    files = Folder(folder)
    found = _read_with_config(Bundle(files, name), label, config, asked)
    files.check_unchanged()
    return found


def _read_with_config(bundle, label, config, asked):
    model = given_config(config, label)
    notes, text = [], model.get("keras_version")
    if text is None:  # only tf.keras writes checkpoints
        text = _UNKNOWN
        notes.append(f"the architecture does not say which Keras wrote it; computed as tf.keras {text} does")
    version = version_of(model, text, model.get("backend"), label, is_paths=True)
    read = read_in_order if OBJECT_GRAPH in bundle.keys else read_named
    graph, tensors = assemble_parts(
        model, version, label, asked, lambda graph, trainable, _: read(bundle, graph, trainable, label, notes)
    )
    return graph.replace(notes=(*graph.notes, *notes)), tensors
