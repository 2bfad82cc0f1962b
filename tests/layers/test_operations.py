"""Op nodes: what is refused and how, rows of a batch, shapes, converted files. Values are in the golden cases.

Architectures are built by hand (make_files.py), as tf.keras and Keras 3 write them.
"""

import make_files as mf
import numpy as np
import pytest
from cases import CASES

import fastbilstm
from fastbilstm import FileFormatError, InputError, UnsupportedLayerError
from fastbilstm.layers import REGISTRY
from fastbilstm.layers.operation import Operation

X = np.random.default_rng(0).standard_normal((4, 5, 3)).astype(np.float32)


def node(function, name="op", first="x", class_name="TFOpLambda", **arguments):
    """A TensorFlow function called on the input `x`."""
    entry = mf.layer(class_name, name, function=function)
    return entry | {"name": name, "inbound_nodes": [[first, 0, 0, arguments]]}


def model(*nodes, shape=(None, 5, 3), dtype="float32", **options):
    given = mf.input_layer("x", shape, dtype, functional=True)
    config = mf.functional(given, *nodes, inputs=("x",), outputs=(nodes[-1]["name"],))
    return fastbilstm.load(mf.h5(config, {}), **options)


def keras3(class_name, *args, shape=(None, 5, 3), config=None, **kwargs):
    """An operation of Keras 3 on the input `x`, which stands first among its arguments."""
    x = {"class_name": "__keras_tensor__", "config": {"shape": shape, "dtype": "float32", "keras_history": ["x", 0, 0]}}
    calls = [{"args": [x, *args], "kwargs": kwargs}]
    entry = {"class_name": class_name, "module": "keras.src.ops.numpy", "config": {"name": "op", **(config or {})}}
    given = {
        "class_name": "InputLayer",
        "module": "keras.layers",
        "config": {"name": "x", "batch_shape": list(shape), "dtype": "float32"},
        "name": "x",
        "inbound_nodes": [],
    }
    layers = [given, entry | {"name": "op", "inbound_nodes": calls}]
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [["op", 0, 0]]}
    config = {"class_name": "Functional", "config": {"name": "net", "layers": layers, **ends}}
    return fastbilstm.load(mf.h5(config, {}, version=mf.KERAS3))


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_all_missing_operations_are_in_one_error():
    nodes = [node("signal.stft", "a"), node("linalg.svd", "b", "a"), node("random.normal", "c", "b")]
    nodes.append(node(None, "d", "c", class_name="ClassMethod") | {"name": "d"})
    with pytest.raises(UnsupportedLayerError) as error:
        model(*nodes)
    words = ("'a' (TFOpLambda, function signal.stft)", "linalg.svd", "random.normal", "'d' (ClassMethod)")
    assert len(error.value.problems) == 4
    assert all(word in problem for word, problem in zip(words, error.value.problems, strict=True))


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        ("math.reduce_sum", {"axis": 1, "mystery": 3}, "argument mystery='3' is not supported"),
        ("linalg.matmul", {"b": ["x", 0, 0], "a_is_sparse": True}, "a_is_sparse='True' is not supported"),
        ("cast", {"dtype": "complex64"}, "dtype='complex64' is not supported"),
        ("pad", {"paddings": [[0, 0], [1, 0], [0, 0]], "mode": "MADEUP"}, "mode='madeup' is not supported"),
        ("__operators__.eq", {}, "argument x2=None is missing"),
        ("where", {}, "argument x1=None is missing"),
        ("nn.silu", {"beta": 2.0}, "argument beta='2.0' is not supported"),
        ("sparse.add", {"y": 1}, "function sparse.add"),
    ],
)
def test_tensorflow_arguments_are_refused_by_name(function, arguments, words):
    with pytest.raises(UnsupportedLayerError) as error:
        model(node(function, **arguments))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("class_name", "args", "config", "words"),
    [
        ("Erfinv", (), {}, r"layer 'op' (keras.ops.Erfinv): is not supported"),
        ("Sum", (), {"axis": 1, "mystery": 2}, "option mystery='2' is not known"),
        ("Sum", (1, 2, 3), {}, "argument='3' is not known"),
        ("OneHot", (), {"num_classes": 3, "sparse": True}, "sparse=True is not supported"),
        ("Cast", (), {"dtype": "complex64"}, "dtype='complex64' is not supported"),
        ("Where", (), {}, "argument x1=None is missing"),
        ("Pad", (), {"pad_width": [[0, 0]] * 3, "mode": "wrap"}, "mode='wrap' is not supported"),
    ],
)
def test_keras3_arguments_are_refused_by_name(class_name, args, config, words):
    with pytest.raises(UnsupportedLayerError) as error:
        keras3(class_name, *args, config=config)
    assert words in str(error.value)


def test_einsum_of_tf_keras_is_refused_because_its_tensors_are_not_in_the_file():
    entry = node("einsum") | {"inbound_nodes": [["_CONSTANT_VALUE", -1, "bij,bkj->bik", {}]]}
    with pytest.raises(UnsupportedLayerError, match="operands=None is missing"):
        model(entry)


def test_shapes_that_depend_on_data_are_refused():
    nodes = [
        node("math.reduce_max", "top"),
        node("cast", "whole", "top", dtype="int32"),
        node("reshape", "op", shape=[["whole", 0, 0], -1]),
    ]
    with pytest.raises(FileFormatError, match="its newshape depends on data"):
        model(*nodes)


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(FileFormatError, match=r"layer 'op' \(ops\.Add\): its arguments do not fit"):
        keras3("Add", {"class_name": "__numpy__", "config": {"value": [1.0, 2.0], "dtype": "float32"}})


def test_constants_that_are_no_arrays_are_refused():
    with pytest.raises(FileFormatError, match="a constant is no array of float32"):
        keras3("Add", {"class_name": "__numpy__", "config": {"value": [[1.0], [1.0, 2.0]], "dtype": "float32"}})


def test_an_index_outside_is_an_input_error():
    table = [[0.5, 1.0], [1.5, 2.0]]
    entry = node("gather") | {"inbound_nodes": [["_CONSTANT_VALUE", -1, table, {"indices": ["x", 0, 0]}]]}
    ids = model(entry, shape=(None, 3), dtype="int32")
    np.testing.assert_array_equal(ids(np.array([[0, 1, 1]])), [[table[0], table[1], table[1]]])
    with pytest.raises(InputError, match="an index lies outside 0 to 1"):
        ids(np.array([[0, 2, 1]]))


# ---- shapes and rows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments", "shape", "apart"),
    [
        ("math.reduce_mean", {"axis": 1}, (None, 3), True),
        ("math.reduce_mean", {"axis": 0}, (None, 3), False),
        ("math.reduce_mean", {"axis": -3, "keepdims": True}, (1, None, 3), False),
        ("math.reduce_mean", {}, (), False),
        ("reshape", {"shape": [-1, 3]}, (None, 3), False),
        ("transpose", {"perm": [0, 2, 1]}, (None, 3, None), True),
        ("transpose", {}, (3, None, None), False),
        ("expand_dims", {"axis": 0}, (1, None, None, 3), False),
        ("reverse", {"axis": [1]}, (None, None, 3), True),
        ("reverse", {"axis": [0, 1]}, (None, None, 3), False),
        ("linalg.matmul", {"b": ["x", 0, 0], "transpose_b": True}, (None, None, None), True),
        ("math.add", {"y": [[1.0], [2.0], [3.0], [4.0], [5.0]]}, (None, 5, 3), True),
        ("shape", {}, (3,), False),
    ],
)
def test_shape_and_rows(function, arguments, shape, apart):
    found = model(node(function, **arguments), shape=(None, None, 3))
    assert found.outputs[0].shape == shape
    assert found._plan.independent is apart
    lines = []
    found.summary(print_fn=lines.append)
    assert ("batches are run as given" in str(lines)) is not apart
    assert apart or "in every batch" not in str(lines)


def row_by_row(model, inputs):
    """The answers to each row alone, joined."""
    several = isinstance(inputs, list)
    rows = range(len(inputs[0] if several else inputs))
    parts = [model([a[r : r + 1] for a in inputs] if several else inputs[r : r + 1]) for r in rows]
    parts = [part if isinstance(part, list) else [part] for part in parts]
    return [np.concatenate(part) for part in zip(*parts)]


@pytest.mark.parametrize("case", [c for c in CASES if c.name.startswith(("ops-", "tfop-"))], ids=lambda c: c.name)
def test_rows_that_are_called_independent_are(case, tmp_path):
    """And the same to the bit where the summary promises it; a converted file gives the same."""
    found = fastbilstm.load(**case.load_args(), dtype="float32")
    (inputs,) = case.inputs
    together = found(inputs)
    found.save(tmp_path / "model.fbl")
    again = fastbilstm.load(tmp_path / "model.fbl")(inputs)
    together, again = ([y] if isinstance(y, np.ndarray) else y for y in (together, again))
    for a, b in zip(together, again, strict=True):
        np.testing.assert_array_equal(a, b)
    if not found._plan.independent:
        return
    lines = []
    found.summary(lines.append)
    exact = "the same to the bit" in "\n".join(lines)
    for a, b in zip(row_by_row(found, inputs), together, strict=True):
        np.testing.assert_allclose(a, b, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-6)


def test_people_s_models_have_independent_rows():
    names = [f"{family}-model_{name}" for family in ("ops", "tfop") for name in ("attention", "masked_mean", "heads")]
    for case in CASES:
        if case.name.rpartition("-")[0] in names:
            assert fastbilstm.load(**case.load_args())._plan.independent, case.name


def test_every_operation_names_its_arguments_as_it_is_called():
    for name, cls in REGISTRY.items():
        if isinstance(cls, type) and issubclass(cls, Operation):
            assert name.startswith("ops.") and cls.parameters, name
            code = cls.operate.__code__
            assert set(code.co_varnames[1 : code.co_argcount]) <= set(cls.parameters), name
