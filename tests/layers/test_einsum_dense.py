"""EinsumDense, and layers that change images in training alone, beside live Keras."""

import inspect

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import FileFormatError, UnsupportedLayerError
from fastbilstm.layers import REGISTRY
from fastbilstm.layers.core import Augmentation

RNG = np.random.default_rng(4)


@pytest.fixture(params=["keras", "tf_keras"])
def k(request):
    pytest.importorskip("tensorflow", reason="is compared with TensorFlow")
    return pytest.importorskip(request.param)


def compare(k, layer, shape, tmp_path, x=None, dtype="float32", names=("m.keras", "m.h5")):
    given = k.Input(shape, dtype=dtype)
    model = k.Model(given, layer(given))
    model.set_weights([RNG.normal(0, 0.5, w.shape) for w in model.get_weights()])
    x = RNG.standard_normal((3, *(s or 4 for s in shape))).astype("f4") if x is None else x
    for name in names:
        model.save(tmp_path / name)
        found = fastbilstm.load(tmp_path / name)
        y = found.predict(x)
        np.testing.assert_allclose(y, model.predict(x, verbose=0), rtol=0, atol=3e-6)
        sizes = zip(found.outputs[0].shape[1:], model.output_shape[1:], strict=True)
        assert all(size is None or ours == size for ours, size in sizes)
    return found


EQUATIONS = [
    ("ab,bc->ac", 5, "c", (3,)),
    ("abc,cd->abd", (None, 5), "d", (6, 3)),
    ("abc,cd->abd", (6, 5), None, (6, 3)),
    ("abc,bcde->ade", (2, 5), "de", (4, 3)),
    ("abc,cde->abde", (None, 2, 5), "e", (6, 3)),
    ("...x,xy->...y", 5, "y", (6, 3)),
    ("...bc,cd->...bd", (None, 5), "bd", (2, 6, 3)),
    ("abc...,bde->adec...", (2, 5), "d", (3, 6)),
    ("abc,cd->adb", (5, 6), "b", (6, 3)),
    ("abcd,cdef->abef", (None, 4, 5), "f", (6, 2, 3)),
    ("abc,dc->abd", (None, 5), "d", (6, 3)),
    ("abc,bcd->abd", (6, 5), "bd", (6, 3)),
]
# Those of a Dense over the last axes; the bias of the seventh one lies along the rows, too.
ON_KERNELS = {0, 1, 2, 3, 4, 5, 9}


@pytest.mark.parametrize("case", range(len(EQUATIONS)))
def test_equations(case, k, tmp_path):
    equation, size, bias, shape = EQUATIONS[case]
    try:
        layer = k.layers.EinsumDense(equation, size, activation="tanh", bias_axes=bias)
        layer.build((None, *shape))
    except (ValueError, TypeError, IndexError) as error:
        pytest.skip(f"Keras refuses it: {error}")
    model = compare(k, layer, shape, tmp_path)
    assert model._plan.independent
    if model.backend == "vector":
        assert model._plan.runner.labels == {0: "vector" if case in ON_KERNELS else "numpy"}


def test_softmax_is_over_the_last_axis(k, tmp_path):
    compare(k, k.layers.EinsumDense("abc,cde->abde", (None, 3, 5), activation="softmax"), (6, 4), tmp_path)


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_a_batch_without_rows(k, activation, tmp_path):
    model = compare(k, k.layers.EinsumDense("abc,cd->abd", (None, 5), activation=activation), (None, 3), tmp_path)
    assert model.predict(np.zeros((0, 4, 3))).shape == (0, 4, 5)


def test_rows_that_depend_on_each_other():
    """The axis of the batch goes elsewhere: batches are run as given."""
    from fastbilstm.layers.einsum_dense import EinsumDense

    layer = EinsumDense.__new__(EinsumDense)
    layer.__dict__["config"] = {"equation": "ab,bc->ca"}
    assert not layer.rows_independent
    layer.__dict__["config"] = {"equation": "ab,ac->cb"}
    assert not layer.rows_independent


def test_an_equation_of_another_form_is_refused():
    layer = mf.layer("EinsumDense", "product", equation="ab,bc", activation="linear", bias_axes=None, output_shape=[2])
    weights = mf.weights_of(product={"kernel": (3, 2)})
    with pytest.raises(UnsupportedLayerError, match="expected an equation"):
        fastbilstm.load(mf.h5(mf.sequential(mf.input_layer("x", (None, 3), "float32"), layer), weights))
    layer["config"]["equation"] = "ab,bc->ac"
    weights = mf.weights_of(product={"kernel": (4, 2)})
    with pytest.raises(FileFormatError, match=r"its input has shape \(None, 3\), its kernel \(4, 2\)"):
        fastbilstm.load(mf.h5(mf.sequential(mf.input_layer("x", (None, 3), "float32"), layer), weights))


NEEDED = {
    **dict.fromkeys(("factor", "height_factor", "width_factor", "brightness_factor", "saturation_factor"), 0.3),
    **dict.fromkeys(("contrast_factor", "hue_factor", "scale", "x_factor"), 0.3),
    "value_range": (0, 255),
}


@pytest.mark.parametrize("name", [name for name, cls in REGISTRY.items() if issubclass(cls, Augmentation)])
def test_augmentation_does_nothing(name, k, tmp_path):
    cls = getattr(k.layers, name, None)
    if cls is None:
        pytest.skip(f"{k.__name__} has no {name}")
    if name == "Equalization":
        pytest.skip(
            "its output is its input, so that Keras 3.15 makes no model of it; test_images.py has it in another"
        )
    given = inspect.signature(cls.__init__).parameters
    options = {key: NEEDED[key] for key, p in given.items() if key in NEEDED and p.default is inspect.Parameter.empty}
    options |= {"factor": 4} if name == "RandomPosterization" else {}
    options |= {"max_number": 4} if name == "MaxNumBoundingBoxes" else {}
    x = RNG.uniform(0, 255, (3, 8, 6, 3)).astype("f4")
    # Keras cannot write all of them into .h5.
    model = compare(k, cls(**options), (8, 6, 3), tmp_path, x, names=["m.keras"])
    np.testing.assert_array_equal(model.predict(x), x)
    whole = x.astype("uint8")
    compare(k, cls(**options), (8, 6, 3), tmp_path, whole, "uint8", ["m.keras"])
