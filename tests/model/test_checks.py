"""A command never writes over what it reads: a target that is one of its files, under whatever name, is refused."""

import json
import os
import shutil

import make_files as mf
import numpy as np
import pytest
from small_files import save_model

import fastbilstm
from fastbilstm.checks import check_not_read, is_same_file
from fastbilstm.cli import commands as cli

LINKS = ["itself", "another spelling", "symbolic link", "hard link", "folder behind a link"]


def alias(path, how):
    """Another path to the same file."""
    link = path.with_name(f"alias{path.suffix}")
    try:
        if how == "another spelling":
            return path.parent / "inner" / ".." / path.name
        if how == "symbolic link":
            link.symlink_to(path)
        elif how == "hard link":
            link.hardlink_to(path)
        elif how == "folder behind a link":
            link.symlink_to(path.parent, target_is_directory=True)
            return link / path.name
        else:
            return path
    except OSError:
        pytest.skip("no links here")
    return link


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("checks") / "model.fbl")


@pytest.fixture
def folder(model, tmp_path):
    (tmp_path / "inner").mkdir()
    shutil.copy(model, tmp_path)
    np.save(tmp_path / "ids.npy", np.ones((2, 6), np.int32))
    net = mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(), mf.dense())
    (tmp_path / "net.h5").write_bytes(mf.h5(net))
    (tmp_path / "net.json").write_text(json.dumps(net))
    return tmp_path


@pytest.mark.parametrize("how", LINKS)
def test_one_file(how, folder):
    path = folder / "ids.npy"
    assert is_same_file(alias(path, how), path) and is_same_file(path, alias(path, "itself"))
    assert not is_same_file(path, folder / "model.fbl")
    with pytest.raises(fastbilstm.InputError, match="is read by this very command"):
        check_not_read(os.fspath(path), [None, {"class_name": "Model"}, "{}", folder / "model.fbl", path])
    check_not_read(path, [None, {"class_name": "Model"}, b"bytes", "{}", "a\0b", "x" * 5000, folder / "gone.npy"])


def test_files_that_are_not_there_yet(folder):
    gone = folder / "gone.npy"
    assert is_same_file(gone, folder / "inner" / ".." / "gone.npy") and not is_same_file(gone, folder / "other.npy")
    link = alias(folder / "new.npy", "folder behind a link")
    assert is_same_file(link, folder / "new.npy")


@pytest.mark.parametrize("how", LINKS)
@pytest.mark.parametrize(
    "command, read",
    [
        ("predict model.fbl ids.npy --overwrite -o", "ids.npy"),
        ("predict model.fbl ids.npy --overwrite --output-format npy -o", "model.fbl"),
        ("predict net.h5 ids.npy --config net.json --overwrite --output-format npy -o", "net.json"),
        ("predict model.fbl ids.npy -o out.npy --on-error skip --overwrite --errors", "ids.npy"),
        ("report model.fbl --overwrite -o", "model.fbl"),
        ("report model.fbl --against net.h5 --overwrite -o", "net.h5"),
        ("report net.h5 --config net.json --overwrite -o", "net.json"),
    ],
)
def test_commands(command, read, how, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    target = alias(folder / read, how)
    code = cli.main([*command.split(), str(target)])
    assert code == 2 and f"{target}: is read by this very command" in capsys.readouterr().err
    assert all((folder / name).read_bytes() == content for name, content in before.items())
    assert not (folder / "out.npy").exists()


def test_the_bad_rows_are_not_the_output(folder, capsys):
    target = folder / "out.npy"
    link = alias(folder / "out.npy", "folder behind a link")
    line = ["predict", folder / "model.fbl", folder / "ids.npy", "-o", target, "--on-error", "skip", "--errors", link]
    assert cli.main(list(map(str, line))) == 2 and "is the output" in capsys.readouterr().err
