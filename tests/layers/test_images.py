"""Layers that resize, crop and level images, beside live Keras: floats, whole numbers, films."""

import make_files as mf
import numpy as np
import pytest
from beside_keras import same

import fastbilstm
from fastbilstm import FileFormatError, InputError, UnsupportedLayerError
from fastbilstm.layers.resizing import interpolate

RNG = np.random.default_rng(5)
FLOATS = RNG.normal(0, 90, (3, 7, 9, 3)).astype("f4")
BYTES = RNG.integers(0, 256, (3, 7, 9, 3)).astype("u1")
# Fewer and more pixels, the same, one, a ratio of a whole number.
SIZES = [(4, 4), (7, 9), (14, 5), (21, 18), (3, 27), (1, 1)]
METHODS = ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"]


@pytest.fixture(params=["keras", "tf_keras"])
def k(request):
    pytest.importorskip("tensorflow", reason="is compared with TensorFlow")
    return pytest.importorskip(request.param)


@pytest.fixture
def keras():
    pytest.importorskip("tensorflow", reason="is compared with TensorFlow")
    return pytest.importorskip("keras")


@pytest.mark.parametrize("x", [FLOATS, BYTES], ids=["floats", "bytes"])
def test_interpolations(x, k, tmp_path):
    old = [] if k.__name__ == "keras" else ["area", "gaussian", "mitchellcubic"]
    made = [k.layers.Resizing(*size, interpolation=name) for size in SIZES for name in METHODS + old]
    same(k, made, x, tmp_path / "m.keras")


def test_antialias(keras, tmp_path):
    made = [keras.layers.Resizing(*size, interpolation=n, antialias=True) for size in SIZES for n in METHODS]
    same(keras, made, FLOATS, tmp_path / "m.keras")


@pytest.mark.parametrize("x", [FLOATS, BYTES], ids=["floats", "bytes"])
def test_ratios_of_the_sides(x, k, tmp_path):
    """Cropped, padded, and cropped from the middle: images that are larger, smaller, and one of each."""
    resizing, sizes = k.layers.Resizing, [(4, 4), (14, 5), (3, 27), (20, 9), (8, 9)]
    made = [resizing(*size, crop_to_aspect_ratio=True) for size in sizes]
    made += [cls(*size) for size in sizes for cls in (k.layers.CenterCrop, k.layers.RandomCrop)]
    if k.__name__ == "keras":
        made += [resizing(*size, pad_to_aspect_ratio=True, fill_value=1.5) for size in sizes]
    same(k, made, x, tmp_path / "m.keras")


def test_channels_first(keras, tmp_path):
    first = {"data_format": "channels_first"}
    made = [keras.layers.Resizing(4, 20, interpolation="bicubic", **first)]
    made += [
        keras.layers.Resizing(4, 20, **flag, **first)
        for flag in ({"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True})
    ]
    made += [cls(4, 20, **first) for cls in (keras.layers.CenterCrop, keras.layers.RandomCrop)]
    made += [keras.layers.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(2, 3), **first)]
    same(keras, made, FLOATS, tmp_path / "m.keras")


@pytest.mark.parametrize("x", [FLOATS, BYTES], ids=["floats", "bytes"])
def test_levels(x, keras, tmp_path):
    ranges = [(0, 255), (0, 1), (-20, 300)]
    made = [keras.layers.AutoContrast(value_range=span) for span in ranges]
    made += [
        keras.layers.ContrastLimitedAdaptiveHistogramEqualization(span, clip_limit=limit, tile_grid_size=grid)
        for span, limit, grid in zip([*ranges, (0, 255)], (4.0, 1.0, 0.0, 1.5), [(2, 3), (1, 1), (3, 3), (7, 4)])
    ]
    same(keras, made, x, tmp_path / "m.keras")


def test_images_of_one_level(keras, tmp_path):
    x = np.full((2, 4, 4, 1), 7, "f4")
    x[1] = 0
    made = [
        keras.layers.AutoContrast(),
        keras.layers.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(2, 2)),
    ]
    model = same(keras, made, x, tmp_path / "m.keras")
    np.testing.assert_array_equal(model.predict(x)[0], x)


@pytest.mark.parametrize("x", [FLOATS, BYTES], ids=["floats", "bytes"])
def test_frames_keep_their_dtype(x, keras, tmp_path):
    """TimeDistributed calls a layer without the cast to floats that Keras' `predict` makes before other calls."""
    L = keras.layers
    made = [L.Resizing(4, 20), L.Resizing(4, 20, interpolation="nearest"), L.Resizing(3, 4, interpolation="lanczos3")]
    made += [L.RandomCrop(4, 4), L.MaxNumBoundingBoxes(3), L.Equalization(), L.CenterCrop(3, 4), L.CenterCrop(30, 4)]
    made += [L.AutoContrast(), L.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(3, 2))]
    same(keras, [L.TimeDistributed(layer) for layer in made], np.stack([x, x[:, ::-1]], 1), tmp_path / "m.keras")


def test_masks(keras, tmp_path):
    """What changes nothing at inference keeps the mask of images, what computes ends it."""
    x = FLOATS * (RNG.random((3, 7, 9, 1)) > 0.4)
    L = keras.layers

    made = [L.RandomFlip(), L.MaxNumBoundingBoxes(2), L.RandomCrop(7, 9), L.Resizing(7, 9), L.CenterCrop(7, 9)]
    for layer in made:
        # An LSTM over each row of pixels skips those that are masked.
        calls = [lambda image, layer=layer: L.TimeDistributed(L.LSTM(2))(layer(L.Masking()(image)))]
        model = same(keras, calls, x, tmp_path / "m.keras")
        (masked,) = (specs[0].masked for part, specs in nodes(model) if part.class_name == type(layer).__name__)
        assert masked == (layer in made[:3])


def nodes(model):
    """(layer, the Specs of its outputs) of each call."""
    network = model._plan.network
    return [(network.inner[node.layer], specs) for node, specs in zip(network.graph.nodes, network.node_specs)]


def test_a_mean_of_the_pixels_is_an_area():
    x = np.arange(24, dtype="f8").reshape(1, 4, 6, 1)
    np.testing.assert_allclose(interpolate(x, (2, 3), "area")[0, :, :, 0], [[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]])
    np.testing.assert_allclose(interpolate(x, (4, 4), "area")[0, 0, :, 0], [1 / 3, 5 / 3, 10 / 3, 14 / 3])


def loaded(class_name, version="3.15.0", shape=(None, 4, 5, 2), **options):
    layer = mf.layer(class_name, "pixels", **options)
    given = mf.input_layer("x", shape, "float32")
    return fastbilstm.load(mf.h5(mf.sequential(given, layer), version=version))


def test_what_is_wrong_is_named():
    sides = {"height": 2, "width": 3}
    with pytest.raises(UnsupportedLayerError, match="'pixels' .*interpolation='spline'"):
        loaded("Resizing", interpolation="spline", **sides)
    with pytest.raises(UnsupportedLayerError, match="does not go with crop_to_aspect_ratio"):
        loaded("Resizing", pad_to_aspect_ratio=True, crop_to_aspect_ratio=True, **sides)
    with pytest.raises(UnsupportedLayerError, match="height=2 belongs to a RandomCrop of"):
        loaded("RandomCrop", "2.4.0", **sides)
    with pytest.raises(FileFormatError, match="expected 4 axes"):
        loaded("CenterCrop", shape=(None, 4, 5), **sides)
    narrow = {"height": 9, "width": 1}
    with pytest.raises(InputError, match=r"\(4, 5\) pixels nothing is left in the ratio 9:1"):
        loaded("CenterCrop", "2.12.0", **narrow).predict(np.zeros((1, 4, 5, 2), "f4"))
    assert loaded("CenterCrop", **narrow).predict(np.ones((1, 4, 5, 2), "f4")).shape == (1, 9, 1, 2)
    with pytest.raises(UnsupportedLayerError, match="value_range=3"):
        loaded("AutoContrast", value_range=3)
    model = loaded("ContrastLimitedAdaptiveHistogramEqualization", shape=(None, 3, 5, 2), tile_grid_size=[8, 8])
    with pytest.raises(InputError, match=r"too small for tile_grid_size=\[8, 8\]"):
        model.predict(np.zeros((1, 3, 5, 2), "f4"))
