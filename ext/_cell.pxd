"""The tables of `fbl_cell.h`, and its functions for either type."""

from _types cimport floating


cdef extern from "fbl_activations.h":
    int ACTIVATION_COUNT "FBL_ACTIVATION_COUNT"


cdef extern from "fbl_cell.h" nogil:
    ctypedef struct fbl_cell:
        const char* isa
        void (*activate_f32)(float* x, Py_ssize_t n, int code, const float* p) noexcept nogil
        void (*activate_f64)(double* x, Py_ssize_t n, int code, const double* p) noexcept nogil
        void (*step_f32)(
            float* z, float* c, float* h, Py_ssize_t units, int cell, const float* cell_p, int gate, const float* gate_p,
        ) noexcept nogil
        void (*step_f64)(
            double* z, double* c, double* h, Py_ssize_t units, int cell, const double* cell_p, int gate,
            const double* gate_p,
        ) noexcept nogil

    const fbl_cell* fbl_cells[]
    const int fbl_cell_count
    int fbl_cell_usable(const fbl_cell* table)


cdef inline void activate(const fbl_cell* table, floating* x, Py_ssize_t n, int code, const floating* p) noexcept nogil:
    if floating is float:
        table.activate_f32(x, n, code, p)
    else:
        table.activate_f64(x, n, code, p)


cdef inline void step(
    const fbl_cell* table, floating* z, floating* c, floating* h, Py_ssize_t units, int cell, const floating* cell_p,
    int gate, const floating* gate_p,
) noexcept nogil:
    if floating is float:
        table.step_f32(z, c, h, units, cell, cell_p, gate, gate_p)
    else:
        table.step_f64(z, c, h, units, cell, cell_p, gate, gate_p)
