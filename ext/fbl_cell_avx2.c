/* The functions of fbl_cell.h for AVX2 with FMA. */
#if defined(__GNUC__) && defined(__x86_64__)
#define FBL_ISA_NAME "avx2"
#define FBL_CELL_TABLE fbl_cell_avx2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#include "fbl_cell_body.h"
#pragma clang attribute pop
#else
#pragma GCC target("avx2,fma")
#include "fbl_cell_body.h"
#endif
#else
typedef int fbl_no_cell_avx2; /* a translation unit may not be empty */
#endif
