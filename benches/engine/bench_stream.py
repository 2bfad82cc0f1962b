"""`Stream.push` of one timestep: what a caller waits for, Python included.

`make bench` times it on one thread. Without timing (as in `make test`) each runs once; the rows are compared first with
those of the whole sequence, and no time is ever asserted. The nets take (1, 1, 32) float32; "general" is the way that
masks, float64 and everything but recurrent and Dense layers take.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

import fastbilstm
from fastbilstm.engine import backends

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "material"))
pytest.importorskip("h5py", reason="the nets are written as Keras files")

FEATURES, UNITS = 32, 64


def net_of(name):
    from built_nets import Net

    net = Net(shape=(None, FEATURES))
    net.lstm("one", "x", FEATURES, UNITS, return_sequences=True)
    if name == "lstm64":
        return net, "one"
    net.lstm("two", "one", UNITS, UNITS, return_sequences=True)
    return net, net.dense("head", "two", UNITS, 10, "softmax")


@pytest.mark.parametrize("way", ["quick", "general"])
@pytest.mark.parametrize("net", ["lstm64", "stack"])
def bench_push(benchmark, net, way):
    if problem := backends.vector_problem():
        pytest.skip(str(problem))
    built, output = net_of(net)
    model = fastbilstm.load(built.content(output), backend="vector", n_threads=1)
    x = np.random.default_rng(1).standard_normal((1, 20, FEATURES)).astype("f4")
    stream = model.stream()
    if way == "general":
        stream._fast = None
    rows = [stream.push(x[:, t : t + 1]) for t in range(20)]
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), model.predict(x))
    benchmark.group = f"push one timestep, {net}"
    benchmark.name = way
    benchmark(stream.push, x[:, :1].copy())
