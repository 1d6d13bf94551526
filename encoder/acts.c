/* acts.c: the encoder's working memory: one list that measures it, prints it and cuts it up. */
#include "encoder/parts.h"

#include <math.h>
#include <stdio.h>

/* The one list: measures, plans or cuts up, whatever mem and plan are. */
static void layout(const enc_cfg *c, dtype type, int64_t rows, int keep, recompute level, enc_acts *a, arena *mem, mem_plan *plan) {
    const block_cfg bc = {c->embed_dim, c->num_heads, (int)floor(c->embed_dim * c->mlp_ratio), c->layer_norm_eps, type};
    const size_t n = (size_t)rows, d = (size_t)c->embed_dim, hd = d / (size_t)c->num_heads, levels = (size_t)enc_levels(c);
    size_t mark = arena_mark(mem), patches, tables, norms, stream;
    if (rows < 1 || size_mul(n, (size_t)enc_row_width(c, 0), &patches) || size_mul(n, 2 * hd, &tables) || size_mul(n, levels, &norms) ||
        size_mul(n, d, &stream)) {
        mem->overflow = 1;
        return;
    }
    if (c->positions != POS_SINCOS) {
        a->pos = arena_get(mem, n, 3 * sizeof(float));
        a->cs = arena_get(mem, tables, sizeof(float));
        mark = plan_part(plan, "rotary tables", mem, mark);
    }
    if (c->modality_embedding) {
        a->bias = arena_get(mem, d, sizeof(float));
        mark = plan_part(plan, "modality", mem, mark);
    }
    if (keep) {
        a->mean = arena_get(mem, norms, sizeof(float));
        a->rstd = arena_get(mem, norms, sizeof(float));
        mark = plan_part(plan, "final norm", mem, mark);
        if (levels > 1) {
            a->stream = arena_get(mem, stream, sizeof(float));
            mark = plan_part(plan, "gradient of the levels", mem, mark);
        }
        a->patches = act_rows_get(mem, type, rows, enc_row_width(c, 0));
        plan_part(plan, "tubelet rows", mem, mark);
    }
    stack_acts_get(&a->s, &bc, c->depth, rows, keep, level, patches, mem, plan);
    if (keep) return;
    a->patches.f = type == T_BF16 ? NULL : a->s.tmp;
    a->patches.h = type == T_BF16 ? (uint16_t *)a->s.tmp : NULL;
}

static int measure(const enc *e, int64_t rows, int keep, recompute level, size_t *bytes, mem_plan *plan) {
    enc_acts a = {.rows = rows};
    arena mem;
    arena_open(&mem, 0, NULL);
    layout(&e->c, e->bc.type, rows, keep, level, &a, &mem, plan);
    *bytes = mem.used;
    return mem.overflow ? JEPA_E_MEMORY : 0;
}

static int shape_rows(const enc *e, const enc_shape *s, int64_t *rows, jepa_err *err) {
    const int64_t tokens = s->tokens ? s->tokens : enc_tokens(&e->c, s->frames, s->height, s->width);
    if (s->batch < 1 || tokens < 1 || tokens > INT32_MAX || s->batch > INT32_MAX ||
        (s->level != RECOMPUTE_NONE && s->level != RECOMPUTE_MLP && s->level != RECOMPUTE_BLOCK))
        return err_set(err, JEPA_E_USE,
                       "encoder working memory: batch %lld of %lld tokens (%lld frames of %lld x %lld) at recompute level %d cannot be",
                       (long long)s->batch, (long long)tokens, (long long)s->frames, (long long)s->height, (long long)s->width,
                       (int)s->level);
    *rows = s->batch * tokens;
    return 0;
}

size_t enc_acts_bytes(const enc *e, const enc_shape *s) {
    int64_t rows;
    size_t bytes;
    return shape_rows(e, s, &rows, NULL) < 0 || measure(e, rows, s->keep_for_backward, s->level, &bytes, NULL) < 0 ? 0 : bytes;
}

void enc_acts_plan(const enc *e, const enc_shape *s, char *text, size_t size) {
    mem_plan plan = {.n = 0};
    jepa_err err = {0};
    int64_t rows;
    size_t bytes;
    int rc = shape_rows(e, s, &rows, &err);
    if (!rc) rc = measure(e, rows, s->keep_for_backward, s->level, &bytes, &plan);
    if (rc < 0)
        snprintf(text, size, "%s\n", err.code ? err.text : "does not fit in any memory");
    else
        plan_text(&plan, "\n", text, size);
}

/* "… does not fit; recompute 2 would need …" */
static int no_memory(const enc *e, const enc_shape *s, int64_t rows, jepa_err *err) {
    mem_plan plan = {.n = 0};
    char parts[256], sum[32], less[96] = "";
    size_t bytes, other;
    if (measure(e, rows, s->keep_for_backward, s->level, &bytes, &plan) < 0)
        return err_set(err, JEPA_E_MEMORY, "encoder working memory for %lld tokens does not fit in any memory", (long long)rows);
    plan_text(&plan, ", ", parts, sizeof parts);
    plan_size(sum, bytes);
    if (s->keep_for_backward && s->level != RECOMPUTE_BLOCK && !measure(e, rows, 1, RECOMPUTE_BLOCK, &other, NULL)) {
        char amount[32];
        plan_size(amount, other);
        snprintf(less, sizeof less, "recompute 2 (whole blocks) needs %s; ", amount);
    }
    return err_set(err, JEPA_E_MEMORY,
                   "encoder working memory for %lld tokens needs %s (%s) and there is no room: %sa smaller batch, fewer frames or "
                   "smaller pictures need less",
                   (long long)rows, sum, parts, less);
}

int enc_acts_open(enc_acts **out, const enc *e, dev *d, const enc_shape *s, jepa_err *err) {
    int64_t rows;
    size_t bytes;
    *out = NULL;
    int rc = shape_rows(e, s, &rows, err);
    if (rc < 0) return rc;
    if (measure(e, rows, s->keep_for_backward, s->level, &bytes, NULL) < 0) return no_memory(e, s, rows, err);
    enc_acts *a = mem_alloc(1, sizeof *a);
    if (!a) return no_memory(e, s, rows, err);
    a->c = e->c;
    a->type = e->bc.type;
    a->rows = rows;
    if (s->keep_for_backward) a->s.kept = mem_alloc((size_t)e->c.depth, sizeof *a->s.kept);
    block_acts *kept = a->s.kept;
    /* the large one first: what does not fit is known before anything else is touched */
    if ((s->keep_for_backward && !kept) || buf_new(&a->mem, d, bytes, NULL) < 0 ||
        !(a->pos_host = mem_alloc((size_t)rows, 3 * sizeof(float)))) {
        enc_acts_close(&a);
        return no_memory(e, s, rows, err);
    }
    arena mem = {.base = a->mem.p, .size = bytes};
    layout(&e->c, e->bc.type, rows, s->keep_for_backward, s->level, a, &mem, NULL);
    *out = a;
    return 0;
}

void enc_acts_close(enc_acts **a) {
    if (!a || !*a) return;
    buf_free(&(*a)->mem);
    mem_free((*a)->s.kept);
    mem_free((*a)->pos_host);
    mem_free((*a)->table.p);
    mem_free(*a);
    *a = NULL;
}
