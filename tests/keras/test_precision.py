"""Precision on disk: half-precision answers, int8, LoRA, and what of them is refused.

The numbers are those of the golden families "precision" and "sharded"; here are Keras' own half-precision answers and
the refusals.
"""

import io
import zipfile

import h5py
import make_files as mf
import numpy as np
import pytest
from cases import CASES

import fastbilstm
from fastbilstm import FileFormatError, UnsupportedLayerError
from fastbilstm.tolerances import HALF_RELATIVE

PRECISION = {case.name: case for case in CASES if case.pack in ("precision.zip", "sharded.zip")}


def half_of(case):
    found = [tag.removeprefix("dtype=").removeprefix("mixed_") for tag in case.covers if tag.startswith("dtype=")]
    return found[0] if len(found) == 1 and found[0] in HALF_RELATIVE else None


HALF = [case for case in PRECISION.values() if half_of(case)]


@pytest.mark.parametrize("case", HALF, ids=lambda case: case.name)
def test_keras_own_half_precision_answer_is_near(case):
    model = fastbilstm.load(**case.load_args(), dtype="float32")
    for inputs, k in zip(case.inputs, case.expected("half"), strict=True):
        error = np.abs(model.predict(inputs) - k).max() / np.abs(k).max()
        assert error <= HALF_RELATIVE[half_of(case)], error


def test_half_precision_is_noted():
    assert len(HALF) >= 24
    lines = []
    fastbilstm.load(**PRECISION["precision-mixed_bfloat16_keras-keras3"].load_args()).summary(lines.append)
    assert "note: dtype policy mixed_bfloat16: computed in float32" in "\n".join(lines)


def test_one_float64_layer_makes_the_model_float64():
    model, lines = fastbilstm.load(**PRECISION["precision-per_layer_h5-keras3"].load_args()), []
    model.summary(lines.append)
    assert model.dtype == "float64" and "note: some layers are float64" in "\n".join(lines)


@pytest.mark.parametrize("name", ["int8_keras", "int8_weights_keras", "int8_tagger", "int4", "int4_inputs"])
def test_converted_quantized_model_keeps_its_bytes(name, tmp_path):
    case = PRECISION[f"precision-{name}-keras3"]
    (tmp_path / case.file).write_bytes(case.read(case.file))
    converted = fastbilstm.convert(tmp_path / case.file, tmp_path / "model.fbl")
    assert converted.self_check()
    assert {array.dtype.name for array in converted.get_weights()} == {"int8", "float32"}
    direct = fastbilstm.load(tmp_path / case.file)
    np.testing.assert_array_equal(converted.predict(case.inputs[0]), direct.predict(case.inputs[0]))


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_rows_of_int8_models_do_not_depend_on_the_batch(rows):
    case = PRECISION["precision-int8_keras-keras3"]
    model, ids = fastbilstm.load(**case.load_args()), case.inputs[0]
    whole = model.predict(ids)
    np.testing.assert_allclose(np.concatenate([model(ids[i : i + rows]) for i in range(0, 6, rows)]), whole, rtol=1e-6)


# ---- refused: quantization ------------------------------------------------------------------------------------------


def int8_policy(mode="int8", source="float32", name="QuantizedDTypePolicy"):
    return {"module": "keras", "class_name": name, "config": {"mode": mode, "source_name": source}}


def with_dense(**options):
    return mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(), mf.dense(**options))


def settings(quantizer, name="Int8QuantizationConfig"):
    return {"class_name": name, "config": {"weight_quantizer": None, "activation_quantizer": quantizer}}


ABS_MAX = {"class_name": "AbsMaxQuantizer", "config": {"value_range": [-127, 127], "output_dtype": "int8"}}
REFUSED = {
    "int4 groups": ({"dtype": int8_policy("int4/0", name="Int4DTypePolicy")}, "quantized as int4/0, .*int8 and int4"),
    "int8 groups": ({"dtype": int8_policy("int8/8")}, "quantized as int8/8"),
    "float8": ({"dtype": int8_policy("float8", name="QuantizedFloat8DTypePolicy")}, "quantized as float8"),
    "gptq": ({"dtype": int8_policy("gptq/4/128", name="GPTQDTypePolicy")}, "quantized as gptq/4/128"),
    "awq": ({"dtype": int8_policy("awq/4/-1", name="AWQDTypePolicy")}, "quantized as awq/4/-1"),
    "text": ({"dtype": "int2_from_float32"}, "quantized as int2"),
    "old name": ({"dtype": {"class_name": "X", "config": {"name": "float8_from_bfloat16"}}}, "quantized as float8"),
    "no mode": ({"dtype": {"class_name": "QuantizedDTypePolicy", "config": {}}}, "quantized as QuantizedDTypePolicy"),
    "map": ({"dtype": {"class_name": "DTypePolicyMap", "config": {}}}, "quantized as DTypePolicyMap"),
    "source": ({"dtype": int8_policy(source="int16")}, "from 'int16'"),
    "settings": ({"dtype": int8_policy(), "quantization_config": settings(None, "Other")}, "quantization_config"),
    "settings of int4": (
        {"dtype": int8_policy(), "quantization_config": settings(None, "Int4QuantizationConfig")},
        "int8",
    ),
    "quantizer": ({"dtype": int8_policy(), "quantization_config": settings({"class_name": "My"})}, "activation_quant"),
    "levels": (
        {"dtype": int8_policy(), "quantization_config": settings({**ABS_MAX, "config": {"value_range": 3}})},
        "AbsMaxQuantizer of",
    ),
    "epsilon": ({"dtype": int8_policy(), "quantization_config": settings(ABS_MAX)}, "quantized_epsilon=None"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_quantization_that_is_refused(case, tmp_path):
    options, words = REFUSED[case]
    (tmp_path / "model.keras").write_bytes(mf.archive(config=with_dense(**options)))
    with pytest.raises(UnsupportedLayerError, match="(?s)layer 'dense' .*" + words):
        fastbilstm.load(tmp_path / "model.keras")


@pytest.mark.parametrize("mode, version, first", [("int8", "3.4.1", "3.5"), ("int4", "3.13.2", "3.14")])
def test_quantized_by_an_older_keras_is_refused(mode, version, first):
    metadata = f'{{"keras_version":"{version}"}}'.encode()
    content = mf.archive(config=with_dense(dtype=int8_policy(mode)), members={"metadata.json": metadata})
    with pytest.raises(
        UnsupportedLayerError, match=f"quantized as {mode} by keras {version}; files of Keras {first} and"
    ):
        fastbilstm.load(content)


def test_quantized_layers_that_are_refused():
    lstm = mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(dtype=int8_policy()), mf.dense())
    with pytest.raises(
        UnsupportedLayerError, match="layer 'lstm' .*is quantized; that is supported for Dense, EinsumDense,"
    ):
        fastbilstm.load(mf.archive(config=lstm))
    inner = mf.dense("inner", dtype=int8_policy())
    wrapped = mf.sequential(mf.input_layer(), mf.embedding(), mf.layer("TimeDistributed", "td", layer=inner))
    with pytest.raises(UnsupportedLayerError, match=r"layer 'td' .*layer='int8.Dense' is a quantized layer"):
        fastbilstm.load(mf.archive(config=wrapped))


# ---- refused: arrays ------------------------------------------------------------------------------------------------


def edited(name, edit):
    """A golden .keras or .h5 file whose HDF5 part is changed by `edit`."""
    case = PRECISION[name]
    content = io.BytesIO(case.read(case.file))
    if case.file.endswith(".h5"):
        with h5py.File(content, "r+") as file:
            edit(file)
        return content.getvalue()
    with zipfile.ZipFile(content) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        edit(file)
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, weights.getvalue() if member == "model.weights.h5" else data)
    return result.getvalue()


def replace(path, values):
    def edit(file):
        del file[path]
        file[path] = values

    return edit


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("path, size", [("layers/dense/vars/2", 5), ("layers/embedding/vars/1", 11)])
def test_scale_must_be_positive(path, size, value):
    scale = np.full(size, 100, np.float32)
    scale[1] = value
    with pytest.raises(FileFormatError, match="_scale holds a value that is no positive number"):
        fastbilstm.load(edited("precision-int8_keras-keras3", replace(path, scale)))


@pytest.mark.parametrize(
    "path, values, words",
    [
        ("einsum_dense/vars/0", np.zeros((5, 3), np.int8), r"its kernel has shape \(5, 3\); the model needs \(7, 3\)"),
        ("einsum_dense/vars/2", np.ones((2, 6), np.float32), r"its kernel_scale has shape \(2, 6\); the .* \(3, 6\)"),
        ("einsum_dense/vars/3", np.zeros((3, 5), np.int8), r"its kernel_zero has shape \(3, 5\); the .* \(3, 6\)"),
        ("einsum_dense/vars/4", np.zeros(6, np.float32), r"its g_idx has shape \(6,\); the model needs \(7,\)"),
        ("einsum_dense/vars/4", np.full(7, 3, np.float32), "its g_idx holds a value outside 0 to 2, the groups of"),
        ("dense/vars/4", np.full(5, -1, np.float32), "its g_idx holds a value outside 0 to 1"),
        ("dense/vars/0", np.zeros((5, 4), np.int8), r"its kernel has shape \(5, 4\); the model needs \(5, 2\)"),
        ("embedding/vars/2", np.zeros((11, 2), np.int8), r"its embeddings_zero has shape \(11, 2\)"),
        ("reversible_embedding/vars/4", np.zeros((4, 11), np.int8), r"its reverse_embeddings has shape \(4, 11\)"),
        (
            "reversible_embedding/vars/5",
            np.zeros((2, 11), np.float32),
            "its reverse_embeddings_scale holds a value that",
        ),
    ],
)
def test_arrays_of_int4_layers_that_do_not_fit(path, values, words):
    with pytest.raises(FileFormatError, match=words):
        fastbilstm.load(edited("precision-int4_groups-keras3", replace(f"layers/{path}", values)))


def test_scale_of_int8_einsum_dense_that_does_not_fit():
    edit = replace("layers/einsum_dense/vars/2", np.ones((1, 1, 3, 2), np.float32))
    with pytest.raises(
        FileFormatError, match=r"its kernel_scale has shape \(1, 1, 3, 2\); the model needs \(1, 1, 2, 3\)"
    ):
        fastbilstm.load(edited("precision-int8_tagger-keras3", edit))


def test_int8_weights_need_a_quantized_layer():
    edit = replace("layers/dense/vars/0", np.ones((4, 3), np.int8))
    with pytest.raises(FileFormatError, match="layer 'dense' .*: its kernel is of int8"):
        fastbilstm.load(edited("precision-mixed_float16_keras-keras3", edit))


def test_bfloat16_bits_need_a_policy_that_says_so():
    name = "precision-float16_h5-keras3"
    path = "model_weights/dense/dense/kernel"
    with pytest.raises(FileFormatError, match="'dense/kernel' has dtype .V2; expected numbers"):
        fastbilstm.load(edited(name, replace(path, np.zeros((4, 3), "V2"))))


def test_lora_matrices_in_h5_are_refused():
    def edit(file):
        group = file["model_weights/dense"]
        group.attrs["weight_names"] = [*group.attrs["weight_names"], "dense/lora_kernel_a"]
        group["dense/lora_kernel_a"] = np.zeros((2, 2), np.float32)

    with pytest.raises(FileFormatError, match="layer 'dense' .*LoRA matrices beside its weights"):
        fastbilstm.load(edited("precision-int8_h5-keras3", edit))
