/* meta_hints.c: what a user says of a file that does not say it: names and numbers of the command line, a published training YAML, or a
 * Hugging Face config.json. The command line wins over the file. */
#include "checkpoint/internal.h"
#include "base/yaml.h"

#include <stdio.h>
#include <string.h>

const char *ck_family(const char *name) {
    static const struct {
        const char *said, *is;
    } T[] = {{"ijepa", "ijepa"},      {"i-jepa", "ijepa"},     {"vjepa1", "vjepa1"},     {"v-jepa", "vjepa1"},
             {"vjepa", "vjepa1"},     {"vjepa2", "vjepa2"},    {"v-jepa2", "vjepa2"},    {"vjepa21", "vjepa21"},
             {"vjepa2.1", "vjepa21"}, {"vjepa2_1", "vjepa21"}, {"vjepa2ac", "vjepa2ac"}, {"vjepa2-ac", "vjepa2ac"}};
    char low[32];
    size_t n = 0;
    for (; name[n] && n + 1 < sizeof low; n++) low[n] = name[n] >= 'A' && name[n] <= 'Z' ? (char)(name[n] + 32) : name[n];
    low[n] = 0;
    for (size_t i = 0; i < sizeof T / sizeof *T; i++)
        if (!strcmp(low, T[i].said)) return T[i].is;
    return NULL;
}

typedef struct number {
    const char *key;
    size_t at;
    int64_t high;
} number;
#define AT(field) offsetof(meta_hints, field)

/* ---- training YAML ---- */

static int bad(const char *file, int line, const char *key, jepa_err *err) {
    return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: line %d: %s is not what a model can have", file, line, key);
}

static int yaml_numbers(const yaml *y, const char *file, meta_hints *h, jepa_err *err) {
    static const number T[] = {
        {"data.crop_size", AT(crop), 65536},
        {"data.patch_size", AT(patch), 1024},
        {"mask.patch_size", AT(patch), 1024},
        {"data.tubelet_size", AT(tubelet), 1024},
        {"data.num_frames", AT(frames), 65536},
        {"model.pred_depth", AT(pred_depth), 1024},
        {"meta.pred_depth", AT(pred_depth), 1024},
        {"model.pred_embed_dim", AT(pred_dim), 65536},
        {"meta.pred_emb_dim", AT(pred_dim), 65536},
        {"model.pred_num_heads", AT(pred_heads), 1024},
        {"model.num_mask_tokens", AT(mask_tokens), 10000},
        {"model.embed_dim", AT(dim), 65536},
        {"model.depth", AT(depth), 1024},
        {"model.num_heads", AT(heads), 1024},
    };
    for (size_t i = 0; i < sizeof T / sizeof *T; i++) {
        const yaml *v = yaml_at(y, T[i].key);
        int64_t n;
        if (!v || yaml_is_null(v)) continue;
        if (!yaml_int(v, &n) || n < 1 || n > T[i].high) return bad(file, v->line, T[i].key, err);
        *(int *)(void *)((char *)h + T[i].at) = (int)n;
    }
    const yaml *v = yaml_at(y, "model.mlp_ratio");
    if (v && (!yaml_double(v, &h->mlp_ratio) || !(h->mlp_ratio >= 0.01 && h->mlp_ratio <= 64)))
        return bad(file, v->line, "model.mlp_ratio", err);
    v = yaml_at(y, "data.dataset_fpcs"); /* frames per clip of each list: the longest */
    for (int i = 0; v && v->kind == YAML_LIST && i < v->count; i++) {
        int64_t n;
        if (!yaml_int(v->item[i], &n) || n < 1 || n > 65536) return bad(file, v->line, "data.dataset_fpcs", err);
        if (n > h->frames) h->frames = (int)n;
    }
    static const struct {
        const char *key;
        size_t at;
    } F[] = {{"model.use_rope", AT(use_rope)}, {"model.uniform_power", AT(uniform_power)}};
    for (size_t i = 0; i < sizeof F / sizeof *F; i++)
        if ((v = yaml_at(y, F[i].key)) && !yaml_bool(v, (int *)(void *)((char *)h + F[i].at))) return bad(file, v->line, F[i].key, err);
    return 0;
}

static int from_yaml(meta_hints *h, const char *file, jepa_err *err) {
    yaml *y = NULL;
    int rc = yaml_read(&y, file, err);
    if (rc) return rc;
    rc = yaml_numbers(y, file, h, err);
    const yaml *name = yaml_at(y, "model.model_name"), *app = yaml_get(y, "app");
    if (!name) name = yaml_at(y, "meta.model_name"); /* I-JEPA */
    if (name && name->text) snprintf(h->arch, sizeof h->arch, "%s", strcmp(name->text, "custom") ? name->text : "");
    if (!rc && !name && !h->crop && !h->patch && !h->dim)
        rc = err_set_at(err, JEPA_E_MODEL, file, -1, "%s: names no model.model_name, so it is no training configuration", file);
    if (app && app->text && !strcmp(app->text, "vjepa_2_1")) snprintf(h->family, sizeof h->family, "vjepa21");
    if (app && app->text && !strcmp(app->text, "vjepa_droid")) snprintf(h->family, sizeof h->family, "vjepa2ac");
    yaml_close(&y);
    return rc;
}

/* ---- config.json ---- */

static int from_json(meta_hints *h, const char *file, jepa_err *err) {
    static const number T[] = {
        {"crop_size", AT(crop), 65536},
        {"image_size", AT(crop), 65536},
        {"patch_size", AT(patch), 1024},
        {"tubelet_size", AT(tubelet), 1024},
        {"frames_per_clip", AT(frames), 65536},
        {"hidden_size", AT(dim), 65536},
        {"num_hidden_layers", AT(depth), 1024},
        {"num_attention_heads", AT(heads), 1024},
        {"pred_hidden_size", AT(pred_dim), 65536},
        {"pred_num_hidden_layers", AT(pred_depth), 1024},
        {"pred_num_attention_heads", AT(pred_heads), 1024},
        {"pred_num_mask_tokens", AT(mask_tokens), 10000},
    };
    json *j = NULL;
    int rc = json_read(&j, file, err);
    if (rc) return rc;
    const char *type = json_string(json_get(j, "model_type"), "");
    if (strcmp(type, "vjepa2") && strcmp(type, "ijepa"))
        rc = err_set_at(err, JEPA_E_MODEL, file, -1, "%s: model_type \"%.60s\" is not one this program reads (vjepa2 and ijepa are)", file,
                        type);
    for (size_t i = 0; !rc && i < sizeof T / sizeof *T; i++) {
        int64_t n;
        rc = json_int(j, T[i].key, 1, T[i].high, &n, err);
        if (!rc)
            *(int *)(void *)((char *)h + T[i].at) = (int)n;
        else
            rc = rc == JEPA_E_END ? 0 : err_prefix(err, rc, "%s", file);
    }
    if (!rc) {
        rc = json_double(j, "mlp_ratio", 0.01, 64, &h->mlp_ratio, err);
        if (!rc || rc == JEPA_E_END) rc = json_double(j, "layer_norm_eps", 1e-12, 0.1, &h->eps, err);
        rc = rc == JEPA_E_END ? 0 : rc;
    }
    if (!rc && !h->family[0]) snprintf(h->family, sizeof h->family, "%s", type);
    json_close(&j);
    return rc;
}

int meta_hints_read(meta_hints *out, const ck_hints *h, jepa_err *err) {
    *out = (meta_hints){.use_rope = -1, .uniform_power = -1};
    if (!h) return 0;
    if (h->config && h->config[0]) {
        char *text = NULL;
        size_t size;
        int rc = file_read(h->config, 1 << 20, &text, &size, err);
        if (rc) return rc;
        size_t i = 0;
        while (i < size && (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t')) i++;
        int is_json = i < size && text[i] == '{';
        mem_free(text);
        rc = is_json ? from_json(out, h->config, err) : from_yaml(out, h->config, err);
        if (rc) return rc == JEPA_E_IO ? err_prefix(err, rc, "configuration") : rc;
        out->file = h->config;
    }
    if (h->arch && h->arch[0]) {
        int d, n, k;
        double r;
        if (!ck_variant_size(h->arch, &d, &n, &k, &r))
            return err_set(err, JEPA_E_USE,
                           "architecture \"%.60s\" is not known; known: vit_tiny, vit_small, vit_base, vit_large, vit_huge, vit_giant, "
                           "vit_giant_xformers, vit_gigantic_xformers",
                           h->arch);
        snprintf(out->arch, sizeof out->arch, "%s", h->arch);
    }
    if (h->family && h->family[0]) {
        const char *f = ck_family(h->family);
        if (!f)
            return err_set(err, JEPA_E_USE, "family \"%.60s\" is not known; known: ijepa, vjepa1, vjepa2, vjepa21, vjepa2ac", h->family);
        snprintf(out->family, sizeof out->family, "%s", f);
    }
    if (h->crop < 0 || h->frames < 0 || h->heads < 0 || h->pred_heads < 0 || h->crop > 65536 || h->frames > 65536 || h->heads > 1024 ||
        h->pred_heads > 1024)
        return err_set(err, JEPA_E_USE, "crop %d, frames %d, heads %d, predictor heads %d: one of them is out of range", h->crop, h->frames,
                       h->heads, h->pred_heads);
    if (h->crop) out->crop = h->crop;
    if (h->frames) out->frames = h->frames;
    if (h->heads) out->heads = h->heads;
    if (h->pred_heads) out->pred_heads = h->pred_heads;
    return 0;
}
