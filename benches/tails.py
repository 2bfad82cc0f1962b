"""Tails and callers: percentiles of single rows, idle and beside a busy process, times of single rows after other work,
and calls a second of Python threads.

Every engine has its default threads, as many as there are cores; fastbilstm is measured on one thread, too. The engines
take turns (`interleave`). "busy": another process computes on one core, wherever the system puts it. After other work:
before each call its process writes TOUCHED MB of other memory, as a service does between requests. Knows nothing of
reports.
"""

import contextlib
import subprocess
import sys
import time

import numpy as np
from cells import CELLS, HAND_MADE, cell_input
from engines import CANDIDATES, ENGINES, ONE_THREAD, OURS
from interleave import PAUSE
from timing import summary

NETS_OF_TAILS = ("bilstm64", "stack", "attention")
LOADS = ("idle", "busy")
CALLERS = (1, 2, 4, 8)
PERCENTILES = (50, 95, 99)
TOUCHED = 32  # MB
_ENGINES = (OURS, OURS + ONE_THREAD, ENGINES["tensorflow"], ENGINES["litert"])


@contextlib.contextmanager
def load(name):
    """Keep one core busy, or none."""
    if name == "idle":
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        time.sleep(0.3)
        try:
            yield
        finally:
            busy.kill()


def is_measured(engine):
    """The engine of an Interleaved: hand-made nets with default threads, TensorFlow, LiteRT, and both of ours."""
    if CANDIDATES[engine.number].nets == "unrolled":
        return False  # the nets of tails are too long for it
    return engine.name in _ENGINES or (engine.form == HAND_MADE and not engine.name.endswith(ONE_THREAD))


def measure(interleaved, net, rounds, seconds, callers=CALLERS):
    """Rows of one net, for each engine: {"load", "p50", "p95", "p99"} in ms, {"touched" in MB, and a summary of times},
    or {"callers", "calls"} a second.
    """
    x = cell_input(CELLS[net], 1)
    engines = [engine for engine in interleaved.engines if is_measured(engine)]
    ready, rows = interleaved.prepare(net, net, x, interleaved.specification(net, x), engines)
    for name in LOADS:
        samples = _turns(ready, name, rounds, lambda engine: engine.ask("calls", span=seconds))
        for engine, row in ready:
            if row["status"] != "ok":
                continue
            found = np.concatenate([reply["seconds"] for reply in samples[engine]]) * 1e3
            percentiles = {f"p{p}": float(value) for p, value in zip(PERCENTILES, np.percentile(found, PERCENTILES))}
            rows.append({**row, "load": name, **percentiles, "samples": len(found)})
    samples = _turns(ready, "idle", rounds, lambda engine: engine.ask("calls", span=seconds, touched=TOUCHED))
    for engine, row in ready:
        if row["status"] == "ok":
            found = np.concatenate([reply["seconds"] for reply in samples[engine]])
            rows.append({**row, "touched": TOUCHED, **summary(found)})
    for count in callers:
        samples = _turns(ready, "idle", rounds, lambda engine, n=count: engine.ask("callers", count=n, span=seconds))
        for engine, row in ready:
            if row["status"] != "ok":
                continue
            calls = float(np.median([reply["calls"] for reply in samples[engine]]))
            rows.append({**row, "callers": count, "calls": calls})
    interleaved.say(f"tails, {net}")
    return rows + [row for _, row in ready if row["status"] != "ok"]


def _turns(ready, name, rounds, ask):
    """Engine -> its replies. The row of an engine that fails says why, and it has no more turns."""
    replies = {engine: [] for engine, _ in ready}
    with load(name):
        for number in range(rounds):
            for at in range(len(ready)):
                engine, row = ready[(at + number) % len(ready)]
                if row["status"] != "ok":
                    continue
                time.sleep(PAUSE)
                reply = ask(engine)
                row |= {key: reply[key] for key in ("status", "reason") if key in reply}
                replies[engine].append(reply)
    return replies
