/* What the BLAS backend does with a row of units, compiled for several instruction sets: a table of functions for each.

   Elsewhere than on x86-64 with GCC or Clang there is one table, "base", in whatever vectors the compiler makes of it. */
#ifndef FBL_CELL_H
#define FBL_CELL_H

#include <stddef.h>

typedef struct {
    const char *isa; /* "base", "avx2" (with FMA), "avx512" (F, DQ, VL) */

    /* x = activation(x) over a row of n units, as in fbl_activations.h; p holds 3 parameters. */
    void (*activate_f32)(float *x, ptrdiff_t n, int code, const float *p);
    void (*activate_f64)(double *x, ptrdiff_t n, int code, const double *p);

    /* One row of an LSTM step: from z (4 units: i f c o) and c to the new c and h; z is used up. No two may overlap.
       c = f*c + i*g; h = o*act(c), with i, f, o through the gates' activation and g, c through the cell's. */
    void (*step_f32)(float *z, float *c, float *h, ptrdiff_t units, int cell, const float *cell_p, int gate,
                     const float *gate_p);
    void (*step_f64)(double *z, double *c, double *h, ptrdiff_t units, int cell, const double *cell_p, int gate,
                     const double *gate_p);
} fbl_cell;

/* The tables of this build, best first. The last one, "base", runs everywhere. */
extern const fbl_cell *const fbl_cells[];
extern const int fbl_cell_count;

/* Whether this CPU and operating system run the table's instructions. */
int fbl_cell_usable(const fbl_cell *table);

#endif
