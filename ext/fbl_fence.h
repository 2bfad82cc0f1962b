/* FBL_FENCE(p, n): under AddressSanitizer, touching any of these n bytes from now on ends the process; else nothing.

   FBL_FENCED says whether. Buffers that are larger than what is asked for (alignment, reuse) are fenced behind it. */
#ifndef FBL_FENCE_H
#define FBL_FENCE_H

#if defined(__SANITIZE_ADDRESS__)
#define FBL_FENCED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FBL_FENCED 1
#endif
#endif

#ifdef FBL_FENCED
#include <sanitizer/asan_interface.h>
#define FBL_FENCE(p, n) __asan_poison_memory_region((p), (n))
#else
#define FBL_FENCED 0
#define FBL_FENCE(p, n) ((void)(p), (void)(n))
#endif

#endif
