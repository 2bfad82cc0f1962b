/* Which kernels this build holds and which of them run here: by CPUID what the CPU has, by XGETBV which registers the
   operating system saves. */
#include "fbl_narrow.h"

#if (defined(__GNUC__) || defined(__clang__)) && !defined(FBL_NO_VECTORS)
#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>

extern const fbl_kernels fbl_table_avx512, fbl_table_avx2, fbl_table_base;
const fbl_kernels *const fbl_tables[] = {&fbl_table_avx512, &fbl_table_avx2, &fbl_table_base};

extern const fbl_narrow fbl_narrow_avx512, fbl_narrow_avx2, fbl_narrow_base;
#if FBL_HAS_AVX512_VNNI
extern const fbl_narrow fbl_narrow_avx512vnni;
#endif
#if FBL_HAS_AVX_VNNI
extern const fbl_narrow fbl_narrow_avxvnni;
#endif
const fbl_narrow *const fbl_narrow_tables[] = {
#if FBL_HAS_AVX512_VNNI
    &fbl_narrow_avx512vnni,
#endif
    &fbl_narrow_avx512,
#if FBL_HAS_AVX_VNNI
    &fbl_narrow_avxvnni,
#endif
    &fbl_narrow_avx2, &fbl_narrow_base,
};

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
    const int has_xsave = c >> 27 & 1, has_avx = c >> 28 & 1, has_fma = c >> 12 & 1, has_f16c = c >> 29 & 1;
    if (!has_xsave || !has_avx || !has_fma || !has_f16c || (saved_registers() & 0x6) != 0x6)
        return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b >> 5 & 1))
        return 0;
    if (table == &fbl_table_avx2)
        return 1;
    const unsigned f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    return (b & f_dq_bw_vl) == f_dq_bw_vl && (saved_registers() & 0xE6) == 0xE6;
}

int fbl_narrow_usable(const fbl_narrow *table)
{
    unsigned a, b, c, d;
    if (!fbl_usable(table->table))
        return 0;
#if FBL_HAS_AVX512_VNNI
    if (table == &fbl_narrow_avx512vnni)
        return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c >> 11 & 1);
#endif
#if FBL_HAS_AVX_VNNI
    if (table == &fbl_narrow_avxvnni)
        return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
#endif
    (void)a, (void)b, (void)c, (void)d;
    return 1;
}
#else
#if defined(__aarch64__)
extern const fbl_kernels fbl_table_neon, fbl_table_base;
const fbl_kernels *const fbl_tables[] = {&fbl_table_neon, &fbl_table_base};
extern const fbl_narrow fbl_narrow_neondot, fbl_narrow_neon, fbl_narrow_base;
const fbl_narrow *const fbl_narrow_tables[] = {&fbl_narrow_neondot, &fbl_narrow_neon, &fbl_narrow_base};

#if defined(__linux__)
extern unsigned long getauxval(unsigned long type);
#elif defined(_WIN32)
__declspec(dllimport) int __stdcall IsProcessorFeaturePresent(unsigned long feature);
#endif
int fbl_narrow_usable(const fbl_narrow *table)
{
    if (table != &fbl_narrow_neondot)
        return 1;
#if defined(__ARM_FEATURE_DOTPROD) || defined(__APPLE__)
    return 1; /* every Mac with an M has it */
#elif defined(__linux__)
    return getauxval(16) >> 20 & 1; /* AT_HWCAP, HWCAP_ASIMDDP */
#elif defined(_WIN32)
    return IsProcessorFeaturePresent(43) != 0; /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE */
#else
    return 0;
#endif
}
#else
extern const fbl_kernels fbl_table_base;
const fbl_kernels *const fbl_tables[] = {&fbl_table_base};
extern const fbl_narrow fbl_narrow_base;
const fbl_narrow *const fbl_narrow_tables[] = {&fbl_narrow_base};
int fbl_narrow_usable(const fbl_narrow *table)
{
    return table != NULL;
}
#endif
int fbl_usable(const fbl_kernels *table)
{
    return table != NULL; /* NEON belongs to AArch64 */
}
#endif
const int fbl_table_count = (int)(sizeof fbl_tables / sizeof *fbl_tables);
const int fbl_narrow_table_count = (int)(sizeof fbl_narrow_tables / sizeof *fbl_narrow_tables);
#else
/* No GCC or Clang: no vector types, no kernels. */
const fbl_kernels *const fbl_tables[] = {NULL};
const int fbl_table_count = 0;
const fbl_narrow *const fbl_narrow_tables[] = {NULL};
const int fbl_narrow_table_count = 0;
int fbl_narrow_usable(const fbl_narrow *table)
{
    return table != NULL;
}
int fbl_usable(const fbl_kernels *table)
{
    return table != NULL;
}
#endif
