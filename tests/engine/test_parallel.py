"""Predictions in several threads and processes: the same bits, one error, Ctrl-C, nothing left running, flat memory.

The pool itself is tested in test_threads.py. FASTBILSTM_SOAK is the number of predictions of the soak test.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from engine_nets import inputs, load, same_bits
from paths import MATERIAL

import fastbilstm
from fastbilstm.engine import plan

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)

from fastbilstm.engine import vector_layers as engine  # noqa: E402

SOAK = int(os.environ.get("FASTBILSTM_SOAK", "20000"))
NAMES = ("lstm", "masked stack", "tagger", "attention", "two towers")


@pytest.fixture(autouse=True)
def always_parallel(monkeypatch):
    monkeypatch.setattr(engine, "PARALLEL_WORK", 0)
    monkeypatch.setattr(plan, "WORTH_A_THREAD", 1)


def test_many_threads_on_one_model():
    for name in NAMES:
        model = load(name, n_threads=2)
        given = [inputs(name, rows=1 + k % 5, timesteps=3 + k, seed=k) for k in range(16)]
        expected = [model.predict(x, n_threads=1) for x in given]
        found = [None] * 16

        def work(start, model=model, given=given, found=found):
            for k in range(start, 16, 8):
                found[k] = model.predict(given[k])

        workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        for y, k in zip(found, expected, strict=True):
            same_bits(y, k)


def predict_in_child(model, x, queue):
    queue.put(model.predict(x, n_threads=2))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes(method):
    """A child has no worker of its parent's pool; a model travels as a pickle."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {method}")
    model, x = load("masked stack", n_threads=2), inputs("masked stack")
    expected = model.predict(x)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=predict_in_child, args=(model, x, queue))
    child.start()
    same_bits(queue.get(timeout=60), expected)
    child.join(60)
    assert child.exitcode == 0
    same_bits(model.predict(x), expected)


def test_an_error_in_late_rows_is_raised_once():
    model = load("lstm", n_threads=2)
    x = np.ones((500, 4), np.int32)
    x[444, 2] = 77
    with pytest.raises(fastbilstm.InputError, match=r"rows \d+ to \d+: layer 'embedding' .*token id at position"):
        model._plan.predict([x], 32, {}, 2)
    assert model.predict(x[:10]).shape == (10, 3)


LONG = """
    import signal
    import sys
    import numpy as np
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored
    sys.path.insert(0, {material!r})
    from engine_nets import load
    model = load({name!r}, n_threads=2)
    x = np.ones({shape}, np.int32)
    small = model.predict(x[:2, :5])
    print("ready", flush=True)
    try:
        for _ in range(1000):
            model.predict(x)
    except KeyboardInterrupt:
        assert np.array_equal(model.predict(x[:2, :5]), small)
        print("interrupted", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize(
    ("name", "shape"),
    [("masked stack", (20_000, 400)), ("masked stack", (1, 2_000_000)), ("attention", (1, 60_000))],
)
def test_ctrl_c_in_a_long_prediction(name, shape):
    code = textwrap.dedent(LONG.format(material=str(MATERIAL), name=name, shape=shape))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        start = time.perf_counter()
        assert child.stdout.read() == "interrupted\n"
        assert child.wait() == 0
    assert time.perf_counter() - start < 20  # it would take minutes to run to its end


def test_idle_threads_sleep():
    model, x = load("tagger", n_threads=4), inputs("tagger")
    model.predict(x), model.predict(x[:1])
    assert "fastbilstm" in {thread.name for thread in threading.enumerate() if thread.daemon}
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_soak():
    """Eight threads predict random shapes on shared models: every answer right, memory flat."""
    models = [load(name, n_threads=1 + k % 2) for k, name in enumerate(NAMES)]
    cases = []
    for k in range(60):
        which = k % len(NAMES)
        rng = np.random.default_rng(k)
        x = inputs(NAMES[which], rows=int(rng.integers(1, 9)), timesteps=int(rng.integers(1, 30)), seed=k)
        cases.append((models[which], x, models[which].predict(x, n_threads=1)))
    failures, sizes, count = [], [], iter(range(SOAK))
    lock = threading.Lock()

    def work(seed):
        rng = np.random.default_rng(seed)
        while not failures:
            with lock:
                number = next(count, None)
            if number is None:
                return
            if number in (SOAK // 5, SOAK - 1):
                sizes.append(resident())
            model, x, expected = cases[rng.integers(len(cases))]
            if not np.array_equal(model.predict(x), expected, equal_nan=True):
                failures.append(number)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
    assert SOAK < 10_000 or abs(sizes[1] - sizes[0]) < 8 * 2**20, sizes  # fewer predictions still fill caches


def resident():
    """Bytes of memory that this process holds; its peak where the system tells no more."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        resource = pytest.importorskip("resource", reason="needs the memory of a process")
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
