/* kernels_portable.c: the kernels in portable C, compiled for the flags of the whole build: any machine. */
#define VEC_LANES 4 /* vec_portable.h, whatever the flags would choose */
#include "compute/cpu/kernels_tmpl.h"

void ops_init_portable(ops *t) { kernels_fill(t); }
