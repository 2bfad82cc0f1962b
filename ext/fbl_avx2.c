/* The kernels for AVX2 with FMA: 8 lanes, 16 registers. */
#if (defined(__GNUC__) || defined(__clang__)) && (defined(__x86_64__) || defined(_M_X64)) && !defined(FBL_NO_VECTORS)
#define FBL_ISA_AVX2
#define FBL_ISA_NAME "avx2"
#define FBL_SYMBOL(name) fbl_##name##_avx2
#define FBL_LANES 8
#define FBL_ROWS 3
#if defined(__clang__)
#include "fbl_x86.h"
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#include "fbl_kernels_body.h"
#pragma clang attribute pop
#else
#pragma GCC target("avx2,fma,f16c")
#include "fbl_kernels_body.h"
#endif

#if FBL_HAS_AVX_VNNI
#undef FBL_DOTS_NAME
#undef FBL_DOTS
#define FBL_DOTS_AVX_VNNI
#define FBL_DOTS_NAME "avxvnni"
#define FBL_DOTS(name) fbl_##name##_avxvnni
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avxvnni,avx2,fma,f16c"))), apply_to = function)
#include "fbl_bytes_body.h"
#pragma clang attribute pop
#else
#pragma GCC target("avxvnni,avx2,fma,f16c")
#include "fbl_bytes_body.h"
#endif
#endif
#else
typedef int fbl_no_avx2; /* a translation unit may not be empty */
#endif
