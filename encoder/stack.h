/* stack.h: blocks one after the other with their working memory; what encoder and predictor have in common.
 *
 *     stack_acts_get(&s, &cfg, depth, rows, keep, level, 0, &mem, &plan); // measuring first, then over one allocation
 *     … embeddings [n,D] into stack_in(&s) …
 *     stack_forward(q, &cfg, blocks, p, &run, &s, 0, depth);             // the stream is then in stack_out(&s, depth)
 *     stack_backward(q, &cfg, blocks, p, &run, &s, depth, dx);
 */
#ifndef JEPA_STACK_H
#define JEPA_STACK_H
#include "encoder/block.h"

enum { PLAN_PARTS = 12 };
typedef struct mem_plan { /* what an arena is made of */
    struct { const char *name; size_t bytes; } part[PLAN_PARTS];
    int n;
} mem_plan;
/* Books what the arena gave since mark under a name; returns the new mark. plan may be NULL. */
size_t plan_part(mem_plan *plan, const char *name, const arena *mem, size_t mark);
void plan_text(const mem_plan *plan, const char *line_end, char *text, size_t size); /* "name 1.2 GiB" each, then line_end */
void plan_size(char text[32], size_t bytes);                                         /* "1.2 GiB" */

typedef struct stack_acts {
    int depth, keep;
    recompute level;
    block_acts *kept;  /* [depth] when keep, host memory of the caller; NULL while measuring */
    block_acts work;   /* shared by all blocks */
    float *last;       /* [n,D] the stream after the last block; without keep the stream itself */
    float *scratch;    /* backward's */
    float *tmp;        /* [n,D] and at least what was asked for: free outside block_forward and block_backward, whose memory it is */
} stack_acts;

/* The arena (measuring or not) gets: blocks kept, stream, working set, scratch. tmp: floats wanted at s->tmp (without keep; 0: n·D). */
void stack_acts_get(stack_acts *s, const block_cfg *c, int depth, int64_t rows, int keep, recompute level, size_t tmp, arena *mem,
                    mem_plan *plan);
float *stack_in(const stack_acts *s);             /* where the embeddings go */
float *stack_out(const stack_acts *s, int after); /* where the stream lies after so many blocks (without keep: only the present one) */
/* Blocks from … to-1. *failed: the block (0-based) at which it stopped. */
int stack_forward(queue *q, const block_cfg *c, const block *b, const params *p, const block_run *run, const stack_acts *s, int from,
                  int to, int *failed);
/* dx: the stream's gradient after block to-1 on entry, before block `from` on return. Between calls s->scratch is the caller's. */
int stack_backward_part(queue *q, const block_cfg *c, const block *b, params *p, const block_run *run, const stack_acts *s, int from,
                        int to, float *dx, int *failed);
int stack_backward(queue *q, const block_cfg *c, const block *b, params *p, const block_run *run, const stack_acts *s, float *dx,
                   int *failed);
#endif
