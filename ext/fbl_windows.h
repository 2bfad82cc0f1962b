/* Windows that slide over a sequence or an image: gathered for a matrix product, or pooled.

   One row x (size[0], size[1], size[2], channels), channels last, up to three spatial axes, the innermost one last; an axis
   that is not there has size, count, taps, stride and dilation 1 and before 0. Window w, counted row-major over `count`,
   sees along each axis the positions w * stride - before + tap * dilation; what lies outside of x counts as nothing.
   Nothing is allocated or checked; written arrays overlap no other array. Each window is computed by itself. */
#ifndef FBL_WINDOWS_H
#define FBL_WINDOWS_H

#include "fbl_narrow.h"

typedef struct {
    ptrdiff_t size[3], count[3], taps[3], stride[3], dilation[3], before[3];
    ptrdiff_t channels, used_channels; /* of x; those of a group */
} fbl_windows;

/* A convolution, and the pooling after it where `pooled`. A line is what has one place along `axis`, the outermost axis
   that is there: a timestep, or a line of an image. */
typedef struct {
    const fbl_kernels *table;
    fbl_windows at, pool; /* pool: windows beside each other over what the convolution gives, before[] 0 */
    int axis, pooled, mean, code, by_row; /* code of the activation; by_row: it is one of a whole row of channels */
    int whole; /* the pooling is the largest number of all windows (one axis), NaN if one is NaN */
    ptrdiff_t groups, depth, filters;     /* depth and filters of a group */
    ptrdiff_t lines;                      /* lines of the result computed together, whose windows stay in a cache */
    const float *const *packed, *const *bias; /* of each group, as gemm reads them */
    const fbl_narrow *narrow;             /* NULL, or the kernels for `codes`, of each group, in place of `packed` */
    const fbl_codes *codes;
    const float *parameters;              /* of the activation */

    /* NULL, or 16 packed matrices (C, F), for 3 x 3 taps, strides and dilation 1, one group: element p = 4 i + j of GgG',
       g the taps of a channel and a filter; see winograd_in. */
    const float *const *winograd;

    /* Of token ids (one axis, one group), where `rows` is not NULL: what a token adds to each tap, (V, taps * filters), or,
       with embedded = E > 0, its embedding (V, E), of which packed[0] (E, taps * filters) makes that. */
    const float *rows;
    ptrdiff_t embedded;
} fbl_convolution;

/* Sets axis and lines; all else is given. */
void fbl_plan_convolution(fbl_convolution *s);

/* Floats that fbl_convolve_lines needs to work in, aligned to 8 bytes. */
ptrdiff_t fbl_convolution_scratch(const fbl_convolution *s);

/* Lines first to stop (at most `lines` of them) of what one row x, of floats or int32 token ids, gives; y is the place of
   line `first`. */
void fbl_convolve_lines(const fbl_convolution *s, const void *x, ptrdiff_t first, ptrdiff_t stop, float *y,
                        float *scratch);

/* y (n, channels): of windows first to first + n the mean, or the largest number that is no NaN (-FLT_MAX if none is). */
void fbl_pool_windows(const fbl_kernels *table, const fbl_windows *at, const float *x, ptrdiff_t first, ptrdiff_t n,
                      int mean, float *y);

/* Each channel by itself: y (n, channels) = bias + sum over taps of weights (taps, channels) times what windows first to
   first + n see. bias (channels) or NULL. */
void fbl_weigh_windows(const fbl_kernels *table, const fbl_windows *at, const float *weights, const float *bias,
                       const float *x, ptrdiff_t first, ptrdiff_t n, float *y);

/* The opposite of gathering: what `panel` (n, taps, channels) holds for windows first to first + n is added to y, a row
   of the sizes of `at`; what lies outside of y is left out. */
void fbl_scatter_windows(const fbl_windows *at, const float *panel, ptrdiff_t first, ptrdiff_t n, float *y);

#endif
