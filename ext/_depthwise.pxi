# Convolutions of each channel by itself, and transposed ones, included in _kernels.pyx after _windows.pxi.

cdef struct Weigh:
    const fbl_kernels* table
    fbl_windows at
    Py_ssize_t batch, row_size, windows
    const float* x
    const float* weights
    const float* bias
    float* out


cdef int _weigh(void* record) except -1 nogil:
    cdef const Weigh* s = <const Weigh*> record
    cdef Py_ssize_t b, first, n, work = 0
    cdef Py_ssize_t cost = (s.at.taps[0] * s.at.taps[1] * s.at.taps[2] + ROW_WORK) * s.at.channels
    for b in range(s.batch):
        for first in range(0, s.windows, 96):
            n = min(96, s.windows - first)
            work += n * cost
            if work >= SIGNAL_WORK:
                look_for_signals()
                work = 0
            fbl_weigh_windows(
                s.table, &s.at, s.weights, s.bias, s.x + b * s.row_size, first, n,
                s.out + (b * s.windows + first) * s.at.channels,
            )
    return 0


def convolve_depthwise(x, weights, bias, out, windows):
    """out = windows of x times weights, channel by channel, plus bias.

    x (B, *spatial, C), weights (taps, C), bias (C,) or None, out (B, *counts, C) float32; `windows` as for `convolve`.
    """
    cdef Weigh s
    windows = tuple(windows)
    checked("x", x, (None,) * max(3, getattr(x, "ndim", 3)))
    _place(&s.at, x.shape, windows)
    counts = tuple([window[0] for window in windows])
    s.table, s.x, s.bias = table_in_use(), floats(x), NULL
    s.out = floats(checked("out", out, (x.shape[0], *counts, s.at.channels), True))
    s.weights = floats(checked("weights", weights, (elements(s.at.taps), s.at.channels)))
    if bias is not None:
        s.bias = floats(checked("bias", bias, (s.at.channels,)))
    apart("out", out, {"x": x, "weights": weights, "bias": bias})
    if out.size == 0:
        return out
    s.batch, s.row_size, s.windows = len(x), x.size // len(x), elements(counts)
    with nogil:
        _weigh(&s)
    cdef Tape tape = recording()
    if tape is not None:
        (<Weigh*> tape.add(_weigh, sizeof(Weigh), (x,), (out,), (weights, bias)))[0] = s
    return out


cdef struct Scatter:
    const fbl_kernels* table
    fbl_windows at               # over a row of out; a position of x is a window
    Py_ssize_t batch, depth, columns, positions, out_size
    const float* x
    const float* packed
    const float* bias
    float* panel                 # (96, columns)
    float* out


cdef int _scatter(void* record) except -1 nogil:
    cdef const Scatter* s = <const Scatter*> record
    cdef Py_ssize_t b, first, n, k, work = 0, channels = s.at.channels
    cdef float* y
    for b in range(s.batch):
        y = s.out + b * s.out_size
        if s.bias == NULL:
            memset(y, 0, s.out_size * sizeof(float))
        else:
            for k in range(s.out_size // channels):
                memcpy(y + k * channels, s.bias, channels * sizeof(float))
        for first in range(0, s.positions, 96):
            n = min(96, s.positions - first)
            work += n * (s.depth + ROW_WORK) * s.columns
            if work >= SIGNAL_WORK:
                look_for_signals()
                work = 0
            s.table.gemm(
                n, s.depth, s.columns, s.x + (b * s.positions + first) * s.depth, s.depth, NULL, s.packed, NULL, s.panel,
                s.columns,
            )
            fbl_scatter_windows(&s.at, s.panel, first, n, y)
    return 0


def convolve_transposed(x, Matrix kernel not None, bias, out, windows, Scratch scratch not None):
    """out[t * stride - before + tap * dilation] += x[t].kernel[tap], from bias on: the opposite of `convolve`.

    x (B, *spatial, C), kernel (C, taps * F), bias (F,) or None, out (B, *lengths, F) float32; windows (spatial, taps,
    stride, dilation, before) for each axis of `out`.
    """
    cdef Scatter s
    windows = tuple(windows)
    checked("out", out, (None,) * max(3, getattr(out, "ndim", 3)), True)
    _place(&s.at, out.shape, windows)
    s.depth, s.columns = kernel.depth, kernel.columns
    checked("x", x, (out.shape[0], *[window[0] for window in windows], s.depth))
    if kernel.columns != elements(s.at.taps) * s.at.channels:
        raise ValueError(f"kernel has {kernel.columns} columns for {s.at.channels} filters and windows {windows}")
    s.table, s.packed, s.x, s.out, s.bias = kernel.table, kernel.floats_at(), floats(x), floats(out), NULL
    if bias is not None:
        s.bias = floats(checked("bias", bias, (s.at.channels,)))
    apart("out", out, {"x": x, "bias": bias})
    if out.size == 0:
        return out
    s.batch, s.positions, s.out_size = len(x), elements([window[0] for window in windows]), out.size // len(x)
    cdef list held = []
    s.panel = scratch.place(held, (96, s.columns))
    with nogil:
        _scatter(&s)
    cdef Tape tape = recording()
    if tape is not None:
        (<Scatter*> tape.add(_scatter, sizeof(Scatter), (x,), (out,), (kernel, bias, scratch)))[0] = s
    return out
