"""The compiled LSTM loop and `Model.predict` on the guide's four nets, against the specification in NumPy.

`make bench` times them on one thread. Without timing (as in `make test`) each bench runs once; in both cases the
outputs are compared first, and no time is ever asserted. Weights are random, 400 timesteps, batches of 1 and 32.
"""

import functools
import io
import json

import numpy as np
import pytest

import fastbilstm
from fastbilstm import activations
from fastbilstm.layers.recurrent import lstm
from fastbilstm.tolerances import IMDB_PROBABILITY, compare

pytest.importorskip("scipy", reason="the compiled loop needs SciPy")
h5py = pytest.importorskip("h5py", reason="the nets are written as Keras files")

BATCHES = (1, 32)
TANH, SIGMOID = activations.kernel_code(activations.tanh), activations.kernel_code(activations.sigmoid)
TIMESTEPS = 400
VOCABULARY, FEATURES = 5000, 128


def normal(rng, *shape):
    """Weights that keep the pre-activations near one, whatever the number of rows."""
    return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


# ---- the loop ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["blas", "numpy"])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("units", [64, 256])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def bench_lstm_loop(benchmark, dtype, units, batch, engine):
    from fastbilstm._recurrent import lstm_loop

    rng = np.random.default_rng([units, batch])
    x_proj = rng.standard_normal((batch, TIMESTEPS, 4 * units)).astype(dtype)
    recurrent_kernel = (normal(rng, units, 4 * units) / 2).astype(dtype)
    outputs, last = np.empty((batch, TIMESTEPS, units), dtype), np.empty((batch, units), dtype)

    def compiled():
        h, c = np.zeros((2, batch, units), dtype)
        lstm_loop(x_proj, recurrent_kernel, h, c, None, outputs, last, TANH, SIGMOID, 0, False)
        return outputs

    def specification(x=x_proj, kernel=None):
        return lstm(x, Identity() if kernel is None else kernel, recurrent_kernel)[0]

    result = compare(compiled(), specification(), dtype)
    assert result.ok, result.message
    benchmark.group = f"lstm_loop {units} units, batch {batch}, {dtype}"
    benchmark.name = engine
    benchmark(compiled if engine == "blas" else specification)


class Identity:
    """A kernel that costs nothing: x @ Identity() is x, so that the specification too starts from x_proj."""

    __array_ufunc__ = None

    def __rmatmul__(self, x):
        return x


# ---- the guide's nets ----------------------------------------------------------------------------------------------


def layer(class_name, name, inbound, **options):
    nodes = [[[source, 0, 0, {}] for source in inbound]] if inbound else []
    return {"class_name": class_name, "name": name, "config": {"name": name, **options}, "inbound_nodes": nodes}


def lstm_layer(name, inbound, units, return_sequences=False, bidirectional=True):
    options = {"units": units, "return_sequences": return_sequences}
    options |= {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
    if not bidirectional:
        return layer("LSTM", name, inbound, **options)
    inner = {"class_name": "LSTM", "config": {"name": "lstm", **options}}
    return layer("Bidirectional", name, inbound, layer=inner, merge_mode="concat")


def lstm_weights(rng, features, units, bidirectional=True):
    """Name within the layer's group -> array."""
    weights = {}
    for half in ("forward_lstm", "backward_lstm") if bidirectional else ("lstm",):
        weights[f"{half}/kernel"] = normal(rng, features, 4 * units)
        weights[f"{half}/recurrent_kernel"] = normal(rng, units, 4 * units) / 2
        weights[f"{half}/bias"] = normal(rng, 4 * units)
    return weights


NETS = ("lstm", "bilstm", "stack", "attention")


def make_net(net):
    """A whole-model .h5 as tf.keras 2.15 writes it, as bytes."""
    rng = np.random.default_rng(NETS.index(net))
    layers = [
        layer("InputLayer", "ids", [], batch_input_shape=[None, None], dtype="int32"),
        layer("Embedding", "embedding", ["ids"], input_dim=VOCABULARY, output_dim=FEATURES, mask_zero=False),
    ]
    weights = {"embedding": {"embeddings": rng.standard_normal((VOCABULARY, FEATURES)).astype(np.float32)}}
    many = net in ("stack", "attention")
    layers.append(lstm_layer("first", ["embedding"], 64, many, net != "lstm"))
    weights["first"] = lstm_weights(rng, FEATURES, 64, net != "lstm")
    last, width = "first", 64 if net == "lstm" else 128
    if net == "stack":
        layers.append(lstm_layer("second", ["first"], 32))
        weights["second"] = lstm_weights(rng, 128, 32)
        last, width = "second", 64
    elif net == "attention":
        layers.append(layer("Attention", "attention", ["first", "first"], use_scale=False, score_mode="dot"))
        layers.append(layer("GlobalAveragePooling1D", "mean", ["attention"]))
        last = "mean"
    layers.append(layer("Dense", "dense", [last], units=1, activation="sigmoid", use_bias=True))
    weights["dense"] = {"kernel": normal(rng, width, 1), "bias": np.zeros(1, np.float32)}
    graph = {"name": net, "layers": layers, "input_layers": [["ids", 0, 0]], "output_layers": [["dense", 0, 0]]}
    return write_h5({"class_name": "Functional", "config": graph}, weights)


def write_h5(config, weights):
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        h5.attrs["model_config"] = json.dumps(config)
        group = h5.create_group("model_weights")
        for holder in (h5, group):
            holder.attrs["keras_version"], holder.attrs["backend"] = "2.15.0", "tensorflow"
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            part = group.create_group(name)
            part.attrs["weight_names"] = [f"{name}/{path}:0".encode() for path in arrays]
            for path, array in arrays.items():
                part[f"{name}/{path}:0"] = array
    return file.getvalue()


@functools.cache
def load_net(net, engine):
    return fastbilstm.load(make_net(net), backend=engine)


@pytest.mark.parametrize("engine", ["blas", "numpy"])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("net", NETS)
def bench_predict(benchmark, net, batch, engine):
    ids = np.random.default_rng(batch).integers(0, VOCABULARY, (batch, TIMESTEPS), dtype=np.int32)
    model = load_net(net, engine)
    exact = fastbilstm.load(make_net(net), backend="numpy", dtype="float64").predict(ids)
    # 400 timesteps: the bound of the trained models of that length.
    np.testing.assert_allclose(model.predict(ids), exact, rtol=0, atol=IMDB_PROBABILITY)
    assert model.backend == engine
    benchmark.group = f"predict {net}, batch {batch}, float32"
    benchmark.name = engine
    benchmark(model.predict, ids)
