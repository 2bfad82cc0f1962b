"""The chunks of a file on a Dask cluster: in order, each once, whatever happens to a worker; `predict --dask`.

A worker that dies kills itself with SIGKILL in the middle of a task.
"""

import os
import time

import numpy as np
import pytest
from dask_cases import ROWS, address, die_once, spoiled

from fastbilstm.cli import commands as cli
from fastbilstm.clusters import dask_chunks
from fastbilstm.clusters import dask_collections as engine
from fastbilstm.clusters.batch_predictor import BatchPredictor
from fastbilstm.errors import FastBiLSTMError, FileFormatError, InputError, MissingExtraError
from fastbilstm.scoring.chunk import Chunk

distributed = pytest.importorskip("distributed", reason="needs Dask's distributed")


class Deadly:
    """A predictor that kills its worker once, after some chunks."""

    def __init__(self, predictor, marker):
        self.predictor, self.marker = predictor, marker

    def __call__(self, chunk):
        if chunk.start == 18:
            die_once(self.marker)
        return self.predictor(chunk)


def chunks_of(ids, size=2):
    return [Chunk(k, len(ids[k : k + size]), {"ids": ids[k : k + size]}) for k in range(0, len(ids), size)]


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_a_killed_worker_loses_no_chunk(client, path, ids, answers, tmp_path):
    predictor = Deadly(BatchPredictor(path, columns="ids", n_threads=1), str(tmp_path / "pid"))
    pids = set(client.run(os.getpid).values())
    found = list(engine.predict_chunks(predictor, chunks_of(ids), address(client)))
    assert [chunk.start for chunk in found] == list(range(0, ROWS, 2))
    assert np.array_equal(np.concatenate([chunk.outputs["prediction"] for chunk in found]), answers[:, 0])
    assert int((tmp_path / "pid").read_text()) in pids


# ---- chunks of a file ------------------------------------------------------------------------------------------------


def test_chunks_come_in_order_and_few_are_read_ahead(client):
    read = []

    def chunks():
        for number in range(60):
            read.append(number)
            yield number

    results = engine.predict_chunks(slow_and_uneven, chunks(), address(client))
    for number in range(30):
        assert next(results) == 2 * number
        assert len(read) <= number + 1 + 2 * 4
    results.close()
    assert client.run_on_scheduler(scheduled) == []
    assert list(engine.predict_chunks(slow_and_uneven, [], address(client))) == []


def slow_and_uneven(number):
    time.sleep(0.01 * (3 - number % 3))
    return 2 * number


def test_bad_rows_of_chunks(client, path, ids, answers):
    chunks = chunks_of(spoiled(ids), 8)
    results = engine.predict_chunks(BatchPredictor(path, columns="ids"), chunks, address(client))
    assert np.array_equal(next(results).outputs["prediction"], answers[:8, 0])
    with pytest.raises(InputError, match=r"^row 13: .*\(13, 5\) is 9999"):
        list(results)
    found = list(engine.predict_chunks(BatchPredictor(path, columns="ids", on_error="null"), chunks, address(client)))
    assert [sorted(chunk.bad) for chunk in found] == [[], [5], [1], [], []]
    assert "9999" in found[1].bad[5]


class Failing:
    def __init__(self, log, error):
        self.log, self.error = log, error

    def __call__(self, chunk):
        with open(self.log, "a") as file:
            file.write("x")
        raise self.error


@pytest.mark.parametrize(
    ("error", "calls", "kind", "message"),
    [
        (InputError("row 3"), 1, InputError, "^row 3$"),
        (FileFormatError("m.fbl: is empty"), 1, FileFormatError, r"^on the Dask worker tcp://127.*: m.fbl: is empty"),
        (
            MissingExtraError("h5py", "convert", "reading"),
            1,
            MissingExtraError,
            r"^on the Dask worker tcp://.*reading needs",
        ),
        (
            OSError("the disk is away"),
            1 + dask_chunks.RETRIES,
            FastBiLSTMError,
            "chunk 0: OSError: the disk is away. The",
        ),
        (
            TimeoutError("of the task"),
            1 + dask_chunks.RETRIES,
            FastBiLSTMError,
            "chunk 0: TimeoutError: of the task. The",
        ),
    ],
)
def test_errors_on_workers(error, calls, kind, message, client, tmp_path):
    log = tmp_path / "calls"
    with pytest.raises(kind, match=message) as caught:
        list(engine.predict_chunks(Failing(log, error), [1], address(client)))
    assert type(caught.value) is kind and log.read_text() == "x" * calls


def test_ctrl_c_cancels_what_is_under_way(client, tmp_path):
    def chunks():
        for number in range(100):
            if number == 7:
                raise KeyboardInterrupt
            yield str(tmp_path / str(number))

    with pytest.raises(KeyboardInterrupt):
        list(engine.predict_chunks(touch_and_sleep, chunks(), address(client)))
    end = time.monotonic() + 10
    while time.monotonic() < end and (left := client.run_on_scheduler(scheduled)):
        time.sleep(0.05)
    assert not left
    # Four threads may have begun one each; the rest never runs.
    time.sleep(1)
    assert len(os.listdir(tmp_path)) <= 4


def touch_and_sleep(path):
    open(path, "w").close()
    time.sleep(0.6)


def scheduled(dask_scheduler):
    return [key for key in dask_scheduler.tasks if "_run_chunk" in str(key)]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("tcp://127.0.0.1:1", "'tcp://127.0.0.1:1' cannot be reached .*; expected tcp://host:port of a running one"),
        ("nowhere://x", "'nowhere://x' cannot be reached .*unknown address scheme"),
        ("", "'' cannot be reached"),
    ],
)
def test_schedulers_that_are_not_there(where, message, monkeypatch):
    monkeypatch.setattr(dask_chunks, "_CONNECT_TIMEOUT", 0.5)
    with pytest.raises(FastBiLSTMError, match=message):
        next(engine.predict_chunks(len, [[]], where))


def test_a_scheduler_without_workers(monkeypatch):
    monkeypatch.setattr(dask_chunks, "_WORKER_TIMEOUT", 0.3)
    with distributed.LocalCluster(
        n_workers=0, dashboard_address="127.0.0.1:0", host="127.0.0.1", silence_logs=50
    ) as empty:
        with pytest.raises(FastBiLSTMError, match="had no worker for 0.3 seconds"):
            list(engine.predict_chunks(len, [[1]], empty.scheduler_address))


# ---- the command -----------------------------------------------------------------------------------------------------


def command(capsys, *args):
    code = cli.main(["predict", *map(str, args)])
    return code, capsys.readouterr().err


def test_the_command_writes_the_same_file(client, path, ids, tmp_path, capsys):
    source, lines = (
        tmp_path / "in.csv",
        [f'{n},"{" ".join(map(str, row))}"' for n, row in enumerate(np.tile(ids, (32, 1)))],
    )
    source.write_text("\n".join(["n,ids", *lines]) + "\n")
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    assert command(capsys, path, source, "-o", here, "--columns", "ids") == (0, "")
    assert command(capsys, path, source, "-o", there, "--columns", "ids", "--dask", address(client)) == (0, "")
    assert here.read_bytes() == there.read_bytes() and len(here.read_text().splitlines()) == 32 * ROWS + 1
    lines[1205] = lines[1205].replace(" ", " 9999 ", 1).rpartition(" ")[0] + '"'
    source.write_text("\n".join(["n,ids", *lines]) + "\n")
    code, err = command(capsys, path, source, "-o", there, "--columns", "ids", "--dask", address(client), "--overwrite")
    assert code == 2 and "row 1205 (line 1207): " in err and "9999" in err
    assert here.read_bytes() == there.read_bytes()  # what was there before
    options = ("--columns", "ids", "--on-error", "null", "--overwrite")
    code, err = command(capsys, path, source, "-o", there, "--dask", address(client), *options)
    assert code == 0 and "1 of 1,280 rows have no answer" in err
    assert command(capsys, path, source, "-o", here, *options) == (0, err)
    assert here.read_bytes() == there.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["here.csv", "in.csv", "there.csv"]


def test_the_command_without_a_scheduler(path, ids, tmp_path, capsys, monkeypatch):
    source, target = tmp_path / "in.npy", tmp_path / "out.npy"
    np.save(source, ids)
    monkeypatch.setattr(dask_chunks, "_CONNECT_TIMEOUT", 0.5)
    code, err = command(capsys, path, source, "-o", target, "--dask", "tcp://127.0.0.1:1")
    assert code == 2 and "Dask scheduler 'tcp://127.0.0.1:1' cannot be reached" in err and not target.exists()
