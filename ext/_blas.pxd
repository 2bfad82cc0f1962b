"""Row-major matrix products over the BLAS that SciPy carries.

BLAS is column-major: a row-major C = A.B is the column-major C^T = B^T.A^T, so the operands swap and nothing is copied.
Every matrix is dense (its leading dimension is its number of columns) and no dimension is zero; the caller has checked
that each fits a C int.
"""

from scipy.linalg.cython_blas cimport dgemm, dgemv, sgemm, sgemv

from _types cimport floating


cdef inline void add_matmul(int m, int n, int k, const floating* a, const floating* b, floating* c) noexcept nogil:
    """C += A.B, with A (m, k), B (k, n), C (m, n). One row or one column goes to gemv, which packs nothing."""
    cdef char* plain = b"N"
    cdef char* transposed = b"T"
    cdef int one = 1
    cdef floating unit = 1
    if floating is float:
        if m == 1:
            sgemv(plain, &n, &k, &unit, <float*>b, &n, <float*>a, &one, &unit, c, &one)
        elif n == 1:
            sgemv(transposed, &k, &m, &unit, <float*>a, &k, <float*>b, &one, &unit, c, &one)
        else:
            sgemm(plain, plain, &n, &m, &k, &unit, <float*>b, &n, <float*>a, &k, &unit, c, &n)
    else:
        if m == 1:
            dgemv(plain, &n, &k, &unit, <double*>b, &n, <double*>a, &one, &unit, c, &one)
        elif n == 1:
            dgemv(transposed, &k, &m, &unit, <double*>a, &k, <double*>b, &one, &unit, c, &one)
        else:
            dgemm(plain, plain, &n, &m, &k, &unit, <double*>b, &n, <double*>a, &k, &unit, c, &n)
