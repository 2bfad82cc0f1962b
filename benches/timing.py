"""Times engines beside each other: one after the other, in turns, the order rotated every round. Imports NumPy.

A turn is calls that do not count, until the pools of the engine before are idle and the caches hold one's own data,
then timed calls; calls of 50 ms and more are timed at once, after the first turn. What is reported is the median of all
timed calls and the quartiles. Knows nothing of nets and files.
"""

import gc
import time

import numpy as np

SETTLE = 0.004  # seconds of calls at the beginning of a turn that do not count (one call at least)
SPAN = 0.004  # seconds of timed calls in a turn (one call at least)
LONG = 0.05  # seconds of a call beside which a cold cache does not matter
WARM_UP = 3


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def turn(call, last=0.0):
    """Seconds of each timed call of one turn; `last`: of a call of the turn before."""
    start = time.perf_counter()
    while last < LONG:
        call()
        if time.perf_counter() - start >= SETTLE:
            break
    samples = []
    while sum(samples) < SPAN:
        samples.append(seconds(call))
    return samples


def in_turns(calls, rounds, budget):
    """Seconds of each timed call, for each of `calls`: `rounds` rounds, fewer (3 at least) beyond `budget` seconds."""
    samples, start = [[] for _ in calls], time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        for call in calls:
            for _ in range(WARM_UP):
                call()
        for number in range(rounds):
            if number >= 3 and time.perf_counter() - start > budget:
                break
            for at in range(len(calls)):
                at = (at + number) % len(calls)
                samples[at] += turn(calls[at], *samples[at][-1:])
    finally:
        gc.enable()
    return samples


def summary(seconds):
    """Median, quartiles and the smallest in ms, and the number of samples."""
    smallest, q1, median, q3 = np.percentile(np.asarray(seconds) * 1e3, [0, 25, 50, 75])
    times = {"median": float(median), "q1": float(q1), "q3": float(q3), "smallest": float(smallest)}
    return {**times, "samples": len(seconds)}
