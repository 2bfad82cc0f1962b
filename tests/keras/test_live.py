"""Models of Keras 3 and tf_keras in memory: the numbers of Keras, no file left, and what is refused.

Skips where neither is installed; what needs no Keras is tested with an object that saves itself.
"""

import importlib
import os
import sys
import tempfile

import make_files as mf
import numpy as np
import pytest
from paths import ROOT

import fastbilstm
from fastbilstm.layers import REGISTRY
from fastbilstm.tolerances import compare

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(params=["keras", "tf_keras"])
def k(request):
    return pytest.importorskip(request.param)


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder of temporary files, which must be empty after each test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not [path for path in folder.iterdir() if path.name.startswith("fastbilstm-")]


def nested(k):
    """A model inside a model that is called twice, Bidirectional, and a frozen layer."""
    layers = k.layers
    inner = k.Sequential([k.Input((5, 3)), layers.Bidirectional(layers.LSTM(2)), layers.Dense(3)], name="inner")
    inner.layers[-1].trainable = False
    a, b = k.Input((5, 3)), k.Input((5, 3))
    return k.Model([a, b], layers.Concatenate()([inner(a), inner(b), layers.GRU(2)(a)]))


def without_input(k):
    """A Sequential that was built by its first call."""
    model = k.Sequential([k.layers.LSTM(3, return_sequences=True), k.layers.BatchNormalization(), k.layers.Dense(2)])
    model(np.zeros((1, 5, 3), np.float32))
    return model


def trained(k):
    model = k.Sequential([k.Input((5, 3)), k.layers.LSTM(3), k.layers.Dense(1)])
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    model.fit(rng.normal(size=(8, 5, 3)), rng.normal(size=(8, 1)), verbose=0)
    return model


@pytest.mark.parametrize("build", [nested, without_input, trained])
def test_numbers_are_those_of_keras(build, k):
    model = build(k)
    x = [np.random.default_rng(n).normal(size=(3, 5, 3)).astype(np.float32) for n in range(len(model.inputs))]
    x = x[0] if len(x) == 1 else x
    result = compare(fastbilstm.load(model).predict(x), np.asarray(model(x, training=False)), "float32")
    assert result.ok, result.message


def test_the_lines_of_the_documentation(k, tmp_path, monkeypatch):
    """They stand in docs/using.md, indented."""
    text = (ROOT / "docs" / "using.md").read_text("utf-8")
    lines = text.partition("is given as it is:\n\n")[2].partition("\n\n")[0].splitlines()
    assert len(lines) == 3 and all(line.startswith("    ") for line in lines)
    monkeypatch.chdir(tmp_path)
    names = {"fastbilstm": fastbilstm, "model": trained(k), "x": np.ones((2, 5, 3), np.float32)}
    exec("\n".join(line.strip() for line in lines), names)
    converted = fastbilstm.load("model.fbl")
    np.testing.assert_array_equal(names["y"], converted.predict(names["x"]))
    assert converted.self_check().ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.fbl", "temporary"]
    result = compare(names["y"], np.asarray(names["model"](names["x"])), "float32")
    assert result.ok, result.message


def test_words_and_lookups(k):
    """What `adapt` learned is in no config."""
    tensorflow = importlib.import_module("tensorflow")
    vectorize = k.layers.TextVectorization(output_sequence_length=4)
    vectorize.adapt(["a cat sat", "a dog sat down"])
    text = k.Input((1,), dtype="string")
    model = k.Model(text, k.layers.LSTM(2)(k.layers.Embedding(9, 3, mask_zero=True)(vectorize(text))))
    expected = np.asarray(model(tensorflow.constant([["a dog"], ["the cat sat"]])))
    result = compare(fastbilstm.load(model).predict(np.array([["a dog"], ["the cat sat"]])), expected, "float32")
    assert result.ok, result.message


def test_int8_and_registered_classes(monkeypatch):
    keras = pytest.importorskip("keras")

    @keras.saving.register_keras_serializable("live_models")
    class Scaled(keras.layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="factor")

        def call(self, x):
            return x * self.factor

    model = keras.Sequential([keras.Input((5, 3)), Scaled(), keras.layers.LSTM(4), keras.layers.Dense(4)])
    model.layers[-1].quantize("int8")
    with pytest.raises(fastbilstm.UnsupportedLayerError, match=r"(?s)<Keras model .*Scaled"):
        fastbilstm.load(model)
    monkeypatch.setitem(REGISTRY, "live_models>Scaled", None)  # taken out after the test
    del REGISTRY["live_models>Scaled"]
    fastbilstm.register_layer(
        "live_models>Scaled", lambda x, mask, weights, config: x * weights["factor"], weights={"factor": (None,)}
    )
    x = np.random.default_rng(0).normal(size=(3, 5, 3)).astype(np.float32)
    y, expected = fastbilstm.load(model).predict(x), np.asarray(model(x))
    assert np.abs(y - expected).max() < 0.02 * np.abs(expected).max()  # one step of the quantized input


def test_stateful_layers_begin_with_zeros(k):
    model = k.Sequential([k.Input(batch_shape=(2, 5, 3)), k.layers.LSTM(3, stateful=True)])
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    first, second = np.asarray(model(x)), np.asarray(model(x))
    fast = fastbilstm.load(model)
    for expected in (first, second):
        result = compare(fast.predict(x), expected, "float32")
        assert result.ok, result.message


def test_later_training_changes_nothing(k):
    model = trained(k)
    fast = fastbilstm.load(model)
    x = np.ones((2, 5, 3), np.float32)
    y = fast.predict(x)
    model.fit(x, np.zeros((2, 1)), epochs=3, verbose=0)
    np.testing.assert_array_equal(fast.predict(x), y)
    assert np.abs(np.asarray(model(x)) - y).max() > 1e-4


def test_what_is_refused(k):
    with pytest.raises(
        fastbilstm.FastBiLSTMError, match=r"<Keras model 'raw'>: is not built.*give it an Input, or call"
    ):
        fastbilstm.load(k.Sequential([k.layers.LSTM(3)], name="raw"))

    class Own(k.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.dense = k.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Own(name="own")
    model(np.ones((1, 2), np.float32))
    with pytest.raises(fastbilstm.UnsupportedLayerError, match="(?s)<Keras model 'own'>.*subclassed model"):
        fastbilstm.load(model)


# ---- without Keras --------------------------------------------------------------------------------------------------


class Saved:
    """Like a model of Keras as far as it is used; `content` is what it writes, or an error."""

    name, built, layers = "net", True, ()

    def __init__(self, content):
        self.content = content

    def get_config(self):
        return {}

    def save(self, filepath):
        if isinstance(self.content, Exception):
            raise self.content
        with open(filepath, "wb") as file:
            file.write(self.content)


@pytest.mark.parametrize("content", [mf.archive(), mf.h5()], ids=["keras", "h5"])
def test_an_object_that_saves_itself(content, tmp_path):
    """tf.keras before 2.12 writes HDF5 under any name; no framework is imported here."""
    before = set(sys.modules)
    expected = fastbilstm.load(content).predict(mf.IDS)
    np.testing.assert_array_equal(fastbilstm.load(Saved(content)).predict(mf.IDS), expected)
    converted = fastbilstm.convert(Saved(content), tmp_path / "model.fbl", labels=["a", "b"])
    np.testing.assert_array_equal(converted.predict(mf.IDS), expected)
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] in ("keras", "tf_keras", "tensorflow")}


def test_what_keras_cannot_save():
    with pytest.raises(
        fastbilstm.FastBiLSTMError, match=r"<Keras model 'net'>: Keras cannot save it \(OSError: no space"
    ):
        fastbilstm.load(Saved(OSError("no  space\nleft")))
    with pytest.raises(fastbilstm.FileFormatError, match="<Keras model 'net'>: is empty"):
        fastbilstm.load(Saved(b""))


def test_trust_needs_a_file(tmp_path):
    with pytest.raises(fastbilstm.FastBiLSTMError, match="trust=True hands a file to Keras; give the path"):
        fastbilstm.convert(Saved(mf.archive()), tmp_path / "model.fbl", keras=True, trust=True)
