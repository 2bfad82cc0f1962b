"""The masked LSTM time loop, float32 and float64: z = x_proj + h_tm1.R, then the cell, for each timestep.

The meaning is defined by `lstm` in `fastbilstm/layers/recurrent.py`; this is its loop over time, compiled. Everything
is checked before the first pointer is formed, the buffer for z is allocated before the loop, and the loop runs without
the GIL. Shapes: B batch, T timesteps, U units.
"""

from libc.limits cimport INT_MAX
from libc.string cimport memcpy, memset

import numpy as np

from _activations cimport activate
from _blas cimport add_matmul
from _types cimport ACTIVATION_COUNT, EMIT_STATE, EMIT_ZEROS, MASKED_OUTPUT_COUNT, floating

_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
_UINT8 = np.dtype(np.uint8)


def lstm_loop(
    x_proj, recurrent_kernel, h, c, mask, outputs, last_output, int activation, int recurrent_activation,
    int masked_output, bint reverse,
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
    activation, recurrent_activation : int
        Codes of `ext/_types.pxd`.
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
    _check_code("activation", activation, ACTIVATION_COUNT)
    _check_code("recurrent_activation", recurrent_activation, ACTIVATION_COUNT)
    _check_code("masked_output", masked_output, MASKED_OUTPUT_COUNT)
    if not isinstance(x_proj, np.ndarray) or x_proj.dtype not in _DTYPES or x_proj.ndim != 3 or x_proj.shape[2] % 4:
        raise ValueError(f"lstm_loop: x_proj must be a float32 or float64 array (B, T, 4U), got {_describe(x_proj)}")
    batch, timesteps, width = x_proj.shape
    units = width // 4
    if timesteps == 0:
        raise ValueError(f"lstm_loop: x_proj has no timesteps, its shape is {x_proj.shape}")
    if batch > INT_MAX or width > INT_MAX:
        raise ValueError(f"lstm_loop: x_proj {x_proj.shape} is too large: BLAS counts rows and columns up to {INT_MAX}")
    dtype = x_proj.dtype
    _check_array("x_proj", x_proj, (batch, timesteps, width), dtype, False)
    _check_array("recurrent_kernel", recurrent_kernel, (units, width), dtype, False)
    _check_array("h", h, (batch, units), dtype, True)
    _check_array("c", c, (batch, units), dtype, True)
    if mask is not None:
        _check_array("mask", mask, (batch, timesteps), _UINT8, False)
    if outputs is not None:
        _check_array("outputs", outputs, (batch, timesteps, units), dtype, True)
    _check_array("last_output", last_output, (batch, units), dtype, True)
    _check_overlap(
        (("h", h), ("c", c), ("last_output", last_output), ("outputs", outputs)),
        (("x_proj", x_proj), ("recurrent_kernel", recurrent_kernel), ("mask", mask)),
    )
    if batch == 0 or units == 0:
        return
    z = np.empty((batch, width), dtype)
    if dtype == _DTYPES[0]:
        _run[float](
            x_proj, recurrent_kernel, h, c, mask, outputs, last_output, z, activation, recurrent_activation,
            masked_output, reverse,
        )
    else:
        _run[double](
            x_proj, recurrent_kernel, h, c, mask, outputs, last_output, z, activation, recurrent_activation,
            masked_output, reverse,
        )


cdef str _describe(array):
    if not isinstance(array, np.ndarray):
        return f"{type(array).__name__}"
    flags = array.flags
    faults = (
        (not flags.c_contiguous, "not C-contiguous"), (not flags.aligned, "misaligned"),
        (not flags.writeable, "read-only"), (not array.dtype.isnative, "foreign byte order"),
    )
    return ", ".join([f"{array.dtype.name} {array.shape}"] + [fault for is_so, fault in faults if is_so])


cdef _check_code(str name, int code, int count):
    if not 0 <= code < count:
        raise ValueError(f"lstm_loop: {name} is {code}, the codes are 0 to {count - 1}")


cdef _check_array(str name, array, tuple shape, dtype, bint written):
    if isinstance(array, np.ndarray) and array.dtype == dtype and array.shape == shape:
        flags = array.flags
        if flags.c_contiguous and flags.aligned and (flags.writeable or not written):
            return
    raise ValueError(
        f"lstm_loop: {name} must be a C-contiguous {'writable ' if written else ''}{dtype.name} array of shape {shape},"
        f" got {_describe(array)}"
    )


cdef _check_overlap(tuple written, tuple read):
    """Refuse a written array that shares memory with any other: the loop would read what it has just overwritten."""
    for k, (name, array) in enumerate(written):
        if array is None:
            continue
        for other_name, other in written[k + 1:] + read:
            # The bounds decide: every array here is contiguous.
            if other is not None and np.may_share_memory(array, other):
                raise ValueError(f"lstm_loop: {name} and {other_name} share memory")


cdef _run(
    const floating[:, :, ::1] x_proj, const floating[:, ::1] recurrent_kernel, floating[:, ::1] h, floating[:, ::1] c,
    const unsigned char[:, ::1] mask, floating[:, :, ::1] outputs, floating[:, ::1] last_output, floating[:, ::1] z,
    int activation, int recurrent_activation, int masked_output, bint reverse,
):
    cdef Py_ssize_t batch = x_proj.shape[0], timesteps = x_proj.shape[1], width = x_proj.shape[2]
    cdef Py_ssize_t units = h.shape[1], row_bytes = units * <Py_ssize_t>sizeof(floating)
    cdef Py_ssize_t step, t, b
    cdef bint has_mask = mask is not None, has_outputs = outputs is not None, any_kept
    with nogil:
        memset(&last_output[0, 0], 0, batch * row_bytes)
        for step in range(timesteps):
            t = timesteps - 1 - step if reverse else step
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
                    _step_cell(&z[b, 0], &c[b, 0], &h[b, 0], units, activation, recurrent_activation)
                    memcpy(&last_output[b, 0], &h[b, 0], row_bytes)
                elif masked_output == EMIT_ZEROS:
                    memset(&last_output[b, 0], 0, row_bytes)
                elif masked_output == EMIT_STATE:
                    memcpy(&last_output[b, 0], &h[b, 0], row_bytes)
                if has_outputs:
                    memcpy(&outputs[b, step, 0], &last_output[b, 0], row_bytes)


cdef void _step_cell(
    floating* z, floating* c, floating* h, Py_ssize_t units, int activation, int recurrent_activation,
) noexcept nogil:
    """One row, one timestep: from z (4U) and c (U) to the new c and h; z is used up."""
    cdef floating* i = z
    cdef floating* f = z + units
    cdef floating* g = z + 2 * units
    cdef floating* o = z + 3 * units
    cdef Py_ssize_t u
    activate(i, 2 * units, recurrent_activation)
    activate(g, units, activation)
    activate(o, units, recurrent_activation)
    for u in range(units):
        c[u] = f[u] * c[u] + i[u] * g[u]
    memcpy(g, c, units * <Py_ssize_t>sizeof(floating))
    activate(g, units, activation)
    for u in range(units):
        h[u] = o[u] * g[u]
