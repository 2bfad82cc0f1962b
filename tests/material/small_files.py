"""A small model over token ids, files of rows for it in every format, and the command line; for tests of files."""

import itertools
import json
import os

import numpy as np
import pytest
from built_nets import Net

import fastbilstm
from fastbilstm.cli import commands as cli
from fastbilstm.scoring import resumable_file

FORMATS_IN = ["npy", "npz", "csv", "jsonl", "txt", "parquet"]
FORMATS_OUT = ["npy", "npz", "csv", "jsonl", "parquet"]
STEPS, VOCABULARY = 6, 50


def save_model(path, units=1):
    """Embedding, LSTM, Dense over ids; returns the path."""
    pytest.importorskip("h5py", reason="the models are written as Keras files")
    net = Net(ids=True)
    net.lstm("lstm", net.embedding())
    activation = "sigmoid" if units == 1 else "softmax"
    net.dense("dense", "lstm", 3, units, activation)
    fastbilstm.load(net.content("dense")).save(path)
    return path


def make_ids(rows, seed=5):
    return np.random.default_rng(seed).integers(1, VOCABULARY, (rows, STEPS))


def notes(rows):
    """A column that goes along: text with what CSV must quote."""
    return [f'note {k}, "ä"\n2nd line' if k % 3 == 0 else f"note {k}" for k in range(rows)]


def write_rows(path, ids, columns=True):
    """A file of `ids`, with the columns n and note where the format has columns."""
    format = path.suffix[1:]
    text = [" ".join(map(str, row)) for row in ids.tolist()]
    if format == "npy":
        np.save(path, ids)
    elif format == "npz":
        np.savez(path, x=ids)
    elif format == "csv":
        import csv

        with open(path, "w", newline="", encoding="utf-8-sig") as file:
            rows = zip(range(len(ids)), text, notes(len(ids)))
            csv.writer(file).writerows([("n", "x", "note"), *rows])
    elif format == "jsonl":
        rows = zip(ids.tolist(), notes(len(ids)))
        lines = (json.dumps({"n": n, "x": row, "note": note}) for n, (row, note) in enumerate(rows))
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    elif format == "txt":
        path.write_text("".join(line + "\n" for line in text))
    else:
        pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
        import pyarrow.parquet as pq

        table = pa.table({"n": range(len(ids)), "x": ids.tolist(), "note": notes(len(ids))})
        pq.write_table(table, path, row_group_size=7)
    return path


def given_columns(path, rows):
    """What goes along from a file of `write_rows`."""
    if path.suffix in (".csv", ".jsonl", ".parquet"):
        return {"n": list(range(rows)), "note": notes(rows)}
    return {}


def read_rows(path):
    """(columns that went along, answers) of an output."""
    format = path.suffix[1:]
    if format == "npy":
        return {}, np.load(path)
    if format == "npz":
        with np.load(path) as npz:
            return {}, npz[npz.files[0]]
    if format == "csv":
        import csv

        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        found = {name: [row[k] for row in rows] for k, name in enumerate(header)}
        answers = found.pop("prediction")
        return found, np.array([np.nan if y == "" else json.loads(y) for y in answers], "f4")
    if format == "jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = {name: [row[name] for row in rows] for name in rows[0]} if rows else {"prediction": []}
    else:
        pytest.importorskip("pyarrow", reason="needs pyarrow")
        import pyarrow.parquet

        found = pyarrow.parquet.read_table(path).to_pydict()
    return found, np.array([np.nan if y is None else y for y in found.pop("prediction")], "f4")


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def run(capsys, *args):
    """(exit code, standard error) of the command."""
    try:
        code = cli.main([str(a) for a in args])
    except SystemExit as error:
        code = error.code
    return code, capsys.readouterr().err


def contents(folder):
    """{name: bytes} of the files in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def write_old(path):
    """60 rows in a file that was last changed in 2001."""
    write_rows(path, make_ids(60))
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


def interrupt(monkeypatch, capsys, line, at=2):
    """The command, stopped by Ctrl-C at a chunk."""
    append, calls = resumable_file.Partial.append, itertools.count()

    def stop(self, pieces):
        if next(calls) == at:
            raise KeyboardInterrupt
        append(self, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(resumable_file.Partial, "append", stop)
        assert run(capsys, *line)[0] == 130
