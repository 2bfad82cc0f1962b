# Convolutions and poolings, included in _kernels.pyx: blocks of lines, which threads take.

cdef struct Slide:
    fbl_convolution c                    # of a pooling alone: its table and `at`, which are those of c.pool, too
    const float* x
    float* out
    Py_ssize_t batch, row_size, out_size, lines, line_size, blocks, threads, scratch_size, rows_of_table
    float* scratch                       # (threads, scratch_size)
    bint pools_alone


cdef int _slide(void* argument, Py_ssize_t block, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    """A block of lines of a row."""
    cdef const Slide* s = <const Slide*> argument
    cdef Py_ssize_t first = block % s.blocks * s.c.lines, last = min(first + s.c.lines, s.lines)
    cdef const float* x = s.x + block // s.blocks * s.row_size
    cdef float* y = s.out + block // s.blocks * s.out_size + first * s.line_size
    if s.pools_alone:
        fbl_pool_windows(s.c.table, &s.c.at, x, first, last - first, s.c.mean, y)
    else:
        fbl_convolve_lines(&s.c, x, first, last, y, s.scratch + thread * s.scratch_size)
    return 0


cdef void _place(fbl_windows* at, tuple shape, tuple windows) except *:
    """Fill the axes of windows over x of shape (B, *spatial, C): (count, taps, stride, dilation, before) for each spatial axis."""
    cdef Py_ssize_t axis, k
    spatial = shape[1:len(shape) - 1]
    if not 1 <= len(spatial) == len(windows) <= 3:
        raise ValueError(f"windows over {len(windows)} axes, x has shape {shape}")
    for axis in range(3):
        at.size[axis] = at.count[axis] = at.taps[axis] = at.stride[axis] = at.dilation[axis] = 1
        at.before[axis] = 0
    for k, (size, (count, taps, stride, dilation, before)) in enumerate(zip(spatial, windows)):
        axis = 3 - len(spatial) + k
        if min(count, taps, stride, dilation) < 1 or before < 0 or max(taps, stride, dilation, before) > INT32_MAX:
            raise ValueError(f"windows {windows}: sizes of at least 1, and margins of at least 0")
        at.size[axis], at.count[axis], at.taps[axis] = size, count, taps
        at.stride[axis], at.dilation[axis], at.before[axis] = stride, dilation, before
    at.channels = at.used_channels = shape[len(shape) - 1]


cdef _run_slide(Slide* s, x, out, Py_ssize_t n_threads, kept):
    """Run over all rows; s.lines lines of s.line_size floats in an output row."""
    s.batch, s.row_size, s.out_size = len(x), x.size // len(x), s.lines * s.line_size
    s.blocks, s.threads = (s.lines + s.c.lines - 1) // s.c.lines, n_threads
    with nogil:
        run_parts(_slide, s, s.batch * s.blocks, n_threads)
    cdef Tape tape = recording()
    if tape is not None:
        (<Slide*> tape.add(_slide_again, sizeof(Slide), (x,), (out,), kept))[0] = s[0]
    return out


cdef int _slide_again(void* record) except -1 nogil:
    cdef const Slide* s = <const Slide*> record
    if s.c.rows != NULL and not are_below(<const int32_t*> s.x, s.batch * s.row_size, s.rows_of_table):
        with gil:
            raise ValueError("a token id is out of range")
    return run_parts(_slide, record, s.batch * s.blocks, s.threads)


def convolve(
    x, list kernels not None, out, windows, Scratch scratch not None, Activation activation=None,
    Py_ssize_t n_threads=1, pooling=None, bint mean=False, tokens=None,
    list winograd=None, bint whole=False,
):
    """out = activation(windows of x . kernel + bias): Conv of one to three axes, channels last, perhaps pooled.

    Parameters
    ----------
    x : ndarray (B, *spatial, C) float32
        With `tokens`: token ids (B, T) int32.
    kernels : list of Matrix
        One for each group of C / groups channels, (taps * C / groups, F / groups).
    out : ndarray (B, *counts, F)
        The counts are those of `pooling` where it is given.
    windows : tuple of (count, taps, stride, dilation, before)
        For each spatial axis: how many windows, taps of one, steps between windows and between taps, and how many
        positions before x the first one begins.
    pooling : tuple of (count, taps, stride, dilation, before), optional
        Windows over what the convolution gives, beside each other (`before` is 0, stride is taps) and not empty; `mean`
        or the largest number of each one.
    whole : bool
        The pooling is one window over all timesteps: the largest number, NaN if one is NaN.
    tokens : (rows, bias), optional
        rows (V, taps * F): what each token adds to the window of each tap; or embeddings (V, E), and `kernels` is one
        Matrix (E, taps * F) without bias, whose products are such rows: the bits are the same. bias (F,) or None.
    winograd : list of 16 Matrix (C, F), optional
        The kernel as `winograd_kernels` makes it, for 3 x 3 taps, strides and dilation 1 and one group. Fewer products; other
        bits.
    """
    cdef Slide s
    cdef Matrix kernel
    cdef Py_ssize_t g
    memset(&s, 0, sizeof(Slide))
    windows = tuple(windows)
    places = np.zeros((2, max(1, len(kernels))), np.intp)
    codes = np.zeros((max(1, len(kernels)), sizeof(fbl_codes) // sizeof(Py_ssize_t)), np.intp)
    tiles = np.zeros(16, np.intp)
    s.c.packed = <const float* const*> <void*> floats(places)
    s.c.bias = s.c.packed + max(1, len(kernels))
    s.c.codes = <const fbl_codes*> <void*> floats(codes)
    for g in range(len(kernels)):
        kernel = <Matrix?> kernels[g]
        s.c.table, s.c.filters, s.c.depth, s.c.narrow = kernel.table, kernel.columns, kernel.depth, kernel.narrow
        places[0, g], places[1, g] = <size_t> kernel.packed_at, <size_t> kernel.bias_at
        (<fbl_codes*> s.c.codes)[g] = kernel.codes
        if not kernel.is_like(<Matrix> kernels[0]):
            raise ValueError(f"kernel {g} is ({kernel.depth}, {kernel.columns}); expected size and form of the others")
    if tokens is None:
        checked("x", x, (None,) * max(3, getattr(x, "ndim", 3)))
        _place(&s.c.at, x.shape, windows)
        s.c.groups = len(kernels)
        if s.c.groups < 1 or s.c.at.channels % s.c.groups:
            raise ValueError(f"{s.c.groups} groups of {s.c.at.channels} channels")
        s.c.at.used_channels = s.c.at.channels // s.c.groups
        if s.c.depth != elements(s.c.at.taps) * s.c.at.used_channels:
            raise ValueError(f"kernels have depth {s.c.depth}, not that of windows {windows} of x {x.shape}")
    else:
        if s.c.narrow != NULL:
            raise ValueError("tokens: a kernel in int8, where only float32 can be used")
        _read_tokens(&s, x, windows, tokens, len(kernels), places)
    if winograd is not None:
        if s.c.narrow != NULL or tokens is not None or len(kernels) != 1 or len(winograd) != 16 or len(windows) != 2 or any([window[1:4] != (3, 1, 1) for window in windows]):
            raise ValueError(f"winograd: {len(winograd)} kernels for windows {windows}, {len(kernels)} groups")
        for g in range(16):
            kernel = <Matrix?> winograd[g]
            if kernel.depth != s.c.at.channels or kernel.columns != s.c.filters or kernel.table != s.c.table:
                raise ValueError(f"winograd kernel {g} is ({kernel.depth}, {kernel.columns}); expected ({s.c.at.channels}, {s.c.filters})")
            tiles[g] = <size_t> kernel.floats_at()
        s.c.winograd = <const float* const*> <void*> floats(tiles)
    if activation is not None:
        s.c.code, s.c.parameters = activation.code, activation.parameters
        s.c.by_row = s.c.code in (FBL_SOFTMAX, FBL_LOG_SOFTMAX, FBL_SPARSEMAX)
    else:
        s.c.code = FBL_LINEAR
    counts = tuple(window[0] for window in windows)
    if pooling is not None:
        pooling = tuple(pooling)
        _place(&s.c.pool, (len(x), *counts, s.c.groups * s.c.filters), pooling)
        for count, (places_of, taps, stride, dilation, before) in zip(counts, pooling):
            if before or stride != taps or dilation != 1 or (places_of - 1) * taps >= count:
                raise ValueError(f"pooling {pooling}: the windows must lie beside each other and none may be empty")
        if whole and (mean or len(counts) != 1 or pooling[0][0] != 1):
            raise ValueError(f"pooling {pooling}, mean={mean}: the whole is the largest number over one axis")
        s.c.pooled, s.c.mean, s.c.whole = True, mean, whole
        counts = tuple(window[0] for window in pooling)
    s.out = floats(checked("out", out, (x.shape[0], *counts, s.c.groups * s.c.filters), True))
    s.x = floats(x)
    apart("out", out, {"x": x})
    if out.size == 0:
        return out
    fbl_plan_convolution(&s.c)
    s.lines = (&s.c.pool if s.c.pooled else &s.c.at).count[s.c.axis]
    s.line_size = out.size // len(out) // s.lines
    n_threads = max(1, n_threads)
    s.scratch_size = rounded_up(fbl_convolution_scratch(&s.c), 16)
    cdef list held = []
    s.scratch = scratch.place(held, (n_threads, s.scratch_size))
    return _run_slide(&s, x, out, n_threads, (kernels, places, codes, scratch, activation, tokens, winograd, tiles))


cdef _read_tokens(Slide* s, ids, tuple windows, tuple tokens, Py_ssize_t n_kernels, places):
    """Check token ids and what they are looked up in, and fill in both."""
    rows, bias = tokens
    checked("ids", ids, (None, None), False, _INT32)
    checked("rows", rows, (None, None))
    _place(&s.c.at, (*ids.shape, 1), windows)
    s.c.groups, s.c.rows, s.rows_of_table = 1, floats(rows), len(rows)
    if n_kernels > 1 or n_kernels == 1 and (s.c.depth != rows.shape[1] or places[1, 0]):
        raise ValueError(f"tokens: {n_kernels} kernels of depth {s.c.depth} for rows {rows.shape}; expected one, without bias")
    s.c.embedded = s.c.depth if n_kernels else 0
    columns = s.c.filters if n_kernels else rows.shape[1]
    s.c.filters, s.c.table = columns // s.c.at.taps[2], s.c.table if n_kernels else table_in_use()
    if s.c.filters * s.c.at.taps[2] != columns or s.c.filters < 1:
        raise ValueError(f"tokens: {columns} columns for {s.c.at.taps[2]} taps")
    s.c.depth = s.c.at.taps[2] * (1 + s.c.embedded)
    if bias is not None:
        places[1, 0] = <size_t> floats(checked("bias", bias, (s.c.filters,)))
    if not are_below(<const int32_t*> floats(ids), ids.size, s.rows_of_table):
        raise ValueError(f"a token id is not in 0 to {s.rows_of_table - 1}")


def pool(x, out, windows, bint mean, Py_ssize_t n_threads=1):
    """The mean or the largest number of each window of x (B, *spatial, C), into out (B, *counts, C); see `convolve`."""
    cdef Slide s
    memset(&s, 0, sizeof(Slide))
    s.c.table = table_in_use()
    windows = tuple(windows)
    checked("x", x, (None,) * max(3, getattr(x, "ndim", 3)))
    _place(&s.c.at, x.shape, windows)
    s.pools_alone, s.c.mean = True, mean
    counts = tuple(window[0] for window in windows)
    s.out = floats(checked("out", out, (x.shape[0], *counts, s.c.at.channels), True))
    s.x = floats(x)
    apart("out", out, {"x": x})
    if out.size == 0:
        return out
    # Here each window is a line.
    s.lines, s.line_size, s.c.lines = elements(counts), s.c.at.channels, 96
    return _run_slide(&s, x, out, n_threads, None)
