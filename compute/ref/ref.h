/* ref.h: the reference operations, in one table by init.c. Plain C, one thread, double accumulators: the definition. */
#ifndef JEPA_COMPUTE_REF_H
#define JEPA_COMPUTE_REF_H
#include "compute/device.h"

int ref_linear(queue *q, const op_linear *a);
int ref_linear_bwd(queue *q, const op_linear_bwd *a);
int ref_gelu(queue *q, const op_gelu *a);
int ref_gelu_bwd(queue *q, const op_gelu_bwd *a);
int ref_convert(queue *q, const op_convert *a);
int ref_layernorm(queue *q, const op_layernorm *a);
int ref_layernorm_bwd(queue *q, const op_layernorm_bwd *a);
int ref_attention(queue *q, const op_attention *a);
int ref_attention_bwd(queue *q, const op_attention_bwd *a);
int ref_rope_table(queue *q, const op_rope_table *a);
int ref_rope(queue *q, const op_rope *a);
int ref_gather_rows(queue *q, const op_rows *a);
int ref_scatter_add_rows(queue *q, const op_rows *a);
int ref_copy_rows(queue *q, const op_rows *a);
int ref_broadcast_row(queue *q, const op_rows *a);
int ref_sum_rows(queue *q, const op_rows *a);
int ref_tubelets(queue *q, const op_tubelets *a);
int ref_loss(queue *q, const op_loss *a);
int ref_adamw(queue *q, const op_adamw *a);
int ref_ema(queue *q, const op_ema *a);
int ref_sqnorm(queue *q, const op_sqnorm *a);
int ref_axpy(queue *q, const op_axpy *a);
int ref_scale(queue *q, const op_scale *a);
int ref_colstats(queue *q, const op_colstats *a);
int ref_zero(queue *q, void *p, size_t bytes);

double gelu_exact(double x);       /* x/2 (1 + erf(x/√2)) */
double gelu_derivative(double x);

#endif
