/* kernels_wide.c: the kernels with vectors of 16 floats and AVX-512's tile in portable C: its sizes and tails, checked on any machine. */
#define VEC_LANES 16
#define VEC_PAIRS    /* products of bf16 in pairs, as AVX512-BF16 has them */
#define GEMM_B 8192 /* so that the shapes here need several parts */
#include "compute/cpu/kernels_tmpl.h"
#include "tests/checkop/checkop.h"

void ops_init_wide(ops *t) { kernels_fill(t); }
