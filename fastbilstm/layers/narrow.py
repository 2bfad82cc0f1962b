"""The product of states with a recurrent kernel of int8, in whole numbers: it specifies the kernels of fbl_narrow.h.

An Int8Kernel stands at the right of an @ in place of a kernel. NumPy alone.
"""

import numpy as np

# Beyond it a row of states has a scale of its own: tanh may exceed 1 by its rounding.
LARGEST_STATE = np.float32(1 + 2**-10)


def state_codes(h):
    """(codes (B, U) of -127 to 127, largest (B, 1)): h is near codes / 127 * largest.

    `largest` is 1 where no |h| of a row is above LARGEST_STATE, else max|h|: so may states be that a user gives. Codes
    are rounded in float32, halves to even, as in the kernels. A row that is not finite has codes 0 and `largest` NaN.
    """
    h = np.asarray(h, np.float32)
    largest = np.abs(h).max(axis=1, keepdims=True, initial=0)
    largest = np.where(
        largest <= LARGEST_STATE, np.float32(1), np.where(np.isfinite(largest), largest, np.float32(np.nan))
    )
    with np.errstate(invalid="ignore"):
        codes = np.rint(h * (np.float32(127) / largest))
    return np.where(np.isnan(codes), 0, codes).astype(np.int64), largest


class Int8Kernel:
    """codes (U, N) int8 and scale (1, N); h @ kernel is (codes of h) @ codes * (scale / 127) * largest, in float64."""

    __array_ufunc__ = None  # NumPy leaves h @ kernel to this class

    def __init__(self, codes, scale):
        self.codes, self.scale = codes.astype(np.int64), scale.astype(np.float64)

    def __rmatmul__(self, h):
        codes, largest = state_codes(h)
        return codes @ self.codes * (self.scale / 127) * largest
