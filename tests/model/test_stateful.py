"""Stateful models: what they remember, which batches they take, reset_states, and who shares their states."""

import pickle

import make_files as mf
import numpy as np
import pytest

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
