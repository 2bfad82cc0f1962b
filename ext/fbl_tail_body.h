/* The last units of an LSTM, a quarter or half of a block: all four gates of one row lie in one or two vectors. A part of the
   kernel body, included by fbl_kernels_body.h. Contract: fbl_kernels.h. */

#define QUARTER_OF(c, S) ((c) % (L / 4) + (S) * (L / 4))
#define HALF_OF(c, S) ((c) % (L / 2) + (S) * (L / 2))
FBL_INLINE void spread(const vf *sum, ptrdiff_t vectors, vf *z)
{
    const vf a = sum[0], b = sum[vectors - 1];
    if (vectors == 1) {
        z[0] = FBL_SHUFFLE(a, a, FBL_EACH(QUARTER_OF, 0));
        z[1] = FBL_SHUFFLE(a, a, FBL_EACH(QUARTER_OF, 1));
        z[2] = FBL_SHUFFLE(a, a, FBL_EACH(QUARTER_OF, 2));
        z[3] = FBL_SHUFFLE(a, a, FBL_EACH(QUARTER_OF, 3));
    } else {
        z[0] = FBL_SHUFFLE(a, a, FBL_EACH(HALF_OF, 0));
        z[1] = FBL_SHUFFLE(a, a, FBL_EACH(HALF_OF, 1));
        z[2] = FBL_SHUFFLE(b, b, FBL_EACH(HALF_OF, 0));
        z[3] = FBL_SHUFFLE(b, b, FBL_EACH(HALF_OF, 1));
    }
}

/* acc += a row times S blocks and the T vectors of the last units: alone, these would wait for each other. */
#define DEFINE_ROW_END(NAME, S, T)                                                                                     \
    static __attribute__((noinline)) void NAME(ptrdiff_t depth, const float *a, const float *w, const float *last,     \
                                               vf *acc)                                                                \
    {                                                                                                                  \
        vf sum[S][4], end[T];                                                                                          \
        FBL_UNROLL for (int s = 0; s < (S); s++) FBL_UNROLL for (int v = 0; v < 4; v++) sum[s][v] = vset(0.0f);        \
        FBL_UNROLL for (int v = 0; v < (T); v++) end[v] = vset(0.0f);                                                  \
        for (ptrdiff_t k = 0; k < depth; k++) {                                                                        \
            const vf x = vset(a[k]);                                                                                   \
            FBL_UNROLL for (int s = 0; s < (S); s++) FBL_UNROLL for (int v = 0; v < 4; v++)                            \
                sum[s][v] = vfma(x, vload(w + (s * depth + k) * W + v * L), sum[s][v]);                                \
            FBL_UNROLL for (int v = 0; v < (T); v++) end[v] = vfma(x, vload(last + (v * depth + k) * L), end[v]);      \
        }                                                                                                              \
        FBL_UNROLL for (int s = 0; s < (S); s++) FBL_UNROLL for (int v = 0; v < 4; v++) acc[4 * s + v] += sum[s][v];   \
        FBL_UNROLL for (int v = 0; v < (T); v++) acc[4 * (S) + v] += end[v];                                           \
    }
DEFINE_ROW_END(row_end_1x1, 1, 1)
DEFINE_ROW_END(row_end_1x2, 1, 2)
DEFINE_ROW_END(row_end_2x1, 2, 1)
DEFINE_ROW_END(row_end_2x2, 2, 2)

/* A single row: one or two blocks together with the last units. */
static void lstm_row_end(const fbl_recurrent *s, ptrdiff_t block, ptrdiff_t blocks, ptrdiff_t vectors)
{
    const float *w = s->recurrent + block * s->units * W, *last = w + blocks * s->units * W;
    const float *proj = proj_row(s, 0) + block * W;
    vf sums[3 * 4];
    for (ptrdiff_t v = 0; v < 4 * blocks + vectors; v++)
        sums[v] = vload(proj + v * L);
    (blocks == 1 ? (vectors == 1 ? row_end_1x1 : row_end_1x2) : vectors == 1 ? row_end_2x1 : row_end_2x2)(
        s->units, s->h_tm1, w, last, sums);
    spread(sums + 4 * blocks, vectors, sums + 4 * blocks);
    for (ptrdiff_t b = 0; b <= blocks; b++)
        fused_state(s, 0, (block + b) * L, sums + 4 * b);
    for (ptrdiff_t b = 0; b <= blocks; b++)
        fused_output(s, 0, (block + b) * L, sums + 4 * b);
}

static void lstm_tail(const fbl_recurrent *s, ptrdiff_t block, ptrdiff_t vectors)
{
    const tiles parts = cut(s->rows);
    const float *w = s->recurrent + block * s->units * W;
    FOR_TILES(parts, 0, s->rows, row, count) {
        const float *from[FBL_ROWS];
        vf sums[FBL_ROWS * 2], z[FBL_ROWS * 4];
        for (int r = 0; r < count; r++) {
            from[r] = s->h_tm1 + (row + r) * s->units_padded;
            for (ptrdiff_t v = 0; v < vectors; v++)
                sums[r * vectors + v] = vload(proj_row(s, row + r) + block * W + v * L);
        }
        if (vectors == 1)
            BY_HEIGHT(tile, 1, count, s->units, from, w, 0, (vf(*)[1])sums)
        else
            BY_HEIGHT(tile, 2, count, s->units, from, w, s->units * L, (vf(*)[2])sums)
        for (int r = 0; r < count; r++) {
            spread(sums + r * vectors, vectors, z + r * 4);
            fused_state(s, row + r, block * L, z + r * 4);
        }
        for (int r = 0; r < count; r++)
            fused_output(s, row + r, block * L, z + r * 4);
    }
}
