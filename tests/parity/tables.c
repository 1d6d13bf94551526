/* tables.c: every kind, family, verb and key that meta.json may hold, and which of them run here today. */
#include "parity.h"

#include <string.h>

static const struct kind {
    const char *name, *verbs, *later;
    int model;
} kinds[] = {
    {"hf-vjepa2", "encode encode_context encode_select hidden_state predict", NULL, 1},
    {"hf-processor", "preprocess", NULL, 0},
    {"meta-encoder-predictor", "encode encode_context encode_select hidden_state predict loss gradients mask_distance", NULL, 1},
    {"train-step", "train_step", NULL, 1},
    {"schedules", "schedule lambda_schedule", NULL, 0},
    {"mask-statistics", "mask_statistics block_size", NULL, 0},
    {"frame-indices", "frame_indices", NULL, 0},
    {"transform", "eval_resize eval_transform views_transform train_crop pil_crop crop_box", NULL, 0},
    {"hf-classifier", "classify", NULL, 1},
    {"attentive-probe", "classify gradients", NULL, 0},
    {"checkpoint-values", "load", NULL, 0},
    {"ac", "encode predict loss rollout gradients attention_mask pose_differences camera_frame",
     "the action-conditioned predictor is not built yet", 0},
    {"ac-planner", "candidate_energy plan", "the planner is not built yet", 0},
    {"droid-episode", "droid_window", "DROID episodes are not read yet", 0},
};

static const struct {
    const char *name, *later;
} families[] = {
    {"vjepa2", NULL},
    {"vjepa1", NULL},
    {"ijepa", NULL},
    {"vjepa21", NULL},
    {"vjepa2ac", "family vjepa2ac (V-JEPA 2-AC) is not built yet"},
};

/* Roles and parameters of the verbs that run; a verb without a function is known and comes later. */
static const struct verb {
    const char *name, *params, *inputs, *outputs;
    int (*run)(check *, jepa_err *);
    const char *later;
} verbs[] = {
    {"classify", "positions grid split", "x tokens labels", "tokens pooled logits probabilities loss", verb_classify, NULL},
    {"attentive-probe gradients", "of no_gradient", "tokens labels", "probe tokens", verb_probe_gradients, NULL}, /* that kind's own */
    {"encode", "positions grid split repeat_to_frames output each_frame", "x", "tokens levels raw normed", verb_encode, NULL},
    {"encode_context", "positions grid split repeat_to_frames output", "x context", "tokens", verb_encode, NULL},
    {"encode_select", "positions grid split repeat_to_frames output", "x select", "tokens", verb_encode_select, NULL},
    {"hidden_state", "positions grid split repeat_to_frames after_blocks norm", "x", "tokens", verb_hidden_state, NULL},
    {"predict", "positions grid split mask_token generator modality stack", "z context target target_#", "target context all", verb_predict,
     NULL},
    {"preprocess", "", "frames", "pixel_values", verb_preprocess, NULL},
    {"train_step", "step quantity grid no_gradient", "x context_# target_#",
     "encoder predictor target_encoder loss lr weight_decay ema_momentum encoder_grad_norm predictor_grad_norm variance_term",
     verb_train_step, NULL},
    {"schedule",
     "schedule iterations_per_epoch epochs warmup_epochs anneal_epochs start_lr lr final_lr weight_decay final_weight_decay ipe_scale "
     "ema_start ema_end",
     "", "values", verb_schedule, NULL},
    {"lambda_schedule", "lambda start end", "", "values", verb_lambda_schedule, NULL},
    {"mask_statistics",
     "grid batch batches n_context n_target sampler num_blocks spatial_scale temporal_scale aspect_ratio max_temporal_keep max_keep "
     "full_complement pred_full_complement inv_block num_targets target_scale context_scale min_keep allow_overlap",
     "", "context_length target_length p_context p_target block_sizes", verb_mask_statistics, NULL},
    {"block_size", "sampler", "", "records", verb_block_size, NULL},
    {"frame_indices", "", "", "records", verb_frame_indices, NULL},
    {"eval_resize", "short_side", "frames", "resized", verb_eval_resize, NULL},
    {"eval_transform", "crop short_side mean std", "frames", "out", verb_eval_transform, NULL},
    {"views_transform", "crop views mean std", "frames", "view_#", verb_views_transform, NULL},
    {"train_crop", "crop box flip mean std", "frames", "out", verb_train_crop, NULL},
    {"pil_crop", "crop box", "frames", "out", verb_pil_crop, NULL},
    {"crop_box", "", "", "records", verb_crop_box, NULL},
    {"loss", "positions grid split mask_token lambda distance_weighted loss_exp", "x context target",
     "loss loss_target loss_context targets", verb_level_loss, NULL},
    {"gradients", "positions grid split of mask_token lambda distance_weighted loss_exp no_gradient", "x context target",
     "encoder predictor", verb_level_gradients, NULL},
    {"mask_distance", "grid_size offset", "context target", "distance", verb_mask_distance, NULL},
    {"load", "scale", "", "encoder predictor target_encoder top", verb_load, NULL},
    {"rollout", NULL, NULL, NULL, NULL, "see kind"},
    {"attention_mask", NULL, NULL, NULL, NULL, "see kind"},
    {"pose_differences", NULL, NULL, NULL, NULL, "see kind"},
    {"camera_frame", NULL, NULL, NULL, NULL, "see kind"},
    {"candidate_energy", NULL, NULL, NULL, NULL, "see kind"},
    {"plan", NULL, NULL, NULL, NULL, "see kind"},
    {"droid_window", NULL, NULL, NULL, NULL, "see kind"},
};

static const char meta_keys[] =
    "kind family config files tensors checks notes versions f32_vs_f64* worst_params_* parameters_without_gradient";
static const char check_keys[] = "name run kind config weights inputs outputs params abs rel mean_abs sigmas map_sigmas exclude f32_error";
static const char config_keys[] =
    "img_height img_width patch_size tubelet_size num_frames in_chans embed_dim depth num_heads mlp_ratio layer_norm_eps target_norm_eps "
    "use_rope "
    "rope_interleaved interpolate_rope uniform_power has_cls image_patch_embed modality_embedding levels level_blocks predictor_embed_dim "
    "predictor_depth predictor_num_heads predictor_mlp_ratio predictor_out_dim predictor_interpolate_rope predictor_context_proj "
    "num_mask_tokens "
    "action_dim state_dim extrinsics_dim use_extrinsics probe_depth num_classes iterations_per_epoch epochs warmup_epochs anneal_epochs "
    "start_lr lr "
    "final_lr weight_decay final_weight_decay ipe_scale ema_start ema_end loss loss_exp mask_token_rule beta1 beta2 adam_eps clip_grad "
    "clip_after_epoch";
static const char module_names[] = "encoder predictor target_encoder model probe processor top";
static const char file_roles[] = "weights weights-folder io expected records log config episode-folder reading";

int word_in(const char *list, const char *name) {
    size_t len = strlen(name);
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, " ");
        if (n == len && !memcmp(p, name, n)) return 1;
        if (n > 0 && p[n - 1] == '*' && len >= n - 1 && !memcmp(p, name, n - 1)) return 1;
        if (n > 0 && p[n - 1] == '#' && len > n - 1 && !memcmp(p, name, n - 1) && strspn(name + n - 1, "0123456789") == len - (n - 1))
            return 1;
        p += n;
        p += *p == ' ';
    }
    return 0;
}

static int keys_known(const json *object, const char *list, const char *what, jepa_err *err) {
    if (!json_is_object(object)) return err_set(err, JEPA_E_MODEL, "%s is not an object", what);
    for (const json *v = json_first(object); v; v = json_next(v))
        if (!word_in(list, json_key(v))) return err_set(err, JEPA_E_MODEL, "unknown key \"%s\" in %s", json_key(v), what);
    return 0;
}

static const struct kind *kind_find(const char *name) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].name, name)) return &kinds[i];
    return NULL;
}
static const struct verb *verb_find(const char *name, const char *kind) {
    char own[128];
    snprintf(own, sizeof own, "%s %s", kind, name);
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(verbs[i].name, own)) return &verbs[i];
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(verbs[i].name, name)) return &verbs[i];
    return NULL;
}

int table_check_meta(const json *meta, jepa_err *err) {
    int rc;
    if ((rc = keys_known(meta, meta_keys, "meta.json", err)) < 0) return rc;
    const char *kind = json_string(json_get(meta, "kind"), NULL), *family = json_string(json_get(meta, "family"), NULL);
    if (!kind) return err_set(err, JEPA_E_MODEL, "meta.json has no kind");
    if (!kind_find(kind)) return err_set(err, JEPA_E_MODEL, "unknown kind \"%s\"", kind);
    if (json_get(meta, "family")) {
        size_t i = 0, n = sizeof families / sizeof *families;
        while (i < n && family && strcmp(families[i].name, family)) i++;
        if (!family || i == n) return err_set(err, JEPA_E_MODEL, "unknown family \"%s\"", family ? family : "(not a string)");
    }
    if (json_get(meta, "config") && (rc = keys_known(json_get(meta, "config"), config_keys, "config", err)) < 0) return rc;
    for (const json *f = json_first(json_get(meta, "files")); f; f = json_next(f))
        if (!word_in(file_roles, json_string(f, "")))
            return err_set(err, JEPA_E_MODEL, "unknown role \"%s\" of file %s", json_string(f, ""), json_key(f));
    const json *checks = json_get(meta, "checks");
    if (!json_is_array(checks)) return err_set(err, JEPA_E_MODEL, "meta.json has no list of checks");
    for (const json *a = json_first(checks); a; a = json_next(a))
        for (const json *b = json_next(a); b; b = json_next(b))
            if (!strcmp(json_string(json_get(a, "name"), ""), json_string(json_get(b, "name"), "")))
                return err_set(err, JEPA_E_MODEL, "two checks are named \"%s\"", json_string(json_get(a, "name"), ""));
    return 0;
}

static int entries_known(const json *object, const char *list, const char *what, const char *verb, jepa_err *err) {
    for (const json *v = json_first(object); v; v = json_next(v))
        if (!word_in(list, json_key(v))) return err_set(err, JEPA_E_MODEL, "unknown key \"%s\" in the %s of %s", json_key(v), what, verb);
    return 0;
}

static int bound_key(const json *j, const char *key, double *out, jepa_err *err) {
    const json *v = json_get(j, key);
    if (!json_is_number(v)) return err_set(err, JEPA_E_MODEL, v ? "\"%s\" is not a number" : "the check has no \"%s\"", key);
    *out = json_number(v, 0);
    return *out >= 0 ? 0 : err_set(err, JEPA_E_MODEL, "\"%s\" is %g", key, *out);
}

static int shape_known(check *c, jepa_err *err) {
    int rc;
    if ((rc = keys_known(c->j, check_keys, "a check", err)) < 0) return rc;
    if (c->own_config && (rc = keys_known(c->own_config, config_keys, "the check's config", err)) < 0) return rc;
    if (!json_is_object(c->outputs) || json_size(c->outputs) < 1) return err_set(err, JEPA_E_MODEL, "the check has no outputs");
    for (const json *w = json_first(json_get(c->j, "weights")); w; w = json_next(w)) {
        if (!word_in(module_names, json_key(w))) return err_set(err, JEPA_E_MODEL, "unknown module \"%s\" in weights", json_key(w));
        if ((rc = keys_known(w, "file key prefix", "weights", err)) < 0) return rc;
    }
    for (const json *x = json_first(json_get(c->j, "exclude")); x; x = json_next(x))
        if ((rc = keys_known(x, "tensors module rows abs rel", "exclude", err)) < 0) return rc;
    c->mean_abs = -1;
    if ((rc = bound_key(c->j, "abs", &c->abs, err)) < 0 || (rc = bound_key(c->j, "rel", &c->rel, err)) < 0) return rc;
    if (json_get(c->j, "mean_abs")) return bound_key(c->j, "mean_abs", &c->mean_abs, err);
    return 0;
}

int table_check(check *c, int (**run)(check *, jepa_err *), jepa_err *err) {
    int rc = shape_known(c, err);
    if (rc < 0) return rc;
    if (!c->run) return err_set(err, JEPA_E_MODEL, "the check has no verb (run)");
    const struct kind *k = kind_find(c->kind);
    if (!k) return err_set(err, JEPA_E_MODEL, "unknown kind \"%s\"", c->kind);
    const struct verb *v = verb_find(c->run, c->kind);
    if (!v) return err_set(err, JEPA_E_MODEL, "unknown verb \"%s\"", c->run);
    if (!word_in(k->verbs, c->run)) return err_set(err, JEPA_E_MODEL, "kind %s has no verb \"%s\"", c->kind, c->run);
    if ((json_get(c->j, "sigmas") || json_get(c->j, "map_sigmas")) && strcmp(c->run, "mask_statistics"))
        return err_set(err, JEPA_E_MODEL, "sigmas belong to mask_statistics, not to %s", c->run);
    if (k->later) return err_set(err, PARITY_SKIP, "%s", k->later);
    if (k->model && !c->family) return err_set(err, JEPA_E_MODEL, "kind %s needs a family", c->kind);
    for (size_t i = 0; c->family && i < sizeof families / sizeof *families; i++)
        if (!strcmp(families[i].name, c->family) && families[i].later) return err_set(err, PARITY_SKIP, "%s", families[i].later);
    if (v->later) return err_set(err, PARITY_SKIP, "%s", v->later);
    if ((rc = entries_known(c->params, v->params, "params", v->name, err)) < 0 ||
        (rc = entries_known(c->inputs, v->inputs, "inputs", v->name, err)) < 0 ||
        (rc = entries_known(c->outputs, v->outputs, "outputs", v->name, err)) < 0)
        return rc;
    *run = v->run;
    return 0;
}
