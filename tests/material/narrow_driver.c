/* The products of narrow weights of every kind that runs here, and convolutions in int8, against sums of whole numbers;
   test_cross_compilers.py compiles it, for other machines too, and runs it. Prints a line for each kind; exit code 1 if one is wrong.

   Each array has exactly the size it needs, so that AddressSanitizer sees what is read or written beside it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fbl_activations.h"
#include "fbl_windows.h"

static const fbl_narrow *kind;
static long checks, faults;
static unsigned long long state = 1;

static unsigned random_bits(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(state >> 40);
}

static float random_float(void) { return (float)random_bits() / (float)(1 << 23) - 1; }
static int random_code(void) { return random_bits() % 7 ? (int)(random_bits() % 255) - 127 : random_bits() % 2 ? 127 : -127; }

static void *room(ptrdiff_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, 64, bytes > 0 ? (size_t)bytes : 1) != 0)
        exit(2);
    return p;
}

static float *floats(ptrdiff_t n) { return room(n * (ptrdiff_t)sizeof(float)); }

static ptrdiff_t rounded_up(ptrdiff_t n, ptrdiff_t step) { return (n + step - 1) / step * step; }

static void check(const char *what, ptrdiff_t size, double got, double expected)
{
    checks++;
    if ((isnan(expected) ? !isnan(got) : !(fabs(got - expected) <= 1e-6 * (fabs(expected) + 1))) && faults++ < 10)
        printf("%s: %s (size %ld): %.9g, expected %.9g\n", kind->isa, what, (long)size, got, expected);
}

/* A row as whole numbers times the result / 127; NaN if a number is not finite. */
static double quantize(const float *x, ptrdiff_t n, int is_state, int *codes)
{
    float largest = 0;
    memset(codes, 0, (size_t)n * sizeof(int));
    for (ptrdiff_t k = 0; k < n; k++) {
        if (!isfinite(x[k]))
            return NAN;
        largest = fabsf(x[k]) > largest ? fabsf(x[k]) : largest;
    }
    if (is_state && largest <= FBL_LARGEST_STATE)
        largest = 1;
    const volatile float factor = 127 / largest;
    for (ptrdiff_t k = 0; k < n && largest > 0; k++) {
        const volatile float product = x[k] * factor;
        codes[k] = (int)rintf(product);
    }
    return (double)largest;
}

/* A kernel (depth, columns) in int8: its codes, and as the kernels read it. */
typedef struct {
    ptrdiff_t depth, columns;
    int *codes, *zeros;
    signed char *packed;
    float *scales, *bias;
} matrix;

static matrix random_matrix(ptrdiff_t depth, ptrdiff_t columns)
{
    const ptrdiff_t lanes = kind->table->lanes, wide = 4 * lanes, groups = (depth + 3) / 4;
    const ptrdiff_t padded = rounded_up(columns, lanes), all = rounded_up(columns, wide);
    const matrix m = {depth, columns, room(depth * columns * (ptrdiff_t)sizeof(int)), room(all * (ptrdiff_t)sizeof(int)),
                      room(groups * 4 * all), floats(all), floats(padded)};
    memset(m.packed, 0, (size_t)(groups * 4 * all));
    for (ptrdiff_t n = 0; n < all; n++) {
        m.scales[n] = n < columns ? (1.5f + random_float()) / 1000 : 0, m.zeros[n] = 0;
        for (ptrdiff_t k = 0; k < depth && n < columns; k++) {
            const int code = random_code();
            m.codes[k * columns + n] = code;
            m.packed[((n / wide * groups + k / 4) * wide + n % wide) * 4 + k % 4] = (signed char)code;
            m.zeros[n] -= kind->byte_of_zero * code;
        }
    }
    for (ptrdiff_t n = 0; n < padded; n++)
        m.bias[n] = random_float();
    return m;
}

static void free_matrix(const matrix *m) { free(m->codes), free(m->zeros), free(m->packed), free(m->scales), free(m->bias); }

/* Compares what a row (depth) gives. */
static void check_row(const char *what, const matrix *m, const float *x, int is_state, const float *y)
{
    int *row = room(m->depth * (ptrdiff_t)sizeof(int));
    const double largest = quantize(x, m->depth, is_state, row);
    for (ptrdiff_t n = 0; n < m->columns; n++) {
        double sum = 0;
        for (ptrdiff_t k = 0; k < m->depth; k++)
            sum += (double)row[k] * m->codes[k * m->columns + n];
        check(what, m->depth, (double)y[n], sum * (double)m->scales[n] * largest + (is_state ? 0 : (double)m->bias[n]));
    }
    free(row);
}

/* rows (given, depth) x (depth, columns), by gemm and, in pieces, by gemm_pieces; or, of states, as z of a SimpleRNN. */
static void test_products(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, int of_states)
{
    if (of_states)
        columns = depth;
    const ptrdiff_t padded = rounded_up(columns, kind->table->lanes);
    const ptrdiff_t lda = of_states ? padded : depth, ldc = of_states ? padded : columns;
    const matrix m = random_matrix(depth, columns);
    float *a = floats(rows * lda), *c = floats(rows * ldc);
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t k = 0; k < lda; k++)
            a[r * lda + k] = k >= depth ? NAN : r % 5 == 1 ? 3 * random_float() : r % 5 == 2 ? 0 : random_float();
    if (of_states) {
        const fbl_recurrent s = {.rows = rows, .units = depth, .units_padded = padded, .h_tm1 = a, .z = c,
                                 .narrow = m.packed, .scales = m.scales, .zeros = m.zeros, .width = padded,
                                 .columns = padded, .proj = a, .codes = room(rows * padded), .largest = floats(rows)};
        kind->multiply[FBL_INT8](&s);
        free(s.codes), free(s.largest);
    } else {
        const fbl_codes b = {m.packed, m.scales, m.zeros};
        float *again = floats(rows * ldc);
        ptrdiff_t *start = room(rows * (ptrdiff_t)sizeof *start);
        const ptrdiff_t cut = depth / 3, offset[2] = {0, cut}, length[2] = {cut, depth - cut};
        for (ptrdiff_t r = 0; r < rows; r++)
            start[r] = r * lda;
        kind->gemm(rows, depth, columns, a, lda, NULL, &b, m.bias, c, ldc);
        kind->gemm_pieces(rows, depth, columns, a, start, 2, offset, length, &b, m.bias, again, ldc);
        for (ptrdiff_t n = 0; n < rows * columns; n++)
            check("gemm_pieces", depth, (double)again[n], (double)c[n]);
        free(again), free(start);
    }
    for (ptrdiff_t r = 0; r < rows; r++)
        check_row(of_states ? "multiply" : "gemm", &m, a + r * lda, of_states, c + r * ldc);
    free_matrix(&m), free(a), free(c);
}

/* What window w of a group sees, as a row. */
static void see_window(const fbl_windows *at, const float *x, ptrdiff_t w, ptrdiff_t group, float *row)
{
    ptrdiff_t first[3];
    for (int axis = 2; axis >= 0; w /= at->count[axis--])
        first[axis] = w % at->count[axis] * at->stride[axis] - at->before[axis];
    for (ptrdiff_t a = 0; a < at->taps[0]; a++)
        for (ptrdiff_t b = 0; b < at->taps[1]; b++)
            for (ptrdiff_t c = 0; c < at->taps[2]; c++) {
                const ptrdiff_t p = first[0] + a * at->dilation[0], q = first[1] + b * at->dilation[1];
                const ptrdiff_t t = first[2] + c * at->dilation[2];
                const int inside = p >= 0 && p < at->size[0] && q >= 0 && q < at->size[1] && t >= 0 && t < at->size[2];
                const float *from = x + ((p * at->size[1] + q) * at->size[2] + t) * at->channels + group * at->used_channels;
                for (ptrdiff_t k = 0; k < at->used_channels; k++)
                    *row++ = inside ? from[k] : 0;
            }
}

/* A convolution of a sequence or an image of one odd size, in blocks of lines. */
static void test_convolution(ptrdiff_t channels, ptrdiff_t filters, ptrdiff_t groups, const ptrdiff_t size[3],
                             const ptrdiff_t taps[3], ptrdiff_t stride, ptrdiff_t dilation, ptrdiff_t before)
{
    fbl_convolution s = {.table = kind->table, .narrow = kind, .groups = groups, .filters = filters, .code = FBL_LINEAR};
    ptrdiff_t windows = 1, positions = 1;
    s.at.channels = channels, s.at.used_channels = channels / groups, s.depth = s.at.used_channels;
    for (int axis = 0; axis < 3; axis++) {
        const int there = size[axis] > 1;
        s.at.size[axis] = size[axis], s.at.taps[axis] = taps[axis], s.at.stride[axis] = there ? stride : 1;
        s.at.dilation[axis] = there ? dilation : 1, s.at.before[axis] = there ? before : 0;
        const ptrdiff_t span = (taps[axis] - 1) * s.at.dilation[axis] + 1;
        s.at.count[axis] = (size[axis] + 2 * s.at.before[axis] - span) / s.at.stride[axis] + 1;
        windows *= s.at.count[axis], positions *= size[axis], s.depth *= taps[axis];
    }
    const ptrdiff_t width = groups * filters;
    float *x = floats(positions * channels), *y = floats(windows * width), *row = floats(s.depth);
    for (ptrdiff_t k = 0; k < positions * channels; k++)
        x[k] = random_float() * (k % 1009 == 1008 ? 5 : 1);
    x[positions * channels / 2] = positions % 3 == 2 ? INFINITY : 0; /* some windows see it, others do not */
    matrix m[3];
    fbl_codes codes[3];
    const float *bias[3];
    for (ptrdiff_t g = 0; g < groups; g++) {
        m[g] = random_matrix(s.depth, filters);
        codes[g] = (fbl_codes){m[g].packed, m[g].scales, m[g].zeros};
        bias[g] = m[g].bias;
    }
    s.codes = codes, s.bias = bias;
    fbl_plan_convolution(&s);
    float *scratch = floats(fbl_convolution_scratch(&s));
    const ptrdiff_t lines = s.at.count[s.axis], line = windows / lines * width;
    for (ptrdiff_t first = 0; first < lines; first += s.lines) {
        const ptrdiff_t stop = first + s.lines < lines ? first + s.lines : lines;
        fbl_convolve_lines(&s, x, first, stop, y + first * line, scratch);
    }
    for (ptrdiff_t w = 0; w < windows; w++)
        for (ptrdiff_t g = 0; g < groups; g++) {
            see_window(&s.at, x, w, g, row);
            check_row("convolution", &m[g], row, 0, y + w * width + g * filters);
        }
    for (ptrdiff_t g = 0; g < groups; g++)
        free_matrix(&m[g]);
    free(x), free(y), free(row), free(scratch);
}

static void test_convolutions(void)
{
    const ptrdiff_t sequence[3] = {1, 1, 107}, image[3] = {1, 9, 14}, solid[3] = {5, 4, 6};
    const ptrdiff_t of_sequence[3] = {1, 1, 3}, of_image[3] = {1, 3, 3}, of_solid[3] = {2, 2, 3};
    const ptrdiff_t channels[] = {3, 12, 33, 300};
    for (int c = 0; c < 4; c++)
        for (int before = 0; before < 4; before += 2)
            for (int kind_of_steps = 0; kind_of_steps < 3; kind_of_steps++) {
                const ptrdiff_t stride = kind_of_steps == 1 ? 2 : 1, dilation = kind_of_steps == 2 ? 2 : 1;
                const ptrdiff_t groups = channels[c] % 2 ? 1 : 3, filters = before ? 17 : 64;
                test_convolution(channels[c], filters, groups, sequence, of_sequence, stride, dilation, before);
                test_convolution(channels[c], filters, groups, image, of_image, stride, dilation, before);
                test_convolution(channels[c], filters, groups, solid, of_solid, stride, dilation, before);
            }
}

int main(void)
{
    const ptrdiff_t some_rows[] = {1, 2, 3, 5, 6, 7, 13, 97}, depths[] = {1, 3, 4, 17, 64, 256, 1029};
    const ptrdiff_t widths[] = {1, 4, 15, 17, 64, 71};
    long all_faults = 0;
    for (int t = 0; t < fbl_narrow_table_count; t++) {
        kind = fbl_narrow_tables[t];
        if (!fbl_narrow_usable(kind)) {
            printf("%s: does not run here\n", kind->isa);
            continue;
        }
        checks = faults = 0;
        for (int r = 0; r < 8; r++)
            for (int d = 0; d < 7; d++) {
                for (int w = 0; w < 6; w++)
                    test_products(some_rows[r], depths[d], widths[w], 0);
                if (depths[d] < 257)
                    test_products(some_rows[r], depths[d], 0, 1);
            }
        test_convolutions();
        printf("%s: %ld checks, %ld faults\n", kind->isa, checks, faults);
        all_faults += faults;
    }
    if (fbl_narrow_table_count == 0)
        printf("no kernels\n");
    return all_faults != 0;
}
