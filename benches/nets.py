"""The nets of the benches: what they are made of, random weights for them, and a Keras file that holds them.

A net of NETS is a chain of layers written as tuples; `keras_nets` builds it in Keras 3, `handmade` in ONNX and PyTorch,
and `keras_file` writes the whole-model .h5 that tf.keras 2.15 writes, where no Keras is installed. Of a net of AROUND
only the inputs are here: `around_nets` builds it in Keras, `around_torch` in PyTorch. Imports NumPy; h5py is imported
by `keras_file` alone. Knows nothing of engines and times.
"""

import io
import json
from dataclasses import dataclass

import numpy as np

VOCABULARY, FEATURES = 5000, 128


@dataclass(frozen=True)
class Net:
    """`features`: of float input, None for token ids. `trained`: the file of tests/golden/demo with its weights."""

    layers: tuple
    features: int | None = None
    trained: str | None = None

    @property
    def masked(self):
        return any(layer[0] == "embedding" and layer[3] for layer in self.layers)


# ("embedding", vocabulary, features, mask_zero) | ("lstm", units) | ("bilstm", units, return_sequences, merge_mode)
# ("gru", units) | ("bigru", units, return_sequences, merge_mode): with reset_after, Keras' default
# ("lstm_pair", units): an LSTM and one with go_backwards, concatenated | ("batchnorm",)
# ("attention_mean",): Attention of the sequence with itself, GlobalAveragePooling1D
# ("attention_mean", "scale"): the same with use_scale | ("dense", units, activation)
EMBEDDING = ("embedding", VOCABULARY, FEATURES, False)
SCORE = ("dense", 1, "sigmoid")
NETS = {
    "lstm64": Net((EMBEDDING, ("lstm", 64), SCORE)),
    "bilstm64": Net((EMBEDDING, ("bilstm", 64, False, "concat"), SCORE)),
    "stack": Net((EMBEDDING, ("bilstm", 64, True, "concat"), ("bilstm", 32, False, "concat"), SCORE)),
    "attention": Net((EMBEDDING, ("bilstm", 64, True, "concat"), ("attention_mean",), SCORE)),
    "two_lstms": Net((EMBEDDING, ("lstm_pair", 64), SCORE)),
    "gru64": Net((EMBEDDING, ("gru", 64), SCORE)),
    "bigru64": Net((EMBEDDING, ("bigru", 64, False, "concat"), SCORE)),
    "masked_stack": Net(
        (
            ("embedding", VOCABULARY, FEATURES, True),
            ("bilstm", 64, True, "sum"),
            ("batchnorm",),
            ("bilstm", 32, False, "ave"),
            SCORE,
        )
    ),
    "tagger": Net(
        (("bilstm", 256, True, "concat"), ("bilstm", 256, True, "concat"), ("dense", 17, "softmax")), features=300
    ),
    "bilstm64_imdb": Net((EMBEDDING, ("bilstm", 64, False, "concat"), SCORE), trained="bilstm64.h5"),
}


# The family "short": little work a prediction. (units, timesteps, features)
SHORT = ((16, 24, 1), (32, 30, 5), (64, 10, 8), (50, 60, 1), (64, 60, 4), (128, 50, 8))
NETS |= {
    f"{kind}{units}_{timesteps}x{features}": Net(((kind, units), ("dense", 1, "linear")), features=features)
    for kind in ("lstm", "gru")
    for units, timesteps, features in SHORT
}


@dataclass(frozen=True)
class Input:
    """`shape`: of one row. `vocabulary`: the ids are below it; None for floats."""

    shape: tuple
    vocabulary: int | None = None
    name: str = "x"

    @property
    def dtype(self):
        return "int32" if self.vocabulary else "float32"

    def random(self, rng, rows):
        if self.vocabulary:
            return rng.integers(1, self.vocabulary, (rows, *self.shape), dtype=np.int32)
        return rng.standard_normal((rows, *self.shape)).astype(np.float32)


# The family "around": what people put around recurrent layers, and nets without any.
AROUND = {
    "captcha": (Input((200, 50, 1)),),
    "conv_lstm": (Input((400,), VOCABULARY),),
    "activity": (Input((128, 9)),),
    "transformer": (Input((100,), VOCABULARY),),
    "stacked_cells": (Input((100, 16)),),
    "lstm_norm": (Input((100, 16)),),
    "pictures": (Input((32, 32, 3)),),
    "entities": (Input((50,), VOCABULARY, "words"), Input((50, 12), 100, "characters")),
    "autoencoder": (Input((60, 8)),),
    "translation": (Input((16, 71), name="source"), Input((59, 93), name="target")),
}


def input_names(name):
    return [one.name for one in AROUND[name]] if name in AROUND else ["x"]


# ---- weights -------------------------------------------------------------------------------------------------------


def lstm_shapes(features, units, count=1):
    return [(features, 4 * units), (units, 4 * units), (4 * units,)] * count


def gru_shapes(features, units, count=1):
    return [(features, 3 * units), (units, 3 * units), (2, 3 * units)] * count


def layer_parts(net):
    """Yield (layer tuple, features that go in, [(name of a Keras layer, shapes of its weights)])."""
    width = net.features
    for number, layer in enumerate(net.layers):
        kind, before, name = layer[0], width, f"{layer[0]}_{number}"
        if kind == "embedding":
            width, parts = layer[2], [(name, [tuple(layer[1:3])])]
        elif kind in ("lstm", "gru"):
            shapes = lstm_shapes if kind == "lstm" else gru_shapes
            width, parts = layer[1], [(name, shapes(before, layer[1]))]
        elif kind in ("bilstm", "bigru"):
            shapes = lstm_shapes if kind == "bilstm" else gru_shapes
            width = layer[1] * (2 if layer[3] == "concat" else 1)
            parts = [(name, shapes(before, layer[1], 2))]
        elif kind == "lstm_pair":
            width = 2 * layer[1]
            parts = [(f"{name}_{half}", lstm_shapes(before, layer[1])) for half in ("forward", "backward")]
        elif kind == "batchnorm":
            parts = [(name, [(before,)] * 4)]
        elif kind == "dense":
            width, parts = layer[1], [(name, [(before, layer[1]), (layer[1],)])]
        else:
            parts = [(name, [()])] if layer[1:] == ("scale",) else []
        yield layer, before, parts


def normal(rng, *shape):
    """Weights that keep the pre-activations near one, whatever the number of rows."""
    return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


def random_weights(net, seed=0):
    """Name of a Keras layer -> its arrays in Keras' order; no bias is zero."""
    rng = np.random.default_rng(seed)
    weights = {}
    for (kind, *_), _, parts in layer_parts(net):
        for name, shapes in parts:
            arrays = [normal(rng, *shape) for shape in shapes]
            if kind == "embedding":
                arrays = [rng.standard_normal(shapes[0]).astype(np.float32)]
            elif kind == "batchnorm":  # gamma, beta, moving mean, moving variance
                arrays[0] += 1
                arrays[3] = rng.uniform(0.5, 2, shapes[3]).astype(np.float32)
            elif kind != "dense":
                for at in range(1, len(arrays), 3):  # a recurrence that neither dies out nor amplifies rounding
                    arrays[at] /= 2
            weights[name] = arrays
    return weights


def named_weights(net, arrays):
    """The same dictionary from a flat list in the order of Keras' `get_weights`."""
    arrays, weights = list(arrays), {}
    for _, _, parts in layer_parts(net):
        for name, shapes in parts:
            weights[name] = [np.asarray(arrays.pop(0)) for _ in shapes]
            if [array.shape for array in weights[name]] != shapes:
                raise ValueError(f"{name}: the weights have other shapes than the net")
    if arrays:
        raise ValueError(f"{len(arrays)} arrays more than the net has")
    return weights


def save_weights(path, weights):
    np.savez(path, **{f"{name}/{at}": array for name, arrays in weights.items() for at, array in enumerate(arrays)})


def load_weights(path):
    weights = {}
    with np.load(path) as file:
        for key in file.files:
            weights.setdefault(key.rsplit("/", 1)[0], []).append(file[key])
    return weights


# ---- the file of tf.keras 2.15 -------------------------------------------------------------------------------------

_LSTM_NAMES = ("kernel", "recurrent_kernel", "bias")
_WEIGHT_NAMES = {
    "embedding": ("embeddings",),
    **dict.fromkeys(("lstm", "lstm_pair", "gru"), _LSTM_NAMES),
    "bilstm": [f"{half}_lstm/{name}" for half in ("forward", "backward") for name in _LSTM_NAMES],
    "bigru": [f"{half}_gru/{name}" for half in ("forward", "backward") for name in _LSTM_NAMES],
    "batchnorm": ("gamma", "beta", "moving_mean", "moving_variance"),
    "dense": ("kernel", "bias"),
}


def _layer(class_name, name, inbound, **options):
    nodes = [[[source, 0, 0, {}] for source in inbound]] if inbound else []
    return {"class_name": class_name, "name": name, "config": {"name": name, **options}, "inbound_nodes": nodes}


def _layers(layer, number, last):
    """The Keras layers of one tuple, as configurations; the last is the one that gives its output."""
    kind, name = layer[0], f"{layer[0]}_{number}"
    cell = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
    if kind == "embedding":
        options = {"input_dim": layer[1], "output_dim": layer[2], "mask_zero": layer[3]}
        return [_layer("Embedding", name, [last], **options)]
    if kind in ("gru", "bigru"):
        cell["reset_after"] = True
    if kind in ("lstm", "gru"):
        return [_layer(kind.upper(), name, [last], units=layer[1], **cell)]
    if kind in ("bilstm", "bigru"):
        inner = {"name": kind[2:], "units": layer[1], "return_sequences": layer[2], **cell}
        inner = {"class_name": kind[2:].upper(), "config": inner}
        return [_layer("Bidirectional", name, [last], layer=inner, merge_mode=layer[3])]
    if kind == "lstm_pair":
        halves = [f"{name}_forward", f"{name}_backward"]
        pair = [_layer("LSTM", h, [last], units=layer[1], go_backwards=h == halves[1], **cell) for h in halves]
        return [*pair, _layer("Concatenate", name, halves, axis=-1)]
    if kind == "batchnorm":
        return [_layer("BatchNormalization", name, [last], axis=[2], epsilon=1e-3, center=True, scale=True)]
    if kind == "attention_mean":
        attention = _layer("Attention", name, [last, last], use_scale=False, score_mode="dot")
        return [attention, _layer("GlobalAveragePooling1D", f"{name}_mean", [name])]
    return [_layer("Dense", name, [last], units=layer[1], activation=layer[2], use_bias=True)]


def keras_file(net, weights):
    """A whole-model .h5 as tf.keras 2.15 writes it, as bytes."""
    shape = [None, None] if net.features is None else [None, None, net.features]
    dtype = "int32" if net.features is None else "float32"
    layers = [_layer("InputLayer", "x", [], batch_input_shape=shape, dtype=dtype)]
    names = {}
    for number, (layer, _, parts) in enumerate(layer_parts(net)):
        layers += _layers(layer, number, layers[-1]["name"])
        names |= {name: _WEIGHT_NAMES[layer[0]] for name, _ in parts}
    graph = {"name": "net", "layers": layers, "input_layers": [["x", 0, 0]]}
    graph["output_layers"] = [[layers[-1]["name"], 0, 0]]
    return write_h5({"class_name": "Functional", "config": graph}, weights, names)


def write_h5(config, weights, names):
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        h5.attrs["model_config"] = json.dumps(config)
        group = h5.create_group("model_weights")
        for holder in (h5, group):
            holder.attrs["keras_version"], holder.attrs["backend"] = "2.15.0", "tensorflow"
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            part = group.create_group(name)
            part.attrs["weight_names"] = [f"{name}/{path}:0".encode() for path in names[name]]
            for path, array in zip(names[name], arrays):
                part[f"{name}/{path}:0"] = array
    return file.getvalue()
