"""Which arrays are narrowed, along which axes they share a scale, and what is refused."""

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm.engine.narrow_layers import NARROWED, narrow, narrow_arrays
from fastbilstm.errors import FileFormatError, InputError
from fastbilstm.graph import KerasVersion, Layer
from fastbilstm.layers import REGISTRY

MODEL = fastbilstm.load(mf.h5())
FORMS = ("int8", "bfloat16", "float16")


@pytest.mark.parametrize("form", FORMS)
def test_kernels_and_embeddings_change_and_biases_do_not(form):
    arrays = fastbilstm.load(mf.h5(), weights=form)._tensors
    for name, array in MODEL._tensors.items():
        same = array.tobytes() == arrays[name].tobytes()
        assert arrays[name].dtype == np.float32 and same == name.endswith("bias")


def test_int8_has_a_scale_for_each_column_of_a_kernel_and_each_row_of_an_embedding():
    arrays = fastbilstm.load(mf.h5(), weights="int8")._tensors
    for name, wide in MODEL._tensors.items():
        if name.endswith("bias"):
            continue
        along = 1 if name.endswith("embeddings") else 0
        step = np.abs(wide).max(axis=along, keepdims=True) / 127
        off = np.abs(arrays[name] - wide)
        assert (off <= step * 0.5001).all() and (off.max(axis=along) > 0).all()
        # The quotients are whole numbers along that axis alone.
        codes = arrays[name] / (np.abs(arrays[name]).max(axis=along, keepdims=True) / 127)
        assert np.abs(codes - np.rint(codes)).max() < 1e-4


@pytest.mark.parametrize(
    ("role", "shape", "shared"),
    [
        (("Conv2D", "kernel"), (3, 2, 4, 5), (0, 1, 2)),
        (("ConvLSTM1D", "recurrent_kernel"), (3, 4, 16), (0, 1)),
        (("SeparableConv1D", "pointwise_kernel"), (1, 6, 5), (0, 1)),
        (("MultiHeadAttention", "query/kernel"), (6, 2, 3), (0,)),
        (("MultiHeadAttention", "attention_output/kernel"), (2, 3, 6), (0, 1)),
        (("GRUCell", "kernel"), (4, 9), (0,)),
        (("Embedding", "embeddings"), (9, 4), (1,)),
        (("EinsumDense", "kernel"), (2, 6, 3, 5), (0, 1)),
    ],
)
def test_axes_that_share_a_scale(role, shape, shared):
    class_name, name = role
    it = Layer("it", class_name, {"equation": "abcd,cdef->abef"}, {name: "array"})
    found = narrow_arrays(MODEL.graph.replace(layers=(*MODEL.graph.layers[:-1], it)))
    assert found["array"].layer is it and found["array"].axes(np.zeros(shape)) == shared


def test_the_table_names_layers_and_roles_that_there_are():
    sizes = {"units": 2, "filters": 2, "groups": 1, "input_dim": 3, "output_dim": 2, "rank": 1, "kernel_size": [1]}
    sizes |= {"num_heads": 1, "key_dim": 2, "num_query_heads": 1, "num_key_value_heads": 1, "head_dim": 2}
    sizes |= {"depth_multiplier": 1, "use_gate": True}
    for class_name, roles in NARROWED.items():
        cls = REGISTRY[class_name]
        config = {name: option.default for name, option in cls.options.items()}
        config |= {name: size for name, size in sizes.items() if name in config}
        layer = cls(Layer("it", class_name, config, {}), KerasVersion.parse("3.5.0"))
        layer.config["kernel_size"] = (1,) * getattr(cls, "rank", 1)
        assert set(roles) <= set(layer.weight_shapes(())), class_name


def test_a_shared_layer_and_shared_arrays_are_narrowed_once():
    first = MODEL.graph.layers[-1]
    other = first.replace(name="other")
    call = MODEL.graph.nodes[-1].replace(layer=len(MODEL.graph.layers))
    graph = MODEL.graph.replace(layers=(*MODEL.graph.layers, other), nodes=(*MODEL.graph.nodes, call))
    found = narrow_arrays(graph)
    assert found["dense/kernel"].layer is first and len(found) == 4


def test_an_array_that_is_scaled_in_two_ways_is_refused():
    tied = MODEL.graph.layers[-1].replace(weights={"kernel": "embedding/embeddings", "bias": "dense/bias"})
    graph = MODEL.graph.replace(layers=(*MODEL.graph.layers[:-1], tied))
    with pytest.raises(FileFormatError, match=r"'dense' \(Dense\): its kernel is the embeddings of layer 'embedding'"):
        narrow(graph, MODEL._tensors, "int8")


@pytest.mark.parametrize(
    ("form", "value", "words"),
    [("int8", np.nan, "NaN or infinity"), ("float16", 7e4, "70000"), ("bfloat16", 3.4e38, r"3\.4e\+38")],
)
def test_what_a_form_cannot_hold_names_file_layer_weight_and_value(form, value, words, tmp_path):
    arrays = mf.weights()
    arrays["lstm"]["recurrent_kernel"][1, 2] = value
    (tmp_path / "odd.h5").write_bytes(mf.h5(arrays=arrays))
    pattern = rf"odd\.h5: layer 'lstm' \(LSTM\): its recurrent_kernel holds {words}, which {form} cannot hold: leave"
    with pytest.raises(FileFormatError, match=pattern):
        fastbilstm.load(tmp_path / "odd.h5", weights=form)
    fastbilstm.load(tmp_path / "odd.h5")


def test_an_unknown_form_is_refused():
    for form in ("int4", 8, ""):
        with pytest.raises(InputError, match="expected one of float32, bfloat16, float16, int8"):
            fastbilstm.load(mf.h5(), weights=form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("backend", "dtype"), [("numpy", "float32"), ("numpy", "float64"), ("vector", "float32")])
def test_every_backend_computes_with_the_narrowed_arrays(form, backend, dtype):
    """What runs with a form is what runs with a file of these very numbers."""
    arrays, narrowed = mf.weights(), fastbilstm.load(mf.h5(), weights=form)
    for name, array in narrowed._tensors.items():
        layer, role = name.split("/")
        arrays[layer][role] = array
    y = fastbilstm.load(mf.h5(), weights=form, backend=backend, dtype=dtype).predict(mf.IDS)
    k = fastbilstm.load(mf.h5(arrays=arrays), backend=backend, dtype=dtype).predict(mf.IDS)
    # int8 kernels round what they multiply, too.
    allowed = 0.05 if form == "int8" and backend == "vector" else {"float32": 1e-6, "float64": 1e-12}[dtype]
    assert np.abs(y - k).max() <= allowed
