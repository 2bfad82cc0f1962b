# Elements by themselves, copies by strides, reductions, rows of a table: included in _kernels.pyx.

cdef extern from "fbl_elementwise.h":
    enum:
        FBL_AXES, FBL_OPERANDS, FBL_SUM, FBL_MEAN, FBL_MAX, FBL_MIN, FBL_ANY, FBL_ALL

    ctypedef void (*fbl_loop)(Py_ssize_t n, const void** x, const Py_ssize_t* step, void* y) noexcept nogil

    ctypedef struct fbl_operation:
        const char* name
        const char* types
        fbl_loop loop

    const fbl_operation fbl_operations[]

    ctypedef struct fbl_each:
        fbl_loop loop
        int axes, operands
        Py_ssize_t size[8]
        Py_ssize_t step[3][8]
        Py_ssize_t width[4]
        const char* x[3]
        char* y

    void fbl_run_each(const fbl_each* e, Py_ssize_t first, Py_ssize_t last) noexcept nogil

    ctypedef struct fbl_copy:
        const fbl_kernels* table
        int axes
        Py_ssize_t size[8]
        Py_ssize_t _from "from" [8]
        Py_ssize_t to[8]
        Py_ssize_t width
        const char* x
        char* y

    void fbl_run_copy(const fbl_copy* c, Py_ssize_t first, Py_ssize_t last) noexcept nogil
    void fbl_reduce_floats(
        int op, Py_ssize_t n, Py_ssize_t inner, const float* x, const uint8_t* keep, float* y
    ) noexcept nogil
    void fbl_reduce_bools(int op, Py_ssize_t n, Py_ssize_t inner, const uint8_t* x, uint8_t* y) noexcept nogil

# Most axes of what is computed here.
MOST_AXES = FBL_AXES
_LETTERS = {_FLOAT32: "f", _INT32: "i", _BOOL: "?", np.dtype(np.int64): "l"}
_DTYPES = {letter: dtype for dtype, letter in _LETTERS.items()}
REDUCTIONS = {"sum": FBL_SUM, "mean": FBL_MEAN, "max": FBL_MAX, "min": FBL_MIN, "any": FBL_ANY, "all": FBL_ALL}


cdef dict _operations():
    """{(name, letters of the dtypes of the operands): (place in fbl_operations, dtype of the result)}."""
    cdef dict found = {}
    cdef Py_ssize_t k = 0
    while fbl_operations[k].name != NULL:
        *operands, result = fbl_operations[k].types.decode()
        found[fbl_operations[k].name.decode(), "".join(operands)] = k, _DTYPES[result]
        k += 1
    return found


OPERATIONS = _operations()


def result_dtype(name, dtypes):
    """The dtype that an operation gives for operands of these; None if there is no kernel for them."""
    found = OPERATIONS.get((name, "".join([_LETTERS.get(dtype, " ") for dtype in dtypes])))
    return None if found is None else found[1]


cdef struct Lines:
    fbl_each each
    fbl_copy copy
    Py_ssize_t lines, block      # how many, and those between two looks for Ctrl-C


cdef int _each_lines(void* record) except -1 nogil:
    cdef const Lines* s = <const Lines*> record
    cdef Py_ssize_t first = 0
    while first < s.lines:
        if first:
            look_for_signals()
        fbl_run_each(&s.each, first, min(s.lines, first + s.block))
        first += s.block
    return 0


cdef int _copy_lines(void* record) except -1 nogil:
    cdef const Lines* s = <const Lines*> record
    cdef Py_ssize_t first = 0
    while first < s.lines:
        if first:
            look_for_signals()
        fbl_run_copy(&s.copy, first, min(s.lines, first + s.block))
        first += s.block
    return 0


cdef list merged_axes(shape, list steps):
    """[(size, steps of each array)] of the axes of a shape; what can be walked as one axis is one."""
    cdef list found = [], before = None
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        walk = [step[axis] for step in steps]
        if before is not None and all([a == size * b for a, b in zip(before[1], walk)]):
            before[:] = [before[0] * size, walk]
        else:
            before = [size, walk]
            found.append(before)
    found = found or [[1, [0] * len(steps)]]
    if len(found) > FBL_AXES:
        raise ValueError(f"arrays of shape {tuple(shape)} cannot be walked by {FBL_AXES} axes")
    return found


def elementwise(str name not None, tuple operands not None, out, tuple constants=()):
    """out = name(*operands), element by element; the operands are broadcast to the shape of `out`.

    `constants`: which operands, by number, are weights: no operation of a tape writes them.
    """
    cdef Lines s
    cdef Py_ssize_t k, axis
    cdef tuple key = (name, "".join([_LETTERS.get(getattr(x, "dtype", None), " ") for x in operands]))
    if key not in OPERATIONS:
        raise ValueError(f"no operation {name!r} of {', '.join(map(described, operands))}")
    place, dtype = OPERATIONS[key]
    s.each.loop, s.each.operands = fbl_operations[<Py_ssize_t> place].loop, len(operands)
    s.each.y = <char*> floats(checked("out", out, (None,) * getattr(out, "ndim", 1), True, dtype))
    s.each.width[FBL_OPERANDS] = dtype.itemsize
    cdef list steps = []
    cdef tuple shape = out.shape
    for k, x in enumerate(operands):
        checked(f"operand {k}", x, (None,) * x.ndim, False, x.dtype)
        if x.ndim > len(shape) or any([a not in (1, b) for a, b in zip(x.shape[::-1], shape[::-1])]):
            raise ValueError(f"operand {k} has shape {x.shape}, out has {shape}")
        apart("out", out, {f"operand {k}": x})
        s.each.x[k], s.each.width[k] = <char*> floats(x), x.itemsize
        step, walk = [], 1
        for size in x.shape[::-1]:
            step.insert(0, 0 if size == 1 else walk)
            walk *= size
        steps.append([0] * (len(shape) - x.ndim) + step)
    if out.size == 0:
        return out
    axes = merged_axes(shape, steps)
    s.each.axes = len(axes)
    for axis, (size, walk) in enumerate(axes):
        s.each.size[axis] = size
        for k in range(s.each.operands):
            s.each.step[k][axis] = walk[k]
    s.lines = out.size // s.each.size[s.each.axes - 1]
    s.block = max(<Py_ssize_t> 1, SIGNAL_WORK // (ROW_WORK * s.each.size[s.each.axes - 1]))
    with nogil:
        _each_lines(&s)
    cdef Tape tape = recording()
    if tape is not None:
        reads = tuple([x for k, x in enumerate(operands) if k not in constants])
        weights = [x for k, x in enumerate(operands) if k in constants]
        (<Lines*> tape.add(_each_lines, sizeof(Lines), reads, (out,), weights))[0] = s
    return out


cdef char* first_element(view) except? NULL:
    """Address of the first element of an array of any strides; the caller keeps the array alive."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(view, &buffer, PyBUF_STRIDES)
    cdef char* address = <char*> buffer.buf
    PyBuffer_Release(&buffer)
    return address


cdef bint lies_in(view, array) except -1:
    """Whether a view of any strides lies in a contiguous array."""
    cdef Py_ssize_t low = 0, high = view.itemsize
    for size, step in zip(view.shape, view.strides):
        low += min(0, (size - 1) * step)
        high += max(0, (size - 1) * step)
    start = <size_t> floats(array)
    address = <size_t> first_element(view)
    return start <= address + low and address + high <= start + array.nbytes


def copy(x, out, view=None, to=None):
    """to[...] = view[...]: views of one shape, of any strides, of the contiguous arrays x and out (default: themselves).

    The dtype is any one of 1, 4 or 8 bytes. Elements of `to` must not overlap each other.
    """
    cdef Lines s
    cdef Py_ssize_t axis, last
    view, to = x if view is None else view, out if to is None else to
    checked("x", x, (None,) * getattr(x, "ndim", 1), False, getattr(x, "dtype", _FLOAT32))
    checked("out", out, (None,) * getattr(out, "ndim", 1), True, x.dtype)
    apart("out", out, {"x": x})
    if view.shape != to.shape or view.dtype != x.dtype or to.dtype != x.dtype or x.itemsize not in (1, 4, 8):
        raise ValueError(f"view of {view.dtype} {view.shape}, to of {to.dtype} {to.shape}, x of {x.dtype}")
    if view.size == 0:
        return out
    if not lies_in(view, x) or not lies_in(to, out):
        raise ValueError("views of memory beyond their arrays")
    # The axes in the order of the steps in `to`: what is written follows in memory.
    order = sorted(range(to.ndim), key=lambda axis: -abs(to.strides[axis]))
    view, to = view.transpose(order), to.transpose(order)
    axes = merged_axes(view.shape, [view.strides, to.strides])
    width = view.itemsize
    s.copy.table = NULL
    inner = axes.pop()
    if width == 4 and inner[1][1] == 4 and inner[1][0] > 4:
        turned = [part for part in axes if part[1][0] == 4 and part[1][1] > 0]
        if turned and not any([step % 4 for part in (inner, *turned) for step in part[1]]):
            axes.remove(turned[0])
            axes.append(turned[0])
            s.copy.table = table_in_use()
    axes.append(inner)
    s.copy.axes, s.copy.width = len(axes), width
    for axis, (size, walk) in enumerate(axes):
        s.copy.size[axis], s.copy._from[axis], s.copy.to[axis] = size, walk[0], walk[1]
    s.copy.x = first_element(view)
    s.copy.y = first_element(to)
    last = s.copy.size[s.copy.axes - 1] * (1 if s.copy.table == NULL else s.copy.size[s.copy.axes - 2])
    s.lines, s.block = view.size // last, max(<Py_ssize_t> 1, SIGNAL_WORK // (ROW_WORK * last))
    with nogil:
        _copy_lines(&s)
    cdef Tape tape = recording()
    if tape is not None:
        (<Lines*> tape.add(_copy_lines, sizeof(Lines), (x,), (out,), None))[0] = s
    return out


cdef struct Bytes:
    char* at
    Py_ssize_t size
    int byte


cdef int _set_bytes(void* record) except -1 nogil:
    cdef const Bytes* f = <const Bytes*> record
    memset(f.at, f.byte, f.size)
    return 0


def fill(out, Py_ssize_t byte):
    """Give all bytes of a contiguous array one value."""
    cdef Bytes f
    f.at = <char*> floats(checked("out", out, (None,) * getattr(out, "ndim", 1), True, getattr(out, "dtype", _FLOAT32)))
    f.size, f.byte = out.nbytes, byte & 255
    _set_bytes(&f)
    cdef Tape tape = recording()
    if tape is not None and out.size:
        (<Bytes*> tape.add(_set_bytes, sizeof(Bytes), (), (out,), None))[0] = f
    return out


cdef struct Reduction:
    int code
    bint bools
    Py_ssize_t outer, n, inner
    const char* x
    const uint8_t* keep
    char* y


cdef int _reduce(void* record) except -1 nogil:
    cdef const Reduction* s = <const Reduction*> record
    cdef Py_ssize_t k, work = 0, size = s.n * s.inner
    cdef const uint8_t* keep = s.keep
    for k in range(s.outer):
        work += size * ROW_WORK
        if work >= SIGNAL_WORK:
            look_for_signals()
            work = 0
        if s.bools:
            fbl_reduce_bools(s.code, s.n, s.inner, <const uint8_t*> s.x + k * size, <uint8_t*> s.y + k * s.inner)
        else:
            fbl_reduce_floats(
                s.code, s.n, s.inner, <const float*> <const void*> s.x + k * size,
                keep, <float*> <void*> s.y + k * s.inner,
            )
            keep = keep if keep == NULL else keep + s.n
    return 0


def reduce(str name not None, x, Py_ssize_t first, Py_ssize_t last, out, keep=None):
    """Sum, mean, max or min (floats), any or all (bool) of x over its axes first to last - 1, into out.

    `keep` (sizes of the axes before last) bool: what counts; not for bool. Sums are made in float64 and rounded once.
    """
    cdef Reduction s
    cdef bint bools = name in ("any", "all")
    dtype = _BOOL if bools else _FLOAT32
    checked("x", x, (None,) * max(1, getattr(x, "ndim", 1)), False, dtype)
    if name not in REDUCTIONS or not 0 <= first < last <= x.ndim:
        raise ValueError(f"{name!r} over axes {first} to {last - 1} of {x.ndim}")
    checked("out", out, (None,) * getattr(out, "ndim", 1), True, dtype)
    apart("out", out, {"x": x, "keep": keep})
    s.outer, s.n, s.inner = (elements(x.shape[a:b]) for a, b in ((0, first), (first, last), (last, x.ndim)))
    if out.size != s.outer * s.inner or (bools and keep is not None):
        raise ValueError(f"out has shape {out.shape}, x {x.shape}, over axes {first} to {last - 1}")
    s.keep = NULL
    if keep is not None:
        s.keep = <const uint8_t*> floats(checked("keep", keep, x.shape[:last], False, _BOOL))
    if out.size == 0:
        return out
    s.code, s.bools, s.x, s.y = REDUCTIONS[name], bools, <char*> floats(x), <char*> floats(out)
    with nogil:
        _reduce(&s)
    cdef Tape tape = recording()
    if tape is not None:
        reads = (x,) if keep is None else (x, keep)
        (<Reduction*> tape.add(_reduce, sizeof(Reduction), reads, (out,), None))[0] = s
    return out


# ---- rows of a table ------------------------------------------------------------------------------------------------


cdef struct Gather:
    const void* ids
    const float* rows
    float* out
    Py_ssize_t count, size, width
    char kind


cdef enum:
    # Rows come from far: those of so many ids later are asked for, as many floats of each.
    ROWS_AHEAD = 8
    MOST_AHEAD = 256


cdef inline Py_ssize_t _gathered_row(const Gather* s, Py_ssize_t k) noexcept nogil:
    """The row that id k asks for; -1 if it is not there."""
    cdef Py_ssize_t row = -1
    cdef float number
    if s.kind == c"i":
        row = (<const int32_t*> s.ids)[k]
    elif s.kind == c"l":
        row = (<const int64_t*> s.ids)[k]
    else:
        number = (<const float*> s.ids)[k]
        if number > -1 and number < <float> s.size:
            row = <Py_ssize_t> number
    return row if 0 <= row < s.size else -1


cdef int _gather_rows(void* record) except -1 nogil:
    """Copy the rows; a row that is not there raises ValueError, for float ids as for the whole number below them."""
    cdef const Gather* s = <const Gather*> record
    cdef Py_ssize_t k, row
    for k in range(s.count):
        row = _gathered_row(s, min(k + ROWS_AHEAD, s.count - 1))
        if row >= 0:
            fbl_prefetch(s.rows + row * s.width, min(s.width, MOST_AHEAD))
        row = _gathered_row(s, k)
        if row < 0:
            raise_out_of_range(k)
        memcpy(s.out + k * s.width, s.rows + row * s.width, s.width * sizeof(float))
    return 0


cdef int raise_out_of_range(Py_ssize_t k) except -1 with gil:
    raise ValueError(f"row {k} asks for a row that is not in the table")


def gather(rows, ids, out):
    """out[...] = rows[ids[...]]: rows (V, D) float32, ids (...) int32, int64 or float32 -> out (..., D).

    ValueError if an id is not in 0..V-1; out holds anything then.
    """
    cdef Gather s
    checked("rows", rows, (None, None))
    kind = _LETTERS.get(getattr(ids, "dtype", None), " ")
    if kind not in "ilf":
        raise ValueError(f"ids must be whole numbers or floats, got {described(ids)}")
    s.ids = floats(checked("ids", ids, (None,) * ids.ndim, False, ids.dtype))
    s.size, s.width = rows.shape
    s.rows, s.out = floats(rows), floats(checked("out", out, ids.shape + (s.width,), True))
    apart("out", out, {"rows": rows, "ids": ids})
    s.count, s.kind = ids.size, <char> ord(kind)
    with nogil:
        _gather_rows(&s)
    cdef Tape tape = recording()
    if tape is not None and out.size:
        (<Gather*> tape.add(_gather_rows, sizeof(Gather), (ids,), (out,), rows))[0] = s
    return out


# ---- products of each row -------------------------------------------------------------------------------------------


cdef struct RowProducts:
    const fbl_kernels* table
    Py_ssize_t batch, rows, depth, columns, step
    const float* a
    const float* b
    float* out
    float* packed
    bint transposed


cdef int _row_products(void* record) except -1 nogil:
    cdef const RowProducts* p = <const RowProducts*> record
    cdef Py_ssize_t k, start, work = 0, n
    cdef const float* a
    for k in range(p.batch):
        if k == 0 or p.step:
            if p.transposed:
                _pack_transposed(p.table, p.b + k * p.step, p.columns, p.depth, p.packed)
            else:
                _pack_rows(p.b + k * p.step, p.depth, p.columns, p.table.lanes, p.packed)
        for start in range(0, p.rows, 96):
            n = min(96, p.rows - start)
            work += n * (p.depth + ROW_WORK) * p.columns
            if work >= SIGNAL_WORK:
                look_for_signals()
                work = 0
            a = p.a + (k * p.rows + start) * p.depth
            p.table.gemm(
                n, p.depth, p.columns, a, p.depth, NULL, p.packed, NULL,
                p.out + (k * p.rows + start) * p.columns, p.columns,
            )
    return 0


def batch_product(a, b, out, bint transposed, Scratch scratch not None):
    """out[k] = a[k].b[k]: a (B, M, K), b (B or 1, K, N), or (B or 1, N, K) if transposed, out (B, M, N)."""
    cdef RowProducts p
    p.table = table_in_use()
    p.batch, p.rows, p.depth = checked("a", a, (None, None, None)).shape
    p.columns = checked("b", b, (None, None, None)).shape[1 if transposed else 2]
    checked("b", b, (None, p.columns, p.depth) if transposed else (None, p.depth, p.columns))
    checked("out", out, (p.batch, p.rows, p.columns), True)
    apart("out", out, {"a": a, "b": b})
    if len(b) not in (1, p.batch):
        raise ValueError(f"{len(b)} matrices b for {p.batch} matrices a")
    if out.size == 0:
        return out
    p.a, p.b, p.out, p.transposed = floats(a), floats(b), floats(out), transposed
    p.step = p.depth * p.columns if len(b) > 1 else 0
    cdef list held = []
    p.packed = scratch.place(held, (p.depth, rounded_up(p.columns, p.table.lanes)))
    with nogil:
        _row_products(&p)
    cdef Tape tape = recording()
    if tape is not None:
        (<RowProducts*> tape.add(_row_products, sizeof(RowProducts), (a, b), (out,), scratch))[0] = p
    return out
