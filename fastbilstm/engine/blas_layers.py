"""The BLAS backend: `lstm` and `dense` of the specification, compiled, on the BLAS that SciPy contains.

Same arguments, same result as `layers.recurrent.lstm` and `layers.core.dense`, float32 and float64. BLAS runs on
one thread here: the products of one timestep are too small for several threads, and with several the sums would depend
on their number. Importing this module imports SciPy and threadpoolctl.
"""

import math

import numpy as np
import threadpoolctl

from .. import _recurrent, activations
from ..layers import recurrent

_MASKED_OUTPUT_IDS = {"previous": 0, "zero": 1, "state": 2}
_pools = threadpoolctl.ThreadpoolController().select(user_api="blas")


def _plain(array):
    """The array as compiled code reads it: C-contiguous and aligned; a copy only where it is not."""
    return np.require(array, requirements=("C_CONTIGUOUS", "ALIGNED"))


def _matmul(x, kernel, bias):
    """x.K + b over the last axis of x: (..., F) by (F, U) -> (M, U), one row for each of the M rows of x."""
    rows = _plain(np.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1])))
    out = np.empty((len(rows), kernel.shape[1]), x.dtype)
    _recurrent.matmul(rows, _plain(kernel), None if bias is None else _plain(bias), out)
    return out


def lstm(
    x,
    kernel,
    recurrent_kernel,
    bias=None,
    mask=None,
    initial_state=None,
    activation=np.tanh,
    recurrent_activation=activations.sigmoid,
    masked_output="previous",
):
    """See `fastbilstm.layers.recurrent.lstm`.

    Only softmax over the batch is not a function of one row; the specification runs it.
    """
    codes = activations.kernel_code(activation), activations.kernel_code(recurrent_activation)
    if None in codes:
        return recurrent.lstm(
            x, kernel, recurrent_kernel, bias, mask, initial_state, activation, recurrent_activation, masked_output
        )
    batch, timesteps, _ = x.shape
    units = recurrent_kernel.shape[0]
    # go_backwards gives a view of the reversed sequence; reversed again, it needs no copy.
    reverse = timesteps > 1 and x.strides[1] < 0
    if reverse:
        x, mask = x[:, ::-1], None if mask is None else mask[:, ::-1]
    if initial_state is None:
        h, c = np.zeros((2, batch, units), x.dtype)
    else:
        h, c = (np.array(state, x.dtype, order="C") for state in initial_state)
    outputs = np.empty((batch, timesteps, units), x.dtype)
    last = np.empty((batch, units), x.dtype)
    keep = None if mask is None else _plain(mask).view(np.uint8)
    with _pools.limit(limits=1):
        x_proj = np.reshape(_matmul(x, kernel, bias), (batch, timesteps, 4 * units))
        _recurrent.lstm_loop(
            x_proj,
            _plain(recurrent_kernel),
            h,
            c,
            keep,
            outputs,
            last,
            *codes,
            _MASKED_OUTPUT_IDS[masked_output],
            reverse,
        )
    return outputs, last, h, c


def dense(x, kernel, bias=None, activation=activations.linear):
    """See `fastbilstm.layers.core.dense`; glu, and softmax over another axis than the last, run in NumPy."""
    code = activations.kernel_code(activation)
    with _pools.limit(limits=1):
        y = _matmul(x, kernel, bias)
    if code is not None:
        _recurrent.activate(y, code)
    y = np.reshape(y, (*x.shape[:-1], kernel.shape[1]))
    return y if code is not None else activation(y)
