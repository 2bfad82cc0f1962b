"""Processes that fork or end while threads predict: every child answers with the same bits, every process ends.

FASTBILSTM_FORKS and FASTBILSTM_EXITS are the numbers of forks and of processes; `make soak` takes many.
"""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from engine_nets import inputs, load
from paths import ROOT

from fastbilstm.engine import plan

pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")

from fastbilstm.engine import vector_layers

FORKS = int(os.environ.get("FASTBILSTM_FORKS", "6"))
EXITS = int(os.environ.get("FASTBILSTM_EXITS", "6"))
SECONDS = 60


def ended(child):
    """The exit status of a child; one that hangs is killed, and told by 99."""
    limit = time.monotonic() + SECONDS
    while time.monotonic() < limit:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return 99


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forks_while_threads_predict(monkeypatch):
    monkeypatch.setattr(vector_layers, "PARALLEL_WORK", 0)
    monkeypatch.setattr(plan, "WORTH_A_THREAD", 1)
    model, x = load("masked stack", n_threads=2), inputs("masked stack")
    expected, failures, stop = model.predict(x), [], threading.Event()

    def work(rows):
        while not stop.is_set():
            if not np.array_equal(model.predict(x[:rows]), expected[:rows], equal_nan=True):
                failures.append(rows)

    threads = [threading.Thread(target=work, args=(rows,)) for rows in (1, 2, len(x))]
    for thread in threads:
        thread.start()
    try:
        codes = []
        for number in range(FORKS):
            time.sleep(0.001 * (number % 7))
            child = os.fork()
            if not child:
                code = 1
                try:
                    answers = model.predict(x), model.predict(x[:1])
                    same = (np.array_equal(y, expected[: len(y)], equal_nan=True) for y in answers)
                    code = 0 if all(same) else 2
                finally:
                    os._exit(code)
            codes.append(ended(child))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert codes == [0] * FORKS and not failures


PROGRAM = """
import os, signal, sys, threading, time
import numpy as np
import fastbilstm
from fastbilstm.engine import plan, vector_layers

vector_layers.PARALLEL_WORK, plan.WORTH_A_THREAD = 0, 1
way, pause, model = sys.argv[1], float(sys.argv[2]), fastbilstm.load(sys.argv[3], n_threads=2)
x = np.load(sys.argv[4])

def work(rows):
    while True:
        model.predict(x[:rows])

for rows in (1, 2, len(x)):
    threading.Thread(target=work, args=(rows,), daemon=True).start()
time.sleep(pause)
if way == "sys.exit":
    sys.exit(3)
if way == "error":
    raise LookupError("the last one")
if way.startswith("SIG"):
    os.kill(os.getpid(), getattr(signal, way))
    time.sleep(60)
"""
# How a process ends, and its exit code.
WAYS = {"return": 0, "sys.exit": 3, "error": 1, "SIGTERM": -15}
if os.name == "nt":
    del WAYS["SIGTERM"]


def test_exits_while_threads_predict(tmp_path):
    load("masked stack").save(tmp_path / "model.fbl")
    np.save(tmp_path / "x.npy", inputs("masked stack"))
    for number in range(EXITS):
        way = list(WAYS)[number % len(WAYS)]
        command = [sys.executable, "-c", PROGRAM, way, str(0.003 * (number % 11))]
        command += [str(tmp_path / "model.fbl"), str(tmp_path / "x.npy")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
        told = "LookupError: the last one" in done.stderr if way == "error" else not done.stderr
        assert done.returncode == WAYS[way] and told, (number, way, done.returncode, done.stderr[-2000:])
