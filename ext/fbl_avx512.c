/* The kernels for AVX-512 (F, BW, DQ, VL): 16 lanes, 32 registers. */
#if (defined(__GNUC__) || defined(__clang__)) && (defined(__x86_64__) || defined(_M_X64)) && !defined(FBL_NO_VECTORS)
#define FBL_ISA_AVX512
#define FBL_ISA_NAME "avx512"
#define FBL_SYMBOL(name) fbl_##name##_avx512
#define FBL_LANES 16
#define FBL_ROWS 6
#if defined(__clang__)
#include "fbl_x86.h"
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#include "fbl_kernels_body.h"
#pragma clang attribute pop
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#include "fbl_kernels_body.h"
#endif

#if FBL_HAS_AVX512_VNNI
#undef FBL_DOTS_NAME
#undef FBL_DOTS
#define FBL_DOTS_AVX512_VNNI
#define FBL_DOTS_NAME "avx512vnni"
#define FBL_DOTS(name) fbl_##name##_avx512vnni
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#include "fbl_bytes_body.h"
#pragma clang attribute pop
#else
#pragma GCC target("avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#include "fbl_bytes_body.h"
#endif
#endif
#else
typedef int fbl_no_avx512; /* a translation unit may not be empty */
#endif
