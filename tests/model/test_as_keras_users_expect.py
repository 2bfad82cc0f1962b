"""Methods and properties that Keras' models have, beside live Keras; arguments that are refused with a word."""

import traceback

import numpy as np
import pytest

import fastbilstm
from fastbilstm import FastBiLSTMError, InputError
from fastbilstm.sample import FOLDER


@pytest.fixture(scope="module")
def k():
    return pytest.importorskip("keras", reason="needs Keras")


def nets(k):
    layers = [k.layers.Embedding(9, 3), k.layers.LSTM(4), k.layers.Dense(2)]
    yield k.Sequential([k.Input((None,), name="ids"), *layers])
    i, j = k.Input((5, 2), name="i"), k.Input((3,), name="j")
    joined = k.layers.Concatenate(name="both")([k.layers.LSTM(4, name="rnn")(i), j])
    yield k.Model([i, j], [k.layers.Dense(2, name="two")(joined), joined])
    yield k.Model({"i": i, "j": j}, {"a": k.layers.Dense(1, name="one")(joined), "b": joined})


@pytest.mark.parametrize("number", range(3))
def test_as_in_keras(k, number):
    net = list(nets(k))[number]
    model = fastbilstm.load(net)
    assert model.input_shape == net.input_shape and model.output_shape == net.output_shape
    assert model.count_params() == net.count_params()
    for layer in net.layers:
        if type(layer).__name__ == "InputLayer":
            continue
        found = model.get_layer(layer.name)
        assert (found.name, found.class_name) == (layer.name, type(layer).__name__)
        for ours, theirs in zip(found.get_weights(), layer.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert model.get_layer(index=-1).name == net.layers[-1].name == model.layers[-1].name
    rng = np.random.default_rng(0)
    x = [rng.integers(0, 9, (3, 6)).astype("i4")] if number == 0 else [rng.random((3, 5, 2)), rng.random((3, 3))]
    x = x[0] if number == 0 else dict(zip("ij", x)) if number == 2 else x
    y, expected = model.predict_on_batch(x), net.predict_on_batch(x)
    assert type(y) is type(expected)
    pairs = [(y, expected)] if number == 0 else [(y[key], expected[key]) for key in ("ab" if number == 2 else (0, 1))]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_weights_by_name(k):
    """Names are those of Keras' paths below the layer, without the cells."""
    i = k.Input((6,))
    x = k.layers.Bidirectional(k.layers.LSTM(3, return_sequences=True))(k.layers.Embedding(9, 4)(i))
    x = k.layers.BatchNormalization()(k.layers.MultiHeadAttention(2, 3)(x, x))
    x = k.layers.TimeDistributed(k.layers.Dense(2))(k.layers.GRU(3, return_sequences=True)(x))
    x = k.layers.RNN([k.layers.LSTMCell(2), k.layers.GRUCell(2)])(x)
    inner = k.Sequential([k.Input((2,)), k.layers.Dense(3, name="in")], name="inner")
    net = k.Model(i, inner(x))
    model = fastbilstm.load(net)
    cells = ("lstm_cell", "gru_cell", "stacked_rnn_cells")
    for layer in (layer for layer in net.layers if layer.weights):
        found = model.get_layer(layer.name).weights
        kept = cells if layer.name == "rnn" else ()
        paths = [w.path.split("/")[1:] for w in layer.weights]
        names = ["/".join(p for p in path if p not in cells or p in kept) for path in paths]
        assert list(found) == names
        for name, weight in zip(names, layer.weights):
            np.testing.assert_array_equal(found[name], np.asarray(weight))
    assert model.get_layer("inner").layers[0].weights["kernel"].shape == (2, 3)


def test_what_is_refused():
    model = fastbilstm.sample_model()
    for name, value in (("steps", 3), ("callbacks", [])):
        with pytest.raises(InputError, match=f"predict has no {name}=: .*predict_iter"):
            model.predict([[1]], **{name: value})
    assert model.predict([[1]], steps=None, callbacks=None).shape == (1, 1)
    with pytest.raises(InputError, match="there is no layer 'x'; the layers are 'embedding', .*'dense'"):
        model.get_layer("x")
    with pytest.raises(InputError, match="index is 9; the model has"):
        model.get_layer(index=9)
    for wrong in ({}, {"name": "dense", "index": 0}):
        with pytest.raises(InputError, match="a name or an index"):
            model.get_layer(**wrong)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"dtype": "float16"}, "dtype is 'float16'; expected 'float32' or 'float64'"),
        ({"dtype": "flaot32"}, "dtype is 'flaot32'; expected 'float32' or 'float64'"),
        ({"backend": "gpu"}, "backend is 'gpu'; expected one of auto, vector, blas, numpy"),
        ({"backend": "vector", "dtype": "float64"}, "backend 'vector' computes in float32, not in float64"),
        ({"memory_budget": "1 GB"}, "memory_budget is '1 GB'; expected a number of bytes, 0 or more"),
    ],
)
def test_errors_of_wrong_options_are_ours_and_one_line(options, message):
    with pytest.raises(InputError) as caught:
        fastbilstm.load(FOLDER / "sample.fbl", **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_one_traceback(tmp_path):
    path = tmp_path / "none.h5"
    for call in (fastbilstm.load, lambda p: fastbilstm.convert(p, tmp_path / "x.fbl"), fastbilstm.report.report):
        with pytest.raises(FastBiLSTMError, match="none.h5: cannot be read") as caught:
            call(path) if call is not fastbilstm.report.report else call(path, tmp_path / "page.html")
        assert isinstance(caught.value, FileNotFoundError)
        assert "".join(traceback.format_exception(caught.value)).count("Traceback") == 1
