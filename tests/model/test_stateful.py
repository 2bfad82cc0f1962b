"""Stateful models: what they remember, which batches they take, reset_states, and who shares their states."""

import os
import pickle
import subprocess
import sys
import threading

import make_files as mf
import numpy as np
import pytest
from paths import MATERIAL

import fastbilstm
from fastbilstm import InputError

X = np.random.default_rng(1).standard_normal((5, 6, 4)).astype("f4")


def test_stateful_remembers_until_reset():
    model = mf.floats(batch=5, stateful=True)
    first = model.predict(X[:, :3])
    second = model.predict(X[:, 3:])
    model.reset_states()
    whole = model.predict(X)
    np.testing.assert_allclose(second, whole, rtol=1e-6)
    model.reset_states()
    np.testing.assert_array_equal(model.predict(X[:, :3]), first)
    assert not np.allclose(model.predict(X[:, :3]), first)


def test_stateful_batches():
    model = mf.floats(batch=5, stateful=True)
    for x, options in (
        (X[:4], {}),
        (np.concatenate([X, X[:1]]), {}),
        (X, {"batch_size": 2}),
        (X[:1], {"batch_size": 5}),
    ):
        with pytest.raises(InputError, match="layer 'lstm' is stateful with a batch size of 5; got"):
            model.predict(x, **options)
    with pytest.raises(InputError, match="stateful with a batch size of 5; got 10 rows"):
        model(np.concatenate([X, X]))
    model.reset_states()
    both = model.predict(np.concatenate([X, X]))
    model.reset_states()
    np.testing.assert_array_equal(both, np.concatenate([model(X), model(X)]))


def test_stateful_without_batch_size_is_refused():
    with pytest.raises(fastbilstm.FileFormatError, match=r"'lstm' .*stateful is true and the batch size is not fixed"):
        mf.floats(stateful=True)


def test_states_are_left_alone_by_the_self_check_and_by_refused_input():
    model = mf.floats(batch=5, stateful=True)
    model.predict(X[:, :3])
    copy = pickle.loads(pickle.dumps(model))
    assert model.self_check().ok
    with pytest.raises(InputError):
        model.predict(X[:4])
    continued = model.predict(X[:, 3:])
    copy.predict(X[:, :3])
    np.testing.assert_array_equal(copy.predict(X[:, 3:]), continued)


# Stateful(LSTM(3)), whose predictions of one row wait for a gate before they end.
GATED = """
import os, sys, threading
import numpy as np
sys.path.insert(0, {tests!r})
import fastbilstm, make_files as mf
began, gate, parent = threading.Event(), threading.Event(), os.getpid()

def wait(x, mask, weights, config):
    if os.getpid() == parent:
        began.set()
        assert gate.wait(30)
    return x

fastbilstm.register_layer("Gate", wait)
layers = mf.input_layer("x", (1, None, 4), "float32"), mf.lstm(stateful=True), mf.layer("Gate", "gate")
content = mf.h5(mf.sequential(*layers), mf.weights_of(lstm=mf.lstm_weights(4, 3)))
model, x, answers = fastbilstm.load(content), np.ones((1, 2, 4), np.float32), []
other = threading.Thread(target=lambda: answers.append(model.predict(x)))
other.start()
assert began.wait(30)
"""


def run_gated(code):
    code = GATED.format(tests=str(MATERIAL)) + code
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    assert done.returncode == 0, done.stdout.decode()


def test_reset_states_waits_for_a_prediction():
    run_gated(
        """
resetting = threading.Thread(target=model.reset_states)
resetting.start()
resetting.join(0.2)
assert resetting.is_alive() and not answers
gate.set()
other.join(), resetting.join()
np.testing.assert_array_equal(model.predict(x), answers[0])
"""
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_the_child_of_a_fork_waits_for_no_one():
    run_gated(
        """
child = os.fork()
if child == 0:
    first = model.predict(x)
    model.reset_states()
    os._exit(0 if np.array_equal(model.predict(x), first) else 1)
assert os.waitpid(child, 0)[1] == 0
gate.set()
other.join()
"""
    )


@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_threads_predict_and_reset_in_turn(backend):
    """Each answer is that of the first, second, third ... batch after a reset, and no batch is lost."""
    layers = [mf.input_layer("x", (5, None, 4), "float32"), mf.lstm("one", stateful=True, return_sequences=True)]
    layers += [mf.lstm(name, stateful=True, return_sequences=True) for name in ("two", "three", "four")]
    weights = {name: mf.lstm_weights(4 if name == "one" else 3, 3) for name in ("one", "two", "three", "four")}
    model = fastbilstm.load(mf.h5(mf.sequential(*layers), mf.weights_of(**weights)), backend=backend)
    known = {model.predict(X).tobytes(): number for number in range(12)}
    assert len(known) == 12
    numbers, wrong = [], []

    def work(resets):
        try:
            for _ in range(3):
                numbers.append(known[model.predict(X).tobytes()])
                if resets:
                    model.reset_states()
        except BaseException as error:
            wrong.append(error)
            raise

    for turn in range(40):
        resets = turn % 2 == 1
        numbers.clear(), model.reset_states()
        threads = [threading.Thread(target=work, args=(resets,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong and (resets or sorted(numbers) == list(range(12)))
