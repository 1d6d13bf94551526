/* run_state.c: where a run starts from, and what it leaves behind. */
#include "base/json.h"
#include "base/yaml.h"
#include "train/run.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void train_model_cfg(const train_cfg *c, model_cfg *m) {
    memset(m, 0, sizeof *m);
    snprintf(m->family, sizeof m->family, "vjepa2");
    snprintf(m->variant, sizeof m->variant, "%s", c->model_name);
    m->img_height = c->enc.img_height, m->img_width = c->enc.img_width;
    m->patch_size = c->enc.patch_size, m->tubelet_size = c->enc.tubelet_size, m->num_frames = c->enc.num_frames, m->in_chans = c->enc.in_chans;
    m->embed_dim = c->enc.embed_dim, m->depth = c->enc.depth, m->num_heads = c->enc.num_heads;
    m->mlp_ratio = c->enc.mlp_ratio, m->layer_norm_eps = c->enc.layer_norm_eps;
    m->use_rope = c->enc.positions != POS_SINCOS;
    m->rope_interleaved = c->enc.positions == POS_ROPE_INTERLEAVED;
    m->uniform_power = c->enc.uniform_power;
    m->predictor_embed_dim = c->pred.predictor_embed_dim, m->predictor_depth = c->pred.depth, m->predictor_num_heads = c->pred.num_heads;
    m->predictor_out_dim = c->pred.out_dim, m->num_mask_tokens = c->pred.num_mask_tokens, m->predictor_mlp_ratio = c->pred.mlp_ratio;
}

int run_save(run *r, jepa_err *err) {
    json_writer w = {0};
    char *counters = NULL, *config = NULL;
    size_t n = 0;
    model_cfg m;
    int rc = feed_state(r->f, &counters, &n, err);
    if (rc < 0) goto done;
    if (r->c->resolved && (rc = yaml_write(r->c->resolved, &config, &n, err)) < 0) goto done;
    char seed[32]; /* as text: a 64-bit number does not fit a JSON number */
    snprintf(seed, sizeof seed, "%" PRIu64, r->c->seed);
    jw_open(&w, NULL, '{');
    jw_int(&w, "format", 1);
    jw_string(&w, "version", JEPA_VERSION);
    jw_int(&w, "step", train_step_count(r->t));
    jw_int(&w, "steps", r->steps);
    jw_string(&w, "seed", seed);
    jw_int(&w, "collapsed_points", r->flat);
    jw_string(&w, "feed", counters);
    jw_close(&w, '}');
    if (w.failed) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the training state");
        goto done;
    }
    train_model_cfg(r->c, &m);
    const ck_state s = {.step = train_step_count(r->t), .train = train_params(r->t), .target = train_target(r->t), .json = w.text, .json_size = w.size,
                        .config_yaml = config};
    if ((rc = ck_save_state(r->dir, &m, &s, err)) < 0) goto done;
    r->saved = s.step;
    if (r->c->keep_last > 0 && (rc = ck_clean(r->dir, r->c->keep_last, err)) < 0) goto done;
done:
    jw_free(&w);
    mem_free(counters);
    mem_free(config);
    return rc;
}

static int load_state(run *r, const char *path, jepa_err *err) {
    char *text = NULL;
    size_t size = 0;
    json *j = NULL;
    int64_t step = 0, flat = 0;
    int rc = ck_load_state(path, train_params(r->t), train_target(r->t), &step, &text, &size, err);
    if (rc < 0 || (rc = json_parse(&j, text, size, path, err)) < 0) goto done;
    uint64_t seed = 0;
    if (sscanf(json_string(json_get(j, "seed"), ""), "%" SCNu64, &seed) != 1 || seed != r->c->seed) {
        rc = err_set(err, JEPA_E_MODEL, "%s: was trained with seed %s, the configuration says %" PRIu64 "; use --resume never and another --out to start anew",
                     path, json_string(json_get(j, "seed"), "?"), r->c->seed);
        goto done;
    }
    if (json_int(j, "collapsed_points", 0, 1000000, &flat, err) == 0) r->flat = (int)flat;
    const char *counters = json_string(json_get(j, "feed"), NULL);
    if (counters) {
        r->feed_size = strlen(counters);
        if (!(r->feed_text = mem_alloc(r->feed_size + 1, 1))) {
            rc = err_set(err, JEPA_E_MEMORY, "no memory for the feed's state");
            goto done;
        }
        memcpy(r->feed_text, counters, r->feed_size);
    }
    train_set_step(r->t, step);
    r->saved = step;
    run_say(r, "resumed from %s at step %" PRId64, path, step);
done:
    json_close(&j);
    mem_free(text);
    return rc;
}

static int load_init(run *r, const char *path, jepa_err *err) {
    ck *c = NULL;
    ck_report rep;
    params *p = train_params(r->t), *tp = train_target(r->t);
    int rc = ck_open(&c, path, err);
    if (rc < 0) return rc;
    ck_module from = ck_has(c, CK_ENCODER) ? CK_ENCODER : CK_TARGET;
    /* The lists also hold what is not in the file, so the predictor is loaded only where it is there. */
    if ((rc = ck_load(c, p, "encoder.", from, 0, &rep, err)) < 0) goto done;
    if (ck_has(c, CK_TARGET)) rc = ck_load(c, tp, "target_encoder.", CK_TARGET, 0, &rep, err);
    else rc = train_copy_target(r->t, err);
    if (rc < 0) goto done;
    int predictor = ck_has(c, CK_PREDICTOR);
    if (predictor && (rc = ck_load(c, p, "predictor.", CK_PREDICTOR, 0, &rep, err)) < 0) goto done;
    run_say(r, "starting from %s (%s): encoder%s%s", path, ck_kind(c), ck_has(c, CK_TARGET) ? ", target encoder" : "; the target encoder is its copy",
            predictor ? ", predictor" : "; the predictor starts anew");
done:
    ck_close(&c);
    return rc;
}

/* A checkpoint has its precision in its config.yaml; one without that file has none to keep. Asked before the folder is locked: it stays. */
int run_precision(const run *r, dtype *type, jepa_err *err) {
    const char *how = r->o->resume ? r->o->resume : "auto", *in = !strcmp(how, "auto") ? r->dir : how;
    char step[4200], path[4300];
    yaml *y = NULL;
    dtype had;
    if (!strcmp(how, "never")) return 0;
    int rc = ck_find_latest(in, step, sizeof step, err);
    if (rc < 0 && in == r->dir) return 0; /* nothing to go on with; what is wrong with the folder is said when it is made */
    const char *from = rc < 0 ? in : step;
    snprintf(path, sizeof path, "%s/config.yaml", from);
    if (access(path, F_OK)) return 0;
    if ((rc = yaml_read(&y, path, err)) < 0) return rc;
    const yaml *v = yaml_at(y, "meta.dtype");
    if (v && (v->kind != YAML_SCALAR || !train_type(v->text, &had)))
        rc = err_set(err, JEPA_E_MODEL, "%s:%d: meta.dtype: training runs in float32 or bfloat16", path, v->line);
    else if (v && had != *type && r->c->type_asked)
        rc = err_set(err, JEPA_E_USE,
                     "%s: was trained in %s, and %s is asked for; a run keeps its precision: leave out --precision (or --set meta.dtype) "
                     "to go on, or begin anew from its weights with --init %s and another --out",
                     from, dtype_name(had), dtype_name(*type), from);
    else if (v && had != *type) {
        run_say(r, "precision: %s, as %s was trained; the configuration's %s is not used", dtype_name(had), from, dtype_name(*type));
        *type = had;
    }
    yaml_close(&y);
    return rc;
}

int run_resume(run *r, jepa_err *err) {
    const char *how = r->o->resume ? r->o->resume : "auto";
    char path[1200];
    r->saved = -1;
    int rc = train_init(r->t, err);
    if (rc < 0) return rc;
    if (strcmp(how, "auto") && strcmp(how, "never")) return load_state(r, how, err);
    rc = ck_find_latest(r->dir, path, sizeof path, err);
    if (rc == 0 && !strcmp(how, "never"))
        return err_set(err, JEPA_E_USE, "%s holds a run already (%s); choose another --out, or --resume auto to go on", r->dir, path);
    if (rc == 0) {
        if (r->o->init) run_say(r, "--init is not used: the run goes on from its own checkpoint");
        return load_state(r, path, err);
    }
    if (rc != JEPA_E_END) return rc;
    return r->o->init ? load_init(r, r->o->init, err) : 0;
}
