"""Where a model is read from and written to: paths, bytes, file objects, read-only folders, existing targets.

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


SHAPES = {"free": (None, None), "fixed": (None, 2)}


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


# ---- targets --------------------------------------------------------------------------------------------------------


def test_existing_target_is_kept(tmp_path):
    target = tmp_path / "model.fbl"
    target.write_bytes(b"mine")
    for write in (lambda: fastbilstm.convert(mf.h5(), target), lambda: fastbilstm.load(mf.h5()).save(target)):
        with pytest.raises(FileFormatError, match=r"model\.fbl: exists already; .*overwrite=True \(--overwrite\)"):
            write()
        assert target.read_bytes() == b"mine"
    fastbilstm.convert(mf.h5(), target, overwrite=True)
    np.testing.assert_array_equal(fastbilstm.load(target).predict(mf.IDS), EXPECTED)


def test_target_folder_missing(tmp_path):
    with pytest.raises(FileFormatError, match=r"gone/model\.fbl: cannot be written \(.*No such file"):
        fastbilstm.convert(mf.h5(), tmp_path / "gone" / "model.fbl")
    assert not list(tmp_path.iterdir())


def test_target_is_a_folder(tmp_path):
    for overwrite in (False, True):
        with pytest.raises(FileFormatError, match=r"is a folder|exists already"):
            fastbilstm.convert(mf.h5(), tmp_path, overwrite=overwrite)
    assert not list(tmp_path.iterdir())


BAD = {
    "truncated": (mf.h5()[:-100], FileFormatError),
    "unsupported": (mf.h5(mf.sequential(mf.layer("TFSMLayer", "conv", units=3))), UnsupportedLayerError),
    "wrong weights": (mf.h5(mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(units=4))), FileFormatError),
}


@pytest.mark.parametrize("case", BAD)
def test_failed_conversion_leaves_no_file_and_destroys_none(case, tmp_path):
    content, error = BAD[case]
    target = tmp_path / "model.fbl"
    with pytest.raises(error):
        fastbilstm.convert(content, target)
    assert not list(tmp_path.iterdir())
    target.write_bytes(b"mine")
    with pytest.raises(error):
        fastbilstm.convert(content, target, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.fbl"] and target.read_bytes() == b"mine"


def test_input_too_large_for_a_self_check(tmp_path):
    config = mf.sequential(mf.input_layer(shape=(None, 10**12)), mf.embedding(), mf.lstm(), mf.dense())
    with pytest.raises(FileFormatError, match=r"input 'ids' has shape \(None, 1000000000000\): too large"):
        fastbilstm.convert(mf.h5(config), tmp_path / "model.fbl")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_failed_write_leaves_no_file_and_destroys_none(function, tmp_path, monkeypatch):
    target = tmp_path / "model.fbl"
    target.write_bytes(b"mine")

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(FileFormatError, match=r"model\.fbl: cannot be written .*No space left"):
            fastbilstm.convert(mf.h5(), target, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.fbl"] and target.read_bytes() == b"mine"


def test_interrupted_write_leaves_no_file(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fastbilstm.convert(mf.h5(), tmp_path / "model.fbl")
    assert not list(tmp_path.iterdir())


def test_model_onto_its_own_file(tmp_path):
    """The arrays are mapped from the file that is replaced."""
    target = tmp_path / "model.fbl"
    model = fastbilstm.convert(mf.h5(), target)
    model.save(target, overwrite=True)
    np.testing.assert_array_equal(model.predict(mf.IDS), EXPECTED)
    np.testing.assert_array_equal(fastbilstm.load(target).predict(mf.IDS), EXPECTED)


def test_mode_of_the_target(tmp_path):
    """As any new file: by the umask, not the 0600 of temporary files."""
    fastbilstm.convert(mf.h5(), tmp_path / "model.fbl")
    (tmp_path / "other").touch()
    assert (tmp_path / "model.fbl").stat().st_mode == (tmp_path / "other").stat().st_mode


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


def test_free_axes_that_must_agree_get_a_vector_that_fits(tmp_path):
    inputs = [mf.input_layer(name, shape, "float32", functional=True) for name, shape in SHAPES.items()]
    config = mf.functional(*inputs, mf.layer("Add", "add", list(SHAPES)), inputs=tuple(SHAPES), outputs=("add",))
    model = fastbilstm.convert(mf.h5(config, {}), tmp_path / "model.fbl")
    assert model.self_check() and [array.shape[0] for array in model.vector.inputs] == [3, 3]
