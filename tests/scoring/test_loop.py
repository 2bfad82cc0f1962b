"""Chunks of files and of arrays, scored a few ahead: `fastbilstm predict` and `Model.predict_iter`.

Order, progress, bounded memory.
"""

import itertools
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from paths import DEMO
from small_files import FORMATS_IN, given_columns, make_ids, run, write_rows

import fastbilstm
from fastbilstm import InputError
from fastbilstm.cli import progress
from fastbilstm.scoring import line_readers, parquet
from fastbilstm.scoring import loop as chunks
from fastbilstm.scoring import readers as files


def test_a_stateful_model_takes_its_rows_in_order(tmp_path, capsys, small_chunks):
    from built_nets import Net

    net = Net(ids=True, batch=4)
    net.dense("dense", net.lstm("lstm", net.embedding(), stateful=True), 3, 1)
    model, ids = tmp_path / "model.fbl", make_ids(24)
    fastbilstm.load(net.content("dense")).save(model)
    expected = fastbilstm.load(model).predict(ids)
    assert not np.array_equal(fastbilstm.load(model).predict(ids[4:8]), expected[4:8])
    path = write_rows(tmp_path / "in.txt", ids)
    line = ["predict", model, path, "-o", tmp_path / "out.npy"]
    assert run(capsys, *line, *small_chunks) == (0, "") and np.array_equal(np.load(tmp_path / "out.npy"), expected)
    for option in (["--resume"], ["--on-error", "skip"], ["--dask", "tcp://127.0.0.1:1"]):
        code, err = run(capsys, *line, "--overwrite", *option)
        assert code == 2 and ("'lstm'" in err or "other rows of a batch" in err)
    with pytest.raises(fastbilstm.InputError, match="'lstm' is stateful"):
        fastbilstm.BatchPredictor(model)({"x": ids[:4]})


def test_progress_is_for_a_terminal(model, tmp_path, capsys, monkeypatch, small_chunks):
    path = write_rows(tmp_path / "in.csv", make_ids(40))
    command = ["predict", model, path, "--columns", "x", *small_chunks]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    code, err = run(capsys, *command, "-o", tmp_path / "a.csv")
    assert code == 0 and "rows/s" in err and "left" in err and "40 rows in" in err and err.endswith("\n")
    assert run(capsys, *command, "-o", tmp_path / "b.csv", "--quiet") == (0, "")


def test_progress_elsewhere_is_a_line_a_minute(model, tmp_path, capsys, monkeypatch, small_chunks):
    path, clock = write_rows(tmp_path / "in.csv", make_ids(40)), itertools.count(0, 31)
    command = ["predict", model, path, "--columns", "x", *small_chunks]
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    code, err = run(capsys, *command, "-o", tmp_path / "a.csv")
    lines = err.splitlines()
    # A look at each chunk of 8 rows, 31 seconds apart (others read this clock, too).
    assert code == 0 and 2 <= len(lines) <= 5 and "\r" not in err
    assert all(re.fullmatch(r"fastbilstm: \d+ rows, \d+ %, \d+ rows/s, [\d:.]+ left", line) for line in lines), err
    assert run(capsys, *command, "-o", tmp_path / "b.csv", "--quiet") == (0, "")


def test_memory_does_not_grow_with_the_file(model, tmp_path):
    """Lines of one length each; the second file has ten times the rows."""
    resource = pytest.importorskip("resource", reason="needs the peak memory of a process")
    code = (
        "import sys, fastbilstm.cli as c; c.main(sys.argv[1:]); import resource as r; print(r.getrusage(0).ru_maxrss)"
    )
    peaks = []
    for rows in (20_000, 200_000):
        (tmp_path / "in.txt").write_bytes(b"1 2 3\n" * rows)
        command = [sys.executable, "-c", code, "predict", model, tmp_path / "in.txt", "-o", tmp_path / "out.csv"]
        done = subprocess.run([*map(str, command), "--overwrite"], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 8_000 * resource.getpagesize() // 4096, peaks


def test_chunks_are_bounded_by_bytes_too(model, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CHUNK_BYTES", 600)
    for module in (parquet, line_readers):
        monkeypatch.setattr(module, "CHUNK_BYTES", 600)
    ids = make_ids(50)
    loaded = fastbilstm.load(model)
    for source in FORMATS_IN:
        reader = files.open_input(write_rows(tmp_path / f"in.{source}", ids), source, loaded)
        found = list(reader.chunks(1000, 4))
        assert sum(chunk.rows for chunk in found) == 50 and max(chunk.rows for chunk in found) < 50, source
        assert [chunk.start for chunk in found] == np.cumsum([0, *(chunk.rows for chunk in found[:-1])]).tolist()
        assert all(chunk.rows % 4 == 0 for chunk in found[:-1]) and reader.position() == 1


@pytest.mark.parametrize("source", FORMATS_IN)
def test_predict_iter_of_a_file(source, model, tmp_path, small_chunks):
    loaded, ids = fastbilstm.load(model), make_ids(29)
    path = write_rows(tmp_path / f"in.{source}", ids)
    options = {"columns": "x"} if source in ("csv", "jsonl", "parquet") else {}
    found = list(loaded.predict_iter(path, batch_size=4, **options))
    assert [len(batch["prediction"]) for batch in found] == [8, 8, 8, 5]
    answers = np.concatenate([np.asarray(batch["prediction"]) for batch in found])
    assert np.array_equal(answers, loaded.predict(ids)[:, 0])
    kept = given_columns(path, 29)
    for name in kept:
        values = [getattr(value, "as_py", lambda value=value: value)() for batch in found for value in batch[name]]
        assert [type(value)(other) for value, other in zip(kept[name], values, strict=True)] == kept[name]
    if source in ("npy", "npz"):
        assert list(found[0]) == ["prediction"]


# ---- chunks of arrays ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo():
    return fastbilstm.load(DEMO)


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(3).integers(1, 5000, (7, 400))


def test_predict_iter_gives_what_predict_gives_in_order(demo, ids):
    sizes = [3, 0, 1, 7, 2]
    given = [np.resize(ids, (size, 400)) for size in sizes]
    found = list(demo.predict_iter(iter(given), n_threads=3))
    assert [len(y) for y in found] == sizes
    assert all(np.array_equal(y, demo.predict(x)) for x, y in zip(given, found))
    assert list(demo.predict_iter([])) == []


def test_predict_iter_names_the_chunk_and_gives_those_before(demo, ids):
    wrong = ids.copy()
    wrong[2, 5] = -1
    results = demo.predict_iter([ids, ids, wrong, ids])
    assert len(next(results)) == 7 and len(next(results)) == 7
    with pytest.raises(InputError, match=r"chunk 2: .*\(2, 5\)"):
        next(results)


def test_run_keeps_the_order_and_takes_few_chunks_ahead():
    taken, running = [], []

    def numbers():
        for number in range(30):
            taken.append(number)
            yield number

    def slow(number):
        running.append(number)
        time.sleep(0.002 * (3 - number % 3))
        return number

    results = chunks.run(slow, numbers(), 3)
    for number in range(10):
        assert next(results) == number
        assert len(taken) <= number + 1 + 5
    results.close()
    assert max(running) <= 15
    assert list(chunks.run(lambda x: -x, range(4))) == [0, -1, -2, -3]
