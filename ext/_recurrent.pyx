# cython: freethreading_compatible=True
"""The BLAS backend's compiled part, float32 and float64: the masked LSTM time loop, a matrix product, activations.

The meaning is defined in `fastbilstm/layers/recurrent.py`, `layers/core.py` and `activations.py`. Everything is checked
before the first pointer is formed, buffers are allocated before the loop, and all work is done without the GIL.
Shapes: B batch, T timesteps, U units. An activation is (code, (p0, p1, p2)), as `activations.kernel_code` makes it;
functions over a row, such as softmax, see all U units of one batch row.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.limits cimport INT_MAX
from libc.string cimport memcpy, memset

import os

import numpy as np

cimport _cell
from _cell cimport (
    ACTIVATION_COUNT, fbl_cell, fbl_cell as Table, fbl_cell_count as table_count, fbl_cell_usable as is_usable,
    fbl_cells as tables,
)
from _types cimport EMIT_STATE, EMIT_ZEROS, MASKED_OUTPUT_COUNT, floating

_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
_UINT8 = np.dtype(np.uint8)

include "_checks.pxi"
include "_blas.pxi"


cdef struct Code:
    int code
    double[3] p


# Multiplications between two looks for Ctrl-C: some 10 ms.
cdef Py_ssize_t SIGNAL_WORK = 200_000_000


# BLAS chooses its own: the table holds the activations and the cell.
include "_isas.pxi"

# Where the baseline is NEON already, it has no name of its own.
use(os.environ.get("FASTBILSTM_ISA", "").replace("neon", "base") or isas()[0])


def lstm_loop(
    x_proj, recurrent_kernel, h, c, mask, outputs, last_output, activation, recurrent_activation, int masked_output,
    bint reverse,
):
    """Run an LSTM over time: z = x_proj[:, t] + h.R, gates i f c o, c = f*c + i*g, h = o*act(c).

    Parameters
    ----------
    x_proj : ndarray (B, T, 4U), float32 or float64
        Input projection with the bias added, gates in the order i f c o. Every other float array has its dtype.
    recurrent_kernel : ndarray (U, 4U)
    h, c : ndarray (B, U)
        Initial states; overwritten by the final states.
    mask : ndarray (B, T) of uint8, or None
        Nonzero keeps the timestep. A masked timestep carries h and c over.
    outputs : ndarray (B, T, U), or None
        Written with the emitted output of every step, in processing order.
    last_output : ndarray (B, U)
        Written with the output that the last processed step emits.
    activation, recurrent_activation : (int, (float, float, float))
        Code and parameters.
    masked_output : int
        What a masked step emits: 0 the previous emitted output (zero before the first unmasked step), 1 zeros,
        2 the state h.
    reverse : bool
        Read x_proj and mask from the last timestep to the first.

    Raises
    ------
    ValueError
        If an array has the wrong dtype, shape or layout, is read-only where it is written, or overlaps another one;
        if there are no timesteps, or a code is unknown. Nothing has been written then.
    """
    cdef Code cell_code = _check_activation("lstm_loop", "activation", activation)
    cdef Code gate_code = _check_activation("lstm_loop", "recurrent_activation", recurrent_activation)
    if not 0 <= masked_output < MASKED_OUTPUT_COUNT:
        raise ValueError(
            f"lstm_loop: masked_output is {masked_output}, the codes are 0 to {MASKED_OUTPUT_COUNT - 1}"
        )
    if not isinstance(x_proj, np.ndarray) or x_proj.dtype not in _DTYPES or x_proj.ndim != 3 or x_proj.shape[2] % 4:
        raise ValueError(f"lstm_loop: x_proj must be a float32 or float64 array (B, T, 4U), got {described(x_proj)}")
    batch, timesteps, width = x_proj.shape
    units = width // 4
    if timesteps == 0:
        raise ValueError(f"lstm_loop: x_proj has no timesteps, its shape is {x_proj.shape}")
    if batch > INT_MAX or width > INT_MAX:
        raise ValueError(f"lstm_loop: x_proj {x_proj.shape} is too large: BLAS counts rows and columns up to {INT_MAX}")
    dtype = x_proj.dtype
    checked("lstm_loop: x_proj", x_proj, (batch, timesteps, width), False, dtype)
    checked("lstm_loop: recurrent_kernel", recurrent_kernel, (units, width), False, dtype)
    checked("lstm_loop: h", h, (batch, units), True, dtype)
    checked("lstm_loop: c", c, (batch, units), True, dtype)
    if mask is not None:
        checked("lstm_loop: mask", mask, (batch, timesteps), False, _UINT8)
    if outputs is not None:
        checked("lstm_loop: outputs", outputs, (batch, timesteps, units), True, dtype)
    checked("lstm_loop: last_output", last_output, (batch, units), True, dtype)
    others = {"x_proj": x_proj, "recurrent_kernel": recurrent_kernel, "mask": mask}
    for name, array in (("outputs", outputs), ("last_output", last_output), ("c", c), ("h", h)):
        apart(f"lstm_loop: {name}", array, others)
        others[name] = array
    if mask is not None:
        mask = mask.copy()  # each step reads it twice, and another thread may write into it
    if batch == 0 or units == 0:
        return
    z = np.empty((batch, width), dtype)
    if dtype == _DTYPES[0]:
        _run[float](
            x_proj, recurrent_kernel, h, c, mask, outputs, last_output, z, cell_code, gate_code, masked_output,
            reverse,
        )
    else:
        _run[double](
            x_proj, recurrent_kernel, h, c, mask, outputs, last_output, z, cell_code, gate_code, masked_output,
            reverse,
        )


def matmul(a, b, bias, out):
    """out = a.b + bias.

    Parameters
    ----------
    a : ndarray (M, K), float32 or float64
        The other arrays have its dtype.
    b : ndarray (K, N)
    bias : ndarray (N,), or None
    out : ndarray (M, N)
        Overwritten.

    Raises
    ------
    ValueError
        If an array has the wrong dtype, shape or layout, if `out` is read-only or overlaps another one, or if an axis
        is longer than BLAS can count. Nothing has been written then.
    """
    if not isinstance(a, np.ndarray) or a.dtype not in _DTYPES or a.ndim != 2:
        raise ValueError(f"matmul: a must be a float32 or float64 array (M, K), got {described(a)}")
    if not isinstance(b, np.ndarray) or b.ndim != 2:
        raise ValueError(f"matmul: b must be an array (K, N), got {described(b)}")
    rows, inner = a.shape
    columns = b.shape[1]
    if max(rows, inner, columns) > INT_MAX:
        raise ValueError(f"matmul: {a.shape} by {b.shape} is too large: BLAS counts rows and columns up to {INT_MAX}")
    dtype = a.dtype
    checked("matmul: a", a, (rows, inner), False, dtype)
    checked("matmul: b", b, (inner, columns), False, dtype)
    if bias is not None:
        checked("matmul: bias", bias, (columns,), False, dtype)
    checked("matmul: out", out, (rows, columns), True, dtype)
    apart("matmul: out", out, {"a": a, "b": b, "bias": bias})
    if rows == 0 or columns == 0:
        return
    if dtype == _DTYPES[0]:
        _multiply[float](a, b, bias, out)
    else:
        _multiply[double](a, b, bias, out)


def activate(x, activation):
    """x = activation(x), row by row.

    Parameters
    ----------
    x : ndarray (M, N), float32 or float64
        Overwritten.
    activation : (int, (float, float, float))
        Code and parameters.

    Raises
    ------
    ValueError
        If the array has the wrong dtype or layout or is read-only, or the code is unknown.
    """
    cdef Code code = _check_activation("activate", "activation", activation)
    if not isinstance(x, np.ndarray) or x.dtype not in _DTYPES or x.ndim != 2:
        raise ValueError(f"activate: x must be a float32 or float64 array (M, N), got {described(x)}")
    checked("activate: x", x, x.shape, True, x.dtype)
    if x.size == 0:
        return
    if x.dtype == _DTYPES[0]:
        _activate_rows[float](x, code)
    else:
        _activate_rows[double](x, code)


# ---- checks ----------------------------------------------------------------------------------------------------------


cdef Code _check_activation(str caller, str name, value) except *:
    cdef Code result
    try:
        code, (result.p[0], result.p[1], result.p[2]) = value
        if not isinstance(code, int):
            raise TypeError
    except (TypeError, ValueError):
        raise ValueError(f"{caller}: {name} must be (code, (p0, p1, p2)), got {value!r}") from None
    if not 0 <= code < ACTIVATION_COUNT:
        raise ValueError(f"{caller}: {name} has code {code}, the codes are 0 to {ACTIVATION_COUNT - 1}")
    result.code = code
    return result


# ---- work ------------------------------------------------------------------------------------------------------------


cdef inline void _cast(const double* p, floating* cast) noexcept nogil:
    cdef int k
    for k in range(3):
        cast[k] = <floating>p[k]


cdef _multiply(const floating[:, ::1] a, const floating[:, ::1] b, const floating[::1] bias, floating[:, ::1] out):
    cdef Py_ssize_t rows = a.shape[0], inner = a.shape[1], columns = b.shape[1], row
    cdef Py_ssize_t row_bytes = columns * <Py_ssize_t>sizeof(floating)
    cdef bint has_bias = bias is not None
    with nogil:
        if has_bias:
            for row in range(rows):
                memcpy(&out[row, 0], &bias[0], row_bytes)
        else:
            memset(&out[0, 0], 0, rows * row_bytes)
        if inner > 0:
            add_matmul(<int>rows, <int>columns, <int>inner, &a[0, 0], &b[0, 0], &out[0, 0])


cdef _activate_rows(floating[:, ::1] x, Code code):
    cdef floating[3] p
    cdef const fbl_cell* table = _table
    cdef Py_ssize_t row
    with nogil:
        _cast(code.p, p)
        for row in range(x.shape[0]):
            _cell.activate(table, &x[row, 0], x.shape[1], code.code, p)


cdef _run(
    const floating[:, :, ::1] x_proj, const floating[:, ::1] recurrent_kernel, floating[:, ::1] h, floating[:, ::1] c,
    const unsigned char[:, ::1] mask, floating[:, :, ::1] outputs, floating[:, ::1] last_output, floating[:, ::1] z,
    Code cell_code, Code gate_code, int masked_output, bint reverse,
):
    cdef floating[3] cell_p, gate_p
    cdef const fbl_cell* table = _table
    cdef Py_ssize_t batch = x_proj.shape[0], timesteps = x_proj.shape[1], width = x_proj.shape[2]
    cdef Py_ssize_t units = h.shape[1], row_bytes = units * <Py_ssize_t>sizeof(floating)
    cdef Py_ssize_t work = 0, step, t, b
    cdef bint has_mask = mask is not None, has_outputs = outputs is not None, any_kept
    with nogil:
        _cast(cell_code.p, cell_p)
        _cast(gate_code.p, gate_p)
        memset(&last_output[0, 0], 0, batch * row_bytes)
        for step in range(timesteps):
            t = timesteps - 1 - step if reverse else step
            work += batch * width * (units + 16)
            if work >= SIGNAL_WORK:
                with gil:
                    PyErr_CheckSignals()
                work = 0
            any_kept = not has_mask
            if has_mask:
                for b in range(batch):
                    any_kept |= mask[b, t] != 0
            if any_kept:
                for b in range(batch):
                    memcpy(&z[b, 0], &x_proj[b, t, 0], 4 * row_bytes)
                add_matmul(<int>batch, <int>width, <int>units, &h[0, 0], &recurrent_kernel[0, 0], &z[0, 0])
            for b in range(batch):
                if not has_mask or mask[b, t]:
                    _cell.step(
                        table, &z[b, 0], &c[b, 0], &h[b, 0], units, cell_code.code, cell_p, gate_code.code, gate_p,
                    )
                    memcpy(&last_output[b, 0], &h[b, 0], row_bytes)
                elif masked_output == EMIT_ZEROS:
                    memset(&last_output[b, 0], 0, row_bytes)
                elif masked_output == EMIT_STATE:
                    memcpy(&last_output[b, 0], &h[b, 0], row_bytes)
                if has_outputs:
                    memcpy(&outputs[b, step, 0], &last_output[b, 0], row_bytes)
