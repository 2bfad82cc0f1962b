"""Dask's collections on a cluster: each row comes back once, with the bits of a local prediction.

Whatever happens to a worker: one that dies kills itself with SIGKILL in the middle of a task.
"""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from dask_cases import ROWS, address, die_once, frame_of, spoiled

import fastbilstm
from fastbilstm.clusters import dask_collections as engine
from fastbilstm.clusters.batch_predictor import BatchPredictor
from fastbilstm.errors import InputError

pytest.importorskip("distributed", reason="needs Dask's distributed")
pd = pytest.importorskip("pandas", reason="needs pandas")
da = pytest.importorskip("dask.array", reason="needs Dask")
db = pytest.importorskip("dask.bag", reason="needs Dask")
pytest.importorskip("dask.dataframe", reason="needs Dask's DataFrame")


def count_loads():
    from fastbilstm.clusters import batch_predictor as batches
    from fastbilstm.converted import mapped_file

    mapped_file.MAPPED_FROM = 100
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
