/* The kernels for NEON with FMA (every AArch64 CPU): 4 lanes, 32 registers. */
#if (defined(__GNUC__) || defined(__clang__)) && defined(__aarch64__) && !defined(FBL_NO_VECTORS)
#define FBL_ISA_NEON
#define FBL_ISA_NAME "neon"
#define FBL_SYMBOL(name) fbl_##name##_neon
#define FBL_LANES 4
#define FBL_ROWS 6
#include "fbl_kernels_body.h"

#undef FBL_DOTS_NAME
#undef FBL_DOTS
#define FBL_DOTS_NEON_DOT
#define FBL_DOTS_NAME "neondot"
#define FBL_DOTS(name) fbl_##name##_neondot
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#include "fbl_bytes_body.h"
#pragma clang attribute pop
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#include "fbl_bytes_body.h"
#endif
#else
typedef int fbl_no_neon; /* a translation unit may not be empty */
#endif
