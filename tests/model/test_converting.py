"""Where a converted model is written to: existing targets, full disks, interruptions; a failure leaves no file."""

import os
import subprocess
import sys

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import FileFormatError, UnsupportedLayerError

EXPECTED = fastbilstm.load(mf.h5()).predict(mf.IDS)
SHAPES = {"free": (None, None), "fixed": (None, 2)}


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


def test_free_axes_that_must_agree_get_a_vector_that_fits(tmp_path):
    inputs = [mf.input_layer(name, shape, "float32", functional=True) for name, shape in SHAPES.items()]
    config = mf.functional(*inputs, mf.layer("Add", "add", list(SHAPES)), inputs=tuple(SHAPES), outputs=("add",))
    model = fastbilstm.convert(mf.h5(config, {}), tmp_path / "model.fbl")
    assert model.self_check() and [array.shape[0] for array in model.vector.inputs] == [3, 3]


def test_convert_is_imported_when_it_is_asked_for_and_listed_before():
    code = (
        "import sys, fastbilstm\n"
        "assert 'fastbilstm.converting' not in sys.modules and set(fastbilstm.__all__) <= set(dir(fastbilstm))\n"
        "assert fastbilstm.convert is sys.modules['fastbilstm.converting'].convert"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
