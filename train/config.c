/* config.c: the published YAML as a train_cfg. Unknown keys and unsupported values are refused with their line; what a file leaves out is
 * filled in, so that the tree that is kept (and written as config.yaml) says everything and reads back to the same. */
#include "train/config_read.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

void train_cfg_defaults(train_cfg *c) {
    memset(c, 0, sizeof *c);
    enc_cfg_defaults(&c->enc);
    pred_cfg_defaults(&c->pred, &c->enc);
    feed_cfg_defaults(&c->feed);
    snprintf(c->model_name, sizeof c->model_name, "vit_large");
    c->sched.ipe_scale = 1;
    c->loss_exp = 1, c->beta1 = 0.9, c->beta2 = 0.999, c->adam_eps = 1e-8, c->init_sd = 0.02;
    c->accumulate = 1;
    c->log_every = 10, c->monitor_every = 100, c->keep_last = 3, c->save_every = 1000;
}

void train_cfg_free(train_cfg *c) {
    if (!c) return;
    for (int i = 0; i < c->n_datasets; i++) mem_free(c->datasets[i]);
    yaml_close(&c->resolved);
    memset(c, 0, sizeof *c);
}

/* ---- top level and data ---- */

static void read_top(cfg_reader *r, train_cfg *c) {
    int nodes = 1, tasks = 1;
    char app[32];
    cfg_text(r, "app", "vjepa", app, sizeof app);
    cfg_int32(r, "nodes", "1", 1, 1 << 16, &nodes);
    cfg_int32(r, "tasks_per_node", "1", 1, 1 << 16, &tasks);
    if (cfg_has(r, "folder"))
        cfg_text(r, "folder", NULL, c->folder, sizeof c->folder);
    else
        cfg_at(r, "folder", "null");
    if (r->rc) return;
    if ((int64_t)nodes * tasks > 4096) {
        cfg_fail(r, yaml_at(r->root, "nodes"), "nodes", "%d nodes of %d tasks are %lld mask groups a step; 4096 are possible", nodes, tasks,
                 (long long)nodes * tasks);
        return;
    }
    c->accumulate = nodes * tasks;
}

/* A relative path is tried beside the configuration, then in the working folder (the other way round where --set gave it), and kept as the
 * whole path of what was found: config.yaml is read from another folder later. */
static int find_path(cfg_reader *r, const yaml *v, char **out) {
    char beside[PATH_MAX], *real = NULL;
    const char *slash = strrchr(r->file, '/'), *first = v->text, *second = NULL;
    int n = slash && *v->text != '/' ? snprintf(beside, sizeof beside, "%.*s/%s", (int)(slash - r->file), r->file, v->text) : -1;
    if (n > 0 && n < (int)sizeof beside) {
        first = v->line ? beside : v->text;
        second = v->line ? v->text : beside;
    }
    real = realpath(first, NULL);
    if (!real && second) real = realpath(second, NULL);
    const char *text = real ? real : v->text;
    *out = mem_alloc(strlen(text) + 1, 1);
    if (*out) memcpy(*out, text, strlen(text) + 1);
    free(real);
    return *out ? 0 : JEPA_E_MEMORY;
}

static void read_datasets(cfg_reader *r, train_cfg *c) {
    const yaml *v = cfg_at(r, "data.datasets", "[]"), *w;
    if (!v) return;
    int n = v->kind == YAML_LIST ? v->count : 1;
    if (n > MAX_DATASETS) {
        cfg_fail(r, v, "data.datasets", "%d lists; at most %d", n, MAX_DATASETS);
        return;
    }
    for (int i = 0; i < n; i++) {
        yaml *one = v->kind == YAML_LIST ? v->item[i] : (yaml *)v;
        if (one->kind != YAML_SCALAR || !*one->text || yaml_is_null(one)) {
            cfg_fail(r, one, "data.datasets", "a path was expected, not %s", one->kind == YAML_SCALAR ? "nothing" : "a list or map");
            return;
        }
        char *text = NULL; /* the tree keeps the whole path too */
        if (find_path(r, one, &c->datasets[i]) == 0) {
            c->n_datasets = i + 1;
            text = mem_alloc(strlen(c->datasets[i]) + 1, 1);
        }
        if (!text) {
            r->rc = err_set(r->err, JEPA_E_MEMORY, "%s: no memory for a path", r->file);
            return;
        }
        memcpy(text, c->datasets[i], strlen(c->datasets[i]) + 1);
        mem_free(one->text);
        one->text = text;
        one->quoted = 1; /* a folder may be called 2024 */
    }
    w = cfg_at(r, "data.datasets_weights", "null");
    if (!w || yaml_is_null(w)) return;
    if (w->kind != YAML_LIST || w->count != c->n_datasets) {
        cfg_fail(r, w, "data.datasets_weights", "a list of one weight for each of the %d datasets was expected", c->n_datasets);
        return;
    }
    for (int i = 0; i < w->count; i++)
        if (!yaml_double(w->item[i], &c->dataset_weight[i]) || !(c->dataset_weight[i] > 0 && c->dataset_weight[i] <= 1e9)) {
            cfg_fail(r, w->item[i], "data.datasets_weights", "a weight above 0 was expected");
            return;
        }
    c->has_weights = 1;
}

/* Frames per clip: dataset_fpcs (one number for each dataset, all the same here) or V-JEPA 1's num_frames. Returns how many clip lengths
 * the list names: the published mask tokens are generators times that. */
static int read_frames(cfg_reader *r, int *frames) {
    int64_t one, x;
    if (cfg_has(r, "data.num_frames") && !cfg_has(r, "data.dataset_fpcs")) {
        cfg_int32(r, "data.num_frames", NULL, 1, 1 << 14, frames);
        return 1;
    }
    if (cfg_has(r, "data.num_frames"))
        cfg_fail(r, yaml_at(r->root, "data.num_frames"), "data.num_frames", "data.dataset_fpcs says it already");
    const yaml *v = cfg_at(r, "data.dataset_fpcs", "[16]");
    if (!v) return 1;
    if (v->kind != YAML_LIST || v->count < 1 || !yaml_int(v->item[0], &one) || one < 1 || one > 1 << 14) {
        cfg_fail(r, v, "data.dataset_fpcs", "a list of frames per clip was expected, like [16]");
        return 1;
    }
    for (int i = 1; i < v->count; i++)
        if (!yaml_int(v->item[i], &x) || x != one) {
            cfg_fail(r, v->item[i], "data.dataset_fpcs", "several clip lengths in one run are not supported; give all datasets %lld frames",
                     (long long)one);
            return 1;
        }
    *frames = (int)one;
    return v->count;
}

/* Which frames: frames per second, seconds a clip (V-JEPA 1), or a step; exactly one. */
static void read_sampling(cfg_reader *r, sample_cfg *s) {
    static const char *const way[] = {"data.fps", "data.clip_duration", "data.frame_step", "data.sampling_rate"};
    const char *first = NULL;
    s->fps = s->duration = 0;
    for (int i = 0; i < 4; i++) {
        if (!cfg_has(r, way[i])) continue;
        if (first) cfg_fail(r, yaml_at(r->root, way[i]), way[i], "%s says already which frames are used; set one of them to null", first);
        first = way[i];
        if (i == 0)
            cfg_double(r, way[i], NULL, 1e-3, 1e4, &s->fps);
        else if (i == 1)
            cfg_double(r, way[i], NULL, 1e-3, 1e6, &s->duration);
        else
            cfg_int32(r, way[i], NULL, 1, 1 << 20, &s->frame_step);
    }
    if (!first) cfg_fail(r, yaml_at(r->root, "data.fps"), "data.fps", "is missing (or data.frame_step, to go by frames)");
}

static int read_data(cfg_reader *r, train_cfg *c) {
    int crop = 0, patch = 16, tubelet = 2, frames = 16, workers = 1, lengths;
    char type[32] = "";
    const yaml *v = cfg_at(r, "data.dataset_type", "VideoDataset");
    cfg_text(r, "data.dataset_type", "VideoDataset", type, sizeof type);
    if (!r->rc && strcasecmp(type, "VideoDataset"))
        cfg_fail(r, v, "data.dataset_type", "%s is not supported, only VideoDataset (lists, folders and files)", type);
    read_datasets(r, c);
    cfg_int32(r, "data.batch_size", NULL, 1, 1 << 16, &c->feed.batch);
    cfg_int32(r, "data.crop_size", "224", 1, 1 << 13, &crop);
    cfg_int32(r, "data.patch_size", "16", 1, 256, &patch);
    cfg_int32(r, "data.tubelet_size", "2", 1, 64, &tubelet);
    lengths = read_frames(r, &frames);
    if (!r->rc && crop % patch)
        cfg_fail(r, yaml_at(r->root, "data.crop_size"), "data.crop_size", "%d is no multiple of data.patch_size %d", crop, patch);
    if (!r->rc && frames % tubelet)
        cfg_fail(r, yaml_at(r->root, "data.dataset_fpcs"), "data.dataset_fpcs", "%d frames are no multiple of data.tubelet_size %d", frames,
                 tubelet);
    c->enc.img_height = c->enc.img_width = c->feed.crop = crop;
    c->enc.patch_size = patch, c->enc.tubelet_size = tubelet, c->enc.num_frames = c->feed.sample.frames = frames;
    read_sampling(r, &c->feed.sample);
    cfg_int32(r, "data.num_workers", "1", 0, 256, &workers);
    c->feed.threads = workers < 1 ? 1 : workers; /* published: 0 loads in the main process */
    cfg_int32(r, "data.queue_batches", "2", 1, 64, &c->feed.queue_batches);
    cfg_bool(r, "data.random_window", "true", &c->feed.sample.random);
    cfg_double(r, "data.max_bad", "0.01", 0, 1, &c->feed.max_bad);
    c->feed.sample.num_clips = 1;
    c->feed.sample.raw_fps = cfg_has(r, "data.clip_duration"); /* V-JEPA 1's rule, as its key */
    cfg_bool(r, "data.filter_short_videos", "false", &c->feed.sample.reject_short);

    cfg_pair(r, "data_aug.random_resize_scale", "[0.3, 1.0]", 1e-3, 10, c->feed.scale);
    cfg_pair(r, "data_aug.random_resize_aspect_ratio", "[0.75, 1.35]", 0.01, 100, c->feed.ratio);
    if (!r->rc && (c->feed.scale[0] > c->feed.scale[1] || c->feed.ratio[0] > c->feed.ratio[1]))
        cfg_fail(r, NULL, "data_aug", "random_resize_scale and random_resize_aspect_ratio must not fall");
    cfg_bool(r, "data_aug.horizontal_flip", "true", &c->feed.flip);
    cfg_bool(r, "data_aug.eval_transform", "false", &c->feed.eval);
    return lengths;
}

/* ---- model, optimization, meta ---- */

static void read_model(cfg_reader *r, train_cfg *c, int lengths) {
    static const char *const own[] = {"model.embed_dim", "model.depth", "model.num_heads", "model.mlp_ratio"};
    jepa_err why = {0};
    int rope = 0, checkpointing = 0;
    char tokens[16];
    const yaml *v = cfg_at(r, "model.model_name", NULL);
    cfg_text(r, "model.model_name", NULL, c->model_name, sizeof c->model_name);
    if (r->rc) return;
    if (!strcmp(c->model_name, "custom")) {
        cfg_int32(r, own[0], NULL, 1, 1 << 14, &c->enc.embed_dim);
        cfg_int32(r, own[1], NULL, 1, 512, &c->enc.depth);
        cfg_int32(r, own[2], NULL, 1, 1024, &c->enc.num_heads);
        cfg_double(r, own[3], "4", 1e-3, 64, &c->enc.mlp_ratio);
    } else {
        if (enc_cfg_size(&c->enc, c->model_name, &why))
            cfg_fail(r, v, "model.model_name", "%s; or custom, with embed_dim, depth, num_heads", why.text);
        for (int i = 0; i < 4; i++)
            if (cfg_has(r, own[i]))
                cfg_fail(r, yaml_at(r->root, own[i]), own[i], "%s says it already; model_name: custom lets it be given", c->model_name);
    }
    cfg_bool(r, "model.uniform_power", "false", &c->enc.uniform_power);
    cfg_bool(r, "model.use_rope", "false", &rope); /* absent means sin-cos, as published */
    c->enc.positions = rope ? POS_ROPE_TILED : POS_SINCOS;
    if (!r->rc && !rope) cfg_fail(r, v, "model", "sin-cos positions (V-JEPA, I-JEPA) are not trained from a file yet: model.use_rope: true");
    if (!r->rc && enc_cfg_check(&c->enc, &why)) cfg_fail(r, v, "model", "%s", why.text);

    pred_cfg_defaults(&c->pred, &c->enc);
    cfg_int32(r, "model.pred_embed_dim", "384", 1, 1 << 14, &c->pred.predictor_embed_dim);
    cfg_int32(r, "model.pred_depth", "12", 1, 512, &c->pred.depth);
    c->pred.num_heads = c->enc.num_heads; /* null: as many as the encoder, as published */
    if (cfg_has(r, "model.pred_num_heads"))
        cfg_int32(r, "model.pred_num_heads", NULL, 1, 1024, &c->pred.num_heads);
    else
        cfg_at(r, "model.pred_num_heads", "null");
    snprintf(tokens, sizeof tokens, "%d", c->n_masks * lengths);
    cfg_int32(r, "model.num_mask_tokens", tokens, 1, 1024, &c->pred.num_mask_tokens);
    c->pred.embed_dim = c->pred.out_dim = c->enc.embed_dim;
    c->pred.positions = c->enc.positions;
    if (!r->rc && pred_cfg_check(&c->pred, &why)) cfg_fail(r, v, "model", "%s", why.text);

    cfg_bool(r, "model.use_activation_checkpointing", "false", &checkpointing);
    c->recompute_level = checkpointing ? RECOMPUTE_BLOCK : RECOMPUTE_NONE;
    if (cfg_has(r, "model.recompute")) {
        static const char *const level[] = {"none", "mlp", "block"};
        char word[16] = "";
        int i = 0;
        cfg_text(r, "model.recompute", NULL, word, sizeof word);
        while (i < 3 && strcmp(level[i], word)) i++;
        if (i == 3)
            cfg_fail(r, yaml_at(r->root, "model.recompute"), "model.recompute", "%s is not known; known: none, mlp, block", word);
        else
            c->recompute_level = (recompute)i;
    } else {
        cfg_at(r, "model.recompute", "null");
    }
    if (cfg_has(r, "data.micro_batch"))
        cfg_int32(r, "data.micro_batch", NULL, 1, c->feed.batch, &c->micro_batch);
    else
        cfg_at(r, "data.micro_batch", "null");
    if (cfg_has(r, "meta.memory")) {
        char size[32] = "";
        cfg_text(r, "meta.memory", NULL, size, sizeof size);
        if (mem_size(size, &c->memory_limit))
            cfg_fail(r, yaml_at(r->root, "meta.memory"), "meta.memory", "%s is no amount of memory: 20G, 512M, or auto (what is free)", size);
    } else {
        cfg_at(r, "meta.memory", "null");
    }
}

static void read_optimization(cfg_reader *r, train_cfg *c) {
    sched_cfg *s = &c->sched;
    int anneal = 0, epochs = 0;
    double ema[2] = {0}, betas[2] = {0};
    int64_t ipe = 0;
    cfg_int32(r, "optimization.epochs", NULL, 1, 1 << 24, &epochs);
    if (cfg_has(r, "optimization.ipe"))
        cfg_int(r, "optimization.ipe", NULL, 1, 1 << 28, &ipe);
    else
        cfg_at(r, "optimization.ipe", "null");
    cfg_double(r, "optimization.ipe_scale", "1.0", 1e-3, 1e3, &s->ipe_scale);
    cfg_double(r, "optimization.warmup", NULL, 0, 1e6, &s->warmup_epochs);
    cfg_double(r, "optimization.start_lr", NULL, 0, 10, &s->start_lr);
    cfg_double(r, "optimization.lr", NULL, 0, 1e7, &s->lr);
    cfg_double(r, "optimization.final_lr", NULL, 0, 10, &s->final_lr);
    cfg_double(r, "optimization.weight_decay", NULL, 0, 10, &s->weight_decay);
    cfg_double(r, "optimization.final_weight_decay", NULL, 0, 10, &s->final_weight_decay);
    cfg_pair(r, "optimization.ema", NULL, 0, 1, ema);
    cfg_pair(r, "optimization.betas", "[0.9, 0.999]", 0, 1 - 1e-9, betas);
    cfg_double(r, "optimization.eps", "1.0e-8", 1e-30, 1, &c->adam_eps);
    cfg_double(r, "optimization.init_sd", "0.02", 1e-6, 1, &c->init_sd);
    cfg_bool(r, "optimization.is_anneal", "false", &anneal);
    if (cfg_has(r, "optimization.clip_grad"))
        cfg_double(r, "optimization.clip_grad", NULL, 1e-6, 1e9, &c->clip_grad);
    else
        cfg_at(r, "optimization.clip_grad", "null");
    s->kind = anneal ? SCHED_LINEAR_DECAY : SCHED_WARMUP_COSINE;
    s->ema_start = ema[0], s->ema_end = ema[1];
    c->beta1 = betas[0], c->beta2 = betas[1];
    s->epochs = epochs;
    s->iterations_per_epoch = (double)ipe;
    c->steps = ipe * epochs; /* at most 2^52 */
}

int train_type(const char *text, dtype *type) {
    int half = !strcasecmp(text, "bfloat16") || !strcasecmp(text, "bf16");
    *type = half ? T_BF16 : T_F32;
    return half || !strcasecmp(text, "float32") || !strcasecmp(text, "f32");
}

static void read_meta(cfg_reader *r, train_cfg *c) {
    char type[32] = "";
    int64_t seed = 0;
    const yaml *v = cfg_at(r, "meta.dtype", "float32");
    cfg_text(r, "meta.dtype", "float32", type, sizeof type);
    if (!r->rc && !train_type(type, &c->type))
        cfg_fail(r, v, "meta.dtype", "training runs in float32 or bfloat16, not in %s; add --set meta.dtype=bfloat16", type);
    cfg_int(r, "meta.seed", "0", 0, INT64_MAX, &seed);
    c->seed = c->feed.seed = (uint64_t)seed;
    cfg_int32(r, "meta.log_every", "10", 1, 1 << 30, &c->log_every);
    cfg_int32(r, "meta.monitor_every", "100", 1, 1 << 30, &c->monitor_every);
    cfg_int32(r, "meta.keep_last", "3", 0, 1 << 20, &c->keep_last);
    /* save_every_freq counts epochs (published; -1: never besides the last); save_every_steps is ours and goes first */
    int epochs = 1;
    cfg_int32(r, "meta.save_every_freq", "1", -1, 1 << 24, &epochs);
    if (epochs == 0) cfg_fail(r, yaml_at(r->root, "meta.save_every_freq"), "meta.save_every_freq", "0 epochs; at least 1, or -1 for never");
    c->save_every_epochs = epochs < 0 ? 0 : epochs;
    if (cfg_has(r, "meta.save_every_steps")) {
        cfg_int32(r, "meta.save_every_steps", NULL, 1, INT_MAX, &c->save_every);
        c->save_every_epochs = 0;
    } else {
        cfg_at(r, "meta.save_every_steps", "null");
        double steps = epochs < 0 ? INT_MAX : c->sched.iterations_per_epoch > 0 ? c->sched.iterations_per_epoch * epochs : 1000;
        c->save_every = steps > INT_MAX ? INT_MAX : (int)steps;
    }
}

int train_cfg_read(train_cfg *c, const char *path, const char *const *sets, int n_sets, jepa_err *err) {
    cfg_reader r = {.file = path, .err = err};
    train_cfg_defaults(c);
    c->feed.sample.random = 1;
    if ((r.rc = yaml_read(&c->resolved, path, err))) goto fail;
    r.root = c->resolved;
    if (r.root->kind != YAML_MAP) {
        cfg_fail(&r, r.root, "configuration", "sections were expected (data, mask, model, …)");
        goto fail;
    }
    for (int i = 0; i < n_sets; i++) {
        char key[256];
        const char *eq = strchr(sets[i], '=');
        if (!eq || (size_t)(eq - sets[i]) >= sizeof key) {
            r.rc = err_set(err, JEPA_E_USE, "--set %.200s: section.key=value was expected", sets[i]);
            goto fail;
        }
        snprintf(key, sizeof key, "%.*s", (int)(eq - sets[i]), sets[i]);
        if ((r.rc = yaml_set(r.root, key, eq + 1, err))) {
            err_prefix(err, r.rc, "--set");
            goto fail;
        }
    }
    if (snprintf(c->config_path, sizeof c->config_path, "%s", path) >= (int)sizeof c->config_path) {
        r.rc = err_set(err, JEPA_E_USE, "%.100s…: the path of the configuration is longer than %zu bytes", path, sizeof c->config_path - 1);
        goto fail;
    }
    const yaml *type = yaml_at(r.root, "meta.dtype");
    c->type_asked = type && type->line == 0;
    cfg_check_keys(&r, c->notes, sizeof c->notes);
    read_top(&r, c);
    int lengths = read_data(&r, c);
    cfg_double(&r, "loss.loss_exp", "1.0", 1, 16, &c->loss_exp);
    cfg_read_masks(&r, c);
    read_model(&r, c, lengths);
    read_optimization(&r, c);
    read_meta(&r, c);
    if (r.rc == 0) return 0;
fail:
    train_cfg_free(c);
    return r.rc;
}
