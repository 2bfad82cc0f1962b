/* Matrix products, included in fbl_kernels_body.h. A row of A lies in pieces, runs of floats; in most products it is one. */

/* acc[r][v] += a[r][offset[p] + k] * w[k][v], k < length[p], over all pieces p, whose weights follow each other; the
   weights of S panels lie `span` floats apart. */
#define DEFINE_PIECES(NAME, R, V, S)                                                                                   \
    FBL_INLINE void NAME(ptrdiff_t pieces, const ptrdiff_t *offset, const ptrdiff_t *length, const float *const *a,    \
                         const float *w, ptrdiff_t span, vf (*acc)[(V) * (S)])                                         \
    {                                                                                                                  \
        vf sum[R][(V) * (S)];                                                                                          \
        FBL_UNROLL for (int r = 0; r < (R); r++) FBL_UNROLL for (int v = 0; v < (V) * (S); v++) sum[r][v] = vset(0.0f); \
        for (ptrdiff_t p = 0; p < pieces; p++) {                                                                       \
            const float *from[R];                                                                                      \
            FBL_UNROLL for (int r = 0; r < (R); r++) from[r] = a[r] + offset[p];                                       \
            for (ptrdiff_t k = 0; k < length[p]; k++, w += (V) * L) {                                                  \
                vf row[(V) * (S)];                                                                                     \
                FBL_UNROLL for (int s = 0; s < (S); s++) FBL_UNROLL for (int v = 0; v < (V); v++)                      \
                    row[s * (V) + v] = vload(w + s * span + v * L);                                                    \
                FBL_UNROLL for (int r = 0; r < (R); r++) {                                                             \
                    vf x = vset(from[r][k]);                                                                           \
                    FBL_UNROLL for (int v = 0; v < (V) * (S); v++) sum[r][v] = vfma(x, row[v], sum[r][v]);             \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
        FBL_UNROLL for (int r = 0; r < (R); r++) FBL_UNROLL for (int v = 0; v < (V) * (S); v++) acc[r][v] += sum[r][v]; \
    }

DEFINE_HEIGHTS(DEFINE_PIECES, pieces, 4, 4, 1)
DEFINE_HEIGHTS(DEFINE_PIECES, pieces, 2, 1, 2)
DEFINE_HEIGHTS(DEFINE_PIECES, pieces, 1, 1, 1)

/* One tile, `n` columns of up to V vectors, which are S panels of V / S; LOAD and STORE read and write vector v of C. */
#define DEFINE_PIECES_OF(NAME, V, LOAD, STORE)                                                                         \
    static void NAME(int rows, ptrdiff_t pieces, const ptrdiff_t *offset, const ptrdiff_t *length,                     \
                     const float *const *a, const float *w, ptrdiff_t span, const float *bias, int first, float *c,    \
                     ptrdiff_t ldc, ptrdiff_t n)                                                                       \
    {                                                                                                                  \
        vf acc[FBL_ROWS][V];                                                                                           \
        for (int r = 0; r < rows; r++)                                                                                 \
            for (int v = 0; v < (V); v++)                                                                              \
                acc[r][v] = !first ? LOAD(c + r * ldc + v * L, n - v * L)                                              \
                                   : bias ? vload(bias + v * L) : vset(0.0f);                                          \
        BY_HEIGHT(pieces, V, rows, pieces, offset, length, a, w, span, acc)                                            \
        for (int r = 0; r < rows; r++)                                                                                 \
            for (int v = 0; v < (V); v++)                                                                              \
                STORE(c + r * ldc + v * L, acc[r][v], n - v * L);                                                      \
    }

#define WHOLE_LOAD(P, N) ((void)(N), vload(P))
#define WHOLE_STORE(P, X, N) ((void)(N), vstore(P, X))
DEFINE_PIECES_OF(pieces_wide, 4, WHOLE_LOAD, WHOLE_STORE)
DEFINE_PIECES_OF(pieces_two, 2, vload_n, vstore_n)
DEFINE_PIECES_OF(pieces_one, 1, vload_n, vstore_n)

/* Pieces p < n of all rows, which begin with the k-th row of B; `begins`: C begins with the bias. Row r of A begins at start[r], or, without
   it, at (index[r] or r) * lda. */
FBL_INLINE void products(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, const float *a, ptrdiff_t lda,
                         const ptrdiff_t *index, const ptrdiff_t *start, ptrdiff_t k, ptrdiff_t n, const ptrdiff_t *offset,
                         const ptrdiff_t *length, const float *packed, int begins, const float *bias, float *c,
                         ptrdiff_t ldc)
{
    const ptrdiff_t wide = columns / W * W, two = wide + (columns - wide + L - 1) / (2 * L) * (2 * L);
    for (ptrdiff_t first = 0; first < rows; first += ROW_BLOCK) {
        const ptrdiff_t stop = least(rows, first + ROW_BLOCK);
        const tiles parts = cut(stop - first);
        for (ptrdiff_t column = 0, width; column < columns; column += width) {
            width = column < wide ? W : column < two ? 2 * L : L;
            const float *w = packed + column * depth + k * (column < wide ? W : L);
            FOR_TILES(parts, first, stop, row, count) {
                const float *from[FBL_ROWS], *b = bias ? bias + column : NULL;
                for (int r = 0; r < count; r++)
                    from[r] = a + (start ? start[row + r] : (index ? index[row + r] : row + r) * lda);
                (column < wide ? pieces_wide : column < two ? pieces_two : pieces_one)(
                    (int)count, n, offset, length, from, w, depth * L, b, begins, c + row * ldc + column, ldc,
                    columns - column);
            }
        }
    }
}

FBL_INLINE void products_of_rows(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, const float *a, ptrdiff_t lda,
                                 const ptrdiff_t *index, const float *packed, int begins, const float *bias, float *c,
                                 ptrdiff_t ldc)
{
    ptrdiff_t k = 0;
    do {
        const ptrdiff_t part = least(FBL_DEPTH, depth - k);
        products(rows, depth, columns, a, lda, index, NULL, k, 1, &k, &part, packed, begins && k == 0, bias, c, ldc);
        k += FBL_DEPTH;
    } while (k < depth);
}

static void gemm(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, const float *a, ptrdiff_t lda,
                 const ptrdiff_t *index, const float *packed, const float *bias, float *c, ptrdiff_t ldc)
{
    products_of_rows(rows, depth, columns, a, lda, index, packed, 1, bias, c, ldc);
}

static void gemm_onto(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, const float *a, ptrdiff_t lda,
                      const ptrdiff_t *index, const float *packed, float *c, ptrdiff_t ldc)
{
    products_of_rows(rows, depth, columns, a, lda, index, packed, 0, NULL, c, ldc);
}

static void gemm_pieces(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, const float *a, const ptrdiff_t *start,
                        ptrdiff_t pieces, const ptrdiff_t *offset, const ptrdiff_t *length, const float *packed,
                        const float *bias, float *c, ptrdiff_t ldc)
{
    ptrdiff_t k = 0, p = 0;
    do {
        ptrdiff_t part = 0, n = 0; /* pieces p to p + n - 1 */
        while (p + n < pieces && (n == 0 || part + length[p + n] <= FBL_DEPTH))
            part += length[p + n++];
        products(rows, depth, columns, a, 0, NULL, start, k, n, offset + p, length + p, packed, k == 0, bias, c, ldc);
        k += part;
        p += n;
    } while (p < pieces);
}
