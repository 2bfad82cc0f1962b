"""Narrow weights: rounding to the nearest, errors within half a step, and narrowing twice changes nothing."""

import numpy as np
import pytest

from fastbilstm.engine.weight_forms import bfloat16_codes, int8_codes, narrowed, widened

rng = np.random.default_rng(1)
ARRAYS = [
    rng.normal(size=(65, 17)).astype(np.float32),
    rng.standard_cauchy(size=(300, 3)).astype(np.float32) * 1e-3,
    np.ldexp(rng.normal(size=(9, 40)), rng.integers(-140, 12, (9, 40))).astype(np.float32),
    np.zeros((3, 4), np.float32),
    np.zeros((0, 4), np.float32),
]


@pytest.mark.parametrize("array", ARRAYS, ids=range(len(ARRAYS)))
@pytest.mark.parametrize("form", ["int8", "bfloat16", "float16"])
def test_narrowing_twice_changes_nothing(array, form):
    once = narrowed(array, form)
    assert once.dtype == np.float32 and narrowed(once, form).tobytes() == once.tobytes()


@pytest.mark.parametrize("array", ARRAYS, ids=range(len(ARRAYS)))
@pytest.mark.parametrize("axis", [0, 1])
def test_int8_is_within_half_a_step(array, axis):
    codes, scale = int8_codes(array, axis)
    assert codes.dtype == np.int8 and scale.shape == tuple(1 if k == axis else n for k, n in enumerate(array.shape))
    exact = codes.astype(np.float64) * scale
    assert (codes * scale == exact).all()
    assert (np.abs(exact - array) <= np.maximum(scale.astype(np.float64) / 2, 2.0**-100)).all()
    assert codes.size == 0 or codes.min() >= -127
    largest = np.abs(array).max(axis=axis, keepdims=True, initial=0)
    assert (scale * 126.99 <= largest).all(), "the codes use their whole range"


def test_bfloat16_is_that_of_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for array in [*ARRAYS, np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 1.00390625, 1.01171875], np.float32)]:
        assert (bfloat16_codes(array) == array.astype(ml_dtypes.bfloat16).view(np.uint16)).all()
        assert np.array_equal(widened(bfloat16_codes(array)), array.astype(ml_dtypes.bfloat16).astype(np.float32), True)


@pytest.mark.parametrize(
    ("value", "form"), [(np.nan, "int8"), (np.inf, "int8"), (65520.0, "float16"), (3.4e38, "bfloat16")]
)
def test_what_a_form_cannot_hold_is_an_error(value, form):
    with pytest.raises(ValueError, match=f"which {form} cannot hold"):
        narrowed(np.array([[1, value]], np.float32), form)


def test_other_forms_keep_infinities_and_nan():
    array = np.array([[np.inf, -np.inf, np.nan]], np.float32)
    for form in ("bfloat16", "float16", "float32"):
        assert np.array_equal(narrowed(array, form), array, equal_nan=True)
