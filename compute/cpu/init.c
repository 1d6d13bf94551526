/* init.c: fills a table with the cpu back end's operations, plainest first. */
#include <stdio.h>
#ifdef JEPA_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#endif
#include "compute/cpu/cpu.h"

void ops_init_cpu(ops *t, unsigned cpu_flags) {
    ops_init_portable(t);
    t->linear_pack = cpu_linear_pack;
    t->linear_unpack = cpu_linear_unpack;
#if defined(__x86_64__)
    if (cpu_flags & CPU_AVX2) ops_init_avx2(t);
    if (cpu_flags & CPU_AVX512) ops_init_avx512(t);
    if (cpu_flags & CPU_AVX512_BF16) ops_init_avx512_bf16(t);
#elif defined(__aarch64__)
    if (cpu_flags & CPU_NEON) ops_init_neon(t);
#endif
}

void cpu_library(char *text, size_t size) {
    if (size > 0) text[0] = 0;
#ifdef JEPA_ONEDNN
    const dnnl_version_t *v = dnnl_version();
    if (v) snprintf(text, size, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
#endif
}
