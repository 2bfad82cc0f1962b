"""How many threads to use, and the pool that runs functions together: errors, Ctrl-C, nesting, many callers."""

import linecache
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from engine_nets import load

from fastbilstm import _kernels
from fastbilstm.activations import kernel_code, sigmoid, tanh
from fastbilstm.engine import plan, threads
from fastbilstm.engine.threads import run_together
from fastbilstm.scoring.loop import share_threads

needs_kernels = pytest.mark.skipif(_kernels.isa() is None, reason="this build has no vector kernels")


@pytest.fixture
def pool(monkeypatch):
    """A pool of its own, without workers at first."""
    fresh = threads._Pool()
    monkeypatch.setattr(threads, "_pool", fresh)
    return fresh


# ---- how many -------------------------------------------------------------------------------------------------------


def test_affinity():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("needs os.sched_setaffinity")
    code = (
        "import os; from fastbilstm.engine import threads\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(threads.available())"
    )
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout == b"1\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("3", 3), ("3,2", 3), ("1", 1), ("99", 8), ("0", 8), ("-1", 8), ("many", 8), ("", 8), (None, 8)],
)
def test_omp_num_threads(value, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_own_cgroup_limits", lambda process: ())
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads.available() == expected


def test_the_least_limit_counts(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_own_cgroup_limits", lambda process: (5, 4))
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert threads.available() == 4
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.available() == 1


CGROUPS = {
    "none": ("0::/a", {}, []),
    "version 2, no quota": ("0::/a", {"a/cpu.max": "max 100000"}, []),
    "version 2": ("0::/a", {"a/cpu.max": "150000 100000"}, [2]),
    "version 2, those above": ("0::/a/b", {"cpu.max": "400000 100000", "a/cpu.max": "50000 100000"}, [4, 1]),
    "version 2, inside a container": ("0::/", {"cpu.max": "300000 100000"}, [3]),
    "version 1": (
        "4:memory:/a\n3:cpu,cpuacct:/a",
        {"cpu/a/cpu.cfs_quota_us": "250000", "cpu/a/cpu.cfs_period_us": "100000"},
        [3],
    ),
    "version 1, no quota": (
        "3:cpu:/a",
        {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"},
        [],
    ),
    "version 1, seen from a container": (
        "3:cpu:/made/up",
        {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"},
        [1],
    ),
    "both versions": (
        "3:cpu:/a\n0::/b",
        {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000", "b/cpu.max": "300000 100000"},
        [2, 3],
    ),
    "of another controller": ("4:cpuset:/a", {"cpu/a/cpu.cfs_quota_us": "1", "cpu/a/cpu.cfs_period_us": "1"}, []),
    "nonsense": ("0:/a\n\n0::/a", {"a/cpu.max": "lots"}, []),
    "period zero": ("0::/a", {"a/cpu.max": "1 0"}, []),
}


@pytest.mark.parametrize("name", CGROUPS)
def test_cgroup_quota(name, tmp_path):
    membership, files, expected = CGROUPS[name]
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text + "\n")
    (tmp_path / "membership").write_text(membership + "\n")
    assert threads._cgroup_limits(str(tmp_path), str(tmp_path / "membership")) == expected


def test_without_cgroups(tmp_path):
    assert threads._cgroup_limits(str(tmp_path), str(tmp_path / "missing")) == []


def test_a_prediction_starts_no_more_threads_than_there_are_cores(pool, monkeypatch):
    """Whatever is asked for, of rows, of the directions of one row or of chunks."""
    model = load("tagger", n_threads=10**5)
    monkeypatch.setattr(plan, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(plan, "CHUNK_ROWS", 1)
    x = np.ones((2000, 3, 5), np.float32)
    for cores in (1, 3):
        monkeypatch.setattr(threads, "cores", lambda cores=cores: cores)
        before = {thread for thread in threading.enumerate() if thread.name == "fastbilstm"}
        model.predict(x), model.predict(x, n_threads=10**6), model(x[:1])
        started = {thread for thread in threading.enumerate() if thread.name == "fastbilstm"} - before
        assert len(started) == pool.size == cores - 1 and pool.n_helpers <= cores - 1
        assert share_threads(model)[0] <= cores and share_threads(model, 10**6)[0] <= cores


def test_cores():
    assert threads.cores() == os.cpu_count()


# ---- together -------------------------------------------------------------------------------------------------------


def test_all_are_called(pool):
    calls = {}
    run_together([lambda k=k: calls.update({k: threading.current_thread()}) for k in range(5)])
    assert sorted(calls) == [0, 1, 2, 3, 4] and calls[0] is threading.current_thread()
    assert pool.size == 4
    run_together([lambda: None])
    run_together([])
    assert pool.size == 4


def test_they_run_at_the_same_time(pool):
    """Each waits for all others: one after another, none would end."""
    barrier = threading.Barrier(4)
    run_together([lambda: barrier.wait(10)] * 4)


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_an_error_ends_the_others(pool, failing):
    """It is raised once all have ended; `stop` is called, and `check` raises in the others."""
    stops, ended, started = [], [], threading.Barrier(4)

    def work(k):
        def run():
            started.wait(10)
            if k == failing:
                raise LookupError(k)
            try:
                until = time.monotonic() + 10
                while time.monotonic() < until:
                    threads.check()
                    time.sleep(0.001)
            finally:
                ended.append(k)

        return run

    with pytest.raises(LookupError) as caught:
        run_together([work(k) for k in range(4)], lambda: stops.append(1))
    assert caught.value.args == (failing,) and stops and len(ended) == 3
    threads.check()  # the calling thread is free again
    run_together([threads.check] * 4)


def test_what_has_not_begun_does_not_begin(pool, monkeypatch):
    monkeypatch.setattr(pool, "submit", lambda tasks: None)
    calls = []

    def fail():
        raise LookupError

    with pytest.raises(LookupError):
        run_together([fail, lambda: calls.append(1)])
    assert not calls


def test_ctrl_c_counts_more_than_another_error(pool):
    barrier = threading.Barrier(2)

    def fail(error):
        barrier.wait(10)
        raise error

    with pytest.raises(KeyboardInterrupt):
        run_together([lambda: fail(KeyboardInterrupt()), lambda: fail(LookupError())])


def test_nested_while_all_workers_are_busy(pool):
    """Whoever waits for a task that no worker has begun runs it: no depth and no number of callers can lock up."""
    counts = []

    def nest(depth):
        if depth:
            run_together([lambda: nest(depth - 1)] * 3)
        counts.append(depth)

    callers = [threading.Thread(target=nest, args=(4,)) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert not any(caller.is_alive() for caller in callers)
    assert [counts.count(depth) for depth in range(5)] == [6 * 81, 6 * 27, 6 * 9, 6 * 3, 6]
    assert pool.size == 2


def test_an_error_ends_what_is_nested_in_the_others(pool):
    both_began = threading.Barrier(3)

    def long():
        until = time.monotonic() + 10
        while time.monotonic() < until:
            threads.check()
            time.sleep(0.001)

    def nest():
        both_began.wait(10)
        run_together([long, long])

    def fail():
        both_began.wait(10)
        raise LookupError

    before = time.monotonic()
    with pytest.raises(LookupError):
        run_together([nest, fail, nest])
    assert time.monotonic() - before < 5


def test_many_callers(pool):
    totals = [0] * 16

    def call(k):
        for _ in range(100):
            parts = [0, 0, 0, 0]

            def add(j, parts=parts):
                parts[j] += 1

            run_together([lambda j=j, add=add: add(j) for j in range(4)])
            totals[k] += sum(parts)

    callers = [threading.Thread(target=call, args=(k,)) for k in range(16)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert totals == [400] * 16 and pool.size == 3


@pytest.mark.parametrize("startable", [0, 1])
def test_where_no_thread_can_be_started(pool, monkeypatch, startable):
    start, started = threading.Thread.start, []

    def refuse(thread):
        if len(started) >= startable:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(3):
        calls = []
        run_together([lambda k=k, calls=calls: calls.append(k) for k in range(4)])
        assert sorted(calls) == [0, 1, 2, 3]
    assert pool.size == startable and pool.tasks.qsize() <= 3


def test_ctrl_c_between_any_two_lines(pool):
    """Nothing hangs, nothing runs on, and the next call works as ever.

    Not at the end of a `with`: tracing stops there before __exit__ is called, signals do not.
    """
    running, finished = [], []

    def work():
        running.append(1)
        time.sleep(0.001)
        running.pop()

    def traced(moment):
        """Whether Ctrl-C came, before the line or return number `moment` of the pool's."""
        left = moment

        def trace(frame, event, argument):
            nonlocal left
            if frame.f_code.co_filename != threads.__file__:
                return None
            line = linecache.getline(threads.__file__, frame.f_lineno).strip()
            if event in ("line", "return") and not line.startswith("with "):
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            run_together([work, work, work])
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    moment = 0
    while traced(moment):
        moment += 1
        assert not running
        run_together([lambda: finished.append(1), threads.check, threads.check])
        assert len(finished) == moment
    assert moment > 50


def test_ctrl_c_at_any_time(pool):
    """As above, by a real signal after 0 to 400 us."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        pytest.skip("needs signal.setitimer")
    running, finished, raised, main = [], [], [], threading.current_thread()

    def work():
        if threading.current_thread() is main:
            threads.check()
            return
        running.append(1)
        time.sleep(0.0001)
        running.pop()

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for k in range(400):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + k % 40 * 1e-5)
                run_together([work, work, work])
                time.sleep(0.02)
            except KeyboardInterrupt:
                raised.append(k)
            assert not running
            run_together([lambda: finished.append(1), threads.check, threads.check])
            assert len(finished) == k + 1
        # Python drops what is raised in a garbage collector's callback; a test runner may have some.
        assert len(raised) >= 350
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs os.sched_setaffinity")
def test_a_worker_is_kept_off_the_core_of_its_caller(pool, monkeypatch):
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("this process may use one core only")
    assert _kernels.current_core() in allowed
    for core in sorted(allowed)[:2]:
        monkeypatch.setattr(_kernels, "current_core", lambda core=core: core)
        run_together([lambda: None, lambda: None])
        assert os.sched_getaffinity(pool.workers[0].thread.native_id) == allowed - {core}
    os.sched_setaffinity(0, {core})
    try:
        run_together([lambda: None, lambda: None])  # nowhere else to go
    finally:
        os.sched_setaffinity(0, allowed)


# ---- helpers of compiled loops ---------------------------------------------------------------------------------------


def recur(together=True):
    """The final states of two directions over the same input, of 2000 timesteps."""
    x, rng = np.ones((1, 2000, 3), np.float32), np.random.default_rng(0)
    kernel, recurrent_kernel = (rng.standard_normal(shape, np.float32) for shape in ((3, 32), (8, 32)))
    codes = (_kernels.Activation(*kernel_code(function)) for function in (tanh, sigmoid))
    layer = _kernels.Recurrent(kernel, recurrent_kernel, None, *codes)
    options = {"flip": False, "initial_state": None, "outputs": None, "offset": 0, "merge": _kernels.MERGES[None]}
    job = {"layer": layer, "x": x, "rows": _kernels.Rows(1, 2000), **options}
    jobs = [job | {"reverse": k == 1, "name": k} for k in range(2)]
    return np.array(_kernels.run_recurrent(jobs, _kernels.Scratch(), together))


def wait_until(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


@needs_kernels
def test_a_helper_starts_when_needed_and_is_given_back(pool):
    expected = recur(together=False)
    assert pool.n_helpers == 0
    for _ in range(5):
        np.testing.assert_array_equal(recur(), expected)
        wait_until(lambda: len(pool.free_helpers) == 1)
    assert pool.n_helpers == 1 and pool.size == 0
    (helper,) = pool.free_helpers
    thread = next(t for t in threading.enumerate() if t.native_id == helper.native_id)
    assert thread.daemon and thread is not threading.current_thread()


@needs_kernels
def test_many_callers_share_helpers(pool):
    expected, wrong = recur(together=False), []

    def call():
        for _ in range(50):
            if not np.array_equal(recur(), expected):
                wrong.append(1)

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    wait_until(lambda: len(pool.free_helpers) == 1)
    assert not wrong and pool.n_helpers == 1


@needs_kernels
def test_where_no_helper_can_be_started(pool, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    np.testing.assert_array_equal(recur(), recur(together=False))
    assert pool.n_helpers == 0 and not pool.free_helpers


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs os.sched_setaffinity")
def test_a_helper_is_kept_off_the_core_of_its_caller(pool, monkeypatch):
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("this process may use one core only")
    for core in sorted(allowed)[:2]:
        monkeypatch.setattr(_kernels, "current_core", lambda core=core: core)
        recur()
        wait_until(lambda: pool.free_helpers)
        recur()
        assert os.sched_getaffinity(pool.free_helpers[0].native_id) == allowed - {core}


def test_wait_for_looks_at_a_flag():
    assert _kernels.wait_for(bytearray(b"\1"), 1) is True and _kernels.wait_for(bytearray(1), 100) is False
    flag = bytearray(2)
    timer = threading.Timer(0.05, _kernels.set_flag, (flag,))
    timer.start()
    assert _kernels.wait_for(flag, 2**40) is True  # without the GIL: the timer could set it
    for wrong in (b"\1", None, [1]):
        with pytest.raises(TypeError):
            _kernels.wait_for(wrong, 1)
        with pytest.raises(TypeError):
            _kernels.set_flag(wrong)
    with pytest.raises(ValueError, match="flag is empty"):
        _kernels.wait_for(bytearray(), 1)
    with pytest.raises(ValueError, match="flag is empty"):
        _kernels.set_flag(bytearray())
    assert _kernels.wait_for(bytearray(1), -5) is False
