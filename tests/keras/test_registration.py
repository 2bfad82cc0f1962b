"""The `register_layer` call that a refusal prints: completed as it stands, it loads the file that was refused."""

import io
import json
import pickle
import zipfile

import h5py
import numpy as np
import pytest
from paths import ROOT
from registered import forget_classes

import fastbilstm
from fastbilstm import UnsupportedLayerError
from fastbilstm.cli.commands import main
from fastbilstm.keras.registration import count_inputs, skeleton

ARCHIVE = ROOT / "tests" / "golden" / "contributed.zip"


@pytest.fixture(autouse=True)
def forget():
    yield
    forget_classes()


def member(name):
    with zipfile.ZipFile(ARCHIVE) as archive:
        return archive.read(name)


def renamed_h5(old, new):
    """attention.h5 with a class of another name."""
    buffer = io.BytesIO(member("attention.h5"))
    with h5py.File(buffer, "r+") as file:
        text = file.attrs["model_config"]
        text = text.decode() if isinstance(text, bytes) else text
        assert old in text
        file.attrs["model_config"] = text.replace(f'"class_name": "{old}"', f'"class_name": "{new}"')
    return buffer.getvalue()


def renamed_keras(new, package):
    """tcn3.keras with its TCN under another name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(member("tcn3.keras"))) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                config = json.loads(content)
                (layer,) = [layer for layer in config["config"]["layers"] if layer["class_name"] == "TCN"]
                layer |= {"class_name": new, "registered_name": f"{package}>{new}"}
                content = json.dumps(config)
            if name == "model.weights.h5":
                with h5py.File(inner := io.BytesIO(content), "r+") as h5:
                    h5["layers"].move("tcn", new.lower())
                content = inner.getvalue()
            target.writestr(name, content)
    return buffer.getvalue()


def completed(text, call, output_shape):
    """Run the call that a refusal printed, with its two gaps filled."""
    shape = "lambda shape, config: shape,  # of the output, from that of the input"
    assert shape in text and "    call,  #" in text
    exec(text.replace(shape, "output_shape,"), {"fastbilstm": fastbilstm, "call": call, "output_shape": output_shape})


def test_h5():
    content = renamed_h5("SeqWeightedAttention", "Weighted")
    with pytest.raises(UnsupportedLayerError) as caught:
        fastbilstm.load(content, outputs=["weighted"])
    (text,) = caught.value.registrations
    assert text in str(caught.value) and "'Weighted'" in text
    assert "weights={'W': (3, 1), 'b': (1,)}" in text
    assert "options={'use_bias': True, 'return_attention': False}" in text
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.registrations == caught.value.registrations
    seen = {}

    def call(x, mask, weights, config):
        seen.update({role: array.shape for role, array in weights.items()})
        return x[:, 0]

    completed(text, call, lambda shape, config: (shape[0], shape[2]))
    x = np.ones((2, 4, 3), "f4")
    assert fastbilstm.load(content, outputs=["weighted"]).predict(x).shape == (2, 3)
    assert list(seen.values()) == [(3, 1), (1,)]


def test_keras_archive_with_layers_inside():
    content = renamed_keras("Net", "mine")
    with pytest.raises(UnsupportedLayerError, match="author") as caught:
        fastbilstm.load(content)
    (text,) = caught.value.registrations
    assert "'mine>Net'" in text and "'residual_block_0/conv1D_0/0': (3, 3, 2)" in text
    found = {}

    def call(x, mask, weights, config):
        found.update(weights)
        return x[:, -1, :2]

    completed(text, call, lambda shape, config: (shape[0], 2))
    fastbilstm.load(content).predict(np.ones((1, 4, 3), "f4"))
    layer = next(layer for layer in fastbilstm.load(member("tcn3.keras")).graph.layers if layer.weights)
    assert set(found) == {role for role in layer.weights if not role.startswith("residual_block_1/matching")}


def test_inspect_prints_it(tmp_path, capsys):
    file = tmp_path / "m.h5"
    file.write_bytes(renamed_h5("SeqWeightedAttention", "Weighted"))
    assert main(["inspect", str(file)]) == 2
    assert "fastbilstm.register_layer(\n    'Weighted'," in capsys.readouterr().err


def test_a_class_twice_is_described_once_and_only_where_it_is_kept():
    content = renamed_h5("AttentionWeightedAverage", "Mean")
    with pytest.raises(UnsupportedLayerError) as caught:
        fastbilstm.load(content)
    assert len(caught.value.problems) == 2 and len(caught.value.registrations) == 1
    fastbilstm.load(content, outputs=["weighted"])


@pytest.mark.parametrize(
    "nodes, count",
    [
        ([], 1),
        (None, 1),
        ([[["a", 0, 0, {}]]], 1),
        ([[["a", 0, 0, {}], ["b", 0, 1, {}]]], 2),
        ([["a", 0, 0, {"k": ["b", 0, 0]}]], 2),
        ([{"args": [[{"class_name": "__keras_tensor__"}, {"class_name": "__keras_tensor__"}]], "kwargs": {}}], 2),
        ([{"args": [{"class_name": "__keras_tensor__"}], "kwargs": {"k": {"class_name": "__keras_tensor__"}}}], 2),
    ],
)
def test_number_of_inputs(nodes, count):
    assert count_inputs(nodes) == count


def test_text():
    text = skeleton(
        "Own", {"name": "own", "a": 1, "W_regularizer": {}, "long": "x" * 99}, [("W", (3,)), ("W", (2,))], 2
    )
    assert text == (
        "fastbilstm.register_layer(\n    'Own',\n    call,  # call(x, mask, weights, config) -> array\n"
        "    weights={'W': (3,), 'W_2': (2,)},\n    options={'a': 1, 'long': ...},\n"
        "    output_shape=lambda shape, config: shape,  # of the output, from that of the input\n    n_inputs=2,\n)"
    )


# ---- attention layers that people copy ------------------------------------------------------------------------------

FAMILY = {
    "AttLayer": ({"W": (3, 5), "b": (5,), "u": (5, 1)}, {"attention_dim": 5}),
    "AttentionWithContext": ({"W": (3, 3), "b": (3,), "u": (3,)}, {"bias": True}),
    "WordAttention": ({"W": (3, 3), "u": (3,)}, {"bias": False}),
    "Attention": ({"W": (3,), "b": (4,)}, {"step_dim": 4}),
    "AttentionLayer": ({"W": (3, 1), "b": (4, 1)}, {}),
    "OldAttLayer": ({"W": (3,)}, {}),
}


def attention(k, class_name, shapes, options):
    """A class of that name: a softmax over the kept timesteps of tanh(x.W + b), or of u.tanh(x.W + b)."""
    import tensorflow as tf

    def build(self, shape):
        make = lambda role, size: self.add_weight(name=f"{self.name}_{role}", shape=size)  # noqa: E731
        self.arrays = {role: make(role, size) for role, size in shapes.items()}

    def call(self, x, mask=None):
        column = lambda role: tf.reshape(self.arrays[role], (-1, 1))  # noqa: E731
        scores = tf.matmul(x, self.arrays["W"] if "u" in shapes else column("W"))
        if "b" in shapes:
            scores += self.arrays["b"] if "u" in shapes else column("b")
        scores = tf.tanh(scores)
        scores = tf.matmul(scores, column("u")) if "u" in shapes else scores
        scores = scores if mask is None else scores - 1e9 * (1 - tf.cast(mask, x.dtype))[:, :, tf.newaxis]
        return tf.reduce_sum(x * tf.nn.softmax(scores, axis=1), axis=1)

    members = {"build": build, "call": call, "supports_masking": True, "compute_mask": lambda self, x, mask=None: None}
    members["get_config"] = lambda self: {**k.layers.Layer.get_config(self), **options}
    return type(class_name, (k.layers.Layer,), members)()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("class_name", FAMILY)
def test_the_printed_call_computes_the_attention_that_people_copy(class_name, masked, tmp_path):
    k = pytest.importorskip("tf_keras")
    shapes, options = FAMILY[class_name]
    given = k.Input((4, 3))
    middle = k.layers.Masking()(given) if masked else given
    model = k.Model(given, k.layers.Dense(2)(attention(k, class_name, shapes, options)(middle)))
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(0, 1, array.shape) for array in model.get_weights()])
    model.save(tmp_path / "m.h5")
    with pytest.raises(UnsupportedLayerError, match="compare it with your class") as caught:
        fastbilstm.load(tmp_path / "m.h5")
    (text,) = caught.value.registrations
    assert all(f"{key!r}: {value}" in text for key, value in options.items())
    exec(text, {"fastbilstm": fastbilstm})
    x = rng.standard_normal((5, 4, 3)).astype("f4")
    x[1, 2:] = x[2, :1] = 0
    np.testing.assert_allclose(fastbilstm.load(tmp_path / "m.h5").predict(x), model.predict(x, verbose=0), atol=2e-6)


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("AttLayer", [("W", (3, 5)), ("b", (4,)), ("u", (5, 1))]),
        ("AttLayer", [("W", (3, 5)), ("b", (5,))]),
        ("AttLayer", [("W", (3, 5)), ("b", (5,)), ("u", (5,)), ("v", (5,))]),
        ("AttLayer", [("W", (3, 1)), ("b", (4,))]),
        ("AttLayer", [("W", (2, 3, 5))]),
        ("AttLayer", []),
        ("Pooling", [("W", (3,))]),
    ],
)
def test_other_arrays_or_names_have_no_body(name, arrays):
    text = skeleton(name, {}, arrays, 1)
    assert "compare it" not in text and "call,  # call(x" in text
    assert "compare it" not in skeleton("AttLayer", {}, [("W", (3,))], 2)


@pytest.mark.parametrize("framework", ["keras", "tf_keras"])
def test_attention_of_keras_is_still_read(framework, tmp_path):
    k = pytest.importorskip(framework)
    a = k.Input((4, 3))
    k.Model(a, k.layers.Attention()([a, a])).save(tmp_path / "m.keras")
    assert fastbilstm.load(tmp_path / "m.keras").layers[-1].class_name == "Attention"
