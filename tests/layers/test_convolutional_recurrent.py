"""ConvLSTM beyond Keras' own answers: what is refused, Keras 1's arrays, streams, traces, layouts.

That the numbers are Keras' is test_windows_as_keras.py's and test_random_models.py's.
"""

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm.graph import KerasVersion, Layer
from fastbilstm.layers import REGISTRY, Tensor, build

OPTIONS = {"filters": 2, "kernel_size": [2, 2], "activation": "tanh", "recurrent_activation": "hard_sigmoid"}
WEIGHTS = {"kernel": (2, 2, 3, 8), "recurrent_kernel": (2, 2, 2, 8), "bias": (8,)}
X = np.random.default_rng(0).standard_normal((4, 3, 5, 4, 3)).astype("f4")


def content(version=mf.KERAS2, arrays=None, shape=X.shape[1:], **options):
    layer = mf.layer("ConvLSTM2D", "layer", **(OPTIONS | options))
    config = mf.sequential(mf.input_layer("x", (None, *shape), "float32"), layer)
    return mf.h5(config, arrays or mf.weights_of(layer=WEIGHTS), version)


@pytest.mark.parametrize("given, words", [
    ({"strides": [2, 1], "dilation_rate": [1, 2]}, "dilation_rate.*strides above 1"),
    ({"activation": "glu"}, "activation='glu'"),
    ({"recurrent_activation": "glu"}, "recurrent_activation='glu'"),
    ({"time_major": True}, "time_major=True"),
    ({"padding": "causal"}, "padding='causal'"),
    ({"kernel_size": [2]}, r"kernel_size=\[2\] .*expected 2 whole numbers"),
    ({"novel": 3}, "novel='3'"),
])  # fmt: skip
def test_refused_by_option(given, words):
    with pytest.raises(fastbilstm.UnsupportedLayerError, match=words):
        fastbilstm.load(content(**given))


@pytest.mark.parametrize("shape, words", [
    ((3, 5, 3), "expected 5 axes"), ((3, 1, 1, 3), "too small"), ((3, 5, 4, 2), "the model needs"),
])  # fmt: skip
def test_shapes_that_do_not_fit(shape, words):
    with pytest.raises(fastbilstm.FileFormatError, match=words):
        fastbilstm.load(content(shape=shape))


def test_frames_of_free_size_are_checked_in_the_call():
    model = fastbilstm.load(content(shape=(None, None, None, 3)))
    assert model.predict(X).shape == (4, 4, 3, 2)
    with pytest.raises(fastbilstm.InputError, match="too small"):
        model.predict(X[:, :, :1])


def test_the_arrays_of_keras_1_are_put_in_order():
    """Twelve arrays, gate by gate (i c f o), are those of Keras 2 (i f c o)."""
    rng, parts = np.random.default_rng(1), {}
    shapes = {"W": (2, 2, 3, 2), "U": (2, 2, 2, 2), "b": (2,)}
    for gate in "icfo":
        parts |= {f"{role}_{gate}": rng.normal(0, 0.4, shape).astype("f4") for role, shape in shapes.items()}
    fused = [np.concatenate([parts[f"{role}_{gate}"] for gate in "ifco"], axis=-1) for role in "WUb"]
    now = fastbilstm.load(content(arrays={"layer": dict(zip(WEIGHTS, fused, strict=True))}, padding="same"))
    old = {"nb_filter": 2, "nb_row": 2, "nb_col": 2, "inner_activation": "hard_sigmoid", "border_mode": "same"}
    layer = mf.layer("ConvLSTM2D", "layer", activation="tanh", dim_ordering="tf", subsample=[1, 1], **old)
    config = mf.sequential(mf.input_layer("x", (None, *X.shape[1:]), "float32"), layer)
    then = fastbilstm.load(mf.h5(config, {"layer": parts}, "1.2.2"))
    assert np.array_equal(then.predict(X), now.predict(X))
    layer["config"]["dim_ordering"] = "th"
    with pytest.raises(fastbilstm.UnsupportedLayerError, match="of Keras 1 is not supported"):
        fastbilstm.load(mf.h5(config, {"layer": parts}, "1.2.2"))


def test_a_stream_is_refused():
    with pytest.raises(fastbilstm.InputError, match=r"'layer' \(ConvLSTM2D\) has images as states"):
        fastbilstm.load(content(shape=(None, 5, 4, 3))).stream()


def test_trace_shows_states_and_gates():
    model = fastbilstm.load(content(return_sequences=True))
    y, h, c, i, f, g, o = model.trace(X, ["layer", *(f"layer/{end}" for end in ("h", "c"))] + [
        f"layer/gate_{gate}" for gate in "ifco"
    ]).values()  # fmt: skip
    np.testing.assert_allclose(y, h, rtol=1e-6)
    before = np.concatenate([np.zeros_like(c[:, :1]), c[:, :-1]], axis=1)
    np.testing.assert_allclose(c, f * before + i * g, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(h, o * np.tanh(c), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides, dilation", [(1, 1), (2, 1), (1, 2)])
def test_channels_first_is_channels_last_moved(rank, padding, strides, dilation):
    """In float64, with a mask and both states; and the inferred shapes are those of the answers."""
    name, rng = f"ConvLSTM{rank}D", np.random.default_rng(rank)
    x, mask = rng.standard_normal((2, 4, *(5, 4, 6)[:rank], 3)), rng.random((2, 4)) < 0.7
    found = []
    for form, given in (("channels_last", x), ("channels_first", np.moveaxis(x, -1, 2))):
        cls = REGISTRY[name]
        options = {"filters": 2, "kernel_size": 2, "padding": padding, "strides": strides, "dilation_rate": dilation}
        options |= {"data_format": form, "return_sequences": True, "return_state": True}
        config = {key: option.check(options.get(key, option.default)) for key, option in cls.options.items()}
        version = KerasVersion("keras3", (3, 15, 1))
        shapes = cls(Layer("layer", name, config), version).weight_shapes([given.shape])
        layer = build(Layer("layer", name, config, {role: role for role in shapes}), version)
        rng = np.random.default_rng(9)
        layer.bind({role: rng.standard_normal(size) for role, size in shapes.items()}, "float64")
        outputs = [tensor.value for tensor in layer.call([Tensor(given, mask)], {}, {})]
        specs = layer.infer([fastbilstm.layers.Spec(given.shape, True)], {})
        assert [spec.shape for spec in specs] == [y.shape for y in outputs] and specs[0].masked
        found.append(outputs)
    last, first = found
    assert np.array_equal(np.moveaxis(first[0], 2, -1), last[0])
    for a, b in zip(first[1:], last[1:], strict=True):
        assert np.array_equal(np.moveaxis(a, 1, -1), b)
    assert np.array_equal(last[0][:, -1][mask[:, -1]], last[1][mask[:, -1]])
