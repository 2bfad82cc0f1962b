"""Rounding to half precision and to int8, as the layers do it."""

import numpy as np
import pytest

from fastbilstm.layers import core, quantized


def test_rounding_to_bfloat16():
    """Ties go to the even mantissa; infinities and NaN stay."""
    one = 1 + 2.0**-8  # halfway between 1 and 1 + 2**-7
    x = np.array([1.0, one, 1 + 3 * 2.0**-8, -one, 0.1, -0.0, np.inf, -np.inf, np.nan, 3.4e38], np.float32)
    expected = [1.0, 1.0, 1 + 2.0**-6, -1.0, 0.10009765625, -0.0, np.inf, -np.inf, np.nan, np.inf]
    for dtype in (np.float32, np.float64):
        y = core.round_to("bfloat16", x.astype(dtype))
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, np.array(expected, dtype))
    assert core.round_to(None, x) is x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantized_rows(dtype):
    x = np.array([[0.0, 0.0, 0.0], [1.2, -2.0, 0.5], [1e-9, 0.0, -1e-9]], dtype)
    whole, scale = quantized.quantize_rows(x, -127, 127, 1e-7)
    np.testing.assert_array_equal(whole, [[0, 0, 0], [76, -127, 32], [1, 0, -1]])
    np.testing.assert_allclose(scale[:2, 0], [127e7, 63.5], rtol=1e-6)
    assert whole.dtype == scale.dtype == dtype
