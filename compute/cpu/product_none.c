/* product_none.c: builds without oneDNN (-DJEPA_ONEDNN=OFF) pack no weights: the plain ones are as good. */
#include "compute/cpu/cpu.h"

int product_packed(queue *q, const op_linear *a, int add, float *y, int64_t ldy) {
    (void)q, (void)a, (void)add, (void)y, (void)ldy;
    return JEPA_E_UNSUPPORTED;
}

int cpu_linear_pack(queue *q, packed **out, const float *w, int64_t out_dim, int64_t in_dim) {
    if (!out) return JEPA_E_USE;
    *out = NULL;
    op_linear shape = {.rows = 0, .in = in_dim, .out = out_dim};
    return !q || !w ? JEPA_E_USE : check_linear(&shape);
}

void cpu_linear_unpack(queue *q, packed **p) {
    (void)q;
    if (p) *p = NULL;
}
