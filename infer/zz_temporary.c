#include "infer/predict.h"
__attribute__((weak)) int pred_tables(const pred *e, queue *q, jepa_err *err) { return 0; }
