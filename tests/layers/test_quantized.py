"""Rounding to half precision and to int8, packed int4, and quantized layers beside those of Keras."""

import gc
import warnings

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import UnsupportedLayerError
from fastbilstm.keras.rebuilt_in_keras import rebuild
from fastbilstm.layers import core, quantized
from fastbilstm.tolerances import compare


def test_rounding_to_bfloat16():
    """Ties go to the even mantissa; infinities and NaN stay."""
    one = 1 + 2.0**-8  # halfway between 1 and 1 + 2**-7
    x = np.array([1.0, one, 1 + 3 * 2.0**-8, -one, 0.1, -0.0, np.inf, -np.inf, np.nan, 3.4e38], np.float32)
    expected = [1.0, 1.0, 1 + 2.0**-6, -1.0, 0.10009765625, -0.0, np.inf, -np.inf, np.nan, np.inf]
    for dtype in (np.float32, np.float64):
        y = core.round_to("bfloat16", x.astype(dtype))
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, np.array(expected, dtype))
    assert core.round_to(None, x) is x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantized_rows(dtype):
    x = np.array([[0.0, 0.0, 0.0], [1.2, -2.0, 0.5], [1e-9, 0.0, -1e-9]], dtype)
    whole, scale = quantized.quantize_rows(x, -127, 127, 1e-7)
    np.testing.assert_array_equal(whole, [[0, 0, 0], [76, -127, 32], [1, 0, -1]])
    np.testing.assert_allclose(scale[:2, 0], [127e7, 63.5], rtol=1e-6)
    assert whole.dtype == scale.dtype == dtype


def test_unpacked_int4():
    """Bytes of `keras.quantizers.pack_int4`; a size that is odd leaves the last four bits out."""
    packed = np.array([[45, -121], [1, 0]], np.int8)
    rows = [[-3, 7], [2, -8], [1, 0]]
    np.testing.assert_array_equal(quantized.unpack(packed, 3, axis=0), rows)
    np.testing.assert_array_equal(quantized.unpack(packed.T, 3, axis=1), np.transpose(rows))
    np.testing.assert_array_equal(
        quantized.unpack(packed.astype(np.float64), 4, axis=-1), [[-3, 2, 7, -8], [1, 0, 0, 0]]
    )


def test_dequantized_groups():
    whole, scale, zero = np.arange(-2, 4).reshape(3, 2), np.array([[0.5, 2], [1, 4]]), np.array([[1, -1], [0, 2]])
    expected = [[-1.5, 0], [-0.5, 4], [2, 4]]
    np.testing.assert_array_equal(quantized.dequantize(whole, scale, zero, np.array([0, 0, 1])), expected)
    np.testing.assert_array_equal(quantized.dequantize(whole, scale[0]), whole / [0.5, 2])


# ---- beside Keras ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def k():
    pytest.importorskip("tensorflow", reason="is compared with TensorFlow")
    return pytest.importorskip("keras", reason="is compared with Keras 3")


MODES = {
    "int8": ("Int8QuantizationConfig", {}),
    "int8, inputs as they are": ("Int8QuantizationConfig", {"activation_quantizer": None}),
    "int8, fewer levels": ("Int8QuantizationConfig", {"activation_quantizer": {"value_range": (-30, 30)}}),
    "int4": ("Int4QuantizationConfig", {"block_size": -1}),
    "int4, inputs in int8": ("Int4QuantizationConfig", {"block_size": None, "activation_quantizer": {}}),
    "int4, groups of 3": ("Int4QuantizationConfig", {"block_size": 3}),
    "int4, one group": ("Int4QuantizationConfig", {"block_size": 128}),
}
# Sums over one axis and over two; of the kernel's axes the first, the last or both; a kernel for each timestep.
EQUATIONS = {
    "abc,cd->abd": ((None, 5), "d"),
    "abc,cde->abde": ((None, 3, 2), "de"),
    "abc,bcd->ad": (3, None),
    "abc,dc->adb": ((3, None), "d"),
    "abc,bcd->abd": ((4, 3), "bd"),
}


def quantize(k, model, mode):
    """Weights that are far from zero on average, so that zero points differ; then quantized."""
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0.2, 1, w.shape).astype(np.float32) for w in model.get_weights()])
    name, given = MODES[mode]
    if isinstance(given.get("activation_quantizer"), dict):
        given = {**given, "activation_quantizer": k.quantizers.AbsMaxQuantizer(**given["activation_quantizer"])}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an Input has no `quantize`
        patch.setattr(gc, "collect", lambda *_: 0)  # Keras calls it for each array: seconds
        model.quantize(config=getattr(k.quantizers, name)(**given))
    return model


def layers_on(k):
    """A model that has each layer at its inputs, so that nothing rounds what another gave."""
    x, ids = k.Input((4, 7)), k.Input((5,), dtype="int32")
    outputs = [
        k.layers.Dense(5, activation="tanh")(x),
        k.layers.Dense(2, use_bias=False)(x),
        k.layers.Embedding(11, 7)(ids),
    ]
    for equation, (shape, bias) in EQUATIONS.items():
        outputs.append(k.layers.EinsumDense(equation, shape, bias_axes=bias, activation="tanh")(x))
    for tied, cap in ((True, None), (False, 2.0)):
        words = k.layers.ReversibleEmbedding(11, 7, tie_weights=tied, logit_soft_cap=cap, mask_zero=tied)
        outputs += [words(ids), words(x, reverse=True)]
    return k.Model([x, ids], outputs)


def inputs():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 4, 7)).astype(np.float32)
    x[0] = 0
    return [x, rng.integers(0, 11, (3, 5)).astype(np.int32)]


def check(found, expected):
    for y, t in zip(found, expected, strict=True):
        result = compare(y, np.asarray(t), "float32")
        assert result.ok, result.message


@pytest.mark.parametrize("mode", MODES)
def test_quantized_layers_as_keras(k, mode, tmp_path):
    model, given = quantize(k, layers_on(k), mode), inputs()
    expected = model(given)
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
        fast = fastbilstm.load(tmp_path / name)
        names = {layer.class_name for layer in fast.graph.layers}
        assert len(names) == 4 and all(name.startswith(mode[:4]) for name in names), names
        check(fast.predict(given), expected)
    check(fastbilstm.load(tmp_path / "model.keras", dtype="float64").predict(given), expected)
    fastbilstm.convert(tmp_path / "model.keras", tmp_path / "model.fbl")
    check(fastbilstm.load(tmp_path / "model.fbl").predict(given), expected)
    check(rebuild(k, fast.graph, fast._tensors)(given), expected)


@pytest.mark.parametrize("tied", [True, False])
def test_groups_and_quantized_inputs(k, tied, tmp_path):
    """Without settings, a ReversibleEmbedding of this policy quantizes its inputs in reverse."""
    rng, (x, ids) = np.random.default_rng(0), inputs()
    words = k.layers.ReversibleEmbedding(11, 7, tie_weights=tied, dtype="int4/3_from_float32")
    given = k.Input(x.shape[1:]), k.Input(ids.shape[1:], dtype="int32")
    model = k.Model(given, [words(given[1]), words(given[0], reverse=True)])
    for variable in words.weights:
        if variable.name.endswith("_scale"):
            variable.assign(rng.uniform(0.1, 0.3, variable.shape))
        elif variable.name != "g_idx":
            variable.assign(rng.integers(-8, 8, variable.shape))
    model.save(tmp_path / "model.keras")
    fast, expected = fastbilstm.load(tmp_path / "model.keras"), model([x, ids])
    assert fast.graph.layers[0].class_name == "int4.ReversibleEmbedding"
    check(fast.predict([x, ids]), expected)
    check(rebuild(k, fast.graph, fast._tensors)([x, ids]), expected)


@pytest.mark.parametrize("mode", ["int8", "int4/-1"])
def test_quantized_einsum_with_an_ellipsis_is_refused(mode):
    """Keras fails when it builds such a layer."""
    policy = {"class_name": "QuantizedDTypePolicy", "config": {"mode": mode, "source_name": "float32"}}
    einsum = mf.layer("EinsumDense", "layer", equation="...x,xy->...y", output_shape=[5], dtype=policy)
    content = mf.archive(config=mf.sequential(mf.input_layer(), mf.embedding(), einsum))
    with pytest.raises(UnsupportedLayerError, match=r"layer 'layer' .*is quantized, which Keras cannot do with '...'"):
        fastbilstm.load(content)
