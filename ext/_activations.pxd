"""Keras' activations in place over an array, by the codes of `_types.pxd`.

One loop for each activation, so that the choice is made once an array. Each comparison is written so that NaN fails it
and passes through. float64 calls libm. float32 has its own exp and tanh, free of branches and calls, so that the
compiler turns the loops into vector code; their largest errors over all floats are stated and tested.
"""

from libc.math cimport exp, expm1, expm1f, fabs, fabsf, log1p, log1pf, tanh
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from _types cimport (
    ELU, EXPONENTIAL, HARD_SIGMOID_02, HARD_SIGMOID_6, RELU, SIGMOID, SOFTPLUS, SOFTSIGN, TANH, floating,
)


cdef inline float power_of_two(uint32_t biased) noexcept nogil:
    """2^(biased - 127), from the exponent field of a float."""
    cdef float y
    biased <<= 23
    memcpy(&y, &biased, sizeof(float))
    return y


cdef inline float exp_float(float x) noexcept nogil:
    """e^x = 2^n e^r with |r| <= ln(2)/2; largest error 1.1 units in the last place, subnormal results included."""
    cdef float shift = 12582912.0  # 1.5 * 2^23: added to a small number, it leaves the rounded integer in the low bits
    cdef float shifted, n, r, y
    cdef uint32_t bits, half
    x = -104 if x < -104 else (89 if x > 89 else x)  # beyond: exactly 0 and inf
    shifted = x * <float>1.44269504 + shift
    n = shifted - shift
    r = (x - n * <float>0.693145751953125) - n * <float>1.42860682e-06  # ln(2) in two parts, the first times n is exact
    # Taylor's series: its next term is below 2^-27.
    y = <float>(1. / 720) + r * <float>(1. / 5040)
    y = <float>(1. / 120) + r * y
    y = <float>(1. / 24) + r * y
    y = <float>(1. / 6) + r * y
    y = <float>0.5 + r * y
    y = 1 + (r + r * r * y)
    # 2^n in two factors, as n runs from -150 to 128. NaN gives some factors here, and NaN again as the product.
    memcpy(&bits, &shifted, sizeof(float))
    bits = bits - 0x4B400000 + 256
    half = (bits >> 1) & 0xFF
    return y * power_of_two(half - 1) * power_of_two(bits - half - 1)


cdef inline float tanh_float(float x) noexcept nogil:
    """x + x^3 P(x^2) below 0.625, 1 - 2 / (e^2|x| + 1) above; largest error 1 unit in the last place."""
    cdef float size = fabsf(x), square = x * x, small, large
    # P: weighted least squares of (tanh(x) - x) / x^3 at 64 Chebyshev points; relative error of tanh below 2^-26.
    small = <float>0.020626292 + square * <float>-0.0056919856
    small = <float>-0.05373532 + square * small
    small = <float>0.13331382 + square * small
    small = <float>-0.3333328 + square * small
    large = 1 - 2 / (exp_float(2 * size) + 1)
    large = -large if x < 0 else large
    return large if size > <float>0.625 else x + x * square * small


cdef inline floating exp_of(floating x) noexcept nogil:
    if floating is float:
        return exp_float(x)
    else:
        return exp(x)


cdef inline floating expm1_of(floating x) noexcept nogil:
    if floating is float:
        return expm1f(x)
    else:
        return expm1(x)


cdef inline floating log1p_of(floating x) noexcept nogil:
    if floating is float:
        return log1pf(x)
    else:
        return log1p(x)


cdef inline floating tanh_of(floating x) noexcept nogil:
    if floating is float:
        return tanh_float(x)
    else:
        return tanh(x)


cdef inline floating abs_of(floating x) noexcept nogil:
    if floating is float:
        return fabsf(x)
    else:
        return fabs(x)


cdef inline floating clip(floating x, floating high) noexcept nogil:
    """min(max(x, 0), high)."""
    return 0 if x < 0 else (high if x > high else x)


cdef inline void activate(floating* x, Py_ssize_t n, int activation) noexcept nogil:
    """x = activation(x) over n elements; a code that is not in the table is the identity (callers refuse it)."""
    cdef Py_ssize_t k
    if activation == TANH:
        for k in range(n):
            x[k] = tanh_of(x[k])
    elif activation == SIGMOID:
        for k in range(n):
            x[k] = 1 / (1 + exp_of(-x[k]))
    elif activation == RELU:
        for k in range(n):
            x[k] = 0 if x[k] <= 0 else x[k]
    elif activation == HARD_SIGMOID_02:
        for k in range(n):
            x[k] = clip(<floating>0.2 * x[k] + <floating>0.5, <floating>1)
    elif activation == HARD_SIGMOID_6:
        for k in range(n):
            x[k] = clip(x[k] + 3, <floating>6) / 6
    elif activation == ELU:
        for k in range(n):
            if not x[k] > 0:
                x[k] = expm1_of(x[k])
    elif activation == SOFTSIGN:
        for k in range(n):
            x[k] = x[k] / (1 + abs_of(x[k]))
    elif activation == EXPONENTIAL:
        for k in range(n):
            x[k] = exp_of(x[k])
    elif activation == SOFTPLUS:
        for k in range(n):
            # log(1 + e^x) without overflow: max(x, 0) + log(1 + e^-|x|)
            x[k] = (0 if x[k] < 0 else x[k]) + log1p_of(exp_of(-abs_of(x[k])))
