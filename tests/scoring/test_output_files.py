"""Names and permissions of what is written, and texts in it: nothing of the user's is written over, nothing is shown to
more people than before, and no spreadsheet computes a text.
"""

import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from small_files import FORMATS_OUT, contents, interrupt, make_ids, run, save_model, write_old

import fastbilstm
from fastbilstm import safe_files
from fastbilstm.cli import commands as cli
from fastbilstm.scoring import loop, resumable_file


@pytest.fixture
def path(tmp_path):
    return save_model(tmp_path / "model.fbl")


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_ROWS", 8)
    monkeypatch.setattr(resumable_file, "INTERVAL", 0)


# ---- a file that is written ------------------------------------------------------------------------------------------


def test_convert_never_writes_over_what_it_reads(tmp_path):
    import make_files as mf

    source, labels = tmp_path / "net.h5", tmp_path / "labels.txt"
    source.write_bytes(mf.h5())
    labels.write_text("a\nb\n")
    os.link(source, tmp_path / "other name.h5")
    for target in (source, tmp_path / "other name.h5", labels):
        with pytest.raises(fastbilstm.InputError, match="is read by this very command"):
            fastbilstm.convert(source, target, labels=labels, overwrite=True)
    assert source.read_bytes() == mf.h5() and labels.read_text() == "a\nb\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs permissions and links")
def test_permissions_of_converted_files(tmp_path):
    import make_files as mf

    target = tmp_path / "net.fbl"
    before = os.umask(0o027)
    try:
        fastbilstm.convert(mf.h5(), target)
        assert target.stat().st_mode & 0o777 == 0o640
        for mode in (0o600, 0o664):
            target.chmod(mode)
            fastbilstm.convert(mf.h5(), target, overwrite=True)
            assert target.stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


@pytest.mark.skipif(sys.platform == "win32", reason="needs permissions and links")
def test_a_link_without_a_file_is_an_existing_target(tmp_path):
    import make_files as mf

    (tmp_path / "net.fbl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(fastbilstm.FileFormatError, match="exists already"):
        fastbilstm.convert(mf.h5(), tmp_path / "net.fbl")
    fastbilstm.convert(mf.h5(), tmp_path / "net.fbl", overwrite=True)
    assert not (tmp_path / "net.fbl").is_symlink() and not (tmp_path / "elsewhere").exists()


def test_a_target_that_appears_while_its_content_is_written(path, monkeypatch):
    to_disk, target = safe_files.to_disk, path.with_name("again.fbl")

    def appear(file):
        to_disk(file)
        target.write_text("mine")

    model = fastbilstm.load(path)
    monkeypatch.setattr(safe_files, "to_disk", appear)
    with pytest.raises(fastbilstm.FileFormatError, match=r"again\.fbl: exists already"):
        model.save(target)
    assert target.read_text() == "mine"
    assert sorted(p.name for p in path.parent.iterdir()) == ["again.fbl", "model.fbl"]


# ---- names beside an output ------------------------------------------------------------------------------------------

OWN_NAMES = ["out.npz.partial", "out.npz.partial.1", "out.npz.partial.journal", "out.npz.partial.whole"]
OWN_NAMES += ["bad.jsonl.partial"]


@pytest.fixture
def two(tmp_path):
    """A command whose output has two arrays, and the errors beside it."""
    import shutil

    from paths import FORMAT_V1 as TWO

    shutil.copy(TWO, tmp_path / "model.fbl")
    lines = [{"ids": [1, 2, 3], "extra": [0.5, k]} for k in range(20)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "bad\n")
    options = ["--on-error", "skip", "--errors", tmp_path / "bad.jsonl", "--batch-size", 4]
    return ["predict", tmp_path / "model.fbl", tmp_path / "in.jsonl", "-o", tmp_path / "out.npz", *options]


def test_the_names_are_all_that_a_run_uses(two, tmp_path, capsys, monkeypatch, small_chunks):
    seen, create = set(), safe_files.create
    monkeypatch.setattr(safe_files, "create", lambda path, *args: seen.add(Path(path).name) or create(path, *args))
    assert run(capsys, *two)[0] == 0 and seen == set(OWN_NAMES)
    assert sorted(contents(tmp_path)) == ["bad.jsonl", "in.jsonl", "model.fbl", "out.npz"]


@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--resume"], ["--resume", "--overwrite"]])
@pytest.mark.parametrize("name", OWN_NAMES)
def test_a_file_of_the_user_is_never_written_over(name, more, two, tmp_path, capsys):
    (tmp_path / name).write_text("mine\n")
    before = contents(tmp_path)
    code, err = run(capsys, *two, *more)
    assert code == 2 and f"{name}: is needed while" in err and "move it" in err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--resume"]])
@pytest.mark.parametrize("name", OWN_NAMES)
def test_the_input_may_lie_under_such_a_name(name, more, two, tmp_path, capsys):
    """Rows of `predict model in.csv.partial -o in.csv` were lost once."""
    (tmp_path / "in.jsonl").rename(tmp_path / name)
    two[2] = tmp_path / name
    before = contents(tmp_path)
    code, err = run(capsys, *two, "--input-format", "jsonl", *more)
    assert code == 2 and f"{name}: is read by this very command" in err and contents(tmp_path) == before


@pytest.mark.parametrize("name", OWN_NAMES)
def test_no_link_is_followed(name, two, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    for target in (tmp_path / "elsewhere" / "there", tmp_path / "elsewhere" / "none"):
        (tmp_path / "elsewhere" / "there").write_text("mine\n")
        (tmp_path / name).symlink_to(target)
        for more in ([], ["--overwrite"], ["--resume"]):
            code, err = run(capsys, *two, *more)
            assert code == 2 and ("is needed while" in err or "regular file" in err), err
            assert contents(tmp_path / "elsewhere") == {"there": b"mine\n"}
        (tmp_path / name).unlink()


def test_links_to_the_input_planted_beside_a_journal(two, tmp_path, capsys, monkeypatch, small_chunks):
    """The journal is ours and lists the name, and what lies there is the input or a link to another file."""
    interrupt(monkeypatch, capsys, two)
    part, source = tmp_path / "out.npz.partial", tmp_path / "in.jsonl"
    (tmp_path / "mine").write_bytes(part.read_bytes())
    content = source.read_bytes()
    for plant in (part.hardlink_to, part.symlink_to):
        part.unlink()
        plant(source)
        for more in ("--resume", "--overwrite"):
            code, err = run(capsys, *two, more)
            assert code == 2 and "is read by this very command" in err and source.read_bytes() == content
    part.unlink()
    part.symlink_to(tmp_path / "mine")
    before = (tmp_path / "mine").read_bytes()
    code, err = run(capsys, *two, "--resume")
    assert code == 2 and "Is no regular file" in err and (tmp_path / "mine").read_bytes() == before
    assert run(capsys, *two, "--overwrite")[0] == 0 and (tmp_path / "mine").read_bytes() == before


@pytest.mark.parametrize("name", ["out.npz.partial", "out.npz.partial.journal", "out.npz.partial.whole"])
def test_errors_under_a_name_that_is_needed(name, two, tmp_path, capsys):
    two[two.index("--errors") + 1] = tmp_path / name
    before = contents(tmp_path)
    code, err = run(capsys, *two)
    assert code == 2 and f"{name}: is needed twice" in err and contents(tmp_path) == before
    # The errors' own part is the output's.
    two[4], two[two.index("--errors") + 1] = tmp_path / "x.partial", tmp_path / "x"
    assert run(capsys, *two, "--output-format", "npz")[0] == 2 and contents(tmp_path) == before


@pytest.mark.parametrize("what", ["--config", "model"])
def test_no_output_replaces_another_file_that_is_read(what, two, tmp_path, capsys):
    import make_files as mf

    (tmp_path / "net.weights.h5").write_bytes(mf.weights_h5())
    (tmp_path / "net.json").write_text(json.dumps(mf.sequential()))
    target = tmp_path / ("net.json" if what == "--config" else "net.weights.h5")
    two[1], two[4] = tmp_path / "net.weights.h5", target
    two += ["--config", tmp_path / "net.json", "--output-format", "jsonl", "--overwrite"]
    before = contents(tmp_path)
    code, err = run(capsys, *two)
    assert code == 2 and f"{target.name}: is read by this very command" in err and contents(tmp_path) == before


def test_an_older_run_with_fewer_parts(two, tmp_path, capsys, monkeypatch, small_chunks):
    """The journal lists what is its run's own; a second part is not, if that run had one."""
    one = [*two, "--output-format", "jsonl"]
    interrupt(monkeypatch, capsys, one)
    (tmp_path / "out.npz.partial.1").write_text("mine\n")
    code, err = run(capsys, *two, "--overwrite")
    assert code == 2 and "out.npz.partial.1: is needed while" in err
    assert (tmp_path / "out.npz.partial.1").read_text() == "mine\n"
    assert run(capsys, *one, "--overwrite")[0] == 0 and (tmp_path / "out.npz.partial.1").read_text() == "mine\n"


def test_outputs_that_appear_during_the_run(two, tmp_path, capsys, monkeypatch, small_chunks):
    append = resumable_file.Partial.append

    def appear(self, pieces):
        append(self, pieces)
        (tmp_path / "bad.jsonl").write_text("mine\n")

    with monkeypatch.context() as patch:
        patch.setattr(resumable_file.Partial, "append", appear)
        code, err = run(capsys, *two)
    assert code == 2 and "bad.jsonl exists already" in err and "--resume" in err
    code, err = run(capsys, *two, "--resume")
    assert code == 2 and "bad.jsonl exists already" in err and (tmp_path / "bad.jsonl").read_text() == "mine\n"
    code, err = run(capsys, *two, "--resume", "--overwrite")
    assert code == 0 and "all 21 rows were done" in err and "1 of 21 rows were left out" in err
    assert sorted(contents(tmp_path)) == ["bad.jsonl", "in.jsonl", "model.fbl", "out.npz"]
    assert json.loads((tmp_path / "bad.jsonl").read_text())["row"] == 20


# ---- permissions, formulas -------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="needs permissions")
@pytest.mark.parametrize("target", FORMATS_OUT)
def test_permissions_of_outputs(target, path, tmp_path, capsys, monkeypatch, small_chunks):
    given, out, bad = write_old(tmp_path / "in.txt"), tmp_path / f"out.{target}", tmp_path / "bad.jsonl"
    given.write_text(given.read_text() + "no ids\n")
    line = ["predict", path, given, "-o", out, "--batch-size", 4, "--on-error", "skip", "--errors", bad]
    append, seen = resumable_file.Partial.append, {}

    def look(self, pieces):
        append(self, pieces)
        seen.update({p.name: p.stat().st_mode & 0o777 for p in tmp_path.glob("*partial*")})

    monkeypatch.setattr(resumable_file.Partial, "append", look)
    before = os.umask(0o027)
    try:
        assert run(capsys, *line)[0] == 0
        assert {out.stat().st_mode & 0o777, bad.stat().st_mode & 0o777, *seen.values()} == {0o640}
        out.chmod(0o600)
        bad.chmod(0o664)
        seen.clear()
        assert run(capsys, *line, "--overwrite")[0] == 0
        assert out.stat().st_mode & 0o777 == 0o600 and bad.stat().st_mode & 0o777 == 0o664
        assert seen and set(seen.values()) == {0o600}
    finally:
        os.umask(before)


FORMULAS = ["=1+1", '=HYPERLINK("http://x")', "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "=", "--1"]
PLAIN = ["a=1", " =1", "-1", "+1.5", "-.5e-3", "1e5", "", "'=1", "-inf", "nan", "text", "-12.", "+7"]


def test_formulas_in_csv(path, tmp_path, capsys, small_chunks):
    texts = FORMULAS + PLAIN
    with open(tmp_path / "in.csv", "w", newline="") as file:
        csv.writer(file).writerows([["x", "=note"], *(["1 2 3", text] for text in texts)])
    line = ["predict", path, tmp_path / "in.csv", "--columns", "x", "-o"]
    for target, more in (("plain.csv", []), ("escaped.csv", ["--escape-formulas"])):
        assert run(capsys, *line, tmp_path / target, *more) == (0, "")
        with open(tmp_path / target, newline="") as file:
            header, *rows = csv.reader(file)
        mark = "'" if more else ""
        assert header == ["x", f"{mark}=note", "prediction"]
        assert [row[1] for row in rows] == [*(mark + text for text in FORMULAS), *PLAIN]
    code, err = run(capsys, *line, tmp_path / "out.jsonl", "--escape-formulas")
    assert code == 2 and "--escape-formulas is for .csv" in err
    with pytest.raises(SystemExit):
        cli.main(["predict", "--help"])
    assert "apostrophe" in capsys.readouterr().out


def test_answers_are_numbers_and_no_formulas(tmp_path, capsys):
    from built_nets import Net

    net = Net(ids=True)
    net.dense("dense", net.lstm("lstm", net.embedding()), 3, 1, "linear")
    model = fastbilstm.load(net.content("dense"))
    model.save(tmp_path / "model.fbl")
    given = write_old(tmp_path / "in.txt")
    expected = model.predict(make_ids(60))[:, 0]
    line = ["predict", tmp_path / "model.fbl", given, "-o", tmp_path / "out.csv", "--escape-formulas"]
    assert run(capsys, *line) == (0, "") and expected.min() < 0 < expected.max()
    with open(tmp_path / "out.csv", newline="") as file:
        assert np.array_equal(np.array([row["prediction"] for row in csv.DictReader(file)], "f4"), expected)
