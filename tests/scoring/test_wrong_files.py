"""Wrong input and wrong use of `fastbilstm predict`: told by file, row and reason, and nothing is written."""

import os
import sys
import zipfile

import numpy as np
import pytest
from small_files import make_ids, names_in, read_rows, run, write_rows

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
        assert code == 2 and "pip install 'pyarrow" in err and not (tmp_path / target).exists()
