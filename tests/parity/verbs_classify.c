/* verbs_classify.c: classify and gradients of attentive probes, and classify of whole Hugging Face classifiers. */
#include "parity.h"
#include "encoder/attentive.h"

#include <string.h>

typedef struct head {
    params p;
    att *e;
    att_acts *a;
    att_cfg c;
    int64_t batch, tokens;
    const int64_t *labels; /* NULL: none */
    buf x, pooled, logits;
    float *host; /* logits [B,classes], then pooled [B,D] */
} head;

static void head_close(head *h) {
    att_acts_close(&h->a);
    att_close(&h->e);
    params_close(&h->p);
    buf_free(&h->x), buf_free(&h->pooled), buf_free(&h->logits);
    mem_free(h->host);
}

static int head_config(check *c, att_cfg *a, jepa_err *err) {
    int rc;
    *a = (att_cfg){0};
    if ((rc = config_int(c, "embed_dim", 1, 65536, &a->embed_dim, err)) < 0 ||
        (rc = config_int(c, "num_heads", 1, 1024, &a->num_heads, err)) < 0 ||
        (rc = config_int(c, "probe_depth", 1, 1024, &a->depth, err)) < 0 ||
        (rc = config_int(c, "num_classes", 1, 1 << 20, &a->num_classes, err)) < 0 ||
        (rc = config_double(c, "mlp_ratio", 0.01, 1000, &a->mlp_ratio, err)) < 0)
        return rc;
    return config_double(c, "layer_norm_eps", 0, 1, &a->layer_norm_eps, err);
}

/* A classifier's folder says its sizes itself: they must be meta.json's. */
static int head_folder(check *c, head *h, jepa_err *err) {
    const char *file = json_string(json_get(json_get(json_get(c->j, "weights"), "model"), "file"), NULL);
    char path[1400];
    ck *k = NULL;
    model_cfg m;
    if (!file) return err_set(err, JEPA_E_MODEL, "the check names no folder (weights.model)");
    int rc = set_path(c->set, file, path, sizeof path, err);
    if (rc < 0) return rc;
    if ((rc = ck_open(&k, path, err)) < 0 || (rc = ck_config(k, &m, err)) < 0) goto end;
    if (!ck_has(k, CK_POOLER) || m.pooler_depth != h->c.depth || m.pooler_heads != h->c.num_heads || m.num_classes != h->c.num_classes ||
        m.pooler_mlp_ratio != h->c.mlp_ratio || m.pooler_eps != h->c.layer_norm_eps) {
        rc = err_set(err, JEPA_E_MODEL,
                     "%s: its head is read as %d blocks, %d heads, %d classes, ratio %g, eps %g; meta.json says otherwise", file,
                     m.pooler_depth, m.pooler_heads, m.num_classes, m.pooler_mlp_ratio, m.pooler_eps);
        goto end;
    }
    ck_report report;
    rc = ck_load(k, &h->p, "probe.", CK_POOLER, 0, &report, err);
end:
    ck_close(&k);
    return rc;
}

static int head_open(head *h, check *c, int keep, jepa_err *err) {
    session *s = c->s;
    const int folder = !strcmp(c->kind, "hf-classifier");
    int rc;
    if ((rc = head_config(c, &h->c, err)) < 0 || (rc = att_open(&h->e, &h->c, &h->p, "probe.", err)) < 0 ||
        (rc = params_alloc(&h->p, s->d, keep ? PARAMS_GRAD : 0, err)) < 0)
        return rc;
    return folder ? head_folder(c, h, err) : weights_load(c, "probe", &h->p, "probe.", err);
}

/* Room for tokens [B,N,D] (which then lie in h->x), labels of the same B. */
static int head_input(head *h, check *c, int64_t batch, int64_t tokens, const float *x, int keep, jepa_err *err) {
    session *s = c->s;
    const tensor *labels = NULL;
    int rc;
    h->batch = batch, h->tokens = tokens;
    if (json_get(c->inputs, "labels")) {
        if ((rc = input_tensor_is(c, "labels", T_I64, 1, &labels, err)) < 0) return rc;
        if (labels->dim[0] != batch)
            return err_set(err, JEPA_E_MODEL, "%lld labels for %lld items", (long long)labels->dim[0], (long long)batch);
        h->labels = labels->data;
    }
    const size_t in = (size_t)(batch * tokens * h->c.embed_dim) * sizeof(float),
                 scores = (size_t)(batch * h->c.num_classes) * sizeof(float), rows = (size_t)(batch * h->c.embed_dim) * sizeof(float);
    const att_shape shape = {.batch = batch, .tokens = tokens, .keep_for_backward = keep};
    if ((rc = att_acts_open(&h->a, h->e, s->d, &shape, err)) < 0 || (rc = buf_new(&h->x, s->d, in, err)) < 0 ||
        (rc = buf_put(s->q, h->x.p, x, in, err)) < 0 || (rc = buf_new(&h->logits, s->d, scores, err)) < 0 ||
        (rc = buf_new(&h->pooled, s->d, rows, err)) < 0)
        return rc;
    h->host = mem_alloc(scores + rows, 1);
    return h->host ? 0 : err_set(err, JEPA_E_MEMORY, "no memory for the scores");
}

static int run(head *h, check *c, jepa_err *err) {
    session *s = c->s;
    const att_in in = {.batch = h->batch, .tokens = h->tokens, .x = h->x.p};
    int rc = att_forward(h->e, s->q, &in, h->a, h->pooled.p, h->logits.p, err);
    if (rc == 0) rc = buf_get(s->q, h->host, h->logits.p, (size_t)(h->batch * h->c.num_classes) * sizeof(float), err);
    if (rc == 0)
        rc = buf_get(s->q, h->host + h->batch * h->c.num_classes, h->pooled.p, (size_t)(h->batch * h->c.embed_dim) * sizeof(float), err);
    return rc;
}

static int compare(head *h, check *c, jepa_err *err) {
    const int64_t b = h->batch, k = h->c.num_classes;
    double *p = mem_alloc((size_t)(b * k), sizeof *p), loss = 0;
    float *f = mem_alloc((size_t)(b * k), sizeof *f), one;
    int rc = !p || !f ? err_set(err, JEPA_E_MEMORY, "no memory for the probabilities") : 0;
    if (rc == 0 && h->labels) rc = cross_entropy(h->host, h->labels, b, k, &loss, NULL, NULL, err);
    if (rc < 0) goto end;
    softmax_rows(h->host, b, k, p);
    for (int64_t i = 0; i < b * k; i++) f[i] = (float)p[i];
    one = (float)loss;
    const tensor logits = tensor_f32(h->host, 2, (int64_t[]){b, k}),
                 pooled = tensor_f32(h->host + b * k, 2, (int64_t[]){b, h->c.embed_dim}),
                 prob = tensor_f32(f, 2, (int64_t[]){b, k}), lt = tensor_f32(&one, 1, (int64_t[]){1});
    if (output_ref(c, "loss") && !h->labels) {
        rc = err_set(err, JEPA_E_MODEL, "a loss is wanted and there are no labels");
        goto end;
    }
    if ((rc = compare_output(c, "logits", &logits, err)) < 0 || (rc = compare_output(c, "pooled", &pooled, err)) < 0 ||
        (rc = compare_output(c, "probabilities", &prob, err)) < 0)
        goto end;
    rc = compare_output(c, "loss", &lt, err);
end:
    mem_free(p), mem_free(f);
    return rc;
}

/* The classifier's own encoder: x [B,T,C,H,W] → tokens in host memory, mem_free. */
static int encode(check *c, float **out, int64_t *batch, int64_t *tokens, jepa_err *err) {
    session *s = c->s;
    model m;
    const tensor *t;
    enc_acts *a = NULL;
    buf x = {0}, y = {0};
    *out = NULL;
    int rc = model_open(&m, c, WANT_ENCODER, err);
    if (rc != 0) return rc;
    if ((rc = input_tensor_is(c, "x", T_F32, 5, &t, err)) < 0) goto end;
    const enc_shape shape = {.batch = t->dim[0], .frames = t->dim[1], .height = t->dim[3], .width = t->dim[4]};
    *batch = shape.batch, *tokens = enc_tokens(&m.ec, shape.frames, shape.height, shape.width);
    if (strcmp(param_string(c, "positions", "grid"), "grid") || t->dim[2] != m.ec.in_chans || *tokens < 1) {
        rc = err_set(err, JEPA_E_MODEL, "a classifier's x is [B,T,C,H,W], its positions the grid's");
        goto end;
    }
    const size_t bytes = (size_t)(*batch * *tokens * m.ec.embed_dim) * sizeof(float), in = (size_t)tensor_count(t) * sizeof(float);
    enc_in e = {.batch = shape.batch, .frames = shape.frames, .height = shape.height, .width = shape.width, .type = T_F32,
                .frames_first = 1};
    if ((rc = enc_acts_open(&a, m.e, s->d, &shape, err)) < 0 || (rc = buf_new(&x, s->d, in, err)) < 0 ||
        (rc = buf_put(s->q, x.p, t->data, in, err)) < 0 || (rc = buf_new(&y, s->d, bytes, err)) < 0)
        goto end;
    e.x = x.p;
    if ((rc = enc_forward(m.e, s->q, &e, a, y.p, err)) < 0) goto end;
    if (!(*out = mem_alloc(bytes, 1))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the tokens");
        goto end;
    }
    if ((rc = buf_get(s->q, *out, y.p, bytes, err)) < 0) goto end;
    const tensor tt = tensor_f32(*out, 3, (int64_t[]){*batch, *tokens, m.ec.embed_dim});
    rc = compare_output(c, "tokens", &tt, err);
end:
    if (rc < 0) mem_free(*out), *out = NULL;
    enc_acts_close(&a);
    buf_free(&x), buf_free(&y);
    model_close(&m);
    return rc;
}

int verb_classify(check *c, jepa_err *err) {
    head h = {.e = NULL};
    const tensor *t = NULL;
    float *own = NULL;
    int64_t b, n;
    int rc = head_open(&h, c, 0, err);
    if (rc != 0) goto end;
    if (!strcmp(c->kind, "hf-classifier")) {
        if ((rc = encode(c, &own, &b, &n, err)) != 0) goto end;
    } else {
        if ((rc = input_tensor_is(c, "tokens", T_F32, 3, &t, err)) < 0) goto end;
        b = t->dim[0], n = t->dim[1];
        if (t->dim[2] != h.c.embed_dim) {
            rc = err_set(err, JEPA_E_MODEL, "tokens have %lld channels, the probe %d", (long long)t->dim[2], h.c.embed_dim);
            goto end;
        }
    }
    if ((rc = head_input(&h, c, b, n, own ? own : t->data, 0, err)) < 0 || (rc = run(&h, c, err)) < 0)
        goto end;
    rc = compare(&h, c, err);
end:
    mem_free(own);
    head_close(&h);
    return rc;
}

/* Every stored gradient against ours; one of ours that is not stored must be zero. */
static int compare_gradients(head *h, check *c, jepa_err *err) {
    const char *text = output_ref(c, "probe");
    const st_file *st = NULL;
    ref r = {0};
    int rc, found = 0;
    if (!text) return 0;
    if ((rc = ref_parse(&r, text, err)) < 0 || (rc = set_safetensors(c->set, r.file, r.file_len, &st, err)) < 0) return rc;
    if (!r.is_prefix) return err_set(err, JEPA_E_MODEL, "the output probe names no prefix: \"%s\"", text);
    c->t.roles++;
    const size_t front = strlen(r.rest) - 1;
    for (int i = 0; i < st_count(st); i++) found += !strncmp(st_at(st, i)->name, r.rest, front);
    for (int i = 0; i < h->p.n && rc == 0; i++) {
        const param *q = &h->p.item[i];
        char name[256];
        snprintf(name, sizeof name, "%.*s%s", (int)front, r.rest, q->name + strlen("probe."));
        const st_tensor *t = st_find(st, name);
        float *host = mem_alloc((size_t)q->count, sizeof *host);
        if (!host) return err_set(err, JEPA_E_MEMORY, "no memory for %s", name);
        rc = buf_get(c->s->q, host, param_grad(&h->p, i), (size_t)q->count * sizeof *host, err);
        if (rc == 0 && t) {
            const tensor ours = tensor_f32(host, q->rank, q->dim);
            found--;
            rc = compare_tensor(c, "probe", q->name + strlen("probe."), &ours, &t->t, err);
        }
        for (int64_t k = 0; rc == 0 && !t && k < q->count; k++)
            if (host[k] != 0) rc = err_set(err, JEPA_E_MODEL, "%s is not stored; its gradient here is %g", name, (double)host[k]);
        mem_free(host);
    }
    return rc == 0 && found ? err_set(err, JEPA_E_MODEL, "%d stored gradients are of no parameter of ours", found) : rc;
}

int verb_probe_gradients(check *c, jepa_err *err) {
    head h = {.e = NULL};
    const tensor *t;
    double loss;
    int rc = head_open(&h, c, 1, err);
    if (rc != 0) goto end;
    if (strcmp(param_string(c, "of", ""), "loss")) {
        rc = err_set(err, JEPA_E_MODEL, "gradients of \"%s\" are not known", param_string(c, "of", ""));
        goto end;
    }
    if ((rc = input_tensor_is(c, "tokens", T_F32, 3, &t, err)) < 0) goto end;
    if (t->dim[2] != h.c.embed_dim || !json_get(c->inputs, "labels")) {
        rc = err_set(err, JEPA_E_MODEL, "gradients need tokens of %d channels and labels", h.c.embed_dim);
        goto end;
    }
    if ((rc = head_input(&h, c, t->dim[0], t->dim[1], t->data, 1, err)) < 0 || (rc = run(&h, c, err)) < 0 ||
        (rc = cross_entropy(h.host, h.labels, h.batch, h.c.num_classes, &loss, NULL, h.host, err)) < 0 ||
        (rc = buf_put(c->s->q, h.logits.p, h.host, (size_t)(h.batch * h.c.num_classes) * sizeof(float), err)) < 0 ||
        (rc = att_backward(h.e, c->s->q, h.a, h.logits.p, h.x.p, err)) < 0 || (rc = compare_gradients(&h, c, err)) < 0)
        goto end;
    float *host = mem_alloc((size_t)tensor_count(t), sizeof *host);
    if (!host) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the tokens' gradient");
        goto end;
    }
    if ((rc = buf_get(c->s->q, host, h.x.p, (size_t)tensor_count(t) * sizeof *host, err)) == 0) {
        const tensor ours = tensor_f32(host, t->rank, t->dim);
        rc = compare_output(c, "tokens", &ours, err);
    }
    mem_free(host);
end:
    head_close(&h);
    return rc;
}
