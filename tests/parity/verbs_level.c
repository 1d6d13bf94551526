/* verbs_level.c: the loss of V-JEPA 2.1, its gradients, and the distances that weigh it. */
#include "parity.h"
#include "train/train.h"

#include <string.h>

typedef struct job {
    params p;
    enc *e;
    pred *pr;
    enc_cfg ec;
    pred_cfg pc;
    int64_t batch, frames, height, width, tokens, nc, nt, d, token;
    double lambda, p_loss;
    int weighted, grid_size;
    int32_t *context, *target;
    float *distance, *host;
    enc_acts *all_a, *context_a;
    pred_acts *pred_a;
    buf x, keep, targets, z, out, h, index, sums;
    double loss, loss_target, loss_context;
} job;

static void job_close(job *j) {
    enc_acts_close(&j->all_a);
    enc_acts_close(&j->context_a);
    pred_acts_close(&j->pred_a);
    buf *const b[] = {&j->x, &j->keep, &j->targets, &j->z, &j->out, &j->h, &j->index, &j->sums};
    for (size_t i = 0; i < sizeof b / sizeof *b; i++) buf_free(b[i]);
    enc_close(&j->e);
    pred_close(&j->pr);
    params_close(&j->p);
    mem_free(j->context);
    mem_free(j->target);
    mem_free(j->distance);
    mem_free(j->host);
    mem_free(j);
}

static int indices(check *c, const char *role, job *j, int32_t **list, int64_t *n, jepa_err *err) {
    int rc = input_index(c, role, j->batch, list, n, err);
    if (rc == JEPA_E_END) return err_set(err, JEPA_E_MODEL, "the check has no input \"%s\"", role);
    for (int64_t i = 0; rc == 0 && i < j->batch * *n; i++)
        if ((*list)[i] < 0 || (*list)[i] >= j->tokens)
            return err_set(err, JEPA_E_MODEL, "%s names token %d of %lld", role, (*list)[i], (long long)j->tokens);
    return rc;
}

static int read_inputs(check *c, job *j, jepa_err *err) {
    const tensor *x;
    double grid[3], split[2];
    int rc = input_tensor_is(c, "x", T_F32, 5, &x, err);
    if (rc < 0 || (rc = param_numbers(c, "grid", 3, grid, err)) < 0 || (rc = param_numbers(c, "split", 2, split, err)) < 0) return rc;
    j->batch = x->dim[0], j->frames = x->dim[2], j->height = x->dim[3], j->width = x->dim[4];
    j->tokens = enc_tokens(&j->ec, j->frames, j->height, j->width);
    if (x->dim[1] != 3 || grid[0] * grid[1] * grid[2] != (double)j->tokens || grid[1] != (double)(j->height / j->ec.patch_size) ||
        split[0] != grid[1] || split[1] != grid[2] || strcmp(param_string(c, "positions", "grid"), "grid"))
        return err_set(err, JEPA_E_MODEL, "x, grid and split do not belong together");
    j->grid_size = (int)grid[1];
    if ((rc = indices(c, "context", j, &j->context, &j->nc, err)) < 0 || (rc = indices(c, "target", j, &j->target, &j->nt, err)) < 0)
        return rc;
    const size_t bytes = (size_t)tensor_count(x) * sizeof(float);
    if ((rc = buf_new(&j->x, c->s->d, bytes, err)) < 0) return rc;
    return buf_put(c->s->q, j->x.p, x->data, bytes, err);
}

/* The teacher's levels: here the same encoder on all tokens, without a gradient. */
static int targets(check *c, job *j, jepa_err *err) {
    double eps;
    int rc = config_double(c, "target_norm_eps", 0, 1, &eps, err);
    const enc_shape s = {.batch = j->batch, .frames = j->frames, .height = j->height, .width = j->width};
    const enc_in in = {
        .batch = j->batch, .frames = j->frames, .height = j->height, .width = j->width, .x = j->x.p, .type = T_F32, .all_levels = 1};
    const int64_t rows = j->batch * j->tokens;
    if (rc < 0 || (rc = buf_new(&j->targets, c->s->d, (size_t)(rows * j->d) * sizeof(float), err)) < 0 ||
        (rc = enc_acts_open(&j->all_a, j->e, c->s->d, &s, err)) < 0 ||
        (rc = enc_forward(j->e, c->s->q, &in, j->all_a, j->targets.p, err)) < 0)
        return rc;
    return level_targets(c->s->q, j->targets.p, rows, (int)(j->d / j->ec.embed_dim), j->ec.embed_dim, eps, err);
}

static int loss_params(check *c, job *j, jepa_err *err) {
    int rc = param_int(c, "mask_token", 0, 1 << 20, &j->token, err);
    if (rc < 0 || (rc = param_numbers(c, "lambda", 1, &j->lambda, err)) < 0 || (rc = param_numbers(c, "loss_exp", 1, &j->p_loss, err)) < 0)
        return rc;
    const json *w = json_get(c->params, "distance_weighted");
    if (!json_is_bool(w)) return err_set(err, JEPA_E_MODEL, "params do not say distance_weighted");
    j->weighted = json_bool(w, 0);
    return 0;
}

/* Context forward, prediction of all tokens, loss; and, where gradients are wanted, back through both. */
static int predict_and_loss(check *c, job *j, int gradients, jepa_err *err) {
    dev *d = c->s->d;
    queue *q = c->s->q;
    const int64_t n = j->nc + j->nt;
    const size_t kept = (size_t)(j->batch * j->nc), rows = (size_t)(j->batch * n), wide = (size_t)j->d * sizeof(float);
    const enc_shape es = {
        .batch = j->batch, .frames = j->frames, .height = j->height, .width = j->width, .tokens = j->nc, .keep_for_backward = gradients};
    const pred_shape ps = {.batch = j->batch, .context = j->nc, .target = j->nt, .keep_for_backward = gradients};
    int rc = enc_acts_open(&j->context_a, j->e, d, &es, err);
    if (rc < 0 || (rc = pred_acts_open(&j->pred_a, j->pr, d, &ps, err)) < 0 ||
        (rc = buf_new(&j->keep, d, kept * sizeof(int32_t), err)) < 0 || (rc = buf_new(&j->z, d, kept * wide, err)) < 0 ||
        (rc = buf_new(&j->out, d, rows * wide, err)) < 0 || (rc = buf_new(&j->h, d, rows * wide, err)) < 0 ||
        (rc = buf_new(&j->index, d, rows * sizeof(int32_t), err)) < 0 || (rc = buf_new(&j->sums, d, 2 * sizeof(double), err)) < 0 ||
        (rc = buf_put(q, j->keep.p, j->context, kept * sizeof(int32_t), err)) < 0)
        return rc;
    const enc_in in = {.batch = j->batch,
                       .frames = j->frames,
                       .height = j->height,
                       .width = j->width,
                       .x = j->x.p,
                       .type = T_F32,
                       .keep = j->keep.p,
                       .keep_host = j->context,
                       .n_keep = j->nc,
                       .all_levels = 1};
    const pred_in pi = {
        .batch = j->batch,
        .n_context = j->nc,
        .n_target = j->nt,
        .z = j->z.p,
        .context = j->context,
        .target = j->target,
        .grid = {.frames = j->frames / j->ec.tubelet_size, .rows = j->height / j->ec.patch_size, .cols = j->width / j->ec.patch_size},
        .mask_token = (int)j->token};
    if ((rc = enc_forward(j->e, q, &in, j->context_a, j->z.p, err)) < 0 ||
        (rc = pred_forward_all(j->pr, q, &pi, j->pred_a, j->out.p, err)) < 0)
        return rc;
    if (j->weighted) {
        if (!(j->distance = mem_alloc(kept, sizeof *j->distance))) return err_set(err, JEPA_E_MEMORY, "no memory for distances");
        if ((rc = level_distance(j->context, j->nc, j->target, j->nt, j->batch, j->grid_size, 0, j->distance, err)) < 0) return rc;
    }
    const level_loss_in l = {.batch = j->batch,
                             .n_context = j->nc,
                             .n_target = j->nt,
                             .tokens = j->tokens,
                             .d = j->d,
                             .context = j->context,
                             .target = j->target,
                             .targets = j->targets.p,
                             .distance = j->distance,
                             .p = j->p_loss,
                             .lambda = j->lambda,
                             .scale = 1,
                             .all = j->out.p,
                             .h = j->h.p,
                             .index = j->index.p,
                             .sums = j->sums.p};
    if ((rc = level_loss(q, &l, &j->loss_target, &j->loss_context, err)) < 0) return rc;
    j->loss = j->loss_target + j->lambda * j->loss_context;
    if (!gradients) return 0;
    if ((rc = pred_backward(j->pr, q, j->pred_a, j->out.p, j->z.p, err)) < 0) return rc;
    return enc_backward(j->e, q, j->context_a, j->z.p, err);
}

static int job_open(check *c, job *j, int predictor, jepa_err *err) {
    int rc = model_config(c, &j->ec, &j->pc, err);
    if (rc != 0 || (rc = enc_open(&j->e, &j->ec, &j->p, "encoder.", err)) < 0 ||
        (predictor && (rc = pred_open(&j->pr, &j->pc, &j->p, "predictor.", err)) < 0) ||
        (rc = params_alloc(&j->p, c->s->d, PARAMS_GRAD, err)) < 0 || (rc = weights_load(c, "encoder", &j->p, "encoder.", err)) < 0 ||
        (predictor && (rc = weights_load(c, "predictor", &j->p, "predictor.", err)) < 0))
        return rc;
    j->d = enc_out_dim(&j->ec, 1);
    if (predictor && (j->pc.out_dim != j->d || j->pc.levels * j->pc.embed_dim != j->d || !j->pc.context_proj))
        return err_set(err, JEPA_E_MODEL, "a predictor of %d levels and %d channels out does not meet targets of %lld channels",
                       j->pc.levels, j->pc.out_dim, (long long)j->d);
    return 0;
}

/* A scalar that is stored as a tensor [1]. */
static int compare_scalar(check *c, const char *role, double ours, jepa_err *err) {
    const float v = (float)ours;
    const tensor t = tensor_f32(&v, 1, (int64_t[]){1});
    return compare_output(c, role, &t, err);
}

int verb_level_loss(check *c, jepa_err *err) {
    const int terms = output_ref(c, "loss") || output_ref(c, "loss_target") || output_ref(c, "loss_context");
    job *j = mem_alloc(1, sizeof *j);
    if (!j) return err_set(err, JEPA_E_MEMORY, "no memory for the loss");
    int rc = job_open(c, j, terms, err);
    if (rc != 0 || (rc = read_inputs(c, j, err)) < 0 || (rc = targets(c, j, err)) < 0) goto end;
    if (output_ref(c, "targets")) {
        const size_t bytes = (size_t)(j->batch * j->tokens * j->d) * sizeof(float);
        if (!(j->host = mem_alloc(bytes, 1))) {
            rc = err_set(err, JEPA_E_MEMORY, "no memory for the targets");
            goto end;
        }
        const tensor t = tensor_f32(j->host, 3, (int64_t[]){j->batch, j->tokens, j->d});
        if ((rc = buf_get(c->s->q, j->host, j->targets.p, bytes, err)) < 0 || (rc = compare_output(c, "targets", &t, err)) < 0) goto end;
    }
    if (!terms || (rc = loss_params(c, j, err)) < 0 || (rc = predict_and_loss(c, j, 0, err)) < 0) goto end;
    if ((rc = compare_scalar(c, "loss", j->loss, err)) < 0 || (rc = compare_scalar(c, "loss_target", j->loss_target, err)) < 0) goto end;
    rc = compare_scalar(c, "loss_context", j->loss_context, err);
end:
    job_close(j);
    return rc;
}

/* Every stored gradient against ours. The files keep some only; what they hold of parameters that get none is zero, and absent names that
 * the check lists must be zero here. */
static int compare_gradients(check *c, const job *j, const char *module, jepa_err *err) {
    const char *text = output_ref(c, module);
    if (!text) return 0;
    ref r = {0};
    const st_file *st = NULL;
    int rc = ref_parse(&r, text, err), found = 0;
    if (rc < 0) return rc;
    if (!r.is_prefix) return err_set(err, JEPA_E_MODEL, "the output %s names no prefix: \"%s\"", module, text);
    if ((rc = set_safetensors(c->set, r.file, r.file_len, &st, err)) < 0) return rc;
    c->t.roles++;
    const size_t skip = strlen(r.rest) - 1;
    for (int i = 0; i < st_count(st) && rc >= 0; i++) {
        const st_tensor *t = st_at(st, i);
        if (strncmp(t->name, r.rest, skip)) continue;
        char name[512];
        snprintf(name, sizeof name, "%s.%s", module, t->name + skip);
        const int k = params_find(&j->p, name);
        if (k < 0) return err_set(err, JEPA_E_MODEL, "stored %s is no parameter of ours", name);
        const param *p = &j->p.item[k];
        float *host = mem_alloc((size_t)p->count, sizeof *host);
        if (!host) return err_set(err, JEPA_E_MEMORY, "no memory for %s", name);
        const tensor ours = tensor_f32(host, p->rank, p->dim);
        rc = buf_get(c->s->q, host, param_grad(&j->p, k), (size_t)p->count * sizeof *host, err);
        if (rc == 0) rc = compare_tensor(c, module, t->name + skip, &ours, &t->t, err);
        mem_free(host);
        found++;
    }
    if (rc == 0 && !found) return err_set(err, JEPA_E_MODEL, "nothing is stored for %s", module);
    return rc;
}

int verb_level_gradients(check *c, jepa_err *err) {
    if (strcmp(param_string(c, "of", ""), "loss"))
        return err_set(err, JEPA_E_MODEL, "gradients of \"%s\" are not known", param_string(c, "of", ""));
    job *j = mem_alloc(1, sizeof *j);
    if (!j) return err_set(err, JEPA_E_MEMORY, "no memory for the gradients");
    int rc = job_open(c, j, 1, err);
    if (rc != 0 || (rc = read_inputs(c, j, err)) < 0 || (rc = loss_params(c, j, err)) < 0 || (rc = targets(c, j, err)) < 0 ||
        (rc = predict_and_loss(c, j, 1, err)) < 0 || (rc = compare_gradients(c, j, "encoder", err)) < 0)
        goto end;
    rc = compare_gradients(c, j, "predictor", err);
end:
    job_close(j);
    return rc;
}

int verb_mask_distance(check *c, jepa_err *err) {
    const tensor *t;
    int64_t side, nc = 0, nt = 0;
    int32_t *context = NULL, *target = NULL;
    float *distance = NULL;
    int rc = param_int(c, "grid_size", 1, 4096, &side, err);
    if (rc < 0 || (rc = input_tensor(c, "context", &t, err)) < 0)
        return rc == JEPA_E_END ? err_set(err, JEPA_E_MODEL, "the check has no context") : rc;
    const json *offset = json_get(c->params, "offset");
    if (t->rank != 2 || !json_is_bool(offset)) return err_set(err, JEPA_E_MODEL, "context is no [B,n], or params do not say offset");
    const int64_t batch = t->dim[0];
    if ((rc = input_index(c, "context", batch, &context, &nc, err)) < 0 || (rc = input_index(c, "target", batch, &target, &nt, err)) < 0) {
        if (rc == JEPA_E_END) err_set(err, rc = JEPA_E_MODEL, "the check has no target");
        goto end;
    }
    if (!(distance = mem_alloc((size_t)(batch * nc) + 1, sizeof *distance))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for distances");
        goto end;
    }
    if ((rc = level_distance(context, nc, target, nt, batch, (int)side, json_bool(offset, 0), distance, err)) < 0) goto end;
    const tensor ours = tensor_f32(distance, 2, (int64_t[]){batch, nc});
    rc = compare_output(c, "distance", &ours, err);
end:
    mem_free(context);
    mem_free(target);
    mem_free(distance);
    return rc;
}
