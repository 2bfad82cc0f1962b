/* A flag that one thread sets while others look at it: atomic and relaxed.

   Nothing else is published by it: whoever has seen one takes a lock, or the interpreter's, before reading what the
   other thread wrote. MSVC has no such builtins; there an aligned byte is read and written as one. */
#ifndef FBL_FLAG_H
#define FBL_FLAG_H

#include <stdint.h>

static inline uint8_t fbl_get_flag(const uint8_t* flag) {
#if defined(__GNUC__) || defined(__clang__)
    return __atomic_load_n(flag, __ATOMIC_RELAXED);
#else
    return *(const volatile uint8_t*) flag;
#endif
}

static inline void fbl_set_flag(uint8_t* flag, uint8_t value) {
#if defined(__GNUC__) || defined(__clang__)
    __atomic_store_n(flag, value, __ATOMIC_RELAXED);
#else
    *(volatile uint8_t*) flag = value;
#endif
}

#endif
