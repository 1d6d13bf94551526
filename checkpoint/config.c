/* config.c: the sizes of a model, from Hugging Face's config.json or from our own model.json, and both written. */
#include "checkpoint/internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* One number of a config: its key, its range, and what it is when the key is absent (NEEDED: the key must be there). */
typedef struct number {
    const char *key;
    double low, high, otherwise;
    size_t at;
    int real;
} number;
#define NEEDED (-1.0)
#define INT(key, field, low, high, otherwise)                                                                                              \
    { key, low, high, otherwise, offsetof(model_cfg, field), 0 }
#define REAL(key, field, low, high, otherwise)                                                                                             \
    { key, low, high, otherwise, offsetof(model_cfg, field), 1 }

/* An IJepaModel's: image_size and patch_size may also be [n, n] (square). */
static const number HF_IJEPA[] = {
    INT("num_channels", in_chans, 1, 64, 3),
    INT("hidden_size", embed_dim, 1, 65536, 768),
    INT("num_hidden_layers", depth, 1, 1024, 12),
    INT("num_attention_heads", num_heads, 1, 1024, 12),
    REAL("layer_norm_eps", layer_norm_eps, 1e-12, 0.1, 1e-12),
};

/* An absent key means transformers' own default (save_pretrained may leave defaults out). */
static const number HF[] = {
    INT("patch_size", patch_size, 1, 1024, 16),
    INT("crop_size", img_height, 1, 65536, 256),
    INT("frames_per_clip", num_frames, 1, 65536, 64),
    INT("tubelet_size", tubelet_size, 1, 1024, 2),
    INT("in_chans", in_chans, 1, 64, 3),
    INT("hidden_size", embed_dim, 1, 65536, 1024),
    INT("num_hidden_layers", depth, 1, 1024, 24),
    INT("num_attention_heads", num_heads, 1, 1024, 16),
    REAL("mlp_ratio", mlp_ratio, 0.01, 64, 4.0),
    REAL("layer_norm_eps", layer_norm_eps, 1e-12, 0.1, 1e-6),
    INT("pred_hidden_size", predictor_embed_dim, 1, 65536, 384),
    INT("pred_num_hidden_layers", predictor_depth, 1, 1024, 12),
    INT("pred_num_attention_heads", predictor_num_heads, 1, 1024, 12),
    INT("pred_num_mask_tokens", num_mask_tokens, 1, 10000, 10),
    REAL("pred_mlp_ratio", predictor_mlp_ratio, 0.01, 64, 4.0),
};

static const number OWN[] = {
    INT("img_height", img_height, 1, 65536, NEEDED),
    INT("img_width", img_width, 1, 65536, NEEDED),
    INT("patch_size", patch_size, 1, 1024, NEEDED),
    INT("tubelet_size", tubelet_size, 1, 1024, NEEDED),
    INT("num_frames", num_frames, 1, 65536, NEEDED),
    INT("in_chans", in_chans, 1, 64, NEEDED),
    INT("embed_dim", embed_dim, 1, 65536, NEEDED),
    INT("depth", depth, 1, 1024, NEEDED),
    INT("num_heads", num_heads, 1, 1024, NEEDED),
    REAL("mlp_ratio", mlp_ratio, 0.01, 64, NEEDED),
    REAL("layer_norm_eps", layer_norm_eps, 1e-12, 0.1, NEEDED),
    INT("predictor_embed_dim", predictor_embed_dim, 0, 65536, 0),
    INT("predictor_depth", predictor_depth, 0, 1024, 0),
    INT("predictor_num_heads", predictor_num_heads, 0, 1024, 0),
    INT("predictor_out_dim", predictor_out_dim, 0, 1 << 20, 0),
    INT("num_mask_tokens", num_mask_tokens, 0, 10000, 0),
    REAL("predictor_mlp_ratio", predictor_mlp_ratio, 0, 64, 0),
    INT("mask_token", mask_token, 0, 10000, 0),
    INT("published_rows", published_rows, 0, 65536, 0),
    INT("published_cols", published_cols, 0, 65536, 0),
    INT("levels", levels, 0, 4, 0),
    INT("level_norms", level_norms, 0, 4, 0),
    INT("predictor_levels", predictor_levels, 0, 4, 0),
    INT("pooler_depth", pooler_depth, 0, 64, 0),
    INT("pooler_heads", pooler_heads, 0, 1024, 0),
    INT("num_classes", num_classes, 0, 1 << 20, 0),
    REAL("pooler_mlp_ratio", pooler_mlp_ratio, 0, 64, 0),
    REAL("pooler_eps", pooler_eps, 0, 0.1, 0),
};

static const struct {
    const char *key;
    size_t at;
} FLAGS[] = {
    {"use_rope", offsetof(model_cfg, use_rope)},
    {"rope_interleaved", offsetof(model_cfg, rope_interleaved)},
    {"interpolate_rope", offsetof(model_cfg, interpolate_rope)},
    {"uniform_power", offsetof(model_cfg, uniform_power)},
    {"image_patch_embed", offsetof(model_cfg, image_patch_embed)},
    {"modality_embedding", offsetof(model_cfg, modality_embedding)},
    {"predictor_context_proj", offsetof(model_cfg, predictor_context_proj)},
    {"predictor_interpolate_rope", offsetof(model_cfg, predictor_interpolate_rope)},
};

static const char *const FAMILIES[] = {"ijepa", "vjepa1", "vjepa2", "vjepa21", "vjepa2ac"};

static int read_numbers(const json *j, const number *t, size_t n, const char *file, model_cfg *m, jepa_err *err) {
    for (size_t i = 0; i < n; i++) {
        char *at = (char *)m + t[i].at;
        int64_t whole = 0;
        int rc = t[i].real ? json_double(j, t[i].key, t[i].low, t[i].high, (double *)(void *)at, err)
                           : json_int(j, t[i].key, (int64_t)t[i].low, (int64_t)t[i].high, &whole, err);
        if (rc == JEPA_E_END && t[i].otherwise == NEEDED)
            return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: %s is missing", file, t[i].key);
        if (rc && rc != JEPA_E_END) return err_prefix(err, rc, "%s", file);
        if (t[i].real) {
            if (rc) *(double *)(void *)at = t[i].otherwise;
        } else {
            *(int *)(void *)at = rc ? (int)t[i].otherwise : (int)whole;
        }
    }
    return 0;
}

/* A tensor that is in the file must have the shape that the configuration gives it; one that is not is found by ck_load. */
static int agree(const ck *c, const char *name, int rank, const int64_t *dim, const char *keys, jepa_err *err) {
    char whole[256], is[200], should[200];
    snprintf(whole, sizeof whole, "%s%s", c->hf_prefix, name);
    const ck_tensor *t = ck_find(c, whole);
    int same = t && t->rank == rank;
    for (int i = 0; same && i < rank; i++) same = t->dim[i] == dim[i];
    if (!t || same) return 0;
    shape_text(is, sizeof is, t->rank, t->dim);
    shape_text(should, sizeof should, rank, dim);
    return err_set_at(err, JEPA_E_MODEL, c->config_path, -1, "%s: tensor %s has shape %s, the configuration (%s) makes it %s",
                      c->config_path, whole, is, keys, should);
}

static int cross_check(const ck *c, const model_cfg *m, const char *encoder, const char *predictor, jepa_err *err) {
    int hf = c->layout == LAYOUT_HF;
    char name[160];
    int64_t d = m->embed_dim, p = m->predictor_embed_dim, patch[5] = {d, m->in_chans, m->tubelet_size, m->patch_size, m->patch_size};
    int64_t hidden = (int64_t)floor((double)d * m->mlp_ratio), p_hidden = (int64_t)floor((double)p * m->predictor_mlp_ratio);
    snprintf(name, sizeof name, "%s.%s", encoder, hf ? "embeddings.patch_embeddings.proj.weight" : "patch_embed.proj.weight");
    int rc = m->tubelet_size == 1
                 ? 0
                 : agree(c, name, 5, patch,
                         hf ? "hidden_size, in_chans, tubelet_size, patch_size" : "embed_dim, in_chans, tubelet_size, patch_size", err);
    snprintf(name, sizeof name, "%s.%s.0.mlp.fc1.weight", encoder, hf ? "layer" : "blocks");
    if (!rc) rc = agree(c, name, 2, (int64_t[]){hidden, d}, hf ? "hidden_size, mlp_ratio" : "embed_dim, mlp_ratio", err);
    if (!p) return rc;
    snprintf(name, sizeof name, "%s.%s", predictor, hf ? "embeddings.predictor_embeddings.weight" : "predictor_embed.weight");
    if (!rc) rc = agree(c, name, 2, (int64_t[]){p, d}, hf ? "pred_hidden_size, hidden_size" : "predictor_embed_dim, embed_dim", err);
    snprintf(name, sizeof name, "%s.%s.0.mlp.fc1.weight", predictor, hf ? "layer" : "predictor_blocks");
    if (!rc)
        rc = agree(c, name, 2, (int64_t[]){p_hidden, p},
                   hf ? "pred_hidden_size, pred_mlp_ratio" : "predictor_embed_dim, predictor_mlp_ratio", err);
    snprintf(name, sizeof name, "%s.%s", predictor, hf ? "proj.weight" : "predictor_proj.weight");
    if (!rc)
        rc = agree(c, name, 2, (int64_t[]){m->predictor_out_dim, p},
                   hf ? "hidden_size, pred_hidden_size" : "predictor_out_dim, predictor_embed_dim", err);
    if (!rc && hf)
        rc = agree(c, "predictor.embeddings.mask_tokens", 4, (int64_t[]){m->num_mask_tokens, 1, 1, p},
                   "pred_num_mask_tokens, pred_hidden_size", err);
    return rc;
}

static int check_kind(const ck *c, jepa_err *err) {
    const char *file = c->config_path, *act = json_string(json_get(c->config, "hidden_act"), "gelu");
    if (strcmp(act, "gelu"))
        return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: hidden_act \"%.60s\"; only \"gelu\" is supported", file, act);
    if (!json_bool(json_get(c->config, "qkv_bias"), 1))
        return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: qkv_bias is false; only true is supported", file);
    return 0;
}

/* n, or [n, m]: height and width */
static int one_or_two(const ck *c, const char *key, int otherwise, int *h, int *w, jepa_err *err) {
    const json *v = json_get(c->config, key);
    double a = json_is_array(v) && json_size(v) == 2 ? json_number(json_first(v), -1) : json_number(v, -1);
    double b = json_is_array(v) && json_size(v) == 2 ? json_number(json_next(json_first(v)), -1) : a;
    if (!v) a = b = otherwise;
    if (!(a >= 1 && a <= 65536 && b >= 1 && b <= 65536) || a != floor(a) || b != floor(b))
        return err_set_at(err, JEPA_E_MODEL, c->config_path, -1, "%s: %s is not a number of pixels, or two", c->config_path, key);
    *h = (int)a, *w = (int)b;
    return 0;
}

static int config_from_ijepa(const ck *c, model_cfg *m, jepa_err *err) {
    const char *file = c->config_path;
    int64_t hidden = 3072;
    int patch_w = 0, rc = read_numbers(c->config, HF_IJEPA, sizeof HF_IJEPA / sizeof *HF_IJEPA, file, m, err);
    if (!rc) rc = check_kind(c, err);
    if (!rc) rc = one_or_two(c, "image_size", 224, &m->img_height, &m->img_width, err);
    if (!rc) rc = one_or_two(c, "patch_size", 16, &m->patch_size, &patch_w, err);
    if (rc) return rc;
    rc = json_int(c->config, "intermediate_size", 1, 1 << 22, &hidden, err);
    if (rc && rc != JEPA_E_END) return err_prefix(err, rc, "%s", file);
    if (m->patch_size != patch_w || m->patch_size > 1024 || m->patch_size > m->img_height || m->patch_size > m->img_width)
        return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: patch_size %d by %d is not square, or does not fit into image_size", file,
                          m->patch_size, patch_w);
    m->mlp_ratio = ck_ratio(hidden, m->embed_dim);
    if (m->mlp_ratio < 0.01 || m->mlp_ratio > 64)
        return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: intermediate_size is out of range", file);
    snprintf(m->family, sizeof m->family, "ijepa");
    m->tubelet_size = m->num_frames = 1;
    snprintf(m->variant, sizeof m->variant, "%s", ck_variant(m->embed_dim, m->depth, m->num_heads, m->mlp_ratio));
    rc = agree(c, "embeddings.patch_embeddings.projection.weight", 4, (int64_t[]){m->embed_dim, m->in_chans, m->patch_size, m->patch_size},
               "hidden_size, num_channels, patch_size", err);
    int64_t n = (int64_t)(m->img_height / m->patch_size) * (m->img_width / m->patch_size);
    if (!rc)
        rc = agree(c, "embeddings.position_embeddings", 3, (int64_t[]){1, n, m->embed_dim}, "image_size, patch_size, hidden_size", err);
    if (!rc)
        rc = agree(c, "encoder.layer.0.intermediate.dense.weight", 2, (int64_t[]){hidden, m->embed_dim}, "intermediate_size, hidden_size",
                   err);
    return rc;
}

int config_from_hf(const ck *c, model_cfg *m, jepa_err *err) {
    const char *file = c->config_path;
    if (c->is_ijepa) return config_from_ijepa(c, m, err);
    int rc = read_numbers(c->config, HF, sizeof HF / sizeof *HF, file, m, err);
    if (!rc) rc = check_kind(c, err);
    if (rc) return rc;
    snprintf(m->family, sizeof m->family, "vjepa2");
    m->img_width = m->img_height;
    if (m->patch_size > m->img_height)
        return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: patch_size %d does not fit into crop_size %d", file, m->patch_size,
                          m->img_height);
    m->use_rope = 1;
    m->predictor_out_dim = m->embed_dim;
    m->mask_token = 1; /* Hugging Face's predictor always takes token 1 (mod their number) */
    m->published_rows = m->published_cols = m->img_height / m->patch_size; /* its positions follow crop_size, whatever comes in */
    snprintf(m->variant, sizeof m->variant, "%s", ck_variant(m->embed_dim, m->depth, m->num_heads, m->mlp_ratio));
    rc = config_pooler(c, m, err);
    return rc ? rc : cross_check(c, m, "encoder", "predictor", err);
}

int config_from_own(const ck *c, model_cfg *m, jepa_err *err) {
    const char *file = c->config_path;
    const json *j = json_get(c->config, "config");
    if (!json_is_object(j)) return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: has no \"config\" object", file);
    int rc = read_numbers(j, OWN, sizeof OWN / sizeof *OWN, file, m, err);
    if (rc) return rc;
    for (size_t i = 0; i < sizeof FLAGS / sizeof *FLAGS; i++)
        *(int *)(void *)((char *)m + FLAGS[i].at) = json_bool(json_get(j, FLAGS[i].key), 0);
    const char *family = json_string(json_get(j, "family"), "");
    for (size_t i = 0; i < sizeof FAMILIES / sizeof *FAMILIES; i++)
        if (!strcmp(family, FAMILIES[i])) snprintf(m->family, sizeof m->family, "%s", family);
    if (!m->family[0]) return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: family \"%.40s\" is none that is known", file, family);
    int i = 0;
    for (const json *b = json_first(json_get(j, "level_block")); b && i < 4; b = json_next(b)) {
        double v = json_number(b, -1);
        if (!(v >= 0 && v < m->depth))
            return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: level_block names a block that is not there", file);
        m->level_block[i++] = (int)v;
    }
    if (m->predictor_embed_dim &&
        (!m->predictor_depth || !m->predictor_num_heads || !m->predictor_out_dim || m->predictor_mlp_ratio < 0.01))
        return err_set_at(err, JEPA_E_MODEL, file, -1,
                          "%s: predictor_embed_dim is set but predictor_depth, _num_heads, _out_dim or _mlp_ratio is missing", file);
    snprintf(m->variant, sizeof m->variant, "%s", ck_variant(m->embed_dim, m->depth, m->num_heads, m->mlp_ratio));
    return cross_check(c, m, ck_has(c, CK_TARGET) ? "target_encoder" : "encoder", "predictor", err);
}

/* ---- writing ---- */

static const char *type_name(dtype store) { return store == T_BF16 ? "bfloat16" : store == T_F16 ? "float16" : "float32"; }

static int ijepa_to_hf(json_writer *w, const model_cfg *m, dtype store) {
    jw_open(w, NULL, '{');
    jw_open(w, "architectures", '[');
    jw_string(w, NULL, "IJepaModel");
    jw_close(w, ']');
    jw_double(w, "attention_probs_dropout_prob", 0);
    jw_string(w, "dtype", type_name(store));
    jw_string(w, "hidden_act", "gelu");
    jw_double(w, "hidden_dropout_prob", 0);
    jw_double(w, "initializer_range", 0.02);
    jw_int(w, "intermediate_size", (int64_t)floor((double)m->embed_dim * m->mlp_ratio));
    jw_string(w, "model_type", "ijepa");
    if (m->img_height == m->img_width) {
        jw_int(w, "image_size", m->img_height);
    } else {
        jw_open(w, "image_size", '[');
        jw_int(w, NULL, m->img_height), jw_int(w, NULL, m->img_width);
        jw_close(w, ']');
    }
    jw_int(w, "patch_size", m->patch_size);
    for (size_t i = 0; i < sizeof HF_IJEPA / sizeof *HF_IJEPA; i++) {
        const char *at = (const char *)m + HF_IJEPA[i].at;
        if (HF_IJEPA[i].real)
            jw_double(w, HF_IJEPA[i].key, *(const double *)(const void *)at);
        else
            jw_int(w, HF_IJEPA[i].key, *(const int *)(const void *)at);
    }
    jw_bool(w, "qkv_bias", 1);
    jw_close(w, '}');
    return 0;
}

int config_to_hf(json_writer *w, const model_cfg *m, dtype store, const char *where, jepa_err *err) {
    int ijepa = !strcmp(m->family, "ijepa");
    const char *why = !strcmp(m->family, "vjepa1")     ? "transformers has no class for V-JEPA 1 (sin-cos positions in 3-D)"
                      : !strcmp(m->family, "vjepa21")  ? "transformers has no class for V-JEPA 2.1 (levels, modality vectors)"
                      : !strcmp(m->family, "vjepa2ac") ? "transformers has no class for V-JEPA 2-AC"
                      : !m->num_heads                  ? "how many heads it has is not known"
                      : ijepa                          ? NULL
                      : strcmp(m->family, "vjepa2")    ? "only the vjepa2 and ijepa families have such a folder"
                      : m->img_height != m->img_width  ? "its crop_size is one number, the model's height and width differ"
                      : !m->use_rope || m->rope_interleaved || m->interpolate_rope
                          ? "its positions are V-JEPA 2's rotary ones, the model has others"
                      : m->predictor_embed_dim && m->predictor_out_dim != m->embed_dim
                          ? "its predictor's output is as wide as the encoder's, the model's is not"
                      : m->predictor_embed_dim && !m->predictor_num_heads ? "how many heads its predictor has is not known"
                                                                          : NULL;
    if (why) return err_set_at(err, JEPA_E_MODEL, where, -1, "%s: cannot be written as a Hugging Face folder: %s", where, why);
    if (ijepa) return ijepa_to_hf(w, m, store);
    jw_open(w, NULL, '{');
    jw_open(w, "architectures", '[');
    jw_string(w, NULL, "VJEPA2Model");
    jw_close(w, ']');
    jw_double(w, "attention_dropout", 0);
    jw_double(w, "attention_probs_dropout_prob", 0);
    jw_double(w, "drop_path_rate", 0);
    jw_string(w, "dtype", type_name(store));
    jw_string(w, "hidden_act", "gelu");
    jw_double(w, "initializer_range", 0.02);
    jw_string(w, "model_type", "vjepa2");
    for (size_t i = 0; i < sizeof HF / sizeof *HF; i++) {
        const char *at = (const char *)m + HF[i].at;
        if (!m->predictor_embed_dim && !strncmp(HF[i].key, "pred_", 5)) continue;
        if (HF[i].real)
            jw_double(w, HF[i].key, *(const double *)(const void *)at);
        else
            jw_int(w, HF[i].key, *(const int *)(const void *)at);
    }
    jw_bool(w, "pred_zero_init_mask_tokens", 1);
    jw_bool(w, "qkv_bias", 1);
    jw_close(w, '}');
    return 0;
}

void config_to_own(json_writer *w, const model_cfg *m, const ck_part *part, int n, int64_t step) {
    jw_open(w, NULL, '{');
    jw_string(w, "format", "jepa model");
    jw_int(w, "version", 1);
    if (step >= 0) jw_int(w, "step", step);
    jw_open(w, "modules", '[');
    for (int i = 0; i < n; i++) jw_string(w, NULL, module_name(part[i].module));
    jw_close(w, ']');
    jw_open(w, "config", '{');
    jw_string(w, "family", m->family);
    jw_string(w, "variant", m->variant);
    for (size_t i = 0; i < sizeof OWN / sizeof *OWN; i++) {
        const char *at = (const char *)m + OWN[i].at;
        if (OWN[i].real)
            jw_double(w, OWN[i].key, *(const double *)(const void *)at);
        else
            jw_int(w, OWN[i].key, *(const int *)(const void *)at);
    }
    for (size_t i = 0; i < sizeof FLAGS / sizeof *FLAGS; i++)
        jw_bool(w, FLAGS[i].key, *(const int *)(const void *)((const char *)m + FLAGS[i].at) != 0);
    if (m->level_norms) {
        jw_open(w, "level_block", '[');
        for (int i = 0; i < 4; i++) jw_int(w, NULL, m->level_block[i]);
        jw_close(w, ']');
    }
    jw_close(w, '}');
    jw_close(w, '}');
}
