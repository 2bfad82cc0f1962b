"""Each allocation of a prediction fails in turn: a MemoryError, and the next prediction is right.

NumPy makes every array and every buffer, those of the compiled modules too; here it is asked through a stand-in that
counts.
"""

import itertools
import sys

import make_files as mf
import numpy as np
import pytest
from built_nets import Net
from engine_nets import NETS, inputs, load

import fastbilstm
from fastbilstm.engine import backends, plan

ALLOCATING = (
    "array",
    "ascontiguousarray",
    "asarray",
    "concatenate",
    "empty",
    "full",
    "ones",
    "require",
    "where",
    "zeros",
)


class Numpy:
    """NumPy, whose call number `failing` of a function that allocates raises MemoryError."""

    def __init__(self, failing):
        self.numbers, self.failing, self.failed = itertools.count(), failing, False

    def __getattr__(self, name):
        function = getattr(np, name)
        return self.counting(function) if name in ALLOCATING else function

    def counting(self, function):
        def allocate(*args, **kwargs):
            if next(self.numbers) == self.failing:
                self.failed = True
                raise MemoryError
            return function(*args, **kwargs)

        return allocate


def failures(monkeypatch, function):
    """Call the function again and again, until none of its allocations is left that has not failed once.

    After each call, yields whether it failed; nothing but a MemoryError may come of it.
    """
    for number in itertools.count():
        with monkeypatch.context() as patch:
            numpy = Numpy(number)
            for name, module in list(sys.modules.items()):
                if name.startswith("fastbilstm.") and getattr(module, "np", None) is np:
                    patch.setattr(module, "np", numpy)
            try:
                function()
                assert not numpy.failed, f"a MemoryError in allocation {number} was lost"
            except MemoryError:
                pass
        yield numpy.failed
        if not numpy.failed:
            assert number > 1
            return


@pytest.fixture(autouse=True)
def always_parallel(monkeypatch):
    monkeypatch.setattr(plan, "WORTH_A_THREAD", 1)
    if backends.vector_problem() is None:
        from fastbilstm.engine import vector_layers

        monkeypatch.setattr(vector_layers, "PARALLEL_WORK", 0)


def same(y, k):
    np.testing.assert_array_equal(np.asarray(y), np.asarray(k))


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_the_next_prediction_is_right(name, n_threads, monkeypatch):
    """Buffers that are there grow: first a small prediction, then a large one that fails."""
    small, large = inputs(name, 2, 3, seed=1), inputs(name, 41, 30)
    expected = [load(name, n_threads=n_threads).predict(x) for x in (small, large)]
    model = load(name, n_threads=n_threads)
    same(model.predict(small), expected[0])
    for _ in failures(monkeypatch, lambda: model.predict(large)):
        same(model.predict(large), expected[1])
        same(model.predict(small), expected[0])
        model._plan.scratches.clear()  # to grow again
        model.predict(small)


@pytest.mark.parametrize("backend", ["blas", "numpy"])
def test_other_backends(backend, monkeypatch):
    if (problem := getattr(backends, f"{backend}_problem", lambda: None)()) is not None:
        pytest.skip(str(problem))
    model, x = load("masked stack", backend=backend), inputs("masked stack", 3, 4)
    expected = model.predict(x)
    for _ in failures(monkeypatch, lambda: model.predict(x)):
        same(model.predict(x), expected)


def stateful():
    """Two layers that remember, whichever of them fails."""
    layers = [
        mf.input_layer("x", (2, None, 4), "float32"),
        mf.lstm("one", units=5, stateful=True, return_sequences=True),
        mf.lstm("two", units=3, stateful=True),
    ]
    weights = mf.weights_of(one=mf.lstm_weights(4, 5), two=mf.lstm_weights(5, 3))
    return fastbilstm.load(mf.h5(mf.sequential(*layers), weights))


def test_states_stay_as_they_were(monkeypatch):
    model, (first, second) = stateful(), np.random.default_rng(0).standard_normal((2, 2, 3, 4)).astype("f4")
    model.predict(first)
    expected = model.predict(second)

    def begin():
        model.reset_states()
        model.predict(first)

    begin()
    for failed in failures(monkeypatch, lambda: model.predict(second)):
        if failed:
            same(model.predict(second), expected)
        begin()


@pytest.mark.parametrize("backend", ["vector", "numpy"])
def test_a_stream_stands_where_it_stood(backend, monkeypatch):
    """One timestep fails, which compiled layers answer one after the other, or a piece, or a state that is set."""
    if (problem := getattr(backends, f"{backend}_problem", lambda: None)()) is not None:
        pytest.skip(str(problem))
    net = Net()
    net.lstm("one", "x", return_sequences=True)
    net.lstm("two", "one", 3, 9, return_sequences=True)
    model = fastbilstm.load(net.content(net.dense("head", "two", 9)), backend=backend)
    x, stream = net.input(rows=2), model.stream(2)
    whole, second, states = model.predict(x), x[:, 1].copy(), []
    for t in range(4):
        stream.push(x[:, t])
        states.append(stream.state)

    def set_state():
        stream.state = states[3]

    for timesteps, function in (
        (2, lambda: stream.push(second)),
        (5, lambda: stream.push(x[:, 1:5])),
        (4, set_state),
    ):
        stream.state = states[0]
        for failed in failures(monkeypatch, function):
            done = 1 if failed else timesteps
            # Where BLAS multiplies, a product of other sizes may have other bits.
            atol = 1e-6 * (backend != "vector")
            np.testing.assert_allclose(stream.push(x[:, done:]), whole[:, done:], rtol=0, atol=atol)
            stream.state = states[0]
