/* Steps with bfloat16 or float16 weights: sums in float32, of weights that are widened where they are read. Included by
   fbl_kernels_body.h, once for each form, with HALF(name) and WIDEN. Contract: fbl_narrow.h. */

/* As DEFINE_TILE, two k at a time: WIDEN gives the weights of both, which lie beside each other in each lane. The sums are
   those of DEFINE_TILE, to the bit. */
#define DEFINE_HALF_TILE(NAME, R, V, S)                                                                                \
    static __attribute__((noinline)) void NAME(ptrdiff_t depth, const float *const *a, const uint16_t *w,              \
                                               ptrdiff_t span, vf (*acc)[(V) * (S)])                                   \
    {                                                                                                                  \
        vf sum[R][(V) * (S)];                                                                                          \
        FBL_UNROLL for (int r = 0; r < (R); r++) FBL_UNROLL for (int v = 0; v < (V) * (S); v++) sum[r][v] = vset(0.0f); \
        for (ptrdiff_t k = 0; k < depth; k += 2) {                                                                     \
            vf first[(V) * (S)], second[(V) * (S)];                                                                    \
            FBL_UNROLL for (int s = 0; s < (S); s++) FBL_UNROLL for (int v = 0; v < (V); v++)                          \
                WIDEN(w + s * span + (k * (V) + 2 * v) * L, &first[s * (V) + v], &second[s * (V) + v]);                \
            FBL_UNROLL for (int r = 0; r < (R); r++) {                                                                 \
                const vf x = vset(a[r][k]);                                                                            \
                FBL_UNROLL for (int v = 0; v < (V) * (S); v++) sum[r][v] = vfma(x, first[v], sum[r][v]);               \
            }                                                                                                          \
            if (k + 1 == depth)                                                                                        \
                break;                                                                                                 \
            FBL_UNROLL for (int r = 0; r < (R); r++) {                                                                 \
                const vf x = vset(a[r][k + 1]);                                                                        \
                FBL_UNROLL for (int v = 0; v < (V) * (S); v++) sum[r][v] = vfma(x, second[v], sum[r][v]);              \
            }                                                                                                          \
        }                                                                                                              \
        FBL_UNROLL for (int r = 0; r < (R); r++) FBL_UNROLL for (int v = 0; v < (V) * (S); v++) acc[r][v] += sum[r][v]; \
    }

DEFINE_STEP_TILES(DEFINE_HALF_TILE, HALF(tile))

FBL_INLINE void HALF(add)(const fbl_recurrent *s, int gates, ptrdiff_t block, int two, ptrdiff_t row, ptrdiff_t count,
                          vf *sums)
{
    const ptrdiff_t span = (s->units + 1) / 2 * 2 * gates * L;
    const uint16_t *w = (const uint16_t *)s->narrow + block * span;
    const float *from[FBL_ROWS];
    for (ptrdiff_t r = 0; r < count; r++)
        from[r] = s->h_tm1 + (row + r) * s->units_padded;
    BY_STEP(HALF(tile), gates, two, count, sums, s->units, from, w, span)
}

static void HALF(lstm_step)(const fbl_recurrent *s) { step(s, FUSED_LSTM, HALF(add)); }
static void HALF(lstm_gates)(const fbl_recurrent *s) { step(s, LSTM_GATES, HALF(add)); }
static void HALF(gru_step)(const fbl_recurrent *s) { step(s, FUSED_GRU, HALF(add)); }
static void HALF(multiply)(const fbl_recurrent *s) { step(s, PANELS, HALF(add)); }
