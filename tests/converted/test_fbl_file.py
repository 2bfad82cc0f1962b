"""The converted file (.fbl): layout, alignment, memory map, version 1 for ever, and NumPy as the only requirement."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import make_files as mf
import numpy as np
import pytest
from cases import CASES
from paths import FORMAT_V1
from safetensors import safe_open
from safetensors.numpy import load_file, save

import fastbilstm
from fastbilstm.converted import mapped_file
from fastbilstm.tolerances import compare

V1_INPUTS = [np.array([[1, 2, 4], [3, 0, 0]]), np.array([[0.5, -0.25], [1.0, 2.0]], "f4")]


@pytest.fixture
def path(tmp_path):
    fastbilstm.convert(mf.h5(), tmp_path / "model.fbl")
    return tmp_path / "model.fbl"


def test_opens_with_the_safetensors_library(path):
    arrays = load_file(path)
    model = fastbilstm.load(path)
    flat = {f"{name}/{role}": array for name, roles in mf.weights().items() for role, array in roles.items()}
    for name, array in flat.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    assert {name for name in arrays if not name.startswith("self-check/")} == set(flat)
    for kind, values in (("input", model.vector.inputs), ("output", model.vector.outputs)):
        for number, array in enumerate(values):
            np.testing.assert_array_equal(arrays[f"self-check/{kind}/{number}"], array)
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    assert metadata["fastbilstm_format"] == "1" and metadata["keras"] == "tf_keras 2.15.0"
    assert json.loads(metadata["graph"])["name"] == "net" and len(metadata["sha256"]) == 64
    assert json.loads(metadata["vector"])["computed_by"] == "fastbilstm-spec-float64"


def test_written_again_by_the_safetensors_library(path):
    """Another order and alignment of the same content: the checksum notices, the arrays are the same."""
    with safe_open(path, "np") as file:
        again = save(load_file(path), file.metadata())
    header, data = mf.split_fbl(again)
    expected = fastbilstm.load(path).predict(mf.IDS)
    np.testing.assert_array_equal(fastbilstm.load(mf.join_fbl(header, data)).predict(mf.IDS), expected)


def test_layout(path):
    content = path.read_bytes()
    header, data = mf.split_fbl(content)
    start = len(content) - len(data)
    assert start % 64 == 0 and content[8:9] == b"{"
    spans = sorted(entry["data_offsets"] for name, entry in header.items() if name != "__metadata__")
    assert spans[0][0] == 0 and spans[-1][1] == len(data)
    assert all(a[1] == b[0] for a, b in pairwise(spans))


def test_same_model_same_bytes(tmp_path, path):
    fastbilstm.convert(mf.h5(mf.sequential()), tmp_path / "again.fbl")
    assert (tmp_path / "again.fbl").read_bytes() == path.read_bytes()


def test_arrays_of_a_large_file_are_views_of_the_mapped_file(path, monkeypatch):
    monkeypatch.setattr(mapped_file, "MAPPED_FROM", 100)
    model = fastbilstm.load(path)
    for array in model.get_weights():
        assert not array.flags.writeable and array.flags.aligned and array.flags.c_contiguous
        base = array
        while base is not None and not isinstance(base, np.memmap):
            base = base.base
        assert base is not None and base.mode == "r"
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_arrays_of_a_small_file_and_of_bytes_are_read_only_too(path):
    for source in (path, path.read_bytes()):
        for array in fastbilstm.load(source).get_weights():
            assert not array.flags.writeable and array.flags.aligned and array.flags.c_contiguous


@pytest.mark.parametrize("offset", range(1, 9))
def test_arrays_at_odd_places(offset, path):
    """Other writers of the layout need not align: the header is padded by another number of spaces."""
    header, data = mf.split_fbl(path.read_bytes())
    text = json.dumps(header) + " " * offset
    for content in (mf.join_fbl(text, data), bytes(mf.join_fbl(text, data))):
        path.write_bytes(content)
        model = fastbilstm.load(path)
        assert all(array.flags.aligned and not array.flags.writeable for array in model.get_weights())
        np.testing.assert_array_equal(model.predict(mf.IDS), fastbilstm.load(mf.h5()).predict(mf.IDS))


# ---- version 1 ------------------------------------------------------------------------------------------------------

# Computed by tf_keras 2.21.0 from the .h5 of tools/golden/make_format_fixture.py.
V1_OUTPUTS = [
    [[0.801318883895874, 0.2235528528690338], [1.4403963088989258, 2.5703015327453613]],
    [
        [-0.23694050312042236, 0.028027161955833435, 0.1280440092086792, 0.03396620228886604],
        [-0.13388434052467346, -0.1731889396905899, 0.09262119978666306, 0.05647314712405205],
    ],
]


def test_version_1_is_read_for_ever():
    """This file must never be written again: later releases have to read these bytes."""
    assert FORMAT_V1.stat().st_size < 20_000
    model = fastbilstm.load(FORMAT_V1, check=True)
    assert mf.split_fbl(FORMAT_V1.read_bytes())[0]["__metadata__"]["fastbilstm_format"] == "1"
    assert [(i.name, i.shape, i.dtype) for i in model.inputs] == [
        ("ids", (None, None), "int32"),
        ("extra", (None, 2), "float32"),
    ]
    assert [o.name for o in model.outputs] == ["add", "bidirectional"]
    assert model.keras == "tf_keras 2.15.0" and model.dtype == "float32"
    assert [layer.class_name for layer in model.layers] == ["Embedding", "Bidirectional", "Functional", "Add"]
    for y, k in zip(model.predict(V1_INPUTS), V1_OUTPUTS, strict=True):
        assert compare(y, np.array(k, "f4")).ok


def test_vector_of_version_1():
    model = fastbilstm.load(FORMAT_V1)
    assert model.vector.computed_by == "fastbilstm-spec-float64"
    assert [array.shape for array in model.vector.inputs] == [(3, 12), (3, 2)]
    # Row 0 of each output, computed by tf_keras 2.21.0 in float64.
    expected = [
        [0.7107045614941314, 1.56674579250123],
        [-0.346959500180385, -0.12035677872918982, 0.10421613616195873, 0.010309460102395567],
    ]
    for y, k in zip(model.vector.outputs, expected, strict=True):
        np.testing.assert_allclose(y[0], k, rtol=1e-12)
    result = model.self_check()
    assert result.ok and "self-consistency only, not compared with Keras" in result.message


# ---- NumPy only -----------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
import fastbilstm
loaded = {{name.partition(".")[0] for name in sys.modules if sys.modules[name] is not None}}
own = ("_cython_", "cython_runtime")  # of NumPy 1.24 itself
new = sorted(name for name in loaded - sys.stdlib_module_names if not name.startswith(own))
assert set(new) <= {{"fastbilstm", "numpy", "__main__", "sitecustomize"}} | before, new
model = fastbilstm.load({path!r}, check=True)
print(model.backend, model.predict([[[1, 2, 4], [3, 0, 0]], [[0.5, -0.25], [1.0, 2.0]]])[0].tolist())
"""


def test_loading_needs_numpy_only():
    blocked = ["h5py", "scipy", "yaml", "keras", "tensorflow", "tf_keras", "safetensors"]
    # -S -E would hide NumPy in a virtual environment; what was imported before us is left out instead.
    program = "import sys\nbefore = {name.partition('.')[0] for name in sys.modules}\n"
    program += PROGRAM.format(blocked=blocked, path=str(FORMAT_V1))
    package = Path(fastbilstm.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    backend, _, numbers = done.stdout.partition(" ")
    assert backend in ("vector", "numpy")
    assert compare(np.array(json.loads(numbers), "f4"), np.array(V1_OUTPUTS[0], "f4")).ok


@pytest.mark.parametrize("name", ["masking-tenth-tf_keras", "activation2-softmax_mask-tf_keras"])
def test_the_vector_is_that_of_float32_where_a_mask_is_another_one_in_float64(name, tmp_path):
    """0.1 in float32 is not the 0.1 of mask_value; scores of 1e9 below lose in float32 what float64 keeps."""
    case = next(case for case in CASES if case.name == name)
    fastbilstm.load(**case.load_args()).save(tmp_path / "m.fbl")
    assert fastbilstm.load(tmp_path / "m.fbl", check=True).vector.computed_by == "fastbilstm-spec-float32"
