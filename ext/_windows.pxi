# Convolutions and poolings, included in _kernels.pyx: blocks of windows, dealt out to threads.

cdef enum:
    # Windows of a block: their panel stays in the L2 cache.
    WINDOWS = 96


cdef struct Slide:
    const fbl_kernels* table
    fbl_windows at
    const float* x
    float* out
    Py_ssize_t batch, row_size, windows, blocks, threads
    Py_ssize_t groups, filters, depth    # of a convolution; filters and depth of a group
    const float** packed
    const float** bias
    float* panels                        # (threads, WINDOWS, depth)
    int code
    bint by_row, pools, mean
    const float* parameters


cdef bint reads_in_place(const fbl_windows* at, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Whether windows first to last of a sequence lie inside it and see timesteps that follow each other."""
    return (
        at.size[0] == at.size[1] == at.taps[0] == at.taps[1] == at.dilation[2] == 1 and at.used_channels == at.channels
        and first * at.stride[2] >= at.before[2]
        and last * at.stride[2] - at.before[2] + at.taps[2] <= at.size[2]
    )


cdef int _slide(void* argument, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    """Every so manieth block of windows of all rows."""
    cdef const Slide* s = <const Slide*> argument
    cdef fbl_windows at = s.at
    cdef float* panel = s.panels + thread * WINDOWS * s.depth if s.panels != NULL else NULL
    cdef Py_ssize_t columns = s.groups * s.filters, block = thread, work = 0, first, n, g, r
    cdef const float* x
    cdef float* y
    while block < s.batch * s.blocks:
        first = block % s.blocks * WINDOWS
        n = min(WINDOWS, s.windows - first)
        x = s.x + block // s.blocks * s.row_size
        y = s.out + (block // s.blocks * s.windows + first) * columns
        block += s.threads
        work += n * (s.depth + ROW_WORK) * columns
        if work >= SIGNAL_WORK:
            if is_stopped(stop):
                return 0
            work = 0
        if s.pools:
            fbl_pool_windows(s.table, &at, x, first, n, s.mean, y)
            continue
        for g in range(s.groups):
            at.first_channel = g * at.used_channels
            if reads_in_place(&at, first, first + n - 1):
                s.table.gemm(
                    n, s.depth, s.filters, x + (first * at.stride[2] - at.before[2]) * at.channels,
                    at.stride[2] * at.channels, NULL, s.packed[g], s.bias[g], y, columns,
                )
            else:
                fbl_gather_windows(&at, x, first, n, panel)
                s.table.gemm(
                    n, s.depth, s.filters, panel, s.depth, NULL, s.packed[g], s.bias[g], y + g * s.filters, columns
                )
        if s.code == FBL_LINEAR:
            continue
        if not s.by_row:
            s.table.activate(y, n * columns, s.code, s.parameters)
        else:
            for r in range(n):
                s.table.activate(y + r * columns, columns, s.code, s.parameters)
    return 0


cdef void _place(fbl_windows* at, x, tuple windows) except *:
    """Fill the axes of windows over x (B, *spatial, C): (count, taps, stride, dilation, before) for each spatial axis."""
    cdef Py_ssize_t axis, k
    spatial = x.shape[1:x.ndim - 1]
    if not 1 <= len(spatial) == len(windows) <= 3:
        raise ValueError(f"windows over {len(windows)} axes, x has shape {x.shape}")
    for axis in range(3):
        at.size[axis] = at.count[axis] = at.taps[axis] = at.stride[axis] = at.dilation[axis] = 1
        at.before[axis] = 0
    for k, (size, (count, taps, stride, dilation, before)) in enumerate(zip(spatial, windows)):
        axis = 3 - len(spatial) + k
        if min(count, taps, stride, dilation) < 1 or before < 0 or max(taps, stride, dilation, before) > INT32_MAX:
            raise ValueError(f"windows {windows}: sizes of at least 1, and margins of at least 0")
        at.size[axis], at.count[axis], at.taps[axis] = size, count, taps
        at.stride[axis], at.dilation[axis], at.before[axis] = stride, dilation, before
    at.channels = at.used_channels = x.shape[x.ndim - 1]
    at.first_channel = 0


cdef _run_slide(Slide* s, x, out, tuple windows, Py_ssize_t columns, Py_ssize_t n_threads, kept):
    counts = tuple(window[0] for window in windows)
    s.x = floats(checked("x", x, (None,) * x.ndim))
    s.out = floats(checked("out", out, (x.shape[0], *counts, columns), True))
    apart("out", out, {"x": x})
    if out.size == 0:
        return out
    s.batch, s.row_size, s.windows = len(x), x.size // len(x), elements(counts)
    s.blocks = (s.windows + WINDOWS - 1) // WINDOWS
    s.threads = max(1, min(n_threads, s.batch * s.blocks))
    run_parts(_slide, s, s.threads, s.threads)
    cdef Tape tape = recording()
    if tape is not None:
        tape.broken |= s.threads > 1
        (<Slide*> tape.add(_slide_again, sizeof(Slide), (x,), (out,), kept))[0] = s[0]
    return out


cdef int _slide_again(void* record) except -1 nogil:
    return _slide(record, 0, NULL)


def convolve(
    x, list kernels not None, out, windows, Scratch scratch not None, name, Activation activation=None,
    Py_ssize_t n_threads=1,
):
    """out = activation(windows of x . kernel + bias): Conv of one to three axes, channels last.

    Parameters
    ----------
    x : ndarray (B, *spatial, C) float32
    kernels : list of Matrix
        One for each group of C / groups channels, (taps * C / groups, F / groups).
    out : ndarray (B, *counts, F)
    windows : tuple of (count, taps, stride, dilation, before)
        For each spatial axis: how many windows, taps of one, steps between windows and between taps, and how many
        positions before x the first one begins.
    """
    cdef Slide s
    cdef Matrix kernel
    cdef Py_ssize_t g
    memset(&s, 0, sizeof(Slide))
    windows = tuple(windows)
    checked("x", x, (None,) * max(3, getattr(x, "ndim", 3)))
    _place(&s.at, x, windows)
    s.groups = len(kernels)
    if s.groups < 1 or s.at.channels % s.groups:
        raise ValueError(f"{s.groups} groups of {s.at.channels} channels")
    s.at.used_channels = s.at.channels // s.groups
    s.depth = elements(s.at.taps) * s.at.used_channels
    places = np.empty((2, s.groups), np.intp)
    s.packed = <const float**> <void*> floats(places)
    s.bias = s.packed + s.groups
    for g in range(s.groups):
        kernel = <Matrix?> kernels[g]
        s.table, s.filters = kernel.table, kernel.columns
        if kernel.depth != s.depth or kernel.columns != (<Matrix> kernels[0]).columns or kernel.table != (<Matrix> kernels[0]).table:
            raise ValueError(f"kernel {g} is ({kernel.depth}, {kernel.columns}); expected depth {s.depth}, all alike")
        s.packed[g], s.bias[g] = kernel.packed_at, kernel.bias_at
    if activation is not None:
        s.code, s.parameters = activation.code, activation.parameters
        s.by_row = s.code in (FBL_SOFTMAX, FBL_LOG_SOFTMAX, FBL_SPARSEMAX)
    else:
        s.code = FBL_LINEAR
    n_threads = max(1, n_threads)
    s.panels = scratch.place((name, "panels"), (n_threads, WINDOWS, s.depth))
    return _run_slide(&s, x, out, windows, s.groups * s.filters, n_threads, (kernels, places, scratch, activation))


def pool(x, out, windows, bint mean, Py_ssize_t n_threads=1):
    """The mean or the largest number of each window of x (B, *spatial, C), into out (B, *counts, C); see `convolve`."""
    cdef Slide s
    memset(&s, 0, sizeof(Slide))
    s.table = table_in_use()
    windows = tuple(windows)
    checked("x", x, (None,) * max(3, getattr(x, "ndim", 3)))
    _place(&s.at, x, windows)
    s.pools, s.mean = True, mean
    s.groups, s.filters, s.depth = 1, s.at.channels, elements(s.at.taps)
    return _run_slide(&s, x, out, windows, s.at.channels, n_threads, None)
