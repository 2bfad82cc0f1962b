"""A pool of workers for one test, callers beside each other, and two directions of a layer that may share the pool."""

import threading

import numpy as np
import pytest

from fastbilstm.activations import kernel_code, sigmoid, tanh

try:
    from fastbilstm import _kernels
except ImportError:
    _kernels = None
has_kernels = _kernels is not None and _kernels.isa() is not None
needs_kernels = pytest.mark.skipif(not has_kernels, reason="this build has no vector kernels")


@pytest.fixture
def workers():
    """A pool of its own, without workers at first; the function that lists how long each rests."""
    if _kernels is None:
        pytest.skip("needs the compiled module")
    _kernels.forget_workers()
    return _kernels.workers


@pytest.fixture
def nobody_comes(monkeypatch, workers):
    """The workers of the pool are called as ever, but never run."""
    monkeypatch.setattr(threading.Thread, "start", lambda thread: None)


def call_at_once(function, count):
    """Call a function in `count` threads, and wait for them."""
    callers = [threading.Thread(target=function) for _ in range(count)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)


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
