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
    Py_ssize_t nq, nv, depth, width, stride, threads
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


cdef int _upper_scores(void* argument, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    """x.x^T (n, n) of a sequence with itself: the upper triangle. Blocks are dealt to and fro, as they get smaller."""
    cdef const Attend* at = <const Attend*> argument
    cdef Py_ssize_t width = 4 * at.table.lanes, work = 0, turn = 0, start = BLOCK * thread, first
    while start < at.nq:
        first = start // width * width
        work += BLOCK * (at.nq - first) * at.depth
        if work >= SIGNAL_WORK:
            if is_stopped(stop):
                return 0
            work = 0
        at.table.gemm(
            min(BLOCK, at.nq - start), at.depth, at.nq - first, at.q + start * at.depth, at.depth, NULL,
            at.packed_keys + first * at.depth, NULL, at.scores + start * at.stride + first, at.stride,
        )
        turn += 1
        start = BLOCK * (turn * at.threads + (at.threads - 1 - thread if turn & 1 else thread))
    return 0


cdef int _lower_scores(void* argument, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    """The lower triangle, copied from the upper one: the products commute, so no bit differs."""
    cdef const Attend* at = <const Attend*> argument
    cdef Py_ssize_t width = 4 * at.table.lanes, start = BLOCK * thread
    while start < at.nq:
        at.table.transpose(
            start // width * width, min(BLOCK, at.nq - start), at.scores + start, at.stride,
            at.scores + start * at.stride, at.stride,
        )
        start += BLOCK * at.threads
    return 0


cdef int _attend(void* argument, Py_ssize_t thread, const uint8_t* stop) except -1 nogil:
    """Softmax over the scores and what the queries get, or the mean of their weights, group after group."""
    cdef const Attend* at = <const Attend*> argument
    cdef Py_ssize_t size = group_size(at.nq), work = 0, group = thread, start, rows, r, k
    cdef float* block = at.scores + BLOCK * thread * at.stride
    cdef float* share = at.shares + BLOCK * thread
    cdef float* y
    while group * size < at.nq:
        if at.pooled:
            memset(at.means + group * at.stride, 0, at.nv * sizeof(float))
        start = group * size
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
        group += at.threads
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


def attention(query, value, key, query_mask, value_mask, float scale, bint pooled, out, Scratch scratch not None, name,
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
    cdef Py_ssize_t batch, queries, depth, values, width, b, nq, nv, r, k, lanes, stride
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
    cdef Attend at
    at.table, at.depth, at.width, at.stride, at.threads = table, depth, width, stride, n_threads
    at.scale, at.pooled = scale, pooled
    # Of a sequence with itself half of the scores do; they need a place for all, which is small for some lengths only.
    cdef bint symmetric = q_at == k_at and queries == values and q_mask == v_mask and queries <= SYMMETRIC_TIMESTEPS
    cdef float* packed_keys = scratch.place((name, "keys"), (depth, stride))
    cdef float* packed_values = scratch.place((name, "values"), (values, rounded_up(width, lanes)))
    cdef float* gathered_q = scratch.place((name, "q"), (queries, depth))
    cdef float* gathered_k = scratch.place((name, "k"), (values, depth))
    cdef float* gathered_v = scratch.place((name, "v"), (values, width))
    cdef float* answer = scratch.place((name, "y"), (queries, width))
    at.packed_keys, at.packed_values = packed_keys, packed_values
    at.scores = scratch.place((name, "scores"), (queries if symmetric else BLOCK * n_threads, stride))
    at.shares = scratch.place((name, "shares"), (BLOCK * n_threads,))
    at.means = scratch.place((name, "means"), (GROUPS, stride))
    cdef const float* row_k
    cdef const float* row_v
    cdef float[16] ones = [1] * 16
    for b in range(batch):
        at.q, row_k, row_v = q_at + b * queries * depth, k_at + b * values * depth, v_at + b * values * width
        nq, nv, at.all_masked = queries, values, False
        with nogil:
            if q_mask != NULL:
                nq = _gather(at.q, q_mask + b * queries, queries, depth, gathered_q)
                at.q = gathered_q
            if v_mask != NULL:
                nv = _gather(row_k, v_mask + b * values, values, depth, gathered_k)
                at.all_masked = nv == 0
                if not at.all_masked:
                    _gather(row_v, v_mask + b * values, values, width, gathered_v)
                    row_k, row_v = gathered_k, gathered_v
                else:
                    nv = values
            _pack_transposed(table, row_k, nv, depth, packed_keys)
            if not pooled:
                _pack_rows(row_v, nv, width, lanes, packed_values)
        at.nq, at.nv, at.symmetric = nq, nv, symmetric and not at.all_masked
        at.y = out_at + b * queries * width if q_mask == NULL else answer
        if at.symmetric:
            run_parts(_upper_scores, &at, n_threads, n_threads)
            run_parts(_lower_scores, &at, n_threads, n_threads)
        run_parts(_attend, &at, n_threads, n_threads)
        with nogil:
            if pooled and nq == 0:
                for k in range(width):
                    out_at[b * width + k] = NAN
            elif pooled:
                # The sum over the groups, in their order, is the mean over the queries.
                table.add_rows((nq - 1) // group_size(nq), nv, ones, at.means + stride, stride, at.means)
                memset(out_at + b * width, 0, width * sizeof(float))
                table.add_rows(nv, width, at.means, row_v, width, out_at + b * width)
            elif q_mask != NULL:
                nq = 0
                for r in range(queries):
                    if q_mask[b * queries + r]:
                        memcpy(out_at + (b * queries + r) * width, answer + nq * width, width * sizeof(float))
                        nq += 1
                    else:
                        memset(out_at + (b * queries + r) * width, 0, width * sizeof(float))
    return out


def mean_over_time(x, mask, out, Scratch scratch not None, name):
    """Mean over the kept timesteps: x (B, T, C), mask (B, T) bool or None -> out (B, C). No timestep gives NaN.

    Sums of 16 rows in float32, those in float64.
    """
    cdef Py_ssize_t batch, timesteps, width, b, t, k, part, count, block
    batch, timesteps, width = checked("x", x, (None, None, None)).shape
    cdef const float* x_at = floats(x)
    cdef float* out_at = floats(checked("out", out, (batch, width), True))
    apart("out", out, {"x": x, "mask": mask})
    cdef const uint8_t* kept = NULL
    if mask is not None:
        kept = <const uint8_t*> floats(checked("mask", mask, (batch, timesteps), False, _BOOL))
    cdef const fbl_kernels* table = table_in_use()
    if out.size == 0:
        return out
    total = np.empty(width, np.float64)
    cdef double* total_at = <double*> <void*> floats(total)
    cdef float* gathered = scratch.place((name, "gathered"), (timesteps, width))
    cdef float* sums = scratch.place((name, "sums"), (width,))
    cdef float[16] ones = [1] * 16
    cdef const float* row
    with nogil:
        for b in range(batch):
            row, count = x_at + b * timesteps * width, timesteps
            if kept != NULL:
                count = _gather(row, kept + b * timesteps, timesteps, width, gathered)
                row = gathered
            memset(total_at, 0, width * sizeof(double))
            for t in range(0, count, 16):
                memset(sums, 0, width * sizeof(float))
                table.add_rows(min(16, count - t), width, ones, row + t * width, width, sums)
                for k in range(width):
                    total_at[k] += sums[k]
            for k in range(width):
                out_at[b * width + k] = <float> (total_at[k] / count) if count else NAN
    return out
