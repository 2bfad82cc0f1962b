"""`predict(out=)` and `bind`: the bits of predict, written into the arrays that the user gave."""

import numpy as np
import pytest
from cases import CASES

import fastbilstm


def arrays_of(y):
    if isinstance(y, dict):
        return arrays_of(list(y.values()))
    return [a for part in y for a in arrays_of(part)] if isinstance(y, list) else [y]


def like(y):
    """Arrays of NaN in the structure of outputs."""
    if isinstance(y, dict):
        return {key: like(part) for key, part in y.items()}
    return [like(part) for part in y] if isinstance(y, list) else np.full_like(y, np.nan if y.dtype.kind == "f" else 0)


def same(a, b):
    return all(np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in zip(arrays_of(a), arrays_of(b)))


CHOSEN = [case for number, case in enumerate(CASES) if not case.derived and number % 9 == 0]


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: case.name)
def test_out_and_bind_give_what_predict_gives(case):
    x = case.inputs[0]
    model = fastbilstm.load(**case.load_args())
    expected = model.predict(x)
    if model._plan.stateful:
        model.reset_states()
    out = like(expected)
    assert model.predict(x, out=out) is out and same(out, expected)
    if model._plan.stateful:
        model.reset_states()
    bound = model.bind(x)
    first = bound()
    assert same(first, expected)
    for _ in range(3):  # the usual way, while the tape is recorded, from the tape
        if model._plan.stateful:
            model.reset_states()
        for array in arrays_of(first):
            array[...] = 0
        assert bound() is first and same(first, expected)


def net(name="lstm-default-keras3"):
    case = next(case for case in CASES if case.name == name)
    return fastbilstm.load(**case.load_args()), case.inputs[0]


def test_what_is_bound_is_read_at_each_call():
    model, x = net()
    x, out = x.copy(), like(model.predict(x))
    bound = model.bind(x, out)
    for factor in (1, 2, -1, 0.5, 3):
        x *= np.float32(factor)
        assert bound() is out and np.array_equal(out, model.predict(x))


def test_out_that_does_not_fit():
    model, x = net()
    y = model.predict(x)
    read_only = np.empty_like(y)
    read_only.flags.writeable = False
    for _ in range(3):  # with and without a tape
        for out in (y[:-1], y.astype(np.float64), y.tolist(), [y], {"y": y}, read_only, np.empty((*y.shape, 1), "f4")):
            with pytest.raises(fastbilstm.InputError, match="out"):
                model.predict(x, out=out)
        wide = np.empty((*y.shape[:-1], 2 * y.shape[-1]), np.float32)[..., ::2]
        assert model.predict(x, out=wide) is wide and np.array_equal(wide, y)
    with pytest.raises(fastbilstm.InputError, match="out"):
        model.bind(x, read_only)


def test_out_for_rows_of_different_lengths():
    model, x = net("lstm-masked_default-keras3")
    rows, y = [x[0], x[1][:-1]], model.predict(x)
    expected = model.predict(rows)
    out = np.empty_like(expected)
    assert model.predict(rows, out=out) is out and np.array_equal(out, expected) and out.shape[1:] == y.shape[1:]
