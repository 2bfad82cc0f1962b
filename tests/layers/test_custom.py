"""register_layer: classes of other people in files of Keras 3 and tf_keras, against TensorFlow; what is refused."""

import os
import pickle
import subprocess
import sys
import threading

import make_files as mf
import numpy as np
import pytest
from paths import TOOLS
from registered import forget_classes

import fastbilstm
from fastbilstm import FastBiLSTMError, FileFormatError, UnsupportedLayerError
from fastbilstm.layers import REGISTRY
from fastbilstm.tolerances import compare

RNG = np.random.default_rng(3)
X = RNG.standard_normal((3, 6, 5)).astype("f4")
IDS = np.array([[1, 2, 3, 4, 5, 6], [3, 3, 1, 0, 0, 0], [2, 0, 0, 0, 0, 0]], "i4")


@pytest.fixture(autouse=True)
def forget():
    """Each test begins with no class registered."""
    yield
    forget_classes()


@pytest.fixture
def examples(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import custom_layers

    return custom_layers


@pytest.fixture(params=["keras", "tf_keras"])
def k(request):
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    pytest.importorskip("tensorflow", reason="custom layers are compared with TensorFlow")
    return pytest.importorskip(request.param)


def classes(k):
    """The layers as their authors write them, in TensorFlow."""
    import tensorflow as tf

    class AttentionWeightedAverage(k.layers.Layer):
        def __init__(self, return_attention=False, **kwargs):
            super().__init__(**kwargs)
            self.supports_masking, self.return_attention = True, return_attention

        def build(self, shape):
            self.W = self.add_weight(shape=(shape[2], 1), name="W", initializer="random_normal")
            super().build(shape)

        def call(self, x, mask=None):
            logits = tf.squeeze(tf.tensordot(x, self.W, 1), -1)
            ai = tf.exp(logits - tf.reduce_max(logits, axis=-1, keepdims=True))
            if mask is not None:
                ai = ai * tf.cast(mask, ai.dtype)
            weights = ai / (tf.reduce_sum(ai, axis=1, keepdims=True) + 1e-7)
            result = tf.reduce_sum(x * tf.expand_dims(weights, -1), axis=1)
            return [result, weights] if self.return_attention else result

        def compute_mask(self, inputs, mask=None):
            return [None, None] if self.return_attention else None

        def compute_output_shape(self, shape):
            shape = tuple(shape)
            return [(shape[0], shape[2]), shape[:2]] if self.return_attention else (shape[0], shape[2])

        def get_config(self):
            return {**super().get_config(), "return_attention": self.return_attention}

    class CRF(k.layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units, self.supports_masking = units, True

        def build(self, shape):
            square, row = (self.units, self.units), (self.units,)
            self.transitions = self.add_weight(shape=square, name="transitions", initializer="random_normal")
            self.left = self.add_weight(shape=row, name="left_boundary", initializer="random_normal")
            self.right = self.add_weight(shape=row, name="right_boundary", initializer="random_normal")
            super().build(shape)

        def call(self, x, mask=None):
            keep = tf.ones(tf.shape(x)[:2], tf.bool) if mask is None else tf.cast(mask, tf.bool)
            # By the definition, for sequences of fixed length: all paths of tags, scored one by one.
            timesteps = x.shape[1]
            paths = np.indices((self.units,) * timesteps).reshape(timesteps, -1)
            total = 0.0
            for t in range(timesteps):
                kept = tf.cast(keep[:, t, None], x.dtype)
                here = tf.gather(x[:, t], paths[t], axis=1)
                if t == 0:
                    here += tf.gather(self.left, paths[0])
                else:
                    here += tf.gather_nd(self.transitions, np.stack([paths[t - 1], paths[t]], 1))
                following = tf.cast(keep[:, t + 1, None], x.dtype) if t + 1 < timesteps else 0.0
                here += (1 - following) * tf.gather(self.right, paths[t])
                total += kept * here
            best = tf.gather(tf.constant(paths.T, tf.int32), tf.argmax(total, axis=1))
            return tf.where(keep, best, 0)

        def compute_mask(self, inputs, mask=None):
            return None

        def compute_output_shape(self, shape):
            return tuple(shape)[:2]

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    return AttentionWeightedAverage, CRF


def saved(k, model, path, suffix):
    """The file; weights are drawn large enough to matter."""
    rng = np.random.default_rng(11)
    model.set_weights([rng.standard_normal(w.shape).astype(w.dtype) for w in model.get_weights()])
    for layer in model.layers:
        if layer.name == "crf":
            layer.set_weights([w * np.float32(0.3) for w in layer.get_weights()])
    file = path / f"model{suffix}"
    model.save(file)
    return file


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("decorated", [False, True])
@pytest.mark.parametrize("return_attention", [False, True])
def test_attention_weighted_average(k, suffix, decorated, return_attention, tmp_path, examples):
    attention, _ = classes(k)
    if decorated:
        attention = k.utils.register_keras_serializable(package="tests")(attention)
    given = k.Input((None,), dtype="int32")
    h = k.layers.Embedding(8, 5, mask_zero=True)(given)
    h = k.layers.LSTM(4, return_sequences=True)(h)
    found = attention(return_attention=return_attention, name="average")(h)
    average, *weights = found if return_attention else [found]
    model = k.Model(given, [k.layers.Dense(2)(average), *weights])
    file = saved(k, model, tmp_path, suffix)
    # The class is known without; what is registered comes first.
    known = fastbilstm.load(file)
    assert "deepmoji.AttentionWeightedAverage" in [layer.class_name for layer in known.layers]
    examples.register()
    expected = model.predict(IDS, verbose=0)
    for a, b in zip(*[[v] if isinstance(v, np.ndarray) else v for v in (known.predict(IDS), expected)], strict=True):
        assert compare(a, np.asarray(b), "float32").ok
    for dtype in ("float32", "float64"):
        ours = fastbilstm.load(file, dtype=dtype)
        y = ours.predict(IDS)
        for a, b in zip(*[[v] if isinstance(v, np.ndarray) else v for v in (y, expected)], strict=True):
            assert compare(a, np.asarray(b), "float32").ok
    converted = fastbilstm.convert(file, tmp_path / "model.fbl")
    assert "AttentionWeightedAverage" in [layer.class_name for layer in converted.layers]
    again = pickle.loads(pickle.dumps(converted))
    for a, b in zip(*[[v] if isinstance(v, np.ndarray) else v for v in (again.predict(IDS), converted.predict(IDS))]):
        np.testing.assert_array_equal(a, b)
    del REGISTRY["AttentionWeightedAverage"]
    with pytest.raises(FileFormatError, match="'average': class 'AttentionWeighted.* is unknown .*register_layer"):
        fastbilstm.load(tmp_path / "model.fbl")
    converted.predict(IDS)  # a loaded model keeps its function


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("masked", [False, True])
def test_crf_decoder(k, suffix, masked, tmp_path, examples):
    """Viterbi against a score of every path."""
    _, crf = classes(k)
    given = k.Input((6,), dtype="int32")
    h = k.layers.Embedding(8, 5, mask_zero=masked)(given)
    h = k.layers.Bidirectional(k.layers.LSTM(4, return_sequences=True))(h)
    model = k.Model(given, crf(3, name="crf")(k.layers.Dense(3)(h)))
    file = saved(k, model, tmp_path, suffix)
    with pytest.raises(UnsupportedLayerError, match="'crf'"):
        fastbilstm.load(file)
    examples.register()
    expected = np.asarray(model.predict(IDS, verbose=0))
    ours = fastbilstm.load(file).predict(IDS)
    assert ours.dtype == np.int32
    np.testing.assert_array_equal(ours, expected)
    if masked:
        assert not ours[IDS == 0].any()
    ids = np.random.default_rng(1).integers(1, 8, (40, 6)).astype("i4")
    tags = fastbilstm.load(file).predict(ids)
    np.testing.assert_array_equal(tags, np.asarray(model.predict(ids, verbose=0)))
    assert len(np.unique(tags)) > 1


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_layers_inside_and_weights_that_are_not_trained(k, suffix, tmp_path):
    """Bahdanau's attention as tutorials write it: Dense layers as attributes, two inputs, a mask that is passed on."""
    import tensorflow as tf

    class Bahdanau(k.layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units, self.supports_masking = units, True
            self.W1, self.W2 = k.layers.Dense(units, name="W1"), k.layers.Dense(units, name="W2")
            self.V = k.layers.Dense(1, name="V")

        def build(self, shapes):
            query, values = (tuple(shape) for shape in shapes)
            inside = ((self.W1, values), (self.W2, query), (self.V, (None, None, self.units)))
            for layer, shape in inside if k.__name__ == "keras" else ():
                layer.build(shape)
            self.offset = self.add_weight(shape=(), name="offset", trainable=False, initializer="zeros")
            super().build(shapes)

        def call(self, inputs):
            query, values = inputs
            score = self.V(tf.nn.tanh(self.W1(values) + self.W2(query)[:, None])) + self.offset * values[:, :, :1]
            return tf.reduce_sum(tf.nn.softmax(score, axis=1) * values, axis=1)

        def compute_output_shape(self, shapes):
            return tuple(shapes[1])[:1] + tuple(shapes[1])[2:]

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    def bahdanau(x, mask, weights, config):
        (query, values), w = x, weights
        hidden = values @ w["W1/0"] + w["W1/1"] + (query @ w["W2/0"] + w["W2/1"])[:, np.newaxis]
        score = np.tanh(hidden) @ w["V/0"] + w["V/1"] + w["offset"] * values[:, :, :1]
        score = np.exp(score - score.max(axis=1, keepdims=True))
        return np.sum(score / score.sum(axis=1, keepdims=True) * values, axis=1)

    given = k.Input((None, 5))
    sequence, state, _ = k.layers.LSTM(4, return_sequences=True, return_state=True)(given)
    model = k.Model(given, k.layers.Dense(2)(Bahdanau(3, name="att")([state, sequence])))
    file = saved(k, model, tmp_path, suffix)
    roles = {f"{part}/{n}": (None,) * (2 - n) for part in ("W1", "W2", "V") for n in (0, 1)}
    roles["offset"] = ()
    fastbilstm.register_layer(
        "Bahdanau", bahdanau, weights=roles, options=["units"], n_inputs=2, output_shape=lambda s, c: (s[1][0], s[1][2])
    )
    assert compare(fastbilstm.load(file).predict(X), model.predict(X, verbose=0), "float32").ok


def test_class_with_the_name_of_a_keras_layer(tmp_path):
    """A class of another module called Attention is never taken for Keras' own."""
    pytest.importorskip("tensorflow")
    k = pytest.importorskip("keras")

    class Attention(k.layers.Layer):
        def call(self, x):
            return x * 2

        def compute_output_shape(self, shape):
            return shape

    Attention.__module__ = "my.module"
    model = k.Sequential([k.Input((5,)), Attention(name="att")])
    model.save(tmp_path / "m.keras")
    with pytest.raises(UnsupportedLayerError, match=r"'att' \(Attention\): option module='my.module' is a class of"):
        fastbilstm.load(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="this is a layer of Keras; .* 'package>Attention'"):
        fastbilstm.register_layer("Attention", lambda x, mask, weights, config: x * 2)
    fastbilstm.register_layer("my.module>Attention", lambda x, mask, weights, config: x * 2)
    np.testing.assert_array_equal(fastbilstm.load(tmp_path / "m.keras").predict(X[:, 0]), X[:, 0] * 2)


# ---- without TensorFlow ---------------------------------------------------------------------------------------------


def content(weights=None, **options):
    """A file: Masking, a class Scale, an LSTM."""
    layers = [
        mf.layer("Masking", "masking", None, mask_value=0.0),
        mf.layer("Scale", "scale", None, **options),
        mf.layer("LSTM", "lstm", None, units=2, activation="tanh", recurrent_activation="sigmoid", use_bias=True),
    ]
    layers[0]["config"]["batch_input_shape"] = [None, None, 5]
    roles = {"factor": (5,)} if weights is None else weights
    lstm = {f"lstm_cell/{role}": shape for role, shape in mf.lstm_weights(5, 2).items()}
    return mf.h5(mf.sequential(*layers), mf.weights_of(masking={}, scale=roles, lstm=lstm))


def scale(x, mask, weights, config):
    return x * weights["factor"] + config["shift"]


def register(**changes):
    given = {"call": scale, "weights": {"factor": (None,)}, "options": {"shift": 0.0}, "mask": "pass"} | changes
    fastbilstm.register_layer("Scale", given.pop("call"), **given)


def masked_x():
    x = X.copy()
    x[0, 3:] = 0
    return x


def test_masks():
    register()
    passed = fastbilstm.load(content(shift=0.5))
    short = passed.predict(masked_x()[:1, :3])
    np.testing.assert_array_equal(passed.predict(masked_x())[:1], short)
    register(mask=lambda mask, config: mask)
    np.testing.assert_array_equal(fastbilstm.load(content(shift=0.5)).predict(masked_x()), passed.predict(masked_x()))
    register(mask="drop")
    dropped = fastbilstm.load(content(shift=0.5)).predict(masked_x())
    assert not np.allclose(dropped[:1], short)
    seen = []
    register(call=lambda x, mask, weights, config: seen.append(mask) or x)
    fastbilstm.load(content()).predict(masked_x())
    np.testing.assert_array_equal(seen[-1], (masked_x() != 0).any(-1))


@pytest.mark.parametrize(
    ("changes", "options", "text"),
    [
        ({}, {"shift": 1.0, "other": 2}, "UnsupportedLayerError.*'scale' .Scale.: option other='2' is not known"),
        ({}, {"other": False}, "UnsupportedLayerError.*option other='False' is not known"),
        ({"options": ["shift"]}, {}, "FileFormatError.*'scale' .Scale.: option 'shift' is missing"),
        ({"weights": ["factor", "bias"]}, {}, "FileFormatError.*'scale' .Scale.: the file holds 1 arrays for it, .* 2"),
        ({"weights": {"factor": (4,)}}, {}, r"FileFormatError.*its factor has shape \(5,\); the model needs \(4,\)"),
        ({"weights": {"factor": (None, 1)}}, {}, r"its factor has shape \(5,\); the model needs \(None, 1\)"),
        ({"weights": lambda config: config["units"]}, {}, "its registered weights raised KeyError: 'units'"),
        ({"output_shape": lambda shape, config: 5}, {}, "its registered output_shape gives 5 for"),
        ({"output_shape": lambda shape, config: shape[7]}, {}, "its registered output_shape raised IndexError"),
        ({"call": lambda *a: a[0][:, 0]}, {}, r"function gave an array of shape \(3, 5\); expected \(3, None, 5\)"),
        ({"call": lambda *a: a[0][:1]}, {}, r"function gave an array of shape \(1, 6, 5\); expected \(3, None, 5\)"),
        ({"call": lambda *a: [a[0], a[0]]}, {}, "function gave a list of 2; by its output_shape it gives one array"),
        ({"call": lambda *a: None}, {}, "function gave an array of dtype object"),
        ({"call": lambda *a: a[0].sum(bad=1)}, {}, "FastBiLSTMError.*layer 'scale' .Scale.: .* raised TypeError"),
        ({"call": lambda *a: np.multiply(a[0], 2, out=a[0])}, {}, "raised ValueError: .*read-only"),
        ({"mask": lambda mask, config: mask.nothing}, {}, "its registered mask raised AttributeError"),
    ],
)
def test_errors_name_layer_and_class(changes, options, text):
    register(**changes)
    with pytest.raises(FastBiLSTMError) as caught:
        fastbilstm.load(content(**options)).predict(X)
    import re

    assert re.search(text, f"{caught.type.__name__}: {caught.value}", re.DOTALL), str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "text"),
    [
        ("LSTM", {}, "is a layer of Keras"),
        ("Lambda", {}, "is a layer of Keras"),
        ("ops.Any", {}, "is a layer of Keras"),
        ("", {}, "name is ''"),
        ("A", {"call": 3}, "call is 3; expected a function"),
        ("A", {"mask": "keep"}, "mask is 'keep'"),
        ("A", {"n_inputs": 0}, "n_inputs is 0"),
        ("A", {"weights": 5}, "weights is 5"),
        ("A", {"weights": {"W": 5}}, "weights is .*expected shapes"),
        ("A", {"options": "shift"}, "options is 'shift'"),
        ("A", {"output_shape": (1, 2)}, "output_shape is"),
    ],
)
def test_wrong_registrations(name, changes, text):
    with pytest.raises(ValueError, match=text):
        fastbilstm.register_layer(name, **{"call": scale, **changes})


def test_threads_and_batches():
    register()
    model = fastbilstm.load(content(), n_threads=2)
    expected, wrong = model.predict(np.repeat(X, 30, 0)), []

    def work():
        if not np.array_equal(model.predict(np.repeat(X, 30, 0)), expected):
            wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_pickle_in_a_process_without_the_registration(tmp_path):
    register()
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(fastbilstm.load(content())))
    code = f"import pickle; pickle.load(open({str(tmp_path / 'model.pickle')!r}, 'rb'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "class 'Scale' is unknown to this fastbilstm" in done.stderr and "register_layer" in done.stderr


def test_streams_refuse_what_they_do_not_know():
    register()
    with pytest.raises(fastbilstm.InputError, match="'scale' .Scale. is not known to look at one timestep alone"):
        fastbilstm.load(content()).stream()
