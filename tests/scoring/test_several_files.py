"""Several files that are read as one: paths, patterns, folders of Parquet files; the answers are those of each file."""

import json
import os

import numpy as np
import pytest
from small_files import interrupt, make_ids, names_in, notes, read_rows, run, write_rows

import fastbilstm
from fastbilstm.scoring import sources

SIZES = {"b.{}": 13, "a.{}": 20, "c.{}": 1}


@pytest.fixture(scope="module")
def loaded(model):
    return fastbilstm.load(model)


def write_files(folder, source):
    """{path: ids} of files whose order of names is not that of their making."""
    found = {}
    for seed, (name, rows) in enumerate(SIZES.items()):
        found[folder / name.format(source)] = ids = make_ids(rows, seed)
        write_rows(folder / name.format(source), ids)
    return found


@pytest.mark.parametrize("source", ["csv", "jsonl", "txt", "parquet"])
@pytest.mark.parametrize("target", ["csv", "jsonl", "parquet", "npy"])
def test_a_pattern(source, target, model, loaded, tmp_path, capsys, small_chunks):
    if "parquet" in (source, target):
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    (tmp_path / "in").mkdir()
    files = dict(sorted(write_files(tmp_path / "in", source).items()))
    options = [] if source == "txt" else ["--columns", "x"]
    line = ["predict", model, tmp_path / "in" / f"*.{source}", *options, *small_chunks, "-o", tmp_path / f"o.{target}"]
    assert run(capsys, *line) == (0, "")
    kept, answers = read_rows(tmp_path / f"o.{target}")
    expected = np.concatenate([loaded.predict(ids, batch_size=4) for ids in files.values()])[:, 0]
    assert np.array_equal(answers.reshape(-1), expected)
    if target != "npy":
        assert kept["source"] == [str(path) for path, ids in files.items() for _ in ids]
        if source != "txt":
            assert list(kept) == ["n", "x", "note", "source"] and kept["note"] == [
                x for i in files.values() for x in notes(len(i))
            ]


def test_several_paths_keep_their_order(model, loaded, tmp_path, capsys):
    files = write_files(tmp_path, "csv")
    line = ["predict", model, *files, "--columns", "x", "-o"]
    assert run(capsys, *line, tmp_path / "out.csv", "--source-column", "file") == (0, "")
    kept, answers = read_rows(tmp_path / "out.csv")
    assert kept["file"] == [str(path) for path, ids in files.items() for _ in ids]
    assert np.array_equal(answers, np.concatenate([loaded.predict(ids) for ids in files.values()])[:, 0])
    assert run(capsys, *line, tmp_path / "none.csv", "--source-column", "") == (0, "")
    assert list(read_rows(tmp_path / "none.csv")[0]) == ["n", "x", "note"]
    one = next(iter(files))
    assert run(capsys, "predict", model, one, "--columns", "x", "-o", tmp_path / "1.csv", "--source-column", "f") == (
        0,
        "",
    )
    assert set(read_rows(tmp_path / "1.csv")[0]["f"]) == {str(one)}


def test_a_folder_of_parquet_files(model, loaded, tmp_path, capsys):
    """As Spark and Hive write them: parts, folders of partitions, files that hold no rows."""
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    folder, ids = tmp_path / "data", {}
    for k, place in enumerate(["year=2023/part-1", "year=2023/part-0", "year=2024%20b/part-0"]):
        path = folder / f"{place}.snappy.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        ids[path] = make_ids(5 + k, k)
        write_rows(path, ids[path])
    for name in ("_SUCCESS", ".part-0.parquet.crc", "_metadata.parquet", "year=2023/notes.txt"):
        (folder / name).write_text("no rows")
    assert run(capsys, "predict", model, folder, "--columns", "x", "-o", tmp_path / "out.jsonl") == (0, "")
    kept, answers = read_rows(tmp_path / "out.jsonl")
    order = sorted(ids)
    assert np.array_equal(answers, np.concatenate([loaded.predict(ids[path]) for path in order])[:, 0])
    assert kept["year"] == ["2023"] * 11 + ["2024 b"] * 7 and "source" not in kept
    (folder / "year=2023/notes.txt").unlink()
    # The same rows as pyarrow's own reading of the folder.
    assert sorted(kept["note"]) == sorted(pq.read_table(folder, partitioning="hive").to_pydict()["note"])
    found = list(loaded.predict_iter(folder, columns="x", source_column="from"))
    assert [batch.num_rows for batch in found] == [6, 5, 7]
    assert found[0].column("from").to_pylist() == [str(order[0])] * 6
    (folder / "year=2023" / "part-1.snappy.parquet").rename(folder / "part-1.parquet")
    code, err = run(capsys, "predict", model, folder, "--columns", "x", "-o", tmp_path / "no.jsonl")
    assert code == 2 and "has the columns 'year'; " in err and err.count("has none") == 1


def test_bad_rows_are_named_by_file(model, tmp_path, capsys, small_chunks):
    files = list(write_files(tmp_path, "csv"))
    with open(files[1], "a") as file:
        file.write("1,none,x\n")
    line = ["predict", model, tmp_path / "[ab].csv", "--columns", "x", *small_chunks, "-o", tmp_path / "out.jsonl"]
    code, err = run(capsys, *line)
    assert (
        code == 2
        and f"{files[1]}: row 20 (line 29): column 'x'" in err
        and names_in(tmp_path) == ["a.csv", "b.csv", "c.csv"]
    )
    code, err = run(capsys, *line, "--on-error", "skip", "--errors", tmp_path / "bad.jsonl")
    assert code == 0 and f"  {files[1]}: row 20 (line 29)" in err
    entry = json.loads((tmp_path / "bad.jsonl").read_text())
    assert (entry["file"], entry["row"], entry["line"]) == (str(files[1]), 20, 29)
    ids = make_ids(4)
    ids[2, 3] = 50
    write_rows(files[2], ids)
    code, err = run(capsys, "predict", model, files[0], files[2], "--columns", "x", "-o", tmp_path / "no.csv")
    assert code == 2 and f"{files[2]}: row 2" in err and "position (2, 3) is 50" in err


def test_a_run_over_several_files_goes_on(model, tmp_path, capsys, monkeypatch, small_chunks):
    files = write_files(tmp_path, "csv")
    for path in files:
        os.utime(path, (1_000_000_000, 1_000_000_000))
    line = ["predict", model, tmp_path / "?.csv", "--columns", "x", *small_chunks, "-o"]
    assert run(capsys, *line, tmp_path / "whole.csv") == (0, "")
    for at in range(1, 6):
        interrupt(monkeypatch, capsys, [*line, tmp_path / "out.csv"], at)
        code, err = run(capsys, *line, tmp_path / "out.csv", "--resume")
        assert code == 0 and "going on after" in err
        assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
        (tmp_path / "out.csv").unlink()
    interrupt(monkeypatch, capsys, [*line, tmp_path / "out.csv"], 4)
    # The same size and time, other rows: only what was read can tell.
    content = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "a.csv").write_bytes(content.replace(b"note 1", b"NOTE 1", 1))
    os.utime(tmp_path / "a.csv", (1_000_000_000, 1_000_000_000))
    code, err = run(capsys, *line, tmp_path / "out.csv", "--resume")
    assert code == 2 and "bytes are others than the interrupted run read" in err
    write_rows(tmp_path / "d.csv", make_ids(2))
    code, err = run(capsys, *line, tmp_path / "out.csv", "--resume")
    assert code == 2 and f"the input 4 ({tmp_path / 'd.csv'}) of the interrupted run was None" in err


def test_wrong_files(model, tmp_path, capsys):
    files = list(write_files(tmp_path, "csv"))
    (tmp_path / "other.csv").write_text("n,x\n1,1 2\n")
    (tmp_path / "taken.csv").write_text("n,x,source\n1,1 2,a\n")
    np.save(tmp_path / "x.npy", make_ids(3))
    (tmp_path / "rows.jsonl").write_text('{"x": [1, 2], "source": 1}\n')
    (tmp_path / "folder").mkdir()
    for given, words in (
        ([tmp_path / "*.tsv"], "*.tsv: no file matches the pattern"),
        ([files[0], tmp_path / "other.csv"], f"other.csv: has the columns 'n', 'x'; {files[0]} has 'n', 'x', 'note'"),
        ([files[0], tmp_path / "rows.jsonl"], f"rows.jsonl: is read as .jsonl, {files[0]} as .csv"),
        ([tmp_path / "taken.csv"] * 2, "taken.csv: has a column 'source' already; name another with --source-column"),
        ([tmp_path / "rows.jsonl"] * 2, "rows.jsonl: has a column 'source' already"),
        ([tmp_path / "x.npy"] * 2, ".npy and .npz are read one at a time"),
        (
            [tmp_path / "folder"],
            "folder: is a folder; expected a file, a folder with .parquet files, or a pattern in quotes",
        ),
        (["-", files[0]], "standard input is read alone"),
        ([files[0], tmp_path / "gone.csv"], "gone.csv: cannot be read"),
        ([files[0], "--resume", tmp_path / "out.csv"], ""),
    ):
        code, err = run(capsys, "predict", model, *given, "--columns", "x", "-o", tmp_path / "out.csv")
        assert code == 2 and words in err, err
    code, err = run(capsys, "predict", model, *files, "-o", files[1], "--overwrite")
    assert code == 2 and "is read by this very command" in err


def test_a_name_with_marks_of_a_pattern_is_a_file_where_there_is_one(tmp_path):
    (tmp_path / "a[1].csv").write_text("x\n1\n")
    (tmp_path / "a1.csv").write_text("x\n1\n")
    assert [s.path for s in sources.find([str(tmp_path / "a[1].csv")])] == [str(tmp_path / "a[1].csv")]
    (tmp_path / "a[1].csv").unlink()
    assert [s.path for s in sources.find([str(tmp_path / "a[1].csv")])] == [str(tmp_path / "a1.csv")]


def test_predict_iter_of_several_files(loaded, tmp_path):
    files = write_files(tmp_path, "csv")
    found = list(loaded.predict_iter(list(files), columns="x"))
    assert [batch["source"][0] for batch in found] == list(map(str, files))
    assert all(np.array_equal(y["prediction"], loaded.predict(x)[:, 0]) for x, y in zip(files.values(), found))
    (tmp_path / "d.txt").write_bytes("x;ö\n1 2;ö\n".encode("cp1252"))
    options = {"format": "csv", "delimiter": ";", "encoding": "cp1252", "columns": "x"}
    (batch,) = loaded.predict_iter(tmp_path / "d.txt", **options)
    assert batch["ö"] == ["ö"] and list(batch) == ["x", "ö", "prediction"]
