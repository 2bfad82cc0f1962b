"""Whole nets with narrow weights in the engine: near float32, the same bits for a row however it is computed."""

import numpy as np
import pytest
from built_nets import Net, labels
from engine_nets import NETS, inputs, load

import fastbilstm
from fastbilstm.engine import compiling, weight_forms

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)

# Largest differences from float32 of probabilities; errors of int8 add up over layers.
NEAR = {"int8": 0.03, "bfloat16": 0.01, "float16": 0.002}


def narrowed(model, form):
    """The same model, with its weights in a form."""
    tensors = dict(model._tensors)
    for _, layer in model.graph.walk():
        for role, name in layer.weights.items():
            if tensors[name].ndim == 2:
                tensors[name] = weight_forms.narrowed(tensors[name], form, 1 if role == "embeddings" else 0)
    model._plan = compiling.compile(model.graph, tensors, None, "vector", None, form)
    model._replay = None if model._plan.replay is None else model._plan.replay.run
    return model


@pytest.mark.parametrize("form", NEAR)
@pytest.mark.parametrize("name", NETS)
def test_nets_are_near_float32_and_rows_keep_their_bits(name, form):
    model, x = narrowed(load(name), form), inputs(name)
    expected = load(name).predict(x)
    y = model.predict(x)
    # Without a timestep Attention has no answer.
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    assert 0 < np.nanmax(np.abs(y - expected)) < NEAR[form]
    for _ in range(4):  # the table is projected, then a tape is recorded and run
        np.testing.assert_array_equal(model.predict(x), y)
        for row in (0, 7, 32):
            np.testing.assert_array_equal(model.predict(x[row : row + 1]), y[row : row + 1])
    np.testing.assert_array_equal(model.predict(x, n_threads=2), y)


@pytest.mark.parametrize("kind", ["ids", "floats"])
def test_skipped_timesteps_change_no_bits(kind):
    net = Net(ids=kind == "ids", shape=(None,) if kind == "ids" else (None, 20))
    first = net.embedding() if kind == "ids" else "x"
    net.dense("dense", net.bidirectional("both", first, features=5 if kind == "ids" else 20, units=17), size=34)
    model = narrowed(fastbilstm.load(net.content("dense"), backend="vector"), "int8")
    x = np.zeros((7, 90, *net.shape[2:]), np.int32 if net.ids else np.float32)
    x[:, 40:55] = net.input(7)[:, :1]
    before = _kernels.skip_steps()
    y = model.predict(x)
    assert _kernels.skip_steps(False, False) > before
    try:
        np.testing.assert_array_equal(model.predict(x), y)
    finally:
        _kernels.skip_steps()


def test_what_computes_each_layer(capsys):
    net = Net()
    first = net.lstm(
        "lstm", net.dense("wide", "x", units=20, activation="relu"), features=20, units=16, return_sequences=True
    )
    second = net.lstm("unbounded", first, features=16, activation="relu", return_sequences=True)
    net.dense("tall", net.dense("taller", second, size=3, units=40, activation="relu"), size=40, units=48)
    model = fastbilstm.load(net.content("tall"), backend="vector")
    assert set(labels(model).values()) == {"vector"}
    assert labels(narrowed(model, "int8")) == {
        "wide": "vector",
        "lstm": "vector, int8",
        "unbounded": "vector, int8",  # the products with its inputs
        "taller": "vector",
        "tall": "vector, int8",
    }
    model.summary()
    assert f"products read weights in int8 ({_kernels.dots()[0]}) where 'runs' says so" in capsys.readouterr().out


def conv(net, name, on, features, filters, **options):
    given = {"filters": filters, "kernel_size": [3], "strides": [1], "padding": "causal", "dilation_rate": [1]}
    weights = {"kernel": (3, features, filters), "bias": (filters,)}
    return net.add("Conv1D", name, on, weights=weights, **given | {"activation": "linear", "use_bias": True} | options)


def test_convolutions_of_many_filters_read_int8():
    """Also where BatchNormalization is folded in, which scales columns and leaves their codes."""
    net = Net(shape=(None, 12))
    wide = net.bn("norm", conv(net, "wide", "x", 12, 70), 70)
    pooled = net.add("MaxPooling1D", "pool", wide, pool_size=[2], strides=[2], padding="valid")
    thin = conv(net, "thin", conv(net, "again", pooled, 70, 64, activation="relu"), 64, 5)
    content = net.content(thin)
    model, x = fastbilstm.load(content, weights="int8"), net.input(9)
    runs = labels(model)
    assert {name: runs[name] for name in ("wide", "norm", "pool", "again", "thin")} == {
        "wide": "vector, int8",
        "norm": "folded",
        "pool": "vector",
        "again": "vector, int8",
        "thin": "vector",
    }
    y, k = model.predict(x), fastbilstm.load(content, weights="int8", backend="numpy").predict(x)
    assert 0 < np.abs(y - k).max() < 0.03 * np.abs(k).max()
    for _ in range(3):
        np.testing.assert_array_equal(model.predict(x[3:4]), y[3:4])
        np.testing.assert_array_equal(model.predict(x, n_threads=2), y)


@pytest.mark.parametrize(("units", "runs"), [(16, "vector"), (24, "vector, int8")])
def test_a_gru_without_reset_after_reads_int8(units, runs):
    net = Net()
    weights = {"kernel": (5, 3 * units), "recurrent_kernel": (units, 3 * units), "bias": (3 * units,)}
    options = {"activation": "tanh", "recurrent_activation": "hard_sigmoid", "use_bias": True, "reset_after": False}
    content = net.content(net.add("GRU", "gru", "x", weights=weights, units=units, **options))
    model, x = fastbilstm.load(content, weights="int8"), net.input(9)
    assert labels(model) == {"gru": runs}
    y, k = model.predict(x), fastbilstm.load(content, weights="int8", backend="numpy").predict(x)
    assert np.abs(y - k).max() < (0.02 if runs.endswith("int8") else 1e-6)
    np.testing.assert_array_equal(model.predict(x[3:4]), y[3:4])


def test_streams_have_the_same_bits():
    net = Net()
    net.lstm("lstm", "x", units=20, return_sequences=True)
    model = narrowed(fastbilstm.load(net.content("lstm"), backend="vector"), "int8")
    x = net.input()
    y = model.predict(x)
    stream = model.stream(len(x))
    for t in range(x.shape[1]):
        np.testing.assert_array_equal(np.asarray(stream.push(x[:, t : t + 1])).reshape(y[:, t].shape), y[:, t])
