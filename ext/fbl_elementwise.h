/* Elements by themselves, copies by strides, and an axis reduced: what stands between the products of a net.

   One body for every machine: compilers make vector code of these loops, and no sum of floats depends on its width, so
   each instruction set gives the same bits. Nothing is allocated or checked; a written array overlaps no other one. Each
   element is computed by itself, so that a row's result does not depend on the number of rows or on its place. */
#ifndef FBL_ELEMENTWISE_H
#define FBL_ELEMENTWISE_H

#include "fbl_kernels.h"

enum { FBL_AXES = 8, FBL_OPERANDS = 3 };

/* y[k] = f(x[0][k * step[0]], ...) for k < n; a step is 0 or more elements. */
typedef void (*fbl_loop)(ptrdiff_t n, const void *const *x, const ptrdiff_t *step, void *y);

/* `types`: one letter for each operand and one for the result: f float, i int32, l int64, ? one byte that is 0 or 1. */
typedef struct {
    const char *name, *types;
    fbl_loop loop;
} fbl_operation;

/* All of them; the last one has no name. */
extern const fbl_operation fbl_operations[];

/* An operation over `axes` axes. Operands are broadcast by steps of 0, in elements; the result is contiguous. */
typedef struct {
    fbl_loop loop;
    int axes, operands;
    ptrdiff_t size[FBL_AXES], step[FBL_OPERANDS][FBL_AXES], width[FBL_OPERANDS + 1]; /* bytes of an element */
    const char *x[FBL_OPERANDS];
    char *y;
} fbl_each;

/* Lines first to last of the result: a line is what the last axis holds. */
void fbl_run_each(const fbl_each *e, ptrdiff_t first, ptrdiff_t last);

/* y[...] = x[...] over `axes` axes, steps in bytes; `table` if the last two axes are to be transposed floats: those of
   the last axis follow each other in y, those of the last but one in x. */
typedef struct {
    const fbl_kernels *table;
    int axes;
    ptrdiff_t size[FBL_AXES], from[FBL_AXES], to[FBL_AXES], width;
    const char *x;
    char *y;
} fbl_copy;

/* Lines first to last, as above; with `table` a line is what the last two axes hold. */
void fbl_run_copy(const fbl_copy *c, ptrdiff_t first, ptrdiff_t last);

enum { FBL_SUM = 0, FBL_MEAN = 1, FBL_MAX = 2, FBL_MIN = 3, FBL_ANY = 4, FBL_ALL = 5 };

/* x (n, inner) -> y (inner) over the n rows that `keep` (n bytes, or NULL: all) does not leave out. Sums are made in
   double and rounded once; a mean of no row is NaN; NaN is larger and smaller than all numbers. */
void fbl_reduce_floats(int op, ptrdiff_t n, ptrdiff_t inner, const float *x, const unsigned char *keep, float *y);

/* The same for bytes that are 0 or 1: FBL_ANY, FBL_ALL. */
void fbl_reduce_bools(int op, ptrdiff_t n, ptrdiff_t inner, const unsigned char *x, unsigned char *y);

#endif
