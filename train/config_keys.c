/* config_keys.c: which keys a configuration may have, which of them are read and not used, and which are supported with one value only. */
#include "train/config_read.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* clang-format off */
static const char *const known[] = {
    "app", "nodes", "tasks_per_node", "cpus_per_task", "mem_per_gpu", "folder", "mask",
    /* V-JEPA 2's pretraining configurations */
    "data.dataset_type", "data.datasets", "data.datasets_weights", "data.batch_size", "data.crop_size", "data.patch_size",
    "data.tubelet_size", "data.dataset_fpcs", "data.fps", "data.num_workers", "data.persistent_workers", "data.pin_mem",
    "data_aug.auto_augment", "data_aug.motion_shift", "data_aug.random_resize_aspect_ratio", "data_aug.random_resize_scale",
    "data_aug.reprob", "loss.loss_exp",
    "meta.dtype", "meta.eval_freq", "meta.load_checkpoint", "meta.read_checkpoint", "meta.save_every_freq", "meta.seed",
    "meta.use_sdpa", "meta.skip_batches", "meta.sync_gc",
    "model.model_name", "model.pred_depth", "model.pred_embed_dim", "model.pred_num_heads", "model.uniform_power",
    "model.use_activation_checkpointing", "model.use_mask_tokens", "model.num_mask_tokens", "model.zero_init_mask_tokens",
    "model.use_rope", "model.use_silu", "model.use_pred_silu", "model.wide_silu", "model.compile_model",
    "model.pred_is_frame_causal", "model.is_causal",
    "optimization.ema", "optimization.epochs", "optimization.final_lr", "optimization.final_weight_decay", "optimization.ipe",
    "optimization.ipe_scale", "optimization.lr", "optimization.start_lr", "optimization.warmup", "optimization.weight_decay",
    "optimization.is_anneal", "optimization.anneal_ckpt", "optimization.resume_anneal", "optimization.betas", "optimization.eps",
    /* V-JEPA 1's */
    "data.num_frames", "data.sampling_rate", "data.clip_duration", "data.num_clips", "data.decode_one_clip",
    "data.filter_short_videos", "loss.reg_coeff", "optimization.clip_grad",
    /* ours: configs/tiny.yaml explains them */
    "data.frame_step", "data.random_window", "data.max_bad", "data.queue_batches", "data_aug.horizontal_flip",
    "data_aug.eval_transform", "meta.save_every_steps", "meta.log_every", "meta.monitor_every", "meta.keep_last",
    "model.embed_dim", "model.depth", "model.num_heads", "model.mlp_ratio", "model.recompute", "optimization.init_sd",
    "data.micro_batch", "meta.memory",
};
/* clang-format on */
static const char *const known_generator[] = {
    "aspect_ratio", "full_complement", "pred_full_complement", "inv_block", "max_keep", "max_temporal_keep",
    "num_blocks",   "spatial_scale",   "temporal_scale",       "type",      "ratio",    "from"};
static const char *const known_ijepa[] = {"allow_overlap",  "aspect_ratio", "enc_mask_scale",  "min_keep", "num_enc_masks",
                                          "num_pred_masks", "patch_size",   "pred_mask_scale", "full_grid"};

static const char *const section[] = {"data", "data_aug", "loss", "meta", "model", "optimization"};

/* They say how a job is scheduled or how fast a step runs there, not what it computes. */
static const char *const unused[] = {"cpus_per_task",
                                     "mem_per_gpu",
                                     "data.persistent_workers",
                                     "data.pin_mem",
                                     "meta.eval_freq",
                                     "meta.load_checkpoint",
                                     "meta.use_sdpa",
                                     "meta.sync_gc",
                                     "model.wide_silu",
                                     "model.compile_model",
                                     "optimization.resume_anneal"};

/* Keys that are supported with one value; the word after the value says what would help. NULL value: null. */
static const struct {
    const char *path, *value, *help;
} fixed[] = {
    {"app", "vjepa", "only V-JEPA 2 pretraining runs here"},
    {"data.num_clips", "1", "one clip of a video is used at a time"},
    {"data.decode_one_clip", "true", "one clip of a video is decoded at a time"},
    {"data_aug.auto_augment", "false", "this augmentation is not here; the published runs leave it off"},
    {"data_aug.motion_shift", "false", "this augmentation is not here; the published runs leave it off"},
    {"data_aug.reprob", "0", "random erasing is not here; the published runs leave it at 0"},
    {"loss.reg_coeff", "0", "the variance term is not here; the published runs leave it at 0"},
    {"meta.read_checkpoint", NULL, "give the checkpoint with --resume PATH or --init MODEL and leave this null"},
    {"meta.skip_batches", "-1", "a resumed run finds its place in the data by itself"},
    {"model.use_mask_tokens", "true", "the predictor here has mask tokens"},
    {"model.zero_init_mask_tokens", "true", "mask tokens start at zero here"},
    {"model.use_silu", "false", "the blocks here have GELU"},
    {"model.use_pred_silu", "false", "the blocks here have GELU"},
    {"model.is_causal", "false", "attention here sees all frames"},
    {"model.pred_is_frame_causal", "false", "attention here sees all frames"},
    {"optimization.anneal_ckpt", NULL, "give the model to start from with --init MODEL and leave this null"},
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

static int in_table(const char *const *table, size_t n, const char *key) {
    for (size_t i = 0; i < n; i++)
        if (!strcmp(table[i], key)) return 1;
    return 0;
}

/* Changes of one letter that turn a into b (Levenshtein), to say what an unknown key may have meant. */
static int distance(const char *a, const char *b) {
    enum { MOST = 64 };
    int row[MOST + 1], n = (int)strlen(b);
    if (strlen(a) > MOST || n > MOST) return MOST;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; *a; a++, i++) {
        int corner = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = corner + (*a != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            corner = row[j], row[j] = best;
        }
    }
    return row[n];
}

static void unknown(cfg_reader *r, const yaml *v, const char *path, const char *const *table, size_t n) {
    const char *nearest = NULL, *leaf = strrchr(path, '.');
    int best = 3; /* more changes than that are another word */
    leaf = leaf ? leaf + 1 : path;
    for (size_t i = 0; i < n; i++) {
        const char *other = strrchr(table[i], '.');
        int d = distance(leaf, other ? other + 1 : table[i]);
        if (d < best) best = d, nearest = table[i];
    }
    for (size_t i = 0; leaf == path && i < COUNT(section); i++) {
        int d = distance(leaf, section[i]);
        if (d < best) best = d, nearest = section[i];
    }
    cfg_fail(r, v, path, nearest ? "unknown key; did you mean %s?" : "unknown key%s", nearest ? nearest : "");
}

static int is_section(const char *key) { return in_table(section, COUNT(section), key); }

static void check_map(cfg_reader *r, const yaml *map, const char *prefix, const char *const *table, size_t n, int whole_path) {
    char path[400];
    for (int i = 0; i < map->count; i++) {
        const yaml *v = map->item[i];
        snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", v->key);
        if (!in_table(table, n, whole_path ? path : v->key)) unknown(r, v, path, table, n);
    }
}

static int says(const yaml *v, const char *value) {
    double x, y;
    int a, b;
    yaml w = {.kind = YAML_SCALAR, .text = (char *)value};
    if (!value) return yaml_is_null(v);
    if (yaml_double(&w, &y)) return yaml_double(v, &x) && x == y;
    if (yaml_bool(&w, &b)) return yaml_bool(v, &a) && a == b;
    return v->kind == YAML_SCALAR && !strcmp(v->text, value);
}

void cfg_check_keys(cfg_reader *r, char *notes, size_t size) {
    for (int i = 0; i < r->root->count; i++) {
        const yaml *v = r->root->item[i];
        if (!is_section(v->key)) {
            if (!in_table(known, COUNT(known), v->key)) {
                if (!strcmp(v->key, "logging"))
                    cfg_fail(r, v, v->key, "unknown section; folder: at the top says where a run goes");
                else
                    unknown(r, v, v->key, known, COUNT(known));
            }
        } else if (v->kind == YAML_MAP) {
            check_map(r, v, v->key, known, COUNT(known), 1);
        } else if (!yaml_is_null(v)) {
            cfg_fail(r, v, v->key, "a section with keys was expected");
        }
    }
    const yaml *m = yaml_get(r->root, "mask");
    if (m && m->kind == YAML_MAP) check_map(r, m, "mask", known_ijepa, COUNT(known_ijepa), 0);
    for (int i = 0; m && m->kind == YAML_LIST && i < m->count; i++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "mask.%d", i);
        if (m->item[i]->kind == YAML_MAP)
            check_map(r, m->item[i], prefix, known_generator, COUNT(known_generator), 0);
        else
            cfg_fail(r, m->item[i], prefix, "a generator with keys (num_blocks, spatial_scale, …) was expected");
    }
    for (size_t i = 0; i < COUNT(fixed); i++) {
        const yaml *v = yaml_at(r->root, fixed[i].path);
        if (v && !says(v, fixed[i].value) && !(fixed[i].value && yaml_is_null(v)))
            cfg_fail(r, v, fixed[i].path, "%.60s is not supported, only %s: %s", v->kind == YAML_SCALAR ? v->text : "this",
                     fixed[i].value ? fixed[i].value : "null", fixed[i].help);
    }
    size_t n = 0;
    if (size) *notes = 0;
    for (size_t i = 0; i < COUNT(unused); i++)
        if (yaml_at(r->root, unused[i]) && n < size) {
            int k = snprintf(notes + n, size - n, "%s%s", n ? ", " : "read, not used: ", unused[i]);
            n += k > 0 ? (size_t)k : 0;
        }
}

/* ---- getters ---- */

void cfg_fail(cfg_reader *r, const yaml *v, const char *path, const char *fmt, ...) {
    char text[360];
    va_list ap;
    if (r->rc) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (v && v->line)
        r->rc = err_set_at(r->err, JEPA_E_MODEL, r->file, -1, "%s:%d: %s: %s", r->file, v->line, path, text);
    else
        r->rc = err_set_at(r->err, JEPA_E_MODEL, r->file, -1, "%s: %s%s: %s", r->file, v ? "--set " : "", path, text);
}

int cfg_has(const cfg_reader *r, const char *path) {
    const yaml *v = yaml_at(r->root, path);
    return v && !yaml_is_null(v);
}

const yaml *cfg_at(cfg_reader *r, const char *path, const char *otherwise) {
    if (r->rc) return NULL;
    const yaml *v = yaml_at(r->root, path);
    if (v && (!yaml_is_null(v) || (otherwise && !strcmp(otherwise, "null")))) return v;
    if (!otherwise) {
        cfg_fail(r, v, path, "is missing");
        return NULL;
    }
    r->rc = yaml_set(r->root, path, otherwise, r->err);
    return r->rc ? NULL : yaml_at(r->root, path);
}

static const char *shown(const yaml *v) { return v->kind == YAML_SCALAR ? v->text : v->kind == YAML_LIST ? "a list" : "a map"; }

void cfg_int(cfg_reader *r, const char *path, const char *otherwise, int64_t low, int64_t high, int64_t *out) {
    const yaml *v = cfg_at(r, path, otherwise);
    int64_t x;
    if (!v) return;
    if (!yaml_int(v, &x) || x < low || x > high)
        cfg_fail(r, v, path, "%.60s is no whole number from %lld to %lld", shown(v), (long long)low, (long long)high);
    else
        *out = x;
}

void cfg_int32(cfg_reader *r, const char *path, const char *otherwise, int low, int high, int *out) {
    int64_t x = *out;
    cfg_int(r, path, otherwise, low, high, &x);
    if (!r->rc) *out = (int)x;
}

void cfg_double(cfg_reader *r, const char *path, const char *otherwise, double low, double high, double *out) {
    const yaml *v = cfg_at(r, path, otherwise);
    double x;
    if (!v) return;
    if (!yaml_double(v, &x) || !(x >= low && x <= high))
        cfg_fail(r, v, path, "%.60s is no number from %g to %g", shown(v), low, high);
    else
        *out = x;
}

void cfg_bool(cfg_reader *r, const char *path, const char *otherwise, int *out) {
    const yaml *v = cfg_at(r, path, otherwise);
    if (v && !yaml_bool(v, out)) cfg_fail(r, v, path, "%.60s is neither true nor false", shown(v));
}

void cfg_text(cfg_reader *r, const char *path, const char *otherwise, char *out, size_t size) {
    const yaml *v = cfg_at(r, path, otherwise);
    if (!v) return;
    if (v->kind != YAML_SCALAR)
        cfg_fail(r, v, path, "one word or text was expected, not %s", shown(v));
    else if (strlen(v->text) >= size)
        cfg_fail(r, v, path, "longer than %zu bytes", size - 1);
    else
        memcpy(out, v->text, strlen(v->text) + 1);
}

void cfg_pair(cfg_reader *r, const char *path, const char *otherwise, double low, double high, double out[2]) {
    const yaml *v = cfg_at(r, path, otherwise);
    double x[2];
    if (!v) return;
    if (v->kind != YAML_LIST || v->count != 2 || !yaml_double(v->item[0], &x[0]) || !yaml_double(v->item[1], &x[1]))
        cfg_fail(r, v, path, "a list of two numbers was expected");
    else if (!(x[0] >= low && x[0] <= high && x[1] >= low && x[1] <= high))
        cfg_fail(r, v, path, "[%g, %g]: both must be from %g to %g", x[0], x[1], low, high);
    else
        out[0] = x[0], out[1] = x[1];
}
