"""Narrow weights beside live Keras: the narrowed numbers, the answers, files, and all that takes over a model."""

import asyncio
import os
import pickle
import warnings
from itertools import pairwise

import make_files as mf
import numpy as np
import pytest
from paths import DEMO

import fastbilstm
from fastbilstm.aio import Batcher
from fastbilstm.clusters.batch_predictor import BatchPredictor
from fastbilstm.errors import FastBiLSTMError, FileFormatError, InputError
from fastbilstm.tolerances import compare

FORMS = ("int8", "bfloat16", "float16")
# Relative to the largest element, for nets of these sizes with weights N(0, 0.4).
ALLOWED = {"int8": 0.06, "bfloat16": 0.03, "float16": 0.004}


@pytest.fixture(scope="module")
def keras():
    return pytest.importorskip("keras")


def layers_of(keras, name):
    """The layers between a sequence of 5 floats and Dense(3, softmax)."""
    k = keras.layers
    return {
        "LSTM": [k.LSTM(16)],
        "BiLSTM": [k.Bidirectional(k.LSTM(8, return_sequences=True)), k.Bidirectional(k.LSTM(6))],
        "GRU": [k.GRU(16)],
        "GRU of older files": [k.GRU(24, reset_after=False, recurrent_activation="hard_sigmoid")],
        "SimpleRNN in a cell": [k.RNN(k.SimpleRNNCell(7), return_sequences=True), k.SimpleRNN(5)],
        "Conv1D": [k.Conv1D(12, 3, activation="relu"), k.MaxPooling1D(2), k.LSTM(9)],
        "Conv1D of many filters": [
            k.Conv1D(64, 7, activation="relu"),
            k.Conv1D(64, 2),
            k.BatchNormalization(),
            k.LSTM(9),
        ],
        "SeparableConv1D": [k.SeparableConv1D(12, 3), k.GRU(6)],
        "SeparableConv1D of many filters": [k.SeparableConv1D(64, 3, depth_multiplier=7), k.GRU(6)],
        "attention of many columns": [k.Bidirectional(k.LSTM(16, return_sequences=True)), (4, 16), k.GRU(6)],
        "attention": [k.Bidirectional(k.LSTM(8, return_sequences=True)), (2, 5), k.GlobalAveragePooling1D()],
        "stacked cells": [k.RNN([k.LSTMCell(7), k.GRUCell(6)])],
        "normalizations": [
            k.Dense(64),
            k.BatchNormalization(),
            k.ReLU(),
            k.BatchNormalization(),
            k.Dense(64),
            k.LSTM(16),
        ],
        "EinsumDense": [k.EinsumDense("abc,cde->abde", (20, 4, 16), bias_axes="de"), k.Reshape((20, 64)), k.LSTM(16)],
    }[name]


NETS = ("LSTM", "BiLSTM", "GRU", "SimpleRNN in a cell", "Conv1D", "SeparableConv1D", "attention", "stacked cells")
LARGER = (
    "GRU of older files",
    "Conv1D of many filters",
    "SeparableConv1D of many filters",
    "attention of many columns",
    "normalizations",
    "EinsumDense",
)
NETS += LARGER


def net(keras, name, tmp_path):
    """(the Keras model, its file, an input)."""
    rng = np.random.default_rng(NETS.index(name))
    given = y = keras.Input((20, 5))
    for layer in layers_of(keras, name):
        y = keras.layers.MultiHeadAttention(*layer)(y, y) if isinstance(layer, tuple) else layer(y)
    model = keras.Model(given, keras.layers.Dense(3, activation="softmax")(y))
    scale = 0.1 if name in LARGER else 0.4  # sums of many products stay small
    arrays = [rng.normal(0, scale, w.shape).astype(np.float32) for w in model.get_weights()]
    model.set_weights([np.abs(a) if "variance" in w.path else a for a, w in zip(arrays, model.weights)])
    model.save(tmp_path / "net.keras")
    return model, tmp_path / "net.keras", rng.normal(size=(8, 20, 5)).astype(np.float32)


@pytest.mark.parametrize("name", NETS)
def test_answers_are_those_of_keras_with_the_narrowed_numbers(keras, name, tmp_path):
    model, path, x = net(keras, name, tmp_path)
    wide, wide_weights = model.predict(x, verbose=0), model.get_weights()
    for form in FORMS:
        ours = fastbilstm.load(path, weights=form, backend="numpy")
        model.set_weights(ours.get_weights())
        found = compare(ours.predict(x), model.predict(x, verbose=0))
        assert found.ok, (form, found.message)
        runs = compare(fastbilstm.load(path, weights=form).predict(x), wide)
        assert 1e-6 < runs.max_rel < ALLOWED[form], (form, runs.message)
    model.set_weights(wide_weights)
    assert compare(fastbilstm.load(path).predict(x), wide).ok


@pytest.mark.parametrize("name", NETS)
def test_the_narrowed_numbers_are_the_nearest_of_the_form(keras, name, tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    _, path, _ = net(keras, name, tmp_path)
    wide = fastbilstm.load(path)._tensors
    for form in FORMS:
        for role, y in fastbilstm.load(path, weights=form)._tensors.items():
            k = wide[role]
            assert y.dtype == np.float32 and y.shape == k.shape
            if role.endswith("bias") or "depthwise" in role or "normalization" in role:
                assert (y == k).all()
            elif form == "int8":
                assert 0 < np.abs(y - k).max() <= np.abs(k).max() / 253
            else:
                np.testing.assert_array_equal(y, k.astype(ml_dtypes.bfloat16 if form == "bfloat16" else np.float16))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["BiLSTM", "Conv1D", "attention", "EinsumDense"])
def test_convert_measures_and_verify_compares_with_keras(keras, name, form, tmp_path):
    from fastbilstm.report.verify import verify

    model, path, x = net(keras, name, tmp_path)
    np.save(tmp_path / "rows.npy", x)
    target = tmp_path / "net.fbl"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        converted = fastbilstm.convert(path, target, weights=form, calibrate=tmp_path / "rows.npy")
    made_up, given = converted.measured
    assert made_up.rows == "64 made-up rows" and given.rows == "the rows of rows.npy"
    k, y = model.predict(x, verbose=0), converted.predict(x)
    assert given.largest[0] == pytest.approx(np.abs(y - k).max(), abs=2e-6)
    assert given.relative[0] == pytest.approx(np.abs(y - k).max() / k.max(), abs=2e-6)
    assert (given.flips, given.labels) == ((y.argmax(1) != k.argmax(1)).sum(), 8)
    report = verify(target, against=path)
    assert report.ok and report.data["same_weights"] and report.data["weights"] == form, report.text
    assert f"{form} weights beside Keras' float32" in report.text and "labels differ" in report.text

    # Another model of the same shape is none that these weights are narrowed from.
    other = [w * 1.25 if w.ndim > 1 else w for w in model.get_weights()]
    model.set_weights(other)
    model.save(tmp_path / "other.keras")
    report = verify(target, against=tmp_path / "other.keras")
    assert not report.ok and not report.data["same_weights"]
    assert report.data["keras"]["outputs"][0]["verdict"] == "MISMATCH", report.text


@pytest.mark.parametrize("config", ["Int8QuantizationConfig", "Int4QuantizationConfig"])
def test_inputs_of_a_dense_that_keras_quantized_are_not_rounded(keras, config, tmp_path):
    model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(64)])
    given = {} if "8" in config else {"block_size": -1}
    model.layers[0].quantize(config=getattr(keras.quantizers, config)(activation_quantizer=None, **given))
    model.save(tmp_path / "net.keras")
    x = np.random.default_rng(0).normal(size=(8, 32)).astype(np.float32)
    y = fastbilstm.load(tmp_path / "net.keras", weights="int8").predict(x)
    np.testing.assert_array_equal(y, fastbilstm.load(tmp_path / "net.keras").predict(x))


def test_weights_that_keras_quantized_stay(keras, tmp_path):
    given = keras.Input((4,))
    model = keras.Model(given, keras.layers.Dense(3)(keras.layers.Dense(5)(given)))
    model.layers[1].quantize("int8")
    model.save(tmp_path / "net.keras")
    arrays, narrow = (fastbilstm.load(tmp_path / "net.keras", weights=form)._tensors for form in (None, "int8"))
    same = {name: arrays[name].tobytes() == narrow[name].tobytes() for name in arrays}
    assert [arrays[name].shape for name in arrays if not same[name]] == [(5, 3)]
    assert sum(array.dtype == np.int8 for array in narrow.values()) == 1
    model = fastbilstm.convert(tmp_path / "net.keras", tmp_path / "net.fbl", weights="int8")
    assert all(model._tensors[name].tobytes() == narrow[name].tobytes() for name in narrow)


# ---- the file of the demo -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "most"), [("int8", 0.8e6), ("bfloat16", 1.5e6), ("float16", 1.5e6)])
def test_size_and_error_of_the_demo(form, most, tmp_path):
    with np.load(DEMO.parent / "reviews.npz") as file:
        ids, offsets, expected = (file[name] for name in ("ids", "offsets", "keras_prob"))
    x = np.zeros((len(expected), 400), np.int64)
    for row, (begin, end) in enumerate(pairwise(offsets)):
        tokens = ids[begin:end][-400:]
        x[row, 400 - len(tokens) :] = tokens
    model = fastbilstm.convert(DEMO, tmp_path / "demo.fbl", weights=form, calibrate=x)
    assert os.path.getsize(tmp_path / "demo.fbl") < most
    y = model.predict(x)[:, 0]
    assert np.abs(y - expected).max() < {"int8": 0.05, "bfloat16": 0.01, "float16": 1e-3}[form]
    assert model.measured[1].rows == "the rows given"
    assert model.measured[1].flips == ((y > 0.5) != (expected > 0.5)).sum() <= 1
    assert fastbilstm.load(tmp_path / "demo.fbl", check=True).weights == form


# ---- what takes over a model ----------------------------------------------------------------------------------------


@pytest.fixture
def narrow(tmp_path):
    return fastbilstm.convert(mf.h5(), tmp_path / "net.fbl", weights="int8")


def test_pickles_keep_the_form(narrow):
    again = pickle.loads(pickle.dumps(narrow))
    assert (again.weights, again.measured) == ("int8", narrow.measured) and again.self_check().ok
    np.testing.assert_array_equal(again.predict(mf.IDS), narrow.predict(mf.IDS))


def test_words_about_the_form(narrow):
    lines = []
    narrow.summary(lines.append)
    assert "weights: int8" in lines[0] and str(narrow.measured[0]) in lines[0] and "int8 weights" in repr(narrow)
    assert "weights: int8" in narrow._repr_html_()
    wide = fastbilstm.load(mf.h5())
    wide.summary(lines.append)
    assert "weights:" not in lines[1] and "weights" not in repr(wide) and wide.weights == "float32"


def test_a_stream_and_a_trace_run_in_the_form(tmp_path):
    net = mf.h5(
        mf.sequential(mf.input_layer("x", (None, None, 4), "float32"), mf.lstm(return_sequences=True)),
        mf.weights_of(lstm=mf.lstm_weights(4, 3)),
    )
    model = fastbilstm.load(net, weights="int8")
    x = np.random.default_rng(0).normal(size=(1, 7, 4)).astype(np.float32)
    y = model.predict(x)
    stream = model.stream()
    pieces = [stream.push(x[:, k : k + 1]) for k in range(7)]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), y, atol=1e-6)
    np.testing.assert_allclose(
        model.trace(x, "lstm"), fastbilstm.load(net, weights="int8", backend="numpy").predict(x), atol=0.05
    )
    assert np.abs(fastbilstm.load(net).predict(x) - y).max() > 1e-5


def test_a_part_has_the_form(tmp_path):
    inner = mf.sequential(mf.dense("inner_dense"))
    inner["config"]["layers"][0]["config"]["batch_input_shape"] = [None, 4]
    inner |= {"name": "inner"}
    config = mf.sequential(mf.input_layer("x", (None, 4), "float32"), inner)
    arrays = mf.weights_of(inner={"inner_dense/kernel": (4, 2), "inner_dense/bias": (2,)})
    model = fastbilstm.load(mf.h5(config, arrays), weights="int8")
    part = model.part("inner")
    assert part.weights == "int8"
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_array_equal(part.predict(x), model.predict(x))


def test_batch_predictor_and_batcher(tmp_path):
    (tmp_path / "net.h5").write_bytes(mf.h5())
    expected = fastbilstm.load(mf.h5(), weights="bfloat16").predict(mf.IDS)
    predictor = BatchPredictor(tmp_path / "net.h5", columns="ids", weights="bfloat16", raw=True)
    again = pickle.loads(pickle.dumps(predictor))
    for one in (predictor, again):
        np.testing.assert_array_equal(np.stack(list(one({"ids": list(mf.IDS)})["prediction"])), expected)
        assert one.model.weights == "bfloat16"
    with pytest.raises(InputError, match="weights: options of load"):
        BatchPredictor(predictor.model, weights="bfloat16")

    async def ask():
        async with Batcher(predictor.model) as batcher:
            return await asyncio.gather(*(batcher.predict(row) for row in mf.IDS))

    np.testing.assert_array_equal(np.stack(asyncio.run(ask())), expected)


def test_texts_labels_and_a_second_conversion(tmp_path, narrow):
    model = fastbilstm.convert(tmp_path / "net.fbl", tmp_path / "named.fbl", labels=["a", "b"])
    assert (model.weights, model.measured, model.labels) == ("int8", narrow.measured, ["a", "b"])
    assert all(a.tobytes() == b.tobytes() for a, b in zip(model.get_weights(), narrow.get_weights(), strict=True))
    named = fastbilstm.convert(mf.h5(), tmp_path / "both.fbl", weights="float16", labels=["a", "b"])
    assert named.labels == ["a", "b"] and named.measured[0].labels == 64


# ---- refusals and warnings ------------------------------------------------------------------------------------------


def test_what_convert_refuses(tmp_path, narrow):
    (tmp_path / "net.h5").write_bytes(mf.h5())
    with pytest.raises(FileFormatError, match="holds its weights in int8 alone"):
        fastbilstm.convert(tmp_path / "net.fbl", tmp_path / "other.fbl", weights="bfloat16")
    with pytest.raises(InputError, match="calibrate measures what weights='int8' .* costs"):
        fastbilstm.convert(mf.h5(), tmp_path / "other.fbl", calibrate=mf.IDS)
    with pytest.raises(InputError, match="calibrate measures .* holds its weights in int8"):
        fastbilstm.convert(tmp_path / "net.fbl", tmp_path / "other.fbl", calibrate=mf.IDS)
    with pytest.raises(FastBiLSTMError, match="trust=True gives Keras float32 weights"):
        fastbilstm.convert(tmp_path / "net.h5", tmp_path / "other.fbl", weights="int8", keras=True, trust=True)
    for content, words in ((b"no array", "neither a .npy file of rows nor a .npz"), (b"", "neither a .npy file")):
        (tmp_path / "rows.npy").write_bytes(content)
        with pytest.raises(InputError, match=words):
            fastbilstm.convert(mf.h5(), tmp_path / "other.fbl", weights="int8", calibrate=tmp_path / "rows.npy")
    with pytest.raises(FileNotFoundError, match="gone.npy"):
        fastbilstm.convert(mf.h5(), tmp_path / "other.fbl", weights="int8", calibrate=tmp_path / "gone.npy")
    with pytest.raises(InputError, match=r"calibrate, the rows given: input 'ids': the token id .* is 101"):
        fastbilstm.convert(mf.h5(), tmp_path / "other.fbl", weights="int8", calibrate=mf.IDS + 100)
    assert not (tmp_path / "other.fbl").exists()


def test_labels_that_flip_are_warned_of(tmp_path):
    """A net whose answer is 0.5 but for what narrowing changes."""
    arrays = mf.weights_of(dense={"kernel": (40, 1), "bias": (1,)})
    arrays["dense"]["kernel"] *= 1e-3
    arrays["dense"]["bias"][:] = 0
    net = mf.h5(
        mf.sequential(mf.input_layer("x", (None, 40), "float32"), mf.dense(units=1, activation="sigmoid")), arrays
    )
    x = np.linalg.qr(np.c_[arrays["dense"]["kernel"], np.random.default_rng(0).normal(size=(40, 39))])[0].T[1:]
    np.savez(tmp_path / "rows.npz", x=x.astype(np.float32))
    with pytest.warns(RuntimeWarning, match=r"weights='bfloat16': on the rows of rows\.npz it differs .* of 39 labels"):
        model = fastbilstm.convert(net, tmp_path / "net.fbl", weights="bfloat16", calibrate=tmp_path / "rows.npz")
    assert model.measured[1].flips > 0 and model.measured[1].largest[0] < 1e-3


def test_keras_records_answers_to_the_narrowed_weights(keras, tmp_path):
    model, path, _ = net(keras, "LSTM", tmp_path)
    converted = fastbilstm.convert(path, tmp_path / "net.fbl", weights="bfloat16", keras=True)
    assert converted.vector.computed_by.startswith("keras ")
    model.set_weights(converted.get_weights())
    np.testing.assert_allclose(
        converted.vector.outputs[0], model.predict(converted.vector.inputs[0], verbose=0), atol=1e-6
    )
    assert converted.self_check().ok
