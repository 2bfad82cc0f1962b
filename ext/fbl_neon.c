/* The kernels for NEON with FMA (every AArch64 CPU): 4 lanes, 32 registers. */
#if (defined(__GNUC__) || defined(__clang__)) && defined(__aarch64__) && !defined(FBL_NO_VECTORS)
#define FBL_ISA_NEON
#define FBL_ISA_NAME "neon"
#define FBL_SYMBOL(name) fbl_##name##_neon
#define FBL_LANES 4
#define FBL_ROWS 6
#include "fbl_kernels_body.h"
#else
typedef int fbl_no_neon; /* a translation unit may not be empty */
#endif
