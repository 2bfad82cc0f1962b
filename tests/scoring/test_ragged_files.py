"""Files with rows of different lengths: `fastbilstm predict` with and without --pad and --maxlen."""

import json

import numpy as np
from small_files import names_in, run

import fastbilstm


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
