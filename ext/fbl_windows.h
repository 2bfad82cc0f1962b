/* Windows that slide over a sequence or an image: gathered for a matrix product, or pooled.

   One row x (size[0], size[1], size[2], channels), channels last, up to three spatial axes, the innermost one last; an axis
   that is not there has size, count, taps, stride and dilation 1 and before 0. Window w, counted row-major over `count`,
   sees along each axis the positions w * stride - before + tap * dilation; what lies outside of x counts as nothing.
   Nothing is allocated or checked; written arrays overlap no other array. Each window is computed by itself. */
#ifndef FBL_WINDOWS_H
#define FBL_WINDOWS_H

#include "fbl_kernels.h"

typedef struct {
    ptrdiff_t size[3], count[3], taps[3], stride[3], dilation[3], before[3];
    ptrdiff_t channels, first_channel, used_channels; /* of x; those of a group */
} fbl_windows;

/* panel (n, taps[0] * taps[1] * taps[2] * used_channels): what windows first to first + n see, zeros outside of x. */
void fbl_gather_windows(const fbl_windows *at, const float *x, ptrdiff_t first, ptrdiff_t n, float *panel);

/* y (n, channels): of windows first to first + n the mean, or the largest number that is no NaN (-FLT_MAX if none is). */
void fbl_pool_windows(const fbl_kernels *table, const fbl_windows *at, const float *x, ptrdiff_t first, ptrdiff_t n,
                      int mean, float *y);

#endif
