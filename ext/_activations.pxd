"""Keras' activations in place over a row of units: the functions of `fbl_activations.h`, for either type."""

from _types cimport floating


cdef extern from "fbl_activations.h" nogil:
    int ACTIVATION_COUNT "FBL_ACTIVATION_COUNT"
    void fbl_activate_f32(float* x, Py_ssize_t n, int code, const float* p)
    void fbl_activate_f64(double* x, Py_ssize_t n, int code, const double* p)


cdef inline void activate(floating* x, Py_ssize_t n, int code, const floating* p) noexcept nogil:
    """x = activation(x) over a row of n elements; p holds three parameters."""
    if floating is float:
        fbl_activate_f32(x, n, code, p)
    else:
        fbl_activate_f64(x, n, code, p)
