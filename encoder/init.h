/* init.h: the published initialisation, by parameter: numbers depend on (seed, index in the list) only.
 *
 * Truncated normal of standard deviation sd, cut at ±2 absolute (not ±2 sd: at sd 0.02 nothing is ever cut); biases 0; LayerNorm 1 and 0;
 * attn.proj and mlp.fc2 of block i (1-based) divided by √(2i). */
#ifndef JEPA_INIT_H
#define JEPA_INIT_H
#include "compute/compute.h"

int init_check(const params *p, double sd, jepa_err *err);                   /* allocated; 0 <= sd <= 2 */
int init_normal(queue *q, params *p, int index, double sd, double divide, uint64_t seed, jepa_err *err);
int init_fill(queue *q, params *p, int index, float value, jepa_err *err);
#endif
