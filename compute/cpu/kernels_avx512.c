/* kernels_avx512.c: the kernels compiled for AVX-512 F, BW, VL, DQ. */
#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include "compute/cpu/kernels_tmpl.h"

void ops_init_avx512(ops *t) { kernels_fill(t); }
#else
typedef int nothing_to_compile_here;
#endif
