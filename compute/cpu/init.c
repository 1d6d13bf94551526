/* init.c: fills a table with the cpu back end's operations, plainest first. */
#include "compute/cpu/cpu.h"

void ops_init_cpu(ops *t, unsigned cpu_flags) {
    ops_init_portable(t);
#if defined(__x86_64__)
    if (cpu_flags & CPU_AVX2) ops_init_avx2(t);
    if (cpu_flags & CPU_AVX512) ops_init_avx512(t);
    if (cpu_flags & CPU_AVX512_BF16) ops_init_avx512_bf16(t);
#elif defined(__aarch64__)
    if (cpu_flags & CPU_NEON) ops_init_neon(t);
#endif
}
