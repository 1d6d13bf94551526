/* init.c: fills a table with the reference operations. */
#include "compute/ref/ref.h"

void ops_init_ref(ops *t) {
    t->linear = ref_linear;
    t->linear_bwd = ref_linear_bwd;
    t->gelu = ref_gelu;
    t->gelu_bwd = ref_gelu_bwd;
    t->convert = ref_convert;
    t->layernorm = ref_layernorm;
    t->layernorm_bwd = ref_layernorm_bwd;
    t->attention = ref_attention;
    t->attention_bwd = ref_attention_bwd;
    t->rope_table = ref_rope_table;
    t->rope = ref_rope;
    t->gather_rows = ref_gather_rows;
    t->scatter_add_rows = ref_scatter_add_rows;
    t->copy_rows = ref_copy_rows;
    t->broadcast_row = ref_broadcast_row;
    t->sum_rows = ref_sum_rows;
    t->tubelets = ref_tubelets;
    t->loss = ref_loss;
    t->adamw = ref_adamw;
    t->ema = ref_ema;
    t->sqnorm = ref_sqnorm;
    t->axpy = ref_axpy;
    t->scale = ref_scale;
    t->colstats = ref_colstats;
    t->zero = ref_zero;
}
