"""Soak: 8 threads, 20,000 predictions of random shapes on shared models; every answer to the bit, memory flat.

FASTBILSTM_SOAK sets another number of predictions. The nets are those of test_engine: masks, merge modes, stacks,
attention, pooling. Each prediction takes random rows of a made-up input and one or two threads; its answer is those
rows of the answer for the whole input, computed before by one thread. It runs in a process of its own, in which the C
library keeps one store of memory instead of one for each thread: those grow for a while with any program.
"""

import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from test_engine import NETS, inputs, load

import fastbilstm
from fastbilstm import engine, plan

CALLERS = 8
# What the process may grow by between 20 % of the predictions and the last: 130 bytes a prediction.
SLACK = 2 * 2**20


def resident():
    """Bytes of memory this process has; 0 where that cannot be read."""
    gc.collect()
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def cases():
    """(model, input, answer) for each net and several shapes, with or without tables of projections."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(NETS):
        model = load(name, n_threads=1, memory_budget=0 if number % 2 else None)
        largest = inputs(name, 90, 40)
        # Buffers as many (one for each caller and worker) and as large as there will ever be.
        kept = []
        while len(kept) < CALLERS + 1:
            model.predict(largest, n_threads=2, batch_size=100)
            model.predict(largest[:1], n_threads=2)
            kept += model._plan.scratches
            model._plan.scratches.clear()
        model._plan.scratches.extend(kept[: CALLERS + 1])
        for seed in range(10):
            x = inputs(name, int(rng.integers(1, 45)), int(rng.integers(1, 40)), seed)
            yield model, x, model.predict(x)


def soak(predictions):
    """Print the figures; raise AssertionError if an answer is wrong or memory grows."""
    engine.PARALLEL_WORK, plan.WORTH_A_THREAD = 0, 1
    shared, wrong, failed = list(cases()), [], []
    count, early, lock = 0, 0, threading.Lock()

    def call(seed):
        nonlocal count, early
        rng = np.random.default_rng(seed)
        try:
            while True:
                with lock:
                    if count >= predictions:
                        return
                    count += 1
                    if count == predictions // 5:
                        early = resident()
                number = int(rng.integers(len(shared)))
                model, x, answer = shared[number]
                rows = rng.integers(0, len(x), rng.integers(1, 2 * len(x) + 1))
                batch_size = int(rng.choice([1, 7, 32, 100]))
                y = model.predict(x[rows], n_threads=int(rng.integers(1, 3)), batch_size=batch_size)
                if y.tobytes() != answer[rows].tobytes():
                    wrong.append((number, rows, batch_size))
        except Exception as error:
            failed.append(error)

    begun = time.perf_counter()
    callers = [threading.Thread(target=call, args=(seed,)) for seed in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    seconds, late = time.perf_counter() - begun, resident()
    print(f"{count} predictions, {len(shared)} inputs, {CALLERS} threads, {seconds:.1f} s")
    print(f"resident {early / 2**20:.1f} MiB at 20 %, {late / 2**20:.1f} MiB at the end", flush=True)
    assert not failed, failed[0]
    assert not wrong, f"{len(wrong)} of {predictions} answers differ, first {wrong[0]}"
    assert late - early <= SLACK


def test_soak():
    root = Path(fastbilstm.__file__).resolve().parents[1]
    env = {**os.environ, "PYTHONPATH": str(root), "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, __file__, os.environ.get("FASTBILSTM_SOAK") or "20000"]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout


if __name__ == "__main__":
    soak(int(sys.argv[1]))
