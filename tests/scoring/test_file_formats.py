"""`fastbilstm predict` over files: every format to every format."""

import json

import numpy as np
import pytest
from paths import FORMAT_V1
from small_files import (
    FORMATS_IN,
    FORMATS_OUT,
    STEPS,
    given_columns,
    make_ids,
    names_in,
    read_rows,
    run,
    save_model,
    write_rows,
)

import fastbilstm


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
