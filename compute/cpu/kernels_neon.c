/* kernels_neon.c: the kernels compiled for 64-bit ARM. */
#ifdef __aarch64__
#include "compute/cpu/kernels_tmpl.h"

void ops_init_neon(ops *t) { kernels_fill(t); }
#else
typedef int nothing_to_compile_here;
#endif
