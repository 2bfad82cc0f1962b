/* What the kernels do with windows over a sequence or an image, included in fbl_kernels_body.h: a matrix product whose rows
   lie in pieces, and the largest number of each window. */

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

DEFINE_PIECES(pieces_1x4, 1, 4, 1)
DEFINE_PIECES(pieces_2x4, 2, 4, 1)
DEFINE_PIECES(pieces_3x4, 3, 4, 1)
DEFINE_PIECES(pieces_1x1, 1, 1, 1)
DEFINE_PIECES(pieces_2x1, 2, 1, 1)
DEFINE_PIECES(pieces_3x1, 3, 1, 1)
DEFINE_PIECES(pieces_1x2, 1, 1, 2)
DEFINE_PIECES(pieces_2x2, 2, 1, 2)
DEFINE_PIECES(pieces_3x2, 3, 1, 2)
#if FBL_ROWS > 3
DEFINE_PIECES(pieces_4x4, 4, 4, 1)
DEFINE_PIECES(pieces_5x4, 5, 4, 1)
DEFINE_PIECES(pieces_6x4, 6, 4, 1)
DEFINE_PIECES(pieces_4x1, 4, 1, 1)
DEFINE_PIECES(pieces_5x1, 5, 1, 1)
DEFINE_PIECES(pieces_6x1, 6, 1, 1)
DEFINE_PIECES(pieces_4x2, 4, 1, 2)
DEFINE_PIECES(pieces_5x2, 5, 1, 2)
DEFINE_PIECES(pieces_6x2, 6, 1, 2)
#define PIECES_CASES(V, ...)                                                                                           \
    case 4: pieces_4x##V(__VA_ARGS__); break;                                                                          \
    case 5: pieces_5x##V(__VA_ARGS__); break;                                                                          \
    case 6: pieces_6x##V(__VA_ARGS__); break;
#else
#define PIECES_CASES(V, ...)
#endif
#define PIECES(ROWS, V, ...)                                                                                           \
    switch (ROWS) {                                                                                                    \
    case 1: pieces_1x##V(__VA_ARGS__); break;                                                                          \
    case 2: pieces_2x##V(__VA_ARGS__); break;                                                                          \
    case 3: pieces_3x##V(__VA_ARGS__); break;                                                                          \
    PIECES_CASES(V, __VA_ARGS__)                                                                                       \
    }

/* One tile of gemm_pieces, `n` columns of up to V vectors, which are S panels of V / S. */
#define DEFINE_PIECES_OF(NAME, V)                                                                                      \
    static void NAME(int rows, ptrdiff_t pieces, const ptrdiff_t *offset, const ptrdiff_t *length,                     \
                     const float *const *a, const float *w, ptrdiff_t span, const float *bias, int first, float *c,    \
                     ptrdiff_t ldc, ptrdiff_t n)                                                                       \
    {                                                                                                                  \
        vf acc[FBL_ROWS][V];                                                                                           \
        for (int r = 0; r < rows; r++)                                                                                 \
            for (int v = 0; v < (V); v++)                                                                              \
                acc[r][v] = !first ? vload_n(c + r * ldc + v * L, n - v * L)                                           \
                                   : bias ? vload(bias + v * L) : vset(0.0f);                                          \
        PIECES(rows, V, pieces, offset, length, a, w, span, acc)                                                       \
        for (int r = 0; r < rows; r++)                                                                                 \
            for (int v = 0; v < (V); v++)                                                                              \
                vstore_n(c + r * ldc + v * L, acc[r][v], n - v * L);                                                   \
    }

DEFINE_PIECES_OF(pieces_wide, 4)
DEFINE_PIECES_OF(pieces_two, 2)
DEFINE_PIECES_OF(pieces_one, 1)

static void gemm_pieces(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, const float *a, const ptrdiff_t *start,
                        ptrdiff_t pieces, const ptrdiff_t *offset, const ptrdiff_t *length, const float *packed,
                        const float *bias, float *c, ptrdiff_t ldc)
{
    const ptrdiff_t wide = columns / W * W, two = wide + (columns - wide + L - 1) / (2 * L) * (2 * L);
    ptrdiff_t k = 0, p = 0;
    do {
        ptrdiff_t part = 0, n = 0; /* pieces p to p + n - 1 */
        while (p + n < pieces && (n == 0 || part + length[p + n] <= FBL_DEPTH))
            part += length[p + n++];
        for (ptrdiff_t first = 0; first < rows; first += ROW_BLOCK) {
            const ptrdiff_t stop = least(rows, first + ROW_BLOCK);
            const tiles parts = cut(stop - first);
            for (ptrdiff_t column = 0, width; column < columns; column += width) {
                width = column < wide ? W : column < two ? 2 * L : L;
                const float *w = packed + column * depth + k * (column < wide ? W : L);
                FOR_TILES(parts, first, stop, row, count) {
                    const float *from[FBL_ROWS], *b = bias ? bias + column : NULL;
                    for (int r = 0; r < count; r++)
                        from[r] = a + start[row + r];
                    (column < wide ? pieces_wide : column < two ? pieces_two : pieces_one)(
                        (int)count, n, offset + p, length + p, from, w, depth * L, b, k == 0, c + row * ldc + column, ldc,
                        columns - column);
                }
            }
        }
        k += part;
        p += n;
    } while (p < pieces);
}

static void max_windows(ptrdiff_t windows, ptrdiff_t window_step, const ptrdiff_t *taps, const ptrdiff_t *steps,
                        ptrdiff_t n, const float *x, float *y)
{
    for (ptrdiff_t w = 0; w < windows; w++, x += window_step, y += n)
        for (ptrdiff_t k = 0; k < n; k += L) {
            vf most = vset(-FLT_MAX);
            for (ptrdiff_t a = 0; a < taps[0]; a++)
                for (ptrdiff_t b = 0; b < taps[1]; b++)
                    for (ptrdiff_t c = 0; c < taps[2]; c++)
                        most = vmax(vload_n(x + a * steps[0] + b * steps[1] + c * steps[2] + k, n - k), most);
            vstore_n(y + k, most, n - k);
        }
}
