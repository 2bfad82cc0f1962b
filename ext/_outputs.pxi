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


cdef struct Fill:
    float* outputs               # of the first column
    const uint8_t* mask
    const float* initial
    Py_ssize_t batch, timesteps, stride, units
    bint zero, reverse, flip


def fill_masked(outputs, mask, str how, initial, bint reverse, bint flip, Py_ssize_t offset, Py_ssize_t units):
    """Write what masked timesteps emit into `outputs` (B, T, any), columns offset to offset + units.

    `how`: "zero"; "previous", the output of the step before in the order of processing, zero at first; "state", the
    same, `initial` (B, U) or None for zeros at first.
    """
    cdef Fill f
    batch, timesteps, stride = checked("outputs", outputs, (None, None, None), True).shape
    if not (0 <= units <= stride and 0 <= offset <= stride - units):
        raise ValueError(f"outputs have {stride} columns, the {units} units start at {offset}")
    if how not in ("zero", "previous", "state"):
        raise ValueError(f"how is {how!r}; expected 'zero', 'previous' or 'state'")
    f.outputs = floats(outputs) + offset
    f.mask = <const uint8_t*> floats(checked("mask", mask, (batch, timesteps), False, _BOOL))
    f.initial = NULL
    if how != "state":
        initial = None
    if initial is not None:
        f.initial = floats(checked("initial", initial, (batch, units)))
    apart("outputs", outputs, {"mask": mask, "initial": initial})
    f.batch, f.timesteps, f.stride, f.units = batch, timesteps, stride, units
    f.zero, f.reverse, f.flip = how == "zero", reverse, flip
    with nogil:
        _fill_masked(&f)
    cdef Tape tape = recording()
    if tape is not None:
        reads = (outputs, mask) if initial is None else (outputs, mask, initial)
        (<Fill*> tape.add(_fill_masked, sizeof(Fill), reads, (), None))[0] = f


cdef int _fill_masked(void* record) except -1 nogil:
    cdef const Fill* f = <const Fill*> record
    cdef Py_ssize_t b, k, t, place, row_bytes = f.units * sizeof(float)
    cdef const float* before
    for b in range(f.batch):
        before = NULL
        if f.initial != NULL:
            before = f.initial + b * f.units
        for k in range(f.timesteps):
            t = f.timesteps - 1 - k if f.reverse else k
            place = f.timesteps - 1 - t if f.flip else t
            if f.mask[b * f.timesteps + t]:
                before = f.outputs + (b * f.timesteps + place) * f.stride
            elif f.zero or before == NULL:
                memset(f.outputs + (b * f.timesteps + place) * f.stride, 0, row_bytes)
            else:
                memcpy(f.outputs + (b * f.timesteps + place) * f.stride, before, row_bytes)
    return 0


cdef struct Last:
    const float* h
    float* out
    const uint8_t* mask
    Py_ssize_t batch, timesteps, units
    bint zero, reverse


def last_output(h, mask, bint zero, bint reverse):
    """h (B, U), with zeros in the rows of which `mask` (B, T) keeps nothing, a new array.

    With `zero`, zeros in the rows whose timestep that was processed last is masked.
    """
    cdef Last f
    batch, timesteps = checked("mask", mask, (None, None), False, _BOOL).shape
    f.mask = <const uint8_t*> floats(mask)
    f.h = floats(checked("h", h, (batch, None)))
    out = np.empty_like(h)
    f.out = floats(out)
    f.batch, f.timesteps, f.units, f.zero, f.reverse = batch, timesteps, h.shape[1], zero, reverse
    with nogil:
        _last_output(&f)
    cdef Tape tape = recording()
    if tape is not None:
        (<Last*> tape.add(_last_output, sizeof(Last), (h, mask), (out,), None))[0] = f
    return out


cdef int _last_output(void* record) except -1 nogil:
    cdef const Last* f = <const Last*> record
    cdef Py_ssize_t b, t
    cdef bint keeps
    for b in range(f.batch):
        keeps = False
        if f.zero:
            keeps = f.timesteps and f.mask[b * f.timesteps + (0 if f.reverse else f.timesteps - 1)]
        else:
            for t in range(f.timesteps):
                keeps |= f.mask[b * f.timesteps + t]
        if keeps:
            memcpy(f.out + b * f.units, f.h + b * f.units, f.units * sizeof(float))
        else:
            memset(f.out + b * f.units, 0, f.units * sizeof(float))
    return 0


cdef struct Ids:
    const int32_t* ids
    uint8_t* mask
    Py_ssize_t n


def mask_of(ids):
    """ids != 0, a bool array."""
    cdef Ids f
    cdef Tape tape = recording()
    if type(ids) is not np.ndarray or ids.dtype != np.int32 or not ids.flags.c_contiguous or not ids.size:
        return ids != 0
    mask = np.empty(ids.shape, np.bool_)
    f.ids, f.mask, f.n = <const int32_t*> floats(ids), <uint8_t*> floats(mask), ids.size
    with nogil:
        _mask_of(&f)
    if tape is not None:
        (<Ids*> tape.add(_mask_of, sizeof(Ids), (ids,), (mask,), None))[0] = f
    return mask


cdef int _mask_of(void* record) except -1 nogil:
    cdef const Ids* f = <const Ids*> record
    cdef Py_ssize_t k
    for k in range(f.n):
        f.mask[k] = f.ids[k] != 0
    return 0


cdef struct Merge:
    float* a
    const float* b
    Py_ssize_t n
    int op


def merge_outputs(outputs, other, merge):
    """outputs (op) other, in place: MERGES of two contiguous float32 arrays of one shape."""
    cdef Merge m
    m.a = floats(checked("outputs", outputs, (None,) * getattr(outputs, "ndim", 1), True))
    m.b = floats(checked("other", other, outputs.shape))
    m.n, m.op = outputs.size, <Py_ssize_t> merge
    if m.op not in (FBL_ADD, FBL_MUL, FBL_AVERAGE):
        raise ValueError(f"merge is {m.op}; expected one of {FBL_ADD}, {FBL_MUL}, {FBL_AVERAGE}")
    apart("outputs", outputs, {"other": other})
    with nogil:
        _merge_outputs(&m)
    cdef Tape tape = recording()
    if tape is not None:
        (<Merge*> tape.add(_merge_outputs, sizeof(Merge), (outputs, other), (), None))[0] = m
    return outputs


cdef int _merge_outputs(void* record) except -1 nogil:
    cdef const Merge* m = <const Merge*> record
    cdef Py_ssize_t k
    if m.op == FBL_ADD:
        for k in range(m.n):
            m.a[k] += m.b[k]
    elif m.op == FBL_MUL:
        for k in range(m.n):
            m.a[k] *= m.b[k]
    else:
        for k in range(m.n):
            m.a[k] = (m.a[k] + m.b[k]) * <float> 0.5
    return 0
