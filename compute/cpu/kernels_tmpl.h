/* kernels_tmpl.h: every kernel of the cpu back end, and the function that puts them into a table; kernels_ISA.c compile it. */
#ifndef JEPA_KERNELS_TMPL_H
#define JEPA_KERNELS_TMPL_H
#include "compute/cpu/attention_tmpl.h"
#include "compute/cpu/attention_bwd_tmpl.h"
#include "compute/cpu/convert_tmpl.h"
#include "compute/cpu/layernorm_tmpl.h"
#include "compute/cpu/linear_bwd_tmpl.h"
#include "compute/cpu/linear_tmpl.h"
#include "compute/cpu/optim_tmpl.h"
#include "compute/cpu/rope_tmpl.h"
#include "compute/cpu/rows_tmpl.h"
#include "compute/cpu/stats_tmpl.h"

static inline void kernels_fill(ops *t) {
    t->linear = t_linear;
    t->linear_bwd = t_linear_bwd;
    t->gelu = t_gelu;
    t->gelu_bwd = t_gelu_bwd;
    t->convert = t_convert;
    t->layernorm = t_layernorm;
    t->layernorm_bwd = t_layernorm_bwd;
    t->attention = t_attention;
    t->attention_bwd = t_attention_bwd;
    t->rope_table = t_rope_table;
    t->rope = t_rope;
    t->gather_rows = t_gather_rows;
    t->scatter_add_rows = t_scatter_add_rows;
    t->copy_rows = t_copy_rows;
    t->broadcast_row = t_broadcast_row;
    t->sum_rows = t_sum_rows;
    t->tubelets = t_tubelets;
    t->loss = t_loss;
    t->adamw = t_adamw;
    t->ema = t_ema;
    t->sqnorm = t_sqnorm;
    t->axpy = t_axpy;
    t->scale = t_scale;
    t->colstats = t_colstats;
    t->zero = t_zero;
}
#endif
