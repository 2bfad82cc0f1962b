"""`lstm` of the specification, with the time loop in compiled code over SciPy's BLAS.

Same arguments, same result as layers.recurrent.lstm; activations that the compiled loop does not have run there.
The products of one timestep are too small to share: BLAS runs them on one thread, several threads would only wait for
each other. Importing this module imports SciPy and threadpoolctl.
"""

import numpy as np
import threadpoolctl

from . import _recurrent, activations
from .layers.recurrent import lstm as specification

_MASKED_OUTPUT_IDS = {"previous": 0, "zero": 1, "state": 2}


_pools = threadpoolctl.ThreadpoolController().select(user_api="blas")


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
    """See `fastbilstm.layers.recurrent.lstm`."""
    ids = activations.kernel_code(activation), activations.kernel_code(recurrent_activation)
    if None in ids:
        return specification(
            x, kernel, recurrent_kernel, bias, mask, initial_state, activation, recurrent_activation, masked_output
        )
    batch, timesteps, features = x.shape
    units = recurrent_kernel.shape[0]
    with _pools.limit(limits=1):
        # Here, too: the sum of a product depends on how many threads share it.
        x_proj = np.reshape(x, (batch * timesteps, features)) @ kernel
    if bias is not None:
        x_proj += bias
    x_proj = np.ascontiguousarray(np.reshape(x_proj, (batch, timesteps, 4 * units)))
    if initial_state is None:
        h, c = np.zeros((2, batch, units), x.dtype)
    else:
        h, c = (np.array(state, x.dtype, order="C") for state in initial_state)
    outputs = np.empty((batch, timesteps, units), x.dtype)
    last = np.empty((batch, units), x.dtype)
    keep = None if mask is None else np.ascontiguousarray(mask).view(np.uint8)
    with _pools.limit(limits=1):
        _recurrent.lstm_loop(
            x_proj,
            np.ascontiguousarray(recurrent_kernel),
            h,
            c,
            keep,
            outputs,
            last,
            *ids,
            _MASKED_OUTPUT_IDS[masked_output],
            False,
        )
    return outputs, last, h, c
