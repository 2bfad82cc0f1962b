/* The contract of the kernels for narrow weights: one table for each kind of products, beside the tables of fbl_kernels.h.

   int8. A recurrent kernel R (U, N) is whole numbers, codes from -127 to 127, times one scale a column. So is a row of h:
   rint(127 h) times 1 / 127 or, where an |h| is above FBL_LARGEST_STATE, rint(h * (127 / largest)) times largest / 127, with
   largest = max|h|, which else is 1. An element of h.R is (the sum of the products of codes) * (`scales` * largest), `scales`
   being a column's scale / 127. The sum is a whole number: it is the same on every CPU and whatever is computed beside it. A
   row of h that is not finite gives NaN. r h_tm1 of a GRU without reset_after is such a row, too. fastbilstm/layers/narrow.py
   specifies all this in NumPy.
   The bytes of h are code + byte_of_zero. `zeros` is what the sum of a column begins with: -byte_of_zero times the sum of its
   codes.

   bfloat16 and float16. h.R in float32, as fbl_kernels.h says, of weights that are widened where they are read.

   Packed. int8: blocks of `gates` vectors as there, each [k / 4][gate][lane][4 of k], padded with zeros. bfloat16, float16:
   each [k / 2][gate][lane][2 of k]. For sums that end in z, a block is 4 vectors of columns. */
#ifndef FBL_NARROW_H
#define FBL_NARROW_H

#include "fbl_kernels.h"

#define FBL_LARGEST_STATE 1.0009765625f /* 1 + 2^-10: tanh may exceed 1 by its rounding */

/* Rows of matrices are no longer. */
#define FBL_MOST_DEPTH 32768

enum { FBL_INT8, FBL_BFLOAT16, FBL_FLOAT16, FBL_FORM_COUNT };

/* A matrix in int8, packed as for sums that end in z: blocks of 4 vectors. */
typedef struct {
    const void *codes;
    const float *scales;
    const int *zeros;
} fbl_codes;

typedef struct {
    const char *isa;
    const fbl_kernels *table; /* whose lanes and cells it has */
    int byte_of_zero;         /* the byte that stands for code 0 of h: 128 where the products take bytes without a sign */

    /* As lstm_step, lstm_gates and gru_step of fbl_kernels, and the first `columns` of each row of z (rows, width) set to
       recurrent_bias (padded to whole blocks; NULL: 0) + h_tm1.R, by form of weights; NULL: there is none. */
    fbl_step lstm_step[FBL_FORM_COUNT];
    fbl_step lstm_gates[FBL_FORM_COUNT];
    fbl_step gru_step[FBL_FORM_COUNT];
    fbl_step multiply[FBL_FORM_COUNT];

    /* gemm of fbl_kernels with B in int8, depth <= FBL_MOST_DEPTH. A row of A is codes times largest / 127, largest = max|a|
       whatever it is; 0 if it is below 2^-100. An element of C is begun with its bias. */
    void (*gemm)(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, const float *a, ptrdiff_t lda, const ptrdiff_t *index,
                 const fbl_codes *b, const float *bias, float *c, ptrdiff_t ldc);

    /* The same for gemm_pieces of fbl_kernels: all pieces of a row have one scale. */
    void (*gemm_pieces)(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, const float *a, const ptrdiff_t *start,
                        ptrdiff_t pieces, const ptrdiff_t *offset, const ptrdiff_t *length, const fbl_codes *b,
                        const float *bias, float *c, ptrdiff_t ldc);
} fbl_narrow;

/* What the compiler knows. */
#if defined(__clang__)
#define FBL_HAS_AVX512_VNNI 1
#define FBL_HAS_AVX_VNNI (__clang_major__ >= 12)
#else
#define FBL_HAS_AVX512_VNNI (__GNUC__ >= 8)
#define FBL_HAS_AVX_VNNI (__GNUC__ >= 11)
#endif

/* The tables that this build holds, best first. */
extern const fbl_narrow *const fbl_narrow_tables[];
extern const int fbl_narrow_table_count;
int fbl_narrow_usable(const fbl_narrow *table);

#endif
