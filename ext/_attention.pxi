# Attention and pooling over time, included in _kernels.pyx: each batch row by itself, kept timesteps alone.

cdef enum:
    # Queries of a block, whose scores stay in the L2 cache.
    BLOCK = 48
    # Groups of blocks at most; the mean over queries is summed by group, so that threads do not change a bit.
    GROUPS = 16


# One batch row, its masked timesteps left out.
cdef struct Attend:
    const fbl_kernels* table
    const float* q            # (nq, depth)
    Py_ssize_t nq, nv, depth, width, stride
    const float* packed_keys
    const float* packed_values
    float scale
    bint symmetric, all_masked, pooled
    float* scores             # (nq, stride) if symmetric, else (BLOCK, stride) for each thread
    float* shares             # (BLOCK,) for each thread
    float* means              # (GROUPS, stride)
    float* y                  # (nq, width)


cdef void _pack_transposed(
    const fbl_kernels* table, const float* x, Py_ssize_t n, Py_ssize_t depth, float* packed,
) noexcept nogil:
    """x (n, depth) -> its transpose (depth, n), packed for gemm."""
    cdef Py_ssize_t lanes = table.lanes, width = 4 * lanes, wide = n // width * width, column = 0, k, size, there
    while column < n:
        size = width if column < wide else lanes
        there = min(size, n - column)
        table.transpose(there, depth, x + column * depth, depth, packed + column * depth, size)
        if there < size:
            for k in range(depth):
                memset(packed + column * depth + k * size + there, 0, (size - there) * sizeof(float))
        column += size


cdef void _pack_rows(const float* x, Py_ssize_t depth, Py_ssize_t n, Py_ssize_t lanes, float* packed) noexcept nogil:
    """x (depth, n), packed for gemm."""
    cdef Py_ssize_t width = 4 * lanes, wide = n // width * width, column, k, size, there
    column = 0
    while column < n:
        size = width if column < wide else lanes
        there = min(size, n - column)
        for k in range(depth):
            memcpy(packed + column * depth + k * size, x + k * n + column, there * sizeof(float))
            if there < size:
                memset(packed + column * depth + k * size + there, 0, (size - there) * sizeof(float))
        column += size


cdef int _upper_scores(void* argument, Py_ssize_t part, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    """x.x^T (n, n) of a sequence with itself: the upper triangle of a block of queries."""
    cdef const Attend* at = <const Attend*> argument
    cdef Py_ssize_t width = 4 * at.table.lanes, start = BLOCK * part, first = start // width * width
    at.table.gemm(
        min(BLOCK, at.nq - start), at.depth, at.nq - first, at.q + start * at.depth, at.depth, NULL,
        at.packed_keys + first * at.depth, NULL, at.scores + start * at.stride + first, at.stride,
    )
    return 0


cdef int _lower_scores(void* argument, Py_ssize_t part, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    """The lower triangle, copied from the upper one: the products commute, so no bit differs."""
    cdef const Attend* at = <const Attend*> argument
    cdef Py_ssize_t width = 4 * at.table.lanes, start = BLOCK * part
    at.table.transpose(
        start // width * width, min(BLOCK, at.nq - start), at.scores + start, at.stride,
        at.scores + start * at.stride, at.stride,
    )
    return 0


cdef int _attend(void* argument, Py_ssize_t group, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    """Softmax over the scores of a group of blocks and what the queries get, or the mean of their weights."""
    cdef const Attend* at = <const Attend*> argument
    cdef Py_ssize_t size = group_size(at.nq), work = 0, start = group * size, rows, r, k
    cdef float* block = at.scores + BLOCK * thread * at.stride
    cdef float* share = at.shares + BLOCK * thread
    cdef float* y
    if at.pooled:
        memset(at.means + group * at.stride, 0, at.nv * sizeof(float))
    while start < min(at.nq, (group + 1) * size):
        rows = min(BLOCK, at.nq - start)
        work += rows * at.nv * (at.depth + (0 if at.pooled else at.width) + ROW_WORK)
        if work >= SIGNAL_WORK:
            if is_stopped(stop):
                return 0
            work = 0
        if at.symmetric:
            block = at.scores + start * at.stride
        else:
            at.table.gemm(
                rows, at.depth, at.nv, at.q + start * at.depth, at.depth, NULL, at.packed_keys, NULL, block, at.stride
            )
        if at.all_masked:
            for r in range(rows):
                for k in range(at.nv):
                    block[r * at.stride + k] = at.scale * block[r * at.stride + k] - <float> 1e9
            at.table.softmax(block, rows, at.nv, at.stride, 1, share)
        else:
            at.table.softmax(block, rows, at.nv, at.stride, at.scale, share)
        if at.pooled:
            for r in range(rows):
                share[r] /= <float> at.nq
            at.table.add_rows(rows, at.nv, share, block, at.stride, at.means + group * at.stride)
        else:
            y = at.y + start * at.width
            at.table.gemm(rows, at.nv, at.width, block, at.stride, NULL, at.packed_values, NULL, y, at.width)
            for r in range(rows):
                for k in range(at.width):
                    y[r * at.width + k] *= share[r]
        start += BLOCK
    return 0


cdef inline Py_ssize_t group_size(Py_ssize_t queries) noexcept nogil:
    """Queries of a group: whole blocks."""
    cdef Py_ssize_t most = BLOCK * GROUPS
    return max(<Py_ssize_t> 1, (queries + most - 1) // most) * BLOCK


cdef Py_ssize_t _gather(const float* x, const uint8_t* kept, Py_ssize_t n, Py_ssize_t width, float* to) noexcept nogil:
    """Copy the kept rows of x (n, width); returns how many there are."""
    cdef Py_ssize_t count = 0, t
    for t in range(n):
        if kept == NULL or kept[t]:
            memcpy(to + count * width, x + t * width, width * sizeof(float))
            count += 1
    return count


def attention(query, value, key, query_mask, value_mask, float scale, bint pooled, out, Scratch scratch not None,
    Py_ssize_t n_threads=1,
):
    """softmax(scale * Q.K^T) V for each batch row; with `pooled` the mean of it over the queries.

    Parameters
    ----------
    query (B, Tq, D), value (B, Tv, E), key (B, Tv, D) : ndarray of float32, contiguous
    query_mask (B, Tq), value_mask (B, Tv) : ndarray of bool, or None
        Masked queries give zeros (with `pooled` they do not count; a row without queries gives NaN). Masked values are
        left out; where all are masked, 1e9 is taken off every score, as Keras does.
    out : ndarray (B, Tq, E), or (B, E) with `pooled`
        Written. The mean is taken over the weights before they meet V: half the work.
    n_threads : int
        At most; they share the queries of a row.
    """
    cdef Py_ssize_t batch, queries, depth, values, width, lanes, stride
    batch, queries, depth = checked("query", query, (None, None, None)).shape
    values, width = checked("value", value, (batch, None, None)).shape[1:]
    cdef const float* q_at = floats(query)
    cdef const float* k_at = floats(checked("key", key, (batch, values, depth)))
    cdef const float* v_at = floats(value)
    shape = (batch, queries, width)
    if pooled:
        shape = (batch, width)
    cdef float* out_at = floats(checked("out", out, shape, True))
    apart("out", out, {"query": query, "value": value, "key": key, "query_mask": query_mask, "value_mask": value_mask})
    cdef const uint8_t* q_mask = NULL
    cdef const uint8_t* v_mask = NULL
    cdef const fbl_kernels* table = table_in_use()
    if query_mask is not None:
        q_mask = <const uint8_t*> floats(checked("query_mask", query_mask, (batch, queries), False, _BOOL))
    if value_mask is not None:
        v_mask = <const uint8_t*> floats(checked("value_mask", value_mask, (batch, values), False, _BOOL))
    if out.size == 0:
        return out
    lanes, n_threads = table.lanes, max(1, min(n_threads, (queries + BLOCK - 1) // BLOCK))
    stride = rounded_up(values, lanes)
    cdef AttendRows a
    memset(&a, 0, sizeof(AttendRows))
    a.at.table, a.at.depth, a.at.width, a.at.stride, a.n_threads = table, depth, width, stride, n_threads
    a.at.scale, a.at.pooled = scale, pooled
    a.batch, a.queries, a.values, a.q, a.k, a.v, a.out = batch, queries, values, q_at, k_at, v_at, out_at
    a.q_mask, a.v_mask = q_mask, v_mask
    # Of a sequence with itself half of the scores do; they need a place for all, which is small for some lengths only.
    a.symmetric = q_at == k_at and queries == values and q_mask == v_mask and queries <= SYMMETRIC_TIMESTEPS
    cdef list held = []
    a.packed_keys = scratch.place(held, (depth, stride))
    a.packed_values = scratch.place(held, (values, rounded_up(width, lanes)))
    a.gathered_q = scratch.place(held, (queries, depth))
    a.gathered_k = scratch.place(held, (values, depth))
    a.gathered_v = scratch.place(held, (values, width))
    a.answer = scratch.place(held, (queries, width))
    a.at.packed_keys, a.at.packed_values = a.packed_keys, a.packed_values
    a.at.scores = scratch.place(held, (max(queries if a.symmetric else 0, BLOCK * n_threads), stride))
    a.at.shares = scratch.place(held, (BLOCK * n_threads,))
    a.at.means = scratch.place(held, (GROUPS, stride))
    with nogil:
        _attend_rows(&a)
    cdef Tape tape = recording()
    if tape is not None:
        reads = [array for array in (query, value, key, query_mask, value_mask) if array is not None]
        (<AttendRows*> tape.add(_attend_rows, sizeof(AttendRows), tuple(reads), (out,), scratch))[0] = a
    return out


cdef struct AttendRows:
    Attend at
    Py_ssize_t batch, queries, values, n_threads
    const float* q
    const float* k
    const float* v
    const uint8_t* q_mask
    const uint8_t* v_mask
    float* out
    bint symmetric
    float* packed_keys
    float* packed_values
    float* gathered_q
    float* gathered_k
    float* gathered_v
    float* answer


cdef int _attend_rows(void* record) except -1 nogil:
    """One row of the batch after another."""
    cdef const AttendRows* a = <const AttendRows*> record
    cdef Attend at = a.at
    cdef Py_ssize_t b, r, k, nq, nv, depth = at.depth, width = at.width, queries = a.queries, values = a.values
    cdef const float* row_k
    cdef const float* row_v
    cdef float[16] ones = [1] * 16
    for b in range(a.batch):
        at.q, row_k, row_v = a.q + b * queries * depth, a.k + b * values * depth, a.v + b * values * width
        nq, nv, at.all_masked = queries, values, False
        if a.q_mask != NULL:
            nq = _gather(at.q, a.q_mask + b * queries, queries, depth, a.gathered_q)
            at.q = a.gathered_q
        if a.v_mask != NULL:
            nv = _gather(row_k, a.v_mask + b * values, values, depth, a.gathered_k)
            at.all_masked = nv == 0
            if not at.all_masked:
                _gather(row_v, a.v_mask + b * values, values, width, a.gathered_v)
                row_k, row_v = a.gathered_k, a.gathered_v
            else:
                nv = values
        _pack_transposed(at.table, row_k, nv, depth, a.packed_keys)
        if not at.pooled:
            _pack_rows(row_v, nv, width, at.table.lanes, a.packed_values)
        at.nq, at.nv, at.symmetric = nq, nv, a.symmetric and not at.all_masked
        at.y = a.out + b * queries * width if a.q_mask == NULL else a.answer
        if at.symmetric:
            run_parts(_upper_scores, &at, (nq + BLOCK - 1) // BLOCK, a.n_threads)
            run_parts(_lower_scores, &at, (nq + BLOCK - 1) // BLOCK, a.n_threads)
        run_parts(_attend, &at, (nq + group_size(nq) - 1) // group_size(nq), a.n_threads)
        if at.pooled and nq == 0:
            for k in range(width):
                a.out[b * width + k] = NAN
        elif at.pooled:
            # The sum over the groups, in their order, is the mean over the queries.
            at.table.add_rows((nq - 1) // group_size(nq), nv, ones, at.means + at.stride, at.stride, at.means)
            memset(a.out + b * width, 0, width * sizeof(float))
            at.table.add_rows(nv, width, at.means, row_v, width, a.out + b * width)
        elif a.q_mask != NULL:
            nq = 0
            for r in range(queries):
                if a.q_mask[b * queries + r]:
                    memcpy(a.out + (b * queries + r) * width, a.answer + nq * width, width * sizeof(float))
                    nq += 1
                else:
                    memset(a.out + (b * queries + r) * width, 0, width * sizeof(float))
    return 0
