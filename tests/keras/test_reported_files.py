"""Files that people reported: each is of a kind, and loads with the right numbers or says what to do."""

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import FileFormatError, UnsupportedLayerError
from fastbilstm.cli.commands import main
from fastbilstm.layers import REGISTRY, CustomLayer

RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def forget():
    yield
    for name in [name for name, cls in REGISTRY.items() if issubclass(cls, CustomLayer)]:
        del REGISTRY[name]


# ---- no input shape (Keras 2.2.0 dropped it) ------------------------------------------------------------------------


CONV = mf.layer("Conv1D", "conv", filters=4, kernel_size=[3], activation="relu", use_bias=True)
CONV2D = mf.layer("Conv2D", "conv", filters=4, kernel_size=[2, 3], activation="relu", use_bias=True)
EACH = mf.layer("TimeDistributed", "each", layer=mf.dense("inner", units=4))
OF_CONV = {"conv": {"kernel": (3, 7, 4), "bias": (4,)}}
FIRST = {
    "Conv1D": ([CONV], OF_CONV, (5, 7)),
    "Dropout and Conv1D": ([mf.layer("Dropout", "drop", rate=0.1), CONV], OF_CONV, (5, 7)),
    "Masking": ([mf.layer("Masking", "mask", mask_value=0.0)], {}, (5, 4)),
    "TimeDistributed": ([EACH], {"each": {"kernel": (7, 4), "bias": (4,)}}, (5, 7)),
    "TimeDistributed Conv1D": (
        [
            mf.layer("TimeDistributed", "each", layer=CONV),
            mf.layer("TimeDistributed", "flat", layer=mf.layer("GlobalMaxPooling1D", "pool")),
        ],
        {"each": {"kernel": (3, 7, 4), "bias": (4,)}},
        (5, 6, 7),
    ),
}


@pytest.mark.parametrize("first", FIRST)
def test_the_first_kernel_tells_the_features(first):
    """As with the shape, which tf.keras and Keras 2 otherwise store in the first layer."""
    layers, shapes, shape = FIRST[first]
    shapes = mf.weights_of(**shapes, lstm=mf.lstm_weights(4, 3))
    x = RNG.standard_normal((2, *shape)).astype(np.float32)
    told = mf.sequential(mf.input_layer("x", (None, *shape), "float32"), *layers, mf.lstm())
    found = fastbilstm.load(mf.h5(mf.sequential(*layers, mf.lstm()), shapes))
    assert [size for size in found.inputs[0].shape if size] == [shape[-1]]
    assert len(found.inputs[0].shape) == 1 + len(shape)
    np.testing.assert_array_equal(found.predict(x), fastbilstm.load(mf.h5(told, shapes)).predict(x))


def test_images_and_what_tells_nothing():
    pool = mf.layer("GlobalMaxPooling2D", "pool")
    shapes = mf.weights_of(conv={"kernel": (2, 3, 3, 4), "bias": (4,)})
    model = fastbilstm.load(mf.h5(mf.sequential(CONV2D, pool), shapes))
    assert model.inputs[0].shape == (None, None, None, 3) and model.predict(np.ones((2, 8, 9, 3))).shape == (2, 4)
    with pytest.raises(FileFormatError, match=r"its first layer 'flat' \(Flatten\) does not show it"):
        shapes = mf.weights_of(dense={"kernel": (4, 2), "bias": (2,)})
        fastbilstm.load(mf.h5(mf.sequential(mf.layer("Flatten", "flat"), mf.dense()), shapes))


# ---- own layers called with several tensors -------------------------------------------------------------------------


def called(form):
    """Own(q, k, v) as tf.keras and Keras 3 write it: positional, or by keyword."""
    inputs = [mf.input_layer(name, (None, 3), "float32", functional=True) for name in "qkv"]
    own = mf.layer("Own", "own", [], factor=2.0)
    tensor = lambda name: {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}  # noqa: E731
    own["inbound_nodes"] = {
        "tf.keras": [[["q", 0, 0, {"k": ["k", 0, 0], "v": ["v", 0, 0]}]]],
        "positional": [{"args": [tensor("q"), tensor("k"), tensor("v")], "kwargs": {"mask": None}}],
        "keywords": [{"args": [tensor("q")], "kwargs": {"k": tensor("k"), "v": tensor("v")}}],
        "all keywords": [{"args": [], "kwargs": {"inputs": tensor("q"), "k": tensor("k"), "v": tensor("v")}}],
    }[form]
    version = mf.KERAS2 if form == "tf.keras" else mf.KERAS3
    return mf.h5(mf.functional(*inputs, own, inputs="qkv", outputs=["own"]), {}, version)


@pytest.mark.parametrize("form", ["tf.keras", "positional", "keywords", "all keywords"])
def test_own_layer_of_three_tensors(form):
    def own(x, mask, weights, config):
        q, k, v = x
        return config["factor"] * q - k * v

    fastbilstm.register_layer("Own", own, options=["factor"], n_inputs=3, output_shape=lambda shapes, config: shapes[0])
    q, k, v = RNG.standard_normal((3, 4, 3)).astype(np.float32)
    model = fastbilstm.load(called(form))
    np.testing.assert_allclose(model.predict([q, k, v]), 2 * q - k * v, rtol=1e-6)


@pytest.mark.parametrize("form", ["tf.keras", "positional", "keywords"])
def test_another_number_of_tensors_is_told_without_names_of_ours(form):
    fastbilstm.register_layer("Own", lambda x, *_: x, options=["factor"])
    with pytest.raises(FileFormatError, match="called with 3 tensors; expected 1") as caught:
        fastbilstm.load(called(form))
    assert "Pending" not in str(caught.value)


# ---- training=True --------------------------------------------------------------------------------------------------


def trained(layer, nodes="keras3"):
    given = mf.input_layer("x", (None, 4, 4), "float32", functional=True)
    tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}}
    layer = layer | {"name": layer["config"]["name"]}
    layer["inbound_nodes"] = (
        [{"args": [tensor], "kwargs": {"training": True, "mask": None}}]
        if nodes == "keras3"
        else [[["x", 0, 0, {"training": True}]]]
    )
    version = mf.KERAS3 if nodes == "keras3" else mf.KERAS2
    weights = mf.weights_of(lstm=mf.lstm_weights(4, 3)) if layer["class_name"] == "LSTM" else {}
    return mf.h5(mf.functional(given, layer, inputs=["x"], outputs=[layer["name"]]), weights, version)


@pytest.mark.parametrize("nodes", ["keras2", "keras3"])
def test_training_true_where_it_changes_nothing(nodes):
    x = RNG.standard_normal((2, 4, 4)).astype(np.float32)
    found = fastbilstm.load(trained(mf.lstm(), nodes)).predict(x)
    np.testing.assert_array_equal(found, mf.floats(timesteps=4).predict(x))


@pytest.mark.parametrize(
    "layer",
    [
        mf.lstm(dropout=0.2),
        mf.lstm(recurrent_dropout=0.2),
        mf.layer("Dropout", "drop", rate=0.3),
        mf.layer("GaussianNoise", "noise", stddev=0.3),
        mf.layer("Bidirectional", "both", layer=mf.lstm(dropout=0.1), merge_mode="concat"),
    ],
)
def test_training_true_where_it_counts(layer):
    """tf.keras and Keras 2 compute so in `predict`, too; Keras 3 does not, and a note says so."""
    with pytest.raises(UnsupportedLayerError, match="option training=True asks for training behaviour at inference"):
        fastbilstm.load(trained(layer, "keras2"))
    if layer["class_name"] in ("Dropout", "GaussianNoise"):
        model, x = fastbilstm.load(trained(layer)), RNG.standard_normal((2, 4, 4)).astype(np.float32)
        np.testing.assert_array_equal(model.predict(x), x)
        assert "training=True, which predict of Keras 3 ignores" in model.graph.notes[0]


DROPPED = mf.layer("Dropout", "drop", rate=0.3)


@pytest.mark.parametrize("layer", [DROPPED, mf.lstm(dropout=0.2)], ids=["Dropout", "LSTM"])
def test_inference_switches_training_off(layer, tmp_path):
    """Monte Carlo dropout of tf.keras: the numbers of inference, and a note."""
    x = RNG.standard_normal((2, 4, 4)).astype(np.float32)
    content = trained(layer, "keras2")
    with pytest.raises(UnsupportedLayerError, match=r"inference=True\) \(--inference\) switches it off"):
        fastbilstm.load(content)
    model = fastbilstm.load(content, inference=True)
    expected = x if layer is DROPPED else mf.floats(timesteps=4).predict(x)
    np.testing.assert_array_equal(model.predict(x), expected)
    assert (
        f"layer {layer['config']['name']!r} is called with training=True, which inference=True" in model.graph.notes[0]
    )
    path = tmp_path / "net.h5"
    path.write_bytes(content)
    assert main(["convert", str(path)]) == 2
    assert main(["convert", str(path), "--inference"]) == 0
    assert main(["inspect", str(path), "--inference"]) == 0
    np.testing.assert_array_equal(fastbilstm.load(tmp_path / "net.fbl").predict(x), expected)
    with pytest.raises(FileFormatError, match="config, outputs and inference belong to its conversion"):
        fastbilstm.load(tmp_path / "net.fbl", inference=True)


def test_keras_computes_so(tmp_path):
    """Dropout(x, training=True) beside live Keras: `predict` of Keras 3 is that of inference."""
    keras = pytest.importorskip("keras", reason="needs Keras and TensorFlow")
    given = keras.Input((5,))
    model = keras.Model(given, keras.layers.Dropout(0.5)(given, training=True))
    model.save(tmp_path / "m.keras")
    x = np.ones((2, 5), np.float32)
    np.testing.assert_array_equal(fastbilstm.load(tmp_path / "m.keras").predict(x), model.predict(x, verbose=0))
