/* The functions of fbl_cell.h for one instruction set, whose stub has defined FBL_ISA_NAME (a string) and
   FBL_CELL_TABLE (the name of its table). */
#include <string.h>

#include "fbl_activations.h"
#include "fbl_cell.h"

static void activate_f32(float *x, ptrdiff_t n, int code, const float *p) { fbl_activate_f32(x, n, code, p); }

static void activate_f64(double *x, ptrdiff_t n, int code, const double *p) { fbl_activate_f64(x, n, code, p); }

/* Gate by gate: an activation over a row, such as softmax, sees one gate. */
#define FBL_STEP(step, activate, real) \
    static void step(real *z, real *c, real *h, ptrdiff_t units, int cell, const real *cell_p, int gate, \
                     const real *gate_p) \
    { \
        real *const i = z, *const f = z + units, *const g = z + 2 * units, *const o = z + 3 * units; \
        ptrdiff_t u; \
        activate(i, units, gate, gate_p); \
        activate(f, units, gate, gate_p); \
        activate(g, units, cell, cell_p); \
        activate(o, units, gate, gate_p); \
        for (u = 0; u < units; ++u) \
            c[u] = f[u] * c[u] + i[u] * g[u]; \
        memcpy(g, c, (size_t)units * sizeof *g); \
        activate(g, units, cell, cell_p); \
        for (u = 0; u < units; ++u) \
            h[u] = o[u] * g[u]; \
    }

FBL_STEP(step_f32, activate_f32, float)
FBL_STEP(step_f64, activate_f64, double)

const fbl_cell FBL_CELL_TABLE = {FBL_ISA_NAME, activate_f32, activate_f64, step_f32, step_f64};
