/* kernels_portable.c: the kernels compiled for the flags of the whole build: any machine. */
#include "compute/cpu/kernels_tmpl.h"

void ops_init_portable(ops *t) { kernels_fill(t); }
