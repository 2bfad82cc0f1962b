"""Files that cannot be read: every reader raises what Python's `open` would, with our message, and the command says it.

Errors of a model's file stay FileFormatError, those of a file of rows InputError.
"""

import copy
import errno
import importlib.metadata
import os
import pickle
import traceback

import make_files as mf
import numpy as np
import pytest
from small_files import save_model

import fastbilstm
from fastbilstm import checks, errors
from fastbilstm import preprocessing as pp
from fastbilstm.cli import commands as cli
from fastbilstm.report import report
from fastbilstm.report.verify import verify


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A converted model, a Keras file of weights alone, and a file of its rows."""
    path = tmp_path_factory.mktemp("errors")
    save_model(path / "model.fbl")
    (path / "net.h5").write_bytes(mf.h5(mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(), mf.dense())))
    np.save(path / "ids.npy", np.ones((2, 6), np.int32))
    return path


def convert(folder, **options):
    fastbilstm.convert(folder / "model.fbl", folder / "never.fbl", **options)


# What reads a file: called with the folder above and the path of the file.
READERS = {
    "load": lambda folder, path: fastbilstm.load(path),
    "load, a text": lambda folder, path: fastbilstm.load(str(path)),
    "config": lambda folder, path: fastbilstm.load(folder / "net.h5", config=path),
    "config, a text": lambda folder, path: fastbilstm.load(folder / "net.h5", config=str(path)),
    "convert": lambda folder, path: fastbilstm.convert(path, folder / "never.fbl"),
    "tokenizer": lambda folder, path: convert(folder, tokenizer=path),
    "labels": lambda folder, path: convert(folder, labels=str(path)),
    "read_tokenizer": lambda folder, path: pp.read_tokenizer(path),
    "read_tokenizer, a vocabulary": lambda folder, path: pp.read_tokenizer(path, "vocabulary"),
    "read_vocabulary": lambda folder, path: pp.read_vocabulary(path),
    "read_labels": lambda folder, path: pp.read_labels(path),
    "predict_iter": lambda folder, path: list(fastbilstm.load(folder / "model.fbl").predict_iter(path)),
    "BatchPredictor": lambda folder, path: fastbilstm.BatchPredictor(path)({"x": [[1, 2]]}),
    "verify": lambda folder, path: verify(path),
    "verify against": lambda folder, path: verify(folder / "model.fbl", against=path),
    "report": lambda folder, path: report(path, folder / "never.html"),
}


def caught(name, folder, path):
    with pytest.raises(errors.UnreadableFileError) as info:
        READERS[name](folder, path)
    assert not list(folder.glob("never*"))
    return info.value


def check(error, path, number):
    """One error in both families, with what OSError says beside our message, and nothing else in its traceback."""
    assert isinstance(error, (fastbilstm.FileFormatError, fastbilstm.InputError)) and isinstance(error, ValueError)
    assert error.errno == number and error.strerror == os.strerror(number)
    assert os.fspath(error.filename) == os.fspath(path)
    assert str(path) in str(error) and "Errno" not in str(error) and "\n" not in str(error)
    shown = "".join(traceback.format_exception(error))
    assert shown.count("Traceback") == 1 and shown.endswith(f"{type(error).__name__}: {error}\n")
    again = type(error).__new__(type(error), *error.args)
    again.__init__(*error.args)
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), type(error)(*error.args), again):
        assert type(other) is type(error) and str(other) == str(error) and other.args == error.args
        assert (other.errno, other.strerror, other.filename) == (error.errno, error.strerror, error.filename)


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_not_there(name, folder):
    path = folder / "nowhere" / "gone.csv"
    error = caught(name, folder, path)
    assert type(error) is errors.MissingFileError and isinstance(error, FileNotFoundError)
    assert "cannot be read (No such file or directory)" in str(error)
    check(error, path, errno.ENOENT)


@pytest.mark.parametrize("name", READERS)
def test_a_folder(name, folder):
    error = caught(name, folder, folder)
    assert type(error) is errors.FolderError and isinstance(error, IsADirectoryError)
    assert "is a folder; expected a file" in str(error)
    check(error, folder, errno.EISDIR)


@pytest.mark.parametrize("name", READERS)
def test_a_file_without_permission(name, folder, monkeypatch):
    path = folder / "secret.csv"
    path.write_text("x\n")

    def refuse(name, *args):
        if os.fspath(name) == os.fspath(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return open(name, *args)

    # Whoever runs the tests may have all permissions.
    monkeypatch.setattr(checks, "open", refuse, raising=False)
    error = caught(name, folder, path)
    assert type(error) is errors.FilePermissionError and isinstance(error, PermissionError)
    check(error, path, errno.EACCES)


def test_other_reasons(folder):
    """A part of the path that is a file, a NUL in it: no subclass fits."""
    with pytest.raises(errors.UnreadableFileError, match="cannot be read .*null byte"):
        fastbilstm.load("a\0b")
    if os.name == "nt":
        return  # it says that such a file is not there
    error = caught("load", folder, folder / "ids.npy" / "inner.h5")
    assert type(error) is errors.UnreadableFileError
    check(error, folder / "ids.npy" / "inner.h5", errno.ENOTDIR)


def test_a_shard_that_is_not_there(folder):
    (folder / "net.weights.json").write_text('{"metadata": {}, "weight_map": {"/layers/dense/vars": "net_00000.h5"}}')
    with pytest.raises(FileNotFoundError, match="net_00000.h5' is missing") as info:
        fastbilstm.load(folder / "net.weights.json", config={"class_name": "Sequential", "config": {"layers": []}})
    assert isinstance(info.value, fastbilstm.FileFormatError)
    assert info.value.filename == str(folder / "net_00000.h5") and info.value.errno == errno.ENOENT


COMMANDS = [
    ["inspect", "{gone}"],
    ["convert", "{gone}"],
    ["convert", "{folder}/net.h5", "{folder}/never.fbl", "--config", "{gone}"],
    ["convert", "{folder}/model.fbl", "{folder}/never.fbl", "--tokenizer", "{gone}"],
    ["convert", "{folder}/model.fbl", "{folder}/never.fbl", "--labels", "{gone}"],
    ["verify", "{gone}"],
    ["verify", "{folder}/model.fbl", "--against", "{gone}"],
    ["report", "{gone}", "-o", "{folder}/never.html"],
    ["predict", "{gone}", "{folder}/ids.npy", "-o", "{folder}/never.npy"],
    ["predict", "{folder}/model.fbl", "{gone}", "-o", "{folder}/never.npy"],
    ["predict", "{gone}", "--text", "a"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("kind, words", [("gone.csv", "cannot be read (No such file"), ("", "is a folder; expected")])
def test_the_command_says_one_line(command, kind, words, folder, capsys):
    gone = folder / kind
    code = cli.main([part.format(folder=folder, gone=gone) for part in command])
    out, err = capsys.readouterr()
    assert code == 2 and not out and not list(folder.glob("never*"))
    assert err.startswith("fastbilstm: ") and err.count("\n") == 1 and f"{gone}: {words}" in err


# As an installed package records its dependencies.
RECORDED = [
    "numpy>=1.24",
    'h5py-other>=9; extra == "convert"',
    'h5py>=3.8; extra == "convert"',
    "PyYAML>=6.0; python_version > '3' and extra == 'yaml'",
    'dask[array,dataframe]>=2024.5; extra == "dask"',
    'pyarrow>=99; extra == "bench"',
    'fastbilstm[convert,dask,yaml]; extra == "all"',
]
ASKED = {
    ("h5py", "convert"): "h5py>=3.8",
    ("PyYAML", "yaml"): "PyYAML>=6.0",
    ("dask", "dask"): "dask[array,dataframe]>=2024.5",
    ("pyarrow", "parquet"): "pyarrow",
}


@pytest.mark.parametrize(("package", "extra"), ASKED)
def test_missing_package_is_installed_by_its_own_name(package, extra, monkeypatch):
    """No index need know this project; the versions are those that the installed package recorded."""
    monkeypatch.setattr(importlib.metadata, "requires", {"fastbilstm": RECORDED}.get)
    message = str(errors.MissingExtraError(package, extra, "this"))
    assert message == f"this needs {package}; install it with: pip install '{ASKED[package, extra]}'"


def test_missing_package_where_nothing_is_installed(monkeypatch):
    """In a clone on PYTHONPATH, and where a bundler left the records out."""

    def requires(name):
        raise importlib.metadata.PackageNotFoundError(name)

    for found in (requires, lambda name: None):
        monkeypatch.setattr(importlib.metadata, "requires", found)
        assert str(errors.MissingExtraError("h5py", "convert", "this")).endswith("pip install 'h5py'")
