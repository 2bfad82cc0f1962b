"""Lets the engines take turns: one worker process for each, one at a time, the order rotated every round.

Computes what the specification answers, hands it to the workers, collects times, makes the rows of the report. Knows
nothing of how an engine works and nothing of reports.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
from cells import (
    AS_CONVERTED,
    CELLS,
    HAND_MADE,
    REVIEW_BATCHES,
    REVIEWS_CELL,
    as_tuple,
    cell_input,
    pad,
    reviews,
    write_input,
)
from engines import BASELINE, CANDIDATES, ENGINES, OURS, chosen, reason
from timing import summary

import fastbilstm
from fastbilstm.tolerances import IMDB_PROBABILITY

HERE = Path(__file__).resolve().parent
# Seconds between turns on several threads: ONNX Runtime's pool spins for 30 to 40 ms after a call, PyTorch's for 10.
PAUSE = 0.05
LIMIT = 900  # seconds after which a worker that does not answer is ended
SAMPLE = 512  # reviews
SLOWER = 1.35  # rivals slower than the best on the sample by this factor do not run all reviews


def say(text):
    print(text, file=sys.stderr, flush=True)


def environment(threads):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    chosen = {name: str(threads) for name in (*names, "TF_NUM_INTEROP_THREADS")}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}
    return {**os.environ, **quiet, **chosen}


def child(script, arguments, threads, start=subprocess.run, **options):
    """Run a script of this folder on as many cores as threads; the cores are set before it imports anything."""
    pin = None
    if hasattr(os, "sched_setaffinity"):
        pin = partial(os.sched_setaffinity, 0, sorted(os.sched_getaffinity(0))[:threads])
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return start(command, env=environment(threads), preexec_fn=pin, **options)


class Engine:
    """A worker process, started when it is first asked, and again after it died."""

    def __init__(self, number, job_path, threads):
        self.number, self.job_path, self.threads, self.process = number, job_path, threads, None
        self.log = f"{job_path}.{number}.log"
        self.name, self.form = CANDIDATES[number].engine, CANDIDATES[number].form

    def ask(self, do, **arguments):
        if self.process is None:
            options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
            options["stderr"] = open(self.log, "a")
            with options["stderr"]:
                self.process = child(
                    "worker.py", [self.number, self.job_path], self.threads, subprocess.Popen, **options
                )
        watch = threading.Timer(LIMIT, self.process.kill)
        watch.start()
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            reply = self.process.stdout.readline()
        except OSError:
            reply = ""
        finally:
            watch.cancel()
        if reply:
            return json.loads(reply)
        status, lines = self.stop(), [line.strip() for line in Path(self.log).read_text(errors="replace").splitlines()]
        last = reason(RuntimeError(lines[-1] if lines else "nothing printed"), os.path.dirname(self.job_path))
        return {"status": "failed", "reason": f"its process ended with status {status}: {last}"}

    def stop(self):
        if self.process is None:
            return None
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:
                pass
        status, self.process = self.process.wait(), None
        return status


class Interleaved:
    """The engines on one number of threads; a context manager that ends their processes. `engines`: of `ENGINES`."""

    def __init__(self, job, threads, engines=ENGINES):
        self.job, self.threads = job, threads
        self.own = tempfile.TemporaryDirectory(prefix="fastbilstm-")  # the nets may lie in a folder that is kept
        self.folder = Path(self.own.name)
        path = self.folder / "job.json"
        path.write_text(json.dumps({**job, "threads": threads}))
        fitting = [c for c in chosen(engines) if threads >= c.least_threads]
        self.engines = [Engine(CANDIDATES.index(c), str(path), threads) for c in fitting]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for engine in self.engines:
            engine.stop()
        self.own.cleanup()

    def say(self, text):
        say(f"  [{self.threads} thread{'s' * (self.threads > 1)}] {text}")

    def specification(self, net, x):
        """What the specification in float64 answers."""
        kind = "h5" if "keras" in self.job["problems"][net] else "keras"
        path = Path(self.job["folder"]) / f"{net}.{kind}"
        x = list(x) if isinstance(x, tuple) else x
        return fastbilstm.load(path, backend="numpy", dtype="float64").predict(x)

    def prepare(self, cell, net, x, expected, engines=None):
        """Return ([(engine, row)] of the engines that answer right, rows of the others); `engines`: all by default."""
        paths = {"input": str(self.folder / "x.npz"), "expected": str(self.folder / "expected.npy")}
        write_input(paths["input"], x)
        np.save(paths["expected"], expected)
        ready, rows = [], []
        for engine in engines or [e for e in self.engines if CANDIDATES[e.number].takes(net)]:
            row = self.row(cell, x) | {"engine": engine.name, "form": engine.form}
            row |= engine.ask("prepare", net=net, **paths)
            if row["status"] == "ok":
                ready.append((engine, row))
            else:
                rows.append(row)
        return ready, rows

    def row(self, cell, x):
        return {"cell": cell, "batch": len(as_tuple(x)[0]), "threads": self.threads}

    def cell(self, name, batch):
        """Rows of one cell: rounds of turns until there are enough or the budget is spent."""
        cell, start = CELLS[name], time.perf_counter()
        x = cell_input(cell, batch)
        if problem := self.job["problems"][name].get("net"):
            return [{**self.row(name, x), "engine": "all", "form": "", "status": "missing", "reason": problem}]
        ready, rows = self.prepare(name, name, x, self.specification(name, x))
        samples, begin = {engine: [] for engine, _ in ready}, time.perf_counter()
        for number in range(self.job["rounds"]):
            if number >= 3 and time.perf_counter() - begin > self.job["budget"]:
                break
            for at in range(len(ready)):
                engine, row = ready[(at + number) % len(ready)]
                if row["status"] == "ok":
                    time.sleep(PAUSE if self.threads > 1 else 0)
                    reply = engine.ask("turn")
                    samples[engine] += reply.pop("seconds", [])
                    row |= reply
        for engine, row in ready:
            row |= summary(samples[engine]) if row["status"] == "ok" else {}
            if cell.real:
                row["mean_length"] = float((x != 0).sum(axis=1).mean())
        self.say(f"{name}, batch {batch}: {time.perf_counter() - start:.0f} s")
        return rows + [row for _, row in ready]

    def reviews(self, net, count, rounds):
        """All reviews in one call; rivals in batches of `REVIEW_BATCHES` rows, whichever is faster on a sample."""
        x = pad(reviews(count))
        ready, rows = self.prepare(REVIEWS_CELL, net, x, self.specification(net, x[:64]))
        for engine, row in ready:
            if engine.form == BASELINE:
                row["status"] = "skipped"
                continue
            reply = engine.ask("sample", rows=SAMPLE, sizes=[None, 64] if engine.name == OURS else REVIEW_BATCHES)
            if "seconds" not in reply:
                row |= reply
                continue
            row |= {"sample": reply["seconds"], "detail": f"batches of {reply['size'] or 'the default size'}"}
            self.say(f"{row['engine']} {row['form']}: {row['sample'] * 1e3:.0f} ms for a sample of the reviews")
        counted = [
            row["sample"] for _, row in ready if row["status"] == "ok" and row["form"] in (AS_CONVERTED, HAND_MADE)
        ]
        limit, answers = SLOWER * min(counted, default=0), {}
        for engine, row in ready:
            if row["status"] == "ok" and engine.name != OURS and row["sample"] > limit:
                scaled = row["sample"] * len(x) / min(SAMPLE, len(x))
                row |= {
                    "status": "not run",
                    "reason": f"about {scaled:.1f} s, from a sample of {SAMPLE} ({row['detail']})",
                }
        chosen = [(engine, row, []) for engine, row in ready if row["status"] == "ok"]
        for number in range(rounds):
            for at in range(len(chosen)):
                engine, row, samples = chosen[(at + number) % len(chosen)]
                time.sleep(PAUSE)
                answers[engine] = str(self.folder / f"answer{engine.number}.npy")
                reply = engine.ask("all", answer=answers[engine])
                samples += [reply.pop("seconds")] if "seconds" in reply else []
                row |= reply
            self.say(f"all reviews, round {number + 1} of {rounds}")
        ours = next((np.load(answers[engine]) for engine, row, _ in chosen if engine.name == OURS), None)
        for engine, row, samples in chosen:
            row |= summary(samples) if row["status"] == "ok" else {}
            difference = 0.0 if ours is None else float(np.abs(np.load(answers[engine]) - ours).max())
            if difference > 2 * IMDB_PROBABILITY:
                row |= {"status": "wrong", "reason": f"differs from fastbilstm by {difference:.2g}"}
        return rows + [row for _, row in ready if row["status"] != "skipped"]
