"""Other threads and processes write into what a prediction reads, or use its stream or its states at the same time.

Every attack runs in a process of its own, since what it looks for would end that process.
"""

import contextlib
import mmap
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import make_files as mf
import numpy as np
import pytest
from built_nets import FEATURES, Net

import fastbilstm
from fastbilstm import InputError
from fastbilstm.engine import backends

TIMESTEPS, ROWS, UNITS = 200, 8, 64
SECONDS = float(os.environ.get("FASTBILSTM_ATTACK", "0.3"))  # of each attack
BACKENDS = [
    backend for backend in ("vector", "blas", "numpy") if not getattr(backends, f"{backend}_problem", lambda: None)()
]
needs_kernels = pytest.mark.skipif("vector" not in BACKENDS, reason="needs the vector kernels")


# ---- nets -----------------------------------------------------------------------------------------------------------


def net_of(kind):
    """(file, what is written into, the values that its first number takes in turn: the first one is right)."""
    net = Net(ids=kind in ("ids", "chain", "long ids"), shape=(None,))
    x = np.tile(np.arange(1, 41, dtype=np.int32), (ROWS, TIMESTEPS // 40))
    if kind == "ids":  # the mask and two directions read them
        net.embedding(mask_zero=True)
        net.bidirectional("two", "embedding", units=UNITS, return_sequences=True)
        return net.content(net.lstm("head", "two", 2 * UNITS, UNITS)), x, [7, 2**31 - 1, -(2**31), 0, 31]
    if kind == "chain":
        net.embedding()
        return net.content(net.lstm("head", "embedding", units=UNITS)), x, [7, 2**31 - 1, -(2**31), 0, 31]
    if kind == "long ids":  # two look-ups read them, for which NumPy needs no copy
        net.embedding("one"), net.embedding("other")
        net.add("Add", "add", "one", "other")
        return net.content(net.lstm("head", "add", units=UNITS)), x.astype(np.int64), [7, 2**62, -(2**62), 0, 31]
    on = net.add("Dropout", "dropout", "x", rate=0.5) if kind == "floats from afar" else "x"
    net.embedding(on=on, mask_zero=True)
    return net.content(net.lstm("head", "embedding", units=UNITS)), x.astype("f4"), [7, 1e30, -3e9, np.nan, 0, 31]


KINDS = ("ids", "chain", "long ids", "floats", "floats from afar")


def net_with_masks():
    """Layers that take a second input for their mask: two directions, attention, mean, one direction."""
    net = Net()
    net.bidirectional("two", "x", units=UNITS, return_sequences=True)
    net.add("Attention", "attention", "two", "two", use_scale=False, score_mode="dot", dropout=0.0)
    mean = net.add("GlobalAveragePooling1D", "mean", "attention", keepdims=False, data_format="channels_last")
    last = net.lstm("last", "two", 2 * UNITS, UNITS, return_sequences=True, go_backwards=True)
    end = net.lstm("end", last, UNITS, UNITS)
    keep = ["keep", 0, 0]
    for entry in net.layers[1:]:
        call = entry["inbound_nodes"][0]
        call[0][3] = {"mask": keep if len(call) == 1 else [keep, keep]}
    net.layers.append(mf.input_layer("keep", (None, None), "bool", functional=True))
    config = mf.functional(*net.layers, inputs=["x", "keep"], outputs=[mean, end])
    return mf.h5(config, mf.weights_of(**net.weights))


# ---- who writes -----------------------------------------------------------------------------------------------------

# Gives the first bytes of a file that others have mapped each of some values in turn, for ever.
WRITER = """
import itertools, mmap, sys
with open(sys.argv[1], "r+b") as file:
    shared = mmap.mmap(file.fileno(), 0)
values = [bytes.fromhex(value) for value in sys.argv[2:]]
print(flush=True)
for value in itertools.cycle(values):
    shared[: len(value)] = value
"""


@contextlib.contextmanager
def writing(writer, path, x, values):
    """An array like x whose first number another thread or process changes without end."""
    Path(path).write_bytes(x.tobytes())
    with open(path, "r+b") as file:
        shared = np.frombuffer(mmap.mmap(file.fileno(), 0), x.dtype).reshape(x.shape)
    if writer == "process":
        values = [v.hex() if isinstance(v, bytes) else np.asarray(v, x.dtype).tobytes().hex() for v in values]
        command = [sys.executable, "-c", WRITER, path, *values]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
            other.stdout.readline()
            try:
                yield shared
            finally:
                other.kill()
        return
    stop = threading.Event()

    def write():
        while not stop.is_set():
            for value in values:
                shared[0, 0] = value

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield shared
    finally:
        stop.set()
        thread.join()


# ---- attacks, each in a process of its own ---------------------------------------------------------------------------


def attack(what, ask, writer, path, x, values):
    """Ask while the first number of x changes; each answer is that of one of the values, or an InputError."""
    sys.setswitchinterval(1e-5)
    answers = []
    for value in values:
        x[0, 0] = value
        try:
            answers.append(ask(x))
        except InputError:
            assert value != values[0]
    assert len(answers) > 1
    # How often it was refused (which must come if some values are wrong), and answered.
    counts, until = [int(len(answers) == len(values)), 0], time.monotonic() + SECONDS
    with writing(writer, path, x, values) as shared:
        while time.monotonic() < until or (0 in counts and time.monotonic() < until + 30):
            try:
                y = ask(shared)
            except InputError:
                counts[0] += 1
                continue
            counts[1] += 1
            assert any(np.array_equal(y, answer) for answer in answers), f"{what}: the answer for none of the values"
    assert 0 not in counts, f"{what}: refused, answered {counts}"


def attack_ids(backend, writer, path):
    for kind in KINDS:
        content, x, values = net_of(kind)
        model = fastbilstm.load(content, backend=backend, n_threads=2)
        attack(kind, model.predict, writer, path, x, values)
        if kind == "ids":
            continue  # Bidirectional: no stream
        stream = model.stream(ROWS)

        def push(x, stream=stream):
            stream.reset()
            return stream.push(x[:, :1])

        attack(f"{kind}, stream", push, writer, path, x, values)


def attack_masks(backend, writer, path):
    model = fastbilstm.load(net_with_masks(), backend=backend, n_threads=2)
    x = np.random.default_rng(0).standard_normal((ROWS, TIMESTEPS, FEATURES)).astype("f4")
    keep = np.arange(TIMESTEPS) < np.arange(TIMESTEPS - ROWS, TIMESTEPS)[:, np.newaxis]
    attack("masks", lambda keep: np.hstack(model.predict([x, keep])), writer, path, keep, [True, False])


def attack_rows(path):
    """The numbers of kept timesteps are written where there is room for those that were counted."""
    from fastbilstm import _kernels

    block = b"\1" * 4000
    with writing("process", path, np.frombuffer(block, bool).reshape(1, -1), [block, b"\0" * 4000]) as shared:
        counts, until = set(), time.monotonic() + 2 * SECONDS
        while time.monotonic() < until:
            rows = _kernels.Rows(1, 4000, shared)
            counts.add(rows.steps)
    assert len(counts) > 1 and 0 <= min(counts) and max(counts) <= 4000


def attack_stream(backend):
    """Push, set and read the state of one stream in four threads: each call answers right or is refused."""
    sys.setswitchinterval(1e-6)
    net = Net()
    net.lstm("one", "x", units=UNITS, return_sequences=True)
    model = fastbilstm.load(net.content(net.lstm("two", "one", UNITS, UNITS, return_sequences=True)), backend=backend)
    # As many rows as let a push run for a while without the interpreter's lock.
    x = np.random.default_rng(0).standard_normal((128, 4, FEATURES)).astype("f4")
    stream, kept = model.stream(128), []
    for t in range(3):
        kept.append(stream.state)
        stream.push(x[:, t : t + 1])
    second = x[:, 1].copy()
    until, counts, wrong = time.monotonic() + 4 * SECONDS, {"done": 0, "refused": 0}, []

    def use():
        rng = np.random.default_rng(threading.get_ident())
        while time.monotonic() < until and not wrong:
            choice = rng.integers(4)
            try:
                if choice == 0:
                    stream.push(second if rng.integers(2) else x[:, 1:3])
                elif choice == 1:
                    stream.state = kept[1 + rng.integers(2)]
                elif choice == 2:
                    stream.reset()
                else:
                    assert np.isfinite([a.sum() for part in stream.state if part for a in part]).all()
                counts["done"] += 1
            except fastbilstm.StreamInUseError:
                counts["refused"] += 1
            except BaseException as error:
                wrong.append(error)
                raise

    workers = [threading.Thread(target=use) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong and min(counts.values()) > 0, (wrong, counts)
    stream.state = kept[1]
    # Where BLAS multiplies, a product of other sizes may have other bits.
    np.testing.assert_allclose(
        stream.push(x[:, 1:]), model.predict(x)[:, 1:], rtol=0, atol=1e-6 * (backend != "vector")
    )


def in_a_process(function, *arguments):
    """Run a function of this file in a process of its own, which ends well."""
    code = f"import faulthandler, test_hostile_threads as t; faulthandler.enable(); t.{function.__name__}{arguments!r}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("writer", ["thread", "process"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("function", [attack_ids, attack_masks])
def test_what_changes_during_a_run_is_answered_or_refused(function, backend, writer, tmp_path):
    in_a_process(function, backend, writer, str(tmp_path / "shared"))


@needs_kernels
def test_a_mask_that_changes_while_it_is_counted(tmp_path):
    in_a_process(attack_rows, str(tmp_path / "mask"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stream_in_four_threads(backend):
    in_a_process(attack_stream, backend)
