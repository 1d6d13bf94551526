/* verbs_model.c: encode, encode_context, encode_select, hidden_state, predict. */
#include "parity.h"

#include <stdlib.h>
#include <string.h>

typedef struct clip {
    int64_t b, t, h, w;
    const float *x;
    float *own;
    int frames_first;
} clip;

/* Input x: [B,C,T,H,W], of Hugging Face [B,T,C,H,W], of models of single frames [B,C,H,W]; with repeat_to_frames the last frame is
 * repeated. */
static int clip_input(check *c, const model *m, clip *k, jepa_err *err) {
    const tensor *t = NULL;
    const int flat = m->ec.tubelet_size == 1;
    int rc = input_tensor_is(c, "x", T_F32, flat ? 4 : 5, &t, err);
    if (rc < 0) return rc;
    int64_t ch = t->dim[m->frames_first ? 2 : 1], frames = flat ? 1 : t->dim[m->frames_first ? 1 : 2], to = frames;
    if (ch != m->ec.in_chans) return err_set(err, JEPA_E_MODEL, "x has %lld channels, the model %d", (long long)ch, m->ec.in_chans);
    *k = (clip){
        .b = t->dim[0], .t = frames, .h = t->dim[t->rank - 2], .w = t->dim[t->rank - 1], .x = t->data, .frames_first = m->frames_first};
    if (json_get(c->params, "repeat_to_frames") && (rc = param_int(c, "repeat_to_frames", frames, 4096, &to, err)) < 0) return rc;
    if (to == frames) return 0;
    int64_t plane = k->h * k->w, outer = m->frames_first ? k->b : k->b * ch, row = m->frames_first ? ch * plane : plane;
    if (!(k->own = mem_alloc((size_t)(outer * to * row), sizeof *k->own))) return err_set(err, JEPA_E_MEMORY, "no memory for the clip");
    for (int64_t o = 0; o < outer; o++)
        for (int64_t f = 0; f < to; f++)
            memcpy(k->own + (o * to + f) * row, k->x + (o * frames + (f < frames ? f : frames - 1)) * row, (size_t)row * sizeof(float));
    k->x = k->own;
    k->t = to;
    return 0;
}

/* params' grid, and how it splits an index: by itself, or ("published") by split. real: the input's own grid, or NULL. Where positions
 * are added, "published" is the stored table, of grid split, brought to the input's, and that is what our models do by themselves. */
static int positions(const check *c, const enc_cfg *e, const int64_t *real, pos_grid *g, jepa_err *err) {
    double grid[3], split[2];
    int rc = param_numbers(c, "grid", 3, grid, err);
    if (rc < 0) return rc;
    for (int i = 0; i < 3; i++)
        if (!(grid[i] >= 1 && grid[i] <= 1 << 20) || (real && grid[i] != (double)real[i]))
            return err_set(err, JEPA_E_MODEL, "params' grid is %g,%g,%g; the input's is %lld,%lld,%lld", grid[0], grid[1], grid[2],
                           (long long)(real ? real[0] : 0), (long long)(real ? real[1] : 0), (long long)(real ? real[2] : 0));
    *g = (pos_grid){.frames = (int64_t)grid[0], .rows = (int64_t)grid[1], .cols = (int64_t)grid[2]};
    const char *how = param_string(c, "positions", "grid");
    if (!json_get(c->params, "split"))
        split[0] = grid[1], split[1] = grid[2];
    else if ((rc = param_numbers(c, "split", 2, split, err)) < 0)
        return rc;
    if (!strcmp(how, "grid")) {
        if (split[0] != grid[1] || split[1] != grid[2])
            return err_set(err, JEPA_E_MODEL, "positions are \"grid\", but split is another than grid's");
        return 0;
    }
    if (strcmp(how, "published")) return err_set(err, JEPA_E_MODEL, "positions \"%s\" are neither \"grid\" nor \"published\"", how);
    for (int i = 0; i < 2; i++)
        if (!(split[i] >= 1 && split[i] <= 1 << 20)) return err_set(err, JEPA_E_MODEL, "split is %g,%g", split[0], split[1]);
    if (e->positions == POS_SINCOS) {
        if (split[0] == e->img_height / e->patch_size && split[1] == e->img_width / e->patch_size) return 0;
        return err_set(err, JEPA_E_MODEL, "split is %g,%g; the stored table is another's", split[0], split[1]);
    }
    g->split_rows = (int64_t)split[0];
    g->split_cols = (int64_t)split[1];
    return 0;
}

typedef struct wanted { /* after < 0: the output, with levels several joined; else the stream after that many blocks */
    int levels, after, norm;
} wanted;

/* Everything of one encoding; tokens [B,n,d] in host memory, freed by mem_free. */
static int encode(check *c, model *m, int32_t *context, int64_t n_context, const clip *k, const wanted *what, float **out, int64_t *n,
                  int64_t *d, jepa_err *err) {
    session *s = c->s;
    enc_acts *a = NULL;
    buf x = {0}, keep = {0}, tokens = {0}, stream = {0};
    pos_grid g;
    int64_t all = enc_tokens(&m->ec, k->t, k->h, k->w), real[3] = {1, k->h / m->ec.patch_size, k->w / m->ec.patch_size};
    if (real[1] > 0 && real[2] > 0) real[0] = all / (real[1] * real[2]);
    *out = NULL;
    *n = context ? n_context : all;
    *d = enc_out_dim(&m->ec, what->levels);
    int rc = positions(c, &m->ec, real, &g, err);
    if (rc < 0) return rc;
    int64_t rows = k->b * *n;
    size_t bytes = (size_t)(rows * *d) * sizeof(float), xb = (size_t)(k->b * m->ec.in_chans * k->t * k->h * k->w) * sizeof(float);
    const enc_shape shape = {.batch = k->b, .frames = k->t, .height = k->h, .width = k->w, .tokens = context ? n_context : 0};
    if ((rc = enc_acts_open(&a, m->e, s->d, &shape, err)) < 0 || (rc = buf_new(&x, s->d, xb, err)) < 0 ||
        (rc = buf_put(s->q, x.p, k->x, xb, err)) < 0 || (rc = buf_new(&tokens, s->d, bytes, err)) < 0 ||
        (rc = buf_new(&stream, s->d, bytes, err)) < 0)
        goto end;
    if (context && ((rc = buf_new(&keep, s->d, (size_t)rows * sizeof(int32_t), err)) < 0 ||
                    (rc = buf_put(s->q, keep.p, context, (size_t)rows * sizeof(int32_t), err)) < 0))
        goto end;
    float *hidden[1] = {stream.p};
    const enc_in in = {.batch = k->b,
                       .frames = k->t,
                       .height = k->h,
                       .width = k->w,
                       .x = x.p,
                       .type = T_F32,
                       .frames_first = k->frames_first,
                       .keep = keep.p,
                       .n_keep = context ? n_context : 0,
                       .keep_host = context,
                       .split_rows = g.split_rows,
                       .split_cols = g.split_cols,
                       .hidden_n = what->after >= 0,
                       .hidden_after = &what->after,
                       .hidden_out = hidden,
                       .hidden_norm = what->norm,
                       .all_levels = what->levels};
    if ((rc = enc_forward(m->e, s->q, &in, a, tokens.p, err)) < 0) goto end;
    if (!(*out = mem_alloc(bytes + 1, 1))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the tokens");
        goto end;
    }
    rc = buf_get(s->q, *out, what->after >= 0 ? stream.p : tokens.p, bytes, err);
end:
    if (rc < 0) mem_free(*out), *out = NULL;
    enc_acts_close(&a);
    buf_free(&x);
    buf_free(&keep);
    buf_free(&tokens);
    buf_free(&stream);
    return rc;
}

/* A level's norm is that of the level whose blocks end there; where there are levels, "final" is the last one's. */
static int norm_there(const check *c, const enc_cfg *e, const wanted *what, jepa_err *err) {
    const char *norm = what->after < 0 ? "none" : param_string(c, "norm", "none");
    int at = -1;
    for (int i = 0; i < e->level_norms; i++)
        if (e->level_block[i] + 1 == what->after) at = i;
    if (!strcmp(norm, "level") && at < 0)
        return err_set(err, JEPA_E_MODEL, "the norm of a level is wanted after block %d, where no level ends", what->after);
    if (!strcmp(norm, "final") && at >= 0 && at < e->level_norms - 1)
        return err_set(err, JEPA_E_MODEL, "the final norm is wanted after block %d, where a level with its own ends", what->after);
    return 0;
}

static int encode_verb(check *c, const char *index_role, int select, wanted what, jepa_err *err) {
    const char *output = param_string(c, "output", "last");
    if (!word_in("last levels", output)) return err_set(err, JEPA_E_MODEL, "output \"%s\" is not known", output);
    what.levels = !strcmp(output, "levels");
    if (json_get(c->params, "each_frame")) return err_set(err, PARITY_SKIP, "frame features (V-JEPA 2-AC) are not built yet");
    model m;
    clip k = {0};
    int32_t *index = NULL;
    float *tokens = NULL, *chosen = NULL;
    int64_t n = 0, n_index = 0, d = 0;
    int rc = model_open(&m, c, WANT_ENCODER, err);
    if (rc != 0) return rc;
    if ((rc = clip_input(c, &m, &k, err)) < 0 || (rc = norm_there(c, &m.ec, &what, err)) < 0) goto end;
    if (json_get(c->inputs, index_role) && (rc = input_index(c, index_role, k.b, &index, &n_index, err)) < 0) goto end;
    if (!index && !strcmp(c->run, "encode_context")) {
        rc = err_set(err, JEPA_E_MODEL, "encode_context needs the input \"context\"");
        goto end;
    }
    if ((rc = encode(c, &m, select ? NULL : index, n_index, &k, &what, &tokens, &n, &d, err)) < 0) goto end;
    const float *result = tokens;
    if (select) {
        if (!index || !(chosen = mem_alloc((size_t)(k.b * n_index * d) + 1, sizeof *chosen))) {
            rc = err_set(err, JEPA_E_MODEL, "encode_select needs the input \"select\"");
            goto end;
        }
        for (int64_t i = 0; i < k.b * n_index; i++) {
            if (index[i] >= n) {
                rc = err_set(err, JEPA_E_MODEL, "select names token %d of %lld", index[i], (long long)n);
                goto end;
            }
            memcpy(chosen + i * d, tokens + (i / n_index * n + index[i]) * d, (size_t)d * sizeof(float));
        }
        result = chosen;
        n = n_index;
    }
    const tensor t = tensor_f32(result, 3, (int64_t[]){k.b, n, d});
    rc = compare_output(c, "tokens", &t, err);
end:
    mem_free(index);
    mem_free(tokens);
    mem_free(chosen);
    mem_free(k.own);
    model_close(&m);
    return rc;
}

int verb_encode(check *c, jepa_err *err) { return encode_verb(c, "context", 0, (wanted){.after = -1}, err); }
int verb_encode_select(check *c, jepa_err *err) { return encode_verb(c, "select", 1, (wanted){.after = -1}, err); }

int verb_hidden_state(check *c, jepa_err *err) {
    int64_t after;
    int rc = param_int(c, "after_blocks", 0, 1024, &after, err);
    if (rc < 0) return rc;
    const char *norm = param_string(c, "norm", "none");
    if (!word_in("none final level", norm)) return err_set(err, JEPA_E_MODEL, "norm \"%s\" is not known", norm);
    return encode_verb(c, "context", 0, (wanted){.after = (int)after, .norm = strcmp(norm, "none") != 0}, err);
}

/* Token lists of z's and the wanted rows; absent: all tokens in index order. */
static int token_list(check *c, const char *role, int64_t batch, int64_t tokens, int32_t **list, int64_t *n, jepa_err *err) {
    if (json_get(c->inputs, role)) return input_index(c, role, batch, list, n, err);
    *n = tokens;
    if (!(*list = mem_alloc((size_t)(batch * tokens) + 1, sizeof **list)))
        return err_set(err, JEPA_E_MEMORY, "no memory for %lld tokens", (long long)tokens);
    for (int64_t i = 0; i < batch * tokens; i++) (*list)[i] = (int32_t)(i % tokens);
    return 0;
}

typedef struct place {
    int32_t token;
    int32_t row;
} place;
static int by_token(const void *a, const void *b) {
    const place *x = a, *y = b;
    return x->token != y->token ? (x->token < y->token ? -1 : 1) : (x->row < y->row ? -1 : x->row > y->row);
}

/* Outputs of context and target rows [B,K+M,D], put in the order of their token indices. */
static int sort_rows(float *all, const int32_t *context, const int32_t *target, int64_t b, int64_t nc, int64_t nt, int64_t d,
                     jepa_err *err) {
    int64_t n = nc + nt;
    place *p = mem_alloc((size_t)n + 1, sizeof *p);
    float *copy = mem_alloc((size_t)(n * d) + 1, sizeof *copy);
    for (int64_t i = 0; p && copy && i < b; i++) {
        float *rows = all + i * n * d;
        for (int64_t r = 0; r < n; r++) p[r] = (place){r < nc ? context[i * nc + r] : target[i * nt + r - nc], (int32_t)r};
        qsort(p, (size_t)n, sizeof *p, by_token);
        memcpy(copy, rows, (size_t)(n * d) * sizeof *copy);
        for (int64_t r = 0; r < n; r++) memcpy(rows + r * d, copy + p[r].row * d, (size_t)d * sizeof *copy);
    }
    int rc = p && copy ? 0 : err_set(err, JEPA_E_MEMORY, "no memory to sort %lld rows", (long long)n);
    mem_free(p);
    mem_free(copy);
    return rc;
}

typedef struct prediction {
    model m;
    const tensor *z;
    int32_t *context, *target;
    int64_t b, nc, nt, blocks, token;
    int image, all; /* all: outputs of context rows too */
    pos_grid g;
    float *host; /* [B·blocks,n,out] */
} prediction;

/* target_0, target_1, …: lists of the same length, one behind the other. */
static int target_blocks(check *c, prediction *p, jepa_err *err) {
    const char *stack = param_string(c, "stack", "");
    if (strcmp(stack, "block-major"))
        return err_set(err, JEPA_E_MODEL, "targets are numbered, and stack is \"%s\", not block-major", stack);
    for (char role[32];; p->blocks++) {
        int32_t *more = NULL, *both;
        int64_t n = 0;
        snprintf(role, sizeof role, "target_%lld", (long long)p->blocks);
        int rc = input_index(c, role, p->b, &more, &n, err);
        if (rc == JEPA_E_END) return 0;
        if (rc < 0) return rc;
        const size_t had = (size_t)(p->blocks * p->b * p->nt), list = (size_t)(p->b * n);
        both = !p->blocks || n == p->nt ? mem_alloc(had + list + 1, sizeof *both) : NULL;
        if (both) {
            if (had) memcpy(both, p->target, had * sizeof *both);
            memcpy(both + had, more, list * sizeof *both);
            mem_free(p->target);
            p->target = both;
            p->nt = n;
        }
        mem_free(more);
        if (!both) return err_set(err, JEPA_E_MODEL, "%s has %lld tokens, target_0 has %lld", role, (long long)n, (long long)p->nt);
    }
}

static int modality(const check *c, prediction *p, jepa_err *err) {
    const char *name = param_string(c, "modality", NULL);
    if (!name != !p->m.pc.modality_embedding)
        return err_set(err, JEPA_E_MODEL, name ? "modality is \"%s\"; this predictor has none" : "params have no modality", name);
    if (name && !word_in("image video", name)) return err_set(err, JEPA_E_MODEL, "modality \"%s\" is not known", name);
    p->image = name && !strcmp(name, "image");
    return 0;
}

static int read_prediction(check *c, prediction *p, jepa_err *err) {
    int rc = input_tensor_is(c, "z", T_F32, 3, &p->z, err);
    if (rc < 0 || (rc = positions(c, &p->m.ec, NULL, &p->g, err)) < 0 ||
        (rc = param_int(c, "mask_token", 0, 1 << 20, &p->token, err)) < 0 || (rc = modality(c, p, err)) < 0)
        return rc;
    const int64_t tokens = p->g.frames * p->g.rows * p->g.cols,
                  wide = (int64_t)(p->m.pc.levels > 1 ? p->m.pc.levels : 1) * p->m.pc.embed_dim;
    p->b = p->z->dim[0];
    if ((rc = token_list(c, "context", p->b, tokens, &p->context, &p->nc, err)) < 0) return rc;
    if (json_get(c->inputs, "target_0"))
        rc = target_blocks(c, p, err);
    else
        rc = token_list(c, "target", p->b, tokens, &p->target, &p->nt, err), p->blocks = 1;
    if (rc < 0) return rc;
    if (json_size(c->inputs) !=
        1 + !!json_get(c->inputs, "context") + !!json_get(c->inputs, "target") + (json_get(c->inputs, "target_0") ? (int)p->blocks : 0))
        return err_set(err, JEPA_E_MODEL, "inputs are more than z, context and targets");
    if (p->z->dim[1] != p->nc || p->z->dim[2] != wide)
        return err_set(err, JEPA_E_MODEL, "z is [%lld,%lld,%lld]; %lld context tokens of %lld channels belong to it", (long long)p->b,
                       (long long)p->z->dim[1], (long long)p->z->dim[2], (long long)p->nc, (long long)wide);
    p->all = output_ref(c, "all") || output_ref(c, "context");
    if (p->all && p->blocks > 1) return err_set(err, JEPA_E_MODEL, "context outputs of several target blocks are not known");
    return 0;
}

static int predict(check *c, prediction *p, jepa_err *err) {
    session *s = c->s;
    const pred_cfg *pc = &p->m.pc;
    pred_acts *a = NULL;
    buf zb = {0}, ob = {0};
    const int64_t rows = p->all ? p->nc + p->nt : p->nt;
    const size_t zbytes = (size_t)tensor_count(p->z) * sizeof(float),
                 obytes = (size_t)(p->b * p->blocks * rows * pc->out_dim) * sizeof(float);
    const pred_shape shape = {.batch = p->b * p->blocks, .context = p->nc, .target = p->nt};
    int rc = pred_acts_open(&a, p->m.pr, s->d, &shape, err);
    if (rc < 0 || (rc = buf_new(&zb, s->d, zbytes, err)) < 0 || (rc = buf_put(s->q, zb.p, p->z->data, zbytes, err)) < 0 ||
        (rc = buf_new(&ob, s->d, obytes, err)) < 0)
        goto end;
    const pred_in in = {.batch = p->b,
                        .n_context = p->nc,
                        .n_target = p->nt,
                        .z = zb.p,
                        .context = p->context,
                        .target = p->target,
                        .grid = p->g,
                        .mask_token = (int)p->token,
                        .image = p->image,
                        .target_blocks = (int)p->blocks};
    rc = (p->all ? pred_forward_all : pred_forward)(p->m.pr, s->q, &in, a, ob.p, err);
    if (rc < 0) goto end;
    if (!(p->host = mem_alloc(obytes + 1, 1)))
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the prediction");
    else
        rc = buf_get(s->q, p->host, ob.p, obytes, err);
end:
    pred_acts_close(&a);
    buf_free(&zb);
    buf_free(&ob);
    return rc;
}

/* Rows from … from+count-1 of each sequence of n, as one role. */
static int compare_rows(check *c, const char *role, const prediction *p, int64_t n, int64_t from, int64_t count, jepa_err *err) {
    if (!output_ref(c, role)) return 0;
    const int64_t sequences = p->b * p->blocks, d = p->m.pc.out_dim;
    float *rows = mem_alloc((size_t)(sequences * count * d) + 1, sizeof *rows);
    if (!rows) return err_set(err, JEPA_E_MEMORY, "no memory for %s", role);
    for (int64_t i = 0; i < sequences; i++) memcpy(rows + i * count * d, p->host + (i * n + from) * d, (size_t)(count * d) * sizeof *rows);
    const tensor t = tensor_f32(rows, 3, (int64_t[]){sequences, count, d});
    int rc = compare_output(c, role, &t, err);
    mem_free(rows);
    return rc;
}

int verb_predict(check *c, jepa_err *err) {
    prediction p = {0};
    int rc = model_open(&p.m, c, WANT_PREDICTOR, err);
    if (rc != 0) return rc;
    if ((rc = read_prediction(c, &p, err)) < 0 || (rc = predict(c, &p, err)) < 0) goto end;
    const int64_t before = p.all ? p.nc : 0, n = before + p.nt;
    if ((rc = compare_rows(c, "context", &p, n, 0, before, err)) < 0 || (rc = compare_rows(c, "target", &p, n, before, p.nt, err)) < 0)
        goto end;
    if (output_ref(c, "all") && (rc = sort_rows(p.host, p.context, p.target, p.b, p.nc, p.nt, p.m.pc.out_dim, err)) == 0)
        rc = compare_rows(c, "all", &p, n, 0, n, err);
end:
    mem_free(p.context);
    mem_free(p.target);
    mem_free(p.host);
    model_close(&p.m);
    return rc;
}
