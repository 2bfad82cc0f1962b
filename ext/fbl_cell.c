/* The baseline of fbl_cell.h, and which tables this build holds and this CPU runs. */
#define FBL_ISA_NAME "base"
#define FBL_CELL_TABLE fbl_cell_base
#include "fbl_cell_body.h"

#if defined(__GNUC__) && defined(__x86_64__)
extern const fbl_cell fbl_cell_avx2, fbl_cell_avx512;
const fbl_cell *const fbl_cells[] = {&fbl_cell_avx512, &fbl_cell_avx2, &fbl_cell_base};
const int fbl_cell_count = 3;

int fbl_cell_usable(const fbl_cell *table)
{
    int usable = 1;
    /* These look at the CPU and at the registers that the operating system saves. */
    __builtin_cpu_init();
    if (table != &fbl_cell_base)
        usable = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (table == &fbl_cell_avx512)
        usable = usable && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512vl");
    return usable;
}
#else
const fbl_cell *const fbl_cells[] = {&fbl_cell_base};
const int fbl_cell_count = 1;

int fbl_cell_usable(const fbl_cell *table)
{
    return table != NULL;
}
#endif
