"""Every write, fsync, rename, opening and reading of a small run fails in turn, and the process is killed at each.

After each the error is ours and names a file, the target is what it was or whole, and --resume gives the same bytes.
FASTBILSTM_FAULTS=all tries each number; by default some of them, the first and the last always.
"""

import contextlib
import io
import itertools
import json
import os
from pathlib import Path

import pytest
from cases import CASES
from faults import CHANGES, KINDS, Crash, Faults
from small_files import FORMATS_OUT, STEPS, make_ids, save_model, write_rows

import fastbilstm
from fastbilstm.cli import commands as cli
from fastbilstm.clusters import batch_predictor
from fastbilstm.scoring import column_scorer, line_readers, loop, resumable_file, writers

ALL = os.environ.get("FASTBILSTM_FAULTS") == "all"
ROWS, CHUNK = 28, 8
OLD = b"of another run"


def numbers(count, some=7):
    """Which of `count` operations fail in turn."""
    if ALL or count <= 2 * some:
        return range(count)
    return sorted({*range(3), *range(3, count - 4, -(-count // some)), *range(count - 4, count)})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "model.fbl")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Each chunk is noted in the journal."""
    monkeypatch.setattr(loop, "CHUNK_ROWS", CHUNK)
    monkeypatch.setattr(resumable_file, "INTERVAL", 0)


class Run:
    """A run of `predict` with a bad row and --errors, in a folder of its own for each attempt."""

    def __init__(self, model, folder, target, source, exists):
        self.folder, self.target, self.exists = folder, f"out.{target}", exists
        self.numbers = itertools.count()
        self.model = folder / "model.fbl"
        self.model.write_bytes(model.read_bytes())
        self.source = folder / f"in.{source}"
        ids = make_ids(ROWS)
        if source == "npy":
            import numpy as np

            ids[9, 3] = 77
            np.save(self.source, ids)
        elif source in ("csv", "parquet"):
            ids[9, 3] = 77
            write_rows(self.source, ids)
        else:
            lines = [json.dumps({"x": row}) for row in ids.tolist()]
            lines[9] = "no JSON"
            self.source.write_text("\n".join(lines))
        self.columns = [] if source == "npy" else ["--columns", "x"]
        self.folder_of_run = self.start()
        assert self.command()[0] == 0
        self.whole = self.contents()
        assert sorted(self.whole) == ["errors.jsonl", self.target]

    def start(self):
        """A new folder, with files of another run under the names of the outputs if `exists`."""
        self.folder_of_run = self.folder / str(next(self.numbers))
        self.folder_of_run.mkdir()
        if self.exists:
            for name in (self.target, "errors.jsonl"):
                (self.folder_of_run / name).write_bytes(OLD)
        return self.folder_of_run

    def command(self, *more):
        """(exit code, standard error)."""
        batch_predictor._entries.clear()
        options = ["--batch-size", 4, "--on-error", "null", "--errors", self.folder_of_run / "errors.jsonl"]
        options += ["--overwrite"] if self.exists else []
        line = ["predict", self.model, self.source, "-o", self.folder_of_run / self.target, *self.columns, *options]
        with contextlib.redirect_stderr(io.StringIO()) as err:
            code = cli.main([str(a) for a in (*line, *more)])
        return code, err.getvalue()

    def with_faults(self, faults):
        """The command while `faults` are in place: (exit code or None after a crash, standard error)."""
        with pytest.MonkeyPatch.context() as patch:
            faults.install(patch)
            try:
                return self.command()
            except Crash:
                return None, ""
            finally:
                faults.end()

    def contents(self):
        return {path.name: path.read_bytes() for path in sorted(self.folder_of_run.iterdir())}

    def check_outputs(self, label):
        """Each output is what it was before, or whole."""
        found = self.contents()
        for name, whole in self.whole.items():
            assert found.get(name) in (OLD if self.exists else None, whole), (label, name)
        return found

    def check_resume(self, label):
        """Going on gives the same bytes, and leaves nothing beside them."""
        code, err = self.command("--resume")
        if code == 2 and "exists already" in err:
            assert not self.exists and set(self.contents()) == set(self.whole), (label, err)
        else:
            assert code == 0, (label, err)
        assert self.contents() == self.whole, label


def count_of(run, kinds):
    """How many operations a run without faults has."""
    run.start()
    faults = Faults(run.folder, kinds)
    assert run.with_faults(faults)[0] == 0 and run.contents() == run.whole
    return faults.count


# Formats and the kinds of files on their way: text, arrays that begin with a number of rows, archives, Parquet.
RUNS = [("csv", "jsonl", True), ("jsonl", "npy", False), ("npy", "jsonl", False), ("npz", "npy", True)]
RUNS += [("parquet", "jsonl", False), ("csv", "parquet", False), ("jsonl", "csv", True)]


@pytest.fixture(params=RUNS, ids=["-".join(map(str, run[:2])) for run in RUNS])
def run(request, model, tmp_path):
    if "parquet" in request.param:
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    return Run(model, tmp_path, *request.param)


def test_the_runs_have_all_formats():
    assert {target for target, *_ in RUNS} == set(FORMATS_OUT)


@pytest.mark.parametrize("kind", KINDS)
def test_predict_with_a_fault(kind, run):
    count = count_of(run, (kind,))
    assert count >= {"open": 3, "write": 10, "fsync": 10, "rename": 2, "read": 5}[kind]
    for number in numbers(count):
        run.start()
        faults = Faults(run.folder, (kind,), number)
        code, err = run.with_faults(faults)
        label = f"{kind} {number} of {count}: {faults.failed}: {err}"
        assert faults.failed is not None, label
        assert code == 2 and err.startswith("fastbilstm: ") and "injected fault" in err, label
        assert any(name in err for name in (run.target, "errors.jsonl", run.source.name, "model.fbl")), label
        run.check_outputs(label)
        run.check_resume(label)


def test_predict_killed(run):
    """As if at each change of the disk the process ended."""
    count = count_of(run, CHANGES)
    for number in numbers(count, 24):
        run.start()
        faults = Faults(run.folder, CHANGES, number, crash=True)
        code, err = run.with_faults(faults)
        label = f"change {number} of {count}: {faults.failed}: {err}"
        assert code is None, label
        run.check_outputs(label)
        run.check_resume(label)
    assert not list(run.folder.glob("*/*partial*"))


def test_going_on_killed(run):
    """A run that ended in the middle is gone on with, and that ends too, at each change of the disk."""
    middle = count_of(run, CHANGES) // 2

    def half_done():
        run.start()
        assert run.with_faults(Faults(run.folder, CHANGES, middle, crash=True))[0] is None

    def going_on(faults):
        command, run.command = run.command, lambda: command("--resume")
        try:
            return run.with_faults(faults)
        finally:
            run.command = command

    half_done()
    faults = Faults(run.folder, CHANGES)
    assert going_on(faults)[0] == 0 and run.contents() == run.whole
    for number in numbers(faults.count, 12):
        half_done()
        killed = Faults(run.folder, CHANGES, number, crash=True)
        label = f"change {number} of {faults.count}: {going_on(killed)}: {killed.failed}"
        assert killed.dead, label
        run.check_outputs(label)
        run.check_resume(label)


def test_killed_between_two_renames(run):
    """The errors have their name and the output has not: going on renames it, without reading a row."""
    faults = Faults(run.folder, ("rename",), 1, crash=True)
    run.start()
    assert run.with_faults(faults)[0] is None
    found = run.contents()
    assert found["errors.jsonl"] == run.whole["errors.jsonl"] and found.get(run.target) == (OLD if run.exists else None)
    if not run.exists:
        code, err = run.command()
        assert code == 2 and "errors.jsonl: exists already" in err
        assert run.contents() == found
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.FileScores, "results", None)
        code, err = run.command("--resume")
    assert code == 0 and f"all {ROWS} rows were done; " in err and f"1 of {ROWS} rows have no answer" in err
    assert run.contents() == run.whole


def test_killed_after_the_last_rename(run):
    run.start()
    count = count_of(run, CHANGES)
    for number in reversed(range(count)):
        run.start()
        faults = Faults(run.folder, CHANGES, number, crash=True)
        assert run.with_faults(faults)[0] is None
        if faults.failed[0] == "rename":
            break
        assert run.contents().items() >= run.whole.items()
        (run.folder_of_run / run.target).unlink()
        # Whoever took the output away and begins again gets it again.
        assert run.command("--resume", "--overwrite")[0] == 0 and run.contents() == run.whole
    assert number < count - 3


# ---- memory ----------------------------------------------------------------------------------------------------------

PLACES = {
    "reading": (line_readers.JsonLines, "columns"),
    "scoring": (column_scorer.ColumnScorer, "_score"),
    "writing": (writers._JsonLines, "encode"),
    "appending": (resumable_file.Partial, "append"),
    "noting": (resumable_file.Partial, "checkpoint"),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_memory_at_a_chunk(place, model, tmp_path):
    run = Run(model, tmp_path, "jsonl", "jsonl", False)
    owner, name = PLACES[place]
    function = getattr(owner, name)
    for number in range(-(-ROWS // CHUNK)):
        run.start()
        calls = itertools.count()

        def fail(*args, number=number, calls=calls):
            if next(calls) == number:
                raise MemoryError
            return function(*args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, fail)
            code, err = run.command()
        label = f"{place} {number}: {err}"
        assert code == 2 and "in.jsonl: the memory did not suffice after" in err and "Traceback" not in err, label
        assert run.check_outputs(label).keys() & run.whole.keys() == set()
        assert ("go on with --resume" in err) == bool(list(run.folder_of_run.glob("*.partial"))), label
        run.check_resume(label)


# ---- converted files -------------------------------------------------------------------------------------------------


def converted_runs(model, folder):
    """What writes a converted file: (name, function of the target)."""
    source = folder / "source.fbl"
    source.write_bytes(model.read_bytes())
    loaded = fastbilstm.load(model)
    yield "save", lambda target: loaded.save(target, overwrite=True)
    for kind in ("h5", "keras"):
        case = next(case for case in CASES if case.file.endswith(kind) and "LSTM" in case.covers and not case.config)
        file = folder / f"source.{kind}"
        file.write_bytes(case.read(case.file))
        yield kind, lambda target, file=file: fastbilstm.convert(file, target, overwrite=True)
    yield "convert", lambda target: fastbilstm.convert(source, target, overwrite=True)
    yield "over itself", lambda target: fastbilstm.convert(target, target, overwrite=True)


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_converted_files(kind, crash, model, tmp_path):
    target = tmp_path / "out" / "model.fbl"
    target.parent.mkdir()
    for name, write in converted_runs(model, tmp_path):
        target.write_bytes(model.read_bytes())
        write(target)
        whole = target.read_bytes()
        old = whole if name == "over itself" else OLD
        for number in itertools.count():
            target.write_bytes(old)
            faults = Faults(tmp_path, (kind,), number, crash)
            with pytest.MonkeyPatch.context() as patch:
                faults.install(patch)
                try:
                    write(target)
                    error = None
                except (fastbilstm.FastBiLSTMError, Crash) as raised:
                    error = raised
                faults.end()
            label = (name, kind, number, faults.failed)
            assert target.read_bytes() in (old, whole), label
            if faults.failed is None:
                assert error is None and number >= {"fsync": 2, "read": 0 if name == "save" else 5}.get(kind, 1), label
                break
            assert isinstance(error, Crash if crash else fastbilstm.FastBiLSTMError), label
            if not crash:
                told = isinstance(error, OSError) or isinstance(error.__cause__, OSError)
                assert told and ("model.fbl" in str(error) or "source." in str(error)), (label, error)
            left = [path for path in target.parent.iterdir() if path != target]
            assert crash or not left, label
            for path in left:
                assert path.name.startswith(".") and path.name.endswith(".partial"), label
                path.unlink()
        assert target.read_bytes() == whole


def test_the_faults_reach_what_they_are_for(tmp_path):
    """The harness itself: what is written before a crash is there, what was buffered is not, an error comes once."""
    faults = Faults(tmp_path, ("write",), 1, crash=True)
    with pytest.MonkeyPatch.context() as patch:
        faults.install(patch)
        with open(tmp_path / "a", "wb") as file:
            file.write(b"one")
        with pytest.raises(Crash), open(tmp_path / "b", "wb") as file:
            file.write(b"four")
        with pytest.raises(Crash):
            os.unlink(tmp_path / "a")
        faults.end()
    assert (tmp_path / "a").read_bytes() == b"one" and (tmp_path / "b").read_bytes() == b"fo"
    faults = Faults(tmp_path, ("write",), 0)
    with pytest.MonkeyPatch.context() as patch:
        faults.install(patch)
        with pytest.raises(OSError, match="injected fault of write"), open(tmp_path / "c", "wb") as file:
            file.write(b"one")
        Path(tmp_path / "c").write_text("two")
        faults.end()
    assert (tmp_path / "c").read_text() == "two" and STEPS
