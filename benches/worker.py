"""A child process of `bench_rivals.py` that holds one engine and answers one line of JSON for each it reads.

    python worker.py CANDIDATE JOB.json      CANDIDATE: a number in engines.CANDIDATES

Each engine has a process of its own, so that the pools of one do not run into those of another (several OpenMP and TBB
runtimes in one process do); the parent has set its cores and OMP_NUM_THREADS. {"do": "prepare", ...} calls the method
`prepare` of Worker with the rest as arguments; `input` is written by `cells.write_input`, `expected` and `answer` are
.npy files.
"""

import contextlib
import gc
import json
import os
import sys
import threading
import time

import numpy as np
from cells import HAND_MADE, first_rows, read_input
from engines import CANDIDATES, FastBiLSTM, Files, Unavailable, reason
from timing import WARM_UP, seconds, turn

from fastbilstm.tolerances import IMDB_PROBABILITY

# A hand-made net is the same net: no output may differ by more from the specification, which is in the order of one.
HAND_MADE_ERROR = 1e-5


class Worker:
    """One engine, for one net after the other; its methods are the commands."""

    def __init__(self, number, job):
        self.candidate, self.job = CANDIDATES[number], job
        self.engine = self.net = self.call = self.x = self.given = None
        self.last = 0.0

    def prepare(self, net, input, expected):
        """Load the net, answer, compare with what is expected, warm up."""
        self.call, self.given, self.last = None, None, 0.0
        if net != self.net:
            self.engine = self.net = None
            gc.collect()
        files = Files(self.job["folder"], net, self.job["problems"][net])
        self.x, expected = read_input(input), np.load(expected)
        try:
            self.engine = self.engine or self.candidate.make(files, self.job["threads"])
            self.net = net
            self.given = self.engine.arrange(first_rows(self.x, len(expected)))
            answer = self.engine.rows(self.engine.run(self.given), self.given)
        except Exception as error:
            status = "missing" if isinstance(error, ImportError) else "failed"
            return {"status": status, "reason": reason(error, files.folder)}
        try:
            error = self.check(answer, expected)
        except Unavailable as problem:
            return {"status": "wrong", "reason": str(problem)}
        self.call = lambda: self.engine.run(self.given)
        for _ in range(WARM_UP):
            self.call()
        return {"status": "ok", "error": error, "detail": getattr(self.engine, "detail", None)}

    def check(self, answer, expected):
        """Raise Unavailable if an answer is not the expected one; return the largest error."""
        if answer.shape != expected.shape:
            raise Unavailable(f"its output has the shape {answer.shape}, expected {expected.shape}")
        error = float(np.abs(answer - expected).max())
        allowed = HAND_MADE_ERROR if self.candidate.form == HAND_MADE else IMDB_PROBABILITY
        allowed *= max(1.0, float(np.abs(expected).max()))
        if not error <= allowed:
            raise Unavailable(f"its output is wrong by {error:.2g}, allowed {allowed:g}")
        return error

    def turn(self):
        gc.collect()
        gc.disable()
        samples = turn(self.call, self.last)
        self.last = samples[-1]
        gc.enable()
        return {"seconds": samples}

    # ---- tails and callers ------------------------------------------------------------------------------------------

    def calls(self, span, touched=0):
        """Time one call after the other, for `span` seconds; before each, write `touched` MB of other memory."""
        other = np.zeros(touched * 2**20, np.uint8)
        samples, end = [], time.perf_counter() + span
        while time.perf_counter() < end:
            other += 1
            samples.append(seconds(self.call))
        return {"seconds": samples}

    def callers(self, count, span):
        """Calls a second of `count` Python threads that share one model."""
        engines = [self.engine, *(self.engine.another() for _ in range(count - 1))]
        ready, counts, errors = threading.Barrier(count + 1), [0] * count, []

        def run(k):
            try:
                given = engines[k].arrange(self.x)
                engines[k].run(given)
                ready.wait()
                while time.perf_counter() < end:
                    engines[k].run(given)
                    counts[k] += 1
            except Exception as error:
                errors.append(error)
                ready.abort()

        end = float("inf")
        threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
        for thread in threads:
            thread.start()
        with contextlib.suppress(threading.BrokenBarrierError):
            ready.wait()
        begin = time.perf_counter()
        end = begin + span
        for thread in threads:
            thread.join()
        if errors:
            return {"status": "failed", "reason": f"{count} Python threads: {reason(errors[0], self.job['folder'])}"}
        return {"calls": sum(counts) / (time.perf_counter() - begin)}

    # ---- all rows in one call ---------------------------------------------------------------------------------------

    def batches(self, x, size):
        """A call that answers all rows, in batches of `size`; ours takes them at once, rivals arranged beforehand."""
        if isinstance(self.engine, FastBiLSTM):
            return lambda: [self.engine.model.predict(x, batch_size=size)]
        self.given = [self.engine.arrange(x[start : start + size]) for start in range(0, len(x), size)]
        return lambda given=self.given: [self.engine.run(part) for part in given]

    def sample(self, rows, sizes):
        """Choose the size of batches that is fastest on the first rows, and keep the call for all rows."""
        times = []
        for size in sizes:
            call = self.batches(self.x[:rows], size)
            call()
            times.append(min(seconds(call) for _ in range(3)))
        best = int(np.argmin(times))
        self.call = self.batches(self.x, sizes[best])
        return {"size": sizes[best], "seconds": times[best]}

    def all(self, answer):
        """Time the call for all rows once, and save its answer."""
        given = self.given

        def call():
            nonlocal answers
            answers = self.call()

        answers = None
        taken = seconds(call)
        if not isinstance(self.engine, FastBiLSTM):
            answers = [self.engine.rows(part, arranged) for part, arranged in zip(answers, given)]
        np.save(answer, np.concatenate(answers))
        return {"seconds": taken}


def main(number, path):
    with open(path) as file:
        worker = Worker(int(number), json.load(file))
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what engines print goes to standard error
    for line in sys.stdin:
        command = json.loads(line)
        reply = getattr(worker, command.pop("do"))(**command)
        replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
