"""`fastbilstm predict` over files: every format to every format, wrong input by row and reason, bounded memory."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from paths import FORMAT_V1
from small_files import FORMATS_IN, FORMATS_OUT, STEPS, make_ids, notes, read_rows, run, save_model, write_rows

import fastbilstm
from fastbilstm.scoring import loop as chunks
from fastbilstm.scoring import readers as files


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "model.fbl")


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 8 rows, where a batch has 4."""
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 8)
    return ["--batch-size", 4]


def given_columns(path, rows):
    """What goes along from a file of `write_rows`."""
    if path.suffix in (".csv", ".jsonl", ".parquet"):
        return {"n": list(range(rows)), "note": notes(rows)}
    return {}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [29, 8, 1])
@pytest.mark.parametrize("source", FORMATS_IN)
def test_every_format_to_every_format(source, rows, model, tmp_path, capsys, small_chunks):
    ids = make_ids(rows)
    expected = fastbilstm.load(model).predict(ids)
    path = write_rows(tmp_path / f"in.{source}", ids)
    options = ["--columns", "x"] if source in ("csv", "jsonl", "parquet") else []
    for target in FORMATS_OUT:
        out = tmp_path / f"out.{target}"
        assert run(capsys, "predict", model, path, "-o", out, *options, *small_chunks) == (0, "")
        columns, answers = read_rows(out)
        whole = target in ("npy", "npz")
        assert answers.dtype == np.float32 and np.array_equal(answers, expected if whole else expected[:, 0])
        for name, values in {} if whole else given_columns(path, rows).items():
            found = columns[name]
            assert [type(value)(other) for value, other in zip(values, found)] == values and len(found) == rows
    assert names_in(tmp_path) == sorted([path.name, *(f"out.{target}" for target in FORMATS_OUT)])


def test_npy_is_what_numpy_saves(model, tmp_path, capsys, small_chunks):
    ids = make_ids(21)
    path = write_rows(tmp_path / "in.npy", ids)
    assert run(capsys, "predict", model, path, "-o", tmp_path / "out.npy", *small_chunks) == (0, "")
    np.save(tmp_path / "expected.npy", fastbilstm.load(model).predict(ids))
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()


@pytest.mark.parametrize("change", ["fortran", "u2", "big endian", "compressed", "float"])
def test_arrays_as_numpy_writes_them(change, model, tmp_path, capsys, small_chunks):
    ids = make_ids(29)
    expected = fastbilstm.load(model).predict(ids)
    x = {
        "fortran": np.asfortranarray(ids),
        "u2": ids.astype("u2"),
        "big endian": ids.astype(">i4"),
        "compressed": ids,
        "float": ids.astype("f4"),
    }[change]
    path = tmp_path / ("in.npz" if change == "compressed" else "in.npy")
    np.savez_compressed(path, other=np.zeros(3), x=x) if change == "compressed" else np.save(path, x)
    assert run(capsys, "predict", model, path, "-o", tmp_path / "out.npy", *small_chunks)[0] == 0
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected)


def test_vectors_are_json_in_csv_and_lists_elsewhere(tmp_path, capsys, small_chunks):
    model, ids = save_model(tmp_path / "model.fbl", units=4), make_ids(11)
    expected = fastbilstm.load(model).predict(ids)
    path = write_rows(tmp_path / "in.txt", ids)
    for target in FORMATS_OUT:
        assert run(capsys, "predict", model, path, "-o", tmp_path / f"out.{target}", *small_chunks)[0] == 0
        assert np.array_equal(read_rows(tmp_path / f"out.{target}")[1], expected)


def test_several_inputs_and_outputs_in_columns(tmp_path, capsys, small_chunks):
    rows, rng = 19, np.random.default_rng(2)
    given = {"ids": rng.integers(1, 5, (rows, 3)), "extra": rng.standard_normal((rows, 2)).astype("f4")}
    add, sequences = fastbilstm.load(FORMAT_V1).predict(given)
    lines = [
        {"tokens": a.tolist(), "e1": float(b[0]), "e2": float(b[1]), "key": str(k)}
        for k, (a, b) in enumerate(zip(*given.values()))
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--columns", "ids=tokens", "--columns", "extra=e*", "--output-column", "y", *small_chunks]
    assert run(capsys, "predict", FORMAT_V1, tmp_path / "in.jsonl", "-o", tmp_path / "y.jsonl", *options) == (0, "")
    found = [json.loads(line) for line in (tmp_path / "y.jsonl").read_text().splitlines()]
    assert [row["key"] for row in found] == [row["key"] for row in lines]
    assert np.array_equal(np.array([row["y_add"] for row in found], "f4"), add)
    assert np.array_equal(np.array([row["y_bidirectional"] for row in found], "f4"), sequences)
    assert run(capsys, "predict", FORMAT_V1, tmp_path / "in.jsonl", "-o", tmp_path / "y.npz", *options) == (0, "")
    with np.load(tmp_path / "y.npz") as npz:
        assert npz.files == ["add", "bidirectional"] and np.array_equal(npz["add"], add)
    code, err = run(capsys, "predict", FORMAT_V1, tmp_path / "in.jsonl", "-o", tmp_path / "y.npy", *options)
    assert code == 2 and "2 outputs" in err and ".npz" in err


def test_small_things_of_text_formats(model, tmp_path, capsys):
    expected = fastbilstm.load(model).predict([[1, 2], [3, 4]])[:, 0]
    cases = {
        "semicolon.csv": (b"a;b\r\n1 2;x\r\n\r\n3 4;y", ["--delimiter", ";", "--columns", "a"]),
        "only.csv": (b"whatever\n1 2\n3 4\n", []),
        "numbers.csv": (b"id,t0,t1\n7,1,2\n8,3.0,4\n", ["--columns", "t0,t1"]),
        "lists.jsonl": (b"[1, 2]\n\n[3, 4]", []),
        "bom.txt": (b"\xef\xbb\xbf1 2\r\n3 4", []),
        "dictionary": (b"1 2\n3 4\n", ["--input-format", "txt"]),
    }
    for name, (content, options) in cases.items():
        (tmp_path / name).write_bytes(content)
        target = tmp_path / "out.npy"
        assert run(capsys, "predict", model, tmp_path / name, "-o", target, "--overwrite", *options) == (0, ""), name
        assert np.array_equal(np.load(target)[:, 0], expected)


def test_parquet_keeps_types_and_reads_dictionaries(model, tmp_path, capsys, small_chunks):
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    import datetime

    import pyarrow.parquet as pq

    ids = make_ids(20)
    table = pa.table(
        {
            "x": pa.array(ids.tolist(), pa.list_(pa.int32())),
            "day": pa.array([datetime.date(2024, 1, 1 + k) for k in range(20)]),
            "kind": pa.array(["a", "b"] * 10).dictionary_encode(),
            "maybe": pa.array([None] * 19 + [1.5]),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    command = ["predict", model, tmp_path / "in.parquet", "--columns", "x", *small_chunks, "-o"]
    assert run(capsys, *command, tmp_path / "out.parquet") == (0, "")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.column_names == ["x", "day", "kind", "maybe", "prediction"]
    assert found.schema.field("day").type == pa.date32() and found.schema.field("prediction").type == pa.float32()
    assert found.select(["x", "day", "maybe"]).equals(table.select(["x", "day", "maybe"]))
    assert found["kind"].to_pylist() == ["a", "b"] * 10
    assert run(capsys, *command, tmp_path / "out.jsonl") == (0, "")
    assert json.loads((tmp_path / "out.jsonl").read_text().splitlines()[1])["day"] == "2024-01-02"


def test_no_rows_in_no_rows_out(model, tmp_path, capsys):
    empty = make_ids(0).reshape(0, STEPS)
    for source in ("npy", "npz", "csv", "parquet"):
        path = write_rows(tmp_path / f"in.{source}", empty)
        for target in FORMATS_OUT:
            options = ["--columns", "x"] if source in ("csv", "parquet") else []
            out = tmp_path / f"out.{target}"
            code, err = run(capsys, "predict", model, path, "-o", out, "--overwrite", *options)
            assert (code, err) == (0, ""), (source, target)
            assert len(read_rows(out)[1]) == 0
    assert (tmp_path / "out.csv").read_text() == "n,x,note,prediction\n"


# ---- wrong input -----------------------------------------------------------------------------------------------------

GOOD = b"1 2 3"
WRONG = {
    # name: (content, options, parts of the message)
    "empty.csv": (b"", [], ["empty.csv", "is empty"]),
    "empty.jsonl": (b"", [], ["is empty"]),
    "empty.npy": (b"", [], ["is empty", ".npy"]),
    "none.csv": (b"\n1 2\n", [], ["first line is empty"]),
    "column.csv": (b"a,b\n1 2,3\n", [], ["'x'", "'a', 'b'", "--columns"]),
    "missing.csv": (b"a,b\n1 2,3\n", ["--columns", "ids"], ["no column 'ids'", "'a', 'b'"]),
    "text.csv": (b"a,b\n1 2,3\n", ["--text-column", "a"], ["takes no text", "--tokenizer"]),
    "type.csv": (b"a,b\n1 2,3\nhello,4\n", ["--columns", "a"], ["row 1 (line 3)", "'a'", "'hello'"]),
    "few.csv": (b'a,b\n1 2,"3\n3"\n1 2\n', ["--columns", "a"], ["row 1 (line 4)", "1 fields", "2"]),
    "many.csv": (b"a,b\n1 2,3,4\n", ["--columns", "a"], ["row 0 (line 2)", "3 fields"]),
    "quote.csv": (b'a,b\n1 2,3\n"1 2,3\n1 2,3\n', ["--columns", "a"], ["line 3", "CSV", "uncertain"]),
    "twice.csv": (b"a,a\n1 2,3\n", ["--columns", "a"], ["'a' twice"]),
    "taken.csv": (b"a,prediction\n1 2,3\n", ["--columns", "a"], ["'prediction' already", "--output-column"]),
    "utf8.csv": (b"a,b\n1 2,3\n1 2,caf\xe9\n", ["--columns", "a"], ["row 1 (line 3)", "UTF-8", "0xe9"]),
    "header.csv": (b"caf\xe9,b\n1 2,3\n", ["--columns", "b"], ["line 1", "UTF-8"]),
    "utf16.csv": ("a,b\n1 2,3\n".encode("utf-16"), ["--columns", "b"], ["line 1", "UTF-8"]),
    "nul.csv": (b"a,b\n1 2,\0\n", ["--columns", "a"], ["row 0 (line 2)", "NUL"]),
    "utf8.txt": (b"1 2\n1 \xff\n", [], ["row 1 (line 2)", "UTF-8", "0xff"]),
    "mac.txt": (b"1 2\r3 4\r", [], ["row 0 (line 1)", "carriage return"]),
    "mac.csv": (b"x\r1 2\r3 4\r", [], ["CSV", "line 1"]),
    "nul.txt": (b"1 2\n1\x00 2\n", [], ["row 1 (line 2)", "NUL"]),
    "range.txt": (b"1 2\n3 50\n", [], ["row 1 (line 2)", "position (1, 1) is 50", "0 to 49"]),
    "syntax.jsonl": (b'{"x": [1, 2]}\n\n{"x": [1, 2}\n', [], ["row 1 (line 3)", "JSON"]),
    "scalar.jsonl": (b'{"x": [1, 2]}\n3\n', [], ["row 1 (line 2)", "type int"]),
    "null.jsonl": (b'{"x": [1, 2]}\n{"y": [1, 2]}\n', [], ["row 1 (line 2)", "'x'", "null"]),
    "deep.jsonl": (b"[" * 100_000 + b"\n", [], ["row 0 (line 1)", "JSON"]),
    "bytes.npy": (b"no array", [], ["bytes.npy", ".npy"]),
    "zip.npz": (b"PK\x03\x04 and no more", [], ["zip.npz", ".npz"]),
    "what.parquet": (b"PAR1 and no more PAR1", [], ["what.parquet", "Parquet"]),
    "what.xls": (b"\xd0\xcf\x11\xe0", [], ["what.xls", "--input-format"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_told_and_nothing_is_written(name, model, tmp_path, capsys):
    content, options, parts = WRONG[name]
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    (tmp_path / name).write_bytes(content)
    for target in ("out.csv", "out.npy"):
        if target == "out.npy" and "--output-column" in parts:
            continue  # arrays have no columns
        code, err = run(capsys, "predict", model, tmp_path / name, "-o", tmp_path / target, *options)
        assert code == 2 and err.startswith("fastbilstm: "), err
        assert [part for part in parts if part not in err] == [], err
        assert names_in(tmp_path) == [name]


@pytest.mark.parametrize("keep", [0.5, 0.97])
@pytest.mark.parametrize("source", ["npy", "npz", "parquet"])
def test_truncated_files(source, keep, model, tmp_path, capsys, small_chunks):
    path = write_rows(tmp_path / f"in.{source}", make_ids(400))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    code, err = run(capsys, "predict", model, path, "-o", tmp_path / "out.csv", *small_chunks)
    assert code == 2 and path.name in err and names_in(tmp_path) == [path.name]


def test_damage_in_the_middle_of_an_archive(model, tmp_path, capsys, small_chunks):
    path = tmp_path / "in.npz"
    np.savez_compressed(path, x=make_ids(4000))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    code, err = run(capsys, "predict", model, path, "-o", tmp_path / "out.npy", *small_chunks)
    assert code == 2 and "in.npz" in err and names_in(tmp_path) == ["in.npz"]


def test_wrong_arrays(model, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("x.npy", b"no array")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "scalar.npy", 3)
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    np.save(tmp_path / "frames.npy", np.zeros((3, 4, 5)))
    np.savez(tmp_path / "names.npz", a=make_ids(2), b=make_ids(2))
    for name, part in {
        "text.npz": "magic",
        "objects.npy": "pickle",
        "scalar.npy": "single number",
        "text.npy": "expected numbers",
        "frames.npy": "4, 5)",
        "names.npz": "'a', 'b'",
    }.items():
        code, err = run(capsys, "predict", model, tmp_path / name, "-o", tmp_path / "out.npy")
        assert code == 2 and part in err and not list(tmp_path.glob("out*")), (name, err)


def test_a_token_id_out_of_range_in_row_123456(model, tmp_path, capsys):
    lines = [b"1 2 3\n"] * 123_500
    lines[123_456] = b"1 2 77\n"
    path = tmp_path / "in.txt"
    path.write_bytes(b"".join(lines))
    code, err = run(capsys, "predict", model, path, "-o", tmp_path / "out.csv")
    assert code == 2 and "row 123456 (line 123457): " in err and "position (123456, 2) is 77" in err
    assert names_in(tmp_path) == ["in.txt"]
    ids = np.full((123_500, 3), 1, "u1")
    ids[123_456, 2] = 77
    np.save(tmp_path / "in.npy", ids)
    code, err = run(capsys, "predict", model, tmp_path / "in.npy", "-o", tmp_path / "out.npy")
    assert code == 2 and "row 123456: " in err and not (tmp_path / "out.npy").exists()
    code, err = run(capsys, "predict", model, path, "-o", tmp_path / "out.npy", "--on-error", "skip")
    assert code == 0 and "1 of 123,500 rows were left out" in err and "row 123456" in err
    assert len(np.load(tmp_path / "out.npy")) == 123_499


def test_wrong_use(model, tmp_path, capsys):
    path = write_rows(tmp_path / "in.csv", make_ids(3))
    existing = tmp_path / "there.csv"
    existing.write_text("mine")
    cases = [
        ([path], "-o"),
        ([path, "-o", tmp_path / "no" / "out.csv"], "does not exist"),
        ([path, "-o", tmp_path / "out.xls"], ".xls"),
        ([path, "-o", tmp_path / "out.txt"], "--output-format"),
        ([path, "-o", path, "--overwrite"], "another file"),
        ([path, "-o", model, "--overwrite", "--output-format", "csv"], "another file"),
        ([path, "-o", existing], "exists already"),
        ([path, "-o", tmp_path, "--output-format", "csv"], "is a folder"),
        ([tmp_path, "-o", tmp_path / "out.csv"], "is a folder"),
        ([tmp_path / "none.csv", "-o", tmp_path / "out.csv"], "none.csv"),
        ([path, "-o", tmp_path / "out.csv", "--delimiter", "ab"], "--delimiter"),
        ([path, "-o", tmp_path / "out.csv", "--batch-size", 0, "--columns", "x"], "batch_size is 0"),
        ([path, "-o", tmp_path / "out.csv", "--errors", tmp_path / "e.jsonl"], "--on-error"),
        ([path, "-o", tmp_path / "out.csv", "--columns", "x", "--columns", "y=note"], "INPUT="),
        ([path, "-o", tmp_path / "out.csv", "--columns", "x", "--text-column", "note"], "both given"),
        ([path, "-o", tmp_path / "out.csv", "--columns", "x", "--pad", "pre"], "--maxlen"),
        ([path, "-o", tmp_path / "out.csv", "--text", "a"], "--text"),
        (["--text", "a"], "takes no text"),
    ]
    for args, part in cases:
        code, err = run(capsys, "predict", model, *args)
        assert code == 2 and part in err, (args, err)
    assert names_in(tmp_path) == ["in.csv", "there.csv"] and existing.read_text() == "mine"
    code, err = run(capsys, "predict", model, path, "-o", existing, "--overwrite", "--columns", "x")
    assert (code, err) == (0, "") and len(read_rows(existing)[1]) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_would_lose_its_first_rows(model, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.csv")
    code, err = run(capsys, "predict", model, tmp_path / "pipe.csv", "-o", tmp_path / "out.csv")
    assert code == 2 and "no regular file" in err


def test_parquet_needs_pyarrow(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "in.parquet").write_bytes(b"PAR1")
    write_rows(tmp_path / "in.txt", make_ids(2))
    for source, target in (("in.parquet", "out.csv"), ("in.txt", "out.parquet")):
        code, err = run(capsys, "predict", model, tmp_path / source, "-o", tmp_path / target)
        assert code == 2 and "pip install 'fastbilstm[parquet]'" in err and not (tmp_path / target).exists()


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


# ---- bad rows --------------------------------------------------------------------------------------------------------


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


# ---- what is needed of a machine -------------------------------------------------------------------------------------


def test_progress_is_for_a_terminal(model, tmp_path, capsys, monkeypatch, small_chunks):
    path = write_rows(tmp_path / "in.csv", make_ids(40))
    command = ["predict", model, path, "--columns", "x", *small_chunks]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    code, err = run(capsys, *command, "-o", tmp_path / "a.csv")
    assert code == 0 and "rows/s" in err and "left" in err and "40 rows in" in err and err.endswith("\n")
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
    ids = make_ids(50)
    loaded = fastbilstm.load(model)
    for source in FORMATS_IN:
        reader = files.open_input(write_rows(tmp_path / f"in.{source}", ids), source, loaded)
        found = list(reader.chunks(1000, 4))
        assert sum(chunk.rows for chunk in found) == 50 and max(chunk.rows for chunk in found) < 50, source
        assert [chunk.start for chunk in found] == np.cumsum([0, *(chunk.rows for chunk in found[:-1])]).tolist()
        assert all(chunk.rows % 4 == 0 for chunk in found[:-1]) and reader.position() == 1


# ---- the same in Python ----------------------------------------------------------------------------------------------


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


# ---- rows of different lengths ---------------------------------------------------------------------------------------


def write_ragged(path, masked):
    """Rows of 1 to 9 ids, in lists, and their model; the rows of a chunk may all be of one length."""
    from built_nets import Net

    net = Net(ids=True)
    net.dense("dense", net.lstm("lstm", net.embedding(mask_zero=masked)), 3, 1, "sigmoid")
    fastbilstm.load(net.content("dense")).save(path.parent / "model.fbl")
    rng = np.random.default_rng(1)
    rows = [rng.integers(1, 50, 4 if k < 8 else 1 + k % 9).tolist() for k in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_ragged_rows_of_a_masked_model(tmp_path, capsys, small_chunks):
    rows = write_ragged(tmp_path / "in.jsonl", masked=True)
    padded = np.array([row + [0] * (9 - len(row)) for row in rows])
    expected = fastbilstm.load(tmp_path / "model.fbl").predict(padded)
    line = ["predict", tmp_path / "model.fbl", tmp_path / "in.jsonl", "-o", tmp_path / "out.npy", *small_chunks]
    assert run(capsys, *line) == (0, "") and np.array_equal(np.load(tmp_path / "out.npy"), expected)
    line += ["--overwrite", "--maxlen", 5, "--truncating", "post"]
    cut = fastbilstm.load(tmp_path / "model.fbl").predict(padded[:, :5])
    assert run(capsys, *line) == (0, "") and np.array_equal(np.load(tmp_path / "out.npy"), cut)


def test_ragged_rows_of_a_model_without_masks(tmp_path, capsys, small_chunks):
    rows = write_ragged(tmp_path / "in.jsonl", masked=False)
    line = ["predict", tmp_path / "model.fbl", tmp_path / "in.jsonl", "-o", tmp_path / "out.npy", *small_chunks]
    for more in ([], ["--on-error", "skip"]):
        code, err = run(capsys, *line, *more)
        assert code == 2 and "row 8 (line 9) to row 15 (line 16): " in err and "'lstm'" in err and 'pad="pre"' in err
        assert names_in(tmp_path) == ["in.jsonl", "model.fbl"]
    padded = np.array([([0] * 9 + row)[-6:] for row in rows])
    expected = fastbilstm.load(tmp_path / "model.fbl").predict(padded)
    assert run(capsys, *line, "--pad", "pre", "--maxlen", 6) == (0, "")
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected)


def test_bad_ragged_rows_are_told_by_their_number(tmp_path, capsys, small_chunks):
    write_ragged(tmp_path / "in.jsonl", masked=True)
    lines = (tmp_path / "in.jsonl").read_text().splitlines()
    lines[10], lines[20], lines[21] = "[3, 1, 50, 2]", "[[1], [2, 3]]", '["a"]'
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    line = ["predict", tmp_path / "model.fbl", tmp_path / "in.jsonl", "-o", tmp_path / "out.npy", *small_chunks]
    code, err = run(capsys, *line)
    assert code == 2 and "row 10 (line 11): " in err and "(10, 2) is 50" in err
    code, err = run(capsys, *line, "--on-error", "null")
    assert code == 0 and "3 of 30 rows" in err and "row 20 (line 21)" in err and "row 21 (line 22)" in err
    assert np.flatnonzero(np.isnan(np.load(tmp_path / "out.npy")[:, 0])).tolist() == [10, 20, 21]
