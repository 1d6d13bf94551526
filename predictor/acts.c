/* acts.c: the predictor's working memory: what it is made of, planning, opening. */
#include "predictor/parts.h"

#include <stdio.h>

typedef struct room { /* what working memory is measured by */
    int64_t rows, context_rows;
    int keep;
    recompute level;
} room;

/* The one list: measures, plans or cuts up, whatever mem and plan are. */
static void layout(const pred *e, const room *r, pred_acts *a, arena *mem, mem_plan *plan) {
    const pred_cfg *c = &e->c;
    const block_cfg bc = e->bc;
    const size_t n = (size_t)r->rows, k = (size_t)r->context_rows, w = (size_t)bc.dim, d = (size_t)c->embed_dim;
    const size_t hd = (size_t)(bc.dim / bc.num_heads);
    const int deep = pred_levels(c) > 1;
    size_t mark = arena_mark(mem), stream, tables, hidden = 0, embed = 0;
    if (r->rows < 1 || size_mul(n, w, &stream) || size_mul(n, 2 * hd, &tables) ||
        (deep && (size_mul(k, d, &hidden) || size_mul(k, d + w, &embed)))) {
        mem->overflow = 1;
        return;
    }
    if (c->positions == POS_SINCOS) {
        a->index = arena_get(mem, n, sizeof(int32_t));
        mark = plan_part(plan, "positions", mem, mark);
    } else {
        a->pos = arena_get(mem, n, 3 * sizeof(float));
        a->cs = arena_get(mem, tables, sizeof(float));
        mark = plan_part(plan, "rotary tables", mem, mark);
    }
    if (c->modality_embedding) a->shifted = arena_get(mem, 2 * w, sizeof(float));
    if (r->keep) {
        if (deep) {
            a->pre = arena_get(mem, hidden, sizeof(float));
            a->act = arena_get(mem, hidden, sizeof(float));
            mark = plan_part(plan, "levels embedded", mem, mark);
        }
        a->mean = arena_get(mem, n, sizeof(float));
        a->rstd = arena_get(mem, n, sizeof(float));
        a->out = arena_get(mem, stream, sizeof(float));
        a->normed = arena_get(mem, stream, sizeof(float));
        mark = plan_part(plan, "predicted rows", mem, mark);
        a->dstream = arena_get(mem, stream, sizeof(float));
        plan_part(plan, "gradient of the stream", mem, mark);
    }
    stack_acts_get(&a->s, &bc, c->depth, r->rows, r->keep, r->level, embed, mem, plan);
    if (!r->keep) {
        a->out = a->normed = a->s.tmp;
        a->act = a->s.tmp ? a->s.tmp + k * w : NULL; /* behind the embedded rows */
    }
}

static int measure(const pred *e, const room *r, size_t *bytes, mem_plan *plan) {
    pred_acts a = {.rows = r->rows};
    arena mem;
    arena_open(&mem, 0, NULL);
    layout(e, r, &a, &mem, plan);
    *bytes = mem.used;
    return mem.overflow ? JEPA_E_MEMORY : 0;
}

static int room_of(const pred_shape *s, room *r, jepa_err *err) {
    const int64_t most = INT32_MAX;
    if (s->batch < 1 || s->batch > most || s->context < 1 || s->context > most || s->target < 1 || s->target > most || s->rows < 0 ||
        s->rows > 2 * most || (s->level != RECOMPUTE_NONE && s->level != RECOMPUTE_MLP && s->level != RECOMPUTE_BLOCK))
        return err_set(err, JEPA_E_USE,
                       "predictor working memory: batch %lld of %lld context and %lld target tokens (together %lld) at recompute level %d "
                       "cannot be",
                       (long long)s->batch, (long long)s->context, (long long)s->target, (long long)s->rows, (int)s->level);
    *r = (room){s->batch * (s->rows ? s->rows : s->context + s->target), s->batch * s->context, s->keep_for_backward, s->level};
    if (r->context_rows > r->rows) r->context_rows = r->rows;
    return 0;
}

size_t pred_acts_bytes(const pred *e, const pred_shape *s) {
    room r;
    size_t bytes;
    return room_of(s, &r, NULL) < 0 || measure(e, &r, &bytes, NULL) < 0 ? 0 : bytes;
}

void pred_acts_plan(const pred *e, const pred_shape *s, char *text, size_t size) {
    mem_plan plan = {.n = 0};
    jepa_err err = {0};
    room r;
    size_t bytes;
    int rc = room_of(s, &r, &err);
    if (!rc) rc = measure(e, &r, &bytes, &plan);
    if (rc < 0)
        snprintf(text, size, "%s\n", err.code ? err.text : "does not fit in any memory");
    else
        plan_text(&plan, "\n", text, size);
}

static int no_memory(const pred *e, const room *r, jepa_err *err) {
    mem_plan plan = {.n = 0};
    char parts[256], sum[32], less[96] = "";
    size_t bytes, other;
    if (measure(e, r, &bytes, &plan) < 0)
        return err_set(err, JEPA_E_MEMORY, "predictor working memory for %lld tokens does not fit in any memory", (long long)r->rows);
    plan_text(&plan, ", ", parts, sizeof parts);
    plan_size(sum, bytes);
    room again = *r;
    again.level = RECOMPUTE_BLOCK;
    if (r->keep && r->level != RECOMPUTE_BLOCK && !measure(e, &again, &other, NULL)) {
        char amount[32];
        plan_size(amount, other);
        snprintf(less, sizeof less, "recompute 2 (whole blocks) needs %s; ", amount);
    }
    return err_set(
        err, JEPA_E_MEMORY,
        "predictor working memory for %lld tokens needs %s (%s) and there is no room: %sa smaller batch or fewer tokens need less",
        (long long)r->rows, sum, parts, less);
}

int pred_acts_open(pred_acts **out, const pred *e, dev *d, const pred_shape *s, jepa_err *err) {
    room r;
    size_t bytes;
    *out = NULL;
    int rc = room_of(s, &r, err);
    if (rc < 0) return rc;
    if (measure(e, &r, &bytes, NULL) < 0) return no_memory(e, &r, err);
    pred_acts *a = mem_alloc(1, sizeof *a);
    if (!a) return no_memory(e, &r, err);
    a->c = e->c;
    a->type = e->bc.type;
    a->rows = r.rows;
    a->context_rows = r.context_rows;
    if (s->keep_for_backward) a->s.kept = mem_alloc((size_t)e->c.depth, sizeof *a->s.kept);
    block_acts *kept = a->s.kept;
    /* the large one first: what does not fit is known before anything else is touched */
    if ((s->keep_for_backward && !kept) || buf_new(&a->mem, d, bytes, NULL) < 0 ||
        !(a->pos_host = mem_alloc((size_t)r.rows, 3 * sizeof(float)))) {
        pred_acts_close(&a);
        return no_memory(e, &r, err);
    }
    arena mem = {.base = a->mem.p, .size = bytes};
    layout(e, &r, a, &mem, NULL);
    *out = a;
    return 0;
}

void pred_acts_close(pred_acts **a) {
    if (!a || !*a) return;
    buf_free(&(*a)->mem);
    mem_free((*a)->s.kept);
    mem_free((*a)->pos_host);
    mem_free((*a)->table.p);
    mem_free(*a);
    *a = NULL;
}
