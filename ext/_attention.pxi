# Attention and pooling over time, included in _kernels.pyx: each batch row by itself, kept timesteps alone.


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


cdef void _symmetric_scores(
    const fbl_kernels* table, const float* x, Py_ssize_t n, Py_ssize_t depth, const float* packed, float* scores,
    Py_ssize_t stride,
) noexcept nogil:
    """x.x^T (n, n): the upper triangle by gemm, the lower one copied. The products commute, so no bit differs."""
    cdef Py_ssize_t width = 4 * table.lanes, start, rows, first
    for start in range(0, n, 48):
        rows, first = min(48, n - start), start // width * width
        table.gemm(
            rows, depth, n - first, x + start * depth, depth, NULL, packed + first * depth, NULL,
            scores + start * stride + first, stride,
        )
    for start in range(0, n, 48):
        first = start // width * width
        table.transpose(first, min(48, n - start), scores + start, stride, scores + start * stride, stride)


cdef Py_ssize_t _gather(const float* x, const uint8_t* kept, Py_ssize_t n, Py_ssize_t width, float* to) noexcept nogil:
    """Copy the kept rows of x (n, width); returns how many there are."""
    cdef Py_ssize_t count = 0, t
    for t in range(n):
        if kept == NULL or kept[t]:
            memcpy(to + count * width, x + t * width, width * sizeof(float))
            count += 1
    return count


def attention(query, value, key, query_mask, value_mask, float scale, bint pooled, out, Scratch scratch not None, name):
    """softmax(scale * Q.K^T) V for each batch row; with `pooled` the mean of it over the queries.

    Parameters
    ----------
    query (B, Tq, D), value (B, Tv, E), key (B, Tv, D) : ndarray of float32, contiguous
    query_mask (B, Tq), value_mask (B, Tv) : ndarray of bool, or None
        Masked queries give zeros (with `pooled` they do not count; a row without queries gives NaN). Masked values are
        left out; where all are masked, 1e9 is taken off every score, as Keras does.
    out : ndarray (B, Tq, E), or (B, E) with `pooled`
        Written. The mean is taken over the weights before they meet V: half the work.
    """
    cdef Py_ssize_t batch, queries, depth, values, width, b, nq, nv, start, rows, r, k, lanes
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
    if _table == NULL:
        raise RuntimeError("this fastbilstm was built without vector kernels")
    cdef const fbl_kernels* table = _table
    if query_mask is not None:
        q_mask = <const uint8_t*> floats(checked("query_mask", query_mask, (batch, queries), False, _BOOL))
    if value_mask is not None:
        v_mask = <const uint8_t*> floats(checked("value_mask", value_mask, (batch, values), False, _BOOL))
    if out.size == 0:
        return out
    lanes = table.lanes
    stride = rounded_up(values, lanes)
    cdef Py_ssize_t score_stride = stride
    cdef float* packed_keys = floats(scratch.take((name, "keys"), (depth, stride)))
    cdef float* packed_values = floats(scratch.take((name, "values"), (values, rounded_up(width, lanes))))
    # Of a sequence with itself half of the scores do; they need a place for all, which is small for some lengths only.
    cdef bint symmetric = q_at == k_at and queries == values and q_mask == v_mask and queries <= SYMMETRIC_TIMESTEPS
    cdef float* scores = floats(scratch.take((name, "scores"), (queries if symmetric else 48, stride)))
    cdef float* block
    cdef float* y
    cdef float* mean = floats(scratch.take((name, "mean"), (stride,)))
    cdef float* share = floats(scratch.take((name, "share"), (48,)))
    cdef float* gathered_q = floats(scratch.take((name, "q"), (queries, depth)))
    cdef float* gathered_k = floats(scratch.take((name, "k"), (values, depth)))
    cdef float* gathered_v = floats(scratch.take((name, "v"), (values, width)))
    cdef float* answer = floats(scratch.take((name, "y"), (queries, width)))
    cdef const float* row_q
    cdef const float* row_k
    cdef const float* row_v
    cdef bint all_masked
    cdef Py_ssize_t work = 0
    with nogil:
        for b in range(batch):
            row_q, row_k, row_v = q_at + b * queries * depth, k_at + b * values * depth, v_at + b * values * width
            nq, nv = queries, values
            if q_mask != NULL:
                nq = _gather(row_q, q_mask + b * queries, queries, depth, gathered_q)
                row_q = gathered_q
            all_masked = False
            if v_mask != NULL:
                nv = _gather(row_k, v_mask + b * values, values, depth, gathered_k)
                all_masked = nv == 0
                if not all_masked:
                    _gather(row_v, v_mask + b * values, values, width, gathered_v)
                    row_k, row_v = gathered_k, gathered_v
                else:
                    nv = values
            _pack_transposed(table, row_k, nv, depth, packed_keys)
            if pooled:
                memset(mean, 0, nv * sizeof(float))
                memset(out_at + b * width, 0, width * sizeof(float))
            else:
                _pack_rows(row_v, nv, width, lanes, packed_values)
            if symmetric and not all_masked:
                _symmetric_scores(table, row_q, nq, depth, packed_keys, scores, score_stride)
            for start in range(0, nq, 48):
                rows = min(48, nq - start)
                work += rows * nv * (depth + (0 if pooled else width) + ROW_WORK)
                if work >= SIGNAL_WORK:
                    look_for_signals()
                    work = 0
                block = scores
                if symmetric and not all_masked:
                    block = scores + start * score_stride
                else:
                    table.gemm(
                        rows, depth, nv, row_q + start * depth, depth, NULL, packed_keys, NULL, block, score_stride
                    )
                if all_masked:
                    for r in range(rows):
                        for k in range(nv):
                            block[r * score_stride + k] = scale * block[r * score_stride + k] - <float> 1e9
                    table.softmax(block, rows, nv, score_stride, 1, share)
                else:
                    table.softmax(block, rows, nv, score_stride, scale, share)
                if pooled:
                    for r in range(rows):
                        share[r] /= <float> nq
                    table.add_rows(rows, nv, share, block, score_stride, mean)
                else:
                    y = (out_at + b * queries * width if q_mask == NULL else answer) + start * width
                    table.gemm(rows, nv, width, block, score_stride, NULL, packed_values, NULL, y, width)
                    for r in range(rows):
                        for k in range(width):
                            y[r * width + k] *= share[r]
            if pooled:
                table.add_rows(nv, width, mean, row_v, width, out_at + b * width)
                if nq == 0:
                    for k in range(width):
                        out_at[b * width + k] = NAN
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
    if _table == NULL:
        raise RuntimeError("this fastbilstm was built without vector kernels")
    if mask is not None:
        kept = <const uint8_t*> floats(checked("mask", mask, (batch, timesteps), False, _BOOL))
    cdef const fbl_kernels* table = _table
    if out.size == 0:
        return out
    total = np.empty(width, np.float64)
    cdef double* total_at = <double*> <void*> floats(total)
    cdef float* gathered = floats(scratch.take((name, "gathered"), (timesteps, width)))
    cdef float* sums = floats(scratch.take((name, "sums"), (width,)))
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
