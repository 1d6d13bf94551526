#include "infer/predict.h"
__attribute__((weak)) int enc_tables(const enc *e, queue *q, jepa_err *err) { return 0; }
__attribute__((weak)) int pred_tables(const pred *e, queue *q, jepa_err *err) { return 0; }
__attribute__((weak)) int64_t enc_out_dim(const enc_cfg *c, int all) { return c->embed_dim; }
