"""The contract of `fbl_kernels.h` for Cython: the table of vector kernels, all of them noexcept and nogil."""

cdef extern from "fbl_activations.h":
    enum:
        FBL_LINEAR, FBL_TANH, FBL_SIGMOID, FBL_CLIP_HARD_SIGMOID, FBL_RELU6_HARD_SIGMOID, FBL_SOFTSIGN, FBL_SOFTMAX
        FBL_LOG_SOFTMAX, FBL_HARD_TANH, FBL_SPARSEMAX, FBL_ACTIVATION_COUNT

cdef extern from "fbl_kernels.h":
    enum:
        FBL_STORE, FBL_ADD, FBL_MUL, FBL_AVERAGE

    ctypedef struct fbl_recurrent:
        Py_ssize_t rows, units, units_padded
        const float* recurrent
        const float* recurrent_bias
        const float* proj
        Py_ssize_t width
        const Py_ssize_t* proj_index
        const float* h_tm1
        float* h
        float* c
        float* out
        const Py_ssize_t* out_index
        Py_ssize_t out_stride
        int merge, backwards
        Py_ssize_t blocks_before, blocks_behind
        int activation, recurrent_activation
        const float* activation_parameters
        const float* recurrent_activation_parameters
        float* z
        float* reset
        const void* narrow
        const float* scales
        const int* zeros
        Py_ssize_t columns
        unsigned char* codes
        float* largest

    ctypedef void (*fbl_step)(const fbl_recurrent* s) noexcept nogil

    ctypedef struct fbl_kernels:
        const char* isa
        Py_ssize_t lanes
        void (*gemm)(
            Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t columns, const float* a, Py_ssize_t lda,
            const Py_ssize_t* index, const float* packed, const float* bias, float* c, Py_ssize_t ldc,
        ) noexcept nogil
        void (*gemm_onto)(
            Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t columns, const float* a, Py_ssize_t lda,
            const Py_ssize_t* index, const float* packed, float* c, Py_ssize_t ldc,
        ) noexcept nogil
        void (*gemm_pieces)(
            Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t columns, const float* a, const Py_ssize_t* start,
            Py_ssize_t pieces, const Py_ssize_t* offset, const Py_ssize_t* length, const float* packed, const float* bias,
            float* c, Py_ssize_t ldc,
        ) noexcept nogil
        void (*lstm_step)(const fbl_recurrent* s) noexcept nogil
        void (*lstm_gates)(const fbl_recurrent* s) noexcept nogil
        void (*lstm_cell)(const fbl_recurrent* s) noexcept nogil
        void (*gru_step)(const fbl_recurrent* s) noexcept nogil
        void (*gru_gates)(const fbl_recurrent* s) noexcept nogil
        void (*gru_cell)(const fbl_recurrent* s) noexcept nogil
        void (*rnn_cell)(const fbl_recurrent* s) noexcept nogil
        void (*activate)(float* x, Py_ssize_t n, int code, const float* parameters) noexcept nogil
        void (*transpose)(
            Py_ssize_t rows, Py_ssize_t columns, const float* x, Py_ssize_t stride, float* to, Py_ssize_t to_stride,
        ) noexcept nogil
        void (*softmax)(
            float* x, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t stride, float scale, float* inverse,
        ) noexcept nogil
        void (*add_rows)(
            Py_ssize_t rows, Py_ssize_t n, const float* weights, const float* x, Py_ssize_t stride, float* y,
        ) noexcept nogil
        void (*sum_rows)(
            Py_ssize_t rows, Py_ssize_t n, const float* const* x, const float* bias, float* y,
        ) noexcept nogil
        void (*normalize)(
            Py_ssize_t rows, Py_ssize_t n, const float* x, const float* gamma, const float* beta, double epsilon,
            int keep_mean, int about_zero, float* y,
        ) noexcept nogil
        void (*max_windows)(
            Py_ssize_t windows, Py_ssize_t window_step, const Py_ssize_t* taps, const Py_ssize_t* steps, Py_ssize_t n,
            const float* x, float* y,
        ) noexcept nogil

    void fbl_prefetch(const float* x, Py_ssize_t n) noexcept nogil
    const fbl_kernels* fbl_tables[]
    int fbl_table_count
    int fbl_usable(const fbl_kernels* table)

cdef extern from "fbl_narrow.h":
    enum:
        FBL_INT8, FBL_BFLOAT16, FBL_FLOAT16, FBL_FORM_COUNT

        FBL_MOST_DEPTH

    ctypedef struct fbl_codes:
        const void* codes
        const float* scales
        const int* zeros

    ctypedef struct fbl_narrow:
        const char* isa
        const fbl_kernels* table
        int byte_of_zero
        fbl_step[3] lstm_step
        fbl_step[3] lstm_gates
        fbl_step[3] gru_step
        fbl_step[3] multiply
        void (*gemm)(
            Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t columns, const float* a, Py_ssize_t lda,
            const Py_ssize_t* index, const fbl_codes* b, const float* bias, float* c, Py_ssize_t ldc,
        ) noexcept nogil
        void (*gemm_pieces)(
            Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t columns, const float* a, const Py_ssize_t* start,
            Py_ssize_t pieces, const Py_ssize_t* offset, const Py_ssize_t* length, const fbl_codes* b, const float* bias,
            float* c, Py_ssize_t ldc,
        ) noexcept nogil

    const fbl_narrow* fbl_narrow_tables[]
    int fbl_narrow_table_count
    int fbl_narrow_usable(const fbl_narrow* table)

cdef extern from "fbl_windows.h":
    ctypedef struct fbl_windows:
        Py_ssize_t[3] size, count, taps, stride, dilation, before
        Py_ssize_t channels, used_channels

    ctypedef struct fbl_convolution:
        const fbl_kernels* table
        fbl_windows at, pool
        int axis, pooled, mean, code, by_row, whole
        Py_ssize_t groups, depth, filters, lines, embedded
        const float* rows
        const float* const* packed
        const float* const* bias
        const float* parameters
        const float* const* winograd
        const fbl_narrow* narrow
        const fbl_codes* codes

    void fbl_plan_convolution(fbl_convolution* s) noexcept nogil
    Py_ssize_t fbl_convolution_scratch(const fbl_convolution* s) noexcept nogil
    void fbl_convolve_lines(
        const fbl_convolution* s, const void* x, Py_ssize_t first, Py_ssize_t stop, float* y, float* scratch,
    ) noexcept nogil
    void fbl_pool_windows(
        const fbl_kernels* table, const fbl_windows* at, const float* x, Py_ssize_t first, Py_ssize_t n, int mean, float* y,
    ) noexcept nogil
    void fbl_weigh_windows(
        const fbl_kernels* table, const fbl_windows* at, const float* weights, const float* bias, const float* x,
        Py_ssize_t first, Py_ssize_t n, float* y,
    ) noexcept nogil
    void fbl_scatter_windows(
        const fbl_windows* at, const float* panel, Py_ssize_t first, Py_ssize_t n, float* y,
    ) noexcept nogil
