"""Products with a kernel of int8, in whole numbers: the specification of the kernels of fbl_narrow.h.

An Int8Kernel stands at the right of an @ in place of a kernel. Imports NumPy.
"""

import numpy as np

from .windows import taps

# Beyond it a row of states has a scale of its own: tanh may exceed 1 by its rounding.
LARGEST_STATE = np.float32(1 + 2**-10)


def row_codes(x, are_states=True):
    """(codes (B, U) of -127 to 127, largest (B, 1)): x is near codes / 127 * largest.

    `largest` is max|x| of a row; of states, 1 where that is not above LARGEST_STATE: states that a user gives may be.
    Codes are rounded in float32, halves to even, as in the kernels. A row below 2**-100 has codes and `largest` 0, one
    that is not finite codes 0 and `largest` NaN.
    """
    x = np.asarray(x, np.float32)
    largest = np.abs(x).max(axis=1, keepdims=True, initial=0)
    if are_states:
        largest = np.where(largest <= LARGEST_STATE, np.float32(1), largest)
    largest = np.where(largest < 2.0**-100, np.float32(0), np.where(np.isfinite(largest), largest, np.float32(np.nan)))
    with np.errstate(invalid="ignore", divide="ignore"):
        codes = np.rint(x * (np.float32(127) / largest))
    return np.where((largest > 0) & np.isfinite(codes), codes, 0).astype(np.int64), largest


class Int8Kernel:
    """codes (K, N) int8 and scale (1, N); x @ kernel is (codes of x) @ codes * (scale / 127) * largest, in float64."""

    __array_ufunc__ = None  # NumPy leaves x @ kernel to this class

    def __init__(self, codes, scale, of_states=True):
        self.codes, self.scale = codes.astype(np.int64), scale.astype(np.float64)
        self.of_states = of_states

    def __getitem__(self, columns):
        """The kernel of some columns: kernel[:, first:stop]."""
        return Int8Kernel(self.codes[columns], self.scale[columns], self.of_states)

    def __rmatmul__(self, x):
        codes, largest = row_codes(x, self.of_states)
        return codes @ self.codes * (self.scale / 127) * largest


def convolve(x, kernel, kernel_size, strides, dilation_rate):
    """y[t] = (what the window at t sees, as one row with one scale) @ kernel, along each spatial axis.

    x (B, *spatial, C) with its margins of zeros, kernel an Int8Kernel (taps * C, F) -> (B, *windows, F). So an answer
    depends on what its window sees alone.
    """
    rows = np.concatenate([part for _, part in taps(x, kernel_size, strides, dilation_rate)], axis=-1)
    return (rows.reshape(-1, rows.shape[-1]) @ kernel).reshape(*rows.shape[:-1], -1)
