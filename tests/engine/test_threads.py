"""The pool that shares parts among threads: errors, Ctrl-C, nesting, many callers.

See test_number_of_threads.py and test_late_workers.py, too.
"""

import linecache
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from worker_pools import call_at_once, needs_kernels, recur

from fastbilstm import _kernels
from fastbilstm.engine import threads
from fastbilstm.engine.threads import run_together


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


# ---- workers of compiled loops ---------------------------------------------------------------------------------------


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

    call_at_once(call, 8)
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
