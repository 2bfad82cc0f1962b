"""Files that change while they are used: a converted file under its model, an input under `predict`, names beside it.

Whatever is written into a file that is in use, no process ends, no answer is another one, and nothing of the user's is
written over.
"""

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_files import make_ids, save_model

import fastbilstm
from fastbilstm import loading, safe_files
from fastbilstm.converted import fbl_file
from fastbilstm.keras import reader

ROOT = Path(fastbilstm.__file__).parents[1]
MAPPED_MESSAGE = r"model\.fbl: was written into after it was loaded"


@pytest.fixture
def path(tmp_path):
    save_model(tmp_path / "model.fbl")
    os.utime(tmp_path / "model.fbl", (1, 1))
    return tmp_path / "model.fbl"


def write_into(path, content, at=0):
    """In place, as `cp` and a sloppy deployment write: the name leads to the same file."""
    with open(path, "rb+") as file:
        file.seek(at)
        file.write(content)


# ---- a converted file under its model --------------------------------------------------------------------------------

PREDICTS = """
import sys, numpy as np, fastbilstm
from fastbilstm.converted import fbl_file
path, fbl_file.MAPPED_FROM = sys.argv[1], int(sys.argv[2])
models = [fastbilstm.load(path, backend=backend) for backend in ("auto", "numpy")]
ids = np.random.default_rng(5).integers(1, 50, (400, 6))
first = [model.predict(ids[:1]) for model in models]
print("ready", flush=True)
sys.stdin.readline()
for k in range(400):
    try:
        answers = [model.predict(ids[k : k + 1]) for model in models]
    except fastbilstm.FileFormatError as error:
        sys.exit(f"refused: {error}")
    for y in answers:
        np.save(sys.stdout.buffer, y)
models[0].save(path + ".again")
"""
CHANGES = {
    "truncated": lambda path: os.truncate(path, 0),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "overwritten": lambda path: write_into(path, b"\x40" * path.stat().st_size),
    "written anew": lambda path: path.write_bytes(b"\x40" * 3 * path.stat().st_size),
    "removed": lambda path: path.unlink(),
}


def predict_while(path, change, mapped_from):
    """(exit code, answers, standard error) of a process whose file changes between two of its predictions."""
    program = [sys.executable, "-c", PREDICTS, str(path), str(mapped_from)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(program, env=environment, **pipes) as process:
        assert process.stdout.readline() == b"ready\n", process.stderr.read()
        change(path)
        out, err = process.communicate(b"\n", timeout=60)
    return process.returncode, out, err.decode()


def saved(arrays):
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array)
    return file.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="a file in use cannot be changed")
@pytest.mark.parametrize("change", CHANGES)
def test_a_small_file_may_change_under_its_model(change, path):
    ids, content = np.random.default_rng(5).integers(1, 50, (400, 6)), path.read_bytes()
    models = [fastbilstm.load(path, backend=backend) for backend in ("auto", "numpy")]
    expected = saved(model.predict(ids[k : k + 1]) for k in range(400) for model in models)
    code, out, err = predict_while(path, CHANGES[change], fbl_file.MAPPED_FROM)
    assert (code, err) == (0, "") and out == expected
    assert path.with_name("model.fbl.again").read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32", reason="a file in use cannot be changed")
@pytest.mark.parametrize("change", ["truncated", "overwritten", "written anew"])
def test_a_large_file_that_was_written_into_is_refused(change, path):
    code, out, err = predict_while(path, CHANGES[change], 100)
    assert code == 1 and out == b"" and err.startswith("refused: ") and "was written into" in err


def test_a_large_file_may_be_replaced(path, monkeypatch):
    """A rename leaves the mapped file as it is, under no name."""
    monkeypatch.setattr(fbl_file, "MAPPED_FROM", 100)
    model, ids = fastbilstm.load(path), make_ids(9)
    expected = model.predict(ids)
    save_model(path.with_name("other.fbl"), units=2).replace(path)
    assert np.array_equal(model.predict(ids), expected) and model.self_check()
    model.save(path, overwrite=True)
    assert np.array_equal(fastbilstm.load(path).predict(ids), expected)
    assert np.array_equal(model.predict(ids), expected)


def test_nothing_is_taken_from_a_large_file_that_was_written_into(path, monkeypatch):
    monkeypatch.setattr(fbl_file, "MAPPED_FROM", 100)
    model, ids = fastbilstm.load(path), make_ids(9)
    stream = model.stream(9)
    stream.push(ids[:, 0])
    write_into(path, b"\x40", at=path.stat().st_size - 1)
    uses = {
        "predict": lambda: model.predict(ids),
        "call": lambda: model(ids),
        "stream": lambda: stream.push(ids[:, 1]),
        "get_weights": model.get_weights,
        "save": lambda: model.save(path.with_name("again.fbl")),
        "self_check": model.self_check,
        "pickle": lambda: pickle.dumps(model),
    }
    for name, use in uses.items():
        with pytest.raises(fastbilstm.FileFormatError, match=MAPPED_MESSAGE):
            use()
            pytest.fail(name)
    assert [p.name for p in path.parent.iterdir()] == ["model.fbl"]


def test_a_large_file_that_changes_while_it_predicts(path, monkeypatch):
    """The pages may have been read before the change or after it: there is no answer."""
    monkeypatch.setattr(fbl_file, "MAPPED_FROM", 100)
    model = fastbilstm.load(path)
    predict = type(model._plan).predict

    def change(self, *args):
        write_into(path, b"\x40", at=path.stat().st_size - 1)
        return predict(self, *args)

    monkeypatch.setattr(type(model._plan), "predict", change)
    with pytest.raises(fastbilstm.FileFormatError, match=MAPPED_MESSAGE):
        model.predict(make_ids(9))


def test_a_large_file_that_changes_between_its_check_and_its_use(path, monkeypatch):
    monkeypatch.setattr(fbl_file, "MAPPED_FROM", 100)
    digest = fbl_file._digest

    def change(header, content):
        found = digest(header, content)
        write_into(path, b"\x40", at=path.stat().st_size - 1)
        return found

    monkeypatch.setattr(fbl_file, "_digest", change)
    with pytest.raises(fastbilstm.FileFormatError, match=MAPPED_MESSAGE):
        fastbilstm.load(path)


def test_bytes_of_a_large_file_are_in_memory(path, monkeypatch):
    monkeypatch.setattr(fbl_file, "MAPPED_FROM", 100)
    model, ids = fastbilstm.load(path.read_bytes()), make_ids(9)
    expected = model.predict(ids)
    os.truncate(path, 0)
    assert np.array_equal(model.predict(ids), expected) and model.self_check()


def test_a_keras_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    import make_files as mf

    (tmp_path / "net.h5").write_bytes(mf.h5())
    read = reader.read_keras

    def change(source, *args):
        found = read(source, *args)
        os.utime(source, (1, 1))
        return found

    monkeypatch.setattr(reader, "read_keras", change)
    with pytest.raises(fastbilstm.FileFormatError, match=r"net\.h5: was changed or replaced while it was read"):
        fastbilstm.load(tmp_path / "net.h5")


# ---- a file that is written ------------------------------------------------------------------------------------------


def test_convert_never_writes_over_what_it_reads(tmp_path):
    import make_files as mf

    source, labels = tmp_path / "net.h5", tmp_path / "labels.txt"
    source.write_bytes(mf.h5())
    labels.write_text("a\nb\n")
    os.link(source, tmp_path / "other name.h5")
    for target in (source, tmp_path / "other name.h5", labels):
        with pytest.raises(fastbilstm.InputError, match="is read by this very command"):
            fastbilstm.convert(source, target, labels=labels, overwrite=True)
    assert source.read_bytes() == mf.h5() and labels.read_text() == "a\nb\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs permissions and links")
def test_permissions_of_converted_files(tmp_path):
    import make_files as mf

    target = tmp_path / "net.fbl"
    before = os.umask(0o027)
    try:
        fastbilstm.convert(mf.h5(), target)
        assert target.stat().st_mode & 0o777 == 0o640
        for mode in (0o600, 0o664):
            target.chmod(mode)
            fastbilstm.convert(mf.h5(), target, overwrite=True)
            assert target.stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


@pytest.mark.skipif(sys.platform == "win32", reason="needs permissions and links")
def test_a_link_without_a_file_is_an_existing_target(tmp_path):
    import make_files as mf

    (tmp_path / "net.fbl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(fastbilstm.FileFormatError, match="exists already"):
        fastbilstm.convert(mf.h5(), tmp_path / "net.fbl")
    fastbilstm.convert(mf.h5(), tmp_path / "net.fbl", overwrite=True)
    assert not (tmp_path / "net.fbl").is_symlink() and not (tmp_path / "elsewhere").exists()


def test_a_target_that_appears_while_its_content_is_written(path, monkeypatch):
    to_disk, target = safe_files.to_disk, path.with_name("again.fbl")

    def appear(file):
        to_disk(file)
        target.write_text("mine")

    model = loading.load(path)
    monkeypatch.setattr(safe_files, "to_disk", appear)
    with pytest.raises(fastbilstm.FileFormatError, match=r"again\.fbl: exists already"):
        model.save(target)
    assert target.read_text() == "mine"
    assert sorted(p.name for p in path.parent.iterdir()) == ["again.fbl", "model.fbl"]
