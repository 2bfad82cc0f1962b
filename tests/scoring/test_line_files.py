"""Files of lines as people have them: .tsv, .gz, .zst, other delimiters and encodings, standard input and output.

What a plain .csv of the same rows gives is the expected answer; packed files are made and read by gzip and zstandard.
"""

import csv
import gzip
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from small_files import interrupt, make_ids, names_in, run, write_rows

import fastbilstm
from fastbilstm.scoring import line_files

ROWS = 40
IDS = make_ids(ROWS)


def lines_of(delimiter=",", note="ä", end="\n"):
    """The text of a file with the columns n, x and note."""
    text = io.StringIO()
    rows = ((k, " ".join(map(str, row)), f"{note} {k}") for k, row in enumerate(IDS.tolist()))
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows([("n", "x", "note"), *rows])
    return text.getvalue()


@pytest.fixture(scope="module")
def plain(model, tmp_path_factory):
    """The bytes of the output for the plain file."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "in.csv").write_text(lines_of(), encoding="utf-8")
    answers = fastbilstm.load(model).predict(IDS)[:, 0]
    from fastbilstm.cli import commands as cli

    line = ["predict", model, folder / "in.csv", "-o", folder / "out.csv", "--columns", "x"]
    assert cli.main(list(map(str, line))) == 0
    with open(folder / "out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["note"] for row in rows] == [f"ä {k}" for k in range(ROWS)]
    assert np.array_equal(np.array([row["prediction"] for row in rows], "f4"), answers)
    return (folder / "out.csv").read_bytes()


def pack(content, packing):
    """Two members or frames, as `cat a.gz b.gz` makes."""
    half = len(content) // 2
    if packing == "gz":
        return gzip.compress(content[:half]) + gzip.compress(content[half:])
    zstandard = pytest.importorskip("zstandard", reason="needs zstandard")
    return b"".join(zstandard.ZstdCompressor().compress(part) for part in (content[:half], content[half:]))


def unpack(content, packing):
    if packing == "gz":
        return gzip.decompress(content)
    with pytest.importorskip("zstandard", reason="needs zstandard").ZstdDecompressor().stream_reader(content) as file:
        return file.read()  # of the first frame, as other readers do


# ---- packed files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_packed_files(packing, model, plain, tmp_path, capsys, small_chunks):
    source, target = tmp_path / f"in.csv.{packing}", tmp_path / f"out.csv.{packing}"
    source.write_bytes(pack(lines_of().encode(), packing))
    line = ["predict", model, source, "--columns", "x", *small_chunks, "-o"]
    assert run(capsys, *line, target) == (0, "") and unpack(target.read_bytes(), packing) == plain
    assert run(capsys, *line, tmp_path / "out.csv") == (0, "") and (tmp_path / "out.csv").read_bytes() == plain
    # The content tells the packing where the name does not.
    renamed = source.rename(tmp_path / "renamed.csv")
    code, err = run(capsys, "predict", model, renamed, "--columns", "x", "-o", tmp_path / "again.csv")
    assert (code, err) == (0, "") and (tmp_path / "again.csv").read_bytes() == plain
    again = tmp_path / f"out.jsonl.{packing}"
    assert run(capsys, "predict", model, target, "--columns", "x", "--output-column", "p", "-o", again) == (0, "")
    assert len(unpack(again.read_bytes(), packing).splitlines()) == ROWS


@pytest.mark.parametrize("packing", ["gz", "zst"])
@pytest.mark.parametrize("kept", [0.4, 0.98])
def test_packed_files_that_are_not_whole(packing, kept, model, tmp_path, capsys, small_chunks):
    """No row is lost in silence."""
    source, content = tmp_path / f"in.csv.{packing}", pack(lines_of().encode(), packing)
    source.write_bytes(content[: int(len(content) * kept)])
    code, err = run(capsys, "predict", model, source, "--columns", "x", "-o", tmp_path / "out.csv", *small_chunks)
    assert code == 2 and f"in.csv.{packing}" in err and f"is the .{packing} file whole?" in err
    assert names_in(tmp_path) == [source.name]


def test_wrong_packed_files(model, tmp_path, capsys):
    np.save(tmp_path / "x.npy", IDS)
    (tmp_path / "x.npy.gz").write_bytes(gzip.compress((tmp_path / "x.npy").read_bytes()))
    (tmp_path / "no.csv.gz").write_text(lines_of())
    (tmp_path / "in.csv").write_text(lines_of())
    for name, target, words in (
        ("x.npy.gz", "out.csv", "unpack it first"),
        ("no.csv.gz", "out.csv", "is no .gz file"),
        ("in.csv", "out.parquet.gz", ".gz is for csv, tsv, jsonl, not for parquet"),
    ):
        code, err = run(capsys, "predict", model, tmp_path / name, "-o", tmp_path / target, "--columns", "x")
        assert code == 2 and words in err, err
    damaged = bytearray(gzip.compress(lines_of().encode()))
    damaged[len(damaged) // 2] ^= 255
    (tmp_path / "bad.csv.gz").write_bytes(damaged)
    code, err = run(capsys, "predict", model, tmp_path / "bad.csv.gz", "-o", tmp_path / "out.csv", "--columns", "x")
    assert code == 2 and "bad.csv.gz: cannot be unpacked" in err


def test_a_run_over_packed_files_goes_on(model, plain, tmp_path, capsys, monkeypatch, small_chunks):
    source = tmp_path / "in.csv.gz"
    source.write_bytes(gzip.compress(lines_of().encode()))
    os.utime(source, (1_000_000_000, 1_000_000_000))
    line = ["predict", model, source, "--columns", "x", *small_chunks, "-o", tmp_path / "out.csv.gz"]
    interrupt(monkeypatch, capsys, line, at=3)
    code, err = run(capsys, *line, "--resume")
    assert code == 0 and "going on after 24 rows" in err
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()) == plain
    interrupt(monkeypatch, capsys, [*line, "--overwrite"], at=3)
    source.write_bytes(gzip.compress(lines_of(note="b").encode()))
    code, err = run(capsys, *line, "--resume")
    assert code == 2 and "--resume: the input of the interrupted run was" in err


def test_zst_needs_a_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression", None)
    (tmp_path / "in.txt").write_bytes(b"\x28\xb5\x2f\xfd and more")
    with pytest.raises(fastbilstm.MissingExtraError, match=r"in.txt: .zst.*zstandard"):
        line_files.LineFile(str(tmp_path / "in.txt"))


def test_zst_of_the_standard_library(monkeypatch, tmp_path):
    """Of Python 3.14; backports.zstd is the same code for older ones."""
    zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    if sys.version_info < (3, 14):
        import types

        monkeypatch.setitem(sys.modules, "compression", package := types.ModuleType("compression"))
        package.zstd = zstd
    path, content = tmp_path / "in.zst", lines_of().encode() * 50
    path.write_bytes(zstd.compress(content) + zstd.compress(content))
    file = line_files.LineFile(str(path))
    assert b"".join(iter(lambda: file.readline(2**20), b"")) == 2 * content
    packed = io.BytesIO()
    line_files.pack(io.BytesIO(content), packed, "zst", "out")
    assert zstd.decompress(packed.getvalue()) == content
    path.write_bytes(packed.getvalue()[:-20])
    file = line_files.LineFile(str(path))
    with pytest.raises(fastbilstm.InputError, match=r"is the \.zst file whole"):
        list(iter(lambda: file.readline(2**20), b""))


# ---- delimiters ------------------------------------------------------------------------------------------------------


def test_tsv(model, plain, tmp_path, capsys):
    (tmp_path / "in.tsv").write_text(lines_of("\t"), encoding="utf-8")
    line = ["predict", model, tmp_path / "in.tsv", "--columns", "x", "-o"]
    assert run(capsys, *line, tmp_path / "out.csv") == (0, "") and (tmp_path / "out.csv").read_bytes() == plain
    assert run(capsys, *line, tmp_path / "out.tsv") == (0, "")
    assert (tmp_path / "out.tsv").read_bytes() == plain.replace(b",", b"\t")
    line = ["predict", model, tmp_path / "out.csv", "--columns", "x", "--output-column", "p", "-o", tmp_path / "b.tsv"]
    assert run(capsys, *line) == (0, "") and (tmp_path / "b.tsv").read_text().startswith("n\tx\tnote\tprediction\tp\n")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_delimiter_is_found_in_the_header_and_named(delimiter, model, plain, tmp_path, capsys):
    (tmp_path / "in.csv").write_text(lines_of(delimiter), encoding="utf-8")
    line = ["predict", model, tmp_path / "in.csv", "--columns", "x", "-o", tmp_path / "out.csv"]
    code, err = run(capsys, *line)
    assert code == 0 and f"in.csv: fields are separated by {delimiter!r}" in err and err.count("\n") == 1
    assert (tmp_path / "out.csv").read_bytes() == plain.replace(b",", delimiter.encode())
    assert run(capsys, *line, "--overwrite", "--quiet") == (0, "")
    assert run(capsys, *line, "--overwrite", "--delimiter", delimiter) == (0, "")


def test_the_error_for_a_missing_column_names_other_delimiters(model, tmp_path, capsys):
    for text, options, words in (
        ("n;x;note, long\n1;1 2;a\n", [], "split at ',', and the header holds ';', too (--delimiter)"),
        ("n,x\n1,1 2\n", ["--delimiter", ";"], "split at ';', and the header holds ',', too (--delimiter)"),
        ("a;x|b\n1;1 2|3\n", [], "the header holds ';' and '|', too"),
        ('n,"a;b|c"\n1,1 2\n', [], "the columns are 'n', 'a;b|c'\n"),  # quoted: no delimiters
    ):
        (tmp_path / "in.csv").write_text(text)
        target = tmp_path / "out.csv"
        code, err = run(capsys, "predict", model, tmp_path / "in.csv", "--columns", "x", "-o", target, *options)
        assert code == 2 and "no column 'x'" in err and words in err, err
    (tmp_path / "in.csv").write_text("n;x\n1;1 2\n1 2\n")
    code, err = run(capsys, "predict", model, tmp_path / "in.csv", "--columns", "x", "-o", tmp_path / "out.csv")
    assert code == 2 and "row 1 (line 3): has 1 fields; the header has 2 (split at ';')" in err


# ---- encodings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "cp037", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings(encoding, end, model, plain, tmp_path, capsys, small_chunks):
    (tmp_path / "in.csv").write_bytes(lines_of(end=end).encode(encoding))
    line = ["predict", model, tmp_path / "in.csv", "--columns", "x", "--encoding", encoding, *small_chunks]
    assert run(capsys, *line, "-o", tmp_path / "out.csv") == (0, "")
    assert (tmp_path / "out.csv").read_bytes() == plain


def test_wrong_encodings(model, tmp_path, capsys):
    cases = {
        "klingon": (b"x\n1 2\n", "encoding 'klingon' (--encoding) is unknown"),
        "rot13": (b"x\n1 2\n", "encoding 'rot13' (--encoding) is unknown"),
        "ascii": ("x,note\n1 2,a\n1 2,ä\n".encode(), "row 1 (line 3): is no ASCII (byte 0xc3 at 4 of the line)"),
        "utf-8": ("x,ä\n1 2,a\n".encode("latin-1"), "--encoding names another"),
        "utf-16": ("x\n1 2\n".encode("utf-16")[:-1], "is no utf-16"),
    }
    for encoding, (content, words) in cases.items():
        (tmp_path / "in.csv").write_bytes(content)
        line = ["predict", model, tmp_path / "in.csv", "--columns", "x", "--encoding", encoding]
        code, err = run(capsys, *line, "-o", tmp_path / "out.csv")
        assert code == 2 and words in err, err
    (tmp_path / "in.csv").write_bytes("x\n1 2\n".encode("utf-16"))
    code, err = run(capsys, "predict", model, tmp_path / "in.csv", "-o", tmp_path / "out.csv")
    assert code == 2 and "begins as utf-16 does: --encoding utf-16" in err


# ---- standard input and output ---------------------------------------------------------------------------------------


class Standard(io.BytesIO):
    """A stream with a buffer, as sys.stdin and sys.stdout."""

    @property
    def buffer(self):
        return self


@pytest.mark.parametrize("source", ["csv", "csv.gz", "tsv", "jsonl", "txt"])
def test_standard_input_and_output(source, model, plain, tmp_path, capsys, monkeypatch, small_chunks):
    options, out = ["--columns", "x"], io.BytesIO(plain)
    if source == "txt":
        content = write_rows(tmp_path / "in.txt", IDS).read_bytes()
        options = ["--input-format", "txt"]
    elif source == "jsonl":
        content = write_rows(tmp_path / "in.jsonl", IDS).read_bytes()
    else:
        text = lines_of("\t" if source == "tsv" else ",").encode()
        content = gzip.compress(text) if source.endswith("gz") else text
    monkeypatch.setattr(sys, "stdin", Standard(content))
    monkeypatch.setattr(sys, "stdout", out := Standard())
    code, err = run(capsys, "predict", model, "-", "-o", "-", "--quiet", *options, *small_chunks)
    assert (code, err) == (0, "") and names_in(tmp_path) in ([], [f"in.{source}"])
    found = out.getvalue()
    if source == "tsv":
        assert found == plain.replace(b",", b"\t")
    elif source.startswith("csv"):
        assert found == plain
    else:
        rows = list(csv.DictReader(io.StringIO(found.decode()))) if source == "txt" else None
        rows = rows or list(map(json.loads, found.splitlines()))
        answers = fastbilstm.load(model).predict(IDS)[:, 0]
        assert np.array_equal(np.array([row["prediction"] for row in rows], "f4"), answers)


def test_standard_streams_with_files(model, plain, tmp_path, capsys, monkeypatch, small_chunks):
    text = lines_of().encode()
    monkeypatch.setattr(sys, "stdin", Standard(text))
    line = ["predict", model, "-", "--columns", "x", *small_chunks]
    assert run(capsys, *line, "-o", tmp_path / "out.csv") == (0, "")
    assert (tmp_path / "out.csv").read_bytes() == plain and names_in(tmp_path) == ["out.csv"]
    # The bad rows, beside answers on standard output.
    bad = text.replace(b"\n3,", b"\n3,no number ", 1)
    monkeypatch.setattr(sys, "stdin", Standard(bad))
    monkeypatch.setattr(sys, "stdout", out := Standard())
    code, err = run(capsys, *line, "-o", "-", "--on-error", "skip", "--errors", tmp_path / "bad.jsonl")
    assert code == 0 and "1 of 40 rows were left out" in err and names_in(tmp_path) == ["bad.jsonl", "out.csv"]
    assert json.loads((tmp_path / "bad.jsonl").read_text())["row"] == 3
    assert out.getvalue().count(b"\n") == ROWS
    monkeypatch.setattr(sys, "stdin", Standard(bad))
    code, err = run(capsys, *line, "-o", "-", "--errors", tmp_path / "e.jsonl", "--on-error", "null", "--threads", 0)
    assert code == 2 and names_in(tmp_path) == ["bad.jsonl", "out.csv"]
    # Nothing can be resumed, so that nothing is left.
    monkeypatch.setattr(sys, "stdin", Standard(text))
    interrupt(monkeypatch, capsys, [*line, "-o", tmp_path / "new.csv"])
    assert names_in(tmp_path) == ["bad.jsonl", "out.csv"]


@pytest.mark.parametrize(
    "options, words",
    [
        (["-", "-o", "-", "--resume"], "--resume: standard input and output"),
        (["-", "-o", "-", "--input-format", "npy"], "standard input holds lines"),
        (["-", "-o", "-", "--output-format", "parquet"], "standard output is for csv, tsv, jsonl"),
    ],
)
def test_wrong_use_of_standard_streams(options, words, model, capsys):
    code, err = run(capsys, "predict", model, *options)
    assert code == 2 and words in err


@pytest.mark.skipif(os.name == "nt", reason="pipes of a shell")
def test_a_pipe_of_the_shell(model, plain, tmp_path):
    """Progress and notes go to standard error; who reads no more ends the command quietly."""
    (tmp_path / "in.csv").write_text(lines_of(";"), encoding="utf-8")
    command = f'"{sys.executable}" -m fastbilstm.cli predict "{model}" - --columns x'
    line = f"set -o pipefail; cat in.csv | {command} -o -"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0 and done.stdout == plain.replace(b",", b";"), done.stderr
    assert b"fields are separated by ';'" in done.stderr and done.stderr.count(b"\n") == 1
    many = tmp_path / "many.csv"
    many.write_text("x\n" + "1 2 3\n" * 60_000)
    line = f"set -o pipefail; {command} -o - < many.csv | head -n 1"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (141, b"x,prediction\n", b"")
