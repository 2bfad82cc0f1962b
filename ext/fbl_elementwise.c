/* Elements by themselves, copies by strides, and an axis reduced; contract: fbl_elementwise.h. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "fbl_elementwise.h"

typedef unsigned char bool8;

/* ---- one line of each operation: loops of their own where an operand follows element by element or stays ---- */

#define EACH(A, B, C)                                                                                                  \
    for (ptrdiff_t k = 0; k < n; k++) {                                                                                \
        A;                                                                                                             \
        B;                                                                                                             \
        C;                                                                                                             \
    }

#define UNARY(NAME, TA, TY, VALUE)                                                                                     \
    static void NAME(ptrdiff_t n, const void *const *x, const ptrdiff_t *step, void *out)                              \
    {                                                                                                                  \
        const TA *p = (const TA *)x[0];                                                                                \
        const ptrdiff_t s = step[0];                                                                                   \
        TY *y = (TY *)out;                                                                                             \
        if (s == 1)                                                                                                    \
            EACH(const TA a = p[k], (void)0, y[k] = (TY)(VALUE))                                                       \
        else                                                                                                           \
            EACH(const TA a = p[k * s], (void)0, y[k] = (TY)(VALUE))                                                   \
    }

#define BINARY(NAME, TA, TB, TY, VALUE)                                                                                \
    static void NAME(ptrdiff_t n, const void *const *x, const ptrdiff_t *step, void *out)                              \
    {                                                                                                                  \
        const TA *p = (const TA *)x[0];                                                                                \
        const TB *q = (const TB *)x[1];                                                                                \
        const ptrdiff_t s = step[0], t = step[1];                                                                      \
        TY *y = (TY *)out;                                                                                             \
        if (s == 1 && t == 1) {                                                                                        \
            EACH(const TA a = p[k], const TB b = q[k], y[k] = (TY)(VALUE))                                             \
        } else if (s == 1 && t == 0) {                                                                                 \
            const TB b = *q;                                                                                           \
            EACH(const TA a = p[k], (void)0, y[k] = (TY)(VALUE))                                                       \
        } else if (s == 0 && t == 1) {                                                                                 \
            const TA a = *p;                                                                                           \
            EACH(const TB b = q[k], (void)0, y[k] = (TY)(VALUE))                                                       \
        } else                                                                                                         \
            EACH(const TA a = p[k * s], const TB b = q[k * t], y[k] = (TY)(VALUE))                                     \
    }

#define TERNARY(NAME, TA, TB, TC, TY, VALUE)                                                                           \
    static void NAME(ptrdiff_t n, const void *const *x, const ptrdiff_t *step, void *out)                              \
    {                                                                                                                  \
        const TA *p = (const TA *)x[0];                                                                                \
        const TB *q = (const TB *)x[1];                                                                                \
        const TC *r = (const TC *)x[2];                                                                                \
        const ptrdiff_t s = step[0], t = step[1], u = step[2];                                                         \
        TY *y = (TY *)out;                                                                                             \
        if (s == 1 && t == 1 && u == 1) {                                                                              \
            EACH(const TA a = p[k], const TB b = q[k]; const TC c = r[k], y[k] = (TY)(VALUE))                          \
        } else if (s == 1 && t == 0 && u == 0) {                                                                       \
            const TB b = *q;                                                                                           \
            const TC c = *r;                                                                                           \
            EACH(const TA a = p[k], (void)0, y[k] = (TY)(VALUE))                                                       \
        } else if (s == 0 && t == 1 && u == 0) {                                                                       \
            const TA a = *p;                                                                                           \
            const TC c = *r;                                                                                           \
            EACH(const TB b = q[k], (void)0, y[k] = (TY)(VALUE))                                                       \
        } else                                                                                                         \
            EACH(const TA a = p[k * s], const TB b = q[k * t]; const TC c = r[k * u], y[k] = (TY)(VALUE))              \
    }

/* In `larger` and `smaller` NaN wins, as in NumPy. */
BINARY(add, float, float, float, a + b)
BINARY(subtract, float, float, float, a - b)
BINARY(multiply, float, float, float, a *b)
BINARY(divide, float, float, float, a / b)
BINARY(larger, float, float, float, a >= b || a != a ? a : b)
BINARY(smaller, float, float, float, a <= b || a != a ? a : b)
BINARY(square_of_difference, float, float, float, (a - b) * (a - b))
BINARY(slope_below, float, float, float, (a > 0 || a != a ? a : 0) - b * (a < 0 || a != a ? -a : 0))
BINARY(above, float, float, float, a *(float)(a > b))
BINARY(divide_or_zero, float, float, float, b == 0 ? 0 : a / b)
TERNARY(scale_and_add, float, float, float, float, a *b + c)
/* A mask times numbers: what is left out becomes 0, NaN and inf become NaN. */
BINARY(keep, float, bool8, float, a *(float)b)
BINARY(lower, float, bool8, float, a + (1 - (float)b) * -1e9f)
TERNARY(where, bool8, float, float, float, a ? b : c)

UNARY(negative, float, float, -a)
UNARY(absolute, float, float, fabsf(a))
UNARY(square, float, float, a *a)
UNARY(square_root, float, float, sqrtf(a))
UNARY(inverse_root, float, float, 1 / sqrtf(a))
UNARY(inverse, float, float, 1 / a)
UNARY(round_down, float, float, floorf(a))
UNARY(round_up, float, float, ceilf(a))
UNARY(copy_sign, float, float, a > 0 ? 1 : a < 0 ? -1 : a)

#define COMPARISONS(SUFFIX, T)                                                                                         \
    BINARY(equal_##SUFFIX, T, T, bool8, a == b)                                                                        \
    BINARY(not_equal_##SUFFIX, T, T, bool8, a != b)                                                                    \
    BINARY(less_##SUFFIX, T, T, bool8, a < b)                                                                          \
    BINARY(less_equal_##SUFFIX, T, T, bool8, a <= b)                                                                   \
    BINARY(greater_##SUFFIX, T, T, bool8, a > b)                                                                       \
    BINARY(greater_equal_##SUFFIX, T, T, bool8, a >= b)
COMPARISONS(f, float)
COMPARISONS(i, int32_t)
BINARY(not_equal_l, int64_t, int64_t, bool8, a != b)

BINARY(both, bool8, bool8, bool8, a &b)
BINARY(either, bool8, bool8, bool8, a | b)
BINARY(one_alone, bool8, bool8, bool8, a ^ b)
UNARY(not, bool8, bool8, !a)
UNARY(bool_to_float, bool8, float, a)
UNARY(int_to_float, int32_t, float, a)

#define COMPARED(SUFFIX, TYPES)                                                                                        \
    {"equal", TYPES, equal_##SUFFIX}, {"not_equal", TYPES, not_equal_##SUFFIX}, {"less", TYPES, less_##SUFFIX},        \
        {"less_equal", TYPES, less_equal_##SUFFIX}, {"greater", TYPES, greater_##SUFFIX},                              \
        {"greater_equal", TYPES, greater_equal_##SUFFIX}

const fbl_operation fbl_operations[] = {
    {"add", "fff", add},
    {"subtract", "fff", subtract},
    {"multiply", "fff", multiply},
    {"divide", "fff", divide},
    {"maximum", "fff", larger},
    {"minimum", "fff", smaller},
    {"squared_difference", "fff", square_of_difference},
    {"prelu", "fff", slope_below},
    {"above", "fff", above},
    {"divide_no_nan", "fff", divide_or_zero},
    {"multiply_add", "ffff", scale_and_add},
    {"multiply", "f?f", keep},
    {"lower", "f?f", lower},
    {"where", "?fff", where},
    {"negative", "ff", negative},
    {"absolute", "ff", absolute},
    {"square", "ff", square},
    {"sqrt", "ff", square_root},
    {"rsqrt", "ff", inverse_root},
    {"reciprocal", "ff", inverse},
    {"floor", "ff", round_down},
    {"ceil", "ff", round_up},
    {"sign", "ff", copy_sign},
    COMPARED(f, "ff?"),
    COMPARED(i, "ii?"),
    {"not_equal", "ll?", not_equal_l},
    {"logical_and", "???", both},
    {"logical_or", "???", either},
    {"logical_xor", "???", one_alone},
    {"logical_not", "??", not},
    {"cast", "?f", bool_to_float},
    {"cast", "if", int_to_float},
    {NULL, NULL, NULL},
};

/* ---- lines of several axes ---- */

/* The places of line `line` along the first `axes` axes. */
static void place(int axes, const ptrdiff_t *size, ptrdiff_t line, ptrdiff_t *at)
{
    for (int k = axes - 1; k >= 0; k--) {
        at[k] = line % size[k];
        line /= size[k];
    }
}

static ptrdiff_t offset(int axes, const ptrdiff_t *step, const ptrdiff_t *at)
{
    ptrdiff_t sum = 0;
    for (int k = 0; k < axes; k++)
        sum += step[k] * at[k];
    return sum;
}

/* The next line. */
static void advance(int axes, const ptrdiff_t *size, ptrdiff_t *at)
{
    for (int k = axes - 1; k >= 0; k--) {
        if (++at[k] < size[k])
            return;
        at[k] = 0;
    }
}

void fbl_run_each(const fbl_each *e, ptrdiff_t first, ptrdiff_t last)
{
    const int outer = e->axes - 1;
    const ptrdiff_t n = e->size[outer], width = n * e->width[FBL_OPERANDS];
    ptrdiff_t at[FBL_AXES], step[FBL_OPERANDS] = {0}, next[FBL_OPERANDS] = {0};
    char *y = e->y + first * width;
    place(outer, e->size, first, at);
    for (int k = 0; k < e->operands; k++) {
        step[k] = e->step[k][outer];
        next[k] = outer ? e->step[k][outer - 1] * e->width[k] : 0;
    }
    /* Lines along the last but one axis follow each other by a step. */
    for (ptrdiff_t line = first; line < last;) {
        const ptrdiff_t rest = outer ? e->size[outer - 1] - at[outer - 1] : 1;
        const ptrdiff_t stop = last - line < rest ? last : line + rest;
        const void *x[FBL_OPERANDS] = {NULL};
        for (int k = 0; k < e->operands; k++)
            x[k] = e->x[k] + offset(outer, e->step[k], at) * e->width[k];
        if (outer)
            at[outer - 1] += stop - line - 1;
        for (; line < stop; line++, y += width) {
            e->loop(n, x, step, y);
            for (int k = 0; k < e->operands; k++)
                x[k] = (const char *)x[k] + next[k];
        }
        advance(outer, e->size, at);
    }
}

#define COPY_LINE(T)                                                                                                   \
    for (ptrdiff_t k = 0; k < n; k++)                                                                                  \
        *(T *)(y + k * to) = *(const T *)(x + k * from);                                                               \
    break

static void copy_line(ptrdiff_t n, ptrdiff_t width, const char *x, ptrdiff_t from, char *y, ptrdiff_t to)
{
    if (from == width && to == width) {
        memcpy(y, x, (size_t)(n * width));
        return;
    }
    switch (width) {
    case 1: COPY_LINE(uint8_t);
    case 4: COPY_LINE(uint32_t);
    case 8: COPY_LINE(uint64_t);
    default:
        for (ptrdiff_t k = 0; k < n; k++)
            memcpy(y + k * to, x + k * from, (size_t)width);
    }
}

void fbl_run_copy(const fbl_copy *c, ptrdiff_t first, ptrdiff_t last)
{
    const int outer = c->axes - (c->table ? 2 : 1), line_axis = c->axes - 1;
    const ptrdiff_t n = c->size[line_axis], from = c->from[line_axis], to = c->to[line_axis];
    ptrdiff_t at[FBL_AXES];
    place(outer, c->size, first, at);
    for (ptrdiff_t line = first; line < last; line++) {
        const char *x = c->x + offset(outer, c->from, at);
        char *y = c->y + offset(outer, c->to, at);
        if (c->table)
            c->table->transpose(n, c->size[outer], (const float *)(const void *)x, from / c->width,
                                (float *)(void *)y, c->to[outer] / c->width);
        else
            copy_line(n, c->width, x, from, y, to);
        advance(outer, c->size, at);
    }
}

/* ---- reductions ---- */

enum { BLOCK = 32 };

/* One number for each of `width` columns, BLOCK at most, over the rows that are kept. */
static ptrdiff_t sum_rows(ptrdiff_t n, ptrdiff_t inner, ptrdiff_t width, const float *x, const unsigned char *keep,
                          double *sums)
{
    ptrdiff_t count = 0;
    for (ptrdiff_t k = 0; k < width; k++)
        sums[k] = 0;
    for (ptrdiff_t r = 0; r < n; r++, x += inner) {
        if (keep && !keep[r])
            continue;
        count++;
        if (width == BLOCK)
            for (ptrdiff_t k = 0; k < BLOCK; k++)
                sums[k] += (double)x[k];
        else
            for (ptrdiff_t k = 0; k < width; k++)
                sums[k] += (double)x[k];
    }
    return count;
}

/* The sum of n numbers that follow each other: one for each of 16 places, added at the end. */
static double sum_line(ptrdiff_t n, const float *x)
{
    double sums[16] = {0}, total = 0;
    ptrdiff_t k = 0;
    for (; k + 16 <= n; k += 16)
        for (int j = 0; j < 16; j++)
            sums[j] += (double)x[k + j];
    for (int j = 0; k + j < n; j++)
        sums[j] += (double)x[k + j];
    for (int j = 0; j < 16; j++)
        total += sums[j];
    return total;
}

static void extreme(int op, ptrdiff_t n, ptrdiff_t inner, const float *x, const unsigned char *keep, float *y)
{
    const fbl_loop choose = op == FBL_MAX ? larger : smaller;
    static const ptrdiff_t follow[FBL_OPERANDS] = {1, 1, 1};
    for (ptrdiff_t k = 0; k < inner; k++)
        y[k] = op == FBL_MAX ? -INFINITY : INFINITY;
    if (inner == 1) {
        for (ptrdiff_t r = 0; r < n; r++)
            if (!keep || keep[r])
                y[0] = (op == FBL_MAX ? x[r] > y[0] : x[r] < y[0]) || x[r] != x[r] ? x[r] : y[0];
        return;
    }
    for (ptrdiff_t r = 0; r < n; r++, x += inner) {
        const void *both_rows[FBL_OPERANDS] = {y, x, NULL};
        if (!keep || keep[r])
            choose(inner, both_rows, follow, y);
    }
}

void fbl_reduce_floats(int op, ptrdiff_t n, ptrdiff_t inner, const float *x, const unsigned char *keep, float *y)
{
    double sums[BLOCK];
    if (op == FBL_MAX || op == FBL_MIN) {
        extreme(op, n, inner, x, keep, y);
        return;
    }
    for (ptrdiff_t k = 0; k < inner; k += BLOCK) {
        const ptrdiff_t width = inner - k < BLOCK ? inner - k : BLOCK;
        ptrdiff_t count = n;
        if (inner == 1 && !keep)
            sums[0] = sum_line(n, x);
        else
            count = sum_rows(n, inner, width, x + k, keep, sums);
        for (ptrdiff_t j = 0; j < width; j++)
            y[k + j] = (float)(op == FBL_MEAN ? sums[j] / (double)count : sums[j]);
    }
}

void fbl_reduce_bools(int op, ptrdiff_t n, ptrdiff_t inner, const unsigned char *x, unsigned char *y)
{
    if (inner == 1) {
        y[0] = op == FBL_ALL ? n == 0 || !memchr(x, 0, (size_t)n) : n > 0 && memchr(x, 1, (size_t)n);
        return;
    }
    for (ptrdiff_t k = 0; k < inner; k++)
        y[k] = op == FBL_ALL;
    for (ptrdiff_t r = 0; r < n; r++, x += inner)
        for (ptrdiff_t k = 0; k < inner; k++)
            y[k] = op == FBL_ALL ? y[k] & x[k] : y[k] | x[k];
}
