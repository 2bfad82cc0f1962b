# cython: freethreading_compatible=True
"""The float32 engine: packed matrices, the LSTM time loop over the vector kernels, attention, pooling.

Each object checks sizes and pointers once and then runs without the GIL; what the kernels do is in `fbl_kernels.h`, what
the layers mean in `fastbilstm/layers/`. Shapes: B batch, T timesteps, F features, U units. A row of a sequence is one
(b, t), number b*T + t. Loops over timesteps are here, loops over units in C.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear
from libc.math cimport NAN
from libc.stdint cimport INT32_MAX, int32_t, int64_t, intptr_t, uint8_t
from libc.string cimport memcmp, memcpy, memset, strcmp

import os

import numpy as np

from _fbl cimport (
    FBL_ACTIVATION_COUNT, FBL_ADD, FBL_AVERAGE, FBL_BFLOAT16, FBL_CLIP_HARD_SIGMOID, FBL_FLOAT16, FBL_HARD_TANH,
    FBL_INT8, FBL_LINEAR, FBL_LOG_SOFTMAX, FBL_MOST_DEPTH, FBL_MUL, FBL_RELU6_HARD_SIGMOID, FBL_SIGMOID, FBL_SOFTMAX,
    FBL_SOFTSIGN, FBL_SPARSEMAX, FBL_STORE, FBL_TANH, fbl_codes, fbl_convolution, fbl_convolution_scratch,
    fbl_convolve_lines, fbl_kernels, fbl_kernels as Table, fbl_narrow, fbl_narrow_table_count, fbl_narrow_tables,
    fbl_narrow_usable, fbl_plan_convolution, fbl_pool_windows, fbl_prefetch, fbl_recurrent, fbl_scatter_windows,
    fbl_step, fbl_table_count as table_count, fbl_tables as tables, fbl_usable as is_usable, fbl_weigh_windows,
    fbl_windows,
)

cdef extern from "fbl_fence.h":
    enum:
        FBL_FENCED

    void FBL_FENCE(void* p, size_t n) noexcept

# Bytes of a slice of projections: it stays in a core's L2 cache beside the weights.
cdef Py_ssize_t SLICE_BYTES = 192 * 1024
# Rows of a table that are asked for ahead, at least.
cdef Py_ssize_t FETCHED_AHEAD = 4
# Longest sequence whose scores with itself are kept whole: 4 MB.
cdef Py_ssize_t SYMMETRIC_TIMESTEPS = 1024
# Multiplications between two looks for Ctrl-C: some 10 ms.
cdef Py_ssize_t SIGNAL_WORK = 200_000_000
# What reading, activating and writing one number takes, in multiplications.
cdef Py_ssize_t ROW_WORK = 16

MERGES = {None: FBL_STORE, "concat": FBL_STORE, "sum": FBL_ADD, "mul": FBL_MUL, "ave": FBL_AVERAGE}

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX

_INT32, _BOOL = np.dtype(np.int32), np.dtype(np.bool_)


# ---- the instruction set --------------------------------------------------------------------------------------------


include "_isas.pxi"


def isa():
    """Name of the instruction set of what is packed from now on, or None if this build has no kernels."""
    return None if _table == NULL else _table.isa.decode()


def lanes():
    """Floats in a vector of the kernels in use; 0 if this build has none."""
    return 0 if _table == NULL else _table.lanes


cdef const fbl_kernels* table_in_use() except NULL:
    if _table == NULL:
        raise RuntimeError("this fastbilstm was built without vector kernels")
    return _table


# ---- memory and checks ----------------------------------------------------------------------------------------------


cdef inline Py_ssize_t rounded_up(Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    return (n + step - 1) // step * step


cdef elements(shape):
    """The product of the sizes, whose bytes an address can count."""
    size = 1
    for n in shape:
        if n < 0:
            raise ValueError(f"the shape {shape} has a negative size")
        size *= int(n)
    if size > PY_SSIZE_T_MAX // 16:
        raise ValueError(f"an array of shape {shape} is too large")
    return size


def aligned(shape, dtype=np.float32):
    """An uninitialized array that starts at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    size = elements(shape)
    # A fenced buffer must not come from NumPy's own store of buffers below 1 kB, nor go back to it.
    buffer = np.empty(size * dtype.itemsize + (1088 if FBL_FENCED else 64), np.uint8)
    start = <Py_ssize_t> (-<size_t> floats(buffer) % 64)
    stop = start + size * dtype.itemsize
    if FBL_FENCED:
        FBL_FENCE(<char*> floats(buffer) + <Py_ssize_t> stop, buffer.size - stop)
    return buffer[start:stop].view(dtype).reshape(shape)


include "_checks.pxi"


def is_plain(x, str dtype not None, tuple shape not None, limit):
    """Whether `x` is an input that needs no change: a C-contiguous float32 or int32 array with elements, of the kind of
    `dtype` and of `shape` but for the rows (None: any size), without an id that is not below `limit` (None: no ids).
    """
    cdef Py_buffer view
    cdef Py_ssize_t k, n = 1
    cdef bint good
    if type(x) is not np.ndarray:
        return False
    try:
        PyObject_GetBuffer(x, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    except (ValueError, BufferError):
        return False
    try:
        good = view.itemsize == 4 and <size_t> view.buf % 4 == 0 and view.ndim == len(shape)
        if strcmp(view.format, b"f") == 0:
            good = good and limit is None and dtype.startswith("float")
        else:
            good = good and strcmp(view.format, b"i") == 0 and dtype.startswith(("int", "uint", "float"))
        for k in range(view.ndim if good else 0):
            n *= view.shape[k]
            good = good and n > 0 and (k == 0 or shape[k] is None or shape[k] == view.shape[k])
        return good and (limit is None or are_below(<const int32_t*> view.buf, n, min(limit, INT32_MAX)))
    finally:
        PyBuffer_Release(&view)


cdef bint are_below(const int32_t* ids, Py_ssize_t n, Py_ssize_t limit) noexcept nogil:
    cdef Py_ssize_t k
    cdef bint bad = False
    for k in range(n):
        bad |= not 0 <= ids[k] < limit
    return not bad


cdef object matrix_of(str what, array, tuple shape):
    """An array of this shape (None: any size) and any layout, of floats or what can become floats: a weight."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiub" or not has_shape(array, shape):
        raise ValueError(f"{what} must be an array of numbers of shape {shape}, got {array.dtype} {array.shape}")
    return array


cdef float* floats(array) except? NULL:
    """Address of the first element of a contiguous array; the caller keeps the array alive."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    cdef float* address = <float*> view.buf
    PyBuffer_Release(&view)
    return address


cdef Py_ssize_t* sizes(array) except? NULL:
    return <Py_ssize_t*> floats(array)


include "_scratch.pxi"
include "_tape.pxi"
include "_tapes.pxi"


cdef pack(matrix, Py_ssize_t lanes):
    """Panels of 4 vectors of columns, then of one vector, as `gemm` reads them; see fbl_kernels.h.

    matrix (K, N) -> (K * N',) with N' = N rounded up to whole vectors.
    """
    depth, columns = matrix.shape
    width = 4 * lanes
    wide = columns // width * width
    padded = rounded_up(columns, lanes)
    packed = aligned((depth * padded,))
    first = packed[:depth * wide].reshape(wide // width, depth, width)
    first[...] = matrix[:, :wide].reshape(depth, wide // width, width).transpose(1, 0, 2)
    rest = np.zeros((depth, padded - wide), np.float32)
    rest[:, :columns - wide] = matrix[:, wide:]
    last = packed[depth * wide:].reshape((padded - wide) // lanes, depth, lanes)
    last[...] = rest.reshape(depth, (padded - wide) // lanes, lanes).transpose(1, 0, 2)
    return packed


@cython.final
@cython.auto_pickle(False)
cdef class Activation:
    """A code of fbl_activations.h and its parameters, checked."""

    cdef int code
    cdef float[3] parameters

    def __cinit__(self, code, parameters=(0.0, 0.0, 0.0)):
        if len(parameters) != 3:
            raise ValueError(f"an activation has {len(parameters)} parameters; expected 3")
        if not 0 <= code < FBL_ACTIVATION_COUNT:
            raise ValueError(f"activation code {code}; expected 0 to {FBL_ACTIVATION_COUNT - 1}")
        self.code = <Py_ssize_t> code
        for k, value in enumerate(parameters):
            self.parameters[k] = value

    def apply(self, x):
        """Activate each row (the last axis) of a contiguous float32 array in place."""
        cdef Product p
        p.out = floats(checked("x", x, (None,) * max(1, getattr(x, "ndim", 1)), True))
        p.columns, p.table, p.code, p.parameters = x.shape[x.ndim - 1], table_in_use(), self.code, self.parameters
        p.rows = x.size // p.columns if p.columns else 0
        if self.code == FBL_LINEAR:
            return
        with nogil:
            _activate(&p)
        cdef Tape tape = recording()
        if tape is not None:
            (<Product*> tape.add(_activate, sizeof(Product), (x,), (), self))[0] = p


cdef int _activate(void* record) except -1 nogil:
    """Activate the rows of what a Product wrote."""
    cdef const Product* p = <const Product*> record
    cdef Py_ssize_t work = 0, r
    for r in range(p.rows):
        work += p.columns * ROW_WORK
        if work >= SIGNAL_WORK:
            look_for_signals()
            work = 0
        p.table.activate(p.out + r * p.columns, p.columns, p.code, p.parameters)
    return 0


@cython.final
@cython.auto_pickle(False)
cdef class Matrix:
    """A packed matrix and its bias: x.K + b."""

    cdef const fbl_kernels* table
    cdef const fbl_narrow* narrow # the kernels for `codes`; NULL: floats are packed
    cdef fbl_codes codes
    cdef readonly Py_ssize_t depth, columns
    cdef object packed, bias
    cdef const float* packed_at
    cdef const float* bias_at

    def __cinit__(self, kernel, bias=None, narrow=None):
        """kernel (K, N), bias (N,) or None, of any float dtype; narrow: (codes, scale) of it, int8 and (1, N), to be used in
        place of it where there are kernels for them.
        """
        self.table, self.narrow, self.bias_at = table_in_use(), NULL, NULL
        kernel = matrix_of("kernel", kernel, (None, None))
        self.depth, self.columns = kernel.shape
        if narrow is not None and 0 < self.depth <= FBL_MOST_DEPTH:
            self.narrow = narrow_in_use(self.table)
        if self.narrow == NULL:
            self.packed = (pack(kernel, self.table.lanes),)
            self.packed_at = floats(self.packed[0])
        else:
            codes, scale = narrow
            if codes.dtype != np.int8 or codes.shape != kernel.shape:
                raise ValueError(f"codes are {codes.dtype} {codes.shape}; expected int8 {kernel.shape}")
            self.packed = pack_int8(codes, scale, 4 * self.table.lanes, self.narrow)
            self.codes = codes_at(self.packed)
        if bias is not None:
            bias = matrix_of("bias", bias, (self.columns,))
            self.bias = np.zeros(rounded_up(self.columns, self.table.lanes), np.float32)
            self.bias[:self.columns] = bias
            self.bias_at = floats(self.bias)

    @property
    def nbytes(self):
        return sum([part.nbytes for part in self.packed])

    cdef const float* floats_at(self) except NULL:
        """The packed floats, for what has no kernels for int8."""
        if self.narrow != NULL:
            raise ValueError(f"a kernel ({self.depth}, {self.columns}) in int8, where only float32 can be used")
        return self.packed_at

    cdef bint is_like(self, Matrix other):
        """Whether both have one size and are packed for the same kernels."""
        sizes = self.depth == other.depth and self.columns == other.columns
        return sizes and self.table == other.table and self.narrow == other.narrow

    @property
    def form(self):
        """That of the weights, as packed."""
        return "float32" if self.narrow == NULL else "int8"

    def product(self, x, out, Activation activation=None):
        """out = activation(x.K + b), row by row; x (..., K) and out (..., N) float32, contiguous."""
        cdef Product p
        p.x = floats(checked("x", x, (None,) * (getattr(x, "ndim", 2) - 1) + (self.depth,)))
        p.out = floats(checked("out", out, x.shape[:x.ndim - 1] + (self.columns,), True))
        apart("out", out, {"x": x})
        if out.size == 0:
            return out
        p.table, p.depth, p.columns, p.packed, p.bias = self.table, self.depth, self.columns, self.packed_at, self.bias_at
        p.narrow, p.codes, p.rows = self.narrow, self.codes, out.size // self.columns
        p.code, p.parameters = FBL_LINEAR, NULL
        if activation is not None:
            p.code, p.parameters = activation.code, activation.parameters
        with nogil:
            _product(&p)
        cdef Tape tape = recording()
        if tape is not None:
            (<Product*> tape.add(_product, sizeof(Product), (x,), (out,), (self, activation)))[0] = p
        return out


cdef struct Product:
    const fbl_kernels* table
    const fbl_narrow* narrow
    fbl_codes codes
    Py_ssize_t rows, depth, columns
    const float* x
    const float* packed
    const float* bias
    float* out
    int code
    const float* parameters


cdef inline void multiply_rows(
    const fbl_kernels* table, const fbl_narrow* narrow, const fbl_codes* codes, Py_ssize_t rows, Py_ssize_t depth,
    Py_ssize_t columns, const float* x, const Py_ssize_t* index, const float* packed, const float* bias, float* out,
) noexcept nogil:
    """out = x.K + bias, of what a Matrix packs: x (rows of `index`, depth), out (rows, columns)."""
    if narrow == NULL:
        table.gemm(rows, depth, columns, x, depth, index, packed, bias, out, columns)
    else:
        narrow.gemm(rows, depth, columns, x, depth, index, codes, bias, out, columns)


cdef int _product(void* record) except -1 nogil:
    cdef const Product* p = <const Product*> record
    cdef Py_ssize_t start = 0, work = 0, stop, r
    while start < p.rows:
        stop = min(start + 96, p.rows)
        work += (stop - start) * (p.depth + ROW_WORK) * p.columns
        if work >= SIGNAL_WORK:
            look_for_signals()
            work = 0
        multiply_rows(
            p.table, p.narrow, &p.codes, stop - start, p.depth, p.columns, p.x + start * p.depth, NULL, p.packed, p.bias,
            p.out + start * p.columns,
        )
        start = stop
    return 0 if p.code == FBL_LINEAR else _activate(record)


include "_threads.pxi"
include "_rows.pxi"
include "_narrow.pxi"
include "_packed.pxi"
include "_shared_steps.pxi"
include "_loop.pxi"
include "_directions.pxi"
include "_skips.pxi"
include "_outputs.pxi"
include "_stream.pxi"
include "_attention.pxi"
include "_multihead.pxi"
include "_windows.pxi"
include "_elementwise.pxi"
include "_depthwise.pxi"

_requested = os.environ.get("FASTBILSTM_ISA")
if _requested:
    use(_requested)
elif isas():
    use(isas()[0])
