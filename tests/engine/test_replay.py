"""Small predictions that are run again without Python: the same bits as the first one, for every golden case.

A tape is recorded when a shape comes for the second time; the third prediction plays it.
"""

import contextlib
import os
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
from cases import CASES
from engine_nets import inputs, load
from paths import DEMO

import fastbilstm

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
from fastbilstm.engine import plan, replay  # noqa: E402

NETS = [case for case in CASES if not case.derived]


def arrays_of(y):
    return [
        a for part in (y.values() if isinstance(y, dict) else [y]) for a in (part if isinstance(part, list) else [part])
    ]


def same(a, b):
    return all(
        np.array_equal(x, y, equal_nan=x.dtype.kind == "f") and x.dtype == y.dtype for x, y in zip(a, b, strict=True)
    )


def other(x, rng):
    """Another input of the same shape: rows and timesteps in another order."""
    if isinstance(x, list):
        return [other(part, rng) for part in x]
    if isinstance(x, dict):
        return {name: other(part, rng) for name, part in x.items()}
    return np.ascontiguousarray(x[::-1] if x.ndim == 1 else rng.permutation(x.reshape(-1)).reshape(x.shape))


@pytest.mark.parametrize("case", NETS, ids=lambda case: case.name)
def test_a_tape_gives_the_same_bits(case):
    (x, *_) = case.inputs
    model = fastbilstm.load(**case.load_args(), dtype="float32")
    if model._plan.replay is None or model._plan.stateful:
        pytest.skip("text, states, or another backend")
    rng = np.random.default_rng(0)
    fresh = lambda: fastbilstm.load(**case.load_args(), dtype="float32")  # noqa: E731
    first = arrays_of(model.predict(x))
    for _ in range(3):
        assert same(arrays_of(model.predict(x)), first)
    y = other(x, rng)
    try:
        expected = arrays_of(fresh().predict(y))
    except fastbilstm.InputError:
        return
    assert same(arrays_of(model.predict(y)), expected)
    assert same(arrays_of(model(x)), first)
    assert same(arrays_of(model.predict(x, n_threads=2)), first)


def test_what_is_kept(monkeypatch):
    """A tape for a small shape that comes twice; the oldest of many goes, and large ones are not kept."""
    monkeypatch.setattr(replay, "MOST_SHAPES", 16)
    case = next(case for case in NETS if case.name == "lstm-default-keras3")
    model = fastbilstm.load(**case.load_args(), dtype="float32")
    tapes, shape = model._plan.replay.tapes.by_shape, model.inputs[0].shape[1:]
    row = np.zeros((1, *shape), np.float32)
    model.predict(row)
    assert not tapes
    model.predict(row)
    assert [len(kept) for kept in tapes.values()] == [1]
    for rows in range(2, 36):
        x = np.zeros((rows, *shape), np.float32)
        assert same([model.predict(x)], [model.predict(x)])
    assert len(tapes) == 16 and row.shape not in tapes
    large = np.zeros((37, *shape), np.float32)
    model.predict(large), model.predict(large)
    assert large.shape not in tapes


def test_shapes_share_an_arena():
    """Rows of all lengths, each recorded and played among the others: their bits, and hardly more memory than one."""
    model, alone, largest = (fastbilstm.load(DEMO, n_threads=1, any_length=True) for _ in range(3))
    for each in (model, alone, largest):
        each.predict(np.ones((13, 400), np.int32))  # tables are made
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 5000, (1 + k % 3, 1 + 7 * k)).astype(np.int32) for k in range(40)]
    expected = [alone.predict(x) for x in rows]
    for _ in range(4):
        for k in rng.permutation(len(rows)):
            assert np.array_equal(model.predict(rows[k]), expected[k])
            assert np.array_equal(model.predict(list(rows[k])), expected[k])
    found = model._plan.replay
    assert len(found.tapes.by_shape) == len(rows) and len(found.arenas) == 1
    largest.predict(rows[-1]), largest.predict(rows[-1])
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        return  # each block is fenced by itself there
    assert found.arenas[0].nbytes <= 4 * largest._plan.replay.arenas[0].nbytes


def test_a_tape_refuses_ids_that_are_out_of_range():
    model = fastbilstm.load(DEMO)
    ids = np.random.default_rng(0).integers(0, 5000, (1, 400)).astype(np.int32)
    for _ in range(3):
        y = model.predict(ids)
    for wrong in (-1, 5000, 2**31 - 1):
        bad = ids.copy()
        bad[0, 7] = wrong
        with pytest.raises(fastbilstm.InputError, match="5000"):
            model.predict(bad)
    assert np.array_equal(model.predict(ids), y)


def test_a_tape_reads_numbers_of_8_bytes():
    """float64 and int64, as NumPy makes them: the bits of float32 and int32; ids beyond int32 are refused."""
    model = fastbilstm.load(DEMO)
    ids = np.random.default_rng(0).integers(0, 5000, (2, 400))
    y = [model.predict(ids.astype(np.int32)) for _ in range(15)][-1]
    assert model._plan.replay.tapes.run(ids, 1) is not None
    assert np.array_equal(model.predict(ids), y) and np.array_equal(model.predict(ids, n_threads=2), y)
    assert np.array_equal(model.predict(ids.astype(np.uint64)), y)  # the usual way
    for wrong in (-1, 5000, 2**32 + 7, -(2**40)):
        bad = ids.copy()
        bad[1, 7] = wrong
        assert model._plan.replay.tapes.run(bad, 1) is None
        with pytest.raises(fastbilstm.InputError, match="5000"):
            model.predict(bad)
    model = load("softmax cell")
    x = np.asarray(inputs("softmax cell", 3, 5), np.float64) * 1e30
    x[0, 0, :2] = np.nan, 1e39
    with np.errstate(over="ignore"):
        narrow = x.astype(np.float32)
    for _ in range(3):
        y = model.predict(narrow)
    assert same(model._plan.replay.tapes.run(x, 1), [y])
    unaligned = np.frombuffer(b"x" + x.tobytes(), np.uint8)[1:].view(np.float64).reshape(x.shape)
    assert not unaligned.flags.aligned and same([model.predict(unaligned)], [y])


def test_threads_play_the_same_model():
    case = next(case for case in NETS if case.name == "lstm-default-keras3")
    model = fastbilstm.load(**case.load_args(), dtype="float32")
    xs = [
        np.random.default_rng(k).standard_normal((2, 5, model.inputs[0].shape[-1])).astype(np.float32) for k in range(8)
    ]
    expected = [model.predict(x) for x in xs]
    wrong = []

    def work(k):
        for _ in range(300):
            if not np.array_equal(model.predict(xs[k]), expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads_at_the_same_time_get_a_tape_each(monkeypatch):
    """While the tapes of a shape are played, another is recorded; large ones are not many."""
    model = fastbilstm.load(DEMO, n_threads=1)
    row, found = np.ones((1, 400), np.int32), model._plan.replay
    y = model.predict(np.ones((13, 400), np.int32))[:1]
    for _ in range(2 * replay.MOST_ARENAS):
        assert np.array_equal(model.predict(row), y)
        for arena in found.arenas:
            arena.claim()  # as if a thread played there
    assert len(found.arenas) == len(found.tapes.by_shape[row.shape]) == replay.MOST_ARENAS
    monkeypatch.setattr(replay, "ALL_BYTES", 3 * found.arenas[0].nbytes)
    found.arenas.clear(), found.seen.clear(), found.tapes.by_shape.clear()
    for _ in range(2 * replay.MOST_ARENAS):
        assert np.array_equal(model.predict(row), y)
        for arena in found.arenas:
            arena.claim()
    assert len(found.arenas) == len(found.tapes.by_shape[row.shape]) == 3


def test_each_thread_records_for_itself():
    first, second = (_kernels.Tape([np.ones((1, 3), np.float32)], [None]) for _ in range(2))
    told = []

    def other_thread():
        told.extend([_kernels.recorder(), second.begin(), _kernels.recorder() is second])
        first.end()  # of another thread: nothing happens
        second.end()
        told.append(_kernels.recorder())

    assert first.begin() and not second.begin()
    try:
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
        assert told == [None, True, True, None]
        assert _kernels.recorder() is first
    finally:
        first.end()
    assert _kernels.recorder() is None


def test_threads_record_and_forget_shapes_of_one_model(monkeypatch):
    """More shapes than are kept, come to by threads that take turns at every other line."""
    monkeypatch.setattr(replay, "MOST_SHAPES", 3)
    model = fastbilstm.load(DEMO)
    expected = {n: fastbilstm.load(DEMO).predict(np.ones((n, 400), np.int32)) for n in range(1, 9)}
    faults, before = [], sys.getswitchinterval()

    def work(seed):
        try:
            for n in np.random.default_rng(seed).integers(1, 9, 60):
                if not np.array_equal(model.predict(np.ones((n, 400), np.int32)), expected[n]):
                    faults.append(f"{n} rows")
        except Exception as error:
            faults.append(repr(error))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    found = model._plan.replay
    assert not faults and len(found.seen) <= 3 and set(found.tapes.by_shape) <= set(found.seen)


def test_a_tape_waits_for_the_table_of_projections():
    """It is made when an eighth of its rows was read as tokens; a tape from before would never use it."""
    model = fastbilstm.load(DEMO, n_threads=1, any_length=True)
    ids = np.ones((1, 60), np.int32)
    for _ in range(10):
        y = model.predict(ids)
        assert not model._plan.replay.tapes.by_shape
    model.predict(ids), model.predict(ids)
    assert model._plan.runner.is_settled()
    assert [len(kept) for kept in model._plan.replay.tapes.by_shape.values()] == [1]
    assert np.array_equal(model.predict(ids), y)


# ---- tapes that share rows -------------------------------------------------------------------------------------------


@pytest.fixture
def two_threads(monkeypatch):
    """A second thread is worth its while for the smallest prediction; the pool has no worker at first."""
    monkeypatch.setattr(plan, "WORTH_ONE_AWAKE", 0)
    monkeypatch.setattr(plan.threads, "cores", lambda: 2)
    _kernels.forget_workers()


def as_read(x):
    return x if x.dtype == np.float32 else x.astype(np.int32)


@pytest.mark.parametrize("rows", [2, 7, 8])
@pytest.mark.parametrize("name", ["lstm", "masked stack", "tagger", "softmax cell"])
def test_tapes_share_rows(name, rows, two_threads):
    """The bits are those of one thread, whoever computes which rows."""
    model, one = load(name, n_threads=2), load(name, n_threads=1)
    xs = [as_read(inputs(name, rows, 9, seed)) for seed in range(5)]
    expected = [one.predict(x, batch_size=1) for x in xs]
    for x, y in zip(xs, expected):
        assert same([model.predict(x)], [y])
    tapes, size = model._plan.replay.tapes, -(-rows // 2)
    assert tapes.splits == {xs[0].shape: (2, True)}
    assert {key[0] for key in tapes.by_shape} == {rows, size, rows - size}
    del tapes.by_shape[xs[0].shape]  # that of all rows
    out = np.empty_like(expected[0])
    for x, y in zip(xs, expected):
        assert tapes.run(x, 1) is None
        for _ in range(50):
            assert same(tapes.run(x, 2), [y])
        assert tapes.run(x, 2, [out])[0] is out and same([out], [y])
    assert tapes.run(xs[0], 2, [out[1:]]) is None
    kept = Counter([size, rows - size])
    assert {key[0]: len(found) for key, found in tapes.by_shape.items()} == kept, "all are given back"


@pytest.mark.parametrize("rows", [1, 2, 6, 7])
def test_few_rows_share_the_units_of_a_wide_layer(rows, two_threads):
    """More rows are shared themselves. The bits are those of one thread, whether another one helps or not."""
    model, one = load("wide", n_threads=2), load("wide", n_threads=1)
    xs = list(np.random.default_rng(0).integers(0, 50, (5, rows, 40), np.int32))
    expected = [one.predict(x, batch_size=1) for x in xs]
    for x, y in zip(xs, expected):
        assert same([model.predict(x)], [y])
    tapes = model._plan.replay.tapes
    assert [tape.parts for tape in tapes.by_shape[xs[0].shape]] == [2]
    assert tapes.splits[xs[0].shape][0] == (1 if rows <= 6 else 2)
    before = _kernels.pieces_of_helpers()
    for _ in range(300):
        for x, y in zip(xs, expected):
            assert same(tapes.run(x, 2), [y])
    assert rows > 6 or (os.cpu_count() or 1) < 2 or _kernels.pieces_of_helpers() > before


def test_a_share_that_fails(two_threads):
    """A token id out of range in the last rows; steps in Python that raise, on any thread; no tape for some rows."""
    model, x = load("lstm", n_threads=2), inputs("lstm", 8, 9).astype(np.int32)
    for _ in range(3):
        y = model.predict(x)
    bad = x.copy()
    bad[7, 2] = 50
    with pytest.raises(fastbilstm.InputError, match="50"):
        model.predict(bad)
    assert same([model.predict(x)], [y])

    tapes, faults = _kernels.Tapes([None], lambda: 2), []

    def step(x):
        def function():
            if faults:
                raise faults[0]
            return [x * 2]

        return function

    for _ in range(2):
        tape = _kernels.Tape([np.ones((2, 5), np.float32)], [None])
        assert tape.begin()
        outputs = tape.step(step(*tape.inputs), tape.inputs, [tape.inputs[0] * 2])
        tape.end()
        assert tape.verify(outputs)
        tapes.by_shape.setdefault((2, 5), []).append(tape)
    tapes.splits[(4, 5)] = (2, False)
    x = np.arange(20, dtype=np.float32).reshape(4, 5)
    for _ in range(20):
        assert same(tapes.run(x), [2 * x])
    faults.append(ValueError("wrong"))
    assert tapes.run(x) is None
    faults[0] = RuntimeError("wrong")
    with contextlib.suppress(RuntimeError):  # of the caller's share
        assert tapes.run(x) is None
    faults.clear()
    assert same(tapes.run(x), [2 * x])
    both = np.zeros((5, 5), np.float32)
    both[:4] = x
    assert tapes.run(both[:4], 2, [both[1:]]) is None, "the rows of one share are where another one writes"
    tapes.by_shape[(2, 5)].pop()
    assert tapes.run(x) is None and len(tapes.by_shape[(2, 5)]) == 1


@pytest.mark.skipif(os.cpu_count() < 2, reason="needs two cores")
def test_short_predictions_wake_no_worker_after_a_rest(two_threads):
    """One at a time calls none, since waking it takes longer than it helps; one after the other does."""
    model, x = load("lstm", n_threads=2), inputs("lstm", 8, 9).astype(np.int32)
    for _ in range(20):
        model.predict(x)
        time.sleep(0.002)
    assert not _kernels.workers()
    end = time.perf_counter() + 10
    while not _kernels.workers() and time.perf_counter() < end:
        model.predict(x)
    assert len(_kernels.workers()) == 1
