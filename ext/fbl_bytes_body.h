/* Steps with int8 weights, included after fbl_kernels_body.h, once for each kind of dot products: a stub has defined
   FBL_DOTS(name), FBL_DOTS_NAME and one of FBL_DOTS_... below. Contract: fbl_narrow.h. */

/* acc[lane] += the sum of four products: bytes of h, the same in each lane, times bytes of w. */
#if defined(FBL_DOTS_AVX512_VNNI)
#define BYTE_OF_ZERO 128
#define DOT(ACC, H, WEIGHTS) ((vi)_mm512_dpbusd_epi32((__m512i)(ACC), (__m512i)(H), (__m512i)(WEIGHTS)))
#elif defined(FBL_DOTS_AVX_VNNI)
#define BYTE_OF_ZERO 128
#define DOT(ACC, H, WEIGHTS) ((vi)_mm256_dpbusd_avx_epi32((__m256i)(ACC), (__m256i)(H), (__m256i)(WEIGHTS)))
#elif defined(FBL_DOTS_NEON_DOT)
#define BYTE_OF_ZERO 0
#define DOT(ACC, H, WEIGHTS) ((vi)vdotq_s32((int32x4_t)(ACC), (int8x16_t)(H), (int8x16_t)(WEIGHTS)))
#else
#define BYTE_OF_ZERO 0
#define DOT(ACC, H, WEIGHTS) FBL_DOTS(dot)(ACC, H, WEIGHTS)
FBL_INLINE vi FBL_DOTS(dot)(vi acc, vi h, vi w)
{
#if defined(FBL_ISA_AVX512)
    /* |h| times w with the sign of h: two such products are below 2^15. */
    const __m512i a = (__m512i)h, none = _mm512_setzero_si512();
    const __m512i b = _mm512_mask_sub_epi8((__m512i)w, _mm512_movepi8_mask(a), none, (__m512i)w);
    return acc + (vi)_mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_abs_epi8(a), b), _mm512_set1_epi16(1));
#elif defined(FBL_ISA_AVX2)
    const __m256i a = (__m256i)h, b = _mm256_sign_epi8((__m256i)w, a);
    return acc + (vi)_mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(a), b), _mm256_set1_epi16(1));
#elif defined(FBL_ISA_NEON)
    const int8x16_t a = (int8x16_t)h, b = (int8x16_t)w;
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    const int32x4_t high = vpaddlq_s16(vmull_s8(vget_high_s8(a), vget_high_s8(b)));
    return acc + (vi)vpaddq_s32(low, high);
#elif defined(__SSE2__)
    const __m128i a = (__m128i)h, b = (__m128i)w;
    const __m128i wide = _mm_srai_epi16(_mm_unpacklo_epi8(a, a), 8);
    const __m128 low = (__m128)_mm_madd_epi16(wide, _mm_srai_epi16(_mm_unpacklo_epi8(b, b), 8));
    const __m128 high = (__m128)_mm_madd_epi16(wide, _mm_srai_epi16(_mm_unpackhi_epi8(b, b), 8));
    return acc + ((vi)_mm_shuffle_ps(low, high, 0x88) + (vi)_mm_shuffle_ps(low, high, 0xDD));
#else
    for (int shift = 0; shift < 32; shift += 8)
        acc += ((h << (24 - shift)) >> 24) * ((w << (24 - shift)) >> 24);
    return acc;
#endif
}
#endif

/* sum[r][v] += (a[r].w[v]) * scales[v] * largest[r]; as DEFINE_TILE, with the sums as whole numbers, four k at a time. */
#define DEFINE_BYTE_TILE(NAME, R, V, S)                                                                                \
    static __attribute__((noinline)) void NAME(ptrdiff_t groups, const unsigned char *const *a, const float *largest,  \
                                               const signed char *w, ptrdiff_t span, const int *zeros,                 \
                                               const float *scales, vf (*sum)[(V) * (S)])                              \
    {                                                                                                                  \
        vi acc[R][(V) * (S)];                                                                                          \
        FBL_UNROLL for (int r = 0; r < (R); r++) FBL_UNROLL for (int v = 0; v < (V) * (S); v++)                        \
            acc[r][v] = BYTE_OF_ZERO ? vload_int(zeros + v * L) : vset_int(0);                                         \
        for (ptrdiff_t k = 0; k < groups; k++) {                                                                       \
            vi row[(V) * (S)];                                                                                         \
            FBL_UNROLL for (int s = 0; s < (S); s++) FBL_UNROLL for (int v = 0; v < (V); v++)                          \
                row[s * (V) + v] = vload_int(w + s * span + (k * (V) + v) * 4 * L);                                    \
            FBL_UNROLL for (int r = 0; r < (R); r++) {                                                                 \
                int32_t four;                                                                                          \
                memcpy(&four, a[r] + 4 * k, 4);                                                                        \
                const vi h = vset_int(four);                                                                           \
                FBL_UNROLL for (int v = 0; v < (V) * (S); v++) acc[r][v] = DOT(acc[r][v], h, row[v]);                  \
            }                                                                                                          \
        }                                                                                                              \
        FBL_UNROLL for (int r = 0; r < (R); r++) FBL_UNROLL for (int v = 0; v < (V) * (S); v++)                        \
            sum[r][v] = vfma(vfloat(acc[r][v]), vload(scales + v * L) * largest[r], sum[r][v]);                          \
    }

DEFINE_STEP_TILES(DEFINE_BYTE_TILE, FBL_DOTS(bytes))

FBL_INLINE void FBL_DOTS(add_bytes)(const fbl_recurrent *s, int gates, ptrdiff_t block, int two, ptrdiff_t row,
                                    ptrdiff_t count, vf *sums)
{
    const ptrdiff_t groups = (s->units + 3) / 4, span = groups * gates * 4 * L, column = block * gates * L;
    const signed char *w = (const signed char *)s->narrow + block * span;
    const unsigned char *from[FBL_ROWS];
    for (ptrdiff_t r = 0; r < count; r++)
        from[r] = s->codes + (row + r) * s->units_padded;
    BY_STEP(FBL_DOTS(bytes), gates, two, count, sums, groups, from, s->largest + row, w, span, s->zeros + column,
            s->scales + column)
}

/* The codes of one row of h; `factor` is 127 or less. */
FBL_INLINE void FBL_DOTS(write_codes)(const float *h, ptrdiff_t n, float factor, unsigned char *codes)
{
    for (ptrdiff_t k = 0; k < n; k += L)
        vstore_bytes(codes + k, vround(vload_n(h + k, n - k) * factor) + BYTE_OF_ZERO);
}

/* The codes of a row with its own scale; returns max|x|, NaN if an element is not finite, 0 if all are below 2^-100. The row
   lies in pieces, as for gemm_pieces; up to L - 1 bytes behind its codes are written. */
static __attribute__((noinline)) float FBL_DOTS(write_scaled)(const float *x, ptrdiff_t pieces, const ptrdiff_t *offset,
                                                              const ptrdiff_t *length, unsigned char *codes)
{
    vf top = vset(0.0f);
    vi finite = vset_int(-1);
    for (ptrdiff_t p = 0; p < pieces; p++)
        for (ptrdiff_t k = 0; k < length[p]; k += L) {
            const vf size = vabs(vload_n(x + offset[p] + k, length[p] - k));
            finite &= size <= FLT_MAX;
            top = vmax(top, size);
        }
    if (!vall(finite))
        return __builtin_nanf("");
    const float largest = vtop_lane(top) < 0x1p-100f ? 0 : vtop_lane(top);
    for (ptrdiff_t p = 0; p < pieces; codes += length[p++])
        FBL_DOTS(write_codes)(x + offset[p], length[p], largest > 0 ? 127 / largest : 0, codes);
    return largest;
}

/* Writes h_tm1 as bytes, for all rows. */
FBL_INLINE void FBL_DOTS(write_rows)(const fbl_recurrent *s)
{
    for (ptrdiff_t r = 0; r < s->rows; r++) {
        const float *h = s->h_tm1 + r * s->units_padded;
        unsigned char *codes = s->codes + r * s->units_padded;
        vi all = vset_int(-1);
        for (ptrdiff_t k = 0; k < s->units; k += L)
            all &= vabs(vload_n(h + k, s->units - k)) <= FBL_LARGEST_STATE;
        if (__builtin_expect(vall(all), 1)) {
            s->largest[r] = 1;
            FBL_DOTS(write_codes)(h, s->units, 127.0f, codes);
        } else
            s->largest[r] = FBL_DOTS(write_scaled)(h, 1, (const ptrdiff_t[]){0}, &s->units, codes);
    }
}

#define DEFINE_BYTE_STEP(NAME, END)                                                                                    \
    static void FBL_DOTS(NAME)(const fbl_recurrent *s)                                                                 \
    {                                                                                                                  \
        FBL_DOTS(write_rows)(s);                                                                                       \
        step(s, END, FBL_DOTS(add_bytes));                                                                             \
    }
DEFINE_BYTE_STEP(byte_lstm_step, FUSED_LSTM)
DEFINE_BYTE_STEP(byte_lstm_gates, LSTM_GATES)
DEFINE_BYTE_STEP(byte_gru_step, FUSED_GRU)
DEFINE_BYTE_STEP(byte_multiply, PANELS)

/* Row r of A begins at start[r], or, without it, at (index[r] or r) * lda. */
static void FBL_DOTS(byte_products)(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, const float *a, ptrdiff_t lda,
                                    const ptrdiff_t *index, const ptrdiff_t *start, ptrdiff_t pieces,
                                    const ptrdiff_t *offset, const ptrdiff_t *length, const fbl_codes *b,
                                    const float *bias, float *c, ptrdiff_t ldc)
{
    const ptrdiff_t groups = (depth + 3) / 4, stride = (depth + L - 1) / L * L;
    const ptrdiff_t most = least(ROW_BLOCK, FBL_MOST_DEPTH / stride);
    unsigned char codes[FBL_MOST_DEPTH + L];
    float largest[ROW_BLOCK];
    for (ptrdiff_t first = 0; first < rows; first += most) {
        const ptrdiff_t stop = least(rows, first + most);
        const tiles parts = cut(stop - first);
        for (ptrdiff_t r = first; r < stop; r++) {
            unsigned char *row = codes + (r - first) * stride;
            largest[r - first] = FBL_DOTS(write_scaled)(a + (start ? start[r] : (index ? index[r] : r) * lda), pieces,
                                                        offset, length, row);
            for (ptrdiff_t k = depth; k < groups * 4; k++)
                row[k] = BYTE_OF_ZERO;
        }
        for (ptrdiff_t column = 0; column < columns; column += W)
            FOR_TILES(parts, first, stop, row, count) {
                const unsigned char *from[FBL_ROWS];
                vf sums[FBL_ROWS * 4];
                for (int r = 0; r < count; r++) {
                    from[r] = codes + (row - first + r) * stride;
                    for (ptrdiff_t v = 0; v < 4; v++)
                        sums[r * 4 + v] = bias && column + v * L < columns ? vload(bias + column + v * L) : vset(0.0f);
                }
                BY_HEIGHT(FBL_DOTS(bytes), 4, count, groups, from, largest + (row - first),
                          (const signed char *)b->codes + column * groups * 4, 0, b->zeros + column, b->scales + column,
                          (vf(*)[4])sums)
                for (int r = 0; r < count; r++)
                    for (ptrdiff_t v = 0; v < 4 && column + v * L < columns; v++)
                        vstore_n(c + (row + r) * ldc + column + v * L, sums[r * 4 + v], columns - column - v * L);
            }
    }
}

static void FBL_DOTS(byte_gemm)(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, const float *a, ptrdiff_t lda,
                                const ptrdiff_t *index, const fbl_codes *b, const float *bias, float *c, ptrdiff_t ldc)
{
    const ptrdiff_t offset = 0;
    FBL_DOTS(byte_products)(rows, depth, columns, a, lda, index, NULL, 1, &offset, &depth, b, bias, c, ldc);
}

static void FBL_DOTS(byte_gemm_pieces)(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, const float *a,
                                       const ptrdiff_t *start, ptrdiff_t pieces, const ptrdiff_t *offset,
                                       const ptrdiff_t *length, const fbl_codes *b, const float *bias, float *c,
                                       ptrdiff_t ldc)
{
    FBL_DOTS(byte_products)(rows, depth, columns, a, 0, NULL, start, pieces, offset, length, b, bias, c, ldc);
}

const fbl_narrow FBL_DOTS(narrow) = {
    .isa = FBL_DOTS_NAME,
    .table = &FBL_SYMBOL(table),
    .byte_of_zero = BYTE_OF_ZERO,
    .lstm_step = {FBL_DOTS(byte_lstm_step), HALVES(lstm_step)},
    .lstm_gates = {FBL_DOTS(byte_lstm_gates), HALVES(lstm_gates)},
    .gru_step = {FBL_DOTS(byte_gru_step), HALVES(gru_step)},
    .gemm = FBL_DOTS(byte_gemm),
    .gemm_pieces = FBL_DOTS(byte_gemm_pieces),
    .multiply = {FBL_DOTS(byte_multiply), HALVES(multiply)},
};

#undef BYTE_OF_ZERO
#undef DOT
