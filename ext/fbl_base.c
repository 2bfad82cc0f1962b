/* The kernels in plain vectors of 4 lanes: SSE2 on x86-64, whatever the compiler makes of them elsewhere. */
#if (defined(__GNUC__) || defined(__clang__)) && !defined(FBL_NO_VECTORS)
#define FBL_ISA_NAME "base"
#define FBL_SYMBOL(name) fbl_##name##_base
#define FBL_LANES 4
#define FBL_ROWS 3
#include "fbl_kernels_body.h"
#else
typedef int fbl_no_base; /* a translation unit may not be empty */
#endif
