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

/* Input x: [B,C,T,H,W], or [B,T,C,H,W] of Hugging Face; with repeat_to_frames the last frame is repeated. */
static int clip_input(check *c, const model *m, clip *k, jepa_err *err) {
    const tensor *t = NULL;
    int rc = input_tensor_is(c, "x", T_F32, 5, &t, err);
    if (rc < 0) return rc;
    int64_t ch = t->dim[m->frames_first ? 2 : 1], frames = t->dim[m->frames_first ? 1 : 2], to = frames;
    if (ch != m->ec.in_chans) return err_set(err, JEPA_E_MODEL, "x has %lld channels, the model %d", (long long)ch, m->ec.in_chans);
    *k = (clip){.b = t->dim[0], .t = frames, .h = t->dim[3], .w = t->dim[4], .x = t->data, .frames_first = m->frames_first};
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

/* params' grid, and how it splits an index: by itself, or ("published") by split. real: the input's own grid, or NULL. */
static int positions(const check *c, const int64_t *real, pos_grid *g, jepa_err *err) {
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
    g->split_rows = (int64_t)split[0];
    g->split_cols = (int64_t)split[1];
    return 0;
}

/* Everything of one encoding; tokens [B,n,D] in host memory, freed by mem_free. after < 0: the output; else the stream after that many
 * blocks. */
static int encode(check *c, model *m, int32_t *context, int64_t n_context, const clip *k, int after, int norm, float **out, int64_t *n,
                  jepa_err *err) {
    session *s = c->s;
    enc_acts *a = NULL;
    buf x = {0}, keep = {0}, tokens = {0}, stream = {0};
    pos_grid g;
    int64_t all = enc_tokens(&m->ec, k->t, k->h, k->w),
            real[3] = {k->t / m->ec.tubelet_size, k->h / m->ec.patch_size, k->w / m->ec.patch_size};
    *out = NULL;
    *n = context ? n_context : all;
    int rc = positions(c, real, &g, err);
    if (rc < 0) return rc;
    int64_t rows = k->b * *n;
    size_t bytes = (size_t)(rows * m->ec.embed_dim) * sizeof(float),
           xb = (size_t)(k->b * m->ec.in_chans * k->t * k->h * k->w) * sizeof(float);
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
                       .hidden_n = after >= 0,
                       .hidden_after = &after,
                       .hidden_out = hidden,
                       .hidden_norm = norm};
    if ((rc = enc_forward(m->e, s->q, &in, a, tokens.p, err)) < 0) goto end;
    if (!(*out = mem_alloc((size_t)(rows * m->ec.embed_dim) + 1, sizeof **out))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the tokens");
        goto end;
    }
    rc = buf_get(s->q, *out, after >= 0 ? stream.p : tokens.p, bytes, err);
end:
    if (rc < 0) mem_free(*out), *out = NULL;
    enc_acts_close(&a);
    buf_free(&x);
    buf_free(&keep);
    buf_free(&tokens);
    buf_free(&stream);
    return rc;
}

static int encode_verb(check *c, const char *index_role, int select, int after, int norm, jepa_err *err) {
    const char *output = param_string(c, "output", "last");
    if (!strcmp(output, "levels")) return err_set(err, PARITY_SKIP, "several levels (V-JEPA 2.1) are not built yet");
    if (strcmp(output, "last")) return err_set(err, JEPA_E_MODEL, "output \"%s\" is not known", output);
    if (json_get(c->params, "each_frame")) return err_set(err, PARITY_SKIP, "frame features (V-JEPA 2-AC) are not built yet");
    model m;
    clip k = {0};
    int32_t *index = NULL;
    float *tokens = NULL, *chosen = NULL;
    int64_t n = 0, n_index = 0;
    int rc = model_open(&m, c, WANT_ENCODER, err);
    if (rc != 0) return rc;
    if ((rc = clip_input(c, &m, &k, err)) < 0) goto end;
    if (json_get(c->inputs, index_role) && (rc = input_index(c, index_role, k.b, &index, &n_index, err)) < 0) goto end;
    if (!index && !strcmp(c->run, "encode_context")) {
        rc = err_set(err, JEPA_E_MODEL, "encode_context needs the input \"context\"");
        goto end;
    }
    if ((rc = encode(c, &m, select ? NULL : index, n_index, &k, after, norm, &tokens, &n, err)) < 0) goto end;
    const float *result = tokens;
    int64_t d = m.ec.embed_dim;
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

int verb_encode(check *c, jepa_err *err) { return encode_verb(c, "context", 0, -1, 0, err); }
int verb_encode_select(check *c, jepa_err *err) { return encode_verb(c, "select", 1, -1, 0, err); }

int verb_hidden_state(check *c, jepa_err *err) {
    int64_t after;
    int rc = param_int(c, "after_blocks", 0, 1024, &after, err);
    if (rc < 0) return rc;
    const char *norm = param_string(c, "norm", "none");
    if (!strcmp(norm, "level")) return err_set(err, PARITY_SKIP, "level norms (V-JEPA 2.1) are not built yet");
    if (strcmp(norm, "none") && strcmp(norm, "final")) return err_set(err, JEPA_E_MODEL, "norm \"%s\" is not known", norm);
    return encode_verb(c, "context", 0, (int)after, !strcmp(norm, "final"), err);
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

int verb_predict(check *c, jepa_err *err) {
    if (json_get(c->params, "modality") || output_ref(c, "context"))
        return err_set(err, PARITY_SKIP, "modalities and context outputs (V-JEPA 2.1) are not built yet");
    if (json_get(c->params, "stack") || json_get(c->inputs, "target_0"))
        return err_set(err, PARITY_SKIP, "several target blocks (I-JEPA) are not built yet");
    session *s = c->s;
    model m;
    const tensor *z;
    int32_t *context = NULL, *target = NULL;
    int64_t nc = 0, nt = 0, token;
    pred_acts *a = NULL;
    buf zb = {0}, ob = {0};
    float *host = NULL;
    pos_grid g;
    int rc = model_open(&m, c, WANT_PREDICTOR, err);
    if (rc != 0) return rc;
    int all = output_ref(c, "all") != NULL;
    if ((rc = input_tensor_is(c, "z", T_F32, 3, &z, err)) < 0 || (rc = positions(c, NULL, &g, err)) < 0 ||
        (rc = param_int(c, "mask_token", 0, 1 << 20, &token, err)) < 0)
        goto end;
    int64_t b = z->dim[0], tokens = g.frames * g.rows * g.cols;
    if ((rc = token_list(c, "context", b, tokens, &context, &nc, err)) < 0 ||
        (rc = token_list(c, "target", b, tokens, &target, &nt, err)) < 0)
        goto end;
    if (z->dim[1] != nc || z->dim[2] != m.pc.embed_dim) {
        rc = err_set(err, JEPA_E_MODEL, "z is [%lld,%lld,%lld]; %lld context tokens of %d channels belong to it", (long long)b,
                     (long long)z->dim[1], (long long)z->dim[2], (long long)nc, m.pc.embed_dim);
        goto end;
    }
    int64_t rows = all ? nc + nt : nt;
    size_t zbytes = (size_t)(b * nc * m.pc.embed_dim) * sizeof(float), obytes = (size_t)(b * rows * m.pc.out_dim) * sizeof(float);
    const pred_shape shape = {.batch = b, .context = nc, .target = nt};
    if ((rc = pred_acts_open(&a, m.pr, s->d, &shape, err)) < 0 || (rc = buf_new(&zb, s->d, zbytes, err)) < 0 ||
        (rc = buf_put(s->q, zb.p, z->data, zbytes, err)) < 0 || (rc = buf_new(&ob, s->d, obytes, err)) < 0)
        goto end;
    const pred_in in = {
        .batch = b, .n_context = nc, .n_target = nt, .z = zb.p, .context = context, .target = target, .grid = g, .mask_token = (int)token};
    rc = all ? pred_forward_all(m.pr, s->q, &in, a, ob.p, err) : pred_forward(m.pr, s->q, &in, a, ob.p, err);
    if (rc < 0) goto end;
    if (!(host = mem_alloc(obytes + 1, 1))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the prediction");
        goto end;
    }
    if ((rc = buf_get(s->q, host, ob.p, obytes, err)) < 0) goto end;
    if (all && (rc = sort_rows(host, context, target, b, nc, nt, m.pc.out_dim, err)) < 0) goto end;
    const tensor t = tensor_f32(host, 3, (int64_t[]){b, rows, m.pc.out_dim});
    rc = compare_output(c, all ? "all" : "target", &t, err);
end:
    mem_free(context);
    mem_free(target);
    mem_free(host);
    pred_acts_close(&a);
    buf_free(&zb);
    buf_free(&ob);
    model_close(&m);
    return rc;
}
