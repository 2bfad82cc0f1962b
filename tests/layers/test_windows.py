"""Convolutions, poolings and sizes beyond the golden cases: what is refused, small inputs, layouts, aliases, rows."""

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm.graph import KerasVersion, Layer
from fastbilstm.keras.hdf5 import Stored
from fastbilstm.keras.legacy import ALIASES, keras1_kernel
from fastbilstm.layers import REGISTRY, build, convolution, windows
from fastbilstm.layers.base import REQUIRED

KERAS3 = KerasVersion("keras3", (3, 15, 1))
TF_KERAS = KerasVersion("tf_keras", (2, 21, 0))
CONVOLUTIONS = [f"{name}{n}D" for name in ("Conv", "SeparableConv", "DepthwiseConv") for n in (1, 2)]
CONVOLUTIONS += ["Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"]
POOLINGS = [f"{name}{n}D" for name in ("MaxPooling", "AveragePooling") for n in (1, 2, 3)]
SIZES = [f"{name}{n}D" for name in ("ZeroPadding", "Cropping", "UpSampling") for n in (2, 3)]
SIZES += [f"Global{name}Pooling{n}D" for name in ("Average", "Max") for n in (2, 3)]


def rank_of(name):
    return next(n for n in (1, 2, 3) if f"{n}D" in name)


def make(name, shape, version=TF_KERAS, **options):
    """A layer of the specification on inputs of a shape, with random weights in float64."""
    cls = REGISTRY[name]
    given = {option: options.get(option, o.default) for option, o in cls.options.items()}
    given |= {"filters": 4} if "filters" in given and "filters" not in options else {}
    given |= {"kernel_size": 3} if given.get("kernel_size") is REQUIRED else {}
    config = {option: cls.options[option].check(value) for option, value in given.items()}
    bare = cls(Layer("layer", name, config), version)
    shapes = bare.weight_shapes([shape])
    layer = build(Layer("layer", name, config, {role: role for role in shapes}), version)
    rng = np.random.default_rng(len(name))
    layer.bind({role: rng.standard_normal(size) for role, size in shapes.items()}, "float64")
    return layer


def image(name, seed=0):
    return np.random.default_rng(seed).standard_normal((3, 7, 6, 5)[: 1 + rank_of(name)] + (4,))


@pytest.mark.parametrize("name", CONVOLUTIONS + POOLINGS + SIZES)
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_channels_first_is_channels_last_moved(name, padding):
    options = {"padding": padding} if name in CONVOLUTIONS + POOLINGS else {}
    x = image(name)
    last, first = np.moveaxis(x, 1, -1), x
    y = make(name, last.shape, **options).compute(last, None)
    moved = make(name, first.shape, data_format="channels_first", **options).compute(first, None)
    assert np.array_equal(moved, np.moveaxis(y, -1, 1))


@pytest.mark.parametrize("name", CONVOLUTIONS + POOLINGS + SIZES)
@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
def test_shapes_are_those_of_the_answers(name, padding):
    if padding == "causal" and name not in ("Conv1D", "SeparableConv1D"):
        return
    for strides in (1, 2, 3):
        options = {"padding": padding, "strides": strides} if name in CONVOLUTIONS + POOLINGS else {}
        x = image(name)
        layer = make(name, x.shape, **options)
        y = layer.compute(x, None)
        assert layer.output_shape(x.shape) == y.shape
        free = layer.output_shape((None, *[None] * rank_of(name), x.shape[-1]))
        assert len(free) == y.ndim and all(size in (None, known) for size, known in zip(free, y.shape, strict=True))
        assert layer.compute(x[:0], None).shape == (0, *y.shape[1:])


@pytest.mark.parametrize("groups", [1, 3])
def test_wide_and_narrow_inputs_are_computed_alike(monkeypatch, groups):
    x, kernel = np.random.default_rng(0).standard_normal((2, 9, 12)), np.ones((3, 12 // groups, 6))
    y = convolution.convolve(x, kernel, [2], [2], groups)
    monkeypatch.setattr(convolution, "NARROW", 100)
    assert np.allclose(y, convolution.convolve(x, kernel, [2], [2], groups), rtol=1e-13)


def test_maximum_of_nothing_finite_is_the_least_finite_number():
    """TensorFlow's search starts there on a CPU, in both dtypes; NaN is never larger."""
    x = np.array([[[-np.inf], [np.nan], [1.0], [np.nan]]])
    for dtype in ("float32", "float64"):
        y = make("MaxPooling1D", x.shape, pool_size=2, strides=1).compute(x.astype(dtype), None)
        assert y.dtype == dtype and y.ravel().tolist() == [np.finfo(dtype).min, 1.0, 1.0]


def test_whole_numbers_stay_whole():
    x = np.arange(12, dtype=np.int32).reshape(1, 6, 2)
    for name in ("MaxPooling1D", "ZeroPadding1D", "Cropping1D", "UpSampling1D"):
        assert make(name, x.shape).compute(x, None).dtype == np.int32
    x = x.reshape(1, 3, 2, 2)
    assert make("UpSampling2D", x.shape, interpolation="bilinear").compute(x, None).dtype == np.float64


def test_interpolated_whole_numbers_are_rounded():
    """As Keras 3.15 answers: halves go to the even number."""
    x = np.array([0, 3, 7, 10], np.int32).reshape(1, 2, 2, 1)
    y = make("UpSampling2D", x.shape, KERAS3, interpolation="bilinear").compute(x, None)
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y[0, ..., 0], [[0, 1, 2, 3], [2, 2, 4, 5], [5, 6, 8, 8], [7, 8, 9, 10]])


# Row 0 and the start of row 1 of UpSampling2D(2) over [[1, 2], [3, 4]], as tf_keras 2.21 answers.
ENLARGED = {
    "bilinear": [1.0, 1.25, 1.75, 2.0, 1.5, 1.75],
    "bicubic": [0.7352942228317261, 1.030672311782837, 1.6163867712020874, 1.9117650985717773, 1.3260506391525269],
    "lanczos3": [0.47356662154197693, 0.8819150924682617, 1.4161736965179443, 1.8245220184326172, 1.2902636528015137],
    "gaussian": [1.1422775983810425, 1.363793134689331, 1.825910210609436, 2.0474257469177246, 1.5853086709976196],
}


@pytest.mark.parametrize("interpolation", ENLARGED)
def test_interpolations(interpolation):
    layer = make("UpSampling2D", (1, 2, 2, 1), interpolation=interpolation)
    y = layer.compute(np.array([[[[1.0], [2.0]], [[3.0], [4.0]]]]), None).ravel()
    expected = ENLARGED[interpolation]
    assert np.allclose(y[: len(expected)], expected, rtol=1e-6)


def test_margins():
    assert windows.margins(4, 2, 1, "same") == (0, 1)
    assert windows.margins(7, 3, 2, "same") == (1, 1)
    assert windows.margins(6, 3, 2, "same") == (0, 1)
    assert windows.margins(6, 2, 5, "same") == (0, 1)
    assert windows.margins(9, 5, 1, "causal") == (4, 0)
    assert windows.margins(9, 5, 1, "valid") == (0, 0)


# ---- whole models ---------------------------------------------------------------------------------------------------


def model(name, shape=(None, None, 2), weights=None, version=mf.KERAS2, backend="tensorflow", **options):
    config = mf.sequential(mf.input_layer("x", shape, "float32"), mf.layer(name, "layer", **options))

    def edit(file):
        file.attrs["backend"] = file["model_weights"].attrs["backend"] = backend

    arrays = mf.weights_of(layer=weights) if weights else {"layer": {}}
    return mf.h5(config, arrays, version, edit)


CONV = {"filters": 4, "kernel_size": [3], "activation": "linear"}
KERNEL = {"kernel": (3, 2, 4), "bias": (4,)}


@pytest.mark.parametrize("name, given, words", [
    ("Conv1D", {"padding": "full"}, "option padding='full' .*'valid', 'same', 'causal'"),
    ("Conv1D", {"kernel_size": [3, 3]}, r"option kernel_size=\[3, 3\] .*expected 1 whole number"),
    ("Conv1D", {"strides": [0]}, r"option strides=\[0\] .*at least 1"),
    ("Conv1D", {"strides": [2], "dilation_rate": [2]}, "dilation_rate.*strides above 1"),
    ("Conv1D", {"groups": 3}, "groups=3 does not divide filters=4"),
    ("Conv1D", {"data_format": "channels_middle"}, "data_format='channels_middle'"),
    ("Conv1D", {"activation": "glu"}, "activation='glu'"),
    ("Conv1D", {"novel": 3}, "option novel='3' is not known"),
    ("SeparableConv1D", {"groups": 2}, "option groups=2"),
    ("Conv1DTranspose", {"padding": "causal"}, "option padding='causal'"),
    ("Conv1DTranspose", {"output_padding": [2], "strides": [2]}, r"output_padding=\[2\] is not below"),
    ("Conv1DTranspose", {"output_padding": [0], "strides": [2], "padding": "same", "kernel_size": [2]}, "even kernel"),
    ("MaxPooling1D", {"padding": "causal"}, "option padding='causal'"),
    ("UpSampling2D", {"interpolation": "area"}, "option interpolation='area'"),
    ("ZeroPadding1D", {"padding": [1, -1]}, r"option padding=\[1, -1\]"),
    ("Cropping2D", {"cropping": [[1, 1, 1], 0]}, "option cropping"),
    ("Conv3D", {"filters": 4, "kernel_size": [3, 3]}, r"option kernel_size=\[3, 3\] .*expected 3 whole numbers"),
    ("ZeroPadding3D", {"padding": [1, 2]}, "option padding=.*3 of them, or 3 pairs of them"),
    ("LocallyConnected1D", {"filters": 2, "kernel_size": 2, "padding": "same"}, "padding='same' with implementation=1"),
    ("LocallyConnected1D", {"filters": 2, "kernel_size": 2, "implementation": 4}, "implementation=4"),
])  # fmt: skip
def test_refused_by_option(name, given, words):
    options = (CONV if "Conv" in name and "3D" not in name else {}) | given
    with pytest.raises(fastbilstm.UnsupportedLayerError, match=words):
        fastbilstm.load(model(name, **options))


def test_causal_separable_is_refused_in_keras_3():
    with pytest.raises(fastbilstm.UnsupportedLayerError, match="nothing Keras 3 computes"):
        fastbilstm.load(model("SeparableConv1D", version=mf.KERAS3, **CONV, padding="causal"))


@pytest.mark.parametrize("name, options", [("Conv1D", CONV), ("MaxPooling1D", {"padding": "same"})])
def test_theano_is_refused(name, options):
    """It flips kernels, and places even windows elsewhere."""
    with pytest.raises(fastbilstm.UnsupportedLayerError, match="theano"):
        fastbilstm.load(model(name, version="2.2.4", backend="theano", **options))


@pytest.mark.parametrize("name, shape, weights, words", [
    ("Conv1D", (None, 2, 2), KERNEL, r"input of shape \(None, 2, 2\) is too small"),
    ("Conv1D", (None, 5, 3), KERNEL, r"its kernel has shape \(3, 2, 4\); the model needs \(3, 3, 4\)"),
    ("Conv1D", (None, 5, 2), {"kernel": (3, 4, 2), "bias": (4,)}, "its kernel has shape"),
    ("Conv1D", (None, 4, 5, 2), KERNEL, "expected 3 axes"),
    ("Conv1DTranspose", (None, 5, 2), KERNEL, "its kernel has shape"),
])  # fmt: skip
def test_refused_by_shape(name, shape, weights, words):
    with pytest.raises(fastbilstm.FileFormatError, match=words):
        fastbilstm.load(model(name, shape, weights, **CONV))


@pytest.mark.parametrize("name, options, weights", [
    ("Conv1D", CONV, KERNEL),
    ("MaxPooling1D", {"pool_size": [3]}, None),
    ("Cropping1D", {"cropping": [1, 1]}, None),
])  # fmt: skip
def test_an_input_that_is_too_short(name, options, weights):
    net = fastbilstm.load(model(name, weights=weights, **options))
    assert net.predict(np.ones((2, 3, 2))).shape[1] == 1
    with pytest.raises(fastbilstm.InputError, match=rf"'layer' \({name}\).*too small"):
        net.predict(np.ones((2, 2, 2)))


def test_groups_must_divide_the_channels():
    with pytest.raises(fastbilstm.FileFormatError, match="does not divide 3 channels"):
        fastbilstm.load(model("Conv1D", (None, 5, 3), KERNEL, **(CONV | {"groups": 2})))


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_name_layers(alias):
    assert ALIASES[alias] in REGISTRY


def test_an_alias_in_a_file():
    x = np.random.default_rng(0).standard_normal((2, 5, 2))
    net, same = (fastbilstm.load(model(name, weights=KERNEL, **CONV)) for name in ("Convolution1D", "Conv1D"))
    assert np.array_equal(net.predict(x), same.predict(x))


@pytest.mark.parametrize("name", ["SeparableConvolution2D", "Deconvolution2D"])
def test_layers_of_keras_1_that_are_not_translated(name):
    def as_keras1(file):
        file.attrs["keras_version"] = "1.2.2"
        del file["model_weights"].attrs["keras_version"]

    layer = mf.layer(name, "layer", nb_filter=3, nb_row=2, nb_col=2, border_mode="valid")
    config = mf.sequential(mf.input_layer("x", (None, 4, 4, 2), "float32"), layer)
    with pytest.raises(fastbilstm.UnsupportedLayerError, match=rf"\({name}\): is not supported"):
        fastbilstm.load(mf.h5(config, {"layer": {}}, edit=as_keras1))


def test_keras_1_kernels():
    stored = lambda array: Stored(array.shape, lambda: array)  # noqa: E731
    kernel = np.arange(24.0).reshape(3, 2, 4)
    now = {"kernel_size": [3], "filters": 4}
    for array in (kernel[:, None], np.transpose(kernel, (2, 1, 0))[..., None]):
        found = keras1_kernel("Conv1D", now, stored(array))
        assert found.shape == kernel.shape and np.array_equal(found.read(), kernel)
    image = np.arange(48.0).reshape(3, 2, 2, 4)
    found = keras1_kernel("Conv2D", {"data_format": "channels_first"}, stored(np.transpose(image, (3, 2, 0, 1))))
    assert found.shape == image.shape and np.array_equal(found.read(), image)
    volume = np.arange(96.0).reshape(3, 2, 4, 2, 2)
    found = keras1_kernel("Conv3D", {"data_format": "channels_first"}, stored(np.transpose(volume, (4, 3, 0, 1, 2))))
    assert found.shape == volume.shape and np.array_equal(found.read(), volume)
    same = stored(image)
    assert keras1_kernel("Conv2D", {"data_format": "channels_last"}, same) is same


def test_a_layer_over_windows_is_not_said_to_be_free_of_padding():
    """Embedding(mask_zero), Conv1D: the mask ends, padding is read."""
    net = fastbilstm.load(
        mf.h5(
            mf.sequential(
                mf.input_layer(),
                mf.embedding(),
                mf.layer("Conv1D", "conv", **(CONV | {"padding": "same"})),
                mf.layer("GlobalMaxPooling1D", "pool"),
            ),
            mf.weights_of(embedding={"embeddings": (7, 4)}, conv={"kernel": (3, 4, 4), "bias": (4,)}),
        )
    )
    assert "layer 'conv' (Conv1D)" in net._plan.padding.text
    assert net._plan.independent


@pytest.mark.parametrize("name, options", [
    *((name, {"pool_size": [3] * rank_of(name), "padding": "same", "strides": 2}) for name in POOLINGS),
    *((f"{name}{n}D", {}) for name in ("ZeroPadding", "Cropping", "UpSampling") for n in (1, 2, 3)),
    ("UpSampling2D", {"interpolation": "bilinear", "size": [2, 3]}), ("GlobalMaxPooling2D", {}),
    ("GlobalMaxPooling3D", {}),
])  # fmt: skip
def test_rows_have_the_same_bits_in_any_batch(name, options):
    """What `summary()` calls elementwise."""
    x = np.random.default_rng(0).standard_normal((17, 9, 5, 4)[: 1 + rank_of(name)] + (3,)).astype(np.float32)
    net = fastbilstm.load(model(name, (None, *x.shape[1:]), **options), backend="vector")
    assert list(net._plan.runner.labels.values()) in (["elementwise"], ["vector"])
    y = net.predict(x)
    for rows in (1, 2, 5):
        assert np.array_equal(net.predict(x, batch_size=rows), y)
        assert np.array_equal(net.predict(x[rows : rows + 1]), y[rows : rows + 1])
