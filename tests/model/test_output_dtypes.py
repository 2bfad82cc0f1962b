"""`Model.outputs` tells the dtype of what `predict` gives: every golden case by the specification, and whole numbers,
bool and strings that pass through layers. test_golden looks at every case by backend "auto", and at Keras' own dtypes.
"""

import make_files as mf
import numpy as np
import pytest
from cases import CASES, in_dtype

import fastbilstm
from fastbilstm.scoring.columns import output_list


def check(model, x):
    """The dtypes that the model tells of and gives for `x`."""
    told = [output.dtype for output in model.outputs]
    given = ["string" if y.dtype == object else y.dtype.name for y in output_list(model, model.predict(x))]
    assert told == given
    return told


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden_case_by_the_specification(case, dtype):
    model = fastbilstm.load(**case.load_args(), dtype=dtype, backend="numpy")
    check(model, in_dtype(case.inputs[0], dtype))


def net(entry, shape, kind, inputs=("x",), **options):
    """A model of one layer, called on its input, or on the inputs of these names."""
    layers = [mf.input_layer(name, (None, *shape), kind, functional=True) for name in inputs]
    entry = {**entry, "name": "end", "config": {**entry["config"], "name": "end"}}
    entry["inbound_nodes"] = [[[name, 0, 0, {}] for name in inputs]]
    version = options.pop("version", mf.KERAS2)
    config = mf.functional(*layers, entry, inputs=inputs, outputs=("end",))
    return fastbilstm.load(mf.h5(config, {}, version=version), **options)


def layer(class_name, **options):
    return mf.layer(class_name, "end", None, **options)


# Layer, shape of its input: what leaves whole numbers as they are.
UNCHANGED = {
    "Flatten": (layer("Flatten"), (3, 2)),
    "Reshape": (layer("Reshape", target_shape=[6]), (3, 2)),
    "Permute": (layer("Permute", dims=[2, 1]), (3, 2)),
    "RepeatVector": (layer("RepeatVector", n=3), (4,)),
    "Dropout": (layer("Dropout", rate=0.5), (4,)),
    "Cropping1D": (layer("Cropping1D", cropping=[1, 0]), (3, 2)),
    "ZeroPadding1D": (layer("ZeroPadding1D", padding=[1, 0]), (3, 2)),
    "UpSampling1D": (layer("UpSampling1D", size=2), (3, 2)),
    "UpSampling2D": (layer("UpSampling2D", size=[2, 1], interpolation="nearest"), (3, 2, 1)),
    "MaxPooling1D": (layer("MaxPooling1D", pool_size=2, strides=1, padding="valid"), (3, 2)),
    "GlobalMaxPooling1D": (layer("GlobalMaxPooling1D"), (3, 2)),
    "TimeDistributed": (layer("TimeDistributed", layer=layer("Flatten")), (3, 2, 2)),
}


@pytest.mark.parametrize("backend", ["auto", "numpy"])
@pytest.mark.parametrize("kind", ["int32", "int64", "uint8"])
@pytest.mark.parametrize("name", UNCHANGED)
def test_whole_numbers_pass_through(name, kind, backend):
    """In the dtype that the input declares, whatever is given; without rows, too."""
    entry, shape = UNCHANGED[name]
    for dtype in ("float32", "float64") if backend == "numpy" else ("float32",):
        model = net(entry, shape, kind, backend=backend, dtype=dtype)
        for given in ("int32", "int64", "uint8", "float64"):
            assert check(model, np.ones((2, *shape), given)) == [kind]
        assert check(model, np.ones((0, *shape), "int64")) == [kind]


@pytest.mark.parametrize("entry, shape, kind, expected", [
    (layer("Flatten"), (3,), "bool", "bool"),
    (layer("Reshape", target_shape=[1, 3]), (3,), "string", "string"),
    (layer("Activation", activation="linear"), (3,), "int32", "float32"),
    (layer("UpSampling2D", size=[2, 2], interpolation="bilinear"), (2, 2, 1), "int32", "float32"),
    (layer("AveragePooling1D", pool_size=2, padding="valid"), (3, 2), "int32", "float32"),
    (layer("Discretization", bin_boundaries=[0.5]), (3,), "float32", "int64"),
    (layer("Discretization", bin_boundaries=[0.5], output_mode="multi_hot"), (3,), "float32", "float32"),
    (layer("CategoryEncoding", num_tokens=3), (3,), "int32", "float32"),
    (layer("IntegerLookup", vocabulary=[5, 1]), (3,), "int32", "int64"),
    (layer("IntegerLookup", vocabulary=[5, 1], invert=True), (3,), "int32", "int64"),
    (layer("StringLookup", vocabulary=["a", "b"]), (3,), "string", "int64"),
    (layer("StringLookup", vocabulary=["a", "b"], invert=True), (3,), "int32", "string"),
    (layer("StringLookup", vocabulary=["a", "b"], output_mode="count"), (3,), "string", "float32"),
])  # fmt: skip
def test_other_layers(entry, shape, kind, expected):
    model = net(entry, shape, kind, backend="numpy")
    x = np.full((2, *shape), b"a", object) if kind == "string" else np.ones((2, *shape), kind)
    assert check(model, x) == [expected]
    if expected == "float32":
        assert check(net(entry, shape, kind, backend="numpy", dtype="float64"), x) == ["float64"]


@pytest.mark.parametrize("name, expected", [
    ("Concatenate", "int32"), ("Add", "int32"), ("Subtract", "int32"), ("Multiply", "int32"), ("Maximum", "int32"),
    ("Average", "float64"), ("Dot", "float32"),
])  # fmt: skip
def test_layers_of_several_inputs(name, expected):
    entry = layer(name, **({"axes": 1} if name == "Dot" else {"axis": -1} if name == "Concatenate" else {}))
    x = [np.ones((2, 3), np.int64)] * 2
    assert check(net(entry, (3,), "int32", ("x", "y"), backend="numpy"), x) == [expected]
    given = [mf.input_layer(n, (None, 3), kind, functional=True) for n, kind in (("x", "int64"), ("y", "float32"))]
    both = {**entry, "inbound_nodes": [[["x", 0, 0, {}], ["y", 0, 0, {}]]], "name": "end"}
    config = mf.functional(*given, both, inputs=("x", "y"), outputs=("end",))
    # A float beside whole numbers makes floats.
    assert check(fastbilstm.load(mf.h5(config, {})), x) == ["float32"]


def test_a_model_inside_a_model():
    """Its output of whole numbers is one of the whole model; the strings of another, too."""
    inner = mf.functional(
        mf.input_layer("a", (None, 3), "int64", functional=True),
        layer("Reshape", target_shape=[3, 1]) | {"name": "end", "inbound_nodes": [[["a", 0, 0, {}]]]},
        inputs=("a",),
        outputs=("end",),
    )
    entry = {"class_name": "Functional", "config": inner["config"]}
    for kind in ("int32", "float32"):
        for backend in ("auto", "numpy"):
            assert check(net(entry, (3,), kind, backend=backend), np.ones((2, 3), "int32")) == ["int64"]


def test_no_rows_of_a_file_have_the_dtype_of_others():
    from fastbilstm.scoring.columns import no_rows

    entry, shape = UNCHANGED["Flatten"]
    (y,) = no_rows(net(entry, shape, "int32"))
    assert y.dtype == np.int32 and y.shape == (0, 6)
    (y,) = no_rows(net(layer("Flatten"), (3,), "string"))
    assert y.dtype == object
