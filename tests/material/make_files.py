"""Small Keras-like files built by hand with h5py and zipfile, for tests of malformed files and of input; no TensorFlow.

One model in every kind of file: Embedding(7, 4, mask_zero) -> LSTM(3) -> Dense(2), Sequential or functional, with
weights from a fixed seed. Each builder takes `edit`, a function that damages the open file before it is closed.
"""

import hashlib
import io
import json
import re
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import fastbilstm

KERAS2, KERAS3 = "2.15.0", "3.15.1"
IDS = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 3, 1]])


def layer(class_name, name, inbound=None, **options):
    """One entry of a config's `layers`; `inbound` are the names of the layers it is called on (functional models)."""
    entry = {"class_name": class_name, "config": {"name": name, "trainable": True, **options}}
    if inbound is not None:
        entry |= {"name": name, "inbound_nodes": [[[source, 0, 0, {}] for source in inbound]] if inbound else []}
    return entry


def embedding(name="embedding", inbound=None, **options):
    return layer("Embedding", name, inbound, **({"input_dim": 7, "output_dim": 4, "mask_zero": True} | options))


def lstm(name="lstm", inbound=None, **options):
    defaults = {"units": 3, "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
    return layer("LSTM", name, inbound, **(defaults | options))


def dense(name="dense", inbound=None, **options):
    return layer("Dense", name, inbound, **({"units": 2, "activation": "sigmoid"} | options))


def input_layer(name="ids", shape=(None, None), dtype="int32", functional=False):
    entry = layer("InputLayer", name, [] if functional else None, batch_input_shape=list(shape), dtype=dtype)
    del entry["config"]["trainable"]
    return entry


def sequential(*layers):
    """Config of a Sequential model; without arguments the model of this module."""
    layers = layers or (input_layer(), embedding(), lstm(), dense())
    return {"class_name": "Sequential", "config": {"name": "net", "layers": list(layers)}}


def functional(*layers, inputs=("ids",), outputs=("dense",)):
    """Config of a functional model as tf.keras writes it; without layers the model of this module."""
    layers = layers or (
        input_layer(functional=True),
        embedding(inbound=["ids"]),
        lstm(inbound=["embedding"]),
        dense(inbound=["lstm"]),
    )
    ends = {"input_layers": [[n, 0, 0] for n in inputs], "output_layers": [[n, 0, 0] for n in outputs]}
    return {"class_name": "Functional", "config": {"name": "net", "layers": list(layers), **ends}}


def weights(seed=0):
    """{layer: {role: array}} of the model of this module, in Keras' order."""
    rng = np.random.default_rng(seed)
    shapes = {
        "embedding": {"embeddings": (7, 4)},
        "lstm": {"kernel": (4, 12), "recurrent_kernel": (3, 12), "bias": (12,)},
        "dense": {"kernel": (3, 2), "bias": (2,)},
    }
    return {
        name: {role: rng.standard_normal(shape).astype(np.float32) for role, shape in roles.items()}
        for name, roles in shapes.items()
    }


def weights_of(**layers):
    """{layer: {role: array}} for {layer: {role: shape}}, N(0, 0.5) from a fixed seed."""
    rng = np.random.default_rng(2)
    return {
        name: {role: rng.normal(0, 0.5, shape).astype(np.float32) for role, shape in roles.items()}
        for name, roles in layers.items()
    }


def lstm_weights(features, units):
    return {"kernel": (features, 4 * units), "recurrent_kernel": (units, 4 * units), "bias": (4 * units,)}


def floats(features=4, timesteps=None, batch=None, **options):
    """A loaded model of one LSTM(3) on floats, with its input shape."""
    config = sequential(input_layer("x", (batch, timesteps, features), "float32"), lstm(**options))
    return fastbilstm.load(h5(config, weights_of(lstm=lstm_weights(features, 3))))


def _hdf5(fill, edit):
    file = io.BytesIO()
    with h5py.File(file, "w") as handle:
        fill(handle)
        if edit is not None:
            edit(handle)
    return file.getvalue()


def h5(config=None, arrays=None, version=KERAS2, edit=None, whole=True):
    """A whole-model .h5 as tf.keras writes it, or with `whole=False` one with weights only, as bytes."""
    arrays = weights() if arrays is None else arrays

    def fill(file):
        group = file
        if whole:
            file.attrs["model_config"] = json.dumps(sequential() if config is None else config)
            file.attrs["keras_version"], file.attrs["backend"] = version, "tensorflow"
            group = file.create_group("model_weights")
        group.attrs["keras_version"], group.attrs["backend"] = version, "tensorflow"
        group.attrs["layer_names"] = [name.encode() for name in arrays]
        for name, roles in arrays.items():
            part = group.create_group(name)
            inner = f"{name}/lstm_cell" if name.startswith("lstm") else name
            names = [f"{inner}/{role}:0" for role in roles]
            part.attrs["weight_names"] = [text.encode() for text in names]
            for text, array in zip(names, roles.values()):
                part[text] = array

    return _hdf5(fill, edit)


def weights_h5(arrays=None, edit=None):
    """A .weights.h5 as Keras 3 writes it, as bytes."""

    def fill(file):
        for name, roles in (weights() if arrays is None else arrays).items():
            cell = "cell/" if name.startswith("lstm") else ""
            holder = file.create_group(f"layers/{name}/{cell}vars")
            for number, array in enumerate(roles.values()):
                holder[str(number)] = array

    return _hdf5(fill, edit)


def archive(members=None, compression=zipfile.ZIP_STORED, config=None, edit=None):
    """A .keras archive as Keras 3 writes it, as bytes; `members` replaces contents by name, None leaves one out."""
    contents = {
        "metadata.json": json.dumps({"keras_version": KERAS3, "date_saved": "2026-01-01@00:00:00"}).encode(),
        "config.json": json.dumps(sequential() if config is None else config).encode(),
        "model.weights.h5": weights_h5(edit=edit),
    } | (members or {})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as handle:
        for name, content in contents.items():
            if content is not None:
                handle.writestr(name, content)
    return file.getvalue()


# ---- converted files ------------------------------------------------------------------------------------------------


def converted(path=None, **options):
    """The model of this module (or another Keras file, with options of `convert`) as a converted file, as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.fbl"
        fastbilstm.convert(h5() if path is None else path, target, **options)
        return target.read_bytes()


def split_fbl(content):
    """(header, data) of a converted file: the JSON as a dict, the arrays as bytes."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join_fbl(header, data, sign=True):
    """Bytes of a converted file; with `sign` its SHA-256 is computed anew, so that other checks are reached.

    `header` is a dict, or JSON text that is taken as it is (for headers that no JSON writer makes).
    """
    if isinstance(header, dict):
        if sign:
            metadata = {key: value for key, value in header["__metadata__"].items() if key != "sha256"}
            signed = json.dumps({**header, "__metadata__": metadata}, sort_keys=True, separators=(",", ":"))
            digest = hashlib.sha256(signed.encode() + data).hexdigest()
            header = {**header, "__metadata__": {**metadata, "sha256": digest}}
        header = json.dumps(header, separators=(",", ":"))
    text = header.encode()
    return len(text).to_bytes(8, "little") + text + data


def edit_fbl(content, edit_header=None, edit_graph=None, sign=True):
    """A converted file with its header or its graph changed in place by a function, and signed again."""
    header, data = split_fbl(content)
    if edit_header is not None:
        edit_header(header)
    if edit_graph is not None:
        graph = json.loads(header["__metadata__"]["graph"])
        graph = edit_graph(graph) or graph
        header["__metadata__"]["graph"] = json.dumps(graph)
    return join_fbl(header, data, sign)


# ---- what every malformed file must meet ----------------------------------------------------------------------------


def assert_refused(folder, content, words, name="model.h5", error=fastbilstm.FileFormatError, **options):
    """Check that loading, by path and from bytes, raises `error` naming the file and `words` (a regular expression)."""
    path = folder / name
    path.write_bytes(content)
    with pytest.raises(error) as caught:
        fastbilstm.load(path, **options)
    text = str(caught.value)
    assert name in text and re.search(words, text, re.DOTALL), text
    with pytest.raises(error, match="<bytes>"):
        fastbilstm.load(content, **options)
    return caught.value
