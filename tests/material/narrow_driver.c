/* The products of narrow weights of every kind that runs here against sums of whole numbers; test_cross_compilers.py
   compiles it, for other machines too, and runs it. Prints a line for each kind; exit code 1 if one is wrong.

   Each array has exactly the size it needs, so that AddressSanitizer sees what is read or written beside it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fbl_narrow.h"

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
    if (!(fabs(got - expected) <= 1e-6 * (fabs(expected) + 1)) && faults++ < 10)
        printf("%s: %s (size %ld): %.9g, expected %.9g\n", kind->isa, what, (long)size, got, expected);
}

/* A row as whole numbers times the result / 127. */
static double quantize(const float *x, ptrdiff_t n, int is_state, int *codes)
{
    float largest = 0;
    for (ptrdiff_t k = 0; k < n; k++)
        largest = fabsf(x[k]) > largest ? fabsf(x[k]) : largest;
    if (is_state && largest <= FBL_LARGEST_STATE)
        largest = 1;
    const volatile float factor = 127 / largest;
    for (ptrdiff_t k = 0; k < n; k++) {
        const volatile float product = largest > 0 ? x[k] * factor : 0;
        codes[k] = (int)rintf(product);
    }
    return (double)largest;
}

/* rows (given, depth) x (depth, columns), by gemm and, in pieces, by gemm_pieces; or, of states, as z of a SimpleRNN. */
static void test_products(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, int of_states)
{
    const ptrdiff_t lanes = kind->table->lanes, wide = 4 * lanes, groups = (depth + 3) / 4;
    if (of_states)
        columns = depth;
    const ptrdiff_t padded = rounded_up(columns, lanes), all = rounded_up(columns, wide);
    const ptrdiff_t lda = of_states ? padded : depth, ldc = of_states ? padded : columns;
    int *codes = calloc((size_t)(depth * columns) + 1, sizeof(int)), *row = room(depth * (ptrdiff_t)sizeof(int));
    signed char *packed = room(groups * 4 * all);
    float *scales = floats(all), *bias = floats(padded), *a = floats(rows * lda), *c = floats(rows * ldc);
    int *zeros = room(all * (ptrdiff_t)sizeof(int));
    memset(packed, 0, (size_t)(groups * 4 * all));
    for (ptrdiff_t n = 0; n < all; n++) {
        scales[n] = n < columns ? (1.5f + random_float()) / 1000 : 0, zeros[n] = 0;
        for (ptrdiff_t k = 0; k < depth && n < columns; k++) {
            const int code = random_code();
            codes[k * columns + n] = code;
            packed[((n / wide * groups + k / 4) * wide + n % wide) * 4 + k % 4] = (signed char)code;
            zeros[n] -= kind->byte_of_zero * code;
        }
    }
    for (ptrdiff_t n = 0; n < padded; n++)
        bias[n] = random_float();
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t k = 0; k < lda; k++)
            a[r * lda + k] = k >= depth ? NAN : r % 5 == 1 ? 3 * random_float() : r % 5 == 2 ? 0 : random_float();
    if (of_states) {
        const fbl_recurrent s = {.rows = rows, .units = depth, .units_padded = padded, .h_tm1 = a, .z = c, .narrow = packed,
                                 .scales = scales, .zeros = zeros, .width = padded, .columns = padded, .proj = a,
                                 .codes = room(rows * padded), .largest = floats(rows)};
        kind->multiply[FBL_INT8](&s);
        free(s.codes), free(s.largest);
    } else {
        const fbl_codes b = {packed, scales, zeros};
        float *again = floats(rows * ldc);
        ptrdiff_t *start = room(rows * (ptrdiff_t)sizeof *start);
        const ptrdiff_t cut = depth / 3, offset[2] = {0, cut}, length[2] = {cut, depth - cut};
        for (ptrdiff_t r = 0; r < rows; r++)
            start[r] = r * lda;
        kind->gemm(rows, depth, columns, a, lda, NULL, &b, bias, c, ldc);
        kind->gemm_pieces(rows, depth, columns, a, start, 2, offset, length, &b, bias, again, ldc);
        for (ptrdiff_t n = 0; n < rows * columns; n++)
            check("gemm_pieces", depth, (double)again[n], (double)c[n]);
        free(again), free(start);
    }
    for (ptrdiff_t r = 0; r < rows; r++) {
        const double largest = quantize(a + r * lda, depth, of_states, row);
        for (ptrdiff_t n = 0; n < columns; n++) {
            double sum = 0;
            for (ptrdiff_t k = 0; k < depth; k++)
                sum += (double)row[k] * codes[k * columns + n];
            check(of_states ? "multiply" : "gemm", depth, (double)c[r * ldc + n],
                  sum * (double)scales[n] * largest + (of_states ? 0 : (double)bias[n]));
        }
    }
    free(codes), free(row), free(packed), free(scales), free(bias), free(a), free(c), free(zeros);
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
        printf("%s: %ld checks, %ld faults\n", kind->isa, checks, faults);
        all_faults += faults;
    }
    if (fbl_narrow_table_count == 0)
        printf("no kernels\n");
    return all_faults != 0;
}
