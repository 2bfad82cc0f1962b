"""Workers of the pool that come late or never: nobody waits for them, and they rest until they are of help again.

Workers that never come are threads that are not started.
"""

import threading
import time

import numpy as np
from worker_pools import needs_kernels, recur

from fastbilstm import _kernels
from fastbilstm.engine.threads import run_together


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
