/* stack.c: blocks one after the other, and the list of what their memory is made of. */
#include "encoder/stack.h"

#include <stdio.h>
#include <string.h>

size_t plan_part(mem_plan *plan, const char *name, const arena *mem, size_t mark) {
    if (plan && plan->n < PLAN_PARTS && mem->used > mark) {
        plan->part[plan->n].name = name;
        plan->part[plan->n++].bytes = mem->used - mark;
    }
    return mem->used;
}

void plan_size(char text[32], size_t bytes) {
    const double mib = (double)bytes / 1048576;
    if (mib >= 1024)
        snprintf(text, 32, "%.1f GiB", mib / 1024);
    else if (mib >= 1)
        snprintf(text, 32, "%.1f MiB", mib);
    else
        snprintf(text, 32, "%.1f KiB", mib * 1024);
}

void plan_text(const mem_plan *plan, const char *line_end, char *text, size_t size) {
    size_t at = 0;
    if (size) text[0] = 0;
    for (int i = 0; i < plan->n && at < size; i++) {
        char amount[32];
        plan_size(amount, plan->part[i].bytes);
        int k = snprintf(text + at, size - at, "%s %s%s", plan->part[i].name, amount, line_end);
        at += k > 0 ? (size_t)k : 0;
    }
}

void stack_acts_get(stack_acts *s, const block_cfg *c, int depth, int64_t rows, int keep, recompute level, size_t tmp, arena *mem,
                    mem_plan *plan) {
    size_t mark = arena_mark(mem), width = (size_t)c->dim, n;
    block_acts *kept = s->kept, one;
    memset(s, 0, sizeof *s);
    s->depth = depth;
    s->keep = keep;
    s->level = level;
    if (rows < 0 || size_mul((size_t)rows, width, &n)) {
        mem->overflow = 1;
        return;
    }
    if (keep) {
        s->kept = kept;
        for (int i = 0; i < depth; i++) block_acts_get(kept ? &kept[i] : &one, c, rows, 1, 1, level, mem);
        mark = plan_part(plan, "blocks kept for backward", mem, mark);
    }
    s->last = arena_get(mem, n, sizeof(float));
    mark = plan_part(plan, "token stream", mem, mark);
    if (keep) {
        block_work_get(&s->work, c, rows, 1, level, mem);
        mark = plan_part(plan, "one block's own", mem, mark);
        s->scratch = s->tmp = arena_get(mem, block_scratch(c, rows, 1), sizeof(float));
        plan_part(plan, "gradients of one block", mem, mark);
    } else {
        s->tmp = arena_get(mem, tmp, sizeof(float)); /* used before the first block and after the last: one place for both */
        const size_t end = arena_mark(mem);
        arena_reset(mem, mark);
        block_acts_get(&s->work, c, rows, 1, 0, level, mem);
        if (end > arena_mark(mem)) arena_get(mem, end - arena_mark(mem), 1);
        s->tmp = s->work.ln1.h ? (float *)s->work.ln1.h : s->work.ln1.f; /* the first piece of work: the same address */
        plan_part(plan, "one block", mem, mark);
    }
}

float *stack_in(const stack_acts *s) { return stack_out(s, 0); }
float *stack_out(const stack_acts *s, int after) { return s->keep && after < s->depth ? s->kept[after].x : s->last; }

static block_acts acts_of(const stack_acts *s, int i) { return s->keep ? block_acts_join(&s->kept[i], &s->work) : s->work; }

int stack_forward(queue *q, const block_cfg *c, const block *b, const params *p, const block_run *run, const stack_acts *s, int from,
                  int to, int *failed) {
    for (int i = from; i < to; i++) {
        const block_acts a = acts_of(s, i);
        int rc = block_forward(q, c, &b[i], p, run, &a, stack_out(s, i), stack_out(s, i + 1));
        *failed = i;
        if (rc < 0) return rc;
    }
    return 0;
}

int stack_backward_part(queue *q, const block_cfg *c, const block *b, params *p, const block_run *run, const stack_acts *s, int from,
                        int to, float *dx, int *failed) {
    for (int i = to - 1; i >= from; i--) {
        const block_acts a = acts_of(s, i);
        int rc = block_backward(q, c, &b[i], p, run, &a, dx, s->scratch);
        *failed = i;
        if (rc < 0) return rc;
    }
    return 0;
}

int stack_backward(queue *q, const block_cfg *c, const block *b, params *p, const block_run *run, const stack_acts *s, float *dx,
                   int *failed) {
    return stack_backward_part(q, c, b, p, run, s, 0, s->depth, dx, failed);
}
