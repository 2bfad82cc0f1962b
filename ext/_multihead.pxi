# Attention over heads with any mask, dot product or additive, included in _kernels.pyx: each row and head by itself.

cdef enum:
    # What a masked score becomes: itself less 1e9, or another number.
    MASK_SUBTRACTS, MASK_REPLACES


cdef struct Heads:
    const fbl_kernels* table
    const float* q            # (B, Tq, H D)
    const float* k            # (B, Tk, G D)
    const float* v            # (B, Tk, G E)
    const uint8_t* mask       # at mask + b * mask_row + q * mask_query + k; NULL: none
    float* weights            # (B, H, Tq, Tk) or NULL
    float* out                # (B, Tq, H E)
    Py_ssize_t batch, queries, values, heads, repeats, depth, width, mask_row, mask_query, stride, size, threads
    const float* additive     # packed (D, 1) of the additive score; NULL: dot product
    float scale, masked_value
    int how
    bint zeroes               # masked weights end as 0
    float* places             # `size` floats for each thread


cdef void _pack_head_keys(const Heads* at, const float* x, float* packed) noexcept nogil:
    """The keys of a head, rows (Tk, D) with a stride -> (D, Tk) packed for gemm."""
    cdef Py_ssize_t lanes = at.table.lanes, width = 4 * lanes, n = at.values, wide = n // width * width, depth = at.depth
    cdef Py_ssize_t column = 0, k, size, there, stride = at.heads // at.repeats * depth
    while column < n:
        size = width if column < wide else lanes
        there = min(size, n - column)
        at.table.transpose(there, depth, x + column * stride, stride, packed + column * depth, size)
        if there < size:
            for k in range(depth):
                memset(packed + column * depth + k * size + there, 0, (size - there) * sizeof(float))
        column += size


cdef void _pack_head_values(const Heads* at, const float* x, float* packed) noexcept nogil:
    """The values of a head, rows (Tk, E) with a stride, packed for gemm."""
    cdef Py_ssize_t lanes = at.table.lanes, width = 4 * lanes, n = at.width, wide = n // width * width
    cdef Py_ssize_t column = 0, k, j, size, there, stride = at.heads // at.repeats * n
    while column < n:
        size = width if column < wide else lanes
        there = min(size, n - column)
        for k in range(at.values):
            for j in range(there):  # a call of memcpy costs more
                packed[column * at.values + k * size + j] = x[k * stride + column + j]
            if there < size:
                memset(packed + column * at.values + k * size + there, 0, (size - there) * sizeof(float))
        column += size


cdef void _additive_scores(const Heads* at, const float* q, const float* k, float* sums, float* scores) noexcept nogil:
    """scores[t] = sum over d of additive[d] tanh(scale (q[d] + k[t, d])) for one query."""
    cdef Py_ssize_t t, d, stride = at.heads // at.repeats * at.depth
    for t in range(at.values):
        for d in range(at.depth):
            sums[t * at.depth + d] = at.scale * (q[d] + k[t * stride + d])
    at.table.activate(sums, at.values * at.depth, FBL_TANH, NULL)
    at.table.gemm(at.values, at.depth, 1, sums, at.depth, NULL, at.additive, NULL, scores, 1)


cdef int _attend_head(void* argument, Py_ssize_t pair, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    """A row and head."""
    cdef const Heads* at = <const Heads*> argument
    cdef const fbl_kernels* table = at.table
    cdef float* keys = at.places + thread * at.size
    cdef float* values = keys + max(at.depth, <Py_ssize_t> 1) * at.stride
    cdef float* block = values + at.values * rounded_up(at.width, table.lanes)
    cdef float* share = block + BLOCK * at.stride
    cdef float* sums = share + BLOCK
    cdef Py_ssize_t b = pair // at.heads, h = pair % at.heads, g = h // at.repeats, start = 0, rows, r, t, work = 0
    cdef Py_ssize_t q_stride = at.heads * at.depth, k_stride = at.heads // at.repeats * at.depth
    cdef Py_ssize_t v_stride = at.heads // at.repeats * at.width, out_stride = at.heads * at.width
    cdef const float* q
    cdef const float* k
    cdef const uint8_t* kept
    cdef float* y
    cdef float* row
    q, k = at.q + b * at.queries * q_stride + h * at.depth, at.k + b * at.values * k_stride + g * at.depth
    if at.additive == NULL:
        _pack_head_keys(at, k, keys)
    _pack_head_values(at, at.v + b * at.values * v_stride + g * at.width, values)
    while start < at.queries:
        rows = min(<Py_ssize_t> BLOCK, at.queries - start)
        work += rows * at.values * (at.depth + at.width + ROW_WORK * (1 if at.additive == NULL else at.depth))
        if work >= SIGNAL_WORK:
            if is_stopped(stop):
                return 0
            work = 0
        if at.additive == NULL:
            table.gemm(rows, at.depth, at.values, q + start * q_stride, q_stride, NULL, keys, NULL, block, at.stride)
        else:
            for r in range(rows):
                _additive_scores(at, q + (start + r) * q_stride, k, sums, block + r * at.stride)
        if at.mask != NULL:
            for r in range(rows):
                row = block + r * at.stride
                kept = at.mask + b * at.mask_row + (start + r) * at.mask_query
                for t in range(at.values):
                    if at.additive == NULL:
                        row[t] = at.scale * row[t]
                    if not kept[t]:
                        row[t] = row[t] - <float> 1e9 if at.how == MASK_SUBTRACTS else at.masked_value
        table.softmax(
            block, rows, at.values, at.stride, 1 if at.mask != NULL or at.additive != NULL else at.scale, share
        )
        if at.zeroes and at.mask != NULL:
            for r in range(rows):
                kept = at.mask + b * at.mask_row + (start + r) * at.mask_query
                for t in range(at.values):
                    if not kept[t]:
                        block[r * at.stride + t] = 0
        y = at.out + (b * at.queries + start) * out_stride + h * at.width
        table.gemm(rows, at.values, at.width, block, at.stride, NULL, values, NULL, y, out_stride)
        for r in range(rows):
            row = y + r * out_stride
            for t in range(at.width):
                row[t] *= share[r]
            if at.weights != NULL:
                row = at.weights + ((b * at.heads + h) * at.queries + start + r) * at.values
                for t in range(at.values):
                    row[t] = block[r * at.stride + t] * share[r]
        start += BLOCK
    return 0


def attend_heads(
    query, key, value, Py_ssize_t heads, Py_ssize_t groups, mask, masked, bint zeroes, float scale, out,
    Scratch scratch not None, additive=None, weights=None, Py_ssize_t n_threads=1,
):
    """softmax(scale * Q.K^T) V for each head of each batch row, or with the additive score.

    Parameters
    ----------
    query (B, Tq, H D), key (B, Tk, G D), value (B, Tk, G E) : ndarray of float32, contiguous
        Head h reads keys and values of group h // (H / G).
    mask : ndarray of bool (B or 1, Tq or 1, Tk), or None
    masked : float or None
        What masked scores become; None: 1e9 is taken off them.
    zeroes : bool
        Whether masked weights end as 0.
    out : ndarray (B, Tq, H E)
    additive : Matrix (D, 1), optional
        The score is additive . tanh(scale (q + k)) in place of scale q.k.
    weights : ndarray (B, H, Tq, Tk), optional
        Written with the weights.
    """
    cdef Heads at
    cdef Py_ssize_t lanes
    memset(&at, 0, sizeof(Heads))
    at.table = table_in_use()
    lanes = at.table.lanes
    at.batch, at.queries, width = checked("query", query, (None, None, None)).shape
    if heads < 1 or groups < 1 or heads % groups or width % heads:
        raise ValueError(f"{heads} heads in {groups} groups of {width} columns")
    at.heads, at.repeats, at.depth = heads, heads // groups, width // heads
    at.values, width = checked("value", value, (at.batch, None, None)).shape[1:]
    if width % groups or at.values == 0:
        raise ValueError(f"value has shape {value.shape}; expected timesteps, and {groups} groups of columns")
    at.width = width // groups
    at.q, at.v = floats(query), floats(value)
    at.k = floats(checked("key", key, (at.batch, at.values, groups * at.depth)))
    at.out = floats(checked("out", out, (at.batch, at.queries, heads * at.width), True))
    apart("out", out, {"query": query, "key": key, "value": value, "mask": mask, "weights": weights})
    if weights is not None:
        at.weights = floats(checked("weights", weights, (at.batch, heads, at.queries, at.values), True))
        apart("weights", weights, {"query": query, "key": key, "value": value, "mask": mask})
    if mask is not None:
        checked("mask", mask, (None, None, at.values), False, _BOOL)
        if mask.shape[0] not in (1, at.batch) or mask.shape[1] not in (1, at.queries):
            raise ValueError(f"mask has shape {mask.shape}; expected (batch or 1, queries or 1, {at.values})")
        at.mask = <const uint8_t*> floats(mask)
        at.mask_query = at.values if mask.shape[1] > 1 else 0
        at.mask_row = mask.shape[1] * at.values if mask.shape[0] > 1 else 0
    at.scale, at.zeroes = scale, zeroes
    at.how, at.masked_value = (MASK_SUBTRACTS, 0) if masked is None else (MASK_REPLACES, masked)
    if additive is not None:
        if (<Matrix?> additive).depth != at.depth or additive.columns != 1 or (<Matrix> additive).table != _table:
            raise ValueError(f"additive is ({additive.depth}, {additive.columns}); expected ({at.depth}, 1)")
        at.additive = (<Matrix> additive).floats_at()
    if out.size == 0:
        return out
    at.threads = n_threads = max(1, min(n_threads, at.batch * heads))
    at.stride = rounded_up(at.values, 4 * lanes)
    at.size = elements((max(1, at.depth) + BLOCK, at.stride)) + elements((at.values, rounded_up(at.width, lanes))) + BLOCK
    at.size = rounded_up(at.size + (elements((at.values, at.depth)) if additive is not None else 0), 16)
    cdef list held = []
    at.places = scratch.place(held, (n_threads, at.size))
    with nogil:
        run_parts(_attend_head, &at, at.batch * at.heads, n_threads)
    cdef Tape tape = recording()
    if tape is not None:
        reads = (query, key, value) if mask is None else (query, key, value, mask)
        written = (out,) if weights is None else (out, weights)
        (<Heads*> tape.add(_attend_again, sizeof(Heads), reads, written, (scratch, additive)))[0] = at
    return out


cdef int _attend_again(void* record) except -1 nogil:
    cdef const Heads* at = <const Heads*> record
    return run_parts(_attend_head, record, at.batch * at.heads, at.threads)
