"""Models as the tensorflowjs converter and TensorFlow.js write them: model.json and shards, also from Keras files.

The format: tfjs-converter/python/tensorflowjs/write_weights.py and converters/keras_h5_conversion.py, and
tfjs-core/src/io/types.ts, of github.com/tensorflow/tfjs.
"""

import copy
import io
import json
import zipfile

import h5py
import numpy as np


def write(folder, topology, weights, shard_size=4 << 20, quantized=None, edit=None, group="group1"):
    """Write model.json and its shards; return the path of model.json.

    weights : {name: array}. quantized : None, "uint8", "uint16" or "float16", of floats. edit : changes the dictionary
    of model.json before it is written.
    """
    folder.mkdir(exist_ok=True)
    entries, parts = [], []
    for name, array in weights.items():
        entry, stored = {"name": name, "shape": list(array.shape), "dtype": str(array.dtype)}, array
        if quantized is not None and array.dtype == np.float32:
            stored, entry["quantization"] = quantize(array, quantized)
        entries.append(entry)
        parts.append(stored.astype(stored.dtype.newbyteorder("<")).tobytes())
    content = b"".join(parts)
    pieces = [content[at : at + shard_size] for at in range(0, len(content), shard_size)]
    paths = [f"{group}-shard{number + 1}of{len(pieces)}.bin" for number in range(len(pieces))]
    for path, piece in zip(paths, pieces):
        (folder / path).write_bytes(piece)
    index = {"format": "layers-model", "generatedBy": "keras", "convertedBy": "TensorFlow.js Converter v4.17.0"}
    index |= {"modelTopology": topology, "weightsManifest": [{"paths": paths, "weights": entries}]}
    if edit is not None:
        index = copy.deepcopy(index)
        edit(index)
    (folder / "model.json").write_text(json.dumps(index))
    return folder / "model.json"


def quantize(array, dtype):
    """(What is stored of an array, its entry) as write_weights.py quantizes."""
    if dtype == "float16":
        return array.astype(np.float16), {"dtype": dtype, "original_dtype": "float32"}
    low, high = float(array.min(initial=0)), float(array.max(initial=0))
    scale = (high - low) / np.iinfo(dtype).max or 1.0
    stored = np.round((array.astype(np.float64) - low) / scale).astype(dtype)
    return stored, {"dtype": dtype, "scale": scale, "min": low, "original_dtype": "float32"}


def from_h5(content):
    """(Topology, weights) of a whole-model .h5 of Keras 2; layers in alphabetical order, as the converter has them."""
    with h5py.File(io.BytesIO(content)) as file:
        topology = {name: as_text(file.attrs[name]) for name in ("keras_version", "backend", "model_config")}
        topology["model_config"] = json.loads(topology["model_config"])
        weights = {}
        for layer in file["model_weights"].values():
            for name in layer.attrs.get("weight_names", ()):
                key = as_text(name).removesuffix(":0")
                if key in weights:
                    raise ValueError(f"two weights {key}")
                weights[key] = as_tfjs(layer[name][()])
    return topology, weights


def from_keras(content):
    """(Topology, weights) of a .keras archive of Keras 3: names are the paths of the datasets."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        config = json.loads(archive.read("config.json"))
        version = json.loads(archive.read("metadata.json"))["keras_version"]
        weights = {}

        def visit(name, item):
            if isinstance(item, h5py.Dataset):
                weights[name] = as_tfjs(item[()])

        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            file.visititems(visit)
    return {
        "keras_version": version,
        "model_config": without(config, "module", "registered_name", "date_saved"),
    }, weights


def as_text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def as_tfjs(array):
    """An array in a dtype that TensorFlow.js has."""
    return array.astype({"f": np.float32, "i": np.int32, "u": np.int32, "b": bool}[array.dtype.kind])


def without(value, *keys):
    """A JSON value without some keys, at any depth."""
    if isinstance(value, dict):
        return {key: without(part, *keys) for key, part in value.items() if key not in keys}
    return [without(part, *keys) for part in value] if isinstance(value, list) else value
