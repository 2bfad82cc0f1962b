"""Layers models of TensorFlow.js: model.json, which holds the architecture and a list of the weights, and its shards.

The weights of a group lie one behind the other in the group's shards. The tensorflowjs converter names them as Keras 2
does (`lstm/lstm_cell/kernel`) or, from a Keras 3 archive, by the path of their object (`layers/lstm/cell/vars/0`);
TensorFlow.js itself names them after its layers (`lstm_LSTM1/kernel`). All places and sizes are checked before an array
is read.
"""

import errno
import math
import os

import numpy as np

from ..checks import read_file
from ..errors import FileFormatError, MissingFileError, unreadable
from ..graph import KerasVersion
from .backslashes import CONTAINERS
from .hdf5 import Stored, memory_file
from .weights import match, slots

_OWN_VERSION = "tfjs-layers"
# TensorFlow.js computes masks, and fills in options, as Keras 2.2.4 did.
_AS_KERAS = KerasVersion("keras2", (2, 2, 4))
_OF_EVERY_LAYER = {"name", "trainable", "dtype", "batch_input_shape"}
_DTYPES = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "uint8": "u1", "uint16": "<u2", "bool": "?"}
_MAX_AXES = 32


def is_tfjs(index):
    """Whether a JSON value is that of a model.json of TensorFlow.js."""
    return isinstance(index, dict) and ("modelTopology" in index or "weightsManifest" in index)


def read_topology(index, label):
    """(Architecture, KerasVersion, what the user is told); each None where the file does not have it."""
    topology = index.get("modelTopology")
    if index.get("format") == "graph-model" or (isinstance(topology, dict) and "node" in topology):
        raise FileFormatError(
            f"{label}: a graph model of TensorFlow.js, which is not supported: it holds a program and no Keras layers. "
            "Load the Keras file that it was made from, or convert that with --output_format=tfjs_layers_model"
        )
    if topology is None:
        return None, None, None
    if not isinstance(topology, dict):
        raise FileFormatError(f"{label}: its modelTopology is {str(topology)[:60]}; expected a dictionary")
    version, model = topology.get("keras_version"), topology.get("model_config") or topology
    if version is not None and not isinstance(version, str):
        raise FileFormatError(f"{label}: its keras_version is {str(version)[:60]}; expected a text")
    if version is None or version.startswith(_OWN_VERSION):
        _take_cells_out(model)
        writer = "TensorFlow.js" if version is None else f"TensorFlow.js ({version})"
        return model, _AS_KERAS, f"written by {writer}; computed as Keras 2.2.4 does, which TensorFlow.js follows"
    return model, KerasVersion.parse(version, topology.get("backend")), None


def _take_cells_out(model):
    """Take the options of its cell out of the options of each RNN, in place; TensorFlow.js writes them in both."""
    stack = [model]
    while stack:
        value = stack.pop()
        stack += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        config = value.get("config") if isinstance(value, dict) and value.get("class_name") == "RNN" else None
        cell = config.get("cell") if isinstance(config, dict) else None
        if isinstance(cell, dict) and isinstance(cell.get("config"), dict):
            for option in cell["config"].keys() & config.keys() - _OF_EVERY_LAYER:
                del config[option]


def read_weights(index, path, graph, trainable, label, read_paths):
    """The weights of a graph from the shards beside `path`: {name of a tensor: Stored}.

    `read_paths(file)` reads weights that are named by the paths of their objects from an HDF5 file of this layout.
    """
    arrays = _manifest(index, os.path.dirname(os.path.abspath(path)), label)
    paths = [name for name in arrays if name.split("/")[0] in CONTAINERS and "vars" in name.split("/")]
    if paths:
        with memory_file(label) as file:
            for name in paths:
                if any(part in ("", ".", "..") for part in name.split("/")) or name in file:
                    raise FileFormatError(f"{label}: a weight has the name {name[:80]!r}")
                file[name] = arrays[name].read()
            return {name: _in_memory(array.read()) for name, array in read_paths(file).items()}
    wanted = [(layer, found) for layer in graph.layers if (found := slots(layer, trainable))]
    by_layer = {layer.name: [] for layer, _ in wanted}
    for name in arrays:
        by_layer[_owner(name, wanted, label)].append(name)
    tensors = {}
    for layer, places in wanted:
        names = by_layer[layer.name]
        where = f"{label}: layer {layer.name!r} ({layer.class_name})"
        tensors |= match(places, names, [arrays[name] for name in names], where)
    return tensors


def _in_memory(array):
    return Stored(array.shape, lambda: array)


def _owner(name, wanted, label):
    """The name of the layer of the model that a weight belongs to: the one that has most parts of its name."""
    parts = set(name.split("/")[:-1])
    counts = {layer.name: len(parts & set().union(*(place.path for place in places))) for layer, places in wanted}
    most = max(counts.values(), default=0)
    found = [layer for layer, count in counts.items() if count == most]
    if most == 0 or len(found) > 1:
        what = f"of layers {', '.join(map(repr, found))}" if most else "of no layer of the model"
        raise FileFormatError(f"{label}: the weight {name[:80]!r} is {what}")
    return found[0]


# ---- the manifest ---------------------------------------------------------------------------------------------------


def _manifest(index, folder, label):
    """{name of a weight: Stored} of all groups; the weights of an optimizer are left out."""
    groups = index.get("weightsManifest")
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise FileFormatError(f"{label}: it has no list of weights (weightsManifest)")
    arrays, seen = {}, set()
    for group in groups:
        paths, entries = group.get("paths"), group.get("weights")
        if not isinstance(paths, list) or not isinstance(entries, list):
            raise FileFormatError(f"{label}: a group of its weightsManifest has no paths and weights")
        shards = _Shards([_shard(path, seen, label) for path in paths], folder, label)
        start = 0
        for entry in entries:
            name, array, size = _entry(entry, shards, start, label)
            start += size
            if name in arrays:
                raise FileFormatError(f"{label}: two weights have the name {name[:80]!r}")
            if entry.get("group") != "optimizer" and not name.startswith("optimizer/"):
                arrays[name] = array
        if start != shards.size:
            raise FileFormatError(
                f"{label}: weights of {start} bytes are in shards of {shards.size}: {', '.join(shards.names)[:200]}"
            )
    return arrays


def _shard(path, seen, label):
    if not isinstance(path, str):
        raise FileFormatError(f"{label}: the shard {str(path)[:80]} is no name of a file")
    name = path.removeprefix("./")
    if name in ("", ".", "..") or any(character in name for character in "/\\:\0"):
        raise FileFormatError(f"{label}: the shard {path[:80]!r} is not in the folder of model.json; refused")
    if name in seen:
        raise FileFormatError(f"{label}: names the shard {path[:80]!r} twice")
    seen.add(name)
    return name


def _entry(entry, shards, start, label):
    """(Name, Stored, bytes taken) of a weight that begins at a place of its group."""
    name, shape = (entry.get("name"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(shape, list):
        raise FileFormatError(f"{label}: a weight has no name and shape: {str(entry)[:80]}")
    where = f"{label}: weight {name[:80]!r}"
    if len(shape) > _MAX_AXES or not all(type(size) is int and size >= 0 for size in shape):
        raise FileFormatError(f"{where} has shape {str(shape)[:80]}")
    dtype, quantization = entry.get("dtype"), entry.get("quantization")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FileFormatError(f"{where} has dtype {str(dtype)[:40]!r}; expected one of {', '.join(_DTYPES)}")
    stored, convert = (dtype, None) if quantization is None else _quantization(quantization, dtype, where)
    item = np.dtype(_DTYPES[stored])
    size = math.prod(shape) * item.itemsize
    if start + size > shards.size:
        raise FileFormatError(f"{where} ends at byte {start + size}, its shards hold {shards.size}")

    def read():
        content = shards.read(start, size)
        if dtype == "bool" and quantization is None:
            content = bytes(map(bool, content))
        array = np.frombuffer(content, item).reshape(shape)
        return array.astype(item.newbyteorder("=")) if convert is None else convert(array)

    return name, Stored(shape, read), size


def _quantization(quantization, dtype, where):
    """(The dtype that is stored, what makes the weight's own numbers of it)."""
    stored = quantization.get("dtype") if isinstance(quantization, dict) else None
    if stored == "float16" and dtype == "float32":
        return stored, lambda array: array.astype(np.float32)
    if stored not in ("uint8", "uint16") or dtype not in ("float32", "int32"):
        raise FileFormatError(f"{where} has dtype {dtype} and quantization {str(quantization)[:80]}")
    scale, least = quantization.get("scale"), quantization.get("min")
    for value in (scale, least):
        if type(value) not in (int, float) or not abs(value) < 3.5e38:
            raise FileFormatError(f"{where}: its quantization has scale {str(scale)[:40]} and min {str(least)[:40]}")

    def convert(array):
        values = array.astype(np.float64) * float(scale) + float(least)
        if dtype == "int32":
            return np.clip(np.floor(values + 0.5), -(2**31), 2**31 - 1).astype(np.int32)
        with np.errstate(over="ignore"):
            return values.astype(np.float32)

    return stored, convert


class _Shards:
    """The files of a group as one run of bytes; their sizes are known, and what is asked for is read."""

    def __init__(self, names, folder, label):
        self.names, self._folder, self._label = names, folder, label
        self._sizes = [self._size(name) for name in names]
        self.size = sum(self._sizes)

    def _size(self, name):
        path = os.path.join(self._folder, name)
        try:
            if not os.path.isfile(path):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return os.path.getsize(path)
        except FileNotFoundError:
            text = f"{self._label}: the shard {name!r} is missing"
            raise MissingFileError(text, errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        except OSError as error:
            raise unreadable(path, error) from None

    def read(self, start, size):
        pieces, place = [], 0
        for name, length in zip(self.names, self._sizes):
            first, last = max(start, place), min(start + size, place + length)
            if first < last:
                pieces.append(self._piece(name, first - place, last - first))
            place += length
        return b"".join(pieces)

    def _piece(self, name, offset, size):
        content = read_file(os.path.join(self._folder, name), size, offset=offset)
        if len(content) != size:
            raise FileFormatError(f"{self._label}: the shard {name!r} was cut off while it was read; load it again")
        return content
