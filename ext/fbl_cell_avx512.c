/* The functions of fbl_cell.h for AVX-512 (F, DQ, VL). */
#if defined(__GNUC__) && defined(__x86_64__)
#define FBL_ISA_NAME "avx512"
#define FBL_CELL_TABLE fbl_cell_avx512
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#include "fbl_cell_body.h"
#pragma clang attribute pop
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#include "fbl_cell_body.h"
#endif
#else
typedef int fbl_no_cell_avx512; /* a translation unit may not be empty */
#endif
