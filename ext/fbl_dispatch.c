/* Which kernels this build holds and which of them run here: by CPUID what the CPU has, by XGETBV which registers the
   operating system saves. */
#include "fbl_kernels.h"

#if (defined(__GNUC__) || defined(__clang__)) && !defined(FBL_NO_VECTORS)
#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>

extern const fbl_kernels fbl_table_avx512, fbl_table_avx2, fbl_table_base;
const fbl_kernels *const fbl_tables[] = {&fbl_table_avx512, &fbl_table_avx2, &fbl_table_base};

static unsigned saved_registers(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

int fbl_usable(const fbl_kernels *table)
{
    unsigned a, b, c, d;
    if (table == &fbl_table_base)
        return 1;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return 0;
    const int has_xsave = c >> 27 & 1, has_avx = c >> 28 & 1, has_fma = c >> 12 & 1;
    if (!has_xsave || !has_avx || !has_fma || (saved_registers() & 0x6) != 0x6)
        return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b >> 5 & 1))
        return 0;
    if (table == &fbl_table_avx2)
        return 1;
    const unsigned f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    return (b & f_dq_bw_vl) == f_dq_bw_vl && (saved_registers() & 0xE6) == 0xE6;
}
#else
#if defined(__aarch64__)
extern const fbl_kernels fbl_table_neon, fbl_table_base;
const fbl_kernels *const fbl_tables[] = {&fbl_table_neon, &fbl_table_base};
#else
extern const fbl_kernels fbl_table_base;
const fbl_kernels *const fbl_tables[] = {&fbl_table_base};
#endif
int fbl_usable(const fbl_kernels *table)
{
    return table != NULL; /* NEON belongs to AArch64 */
}
#endif
const int fbl_table_count = (int)(sizeof fbl_tables / sizeof *fbl_tables);
#else
/* No GCC or Clang: no vector types, no kernels. */
const fbl_kernels *const fbl_tables[] = {NULL};
const int fbl_table_count = 0;
int fbl_usable(const fbl_kernels *table)
{
    return table != NULL;
}
#endif
