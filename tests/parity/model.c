/* model.c: a model from the weights that a check names: a Hugging Face folder, or a safetensors file with Meta's names after a prefix. */
#include "parity.h"

#include <string.h>
#include <sys/stat.h>

static const json *weights_of(const check *c, const char *module) { return json_get(json_get(c->j, "weights"), module); }

/* By what the file holds: PyTorch writes a zip archive (PK\3\4) or, in the old form, bare pickles (\x80 and a protocol number). */
static int is_pytorch(const char *path) {
    unsigned char head[4] = {0};
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(head, 1, sizeof head, f) : 0;
    if (f) fclose(f);
    return n == sizeof head && (!memcmp(head, "PK\3\4", 4) || (head[0] == 0x80 && head[1] >= 2 && head[1] <= 5 && head[2] == 0x8a));
}

int weights_later(const check *c, jepa_err *err) {
    for (const json *w = json_first(json_get(c->j, "weights")); w; w = json_next(w)) {
        char path[1400];
        const char *file = json_string(json_get(w, "file"), NULL);
        if (!file) return err_set(err, JEPA_E_MODEL, "weights of %s name no file", json_key(w));
        int rc = set_path(c->set, file, path, sizeof path, err);
        if (rc < 0) return rc;
        if (json_get(w, "key") || is_pytorch(path))
            return err_set(err, PARITY_SKIP, "%s is a PyTorch archive; .pt files are not read yet", file);
    }
    return 0;
}

/* Tensors of published files that rotary models do not use. */
static int unused(const char *name) { return !strcmp(name, "pos_embed") || !strcmp(name, "predictor_pos_embed"); }

static int load_plain(check *c, const char *file, const char *front, params *p, const char *prefix, jepa_err *err) {
    const st_file *st = NULL;
    int rc = set_safetensors(c->set, file, strlen(file), &st, err);
    if (rc < 0) return rc;
    size_t skip = strlen(prefix), fl = strlen(front);
    for (int i = 0; i < p->n; i++) {
        const param *q = &p->item[i];
        if (strncmp(q->name, prefix, skip)) continue;
        char name[512];
        snprintf(name, sizeof name, "%s%s", front, q->name + skip);
        const st_tensor *t = st_find(st, name);
        if (!t) return err_set(err, JEPA_E_MODEL, "%s has no tensor \"%s\"", file, name);
        int same = t->t.rank == q->rank;
        for (int k = 0; same && k < q->rank; k++) same = t->t.dim[k] == q->dim[k];
        if (!same) return err_set(err, JEPA_E_MODEL, "%s: \"%s\" has another shape than the model's", file, name);
        float *host = mem_alloc((size_t)q->count, sizeof *host);
        if (!host) return err_set(err, JEPA_E_MEMORY, "no memory for %s", name);
        if ((rc = convert_to_f32(host, t->t.data, t->t.type, (size_t)q->count)) < 0)
            err_set(err, rc, "%s: \"%s\" is %s", file, name, dtype_name(t->t.type));
        else
            rc = buf_put(c->s->q, param_value(p, i), host, (size_t)q->count * sizeof *host, err);
        mem_free(host);
        if (rc < 0) return rc;
    }
    /* A prefix marks a module off, so that what is left over there would be a parameter we do not have. */
    for (int i = 0; fl > 0 && i < st_count(st); i++) {
        const char *name = st_at(st, i)->name;
        char ours[512];
        if (strncmp(name, front, fl) || unused(name + fl)) continue;
        snprintf(ours, sizeof ours, "%s%s", prefix, name + fl);
        if (params_find(p, ours) < 0) return err_set(err, JEPA_E_MODEL, "%s: \"%s\" is no parameter of the model", file, name);
    }
    return 0;
}

int weights_load(check *c, const char *module, params *p, const char *prefix, jepa_err *err) {
    const json *w = weights_of(c, module);
    if (!w) w = weights_of(c, "model");
    const char *file = json_string(json_get(w, "file"), NULL), *front = json_string(json_get(w, "prefix"), "");
    if (!file) return err_set(err, JEPA_E_MODEL, "the check names no weights for %s", module);
    char path[1400];
    struct stat st;
    int rc = set_path(c->set, file, path, sizeof path, err);
    if (rc < 0) return rc;
    if (stat(path, &st) < 0) return err_set(err, JEPA_E_IO, "%s: no such file", file);
    if (!S_ISDIR(st.st_mode)) return load_plain(c, file, front, p, prefix, err);
    ck *k = NULL;
    ck_report report;
    ck_module m = !strcmp(module, "predictor") ? CK_PREDICTOR : !strcmp(module, "target_encoder") ? CK_TARGET : CK_ENCODER;
    if ((rc = ck_open(&k, path, err)) == 0) rc = ck_load(k, p, prefix, m, 0, &report, err);
    ck_close(&k);
    return rc < 0 ? rc : 0;
}

static int positions_of(const check *c, pos_kind *out, jepa_err *err) {
    if (!json_is_bool(config_get(c, "use_rope"))) return err_set(err, JEPA_E_MODEL, "config does not say use_rope");
    if (config_true(c, "has_cls")) return err_set(err, JEPA_E_MODEL, "config has a class token (has_cls)");
    if (!config_true(c, "use_rope")) return err_set(err, PARITY_SKIP, "additive sin-cos positions are not built yet");
    if (config_true(c, "rope_interleaved") || config_true(c, "interpolate_rope") || config_true(c, "predictor_interpolate_rope"))
        return err_set(err, PARITY_SKIP, "the rotary positions of V-JEPA 2.1 are not built yet");
    if (config_true(c, "image_patch_embed") || config_true(c, "modality_embedding") || config_true(c, "predictor_context_proj"))
        return err_set(err, PARITY_SKIP, "image patches, modality vectors and context outputs of V-JEPA 2.1 are not built yet");
    if (json_number(config_get(c, "levels"), 1) != 1) return err_set(err, PARITY_SKIP, "several levels (V-JEPA 2.1) are not built yet");
    *out = POS_ROPE_TILED;
    return 0;
}

int model_config(const check *c, enc_cfg *e, pred_cfg *p, jepa_err *err) {
    enc_cfg_defaults(e);
    int rc = positions_of(c, &e->positions, err);
    if (rc != 0) return rc;
    const struct {
        const char *key;
        int *to, high;
    } sizes[] = {{"img_height", &e->img_height, 16384},  {"img_width", &e->img_width, 16384},  {"patch_size", &e->patch_size, 1024},
                 {"tubelet_size", &e->tubelet_size, 64}, {"num_frames", &e->num_frames, 4096}, {"in_chans", &e->in_chans, 64},
                 {"embed_dim", &e->embed_dim, 65536},    {"depth", &e->depth, 1024},           {"num_heads", &e->num_heads, 1024}};
    e->in_chans = 3;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if ((strcmp(sizes[i].key, "in_chans") || config_get(c, "in_chans")) &&
            (rc = config_int(c, sizes[i].key, 1, sizes[i].high, sizes[i].to, err)) < 0)
            return rc;
    if ((rc = config_double(c, "mlp_ratio", 0.01, 1000, &e->mlp_ratio, err)) < 0 ||
        (rc = config_double(c, "layer_norm_eps", 0, 1, &e->layer_norm_eps, err)) < 0)
        return rc;
    if (!p) return 0;
    pred_cfg_defaults(p, e);
    p->embed_dim = e->embed_dim;
    p->layer_norm_eps = e->layer_norm_eps;
    p->positions = e->positions;
    if ((rc = config_int(c, "predictor_embed_dim", 1, 65536, &p->predictor_embed_dim, err)) < 0 ||
        (rc = config_int(c, "predictor_depth", 1, 1024, &p->depth, err)) < 0 ||
        (rc = config_int(c, "predictor_num_heads", 1, 1024, &p->num_heads, err)) < 0 ||
        (rc = config_int(c, "predictor_out_dim", 1, 65536, &p->out_dim, err)) < 0 ||
        (rc = config_int(c, "num_mask_tokens", 1, 4096, &p->num_mask_tokens, err)) < 0)
        return rc;
    return config_double(c, "predictor_mlp_ratio", 0.01, 1000, &p->mlp_ratio, err);
}

/* A Hugging Face folder says its sizes itself; what it says, read by the ordinary way, must be what meta.json says. */
static int config_agrees(const check *c, const enc_cfg *e, const pred_cfg *p, jepa_err *err) {
    const json *w = weights_of(c, "model");
    const char *file = json_string(json_get(w, "file"), NULL);
    if (!file) return 0;
    char path[1400];
    ck *k = NULL;
    model_cfg m;
    int rc = set_path(c->set, file, path, sizeof path, err);
    if (rc < 0) return rc;
    if ((rc = ck_open(&k, path, err)) == 0) rc = ck_config(k, &m, err);
    ck_close(&k);
    if (rc < 0) return rc;
    const struct {
        const char *key;
        double file, meta;
    } pairs[] = {{"img_height", m.img_height, e->img_height},
                 {"img_width", m.img_width, e->img_width},
                 {"patch_size", m.patch_size, e->patch_size},
                 {"tubelet_size", m.tubelet_size, e->tubelet_size},
                 {"num_frames", m.num_frames, e->num_frames},
                 {"in_chans", m.in_chans, e->in_chans},
                 {"embed_dim", m.embed_dim, e->embed_dim},
                 {"depth", m.depth, e->depth},
                 {"num_heads", m.num_heads, e->num_heads},
                 {"mlp_ratio", m.mlp_ratio, e->mlp_ratio},
                 {"layer_norm_eps", m.layer_norm_eps, e->layer_norm_eps},
                 {"use_rope", m.use_rope, 1},
                 {"predictor_embed_dim", m.predictor_embed_dim, p->predictor_embed_dim},
                 {"predictor_depth", m.predictor_depth, p->depth},
                 {"predictor_num_heads", m.predictor_num_heads, p->num_heads},
                 {"predictor_out_dim", m.predictor_out_dim, p->out_dim},
                 {"predictor_mlp_ratio", m.predictor_mlp_ratio, p->mlp_ratio},
                 {"num_mask_tokens", m.num_mask_tokens, p->num_mask_tokens}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (pairs[i].file != pairs[i].meta)
            return err_set(err, JEPA_E_MODEL, "%s: read from %s as %g, meta.json says %g", pairs[i].key, file, pairs[i].file,
                           pairs[i].meta);
    return 0;
}

int model_open(model *m, check *c, int want, jepa_err *err) {
    memset(m, 0, sizeof *m);
    m->frames_first = !strcmp(c->kind, "hf-vjepa2");
    int rc;
    if ((rc = model_config(c, &m->ec, &m->pc, err)) != 0 || (rc = config_agrees(c, &m->ec, &m->pc, err)) != 0) return rc;
    if (((want & WANT_ENCODER) && (rc = enc_open(&m->e, &m->ec, &m->p, "encoder.", err)) < 0) ||
        ((want & WANT_PREDICTOR) && (rc = pred_open(&m->pr, &m->pc, &m->p, "predictor.", err)) < 0) ||
        (rc = params_alloc(&m->p, c->s->d, 0, err)) < 0 ||
        ((want & WANT_ENCODER) && (rc = weights_load(c, "encoder", &m->p, "encoder.", err)) < 0) ||
        ((want & WANT_PREDICTOR) && (rc = weights_load(c, "predictor", &m->p, "predictor.", err)) < 0))
        goto fail;
    return 0;
fail:
    model_close(m);
    return rc;
}

void model_close(model *m) {
    enc_close(&m->e);
    pred_close(&m->pr);
    params_close(&m->p);
    memset(m, 0, sizeof *m);
}
