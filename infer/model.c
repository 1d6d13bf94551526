/* model.c: opening a model for inference: files → encoder, its transform and its sampling. */
#include "infer/classify.h"
#include "infer/predict.h"
#include "base/yaml.h"
#include "compute/ops.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *jepa_version(void) { return JEPA_VERSION; }

void jepa_options_defaults(jepa_options *o) {
    memset(o, 0, sizeof *o);
    o->size = sizeof *o;
    o->device = "auto";
    o->init_sd = 0.02;
}

/* An older caller's struct is shorter: what it does not have keeps its default. */
static int options_in(jepa_options *to, const jepa_options *from, jepa_err *err) {
    jepa_options_defaults(to);
    if (!from) return 0;
    if (from->size < sizeof from->size || from->size > sizeof *from)
        return err_set(err, JEPA_E_USE, "jepa_options.size is %zu; call jepa_options_defaults first", from->size);
    memcpy(to, from, from->size);
    to->size = sizeof *to;
    return 0;
}

static void say(const jepa *m, const char *text) {
    if (m->o.log && text[0]) m->o.log(m->o.ctx, text);
}

/* A line each. */
static void say_lines(const jepa *m, const char *text) {
    char line[1024];
    for (size_t n; *text; text += n + (text[n] != 0)) {
        n = strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s", (int)n, text);
        say(m, line);
    }
}

/* What a training run sampled: its config.yaml lies beside the weights. Frame rate or step, and whether frames were cropped at random. */
static void training_sampling(jepa *m) {
    char path[2048];
    yaml *y = NULL;
    int64_t step;
    double fps, s0 = 0, s1 = 0;
    ck_side_file(m->c, "config.yaml", path, sizeof path);
    if (!path[0] || yaml_read(&y, path, NULL) < 0) return;
    const yaml *v = yaml_at(y, "data.fps"), *scale = yaml_at(y, "data_aug.random_resize_scale");
    if (yaml_double(v, &fps) && fps > 0 && fps < 1e6) m->fps = fps, m->stride = 0;
    else if (yaml_int(yaml_at(y, "data.frame_step"), &step) && step > 0 && step < 100000) m->fps = 0, m->stride = (int)step;
    /* trained on whole frames: evaluation sees whole frames too, not the centre of a larger picture */
    if (scale && scale->kind == YAML_LIST && scale->count == 2 && yaml_double(scale->item[0], &s0) && yaml_double(scale->item[1], &s1) && s0 == 1 && s1 == 1)
        m->clip.short_side = m->clip.crop;
    yaml_close(&y);
}

static int find_transform(jepa *m, jepa_err *err) {
    static const char *const names[] = {"video_preprocessor_config.json", "preprocessor_config.json"};
    char path[2048];
    clip_cfg_defaults(&m->clip, m->mc.img_height);
    m->fps = 4;
    snprintf(m->transform, sizeof m->transform, "Meta's evaluation transform");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ck_side_file(m->c, names[i], path, sizeof path);
        if (!path[0]) continue;
        int rc = clip_processor_read(&m->clip, path, err);
        if (rc < 0) return rc;
        snprintf(m->transform, sizeof m->transform, "Hugging Face's (%s)", names[i]);
        return 0;
    }
    if (!strcmp(m->mc.family, "ijepa")) {
        m->clip.mode = CLIP_EVAL_HF; /* the usual evaluation of image models: antialiased resize of the short side, centre crop */
        snprintf(m->transform, sizeof m->transform, "antialiased resize to %d, centre crop", m->clip.crop * 256 / 224);
    }
    training_sampling(m);
    return 0;
}

static pos_kind positions_of(const model_cfg *mc) { return !mc->use_rope ? POS_SINCOS : mc->rope_interleaved ? POS_ROPE_INTERLEAVED : POS_ROPE_TILED; }

static void encoder_cfg(const model_cfg *mc, enc_cfg *c) {
    enc_cfg_defaults(c);
    c->img_height = mc->img_height, c->img_width = mc->img_width;
    c->patch_size = mc->patch_size, c->tubelet_size = mc->tubelet_size, c->num_frames = mc->num_frames, c->in_chans = mc->in_chans;
    c->embed_dim = mc->embed_dim, c->depth = mc->depth, c->num_heads = mc->num_heads;
    c->mlp_ratio = mc->mlp_ratio, c->layer_norm_eps = mc->layer_norm_eps;
    c->positions = positions_of(mc);
    c->uniform_power = mc->uniform_power;
    c->columns_first = !strcmp(mc->family, "ijepa");
    c->interpolate_rope = mc->interpolate_rope;
    c->level_norms = mc->level_norms, c->levels = mc->levels;
    memcpy(c->level_block, mc->level_block, sizeof c->level_block);
    c->image_patch_embed = mc->image_patch_embed, c->modality_embedding = mc->modality_embedding;
}

static void predictor_cfg(const model_cfg *mc, const enc_cfg *e, pred_cfg *c) {
    pred_cfg_defaults(c, e);
    c->predictor_embed_dim = mc->predictor_embed_dim, c->depth = mc->predictor_depth, c->num_heads = mc->predictor_num_heads;
    c->out_dim = mc->predictor_out_dim ? mc->predictor_out_dim : mc->embed_dim;
    c->num_mask_tokens = mc->num_mask_tokens;
    if (mc->predictor_mlp_ratio > 0) c->mlp_ratio = mc->predictor_mlp_ratio;
    c->layer_norm_eps = mc->layer_norm_eps;
    c->levels = mc->predictor_levels, c->context_proj = mc->predictor_context_proj;
    c->modality_embedding = mc->modality_embedding;
    c->interpolate_rope = mc->predictor_interpolate_rope, c->patch_size = mc->patch_size;
    c->single_mask_token = !strcmp(mc->family, "ijepa"), c->columns_first = c->single_mask_token;
    c->uniform_power = mc->uniform_power;
    c->frames = mc->num_frames / mc->tubelet_size, c->rows = mc->img_height / mc->patch_size, c->cols = mc->img_width / mc->patch_size;
}

static int fill(jepa *m, params *p, const char *prefix, ck_module from, jepa_err *err) {
    ck_report rep = {0};
    int rc = ck_load(m->c, p, prefix, from, m->o.allow_partial ? CK_ALLOW_PARTIAL : 0, &rep, err);
    if (rc == 0) say(m, rep.text);
    return rc;
}

static int stored_as(const jepa *m) { return m->type == T_BF16 && !m->o.untrained ? PARAMS_HALF_ONLY : 0; }

/* Predictor and, where the file holds two encoders, the one of the context. */
static int open_predictor(jepa *m, const char *path, jepa_err *err) {
    int rc;
    if (!ck_has(m->c, CK_PREDICTOR))
        return err_set(err, JEPA_E_MODEL, "%s: there is no predictor in it (a training checkpoint or a Hugging Face VJEPA2Model folder has one)", path);
    predictor_cfg(&m->mc, &m->ec, &m->pc);
    if ((rc = pred_cfg_check(&m->pc, err)) < 0 || (rc = pred_open(&m->pr, &m->pc, &m->pp, "predictor.", err)) < 0 ||
        (rc = pred_set_type(m->pr, m->type, err)) < 0 || (rc = params_alloc(&m->pp, m->d, stored_as(m), err)) < 0)
        return rc;
    if (m->which_target && ck_has(m->c, CK_ENCODER) &&
        ((rc = enc_open(&m->ctx, &m->ec, &m->cp, "encoder.", err)) < 0 || (rc = enc_set_type(m->ctx, m->type, err)) < 0 ||
         (rc = params_alloc(&m->cp, m->d, stored_as(m), err)) < 0))
        return rc;
    queue *q = NULL;
    if ((rc = queue_open(&q, m->d, err)) == 0 && m->ec.positions == POS_SINCOS) {
        rc = pred_tables(m->pr, q, err);
        if (rc == 0 && m->ctx) rc = enc_tables(m->ctx, q, err);
    }
    queue_close(&q);
    if (rc == 0) rc = fill(m, &m->pp, "predictor.", CK_PREDICTOR, err);
    if (rc == 0 && m->ctx) rc = fill(m, &m->cp, "encoder.", CK_ENCODER, err);
    return rc;
}

static int load_weights(jepa *m, const char *path, jepa_err *err) {
    queue *q = NULL;
    int rc = queue_open(&q, m->d, err);
    if (rc == 0 && m->o.untrained) rc = enc_init(m->e, q, m->o.init_sd, m->o.seed, err);
    else if (rc == 0 && m->ec.positions == POS_SINCOS) rc = enc_tables(m->e, q, err); /* a file that stores its table overwrites it */
    queue_close(&q);
    if (rc < 0 || m->o.untrained) return rc;
    /* Hugging Face and other single-encoder files hold one module; a training checkpoint holds both. */
    int want = m->o.context_encoder ? CK_ENCODER : CK_TARGET;
    if (m->o.context_encoder && !ck_has(m->c, CK_ENCODER)) return err_set(err, JEPA_E_MODEL, "%s: no context encoder in it", path);
    if (!ck_has(m->c, (ck_module)want)) want = want == CK_TARGET ? CK_ENCODER : CK_TARGET;
    if (!ck_has(m->c, (ck_module)want)) return err_set(err, JEPA_E_MODEL, "%s: no encoder in it", path);
    m->which_target = want == CK_TARGET;
    if ((rc = fill(m, &m->p, "encoder.", (ck_module)want, err)) < 0) return rc;
    return m->o.predictor ? open_predictor(m, path, err) : 0;
}

int jepa_open(jepa **out, const char *path, const jepa_options *o, jepa_err *err) {
    *out = NULL;
    if (!path || !*path) return err_set(err, JEPA_E_USE, "no model was named");
    jepa *m = mem_alloc(1, sizeof *m);
    if (!m) return err_set(err, JEPA_E_MEMORY, "no memory for a model");
    int rc = options_in(&m->o, o, err);
    if (rc < 0) goto fail;
    if (pthread_mutex_init(&m->lock, NULL)) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for a lock");
        goto fail;
    }
    m->lock_ready = 1;
    const char *precision = m->o.precision ? m->o.precision : "f32";
    if (strcmp(precision, "f32") && strcmp(precision, "bf16")) {
        rc = err_set(err, JEPA_E_USE, "precision %s: f32 or bf16", precision);
        goto fail;
    }
    m->type = !strcmp(precision, "bf16") ? T_BF16 : T_F32;
    const ck_hints hints = {.arch = m->o.arch, .family = m->o.family, .config = m->o.config, .heads = m->o.heads, .pred_heads = m->o.predictor_heads};
    const char *device = m->o.device && strcmp(m->o.device, "auto") ? m->o.device : "cpu";
    if ((rc = dev_open(&m->d, device, m->o.threads, err)) < 0 || (rc = ck_open_as(&m->c, path, &hints, err)) < 0 || (rc = ck_config(m->c, &m->mc, err)) < 0) goto fail;
    say_lines(m, ck_notes(m->c));
    if (!m->mc.num_heads) {
        rc = err_set(err, JEPA_E_MODEL, "%s: the number of attention heads is not in the file, and %d x %d is no published size: --heads N (or --arch, --config) says it",
                     path, m->mc.embed_dim, m->mc.depth);
        goto fail;
    }
    snprintf(m->device, sizeof m->device, "%s", dev_describe(m->d));
    snprintf(m->kind, sizeof m->kind, "%s", ck_kind(m->c));
    encoder_cfg(&m->mc, &m->ec);
    if ((rc = enc_cfg_check(&m->ec, err)) < 0 || (rc = enc_open(&m->e, &m->ec, &m->p, "encoder.", err)) < 0 ||
        (rc = enc_set_type(m->e, m->type, err)) < 0 || (rc = params_alloc(&m->p, m->d, stored_as(m), err)) < 0 || (rc = load_weights(m, path, err)) < 0 || (rc = find_transform(m, err)) < 0)
        goto fail;
    *out = m;
    return 0;
fail:
    jepa_close(&m);
    return rc;
}

void jepa_close(jepa **mp) {
    jepa *m = mp ? *mp : NULL;
    if (!m) return;
    enc_close(&m->e);
    enc_close(&m->ctx);
    pred_close(&m->pr);
    head_close(&m->head);
    params_close(&m->p);
    params_close(&m->cp);
    params_close(&m->pp);
    ck_close(&m->c);
    dev_close(&m->d);
    if (m->lock_ready) pthread_mutex_destroy(&m->lock);
    mem_free(m);
    *mp = NULL;
}

int untrained_twin(const jepa *m, jepa **out, int64_t seed, double init_sd, jepa_err *err) {
    char path[2048];
    yaml *y = NULL;
    jepa_options o = m->o;
    o.untrained = 1;
    o.seed = (uint64_t)seed, o.init_sd = init_sd;
    ck_side_file(m->c, "config.yaml", path, sizeof path);
    if (path[0] && yaml_read(&y, path, NULL) == 0) {
        int64_t s;
        double sd;
        if (!seed && yaml_int(yaml_at(y, "meta.seed"), &s) && s >= 0) o.seed = (uint64_t)s;
        if (!(init_sd > 0) && yaml_double(yaml_at(y, "optimization.init_sd"), &sd) && sd > 0) o.init_sd = sd;
    }
    yaml_close(&y);
    if (!(o.init_sd > 0)) o.init_sd = 0.02;
    return jepa_open(out, ck_path(m->c), &o, err);
}

int jepa_get_info(const jepa *m, jepa_info *out) {
    if (!m || !out || out->size < sizeof out->size || out->size > sizeof *out) return JEPA_E_USE;
    jepa_info i = {.size = out->size};
    snprintf(i.family, sizeof i.family, "%s", m->mc.family);
    snprintf(i.variant, sizeof i.variant, "%s", m->mc.variant);
    snprintf(i.kind, sizeof i.kind, "%s", m->kind);
    snprintf(i.device, sizeof i.device, "%.127s", m->device);
    i.img_height = m->mc.img_height, i.img_width = m->mc.img_width, i.patch_size = m->mc.patch_size, i.tubelet_size = m->mc.tubelet_size;
    i.num_frames = m->mc.num_frames, i.embed_dim = m->mc.embed_dim, i.depth = m->mc.depth, i.num_heads = m->mc.num_heads;
    for (int k = 0; k < m->p.n; k++) i.parameters += m->p.item[k].count;
    i.has_predictor = ck_has(m->c, CK_PREDICTOR);
    i.has_context_encoder = ck_has(m->c, CK_ENCODER);
    i.has_target_encoder = ck_has(m->c, CK_TARGET);
    memcpy(out, &i, out->size);
    return 0;
}

int jepa_session(jepa *m, jepa_run **out, jepa_err *err) { return session_open(m, 0, out, err); }

int session_open(jepa *m, int threads, jepa_run **out, jepa_err *err) {
    *out = NULL;
    if (!m) return err_set(err, JEPA_E_USE, "no model");
    jepa_run *r = mem_alloc(1, sizeof *r);
    if (!r) return err_set(err, JEPA_E_MEMORY, "no memory for a session");
    r->m = m;
    int rc = queue_open(&r->q, m->d, err);
    if (rc < 0) jepa_session_close(&r);
    else if (threads > 0) queue_limit(r->q, threads);
    *out = r;
    return rc;
}

void jepa_session_close(jepa_run **rp) {
    jepa_run *r = rp ? *rp : NULL;
    if (!r) return;
    predict_session_close(r);
    classify_session_close(r);
    enc_acts_close(&r->a);
    buf_free(&r->x);
    buf_free(&r->tokens);
    for (int i = 0; i < r->n_hidden; i++) buf_free(&r->hidden[i]);
    queue_close(&r->q);
    mem_free(r);
    *rp = NULL;
}
