"""How many threads to use, and the pool that shares parts: errors, Ctrl-C, nesting, many callers, late workers.

Workers that never come are threads that are not started.
"""

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
def workers():
    """A pool of its own, without workers at first; the function that lists how long each rests."""
    _kernels.forget_workers()
    return _kernels.workers


@pytest.fixture
def nobody_comes(monkeypatch, workers):
    """The workers of the pool are called as ever, but never run."""
    monkeypatch.setattr(threading.Thread, "start", lambda thread: None)


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


def test_a_prediction_starts_no_more_threads_than_there_are_cores(workers, monkeypatch):
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
        assert len(started) == len(workers()) == cores - 1
        assert share_threads(model)[0] <= cores and share_threads(model, 10**6)[0] <= cores


def test_cores():
    assert threads.cores() == os.cpu_count()


# ---- together -------------------------------------------------------------------------------------------------------


def look():
    """A kernel of some milliseconds, which looks for Ctrl-C and for errors of other parts."""
    x, kernel = np.ones((1024, 512), np.float32), np.ones((512, 512), np.float32)
    _kernels.Matrix(kernel).product(x, np.empty_like(x))


def look_for_seconds(seconds=10):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        look()


def test_all_are_called(workers):
    calls = []
    run_together(calls.append, 5, 5)
    assert sorted(calls) == [0, 1, 2, 3, 4] and len(workers()) == 4
    run_together(calls.append, 1, 4)
    run_together(calls.append, 0, 4)
    assert len(calls) == 6 and len(workers()) == 4


@pytest.mark.parametrize("n_threads", [1, 3])
def test_more_parts_than_threads(workers, n_threads):
    calls = []
    run_together(calls.append, 100, n_threads)
    assert sorted(calls) == list(range(100)) and len(workers()) == n_threads - 1


def test_they_run_at_the_same_time(workers):
    """Each waits for all others: one after another, none would end."""
    barrier = threading.Barrier(4)
    run_together(lambda k: barrier.wait(10), 4, 4)


@needs_kernels
@pytest.mark.parametrize("failing", [0, 1, 3])
def test_an_error_ends_the_others(workers, failing):
    """It is raised once all have ended, and long kernels end early."""
    ended, started = [], threading.Barrier(4)

    def work(k):
        started.wait(10)
        if k == failing:
            raise LookupError(k)
        try:
            look_for_seconds()
        finally:
            ended.append(k)

    before = time.monotonic()
    with pytest.raises(LookupError) as caught:
        run_together(work, 4, 4)
    assert caught.value.args == (failing,) and len(ended) == 3 and time.monotonic() - before < 5
    look()  # the calling thread is free again
    run_together(lambda k: look(), 4, 4)


def test_what_has_not_begun_does_not_begin(nobody_comes):
    calls = []

    def fail(k):
        calls.append(k)
        raise LookupError

    with pytest.raises(LookupError):
        run_together(fail, 4, 2)
    assert calls == [0]


def test_ctrl_c_counts_more_than_another_error(workers):
    barrier, main = threading.Barrier(2), threading.current_thread()

    def fail(k):
        barrier.wait(10)
        raise KeyboardInterrupt if threading.current_thread() is main else LookupError

    with pytest.raises(KeyboardInterrupt):
        run_together(fail, 2, 2)


def test_nested_while_all_workers_are_busy(workers):
    """Whoever waits for a part that nobody has begun computes it: no depth and no number of callers can lock up."""
    counts = []

    def nest(depth):
        if depth:
            run_together(lambda k: nest(depth - 1), 3, 3)
        counts.append(depth)

    callers = [threading.Thread(target=nest, args=(4,)) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert not any(caller.is_alive() for caller in callers)
    assert [counts.count(depth) for depth in range(5)] == [6 * 81, 6 * 27, 6 * 9, 6 * 3, 6]
    assert 2 <= len(workers()) <= max(2, os.cpu_count() - 1)


@needs_kernels
def test_an_error_ends_what_is_nested_in_the_others(workers):
    all_began = threading.Barrier(3)

    def work(k):
        all_began.wait(10)
        if k == 1:
            raise LookupError
        run_together(lambda k: look_for_seconds(), 2, 2)

    before = time.monotonic()
    with pytest.raises(LookupError):
        run_together(work, 3, 3)
    assert time.monotonic() - before < 5


def test_many_callers(workers):
    totals = [0] * 16

    def call(k):
        for _ in range(100):
            parts = [0, 0, 0, 0]

            def add(j, parts=parts):
                parts[j] += 1

            run_together(add, 4, 4)
            totals[k] += sum(parts)

    callers = [threading.Thread(target=call, args=(k,)) for k in range(16)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert totals == [400] * 16 and len(workers()) <= max(3, os.cpu_count() - 1)


@pytest.mark.parametrize("startable", [0, 1])
def test_where_no_thread_can_be_started(workers, monkeypatch, startable):
    start, started = threading.Thread.start, []

    def refuse(thread):
        if len(started) >= startable:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(3):
        calls = []
        run_together(calls.append, 4, 4)
        assert sorted(calls) == [0, 1, 2, 3]
    assert len(workers()) == startable


def test_ctrl_c_between_any_two_lines():
    """Nothing hangs, nothing runs on, and the next call works as ever, while the pool starts its threads.

    Not at the end of a `with`: tracing stops there before __exit__ is called, signals do not.
    """
    running, finished = [], []

    def work(k):
        running.append(1)
        time.sleep(0.001)
        running.pop()

    def traced(moment):
        """Whether Ctrl-C came, before the line or return number `moment` of the pool's or of the threads' it starts."""
        left = moment

        def trace(frame, event, argument):
            nonlocal left
            if frame.f_code.co_filename not in (threads.__file__, threading.__file__):
                return None
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            if event in ("line", "return") and not line.startswith("with "):
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            run_together(work, 3, 3)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    moment, interrupted = 0, True
    while interrupted:
        _kernels.forget_workers()
        interrupted = traced(moment)
        moment += 1
        assert not running
        run_together(finished.append, 3, 3)
        assert len(finished) == 3 * moment
    assert moment > 30


def test_ctrl_c_at_any_time(workers):
    """As above, by a real signal after 0 to 400 us."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        pytest.skip("needs signal.setitimer")
    running, finished, raised, main = [], [], [], threading.current_thread()

    def work(k):
        if threading.current_thread() is main:
            return
        running.append(1)
        time.sleep(0.0001)
        running.pop()

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for k in range(400):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + k % 40 * 1e-5)
                run_together(work, 3, 3)
                time.sleep(0.02)
            except KeyboardInterrupt:
                raised.append(k)
            assert not running
            run_together(finished.append, 3, 3)
            assert len(finished) == 3 * (k + 1)
        # Python drops what is raised in a garbage collector's callback; a test runner may have some.
        assert len(raised) >= 350
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs os.sched_setaffinity")
def test_no_thread_is_bound_to_cores(workers, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda *given: calls.append(given))
    recur()
    _kernels.forget_workers()  # that one may rest
    barrier, threads_used = threading.Barrier(3), []

    def work(k):
        barrier.wait(10)
        threads_used.append(threading.get_native_id())

    run_together(work, 3, 3)
    assert not calls and len(set(threads_used)) == 3
    time.sleep(0.2)  # until they are idle: who wakes one keeps it off his own core before
    assert [os.sched_getaffinity(thread) for thread in threads_used] == [os.sched_getaffinity(0)] * 3


# ---- late workers ----------------------------------------------------------------------------------------------------


def test_a_caller_does_not_wait_for_who_does_not_come(nobody_comes, workers):
    """He computes all parts, whatever part it is that nobody begins."""
    for count in (2, 3, 50):
        calls, callers = [], set()

        def work(k, calls=calls, callers=callers):
            calls.append(k)
            callers.add(threading.current_thread())

        run_together(work, count, 3)
        assert calls == list(range(count)) and callers == {threading.current_thread()}
    assert len(workers()) == 2


@needs_kernels
def test_kernels_do_not_wait_for_who_does_not_come(nobody_comes, workers):
    np.testing.assert_array_equal(recur(), recur(n_threads=1))
    assert len(workers()) == 1


def test_who_does_not_come_rests_twice_as_long_each_time(nobody_comes, workers):
    def call():
        run_together(lambda k: time.sleep(0.001), 2, 2)

    for rest in (0, 0, 1):
        call()
        assert workers() == [rest]
    for rest in (2, 4, 8):
        time.sleep(workers()[0] / 1000)
        call()
        assert workers() == [rest]
    for _ in range(100):  # longer than the rest that it has got now
        time.sleep(workers()[0] / 1000 * 1.01)
        before = workers()
        call()
        assert workers() == [min(2 * before[0], 256)]
        if before == [256]:
            break
    else:
        raise AssertionError("rests do not grow")


def test_who_was_never_called_sleeps(workers):
    """A worker that starts while its caller does all parts."""
    for _ in range(20):
        _kernels.forget_workers()
        run_together(lambda k: None, 4, 4)
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_who_rests_is_not_called_and_is_called_again(workers):
    """A worker is late some times; then the caller works alone, until the worker has rested and is of help again."""
    main, barrier = threading.current_thread(), threading.Barrier(2)

    def late(k):
        barrier.wait(10)
        if threading.current_thread() is not main:
            time.sleep(0.2)

    run_together(lambda k: barrier.wait(10), 2, 2)  # starts it
    for _ in range(3):
        if not workers()[0]:
            run_together(late, 2, 2)
    assert workers() == [1]
    for rest in (2, 4, 8, 16, 32, 64):
        time.sleep(workers()[0] / 1000)
        run_together(late, 2, 2)
        assert workers() == [rest]
    callers, until = set(), time.perf_counter() + 0.02
    while time.perf_counter() < until:
        run_together(lambda k: callers.add(threading.current_thread()), 2, 2)
    assert callers == {main} and workers() == [64]
    turns, until = 0, time.monotonic() + 120
    while workers() != [0]:
        assert time.monotonic() < until
        run_together(lambda k: time.sleep(0.01), 2, 2)
        turns += 1
    assert turns > 50


def test_who_is_late_often_but_never_in_a_row_rests(workers):
    """As a worker whose core another process wants, too: it loses it in the middle of one part in thirty."""
    main, barrier = threading.current_thread(), threading.Barrier(2)

    def call(pause):
        def work(k):
            barrier.wait(10)
            if threading.current_thread() is not main:
                time.sleep(pause)

        run_together(work, 2, 2)

    call(0)  # starts it
    for _ in range(10):
        for number in range(30):
            call(0.01 if number == 0 else 0)
            if workers() != [0]:
                return
    raise AssertionError("it is called again and again")


def test_who_wakes_up_slowly_but_helps_does_not_rest(workers):
    """A part of a worker ends a moment after the caller's: together they are faster than one."""
    main, barrier = threading.current_thread(), threading.Barrier(2)

    def work(k):
        barrier.wait(10)
        time.sleep(0.1 if threading.current_thread() is main else 0.12)

    for _ in range(3):
        run_together(work, 2, 2)
        assert workers() == [0]


def test_short_parts_are_no_test_of_a_worker(nobody_comes, workers):
    """Who needs longer to wake up than the caller for everything is not late."""
    for _ in range(100):
        run_together(lambda k: None, 2, 2)
    assert workers()[0] <= 1  # perhaps another process had the core once


# ---- workers of compiled loops ---------------------------------------------------------------------------------------


def recur(n_threads=2):
    """The final states of two directions over the same input, of 2000 timesteps."""
    x, rng = np.ones((1, 2000, 3), np.float32), np.random.default_rng(0)
    kernel, recurrent_kernel = (rng.standard_normal(shape, np.float32) for shape in ((3, 32), (8, 32)))
    codes = (_kernels.Activation(*kernel_code(function)) for function in (tanh, sigmoid))
    layer = _kernels.Recurrent(kernel, recurrent_kernel, None, *codes)
    options = {"flip": False, "initial_state": None, "outputs": None, "offset": 0, "merge": _kernels.MERGES[None]}
    job = {"layer": layer, "x": x, "rows": _kernels.Rows(1, 2000), **options}
    jobs = [job | {"reverse": k == 1} for k in range(2)]
    return np.array(_kernels.run_recurrent(jobs, _kernels.Scratch(), n_threads))


@needs_kernels
def test_a_worker_starts_when_needed_and_is_given_back(workers):
    expected, before = recur(n_threads=1), set(threading.enumerate())
    assert not workers()
    for _ in range(5):
        np.testing.assert_array_equal(recur(), expected)
    assert len(workers()) == 1
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon and thread.name == "fastbilstm"


@needs_kernels
def test_many_callers_share_workers(workers):
    expected, wrong = recur(n_threads=1), []

    def call():
        for _ in range(50):
            if not np.array_equal(recur(), expected):
                wrong.append(1)

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not wrong and 1 <= len(workers()) <= max(1, os.cpu_count() - 1)


def test_callers_on_all_cores_call_no_workers(workers):
    began, end, used = threading.Barrier(os.cpu_count() + 1), threading.Event(), set()

    def work(k):
        began.wait(10)
        end.wait(10)

    callers = [threading.Thread(target=_kernels.run_together, args=(work, 1, 1)) for _ in range(os.cpu_count())]
    for caller in callers:
        caller.start()
    began.wait(10)
    run_together(lambda k: used.add(threading.current_thread()), 50, 4)
    assert used == {threading.current_thread()} and not workers()
    end.set()
    for caller in callers:
        caller.join()
    both = threading.Barrier(2)
    run_together(lambda k: both.wait(10), 2, 2)
    assert len(workers()) == 1


@needs_kernels
def test_where_no_worker_can_be_started(workers, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    np.testing.assert_array_equal(recur(), recur(n_threads=1))
    assert not workers()
