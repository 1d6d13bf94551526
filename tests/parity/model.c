/* model.c: a model from the weights that a check names: a Hugging Face folder, a safetensors file with Meta's names after a prefix, or a
 * PyTorch archive. */
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

/* A file of named tensors, whichever it is. */
typedef struct store {
    const char *file, *key /* top-level key of an archive */;
    const st_file *st;
    pt_file *pt;
} store;
typedef struct stored {
    const char *name;
    int rank;
    const int64_t *dim;
    const tensor *t;
    const pt_tensor *p;
} stored;

static stored of_st(const st_tensor *t) { return t ? (stored){t->name, t->t.rank, t->t.dim, &t->t, NULL} : (stored){0}; }
static stored of_pt(const pt_tensor *t) { return t ? (stored){t->name, t->rank, t->dim, NULL, t} : (stored){0}; }
static stored store_find(const store *s, const char *name) {
    return s->pt ? of_pt(pt_find(s->pt, s->key, name)) : of_st(st_find(s->st, name));
}
static int store_count(const store *s) { return s->pt ? pt_count(s->pt) : st_count(s->st); }
/* name NULL: of another state dict, which is not asked about. */
static stored store_at(const store *s, int i) {
    if (!s->pt) return of_st(st_at(s->st, i));
    const pt_tensor *t = pt_at(s->pt, i);
    return strcmp(t->top, s->key) ? (stored){0} : of_pt(t);
}
static int stored_copy(const stored *t, float *to, size_t count) {
    return t->p ? pt_copy_f32(t->p, to) : convert_to_f32(to, t->t->data, t->t->type, count);
}

/* Tables of published files that rotary models do not use, and what is no number of a model (batch counters, empty tensors). */
static int unused(const stored *t, const char *name) {
    for (int i = 0; i < t->rank; i++)
        if (!t->dim[i]) return 1;
    return !strcmp(name, "pos_embed") || !strcmp(name, "predictor_pos_embed");
}

static int load_store(check *c, const store *s, const char *front, params *p, const char *prefix, jepa_err *err) {
    const size_t skip = strlen(prefix), fl = strlen(front);
    for (int i = 0; i < p->n; i++) {
        const param *q = &p->item[i];
        if (strncmp(q->name, prefix, skip)) continue;
        char name[512];
        snprintf(name, sizeof name, "%s%s", front, q->name + skip);
        const stored t = store_find(s, name);
        if (!t.name && (q->flags & PARAM_FIXED)) continue; /* the table it has */
        if (!t.name) return err_set(err, JEPA_E_MODEL, "%s has no tensor \"%s\"", s->file, name);
        int same = t.rank == q->rank;
        for (int k = 0; same && k < q->rank; k++) same = t.dim[k] == q->dim[k];
        if (!same) return err_set(err, JEPA_E_MODEL, "%s: \"%s\" has another shape than the model's", s->file, name);
        float *host = mem_alloc((size_t)q->count, sizeof *host);
        if (!host) return err_set(err, JEPA_E_MEMORY, "no memory for %s", name);
        int rc = stored_copy(&t, host, (size_t)q->count);
        if (rc < 0)
            err_set(err, rc, "%s: \"%s\" cannot be taken as numbers", s->file, name);
        else
            rc = buf_put(c->s->q, param_value(p, i), host, (size_t)q->count * sizeof *host, err);
        mem_free(host);
        if (rc < 0) return rc;
    }
    /* A prefix, or an archive's key, marks a module off, so that what is left over there would be a parameter we do not have. */
    for (int i = 0; (fl > 0 || s->pt) && i < store_count(s); i++) {
        const stored t = store_at(s, i);
        char ours[512];
        if (!t.name) continue;
        if (strncmp(t.name, front, fl)) {
            if (!s->pt) continue;
            return err_set(err, JEPA_E_MODEL, "%s: \"%s\" of %s does not begin with \"%s\"", s->file, t.name, s->key, front);
        }
        if (unused(&t, t.name + fl)) continue;
        snprintf(ours, sizeof ours, "%s%s", prefix, t.name + fl);
        if (params_find(p, ours) < 0) return err_set(err, JEPA_E_MODEL, "%s: \"%s\" is no parameter of the model", s->file, t.name);
    }
    return 0;
}

/* A Hugging Face folder, by the ordinary way. */
static int load_folder(const char *path, const char *module, params *p, const char *prefix, jepa_err *err) {
    ck *k = NULL;
    ck_report report;
    ck_module m = !strcmp(module, "predictor") ? CK_PREDICTOR : !strcmp(module, "target_encoder") ? CK_TARGET : CK_ENCODER;
    int rc = ck_open(&k, path, err);
    if (rc == 0) rc = ck_load(k, p, prefix, m, 0, &report, err);
    ck_close(&k);
    return rc < 0 ? rc : 0;
}

int weights_load(check *c, const char *module, params *p, const char *prefix, jepa_err *err) {
    const json *w = weights_of(c, module);
    if (!w) w = weights_of(c, "model");
    const char *file = json_string(json_get(w, "file"), NULL), *front = json_string(json_get(w, "prefix"), "");
    if (!file) return err_set(err, JEPA_E_MODEL, "the check names no weights for %s", module);
    char path[1400];
    struct stat st;
    store s = {.file = file, .key = json_string(json_get(w, "key"), NULL)};
    int rc = set_path(c->set, file, path, sizeof path, err);
    if (rc < 0) return rc;
    if (stat(path, &st) < 0) return err_set(err, JEPA_E_IO, "%s: no such file", file);
    if (S_ISDIR(st.st_mode)) return load_folder(path, module, p, prefix, err);
    if (is_pytorch(path)) {
        if (!s.key)
            return err_set(err, JEPA_E_MODEL, "%s is a PyTorch archive; the check does not say under which key %s lies", file, module);
        rc = pt_open(&s.pt, path, err);
    } else {
        if (s.key) return err_set(err, JEPA_E_MODEL, "%s is no PyTorch archive, and has no key \"%s\"", file, s.key);
        rc = set_safetensors(c->set, file, strlen(file), &s.st, err);
    }
    if (rc == 0) rc = load_store(c, &s, front, p, prefix, err);
    pt_close(&s.pt);
    return rc;
}

static int positions_of(const check *c, pos_kind *out, jepa_err *err) {
    if (!json_is_bool(config_get(c, "use_rope"))) return err_set(err, JEPA_E_MODEL, "config does not say use_rope");
    if (config_true(c, "has_cls")) return err_set(err, JEPA_E_MODEL, "config has a class token (has_cls)");
    *out = !config_true(c, "use_rope") ? POS_SINCOS : config_true(c, "rope_interleaved") ? POS_ROPE_INTERLEAVED : POS_ROPE_TILED;
    return 0;
}

/* What only V-JEPA 2.1 has: norms after four blocks ("norms_block.i"), of which the last are joined. level_blocks names the joined ones;
 * the published code builds, and its files hold, all four, so that a distilled student has three that are not used. */
static int levels_of(const check *c, enc_cfg *e, jepa_err *err) {
    const json *blocks = config_get(c, "level_blocks");
    int levels, rc = config_int(c, "levels", 1, 4, &levels, err);
    if (rc < 0) return rc;
    if (!json_is_array(blocks) || json_size(blocks) != levels)
        return err_set(err, JEPA_E_MODEL, "config's level_blocks are not as many as its levels, %d", levels);
    for (int i = 0; i < 4; i++) e->level_block[i] = (i + 1) * e->depth / 4 - 1;
    int i = 4 - levels;
    for (const json *v = json_first(blocks); v; v = json_next(v)) e->level_block[i++] = (int)json_number(v, -1);
    e->level_norms = 4;
    e->levels = levels;
    return 0;
}

static void predictor_variant(const check *c, const enc_cfg *e, pred_cfg *p) {
    p->levels = e->levels;
    p->context_proj = config_true(c, "predictor_context_proj");
    p->modality_embedding = e->modality_embedding;
    p->interpolate_rope = config_true(c, "predictor_interpolate_rope");
    p->patch_size = e->patch_size;
    p->single_mask_token = p->columns_first = e->columns_first;
    p->uniform_power = e->uniform_power;
    p->frames = e->num_frames / e->tubelet_size;
    p->rows = e->img_height / e->patch_size;
    p->cols = e->img_width / e->patch_size;
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
    e->uniform_power = config_true(c, "uniform_power");
    e->columns_first = !strcmp(c->family, "ijepa");
    e->interpolate_rope = config_true(c, "interpolate_rope");
    e->image_patch_embed = config_true(c, "image_patch_embed");
    e->modality_embedding = config_true(c, "modality_embedding");
    if (!strcmp(c->family, "vjepa21") && (rc = levels_of(c, e, err)) < 0) return rc;
    if (!p) return 0;
    pred_cfg_defaults(p, e);
    predictor_variant(c, e, p);
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
        (rc = params_alloc(&m->p, c->s->d, 0, err)) < 0 || (m->e && (rc = enc_tables(m->e, c->s->q, err)) < 0) ||
        (m->pr && (rc = pred_tables(m->pr, c->s->q, err)) < 0) ||
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
