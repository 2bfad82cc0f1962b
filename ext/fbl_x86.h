/* The intrinsics of x86, all of them, whatever the command line enables: each stub enables its own by a pragma.

   For clang-cl, immintrin.h leaves out what the command line does not enable. */
#ifndef FBL_X86_H
#define FBL_X86_H

#include <immintrin.h>
#if defined(__clang__) && defined(_MSC_VER)
#include <smmintrin.h>
#include <avxintrin.h>
#include <avx2intrin.h>
#include <fmaintrin.h>
#include <avx512fintrin.h>
#include <avx512vnniintrin.h>
#include <avxvnniintrin.h>
#endif

#endif
