"""Times of the installed Keras for `fastbilstm report`, beside ours, in a process of its own.

There, TensorFlow's threads and memory are gone when it ends, and a crash is a line on the page. The child process gets
what was read from the file, as in a comparison; of Keras it calls `predict_on_batch`, compiled by its first call.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import FastBiLSTMError
from ..keras import installed_keras
from .measure import SHARE_BATCHES, Timing, sample, timed

if TYPE_CHECKING:
    from ..model import Model

# Below so many seconds for all timings, Keras, which takes some to start, is not timed.
LEAST_SECONDS = 5.0
# The share of these seconds that Keras gets, and the seconds beyond it to start and to compile.
SHARE, START = 0.3, 300.0


class KerasSpeed(NamedTuple):
    """Times of Keras: its name and version, and a Timing for each batch (`threads` 0: as many as it likes)."""

    title: str
    batches: tuple[Timing, ...]


def keras_speed(
    source: Model, trusted: installed_keras.TrustedFile | None, length: int | None, seconds: float
) -> KerasSpeed:
    """Time the Keras that `source`, the Model read from its file, was compared with.

    Raises
    ------
    KerasUnavailable
        With the reason.
    """
    if seconds < LEAST_SECONDS:
        text = f"{seconds:g} s (--seconds) are too short to start it, {LEAST_SECONDS:g} are not"
        raise installed_keras.KerasUnavailable(text)
    fixed = next((i.shape[0] for i in source.graph.inputs if i.shape[0]), None)
    batches = SHARE_BATCHES if fixed is None else (fixed,)
    try:
        inputs = [sample(source, batch, length or 1) for batch in batches]
    except FastBiLSTMError as error:
        raise installed_keras.KerasUnavailable(f"no made-up input fits the model: {error}") from error
    each = SHARE * seconds / len(batches)
    task = pickle.dumps((source.graph, dict(source._tensors), trusted, inputs, each))
    code = "from fastbilstm.report.keras_speed import child; child()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], input=task, capture_output=True, timeout=seconds + START, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise installed_keras.KerasUnavailable(f"its process did not end ({error})") from error
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise installed_keras.KerasUnavailable(f"its process failed: {lines[-1][:300]}")
    title, times = json.loads(done.stdout.splitlines()[-1])
    return KerasSpeed(title, tuple(Timing(0, batch, length, *found) for batch, found in zip(batches, times)))


def child() -> None:
    """The child process: a task on standard input, a line of JSON on standard output."""
    graph, tensors, trusted, inputs, seconds = pickle.load(sys.stdin.buffer)  # of our own parent
    out, sys.stdout = sys.stdout, sys.stderr  # Keras may print
    title, live = installed_keras.live_model(graph, tensors, trusted)
    found = []
    for x in inputs:
        times = timed(lambda x=x: live.predict_on_batch(x), seconds)
        low, middle, high = np.percentile(times, (25, 50, 75)).tolist()
        found.append((middle, low, high, len(times)))
    print(json.dumps([title, found]), file=out)
