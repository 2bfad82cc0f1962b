/* Every kernel of every instruction set that runs here against plain loops in double, at odd sizes; test_cross_compilers.py
   compiles it, for other machines too, and runs it. Prints a line for each instruction set; exit code 1 if one is wrong.

   Each array has exactly the size it needs, so that AddressSanitizer sees what is read or written beside it. Rows must
   have the same bits alone as among others. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fbl_activations.h"
#include "fbl_kernels.h"

static const fbl_kernels *table;
static long checks, faults;
static double worst;

static unsigned long long state = 1;

/* Uniform in [-1, 1). */
static float random_float(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (float)((double)(state >> 40) / (double)(1 << 23) - 1);
}

/* n floats, 64-byte aligned, random or NaN. AddressSanitizer watches the end because size and alignment are exact. */
static float *floats(ptrdiff_t n, int filled)
{
    void *p = NULL;
    if (posix_memalign(&p, 64, n > 0 ? (size_t)n * sizeof(float) : 1) != 0)
        exit(2);
    for (ptrdiff_t k = 0; k < n; k++)
        ((float *)p)[k] = filled ? random_float() : NAN;
    return p;
}

/* `error` is in units of what is allowed. */
static void check(const char *what, ptrdiff_t size, double got, double expected, double allowed)
{
    const int same = isnan(got) ? isnan(expected) : got == expected;
    const double error = same ? 0 : fabs(got - expected) / allowed;
    checks++;
    if (error > worst)
        worst = error;
    if (!(error <= 1)) {
        if (faults++ < 10)
            printf("%s: %s (size %ld): %.9g, expected %.9g\n", table->isa, what, (long)size, got, expected);
        worst = isnan(error) ? INFINITY : worst;
    }
}

static void check_bits(const char *what, ptrdiff_t size, const float *a, const float *b, ptrdiff_t n)
{
    checks++;
    if (memcmp(a, b, (size_t)n * sizeof(float)) != 0 && faults++ < 10)
        printf("%s: %s (size %ld): a row has other bits alone than among others\n", table->isa, what, (long)size);
}

static ptrdiff_t rounded_up(ptrdiff_t n, ptrdiff_t step) { return (n + step - 1) / step * step; }

/* b (depth, columns) in panels of 4 vectors, then of one; see fbl_kernels.h. */
static float *packed(const float *b, ptrdiff_t depth, ptrdiff_t columns)
{
    const ptrdiff_t lanes = table->lanes, wide = columns / (4 * lanes) * 4 * lanes;
    float *to = floats(depth * rounded_up(columns, lanes), 0);
    ptrdiff_t column = 0;
    while (column < columns) {
        const ptrdiff_t width = column < wide ? 4 * lanes : lanes;
        for (ptrdiff_t k = 0; k < depth; k++)
            for (ptrdiff_t j = 0; j < width; j++)
                to[column * depth + k * width + j] = column + j < columns ? b[k * columns + column + j] : 0;
        column += width;
    }
    return to;
}

static void test_gemm(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, int indexed, int biased)
{
    const ptrdiff_t padded = rounded_up(columns, table->lanes), lda = depth + 2, ldc = columns + 3, given = rows + 4;
    float *a = floats((given - 1) * lda + depth, 1), *b = floats(depth * columns, 1), *from = packed(b, depth, columns);
    float *bias = floats(padded, 1), *c = floats((rows - 1) * ldc + columns, 0), *alone = floats(columns, 0);
    ptrdiff_t *index = malloc((size_t)rows * sizeof *index);
    for (ptrdiff_t r = 0; r < rows; r++)
        index[r] = indexed ? (r * 7 + 3) % given : r;
    table->gemm(rows, depth, columns, a, lda, indexed ? index : NULL, from, biased ? bias : NULL, c, ldc);
    for (ptrdiff_t r = 0; r < rows; r++) {
        for (ptrdiff_t j = 0; j < columns; j++) {
            double sum = biased ? (double)bias[j] : 0, size = fabs(sum);
            for (ptrdiff_t k = 0; k < depth; k++) {
                sum += (double)a[index[r] * lda + k] * (double)b[k * columns + j];
                size += fabs((double)a[index[r] * lda + k] * (double)b[k * columns + j]);
            }
            check("gemm", columns, (double)c[r * ldc + j], sum, 1e-7 * (double)(depth + 2) * size + 1e-30);
        }
        for (ptrdiff_t j = columns; r < rows - 1 && j < ldc; j++)
            check("gemm, gap between rows", columns, (double)c[r * ldc + j], NAN, 1);
        table->gemm(1, depth, columns, a + index[r] * lda, lda, NULL, from, biased ? bias : NULL, alone, columns);
        check_bits("gemm", columns, alone, c + r * ldc, columns);
        for (ptrdiff_t j = 0; j < columns; j++)
            alone[j] = biased ? bias[j] : 0;
        table->gemm_onto(1, depth, columns, a + index[r] * lda, lda, NULL, from, alone, columns);
        check_bits("gemm_onto", columns, alone, c + r * ldc, columns);
    }
    free(a), free(b), free(from), free(bias), free(c), free(alone), free(index);
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* fused: lstm_step; else lstm_gates and lstm_cell, with relu in the cell. */
static void test_lstm(ptrdiff_t rows, ptrdiff_t units, int fused, int merge, int backwards)
{
    const ptrdiff_t lanes = table->lanes, padded = rounded_up(units, lanes), given = rows + 2, stride = units + 5;
    const float none[3] = {0, 0, 0};
    float *recurrent = floats(units * 4 * units, 1), *blocks = floats(units * 4 * padded, 0);
    float *proj = floats(given * 4 * padded, 1), *h_tm1 = floats(rows * padded, 1), *h = floats(rows * padded, 0);
    float *c = floats(rows * padded, 1), *before = floats(rows * padded, 1);
    float *out = floats((given - 1) * stride + units, 1), *out_before = floats((given - 1) * stride + units, 1);
    float *z = floats(rows * 4 * padded, 0);
    ptrdiff_t *index = malloc((size_t)rows * sizeof *index);
    for (ptrdiff_t r = 0; r < rows; r++)
        index[r] = given - 1 - r;
    memcpy(before, c, (size_t)(rows * padded) * sizeof *c);
    memcpy(out_before, out, (size_t)((given - 1) * stride + units) * sizeof *out);
    for (ptrdiff_t k = 0; k < units; k++)
        for (ptrdiff_t u = 0; u < padded; u++)
            for (ptrdiff_t gate = 0; gate < 4; gate++)
                blocks[u / lanes * units * 4 * lanes + (k * 4 + gate) * lanes + u % lanes] =
                    u < units ? recurrent[k * 4 * units + gate * units + u] : 0;
    fbl_recurrent s = {.rows = rows, .units = units, .units_padded = padded, .recurrent = blocks, .proj = proj,
                       .proj_index = index, .width = 4 * padded, .h_tm1 = h_tm1, .h = h, .c = c, .out = out,
                       .out_index = index, .out_stride = stride, .merge = merge, .backwards = backwards,
                       .activation = fused ? FBL_TANH : FBL_RELU, .recurrent_activation = FBL_SIGMOID,
                       .activation_parameters = none, .recurrent_activation_parameters = none, .z = z};
    if (fused) {
        table->lstm_step(&s);
    } else {
        table->lstm_gates(&s);
        table->lstm_cell(&s);
    }
    for (ptrdiff_t r = 0; r < rows; r++) {
        for (ptrdiff_t u = 0; u < units; u++) {
            double gates[4], allowed = 1e-6 * (double)(units + 4);
            for (ptrdiff_t gate = 0; gate < 4; gate++) {
                gates[gate] = (double)proj[index[r] * 4 * padded + (u / lanes * 4 + gate) * lanes + u % lanes];
                for (ptrdiff_t k = 0; k < units; k++)
                    gates[gate] += (double)h_tm1[r * padded + k] * (double)recurrent[k * 4 * units + gate * units + u];
            }
            const double g = fused ? tanh(gates[2]) : fmax(gates[2], 0);
            const double cell = sigmoid(gates[1]) * (double)before[r * padded + u] + sigmoid(gates[0]) * g;
            double y = sigmoid(gates[3]) * (fused ? tanh(cell) : fmax(cell, 0));
            const double other = (double)out_before[index[r] * stride + u];
            check("lstm c", units, (double)c[r * padded + u], cell, allowed);
            check("lstm h", units, (double)h[r * padded + u], y, allowed);
            y = merge == FBL_ADD ? other + y : merge == FBL_MUL ? other * y : merge == FBL_AVERAGE ? (other + y) / 2 : y;
            check("lstm out", units, (double)out[index[r] * stride + u], y, allowed);
        }
        for (ptrdiff_t u = units; index[r] < given - 1 && u < stride; u++)
            check("lstm, gap between rows", units, (double)out[index[r] * stride + u],
                  (double)out_before[index[r] * stride + u], 1e-30);
    }
    /* All but the first blocks, then these: from the same state, not emitted. */
    for (ptrdiff_t cut = 0; fused && cut <= padded / lanes; cut++) {
        float *h_cut = floats(rows * padded, 0), *c_cut = floats(rows * padded, 0);
        memcpy(c_cut, before, (size_t)(rows * padded) * sizeof *c);
        s.h = h_cut, s.c = c_cut, s.out = NULL, s.blocks_before = cut, s.blocks_behind = 0;
        table->lstm_step(&s);
        for (ptrdiff_t u = 0; u < cut * lanes; u++)
            check("lstm, a block left out", units, (double)h_cut[u], NAN, 1);
        s.blocks_before = 0, s.blocks_behind = padded / lanes - cut;
        table->lstm_step(&s);
        for (ptrdiff_t r = 0; r < rows; r++) {
            check_bits("lstm h in two pieces", units, h_cut + r * padded, h + r * padded, units);
            check_bits("lstm c in two pieces", units, c_cut + r * padded, c + r * padded, units);
        }
        free(h_cut), free(c_cut);
    }
    s.blocks_before = s.blocks_behind = 0;
    /* Each row alone, not emitted, from the same state. */
    for (ptrdiff_t r = 0; r < rows; r++) {
        float *h_alone = floats(padded, 0), *c_alone = floats(padded, 0);
        memcpy(c_alone, before + r * padded, (size_t)padded * sizeof *c);
        s.rows = 1, s.proj = proj + index[r] * 4 * padded, s.proj_index = NULL, s.h_tm1 = h_tm1 + r * padded;
        s.h = h_alone, s.c = c_alone, s.out = NULL, s.out_index = NULL, s.backwards = !backwards;
        if (fused) {
            table->lstm_step(&s);
        } else {
            table->lstm_gates(&s);
            table->lstm_cell(&s);
        }
        check_bits("lstm h", units, h_alone, h + r * padded, units);
        check_bits("lstm c", units, c_alone, c + r * padded, units);
        free(h_alone), free(c_alone);
    }
    free(recurrent), free(blocks), free(proj), free(h_tm1), free(h), free(c), free(before), free(out);
    free(out_before), free(z), free(index);
}

enum { GRU, GRU_CELL, GRU_BEFORE, RNN }; /* gru_step; in two parts, r after the product or before it; rnn_cell */

static void run_gru(fbl_recurrent *s, int how, const float *matrix, const float *candidate, const float *bias)
{
    const ptrdiff_t gates = how == RNN ? 1 : how == GRU_BEFORE ? 2 : 3, padded = s->units_padded;
    if (how == GRU) {
        table->gru_step(s);
        return;
    }
    table->gemm(s->rows, s->units, gates * padded, s->h_tm1, padded, NULL, matrix, how == GRU_CELL ? bias : NULL, s->z,
                s->width);
    if (how == RNN) {
        table->rnn_cell(s);
        return;
    }
    table->gru_gates(s);
    if (how == GRU_BEFORE)
        table->gemm(s->rows, s->units, padded, s->reset, padded, NULL, candidate, NULL, s->z + 2 * padded, s->width);
    table->gru_cell(s);
}

static void test_gru(ptrdiff_t rows, ptrdiff_t units, int how, int backwards)
{
    const ptrdiff_t lanes = table->lanes, padded = rounded_up(units, lanes), given = rows + 2, stride = units + 5;
    const ptrdiff_t gates = how == RNN ? 1 : 3, width = gates * padded;
    const float none[3] = {0, 0, 0};
    float *recurrent = floats(units * gates * units, 1), *flat = floats(units * width, 0);
    float *candidate = floats(units * padded, 0), *blocks = floats(units * width, 0);
    float *proj = floats(given * width, 1), *bias = floats(width, 1), *h_tm1 = floats(rows * padded, 1);
    float *h = floats(rows * padded, 0), *out = floats((given - 1) * stride + units, 0), *z = floats(rows * width, 0);
    float *reset = floats(rows * padded, 0), *alone = floats(padded, 0);
    ptrdiff_t *index = malloc((size_t)rows * sizeof *index);
    for (ptrdiff_t r = 0; r < rows; r++)
        index[r] = given - 1 - r;
    const ptrdiff_t first = how == GRU_BEFORE ? 2 * padded : width;
    for (ptrdiff_t k = 0; k < units; k++)
        for (ptrdiff_t u = 0; u < padded; u++)
            for (ptrdiff_t gate = 0; gate < gates; gate++) {
                const float w = u < units ? recurrent[k * gates * units + gate * units + u] : 0;
                blocks[(u / lanes * units * gates + k * gates + gate) * lanes + u % lanes] = w;
                if (gate * padded < first)
                    flat[k * first + gate * padded + u] = w;
                else
                    candidate[k * padded + u] = w;
            }
    float *matrix = packed(flat, units, first), *second = packed(candidate, units, padded);
    fbl_recurrent s = {.rows = rows, .units = units, .units_padded = padded, .recurrent = blocks,
                       .recurrent_bias = bias + 2 * padded * (how == GRU), .proj = proj, .proj_index = index,
                       .width = width, .h_tm1 = h_tm1, .h = h, .out = out, .out_index = index, .out_stride = stride,
                       .merge = FBL_STORE, .backwards = backwards, .activation = FBL_TANH,
                       .recurrent_activation = FBL_SIGMOID, .activation_parameters = none,
                       .recurrent_activation_parameters = none, .z = z, .reset = how == GRU_BEFORE ? reset : NULL};
    run_gru(&s, how, matrix, second, bias);
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t u = 0; u < units; u++) {
            double x[3], product[3], y = 0;
            for (ptrdiff_t gate = 0; gate < gates; gate++) {
                const ptrdiff_t place = how == GRU ? (u / lanes * 3 + gate) * lanes + u % lanes : gate * padded + u;
                x[gate] = (double)proj[index[r] * width + place];
                /* In gru_step the projection holds the bias of z and r. */
                product[gate] = how == GRU_CELL || (how == GRU && gate == 2) ? (double)bias[gate * padded + u] : 0;
                for (ptrdiff_t k = 0; k < units; k++) {
                    double state = (double)h_tm1[r * padded + k];
                    if (how == GRU_BEFORE && gate == 2) {
                        double sum = (double)proj[index[r] * width + padded + k];
                        for (ptrdiff_t j = 0; j < units; j++)
                            sum += (double)h_tm1[r * padded + j] * (double)recurrent[j * 3 * units + units + k];
                        state *= sigmoid(sum);
                    }
                    product[gate] += state * (double)recurrent[k * gates * units + gate * units + u];
                }
            }
            if (how == RNN) {
                y = tanh(x[0] + product[0]);
            } else {
                const double update = sigmoid(x[0] + product[0]);
                const double again = how == GRU_BEFORE ? 1 : sigmoid(x[1] + product[1]);
                y = update * (double)h_tm1[r * padded + u] + (1 - update) * tanh(x[2] + again * product[2]);
            }
            check("gru h", units, (double)h[r * padded + u], y, 1e-6 * (double)(units + 4));
            check("gru out", units, (double)out[index[r] * stride + u], y, 1e-6 * (double)(units + 4));
        }
    /* In two pieces, not emitted. */
    for (ptrdiff_t cut = 0; how == GRU && cut <= padded / lanes; cut++) {
        float *h_cut = floats(rows * padded, 0);
        s.h = h_cut, s.out = NULL, s.blocks_before = cut, s.blocks_behind = 0;
        table->gru_step(&s);
        s.blocks_before = 0, s.blocks_behind = padded / lanes - cut;
        table->gru_step(&s);
        for (ptrdiff_t r = 0; r < rows; r++)
            check_bits("gru h in two pieces", units, h_cut + r * padded, h + r * padded, units);
        free(h_cut);
    }
    s.blocks_before = s.blocks_behind = 0;
    /* Each row alone, not emitted. */
    for (ptrdiff_t r = 0; r < rows; r++) {
        s.rows = 1, s.proj = proj + index[r] * width, s.proj_index = NULL, s.h_tm1 = h_tm1 + r * padded;
        s.h = alone, s.out = NULL, s.out_index = NULL, s.backwards = !backwards;
        run_gru(&s, how, matrix, second, bias);
        check_bits("gru h", units, alone, h + r * padded, units);
    }
    free(recurrent), free(flat), free(candidate), free(blocks), free(proj), free(bias), free(h_tm1), free(h), free(out);
    free(z), free(reset), free(alone), free(index), free(matrix), free(second);
}

static void test_transpose(ptrdiff_t rows, ptrdiff_t columns)
{
    const ptrdiff_t stride = columns + 3, to_stride = rows + 2;
    float *x = floats((rows - 1) * stride + columns, 1), *to = floats((columns - 1) * to_stride + rows, 0);
    table->transpose(rows, columns, x, stride, to, to_stride);
    for (ptrdiff_t c = 0; c < columns; c++)
        for (ptrdiff_t r = 0; r < (c < columns - 1 ? to_stride : rows); r++)
            check("transpose", columns, (double)to[c * to_stride + r],
                  r < rows ? (double)x[r * stride + c] : (double)NAN, 0);
    free(x), free(to);
}

static void test_activate(ptrdiff_t n)
{
    const float special[] = {NAN, INFINITY, -INFINITY, 0, -0.0f, 1e-40f, 88.5f, -103.5f, 1e-6f, 20, -20};
    const float p[3] = {0.5f, 0.25f, 0.125f};
    const double wide_p[3] = {0.5, 0.25, 0.125};
    for (int code = 0; code < FBL_ACTIVATION_COUNT; code++) {
        float *x = floats(n, 1), *before = floats(n, 1);
        double *expected = malloc((size_t)n * sizeof *expected);
        const int by_row = code == FBL_SOFTMAX || code == FBL_LOG_SOFTMAX || code == FBL_SPARSEMAX;
        for (ptrdiff_t k = 0; k < n; k++) {
            const int special_one = !by_row && code <= FBL_SIGMOID && k < (ptrdiff_t)(sizeof special / sizeof *special);
            before[k] = x[k] = special_one ? special[k] : 6 * x[k];
            expected[k] = (double)x[k];
        }
        table->activate(x, n, code, p);
        fbl_activate_f64(expected, n, code, wide_p);
        for (ptrdiff_t k = 0; k < n; k++) {
            double y = expected[k], floor = 1; /* formulas of the others cancel */
            if (code == FBL_TANH || code == FBL_SIGMOID || code == FBL_EXPONENTIAL) {
                floor = 1e-2;
                y = (code == FBL_TANH ? tanh : code == FBL_SIGMOID ? sigmoid : exp)((double)before[k]);
            }
            check("activate", code, (double)x[k], y, isinf(y) ? 1e-30 : 1e-6 * fmax(fabs(y), floor));
        }
        free(x), free(before), free(expected);
    }
}

static void test_softmax(ptrdiff_t rows, ptrdiff_t n, float scale)
{
    const ptrdiff_t stride = n + 3, size = (rows - 1) * stride + n;
    float *x = floats(size, 1), *before = floats(size, 1), *alone = floats(n, 1), *inverse = floats(rows, 1), own;
    for (ptrdiff_t k = 0; k < size; k++)
        before[k] = x[k] = 30 * x[k];
    table->softmax(x, rows, n, stride, scale, inverse);
    for (ptrdiff_t r = 0; r < rows; r++) {
        double top = -INFINITY, sum = 0;
        for (ptrdiff_t k = 0; k < n; k++)
            top = fmax(top, (double)scale * (double)before[r * stride + k]);
        for (ptrdiff_t k = 0; k < n; k++)
            sum += exp((double)scale * (double)before[r * stride + k] - top);
        for (ptrdiff_t k = 0; k < n; k++)
            check("softmax", n, (double)x[r * stride + k] * (double)inverse[r],
                  exp((double)scale * (double)before[r * stride + k] - top) / sum, 1e-5 / sqrt((double)n));
        for (ptrdiff_t k = n; r < rows - 1 && k < stride; k++)
            check("softmax, gap between rows", n, (double)x[r * stride + k], (double)before[r * stride + k], 1e-30);
        memcpy(alone, before + r * stride, (size_t)n * sizeof *alone);
        table->softmax(alone, 1, n, n, scale, &own);
        check_bits("softmax", n, alone, x + r * stride, n);
        check_bits("softmax, sum", n, &own, inverse + r, 1);
    }
    free(x), free(before), free(alone), free(inverse);
}

static void test_add_rows(ptrdiff_t rows, ptrdiff_t n)
{
    const ptrdiff_t stride = n + 2;
    float *weights = floats(rows, 1), *x = floats(rows > 0 ? (rows - 1) * stride + n : 0, 1);
    float *y = floats(n, 1), *before = floats(n, 1);
    memcpy(before, y, (size_t)n * sizeof *y);
    table->add_rows(rows, n, weights, x, stride, y);
    for (ptrdiff_t j = 0; j < n; j++) {
        double sum = (double)before[j];
        for (ptrdiff_t r = 0; r < rows; r++)
            sum += (double)weights[r] * (double)x[r * stride + j];
        check("add_rows", n, (double)y[j], sum, 1.2e-7 * (double)(rows + 2));
    }
    free(weights), free(x), free(y), free(before);
}

int main(void)
{
    const ptrdiff_t some_rows[] = {1, 2, 3, 5, 6, 7, 13, 97}, depths[] = {0, 1, 3, 17, 256, 259};
    const ptrdiff_t widths[] = {1, 3, 4, 5, 8, 15, 16, 17, 31, 33, 64, 65, 71, 133};
    const int n_rows = sizeof some_rows / sizeof *some_rows, n_widths = sizeof widths / sizeof *widths;
    long all_faults = 0;
    for (int t = 0; t < fbl_table_count; t++) {
        if (!fbl_usable(fbl_tables[t])) {
            printf("%s: does not run here\n", fbl_tables[t]->isa);
            continue;
        }
        table = fbl_tables[t], checks = faults = 0, worst = 0;
        for (int r = 0; r < n_rows; r++)
            for (int w = 0; w < n_widths; w++) {
                for (int d = 0; d < (int)(sizeof depths / sizeof *depths); d++)
                    if (some_rows[r] * widths[w] * depths[d] < 200000)
                        test_gemm(some_rows[r], depths[d], widths[w], (r + w + d) % 2, (w + d) % 3 > 0);
                if (some_rows[r] < 20 && widths[w] < 70)
                    for (int merge = FBL_STORE; merge <= FBL_AVERAGE; merge++)
                        for (int fused = 0; fused < 2; fused++)
                            test_lstm(some_rows[r], widths[w], fused, merge, (r + w + merge) % 2);
                if (some_rows[r] < 20 && widths[w] < 70)
                    for (int how = GRU; how <= RNN; how++)
                        test_gru(some_rows[r], widths[w], how, (r + w) % 2);
                test_transpose(some_rows[r], widths[w]);
                test_softmax(some_rows[r], widths[w], r % 2 ? 1.0f : 0.25f);
                test_add_rows(some_rows[r] - 1, widths[w]);
            }
        for (int w = 0; w < n_widths; w++)
            test_activate(widths[w]);
        printf("%s: %ld checks, %ld faults, largest error %.2f of what is allowed\n", table->isa, checks, faults, worst);
        all_faults += faults;
    }
    if (fbl_table_count == 0)
        printf("no kernels\n");
    return all_faults != 0;
}
