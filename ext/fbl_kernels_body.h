/* The ONE kernel body, compiled once for each instruction set by a stub that has defined FBL_ISA_NAME (a string),
   FBL_SYMBOL(name), FBL_LANES and FBL_ROWS, the rows of a register tile: FBL_ROWS x 4 accumulators, 4 weights and a
   broadcast fit the registers. Contract: fbl_kernels.h.

   `tile` is the heart of both gemm and the LSTM step: R rows times a panel of 4 vectors, accumulated in registers. */
#include <float.h>

#include "fbl_activations.h"
#include "fbl_kernels.h"
#include "fbl_narrow.h"
#include "fbl_vec.h"

#define L FBL_LANES
#define W (4 * FBL_LANES)
#define ROW_BLOCK 96

/* acc[r][v] += the sum of a[r][k] * w[k][v] over k; R rows, V vectors wide, S panels of V vectors `span` floats apart. The
   sum begins at zero and is added at the end: it rounds less than one that begins at a bias, a projection or the sum of
   256 others (test_accuracy.py). Without the forced unrolling GCC keeps the accumulators in memory; inlined, they would
   share the registers with constants of the caller. */
#define FBL_UNROLL _Pragma("GCC unroll 8")
#define DEFINE_TILE(NAME, R, V, S)                                                                                     \
    static __attribute__((noinline)) void NAME(ptrdiff_t depth, const float *const *a, const float *w,                 \
                                               ptrdiff_t span, vf (*acc)[(V) * (S)])                                   \
    {                                                                                                                  \
        vf sum[R][(V) * (S)];                                                                                          \
        FBL_UNROLL for (int r = 0; r < (R); r++) FBL_UNROLL for (int v = 0; v < (V) * (S); v++) sum[r][v] = vset(0.0f); \
        for (ptrdiff_t k = 0; k < depth; k++) {                                                                        \
            vf row[(V) * (S)];                                                                                         \
            FBL_UNROLL for (int s = 0; s < (S); s++) FBL_UNROLL for (int v = 0; v < (V); v++)                          \
                row[s * (V) + v] = vload(w + s * span + k * (V) * L + v * L);                                          \
            FBL_UNROLL for (int r = 0; r < (R); r++) {                                                                 \
                vf x = vset(a[r][k]);                                                                                  \
                FBL_UNROLL for (int v = 0; v < (V) * (S); v++) sum[r][v] = vfma(x, row[v], sum[r][v]);                 \
            }                                                                                                          \
        }                                                                                                              \
        FBL_UNROLL for (int r = 0; r < (R); r++) FBL_UNROLL for (int v = 0; v < (V) * (S); v++) acc[r][v] += sum[r][v]; \
    }

/* A function for each number of rows of a tile, NAME_1xWIDTH to NAME_6xWIDTH, and a call of the one for ROWS. */
#if FBL_ROWS > 3
#define DEFINE_TALL(DEFINE, NAME, WIDTH, V, S)                                                                         \
    DEFINE(NAME##_4x##WIDTH, 4, V, S)                                                                                  \
    DEFINE(NAME##_5x##WIDTH, 5, V, S)                                                                                  \
    DEFINE(NAME##_6x##WIDTH, 6, V, S)
#define TALL_CASES(NAME, WIDTH, ...)                                                                                   \
    case 4: NAME##_4x##WIDTH(__VA_ARGS__); break;                                                                      \
    case 5: NAME##_5x##WIDTH(__VA_ARGS__); break;                                                                      \
    case 6: NAME##_6x##WIDTH(__VA_ARGS__); break;
#else
#define DEFINE_TALL(DEFINE, NAME, WIDTH, V, S)
#define TALL_CASES(NAME, WIDTH, ...)
#endif
#define DEFINE_HEIGHTS(DEFINE, NAME, WIDTH, V, S) DEFINE_EACH_HEIGHT(DEFINE, NAME, WIDTH, V, S)
#define BY_HEIGHT(NAME, WIDTH, ROWS, ...) CALL_BY_HEIGHT(NAME, WIDTH, ROWS, __VA_ARGS__)
/* Once more, as NAME may be a macro. */
#define DEFINE_EACH_HEIGHT(DEFINE, NAME, WIDTH, V, S)                                                                  \
    DEFINE(NAME##_1x##WIDTH, 1, V, S)                                                                                  \
    DEFINE(NAME##_2x##WIDTH, 2, V, S)                                                                                  \
    DEFINE(NAME##_3x##WIDTH, 3, V, S)                                                                                  \
    DEFINE_TALL(DEFINE, NAME, WIDTH, V, S)
#define CALL_BY_HEIGHT(NAME, WIDTH, ROWS, ...)                                                                         \
    switch (ROWS) {                                                                                                    \
    case 1: NAME##_1x##WIDTH(__VA_ARGS__); break;                                                                      \
    case 2: NAME##_2x##WIDTH(__VA_ARGS__); break;                                                                      \
    case 3: NAME##_3x##WIDTH(__VA_ARGS__); break;                                                                      \
    TALL_CASES(NAME, WIDTH, __VA_ARGS__)                                                                               \
    }

/* The functions for a step of 3 or 4 gates, NAME_1x3x2 and NAME_1x4x2 for `two` blocks of one row, and a call of the one for
   its rows and gates. */
#define DEFINE_STEP_TILES(DEFINE, NAME)                                                                                \
    DEFINE_PAIRS(DEFINE, NAME)                                                                                         \
    DEFINE_HEIGHTS(DEFINE, NAME, 4, 4, 1)                                                                              \
    DEFINE_HEIGHTS(DEFINE, NAME, 3, 3, 1)
#define DEFINE_PAIRS(DEFINE, NAME) DEFINE_EACH_PAIR(DEFINE, NAME)
#define DEFINE_EACH_PAIR(DEFINE, NAME)                                                                                 \
    DEFINE(NAME##_1x4x2, 1, 4, 2)                                                                                      \
    DEFINE(NAME##_1x3x2, 1, 3, 2)
#define BY_STEP(NAME, GATES, TWO, ROWS, SUMS, ...) CALL_BY_STEP(NAME, GATES, TWO, ROWS, SUMS, __VA_ARGS__)
#define CALL_BY_STEP(NAME, GATES, TWO, ROWS, SUMS, ...)                                                                \
    if ((TWO) && (GATES) == 3)                                                                                         \
        NAME##_1x3x2(__VA_ARGS__, (vf(*)[6])(SUMS));                                                                   \
    else if (TWO)                                                                                                      \
        NAME##_1x4x2(__VA_ARGS__, (vf(*)[8])(SUMS));                                                                   \
    else if ((GATES) == 3)                                                                                             \
        BY_HEIGHT(NAME, 3, ROWS, __VA_ARGS__, (vf(*)[3])(SUMS))                                                        \
    else                                                                                                               \
        BY_HEIGHT(NAME, 4, ROWS, __VA_ARGS__, (vf(*)[4])(SUMS))

DEFINE_STEP_TILES(DEFINE_TILE, tile)
DEFINE_HEIGHTS(DEFINE_TILE, tile, 2, 1, 2)
DEFINE_HEIGHTS(DEFINE_TILE, tile, 1, 1, 1)

FBL_INLINE ptrdiff_t least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* Rows are cut into as many tiles as needed, of nearly the same height: `height` rows, one more in the first `taller`
   tiles. A last tile of one or two rows would wait for weights that it uses only once or twice. */
typedef struct {
    ptrdiff_t height, taller;
} tiles;

FBL_INLINE tiles cut(ptrdiff_t rows)
{
    const ptrdiff_t n = (rows + FBL_ROWS - 1) / FBL_ROWS;
    return n > 1 ? (tiles){rows / n, rows % n} : (tiles){rows, 0};
}

/* For each tile: its first row, its number of rows. */
#define FOR_TILES(CUT, FIRST, STOP, row, count)                                                                        \
    for (ptrdiff_t row = FIRST, left = (CUT).taller, count = (CUT).height + (left > 0); row < (STOP);                  \
         row += count, left--, count = (CUT).height + (left > 0))

#include "fbl_products_body.h"
#include "fbl_windows_body.h"

/* ---- LSTM ---- */

FBL_INLINE void emit(const fbl_recurrent *s, ptrdiff_t r, ptrdiff_t unit, vf h)
{
    const ptrdiff_t n = least(L, s->units - unit);
    float *out = s->out + s->out_index[r] * s->out_stride + unit;
    if (s->merge != FBL_STORE) {
        vf other = vload_n(out, n);
        h = s->merge == FBL_MUL ? other * h : s->merge == FBL_ADD ? other + h : (other + h) * 0.5f;
    }
    vstore_n(out, h, n);
}

/* From z to c, and from c to h, for L units of one row. One division serves sigmoid(i) tanh(g), one sigmoid(o) tanh(c).
   In two parts, so that a processor that looks some hundred instructions ahead has several rows under way. */
FBL_INLINE void fused_state(const fbl_recurrent *s, ptrdiff_t r, ptrdiff_t unit, const vf *z)
{
    float *c = s->c + r * s->units_padded + unit;
    vf q, p = vtanh_ratio(z[2], &q);
    vf added = p / (q + q * vexp_held(-z[0]));
    vstore(c, vfma(vload(c), 1.0f / (1.0f + vexp_held(-z[1])), added));
}

FBL_INLINE void fused_output(const fbl_recurrent *s, ptrdiff_t r, ptrdiff_t unit, const vf *z)
{
    vf q, p = vtanh_ratio(vload(s->c + r * s->units_padded + unit), &q);
    vf h = p / (q + q * vexp_held(-z[3]));
    vstore(s->h + r * s->units_padded + unit, h);
    if (s->out)
        emit(s, r, unit, h);
}

FBL_INLINE void store_gates(const fbl_recurrent *s, ptrdiff_t r, ptrdiff_t unit, const vf *z)
{
    for (int gate = 0; gate < 4; gate++)
        vstore(s->z + (r * 4 + gate) * s->units_padded + unit, z[gate]);
}

FBL_INLINE const float *proj_row(const fbl_recurrent *s, ptrdiff_t r)
{
    return s->proj + (s->proj_index ? s->proj_index[r] : r) * s->width;
}

static void softmax(float *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, float scale, float *inverse);

static void activate(float *x, ptrdiff_t n, int code, const float *parameters)
{
    if (code == FBL_SOFTMAX) {
        float inverse;
        softmax(x, 1, n, n, 1.0f, &inverse);
        for (ptrdiff_t k = 0; k < n; k++)
            x[k] *= inverse;
        return;
    }
    if (code != FBL_TANH && code != FBL_SIGMOID && code != FBL_EXPONENTIAL) {
        fbl_activate_f32(x, n, code, parameters);
        return;
    }
    for (ptrdiff_t k = 0; k < n; k += L) {
        vf v = vload_n(x + k, n - k);
        v = code == FBL_TANH ? vtanh(v) : code == FBL_SIGMOID ? vsigmoid(v) : vexp(v);
        vstore_n(x + k, v, n - k);
    }
}

static void lstm_cell(const fbl_recurrent *s)
{
    for (ptrdiff_t r = 0; r < s->rows; r++) {
        float *i = s->z + r * 4 * s->units_padded, *f = i + s->units_padded, *g = f + s->units_padded;
        float *o = g + s->units_padded, *c = s->c + r * s->units_padded, *h = s->h + r * s->units_padded;
        activate(i, s->units, s->recurrent_activation, s->recurrent_activation_parameters);
        activate(f, s->units, s->recurrent_activation, s->recurrent_activation_parameters);
        activate(g, s->units, s->activation, s->activation_parameters);
        activate(o, s->units, s->recurrent_activation, s->recurrent_activation_parameters);
        for (ptrdiff_t u = 0; u < s->units; u += L) {
            const ptrdiff_t n = least(L, s->units - u);
            vf state = vload_n(f + u, n) * vload_n(c + u, n) + vload_n(i + u, n) * vload_n(g + u, n);
            vstore_n(c + u, state, n);
            vstore_n(g + u, state, n);
        }
        activate(g, s->units, s->activation, s->activation_parameters);
        for (ptrdiff_t u = 0; u < s->units; u += L) {
            const ptrdiff_t n = least(L, s->units - u);
            vf y = vload_n(o + u, n) * vload_n(g + u, n);
            vstore_n(h + u, y, n);
            if (s->out)
                emit(s, r, u, y);
        }
    }
}

#include "fbl_gru_body.h"

/* ---- one timestep over all units ---- */

/* What the sums of a block, L units of one row, end in: a cell, or z. A constant of each function made of `step`. A block of
   PANELS is 4 L columns of z, which begin with their bias. */
enum { FUSED_LSTM, FUSED_GRU, LSTM_GATES, PANELS };

/* Sums begin with the projection, that of gate h of a GRU with its bias. Written out: GCC keeps fewer constants in
   registers where a loop over the gates becomes straight code late. */
FBL_INLINE void begin_sums(const fbl_recurrent *s, int end, const float *proj, ptrdiff_t block, vf *sum)
{
    const int none = end == PANELS && !s->recurrent_bias;
    if (end == PANELS)
        proj = s->recurrent_bias + (none ? 0 : block * W);
    sum[0] = none ? vset(0.0f) : vload(proj);
    sum[1] = none ? vset(0.0f) : vload(proj + L);
    sum[2] = none ? vset(0.0f) : vload(end == FUSED_GRU ? s->recurrent_bias + block * L : proj + 2 * L);
    if (end != FUSED_GRU)
        sum[3] = none ? vset(0.0f) : vload(proj + 3 * L);
}

/* Two parts, each for all rows of a tile. */
FBL_INLINE void end_sums(const fbl_recurrent *s, int end, ptrdiff_t r, ptrdiff_t block, vf *sum, const float *proj)
{
    if (end == FUSED_LSTM)
        fused_state(s, r, block * L, sum);
    else if (end == LSTM_GATES)
        store_gates(s, r, block * L, sum);
    else if (end == FUSED_GRU)
        fused_gru_candidate(sum, proj + 2 * L);
    else
        for (ptrdiff_t v = 0; v < 4 && block * W + v * L < s->columns; v++)
            vstore(s->z + r * s->width + block * W + v * L, sum[v]);
}

FBL_INLINE void end_step(const fbl_recurrent *s, int end, ptrdiff_t r, ptrdiff_t block, const vf *sum)
{
    if (end == FUSED_LSTM)
        fused_output(s, r, block * L, sum);
    else if (end == FUSED_GRU)
        fused_gru_output(s, r, block * L, sum);
}

/* Adds h_tm1.R to the sums of `count` rows from `row` on in a block of `gates` vectors, or, `two`, of one row in this block
   and the next: one for each form of R. */
typedef void add_products(const fbl_recurrent *s, int gates, ptrdiff_t block, int two, ptrdiff_t row, ptrdiff_t count,
                          vf *sums);

FBL_INLINE void add_floats(const fbl_recurrent *s, int gates, ptrdiff_t block, int two, ptrdiff_t row, ptrdiff_t count,
                           vf *sums)
{
    const ptrdiff_t block_size = s->units * gates * L;
    const float *from[FBL_ROWS], *w = s->recurrent + block * block_size;
    for (ptrdiff_t r = 0; r < count; r++)
        from[r] = s->h_tm1 + (row + r) * s->units_padded;
    BY_STEP(tile, gates, two, count, sums, s->units, from, w, block_size)
}

#include "fbl_tail_body.h"

/* So many blocks, from the `first` one on. */
FBL_INLINE void step_blocks(const fbl_recurrent *s, int end, add_products *add, ptrdiff_t first, ptrdiff_t blocks)
{
    const int gates = end == FUSED_GRU ? 3 : 4;
    const ptrdiff_t width = gates * L;
    const tiles parts = cut(s->rows);
    ptrdiff_t done = 0;
    /* A single row has only 3 or 4 sums under way: two blocks at a time keep the multipliers busy. */
    if (s->rows == 1)
        for (; done + 2 <= blocks; done += 2) {
            const ptrdiff_t block = first + (s->backwards ? blocks - done - 2 : done);
            const float *proj = proj_row(s, 0) + block * width;
            vf sums[2 * 4];
            FBL_UNROLL for (int b = 0; b < 2; b++)
                begin_sums(s, end, proj + b * width, block + b, sums + b * gates);
            add(s, gates, block, 1, 0, 1, sums);
            for (int b = 0; b < 2; b++)
                end_sums(s, end, 0, block + b, sums + b * gates, proj + b * width);
            for (int b = 0; b < 2; b++)
                end_step(s, end, 0, block + b, sums + b * gates);
        }
    for (; done < blocks; done++) {
        const ptrdiff_t block = first + (s->backwards ? blocks - done - 1 : done);
        FOR_TILES(parts, 0, s->rows, row, count) {
            const float *proj[FBL_ROWS];
            vf sums[FBL_ROWS * 4];
            for (int r = 0; r < count; r++) {
                proj[r] = proj_row(s, row + r) + block * width;
                begin_sums(s, end, proj[r], block, sums + r * gates);
            }
            add(s, gates, block, 0, row, count, sums);
            for (int r = 0; r < count; r++)
                end_sums(s, end, row + r, block, sums + r * gates, proj[r]);
            for (int r = 0; r < count; r++)
                end_step(s, end, row + r, block, sums + r * gates);
        }
    }
}

FBL_INLINE void step(const fbl_recurrent *s, int end, add_products *add)
{
    const ptrdiff_t blocks = end == PANELS ? (s->columns + W - 1) / W : s->units_padded / L;
    step_blocks(s, end, add, s->blocks_before, blocks - s->blocks_before - s->blocks_behind);
}

static void lstm_blocks(const fbl_recurrent *s, ptrdiff_t first, ptrdiff_t blocks)
{
    step_blocks(s, FUSED_LSTM, add_floats, first, blocks);
}

static void lstm_step(const fbl_recurrent *s)
{
    const ptrdiff_t narrow = s->width % W / L, vectors = s->blocks_behind ? 0 : narrow, first = s->blocks_before;
    const ptrdiff_t end = s->width / W - (s->blocks_behind ? s->blocks_behind - (narrow > 0) : 0);
    const ptrdiff_t beside = vectors && s->rows == 1 && end > first ? 2 - (end - first) % 2 : 0;
    if (!s->backwards)
        lstm_blocks(s, first, end - first - beside);
    if (beside)
        lstm_row_end(s, end - beside, beside, vectors);
    else if (vectors)
        lstm_tail(s, end, vectors);
    if (s->backwards)
        lstm_blocks(s, first, end - first - beside);
}

static void lstm_gates(const fbl_recurrent *s) { step(s, LSTM_GATES, add_floats); }
static void gru_step(const fbl_recurrent *s) { step(s, FUSED_GRU, add_floats); }

/* ---- attention ---- */

static void transpose(ptrdiff_t rows, ptrdiff_t columns, const float *x, ptrdiff_t stride, float *to, ptrdiff_t to_stride)
{
    for (ptrdiff_t r = 0; r < rows; r += L)
        for (ptrdiff_t c = 0; c < columns; c += L)
            if (r + L <= rows && c + L <= columns) {
                vf row[L];
                _Pragma("GCC unroll 16") for (int i = 0; i < L; i++) row[i] = vload(x + (r + i) * stride + c);
                vtranspose(row);
                _Pragma("GCC unroll 16") for (int i = 0; i < L; i++) vstore(to + (c + i) * to_stride + r, row[i]);
            } else {
                for (ptrdiff_t i = r; i < least(r + L, rows); i++)
                    for (ptrdiff_t j = c; j < least(c + L, columns); j++)
                        to[j * to_stride + i] = x[i * stride + j];
            }
}

static void softmax(float *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, float scale, float *inverse)
{
    const ptrdiff_t whole = n / L * L, rest = n - whole;
    const vf none = vset(-__builtin_inff());
    vi in_rest;
    for (int k = 0; k < L; k++)
        in_rest[k] = k < rest ? -1 : 0;
    /* In two passes: rows do not wait for each other in either. */
    for (ptrdiff_t r = 0; r < rows; r++) {
        const float *row = x + r * stride;
        vf most = none;
        for (ptrdiff_t k = 0; k < whole; k += L)
            most = vmax(most, vload(row + k) * scale);
        if (rest)
            most = vmax(most, vselect(in_rest, vload_n(row + whole, rest) * scale, none));
        inverse[r] = vtop_lane(most);
    }
    for (ptrdiff_t r = 0; r < rows; r++, x += stride) {
        const float top = inverse[r];
        vf sum = vset(0.0f);
        for (ptrdiff_t k = 0; k < whole; k += L) {
            vf e = vexp(vload(x + k) * scale - top);
            vstore(x + k, e);
            sum += e;
        }
        if (rest) {
            vf e = vexp(vload_n(x + whole, rest) * scale - top);
            vstore_n(x + whole, e, rest);
            sum += vselect(in_rest, e, vset(0.0f));
        }
        inverse[r] = (float)(1 / vsum_lanes(sum));
    }
}

static void add_rows(ptrdiff_t rows, ptrdiff_t n, const float *weights, const float *x, ptrdiff_t stride, float *y)
{
    ptrdiff_t k = 0;
    for (; k + W <= n; k += W) {
        vf acc[4];
        FBL_UNROLL for (int v = 0; v < 4; v++) acc[v] = vload(y + k + v * L);
        for (ptrdiff_t r = 0; r < rows; r++)
            FBL_UNROLL for (int v = 0; v < 4; v++)
                acc[v] = vfma(vset(weights[r]), vload(x + r * stride + k + v * L), acc[v]);
        FBL_UNROLL for (int v = 0; v < 4; v++) vstore(y + k + v * L, acc[v]);
    }
    for (; k < n; k += L) {
        vf acc = vload_n(y + k, n - k);
        for (ptrdiff_t r = 0; r < rows; r++)
            acc = vfma(vset(weights[r]), vload_n(x + r * stride + k, n - k), acc);
        vstore_n(y + k, acc, n - k);
    }
}

static void weigh_rows(ptrdiff_t rows, ptrdiff_t n, const float *weights, const ptrdiff_t *taps, const float *x,
                       const ptrdiff_t *places, const float *bias, float *y)
{
    ptrdiff_t k = 0;
    for (; k + W <= n; k += W) {
        vf acc[4];
        FBL_UNROLL for (int v = 0; v < 4; v++) acc[v] = bias ? vload(bias + k + v * L) : vset(0.0f);
        for (ptrdiff_t r = 0; r < rows; r++)
            FBL_UNROLL for (int v = 0; v < 4; v++)
                acc[v] = vfma(vload(weights + taps[r] * n + k + v * L), vload(x + places[r] + k + v * L), acc[v]);
        FBL_UNROLL for (int v = 0; v < 4; v++) vstore(y + k + v * L, acc[v]);
    }
    for (; k < n; k += L) {
        vf acc = bias ? vload_n(bias + k, n - k) : vset(0.0f);
        for (ptrdiff_t r = 0; r < rows; r++)
            acc = vfma(vload_n(weights + taps[r] * n + k, n - k), vload_n(x + places[r] + k, n - k), acc);
        vstore_n(y + k, acc, n - k);
    }
}

#include "fbl_normalize_body.h"

static void sum_rows(ptrdiff_t rows, ptrdiff_t n, const float *const *x, const float *bias, float *y)
{
    for (ptrdiff_t k = 0; k < n; k += L) {
        vf sum = bias ? vload_n(bias + k, n - k) : vset(0.0f);
        for (ptrdiff_t r = 0; r < rows; r++)
            sum += vload_n(x[r] + k, n - k);
        vstore_n(y + k, sum, n - k);
    }
}

const fbl_kernels FBL_SYMBOL(table) = {
    .isa = FBL_ISA_NAME,
    .lanes = L,
    .gemm = gemm,
    .gemm_onto = gemm_onto,
    .gemm_pieces = gemm_pieces,
    .lstm_step = lstm_step,
    .lstm_gates = lstm_gates,
    .lstm_cell = lstm_cell,
    .gru_step = gru_step,
    .gru_gates = gru_gates,
    .gru_cell = gru_cell,
    .rnn_cell = rnn_cell,
    .activate = activate,
    .transpose = transpose,
    .softmax = softmax,
    .add_rows = add_rows,
    .sum_rows = sum_rows,
    .weigh_rows = weigh_rows,
    .normalize = normalize,
    .max_windows = max_windows,
    .winograd_in = winograd_in,
    .winograd_out = winograd_out,
};

#define HALF(name) bfloat16_##name
#define WIDEN widen_bfloat16
#include "fbl_halves_body.h"
#undef HALF
#undef WIDEN
#if FBL_HAS_FLOAT16
#define HALF(name) float16_##name
#define WIDEN widen_float16
#include "fbl_halves_body.h"
#undef HALF
#undef WIDEN
#define HALVES(name) bfloat16_##name, float16_##name
#else
#define HALVES(name) bfloat16_##name, NULL
#endif

#define FBL_DOTS FBL_SYMBOL
#define FBL_DOTS_NAME FBL_ISA_NAME
#include "fbl_bytes_body.h"
