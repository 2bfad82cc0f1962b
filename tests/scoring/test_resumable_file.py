"""Runs of `fastbilstm predict` that end early: killed, interrupted, out of disk; the run that goes on gives every byte.

INTERVAL is 0 here: each chunk is noted in the journal.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from paths import ROOT
from small_files import FORMATS_OUT, make_ids, run, save_model, write_rows

from fastbilstm.scoring import loop as chunks
from fastbilstm.scoring import resumable_file as partial

ROWS, CHUNK = 60, 8


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_ROWS", CHUNK)
    monkeypatch.setattr(partial, "INTERVAL", 0)


def command(model, folder, target, *more):
    source = folder / "in.jsonl"
    if not source.exists():
        write_rows(source, make_ids(ROWS))
        lines = source.read_text().splitlines()
        lines[20] = "no JSON"
        source.write_text("\n".join(lines))
        stamp = time.time() - 100
        os.utime(source, (stamp, stamp))
    options = ["--columns", "x", "--batch-size", 4, "--on-error", "null", *more]
    return ["predict", model, source, "-o", folder / target, *options]


def expected(capsys, model, folder, target, *more):
    """The bytes of a run without interruption, in a folder of its own."""
    other = folder / "whole"
    other.mkdir()
    code, err = run(capsys, *command(model, other, target, *more))
    assert code == 0 and "1 of 60 rows" in err
    return (other / target).read_bytes()


def partials(folder):
    return sorted(path.name for path in folder.iterdir() if "partial" in path.name)


@pytest.mark.parametrize("target", FORMATS_OUT)
def test_ctrl_c_at_several_points(target, model, tmp_path, capsys, monkeypatch):
    if target == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    whole = expected(capsys, model, tmp_path, f"out.{target}")
    append = partial.Partial.append

    def interrupt(at, when):
        count = itertools.count()

        def wrapped(self, pieces):
            number = next(count)
            if number == at and when == "before":
                raise KeyboardInterrupt
            append(self, pieces)
            if number == at:
                raise KeyboardInterrupt

        monkeypatch.setattr(partial.Partial, "append", wrapped)

    line = command(model, tmp_path, f"out.{target}", "--resume")
    for at, when, rows in ((2, "before", 16), (1, "after", 24), (0, "before", 24), (3, "after", 48)):
        interrupt(at, when)
        code, err = run(capsys, *line)
        assert code == 130 and f"interrupted after {rows} rows" in err and "--resume" in err
        assert not (tmp_path / f"out.{target}").exists()
    monkeypatch.setattr(partial.Partial, "append", append)
    code, err = run(capsys, *line)
    assert code == 0 and "going on after 48 rows" in err and "1 of 60 rows have no answer" in err
    assert (tmp_path / f"out.{target}").read_bytes() == whole and partials(tmp_path) == []


def test_ctrl_c_before_the_first_rows_leaves_nothing(model, tmp_path, capsys, monkeypatch):
    def interrupt(self, pieces):
        raise KeyboardInterrupt

    monkeypatch.setattr(partial.Partial, "append", interrupt)
    code, err = run(capsys, *command(model, tmp_path, "out.csv"))
    assert code == 130 and "interrupted" in err and [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


SCRIPT = f"""
import os, signal, sys
from fastbilstm import cli
from fastbilstm.scoring import loop as chunks, resumable_file as partial
chunks.CHUNK_ROWS, partial.INTERVAL = {CHUNK}, 0
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored
append, calls, at, what = partial.Partial.append, [], int(sys.argv[1]), sys.argv[2]
def stop(self, pieces):
    calls.append(1)
    if len(calls) == at and what == "kill":
        # In the middle of a write: what the system took over stays.
        self.files[0].write(pieces[0][:7])
        self.files[0].flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if len(calls) == at and what == "journal":
        self.journal.write(b'{{"rows": 3')
        self.journal.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, pieces)
    if len(calls) == at and what == "wait":
        print("waiting", flush=True)
        import time
        time.sleep(60)
partial.Partial.append = stop
sys.exit(cli.main(sys.argv[3:]))
"""


def start(at, what, line):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    args = [sys.executable, "-c", SCRIPT, at, what, *line]
    return subprocess.Popen(
        list(map(str, args)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process(model, tmp_path, capsys):
    whole = expected(capsys, model, tmp_path, "out.csv")
    line = command(model, tmp_path, "out.csv")
    for at, what, more in ((3, "kill", []), (1, "journal", ["--resume"]), (2, "kill", ["--resume"])):
        process = start(at, what, [*line, *more])
        _, err = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, err
        assert not (tmp_path / "out.csv").exists() and len(partials(tmp_path)) == 2
    code, err = run(capsys, *line)
    assert code == 2 and "--resume" in err and "--overwrite" in err
    code, err = run(capsys, *line, "--resume")
    assert code == 0 and "going on after 24 rows" in err
    assert (tmp_path / "out.csv").read_bytes() == whole and partials(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT for another process")
def test_a_real_ctrl_c_and_two_runs_at_once(model, tmp_path, capsys):
    whole = expected(capsys, model, tmp_path, "out.csv")
    line = command(model, tmp_path, "out.csv")
    process = start(3, "wait", line)
    assert process.stdout.readline() == "waiting\n"
    code, err = run(capsys, *line, "--resume")
    assert code == 2 and "another process" in err
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted after 16 rows" in err
    assert run(capsys, *line, "--resume")[0] == 0
    assert (tmp_path / "out.csv").read_bytes() == whole


@pytest.mark.parametrize("target", ["csv", "npz", "parquet"])
def test_a_full_disk(target, model, tmp_path, capsys, monkeypatch):
    """A limit on the size of files stands in for the disk: the same error of the same system calls."""
    resource = pytest.importorskip("resource", reason="needs limits on the size of files")
    if target == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    whole = expected(capsys, model, tmp_path, f"out.{target}")
    line = command(model, tmp_path, f"out.{target}")
    before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = {"csv": 1500, "npz": 230, "parquet": 6000}[target]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[0][1]))
    monkeypatch.setattr(partial.Partial, "_write_journal", small_journal(limit))
    try:
        code, err = run(capsys, *line)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[0])
        signal.signal(signal.SIGXFSZ, before[1])
    monkeypatch.undo()
    monkeypatch.setattr(chunks, "CHUNK_ROWS", CHUNK)
    assert code == 2 and f"out.{target}: cannot be written" in err and "--resume" in err and "Traceback" not in err
    assert not (tmp_path / f"out.{target}").exists() and len(partials(tmp_path)) >= 2
    code, err = run(capsys, *line, "--resume")
    assert code == 0 and "going on after" in err and (tmp_path / f"out.{target}").read_bytes() == whole


def small_journal(limit):
    """The journal is larger than the outputs of these tests: it alone has no limit here."""
    import resource

    write = partial.Partial._write_journal

    def unlimited(self, line):
        low, high = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (high, high))
        try:
            write(self, line)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (low, high))

    return unlimited


def interrupted(capsys, monkeypatch, line):
    """A run that ends after two chunks."""
    append, count = partial.Partial.append, itertools.count()

    def stop(self, pieces):
        if next(count) == 2:
            raise KeyboardInterrupt
        append(self, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(partial.Partial, "append", stop)
        assert run(capsys, *line)[0] == 130


def test_going_on_needs_the_same_input_model_and_options(model, tmp_path, capsys, monkeypatch):
    own = tmp_path / "model.fbl"
    own.write_bytes(model.read_bytes())
    line = command(own, tmp_path, "out.csv")
    interrupted(capsys, monkeypatch, line)
    left = {name: (tmp_path / name).read_bytes() for name in partials(tmp_path)}

    def refused(part, *more):
        code, err = run(capsys, *line, "--resume", *more)
        assert code == 2 and part in err and "--overwrite" in err, err
        assert {name: (tmp_path / name).read_bytes() for name in partials(tmp_path)} == left

    refused("option --maxlen", "--maxlen", 3)
    refused("option --on-error", "--on-error", "skip")
    refused("option --output-column", "--output-column", "y")
    os.utime(tmp_path / "in.jsonl", (1, 1))
    refused("input")
    stamp = time.time() - 100
    content = (tmp_path / "in.jsonl").read_bytes()
    (tmp_path / "in.jsonl").write_bytes(content + b"\n")
    os.utime(tmp_path / "in.jsonl", (stamp, stamp))
    refused("input")
    save_model(tmp_path / "other.fbl", units=2).replace(own)
    refused("model")
    code, err = run(capsys, *line)
    assert code == 2 and "left by an interrupted run" in err
    code, err = run(capsys, *line, "--overwrite")
    assert code == 0 and "going on" not in err and partials(tmp_path) == []


def test_a_damaged_journal_or_a_part_that_is_too_short(model, tmp_path, capsys, monkeypatch):
    line = command(model, tmp_path, "out.csv")
    interrupted(capsys, monkeypatch, line)
    journal, part = tmp_path / "out.csv.partial.journal", tmp_path / "out.csv.partial"
    entries, content = journal.read_bytes(), part.read_bytes()
    part.write_bytes(content[:10])
    code, err = run(capsys, *line, "--resume")
    assert code == 2 and "shorter" in err
    part.write_bytes(content)
    journal.write_bytes(entries[:40] + b"\n" + entries)
    code, err = run(capsys, *line, "--resume")
    assert code == 2 and "damaged" in err
    # Without an entry there is nothing to go on with.
    journal.write_bytes(entries.splitlines(keepends=True)[0] + b'{"rows"')
    code, err = run(capsys, *line, "--resume")
    assert code == 0 and "going on" not in err and partials(tmp_path) == []


def test_the_list_of_bad_rows_goes_on_too(model, tmp_path, capsys, monkeypatch):
    errors = ["--errors", tmp_path / "bad.jsonl"]
    line = command(model, tmp_path, "out.npy", *errors)
    append, count = partial.Partial.append, itertools.count()

    def stop(self, pieces):
        if next(count) == 5:
            raise KeyboardInterrupt
        append(self, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(partial.Partial, "append", stop)
        assert run(capsys, *line)[0] == 130
    assert not (tmp_path / "bad.jsonl").exists()
    code, err = run(capsys, *line, "--resume")
    assert code == 0 and "row 20 (line 21)" in err
    assert [json.loads(entry)["row"] for entry in (tmp_path / "bad.jsonl").read_text().splitlines()] == [20]


def test_a_target_that_exists_stays_until_the_new_one_is_whole(model, tmp_path, capsys, monkeypatch):
    line = command(model, tmp_path, "out.csv", "--overwrite")
    (tmp_path / "out.csv").write_text("mine")
    interrupted(capsys, monkeypatch, line)
    assert (tmp_path / "out.csv").read_text() == "mine"
    code, err = run(capsys, *line, "--resume")
    assert code == 0 and "going on after 16 rows" in err and (tmp_path / "out.csv").read_text() != "mine"


def test_resume_with_nothing_to_go_on_with_begins(model, tmp_path, capsys):
    code, err = run(capsys, *command(model, tmp_path, "out.csv", "--resume"))
    assert code == 0 and "going on" not in err
    code, err = run(capsys, *command(model, tmp_path, "out.csv", "--resume"))
    assert code == 2 and "exists already" in err


def test_no_permission_to_write(model, tmp_path, capsys, monkeypatch):
    def refuse(self, identity):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(partial.Partial, "_write_journal", refuse)
    code, err = run(capsys, *command(model, tmp_path, "out.csv"))
    assert code == 2 and "out.csv: cannot be written (Permission denied)" in err and "--resume" not in err
    assert partials(tmp_path) == []
