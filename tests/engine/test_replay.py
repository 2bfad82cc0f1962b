"""Small predictions that are run again without Python: the same bits as the first one, for every golden case.

A tape is recorded when a shape comes for the second time; the third prediction plays it.
"""

import numpy as np
import pytest
from cases import CASES

import fastbilstm

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
NETS = [case for case in CASES if not case.derived]


def arrays_of(y):
    return [
        a for part in (y.values() if isinstance(y, dict) else [y]) for a in (part if isinstance(part, list) else [part])
    ]


def same(a, b):
    return all(
        np.array_equal(x, y, equal_nan=x.dtype.kind == "f") and x.dtype == y.dtype for x, y in zip(a, b, strict=True)
    )


def other(x, rng):
    """Another input of the same shape: rows and timesteps in another order."""
    return np.ascontiguousarray(x[::-1] if x.ndim == 1 else rng.permutation(x.reshape(-1)).reshape(x.shape))


@pytest.mark.parametrize("case", NETS, ids=lambda case: case.name)
def test_a_tape_gives_the_same_bits(case):
    (x, *_) = case.inputs
    model = fastbilstm.load(**case.load_args(), dtype="float32")
    if model._plan.replay is None or isinstance(x, (list, dict)) or model._plan.stateful:
        pytest.skip("several inputs, text, states, or another backend")
    x = x.astype(np.float32) if x.dtype.kind == "f" else x
    rng = np.random.default_rng(0)
    fresh = lambda: fastbilstm.load(**case.load_args(), dtype="float32")  # noqa: E731
    first = arrays_of(model.predict(x))
    for _ in range(3):
        assert same(arrays_of(model.predict(x)), first)
    y = other(x, rng)
    try:
        expected = arrays_of(fresh().predict(y))
    except fastbilstm.InputError:
        return
    assert same(arrays_of(model.predict(y)), expected)
    assert same(arrays_of(model(x)), first)
