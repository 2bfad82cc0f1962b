# What masked timesteps emit, merge modes over whole outputs, rows normalized, included in _kernels.pyx.


def normalize(x, gamma, beta, double epsilon, out, bint keep_mean=False, bint about_zero=False):
    """Each row of x (..., N) with mean 0 and variance 1, times gamma (N,) plus beta (N,), which may be None.

    `keep_mean`: only divided by the deviation; `about_zero`: divided by the root of the mean square. In float64, rounded
    once.
    """
    cdef const float* at = floats(checked("x", x, (None,) * max(1, getattr(x, "ndim", 1))))
    cdef float* to = floats(checked("out", out, x.shape, True))
    cdef Py_ssize_t n = x.shape[x.ndim - 1], rows = x.size // n if n else 0
    cdef const float* gamma_at = NULL
    cdef const float* beta_at = NULL
    cdef const fbl_kernels* table = table_in_use()
    if gamma is not None:
        gamma_at = floats(checked("gamma", gamma, (n,)))
    if beta is not None:
        beta_at = floats(checked("beta", beta, (n,)))
    apart("out", out, {"x": x, "gamma": gamma, "beta": beta})
    cdef Normal s
    s.table, s.rows, s.n, s.x, s.out, s.gamma, s.beta = table, rows, n, at, to, gamma_at, beta_at
    s.epsilon, s.keep_mean, s.about_zero = epsilon, keep_mean, about_zero
    with nogil:
        _normalize(&s)
    cdef Tape tape = recording()
    if tape is not None:
        (<Normal*> tape.add(_normalize, sizeof(Normal), (x,), (out,), (gamma, beta)))[0] = s
    return out


cdef struct Normal:
    const fbl_kernels* table
    Py_ssize_t rows, n
    const float* x
    const float* gamma
    const float* beta
    float* out
    double epsilon
    bint keep_mean, about_zero


cdef int _normalize(void* record) except -1 nogil:
    cdef const Normal* s = <const Normal*> record
    cdef Py_ssize_t block = max(<Py_ssize_t> 1, SIGNAL_WORK // (ROW_WORK * max(<Py_ssize_t> 1, s.n))), start = 0
    while start < s.rows:
        if start:
            look_for_signals()
        s.table.normalize(
            min(block, s.rows - start), s.n, s.x + start * s.n, s.gamma, s.beta, s.epsilon, s.keep_mean, s.about_zero,
            s.out + start * s.n,
        )
        start += block
    return 0


def fill_masked(outputs, mask, str how, initial, bint reverse, bint flip, Py_ssize_t offset, Py_ssize_t units):
    """Write what masked timesteps emit into `outputs` (B, T, any), columns offset to offset + units.

    `how`: "zero"; "previous", the output of the step before in the order of processing, zero at first; "state", the
    same, `initial` (B, U) or None for zeros at first.
    """
    breaks_tape()
    cdef Py_ssize_t batch, timesteps, stride, b, k, t, place, row_bytes
    batch, timesteps, stride = checked("outputs", outputs, (None, None, None), True).shape
    if not (0 <= units <= stride and 0 <= offset <= stride - units):
        raise ValueError(f"outputs have {stride} columns, the {units} units start at {offset}")
    if how not in ("zero", "previous", "state"):
        raise ValueError(f"how is {how!r}; expected 'zero', 'previous' or 'state'")
    row_bytes = units * sizeof(float)
    cdef float* at = floats(outputs) + offset
    cdef const uint8_t* kept = <const uint8_t*> floats(checked("mask", mask, (batch, timesteps), False, _BOOL))
    cdef float* first = NULL
    cdef float* before
    if how == "state" and initial is not None:
        first = floats(checked("initial", initial, (batch, units)))
    apart("outputs", outputs, {"mask": mask, "initial": initial})
    cdef bint zero = how == "zero"
    with nogil:
        for b in range(batch):
            before = NULL if first == NULL else first + b * units
            for k in range(timesteps):
                t = timesteps - 1 - k if reverse else k
                place = timesteps - 1 - t if flip else t
                if kept[b * timesteps + t]:
                    before = at + (b * timesteps + place) * stride
                elif zero or before == NULL:
                    memset(at + (b * timesteps + place) * stride, 0, row_bytes)
                else:
                    memcpy(at + (b * timesteps + place) * stride, before, row_bytes)


def merge_outputs(outputs, other, merge):
    """outputs (op) other, in place: MERGES of two contiguous float32 arrays of one shape."""
    breaks_tape()
    cdef float* a = floats(checked("outputs", outputs, (None,) * getattr(outputs, "ndim", 1), True))
    cdef const float* b = floats(checked("other", other, outputs.shape))
    cdef Py_ssize_t n = outputs.size, k
    cdef Py_ssize_t op = merge
    if op not in (FBL_ADD, FBL_MUL, FBL_AVERAGE):
        raise ValueError(f"merge is {op}; expected one of {FBL_ADD}, {FBL_MUL}, {FBL_AVERAGE}")
    apart("outputs", outputs, {"other": other})
    with nogil:
        if op == FBL_ADD:
            for k in range(n):
                a[k] += b[k]
        elif op == FBL_MUL:
            for k in range(n):
                a[k] *= b[k]
        else:
            for k in range(n):
                a[k] = (a[k] + b[k]) * <float> 0.5
    return outputs
