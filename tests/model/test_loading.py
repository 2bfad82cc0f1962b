"""Where a model is read from: paths, bytes, file objects, read-only folders; and that what is written is read again.

Also what is told apart by content and refused by name: SavedModel folders, folders, files that are not there.
"""

import io
import os
import pickle
from pathlib import Path

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import FastBiLSTMError, FileFormatError, MissingExtraError, UnsupportedLayerError

KINDS = {"model.h5": mf.h5(), "model.keras": mf.archive(), "model.fbl": mf.converted()}
EXPECTED = fastbilstm.load(mf.h5()).predict(mf.IDS)


class Path2:
    """A PathLike that is no pathlib.Path."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


# ---- sources --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("form", ["str", "Path", "PathLike", "bytes path", "bytes", "bytearray", "memory", "file"])
def test_source(name, form, tmp_path):
    path = tmp_path / name
    path.write_bytes(KINDS[name])
    with open(path, "rb") as file:
        source = {
            "str": str(path), "Path": path, "PathLike": Path2(str(path)), "bytes path": Path2(os.fsencode(path)),
            "bytes": KINDS[name], "bytearray": bytearray(KINDS[name]), "memory": io.BytesIO(KINDS[name]), "file": file,
        }[form]  # fmt: skip
        np.testing.assert_array_equal(fastbilstm.load(source).predict(mf.IDS), EXPECTED)


@pytest.mark.parametrize("name", KINDS)
def test_kind_is_told_by_content(name, tmp_path):
    for suffix in (".fbl", ".h5", ".keras", ".weights.h5", "", ".txt"):
        path = tmp_path / f"other{suffix}"
        path.write_bytes(KINDS[name])
        np.testing.assert_array_equal(fastbilstm.load(path).predict(mf.IDS), EXPECTED)


@pytest.mark.parametrize("name", KINDS)
def test_read_only_folder(name, tmp_path):
    """Nothing is written beside the file: its folder may be read-only."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / name
    path.write_bytes(KINDS[name])
    path.chmod(0o444)
    folder.chmod(0o555)
    before = folder.stat().st_mtime_ns, path.stat().st_mtime_ns
    try:
        np.testing.assert_array_equal(fastbilstm.load(path).predict(mf.IDS), EXPECTED)
        assert [item.name for item in folder.iterdir()] == [name]
        assert (folder.stat().st_mtime_ns, path.stat().st_mtime_ns) == before
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize("name", KINDS)
def test_file_object_of_text_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(KINDS[name])
    with open(tmp_path / name, encoding="latin-1") as file, pytest.raises(FileFormatError, match="binary mode"):
        fastbilstm.load(file)


def test_what_is_no_source():
    with pytest.raises(TypeError, match="path is of type int; expected a path, bytes, a binary file or a Keras model"):
        fastbilstm.load(3)


def test_missing_file(tmp_path):
    with pytest.raises(FileFormatError, match=r"gone\.h5: cannot be read \(No such file"):
        fastbilstm.load(tmp_path / "gone.h5")
    with pytest.raises(FileFormatError, match="cannot be read"):
        fastbilstm.load("a\0b")


def test_saved_model_folder(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(FileFormatError, match=r"variables\.index: is missing; it is a part of the model"):
        fastbilstm.load(tmp_path)


def test_other_folder(tmp_path):
    with pytest.raises(FileFormatError, match="is a folder; expected a file"):
        fastbilstm.load(tmp_path)


def test_missing_h5py_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    for name in ("model.h5", "model.keras"):
        with pytest.raises(MissingExtraError, match=r"needs h5py; install it with: pip install 'h5py(>=3\.8)?'"):
            fastbilstm.load(KINDS[name])
    fastbilstm.load(KINDS["model.fbl"])


@pytest.mark.parametrize("dtype", ["float16", "int32", "double precision", 3])
def test_dtype_that_is_none(dtype):
    with pytest.raises(ValueError, match=f"dtype is {dtype!r}; expected 'float32' or 'float64'"):
        fastbilstm.load(mf.h5(), dtype=dtype)


def test_dtype_of_the_model_and_given():
    assert fastbilstm.load(mf.h5()).dtype == "float32"
    model = fastbilstm.load(mf.h5(), dtype="float64")
    assert model.dtype == "float64" and model.predict(mf.IDS).dtype == np.float64
    config = mf.sequential(mf.input_layer(), mf.embedding(dtype="float64"), mf.lstm(dtype="float64"), mf.dense())
    assert fastbilstm.load(mf.h5(config)).dtype == "float64"


# ---- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_round_trips(name, tmp_path):
    """Keras file or converted file -> saved -> loaded, and pickled: the same arrays, graph and numbers."""
    model = fastbilstm.load(KINDS[name])
    model.save(tmp_path / "again.fbl")
    for other in (fastbilstm.load(tmp_path / "again.fbl"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(mf.IDS), EXPECTED)
        for ours, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert (other.graph, other.dtype, other.keras, other.inputs, other.outputs) == (
            model.graph, model.dtype, model.keras, model.inputs, model.outputs,
        )  # fmt: skip
    if name == "model.fbl":
        assert Path(tmp_path / "again.fbl").read_bytes() == KINDS[name]


@pytest.mark.parametrize(
    "error",
    [FileFormatError("a"), UnsupportedLayerError(["b", "c"], "d.h5"), MissingExtraError("h5py", "convert", "x")],
    ids=lambda error: type(error).__name__,
)
def test_errors_pickle(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error)
    assert isinstance(error, (FastBiLSTMError, ImportError))
