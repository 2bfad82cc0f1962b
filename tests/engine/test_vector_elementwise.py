"""Layers that compute element by element, move elements or normalize: the engine against the specification.

At odd sizes and with masks; rows alone have the same bits as in a batch, and a tape plays them again.
"""

import make_files as mf
import numpy as np
import pytest
from built_nets import Net, as_list, check, labels

import fastbilstm
from fastbilstm.graph import KerasVersion, Layer
from fastbilstm.layers import Tensor
from fastbilstm.layers.functional import build
from fastbilstm.tolerances import compare

pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
from fastbilstm.engine.vector_elementwise import VectorSoftmax
from fastbilstm.engine.vector_layers import Context, Scratch

SIZES = ((1, 1), (6, 3), (2, 65))  # timesteps, features


def runs(net, last, *kernels):
    """Check the last layer at several batch sizes; its rows alone have the bits that they have in a batch."""
    content = net.content(last)
    for rows in (2, 33):
        x = net.input(rows, seed=rows)
        model = check(net, last, runs=dict.fromkeys(kernels, "vector"), x=x, rows=rows)
        whole = model.predict(x, batch_size=rows)
        for _ in range(3):
            assert np.array_equal(model.predict(x, batch_size=rows), whole)
        alone = fastbilstm.load(content, backend="vector").predict(x[-1:])
        assert np.array_equal(alone, whole[-1:])
    assert fastbilstm.load(content, backend="vector").predict(net.input(0)).shape[0] == 0


def masked(net, name="masked"):
    """The input with a mask: a row without timesteps is among them."""
    return net.add("Masking", name, "x", mask_value=0.0)


MERGES = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")


@pytest.mark.parametrize("kind", MERGES)
@pytest.mark.parametrize("masks", [0, 1, 2])
def test_merging(kind, masks):
    for timesteps, features in SIZES:
        net = Net(shape=(timesteps, features))
        first = masked(net) if masks else "x"
        second = net.add("Activation", "a", first if masks == 2 else "x", activation="tanh")
        runs(net, net.add(kind, "merged", first, second), "merged")
        if kind != "Subtract":
            runs(net, net.add(kind, "three", first, second, "x"), "three")


@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("masks", [0, 1, 2])
def test_concatenate(axis, masks):
    for timesteps, features in SIZES:
        net = Net(shape=(timesteps, features))
        first = masked(net) if masks else "x"
        second = net.add("Activation", "a", first if masks == 2 else "x", activation="tanh")
        joined = net.add("Concatenate", "joined", first, second, "x", axis=axis)
        runs(net, joined, "joined")


LAYERS = {
    "ReLU": {"max_value": 0.7, "negative_slope": 0.25, "threshold": 0.125},
    "LeakyReLU": {"negative_slope": 0.3},
    "ELU": {"alpha": 0.5},
    "ThresholdedReLU": {"theta": 0.5},
    "PReLU": {"shared_axes": [1]},
    "BatchNormalization": {"axis": [1], "epsilon": 1e-3, "center": True, "scale": True},
    "UnitNormalization": {"axis": [-1]},
    "Rescaling": {"scale": 0.3, "offset": -1.5},
    "Softmax": {"axis": 1},
    "RepeatVector": {"n": 3},
    "Permute": {"dims": [2, 1]},
    "Flatten": {"data_format": "channels_first"},
    "Reshape": {"target_shape": [-1, 1]},
    "Cropping1D": {"cropping": [0, 1]},
    "ZeroPadding1D": {"padding": [2, 1]},
    "UpSampling1D": {"size": 3},
    "GlobalMaxPooling1D": {"data_format": "channels_first"},
    "GlobalAveragePooling1D": {"data_format": "channels_first", "keepdims": True},
    "Masking": {"mask_value": 0.0},
}


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_of_sequences(kind):
    for timesteps, features in SIZES:
        if kind == "Cropping1D" and timesteps == 1:
            continue
        weights = {}
        if kind == "PReLU":
            weights = {"alpha": (1, features)}
        elif kind == "BatchNormalization":
            weights = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (timesteps,))
        net = Net(shape=(features,) if kind == "RepeatVector" else (timesteps, features))
        runs(net, net.add(kind, "layer", "x", weights=weights, **LAYERS[kind]), "layer")


@pytest.mark.parametrize("groups", [1, 2, 6, -1])
@pytest.mark.parametrize("axis", [-1, 1])
def test_group_normalization(groups, axis):
    for shape in ((6,), (5, 6), (4, 3, 6)):
        if shape == (6,) and groups in (6, -1):
            continue  # nothing but the rounding of 0 would be compared
        shape = (6, *shape[:-1]) if axis == 1 else shape
        for center, scale in ((True, True), (False, False)):
            net = Net(shape=shape)
            used = {"gamma": scale, "beta": center}
            options = {"groups": groups, "axis": axis, "epsilon": 1e-3, "center": center, "scale": scale}
            weights = {role: (6,) for role, given in used.items() if given}
            runs(net, net.add("GroupNormalization", "layer", "x", weights=weights, **options), "layer")


@pytest.mark.parametrize("axes", [[1], [2], [1, 2], [1, 3], [-1]])
def test_layer_normalization(axes):
    shape = (3, 5, 4)
    size = tuple(shape[axis % 4 - 1] for axis in axes)
    net = Net(shape=shape)
    options = {"axis": axes, "epsilon": 1e-3, "center": True, "scale": True}
    runs(net, net.add("LayerNormalization", "layer", "x", weights={"gamma": size, "beta": size}, **options), "layer")


IMAGES = {
    "ZeroPadding2D": {"padding": [[1, 2], [0, 3]]},
    "Cropping2D": {"cropping": [[1, 0], [0, 2]]},
    "UpSampling2D": {"size": [2, 3], "interpolation": "nearest"},
    "GlobalMaxPooling2D": {},
    "GlobalAveragePooling2D": {"keepdims": True},
    "Permute": {"dims": [3, 1, 2]},
    "Softmax": {"axis": [1, 2]},
    "Reshape": {"target_shape": [3, -1]},
}


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_layers_of_images(kind, data_format):
    options = IMAGES[kind] | ({"data_format": data_format} if "2D" in kind else {})
    for shape in ((3, 4, 17), (9, 3, 8), (3, 5, 3)):
        net = Net(shape=shape)
        runs(net, net.add(kind, "layer", "x", **options), "layer")


@pytest.mark.parametrize("version", [(3, 9), (3, 10), (3, 13), (2,)])
def test_softmax_with_a_mask(version):
    rng = np.random.default_rng(0)
    version = KerasVersion("keras3" if version[0] == 3 else "tf_keras", version)
    for axis, shape, other in (
        ([-1], (2, 5), (2, 5)),
        ([1], (3, 5, 17), (1, 5, 1)),
        ([-1], (2, 65), (65,)),
        ([2], (2, 3, 5, 4), (5, 1)),
        ([1, 2], (2, 3, 4), (2, 3, 4)),
    ):
        layer = build(Layer("layer", "Softmax", {"axis": axis, "robust_masking": False}), version)
        layer.set_dtype(np.float32)
        x, mask = rng.standard_normal(shape).astype(np.float32), rng.random(other) < 0.7
        exact = layer.compute(x.astype(np.float64), mask)
        (found,) = VectorSoftmax(layer).call([Tensor(x, mask)], {}, Context({}, Scratch(), 1))
        result = compare(found.value, exact)
        # What is masked is within a rounding of -1e9 of 0.
        assert result.ok or np.abs(found.value - exact).max() < 1e-6, result.message
        assert found.mask is mask


def test_masked_average():
    for timesteps, features in SIZES:
        net = Net(shape=(timesteps, features))
        x = net.input(5)
        x[2, : timesteps // 2] = 0
        check(net, net.add("GlobalAveragePooling1D", "layer", masked(net)), runs={"layer": "vector"}, x=x, rows=5)


def test_embedding_of_any_rank():
    for shape in ((), (7,), (2, 3)):
        net = Net(ids=True, shape=shape)
        runs(net, net.embedding(), "embedding")
    net = Net(ids=True, shape=(3,))
    model = fastbilstm.load(net.content(net.embedding(mask_zero=True)), backend="vector")
    for _ in range(4):
        with pytest.raises(fastbilstm.InputError, match="expected 0 to 49"):
            model.predict(np.array([[1, 50, 2]], np.int32))
        model.predict(np.array([[1, 49, 2]], np.int32))


@pytest.mark.parametrize("axes", [1, 2, [1, 2], -1])
@pytest.mark.parametrize("normalize", [False, True])
def test_dot(axes, normalize):
    for size in (1, 3, 17):
        net = Net(shape=(size, size))
        second = net.add("Activation", "a", "x", activation="tanh")
        runs(net, net.add("Dot", "layer", "x", second, axes=axes, normalize=normalize), "layer")


def test_flatten_of_a_number_in_each_row():
    net = Net(shape=())
    runs(net, net.add("Flatten", "layer", "x", data_format="channels_first"), "layer")


def test_time_distributed():
    for kind, options, shape in (
        ("Flatten", {}, (3, 4, 5)),
        ("Permute", {"dims": [2, 1]}, (3, 4, 5)),
        ("GlobalMaxPooling1D", {}, (3, 4, 5)),
        ("GlobalAveragePooling1D", {}, (3, 4, 17)),
        ("Softmax", {"axis": -1}, (3, 4)),
    ):
        net = Net(shape=shape)
        inner = mf.layer(kind, "inner", None, **options)
        runs(net, net.add("TimeDistributed", "layer", "x", layer=inner), "layer")


def test_whole_numbers_are_left_to_the_specification():
    net = Net(ids=True, shape=(5,))
    padded = net.add("Reshape", "column", "x", target_shape=[5, 1])
    padded = net.add("ZeroPadding1D", "padded", padded, padding=2)
    content = net.content(net.add("Concatenate", "layer", padded, padded, axis=-1))
    model, exact = (fastbilstm.load(content, backend=backend) for backend in ("vector", "numpy"))
    for dtype in (np.int32, np.int64):
        x = net.input().astype(dtype)
        for y, k in zip(as_list(model.predict(x)), as_list(exact.predict(x)), strict=True):
            assert y.dtype == k.dtype
            np.testing.assert_array_equal(y, k)
    assert labels(model)["layer"] == "vector"
