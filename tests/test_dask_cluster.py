"""Dask on a cluster: each row comes back once, with the bits of a local prediction, whatever happens to a worker.

One cluster of two processes on 127.0.0.1 serves all tests. A worker that dies kills itself with SIGKILL in the
middle of a task.
"""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fastbilstm
from fastbilstm.cli import commands as cli
from fastbilstm.clusters.batch_predictor import BatchPredictor
from fastbilstm.errors import FastBiLSTMError, FileFormatError, InputError, MissingExtraError
from fastbilstm.scoring.chunk import Chunk

distributed = pytest.importorskip("distributed", reason="needs Dask's distributed")
pd = pytest.importorskip("pandas", reason="needs pandas")
da = pytest.importorskip("dask.array", reason="needs Dask")
db = pytest.importorskip("dask.bag", reason="needs Dask")
pytest.importorskip("dask.dataframe", reason="needs Dask's DataFrame")

from test_dask import DEMO, ROWS, frame_of, make_ids, spoiled  # noqa: E402

from fastbilstm.clusters import dask_chunks as dask_cluster  # noqa: E402
from fastbilstm.clusters import dask_collections as engine  # noqa: E402


@pytest.fixture(scope="module")
def ids():
    return make_ids()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The demo model, converted: a file that is memory-mapped."""
    path = tmp_path_factory.mktemp("dask") / "model.fbl"
    fastbilstm.convert(DEMO, path)
    return path


@pytest.fixture(scope="module")
def answers(path, ids):
    return fastbilstm.load(path).predict(ids)


@pytest.fixture(scope="module")
def cluster():
    options = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
    with distributed.LocalCluster(silence_logs=50, **options) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def count_loads():
    from fastbilstm.clusters import batch_predictor as batches
    from fastbilstm.converted import fbl_file

    fbl_file.MAPPED_FROM = 100
    load, batches.loads = batches.load, []
    batches.load = lambda *args, **options: batches.loads.append(args[0]) or load(*args, **options)


def what_a_worker_has(path):
    from fastbilstm.clusters import batch_predictor as batches

    with open("/proc/self/maps") as file:
        mapped = str(path) in file.read()
    return batches.loads.count(str(path)), mapped, [t.name for t in threading.enumerate() if t.name == "fastbilstm"]


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="reads /proc")
def test_each_worker_maps_a_large_file_once_and_starts_no_threads(client, path, ids, answers):
    client.run(count_loads)
    many, expected = np.tile(ids, (8, 1)), np.tile(answers, (8, 1))
    y = engine.predict(path, da.from_array(many, chunks=(10, 400)))
    frame = engine.predict(path, frame_of(ids, 8), columns="ids")
    bag = engine.predict(path, db.from_sequence(ids.tolist(), npartitions=8))
    assert np.array_equal(client.compute(y).result(), expected)
    assert np.array_equal(client.compute(frame).result()["prediction"], answers[:, 0])
    assert client.compute(bag).result() == answers[:, 0].tolist()
    chunks = list(
        engine.predict_chunks(BatchPredictor(path), [{"ids": part} for part in ids.reshape(8, 5, 400)], address(client))
    )
    assert np.array_equal(np.concatenate([chunk["prediction"] for chunk in chunks]), answers[:, 0])
    assert client.run(what_a_worker_has, path) == dict.fromkeys(client.nthreads(), (1, True, []))


def address(client):
    return client.scheduler.address


def test_a_model_travels_to_each_worker_once(client, path, ids, answers):
    """As the result of one task: no task holds it."""
    y = engine.predict(fastbilstm.load(path), da.from_array(ids, chunks=(2, 400)))
    future = client.compute(y)
    assert np.array_equal(future.result(), answers)
    names = [str(name) for name in y.__dask_graph__()]
    assert sum("fastbilstm-predictor" in name for name in names) == 1


def test_warnings_and_errors_of_workers_reach_the_caller(client, path, ids):
    y = engine.predict(path, da.from_array(spoiled(ids), chunks=(10, 400)), on_error="null")
    with pytest.warns(RuntimeWarning, match=r"block 1 .*: 2 of 10 rows have no answer"):
        client.compute(y).result()
        end = time.monotonic() + 10
        while time.monotonic() < end and not distributed_warned(client):
            time.sleep(0.05)
    y = engine.predict(path, da.from_array(spoiled(ids), chunks=(10, 400)))
    with pytest.raises(InputError, match=r"block 1 .*: row 13: .*9999"):
        client.compute(y).result()


def distributed_warned(client):
    return bool(client.get_events("warn"))


# ---- a worker dies ---------------------------------------------------------------------------------------------------


def die_once(marker):
    """Kill this process in the middle of its task, the first time that anybody comes here."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    with open(marker, "w") as file:
        file.write(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(block, marker=None, number=17):
    """A partition as it came; the one that holds a certain row kills its worker once."""
    rows = list(block) if not hasattr(block, "columns") else block
    found = (
        rows["n"].tolist()
        if hasattr(rows, "columns")
        else [row["n"] if isinstance(row, dict) else row[0] for row in rows]
    )
    if number in found:
        die_once(marker)
    return block if hasattr(block, "columns") or isinstance(block, np.ndarray) else rows


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
@pytest.mark.parametrize("kind", ["array", "frame", "bag"])
def test_a_killed_worker_loses_nothing(kind, client, path, ids, answers, tmp_path):
    marker = str(tmp_path / "pid")
    ids = ids.copy()
    ids[:, 0] = np.arange(ROWS)  # numbered rows
    answers = fastbilstm.load(path).predict(ids)
    if kind == "array":
        x = da.from_array(ids, chunks=(2, 400)).map_blocks(deadly, marker=marker, meta=ids[:0])
        y = engine.predict(path, x)
    elif kind == "frame":
        frame = frame_of(ids, 20)
        y = engine.predict(path, frame.map_partitions(deadly, marker=marker, meta=frame._meta), columns="ids")
    else:
        rows = [{"n": n, "ids": row} for n, row in enumerate(ids.tolist())]
        y = engine.predict(
            path, db.from_sequence(rows, npartitions=20).map_partitions(deadly, marker=marker), columns="ids"
        )
    pids = set(client.run(os.getpid).values())
    found = client.compute(y).result(timeout=60)
    killed = int(Path(marker).read_text())
    assert killed in pids and killed not in client.run(os.getpid).values()
    if kind == "array":
        assert np.array_equal(found, answers)
        return
    if kind == "bag":
        assert [row["ids"] for row in found] == ids.tolist()
        found = pd.DataFrame(found)
    assert found["n"].tolist() == list(range(ROWS)) and np.array_equal(found["prediction"], answers[:, 0])


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
            1 + dask_cluster.RETRIES,
            FastBiLSTMError,
            "chunk 0: OSError: the disk is away. The",
        ),
        (
            TimeoutError("of the task"),
            1 + dask_cluster.RETRIES,
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
    monkeypatch.setattr(dask_cluster, "_CONNECT_TIMEOUT", 0.5)
    with pytest.raises(FastBiLSTMError, match=message):
        next(engine.predict_chunks(len, [[]], where))


def test_a_scheduler_without_workers(monkeypatch):
    monkeypatch.setattr(dask_cluster, "_WORKER_TIMEOUT", 0.3)
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
    monkeypatch.setattr(dask_cluster, "_CONNECT_TIMEOUT", 0.5)
    code, err = command(capsys, path, source, "-o", target, "--dask", "tcp://127.0.0.1:1")
    assert code == 2 and "Dask scheduler 'tcp://127.0.0.1:1' cannot be reached" in err and not target.exists()
