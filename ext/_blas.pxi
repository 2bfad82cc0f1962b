# Row-major matrix products over the BLAS that SciPy carries, included in _recurrent.pyx.
#
# The functions are taken from SciPy when the module is imported, so that a build needs no SciPy. BLAS is column-major: a
# row-major C = A.B is the column-major C^T = B^T.A^T, so the operands swap and nothing is copied. Every matrix is dense
# (its leading dimension is its number of columns) and no dimension is zero; the caller has checked that each fits a C int.

from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid

ctypedef void (*SGemm)(
    char*, char*, int*, int*, int*, float*, const float*, int*, const float*, int*, float*, float*, int*,
) noexcept nogil
ctypedef void (*DGemm)(
    char*, char*, int*, int*, int*, double*, const double*, int*, const double*, int*, double*, double*, int*,
) noexcept nogil
ctypedef void (*SGemv)(
    char*, int*, int*, float*, const float*, int*, const float*, int*, float*, float*, int*,
) noexcept nogil
ctypedef void (*DGemv)(
    char*, int*, int*, double*, const double*, int*, const double*, int*, double*, double*, int*,
) noexcept nogil

# The arguments of gemm and gemv as Cython writes them into the name of what SciPy exports; R is a real type.
_GEMM = "void (char *, char *, int *, int *, int *, R *, R *, int *, R *, int *, R *, R *, int *)"
_GEMV = "void (char *, int *, int *, R *, R *, int *, R *, int *, R *, R *, int *)"


cdef void* blas_function(str name, str arguments) except NULL:
    """The address of a BLAS function that SciPy exports, if it takes these arguments."""
    import scipy
    from scipy.linalg import cython_blas

    capsule = cython_blas.__pyx_capi__.get(name)
    cdef bytes expected = arguments.replace("R", f"__pyx_t_5scipy_6linalg_11cython_blas_{name[0]}").encode()
    if not PyCapsule_IsValid(capsule, expected):
        raise ImportError(
            f"backend blas: scipy.linalg.cython_blas of SciPy {scipy.__version__} has no function {name} of the "
            f"kind that fastbilstm calls; install another SciPy, or use backend='vector' or 'numpy'"
        )
    return PyCapsule_GetPointer(capsule, expected)


cdef SGemm sgemm = <SGemm> blas_function("sgemm", _GEMM)
cdef DGemm dgemm = <DGemm> blas_function("dgemm", _GEMM)
cdef SGemv sgemv = <SGemv> blas_function("sgemv", _GEMV)
cdef DGemv dgemv = <DGemv> blas_function("dgemv", _GEMV)


cdef inline void add_matmul(int m, int n, int k, const floating* a, const floating* b, floating* c) noexcept nogil:
    """C += A.B, with A (m, k), B (k, n), C (m, n). One row or one column goes to gemv, which packs nothing."""
    cdef char* plain = b"N"
    cdef char* transposed = b"T"
    cdef int one = 1
    cdef floating unit = 1
    if floating is float:
        if m == 1:
            sgemv(plain, &n, &k, &unit, b, &n, a, &one, &unit, c, &one)
        elif n == 1:
            sgemv(transposed, &k, &m, &unit, a, &k, b, &one, &unit, c, &one)
        else:
            sgemm(plain, plain, &n, &m, &k, &unit, b, &n, a, &k, &unit, c, &n)
    else:
        if m == 1:
            dgemv(plain, &n, &k, &unit, b, &n, a, &one, &unit, c, &one)
        elif n == 1:
            dgemv(transposed, &k, &m, &unit, a, &k, b, &one, &unit, c, &one)
        else:
            dgemm(plain, plain, &n, &m, &k, &unit, b, &n, a, &k, &unit, c, &n)
