"""Files that change while they are used: a converted file under its model, an input under `predict`.

Whatever is written into a file that is in use, no process ends and no answer is another one.
"""

import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_files import FORMATS_IN, contents, interrupt, make_ids, run, save_model, write_old, write_rows

import fastbilstm
from fastbilstm.converted import fbl_file, mapped_file
from fastbilstm.keras import reader
from fastbilstm.scoring import loop, readers, resumable_file

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
import io, sys, numpy as np, fastbilstm
from fastbilstm.converted import mapped_file
path, mapped_file.MAPPED_FROM = sys.argv[1], int(sys.argv[2])
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
        np.save(file := io.BytesIO(), y)  # it asks a file for its position, which a pipe has only if it is unbuffered
        sys.stdout.buffer.write(file.getvalue())
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
    code, out, err = predict_while(path, CHANGES[change], mapped_file.MAPPED_FROM)
    assert (code, err) == (0, "") and out == expected
    assert path.with_name("model.fbl.again").read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32", reason="a file in use cannot be changed")
@pytest.mark.parametrize("change", ["truncated", "overwritten", "written anew"])
def test_a_large_file_that_was_written_into_is_refused(change, path):
    code, out, err = predict_while(path, CHANGES[change], 100)
    assert code == 1 and out == b"" and err.startswith("refused: ") and "was written into" in err


def test_a_large_file_may_be_replaced(path, monkeypatch):
    """A rename leaves the mapped file as it is, under no name."""
    monkeypatch.setattr(mapped_file, "MAPPED_FROM", 100)
    model, ids = fastbilstm.load(path), make_ids(9)
    expected = model.predict(ids)
    save_model(path.with_name("other.fbl"), units=2).replace(path)
    assert np.array_equal(model.predict(ids), expected) and model.self_check()
    model.save(path, overwrite=True)
    assert np.array_equal(fastbilstm.load(path).predict(ids), expected)
    assert np.array_equal(model.predict(ids), expected)


def test_nothing_is_taken_from_a_large_file_that_was_written_into(path, monkeypatch):
    monkeypatch.setattr(mapped_file, "MAPPED_FROM", 100)
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
    monkeypatch.setattr(mapped_file, "MAPPED_FROM", 100)
    model = fastbilstm.load(path)
    predict = type(model._plan).predict

    def change(self, *args):
        write_into(path, b"\x40", at=path.stat().st_size - 1)
        return predict(self, *args)

    monkeypatch.setattr(type(model._plan), "predict", change)
    with pytest.raises(fastbilstm.FileFormatError, match=MAPPED_MESSAGE):
        model.predict(make_ids(9))


def test_a_large_file_that_changes_between_its_check_and_its_use(path, monkeypatch):
    monkeypatch.setattr(mapped_file, "MAPPED_FROM", 100)
    digest = fbl_file._digest

    def change(header, content):
        found = digest(header, content)
        write_into(path, b"\x40", at=path.stat().st_size - 1)
        return found

    monkeypatch.setattr(fbl_file, "_digest", change)
    with pytest.raises(fastbilstm.FileFormatError, match=MAPPED_MESSAGE):
        fastbilstm.load(path)


def test_bytes_of_a_large_file_are_in_memory(path, monkeypatch):
    monkeypatch.setattr(mapped_file, "MAPPED_FROM", 100)
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


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_ROWS", 8)
    monkeypatch.setattr(resumable_file, "INTERVAL", 0)


# ---- an input that changes -------------------------------------------------------------------------------------------

EDITS = {
    "in place": lambda path: write_into(path, b" ", at=path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "replaced": lambda path: (
        path.with_name("new").write_bytes(path.read_bytes()),
        path.with_name("new").replace(path),
    ),
    "removed": lambda path: path.unlink(),
}


@pytest.mark.skipif(sys.platform == "win32", reason="a file in use cannot be changed")
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("source", FORMATS_IN)
def test_an_input_that_changes_during_the_run(source, edit, path, tmp_path, capsys, monkeypatch, small_chunks):
    given, append = write_old(tmp_path / f"in.{source}"), resumable_file.Partial.append
    options = ["--columns", "x"] if source in ("csv", "jsonl", "parquet") else []

    def change(self, pieces):
        append(self, pieces)
        if given.exists() and given.stat().st_mtime == 1_000_000_000:
            EDITS[edit](given)

    monkeypatch.setattr(resumable_file.Partial, "append", change)
    line = ["predict", path, given, "-o", tmp_path / "out.csv", "--batch-size", 4, *options]
    code, err = run(capsys, *line)
    assert code == 2 and given.name in err, err
    # What is read after the change may be refused for itself.
    damaged = [("in place", "npz"), ("in place", "parquet"), ("longer", "txt")]
    assert "was changed or replaced" in err or (edit, source) in damaged, err
    assert sorted(contents(tmp_path)) == sorted(["model.fbl", *([given.name] if given.exists() else [])])


def test_rows_of_a_file_that_changes_in_python(path, tmp_path, small_chunks):
    given = write_old(tmp_path / "in.txt")
    batches = fastbilstm.load(path).predict_iter(given, batch_size=4)
    next(batches)
    os.utime(given, (2, 2))
    with pytest.raises(fastbilstm.InputError, match=r"in\.txt: was changed or replaced while its rows were read"):
        list(batches)


@pytest.mark.parametrize("source", FORMATS_IN)
def test_another_input_of_the_same_size_and_time_is_not_gone_on_with(
    source, path, tmp_path, capsys, monkeypatch, small_chunks
):
    given = write_old(tmp_path / f"in.{source}")
    options = ["--columns", "x"] if source in ("csv", "jsonl", "parquet") else []
    line = ["predict", path, given, "-o", tmp_path / "out.csv", "--batch-size", 4, *options]
    interrupt(monkeypatch, capsys, line)
    content = given.read_bytes()

    left = {name: held for name, held in contents(tmp_path).items() if name != given.name}
    if source == "npz":  # with its own checksum right
        ids = make_ids(60)
        ids[3, 2] += 1
        write_rows(given, ids)
        assert len(content) == given.stat().st_size
    else:
        write_into(given, bytes([content[len(content) // 8] ^ 1]), at=len(content) // 8)
    os.utime(given, (1_000_000_000, 1_000_000_000))
    code, err = run(capsys, *line, "--resume")
    assert code == 2 and f"{given.name}: --resume: its first" in err and "--overwrite" in err, err
    assert {name: held for name, held in contents(tmp_path).items() if name != given.name} == left
    given.write_bytes(content)
    os.utime(given, (1_000_000_000, 1_000_000_000))
    code, err = run(capsys, *line, "--resume")
    assert code == 0 and "going on after 16 rows" in err
    resumed = (tmp_path / "out.csv").read_bytes()
    assert run(capsys, *line, "--overwrite") == (0, "") and (tmp_path / "out.csv").read_bytes() == resumed


def test_a_large_input_is_read_once_more_up_to_the_rows_done(path, tmp_path, capsys, monkeypatch, small_chunks):
    """What a run notes of its input is the bytes of the rows done, no more; of Parquet those of whole row groups."""
    for source in ("npy", "jsonl", "txt", "csv", "parquet"):
        given = write_old(tmp_path / f"in.{source}")
        options = ["--columns", "x"] if source in ("csv", "jsonl", "parquet") else []
        line = ["predict", path, given, "-o", tmp_path / f"{source}.npy", "--batch-size", 4, *options]
        interrupt(monkeypatch, capsys, line)
        entry = json.loads((tmp_path / f"{source}.npy.partial.journal").read_text().splitlines()[-1])
        part = entry["read"][0] / given.stat().st_size
        assert entry["rows"] == 16 and 0.15 < part < 0.45, (source, part)


@pytest.mark.parametrize("name", ["model.fbl", "in.txt"])
def test_a_file_that_is_replaced_while_the_run_begins(name, path, tmp_path, capsys, monkeypatch):
    """The journal would name another file than the one that was read."""
    given = write_old(tmp_path / "in.txt")
    open_input = readers.open_input

    def replaced(*args):
        opened = open_input(*args)
        (tmp_path / "new").write_bytes((tmp_path / name).read_bytes())
        (tmp_path / "new").replace(tmp_path / name)
        return opened

    monkeypatch.setattr(readers, "open_input", replaced)
    code, err = run(capsys, "predict", path, given, "-o", tmp_path / "out.csv")
    assert code == 2 and f"{name}: was changed or replaced while it was read" in err
    assert sorted(contents(tmp_path)) == ["in.txt", "model.fbl"]
