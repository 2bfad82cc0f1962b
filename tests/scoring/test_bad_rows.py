"""Rows of a file that are refused: told by number and reason; left out or null, and the others keep their answers."""

import json
import shutil

import numpy as np
import pytest
from small_files import FORMATS_OUT, make_ids, read_rows, run

import fastbilstm


def spoil(path, rows):
    """A file of lines with every kind of bad row at 0, 9, 10, 23 and the last; returns their numbers."""
    ids = make_ids(rows)
    lines = [json.dumps({"n": n, "x": row}).encode() for n, row in enumerate(ids.tolist())]
    bad = [0, 9, 10, 23, rows - 1]
    lines[0], lines[9], lines[10] = b'{"n": 0, "x"', b'{"n": 9, "x": [1, 2, 3, 4, 5, 50]}', b'{"n": 10}'
    lines[23], lines[rows - 1] = b'{"n": 23, "x": "\xff"}', b'{"n": 29, "x": "1 2 three 4 5 6"}'
    path.write_bytes(b"\n".join(lines))
    return bad, fastbilstm.load(path.parent / "model.fbl").predict(ids)[:, 0]


@pytest.mark.parametrize("target", FORMATS_OUT)
@pytest.mark.parametrize("how", ["skip", "null"])
def test_bad_rows_are_told_and_others_keep_their_place(how, target, model, tmp_path, capsys, small_chunks):
    shutil.copy(model, tmp_path / "model.fbl")
    rows = 30
    bad, expected = spoil(tmp_path / "in.jsonl", rows)
    command = ["predict", model, tmp_path / "in.jsonl", "--columns", "x", *small_chunks, "-o"]
    code, err = run(capsys, *command, tmp_path / f"out.{target}")
    assert code == 2 and "row 0 (line 1): is no valid JSON" in err
    options = ["--on-error", how, "--errors", tmp_path / "bad.jsonl"]
    if target == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    code, err = run(capsys, *command, tmp_path / f"out.{target}", *options)
    assert code == 0 and "5 of 30 rows" in err and "row 23 (line 24): is no UTF-8" in err
    told = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [entry["row"] for entry in told] == bad and [entry["line"] for entry in told] == [row + 1 for row in bad]
    assert "50" in told[1]["reason"] and "null" in told[2]["reason"] and "three" in told[4]["reason"]
    kept = [row for row in range(rows) if how == "null" or row not in bad]
    columns, answers = read_rows(tmp_path / f"out.{target}")
    answers = answers.reshape(-1)
    expected[bad] = np.nan
    assert np.array_equal(answers, expected[kept], equal_nan=True)
    if columns:
        n = [None if value in (None, "") else int(value) for value in columns["n"]]
        assert n == [row if row not in (0, 23) else None for row in kept]
    assert not list(tmp_path.glob("*partial*"))


def test_only_the_first_bad_rows_are_told(model, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("no\n" * 25 + "1 2\n")
    code, err = run(capsys, "predict", model, tmp_path / "in.txt", "-o", tmp_path / "out.npy", "--on-error", "null")
    assert code == 0 and err.count("\n  row ") == 10 and "and 15 more (--errors FILE lists all)" in err
    (tmp_path / "bad.txt").write_text("no\n" * 25)
    code, err = run(capsys, "predict", model, tmp_path / "bad.txt", "-o", tmp_path / "no.npy", "--on-error", "skip")
    assert code == 2 and "none of the 25 rows" in err and "'no'" in err and not list(tmp_path.glob("no.npy*"))
    assert np.isnan(np.load(tmp_path / "out.npy")[:25]).all() and np.isfinite(np.load(tmp_path / "out.npy")[25]).all()


def test_predict_iter_of_a_file_with_bad_rows(model, tmp_path, small_chunks):
    shutil.copy(model, tmp_path / "model.fbl")
    bad, expected = spoil(tmp_path / "in.jsonl", 30)
    loaded = fastbilstm.load(model)
    with pytest.raises(fastbilstm.InputError, match=r"row 0 \(line 1\): is no valid JSON"):
        next(loaded.predict_iter(tmp_path / "in.jsonl", columns="x"))
    with pytest.warns(RuntimeWarning, match=r"5 rows have no answer; row 0 \(line 1\): is no valid JSON"):
        found = list(loaded.predict_iter(tmp_path / "in.jsonl", 4, columns="x", on_error="skip"))
    n = [value for batch in found for value in batch["n"]]
    assert n == [row for row in range(30) if row not in bad]
    assert np.array_equal(np.concatenate([batch["prediction"] for batch in found]), expected[n])
    with pytest.raises(fastbilstm.InputError, match="columns: options for files"):
        loaded.predict_iter([make_ids(2)], columns="x")
    with pytest.raises(fastbilstm.InputError, match="'n' already"):
        next(loaded.predict_iter(tmp_path / "in.jsonl", 4, columns="x", output="n", on_error="skip"))
