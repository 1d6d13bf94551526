/* kernels_avx2.c: the kernels compiled for AVX2 and FMA. */
#if defined(__AVX2__) && defined(__FMA__)
#include "compute/cpu/kernels_tmpl.h"

void ops_init_avx2(ops *t) { kernels_fill(t); }
#else
typedef int nothing_to_compile_here;
#endif
