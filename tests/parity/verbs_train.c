/* verbs_train.c: train_step: what is left after some steps on one batch. */
#include "parity.h"
#include "train/train.h"

#include <math.h>
#include <string.h>

typedef struct job {
    train_cfg cfg;
    train *t;
    train_numbers numbers;
    train_batch batch;
    mask_set mask[MAX_GENERATORS];
    const mask_set *masks[MAX_GENERATORS];
} job;

static int training_config(check *c, train_cfg *t, double *clip_after, jepa_err *err) {
    train_cfg_defaults(t);
    int rc = model_config(c, &t->enc, &t->pred, err);
    if (rc != 0) return rc;
    sched_cfg *s = &t->sched;
    *s = (sched_cfg){.kind = SCHED_WARMUP_COSINE};
    double eps;
    const struct {
        const char *key;
        double *to;
    } numbers[] = {{"iterations_per_epoch", &s->iterations_per_epoch},
                   {"epochs", &s->epochs},
                   {"warmup_epochs", &s->warmup_epochs},
                   {"start_lr", &s->start_lr},
                   {"lr", &s->lr},
                   {"final_lr", &s->final_lr},
                   {"weight_decay", &s->weight_decay},
                   {"final_weight_decay", &s->final_weight_decay},
                   {"ipe_scale", &s->ipe_scale},
                   {"ema_start", &s->ema_start},
                   {"ema_end", &s->ema_end},
                   {"loss_exp", &t->loss_exp},
                   {"beta1", &t->beta1},
                   {"beta2", &t->beta2},
                   {"adam_eps", &t->adam_eps},
                   {"clip_grad", &t->clip_grad},
                   {"clip_after_epoch", clip_after},
                   {"target_norm_eps", &eps}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if ((rc = config_double(c, numbers[i].key, 0, 1e15, numbers[i].to, err)) < 0) return rc;
    if (eps != 1e-5) return err_set(err, JEPA_E_MODEL, "target_norm_eps is %g; the trainer normalises targets with 1e-5", eps);
    if (t->clip_grad > 0 && *clip_after != s->warmup_epochs)
        return err_set(err, JEPA_E_MODEL, "clip_after_epoch is %g; the trainer clips after the warm-up (%g epochs)", *clip_after,
                       s->warmup_epochs);
    const char *loss = json_string(config_get(c, "loss"), "power"), *rule = json_string(config_get(c, "mask_token_rule"), "clip-length");
    if (!word_in("power smooth_l1", loss)) return err_set(err, JEPA_E_MODEL, "loss \"%s\" is not known", loss);
    if (!word_in("clip-length generator single", rule)) return err_set(err, JEPA_E_MODEL, "mask_token_rule \"%s\" is not known", rule);
    if (!strcmp(rule, "single") != !!t->pred.single_mask_token)
        return err_set(err, JEPA_E_MODEL, "mask_token_rule is \"%s\", the family has %s", rule,
                       t->pred.single_mask_token ? "one mask_token" : "mask_tokens");
    t->smooth_l1 = !strcmp(loss, "smooth_l1");
    t->mask_token_rule = !strcmp(rule, "generator") ? TOKEN_BY_GENERATOR : TOKEN_BY_CLIP_LENGTH;
    return 0;
}

/* I-JEPA: one context, and every target list is a block of it. The first list is there already; the others go behind it. */
static int read_blocks(check *c, mask_set *m, int *given, jepa_err *err) {
    for (char role[32];; m->num_targets++) {
        int32_t *more = NULL;
        int64_t n = 0;
        snprintf(role, sizeof role, "target_%d", m->num_targets);
        int rc = input_index(c, role, m->batch, &more, &n, err);
        if (rc == JEPA_E_END) return 0;
        if (rc < 0) return rc;
        const size_t list = (size_t)m->batch * (size_t)m->n_target, had = list * (size_t)m->num_targets;
        int32_t *all = n == m->n_target ? mem_alloc(had + list, sizeof *all) : NULL;
        if (all) {
            memcpy(all, m->target, had * sizeof *all);
            memcpy(all + had, more, list * sizeof *all);
            mem_free(m->target);
            m->target = all;
        }
        mem_free(more);
        if (!all) return err_set(err, JEPA_E_MODEL, "%s has %lld tokens, target_0 has %d", role, (long long)n, m->n_target);
        ++*given;
    }
}

static int read_batch(check *c, job *j, jepa_err *err) {
    const tensor *x;
    const int images = !strcmp(c->family, "ijepa"); /* [B,3,H,W] */
    int rc = input_tensor_is(c, "x", T_F32, images ? 4 : 5, &x, err), n = 0, roles = 1;
    if (rc < 0) return rc;
    if (x->dim[1] != 3) return err_set(err, JEPA_E_MODEL, "x has %lld channels, not 3", (long long)x->dim[1]);
    for (char role[32]; n < MAX_GENERATORS; n++) {
        mask_set *m = &j->mask[n];
        int64_t k = 0, t = 0;
        snprintf(role, sizeof role, "context_%d", n);
        if ((rc = input_index(c, role, x->dim[0], &m->context, &k, err)) == JEPA_E_END) break;
        if (rc < 0) return rc;
        snprintf(role, sizeof role, "target_%d", n);
        if ((rc = input_index(c, role, x->dim[0], &m->target, &t, err)) < 0)
            return rc == JEPA_E_END ? err_set(err, JEPA_E_MODEL, "context_%d has no target_%d", n, n) : rc;
        m->batch = (int)x->dim[0], m->n_context = (int)k, m->n_target = (int)t, m->num_targets = 1;
        j->masks[n] = m;
        roles += 2;
    }
    if (n == 1 && images && (rc = read_blocks(c, &j->mask[0], &roles, err)) < 0) return rc;
    if (n < 1 || (int64_t)json_size(c->inputs) != roles)
        return err_set(err, JEPA_E_MODEL, "%lld inputs, of which %d are a clip, its contexts and its targets",
                       (long long)json_size(c->inputs), roles);
    j->batch = (train_batch){.batch = (int)x->dim[0],
                             .frames = images ? 1 : (int)x->dim[2],
                             .height = (int)x->dim[x->rank - 2],
                             .width = (int)x->dim[x->rank - 1],
                             .x = x->data,
                             .type = T_F32,
                             .n_gen = n,
                             .masks = j->masks};
    j->cfg.n_masks = n;
    j->cfg.accumulate = 1;
    j->cfg.feed.batch = j->batch.batch;
    return 0;
}

/* Tables first: a file that stores none means the sin-cos table. */
static int load(check *c, job *j, jepa_err *err) {
    queue *q = train_queue(j->t);
    int rc;
    if ((rc = enc_tables(train_encoder(j->t, 0), q, err)) < 0 || (rc = enc_tables(train_encoder(j->t, 1), q, err)) < 0 ||
        (rc = pred_tables(train_predictor(j->t), q, err)) < 0 ||
        (rc = weights_load(c, "encoder", train_params(j->t), "encoder.", err)) < 0 ||
        (rc = weights_load(c, "predictor", train_params(j->t), "predictor.", err)) < 0)
        return rc;
    if (!json_get(json_get(c->j, "weights"), "target_encoder")) return train_copy_target(j->t, err);
    return weights_load(c, "target_encoder", train_target(j->t), "target_encoder.", err);
}

/* Steps up to the asked one; of that one only the first half where its gradients are wanted. */
static int train_to(job *j, int64_t step, int gradients_only, jepa_err *err) {
    for (int64_t s = 1; s <= step; s++) {
        int rc = s == step && gradients_only ? train_gradients(j->t, &j->batch, 1, &j->numbers, err)
                                             : train_step(j->t, &j->batch, 1, &j->numbers, err);
        if (rc < 0) return rc;
        if (!j->numbers.finite) return err_set(err, JEPA_E_STOPPED, "step %lld: %s is not finite", (long long)s, j->numbers.bad_term);
    }
    return 0;
}

typedef struct source {
    const params *p;
    const buf *from;
    const char *quantity;
    double scale[2];
} source;

static int listed(const check *c, const char *key, const char *name) {
    for (const json *v = json_first(json_get(c->params, key)); v; v = json_next(v))
        if (!strcmp(json_string(v, ""), name)) return 1;
    return 0;
}

/* One parameter's entry of the wanted array, from the device. */
static int fetch(check *c, const source *s, int i, float *host, jepa_err *err) {
    const param *q = &s->p->item[i];
    int rc = buf_get(c->s->q, host, (const float *)s->from->p + q->offset, (size_t)q->count * sizeof *host, err);
    double scale = s->scale[strncmp(q->name, "predictor.", 10) == 0];
    for (int64_t k = 0; scale != 1 && k < q->count; k++) host[k] = (float)(host[k] * scale);
    return rc;
}

/* Every stored tensor of a module against ours, and every one of ours against what is stored: what the stored step does not have got no
 * gradient there, and must be zero here (grad and moments), or is missing (parameters and EMA). */
static int compare_module(check *c, const char *module, const source *s, jepa_err *err) {
    const char *text = output_ref(c, module);
    if (!text) return 0;
    ref r = {0};
    const st_file *st = NULL;
    int rc = ref_parse(&r, text, err);
    if (rc < 0) return rc;
    if (!r.is_prefix) return err_set(err, JEPA_E_MODEL, "the output %s names no prefix: \"%s\"", module, text);
    if ((rc = set_safetensors(c->set, r.file, r.file_len, &st, err)) < 0) return rc;
    c->t.roles++;
    size_t pl = strlen(r.rest) - 1, ml = strlen(module);
    char name[512];
    int found = 0;
    for (int i = 0; i < st_count(st); i++) {
        const st_tensor *t = st_at(st, i);
        if (strncmp(t->name, r.rest, pl)) continue;
        found++;
        snprintf(name, sizeof name, "%s.%s", module, t->name + pl);
        if (params_find(s->p, name) < 0) return err_set(err, JEPA_E_MODEL, "stored %s is no parameter of ours", name);
    }
    if (!found) return err_set(err, JEPA_E_MODEL, "%.*s has no tensor that begins with \"%.*s\"", (int)r.file_len, r.file, (int)pl, r.rest);
    int optional = strcmp(s->quantity, "param") && strcmp(s->quantity, "ema");
    for (int i = 0; i < s->p->n && rc == 0; i++) {
        const param *q = &s->p->item[i];
        if (strncmp(q->name, module, ml) || q->name[ml] != '.') continue;
        snprintf(name, sizeof name, "%.*s%s", (int)pl, r.rest, q->name + ml + 1);
        const st_tensor *t = st_find(st, name);
        int none = optional && (!t || listed(c, "no_gradient", q->name));
        if (!t && (q->flags & PARAM_FIXED)) continue; /* a table that is not stored is the sin-cos table */
        if (!t && !optional) return err_set(err, JEPA_E_MODEL, "%.*s has no %s", (int)r.file_len, r.file, name);
        float *host = mem_alloc((size_t)q->count, sizeof *host);
        if (!host) return err_set(err, JEPA_E_MEMORY, "no memory for %s", q->name);
        if ((rc = fetch(c, s, i, host, err)) == 0 && t) {
            const tensor ours = tensor_f32(host, q->rank, q->dim);
            rc = compare_tensor(c, module, q->name + ml + 1, &ours, &t->t, err);
        }
        for (int64_t k = 0; rc == 0 && none && k < q->count; k++)
            if (host[k] != 0)
                rc = err_set(err, JEPA_E_MODEL, "%s gets no gradient there; its %s here is %g", q->name, s->quantity, (double)host[k]);
        mem_free(host);
    }
    return rc;
}

static double clip_scale(const job *j, double clip_after, int64_t step, double norm) {
    const train_cfg *t = &j->cfg;
    if (!(t->clip_grad > 0) || floor((double)(step - 1) / t->sched.iterations_per_epoch) <= clip_after) return 1;
    double s = t->clip_grad / (norm + 1e-6); /* torch's clip_grad_norm_ */
    return s < 1 ? s : 1;
}

static int compare_quantity(check *c, job *j, const char *quantity, int64_t step, double clip_after, jepa_err *err) {
    const train_numbers *n = &j->numbers;
    int rc;
    if (!strcmp(quantity, "variance_term")) return compare_output_number(c, "variance_term", n->variance_term, err);
    if (!strcmp(quantity, "loss")) return compare_output_number(c, "loss", n->loss, err);
    if (!strcmp(quantity, "schedule"))
        return (rc = compare_output_number(c, "lr", n->lr, err)) < 0 || (rc = compare_output_number(c, "weight_decay", n->wd, err)) < 0
                   ? rc
                   : compare_output_number(c, "ema_momentum", n->ema, err);
    if (!strcmp(quantity, "grad_norm"))
        return (rc = compare_output_number(c, "encoder_grad_norm", n->grad_norm_enc, err)) < 0
                   ? rc
                   : compare_output_number(c, "predictor_grad_norm", n->grad_norm_pred, err);
    const params *p = train_params(j->t), *tp = train_target(j->t);
    source s = {.p = p, .quantity = quantity, .scale = {1, 1}};
    if (!strcmp(quantity, "ema")) {
        s.p = tp, s.from = &tp->value;
        return compare_module(c, "target_encoder", &s, err);
    }
    s.from = !strcmp(quantity, "grad") ? &p->grad : !strcmp(quantity, "param") ? &p->value : !strcmp(quantity, "exp_avg") ? &p->m : &p->v;
    if (!strcmp(quantity, "grad"))
        s.scale[0] = clip_scale(j, clip_after, step, n->grad_norm_enc), s.scale[1] = clip_scale(j, clip_after, step, n->grad_norm_pred);
    return (rc = compare_module(c, "encoder", &s, err)) < 0 ? rc : compare_module(c, "predictor", &s, err);
}

int verb_train_step(check *c, jepa_err *err) {
    int64_t step;
    double grid[3], clip_after = 0;
    const char *quantity = param_string(c, "quantity", "");
    if (!word_in("grad param exp_avg exp_avg_sq ema loss schedule grad_norm variance_term", quantity))
        return err_set(err, JEPA_E_MODEL, "quantity \"%s\" is not known", quantity);
    job *j = mem_alloc(1, sizeof *j);
    if (!j) return err_set(err, JEPA_E_MEMORY, "no memory for the step");
    int rc = training_config(c, &j->cfg, &clip_after, err);
    if (rc != 0 || (rc = param_int(c, "step", 1, 1000, &step, err)) < 0 || (rc = param_numbers(c, "grid", 3, grid, err)) < 0 ||
        (rc = read_batch(c, j, err)) < 0)
        goto end;
    j->cfg.report_variance = !strcmp(quantity, "variance_term");
    const train_batch *b = &j->batch;
    const enc_cfg *e = &j->cfg.enc;
    if (grid[0] != b->frames / e->tubelet_size || grid[1] != b->height / e->patch_size || grid[2] != b->width / e->patch_size) {
        rc = err_set(err, JEPA_E_MODEL, "params' grid is %g,%g,%g; x has another", grid[0], grid[1], grid[2]);
        goto end;
    }
    if ((rc = train_open(&j->t, &j->cfg, c->s->d, err)) < 0 || (rc = load(c, j, err)) < 0 ||
        (rc = train_to(j, step, !strcmp(quantity, "grad"), err)) < 0)
        goto end;
    rc = compare_quantity(c, j, quantity, step, clip_after, err);
end:
    train_close(&j->t);
    for (int i = 0; i < MAX_GENERATORS; i++) {
        mem_free(j->mask[i].context);
        mem_free(j->mask[i].target);
    }
    train_cfg_free(&j->cfg);
    mem_free(j);
    return rc;
}
