/* run.c: a pretraining run from a configuration to its last checkpoint.
 *
 * Everything random is keyed by (seed, step, sample), so a run that stopped and went on is the run that never stopped. */
#include "base/yaml.h"
#include "train/run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { ALARM_POINTS = 2 }; /* monitor points in a row before an alarm: one may be an accident of the batch */

static int find_data(run *r, double **weight, jepa_err *err) {
    const train_cfg *c = r->c;
    int first[MAX_DATASETS + 1] = {0}, rc;
    if (c->n_datasets < 1) return err_set(err, JEPA_E_MODEL, "no data: give --set data.datasets=[LIST_OR_FOLDER]");
    for (int i = 0; i < c->n_datasets; i++) {
        const char *path = c->datasets[i]; /* the configuration's reader found it: beside the file, or in the working folder */
        if (access(path, F_OK)) return err_set(err, JEPA_E_IO, "%s: not found (data.datasets of %s)", path, c->config_path);
        if ((rc = items_add(&r->list, path, err)) < 0) return rc;
        first[i + 1] = r->list.n;
        if (first[i + 1] == first[i]) return err_set(err, JEPA_E_MODEL, "%s: no clips in it", path);
    }
    if (c->has_weights && c->n_datasets > 1) {
        if (!(*weight = mem_alloc((size_t)r->list.n, sizeof **weight))) return err_set(err, JEPA_E_MEMORY, "no memory for %d sampling weights", r->list.n);
        for (int i = 0; i < c->n_datasets; i++)
            for (int k = first[i]; k < first[i + 1]; k++) (*weight)[k] = c->dataset_weight[i] / (first[i + 1] - first[i]);
    }
    return 0;
}

static int check_collapse(run *r, int64_t step, const monitor_numbers *m, jepa_err *err) {
    if (r->c->feed.batch < 2) return 0; /* one clip a group: nothing to compare */
    int flat = m->rank_clips < 1.01 && m->std_clips < 1e-3;
    r->flat = flat ? r->flat + 1 : 0;
    if (r->flat < ALARM_POINTS || r->alarmed) return 0;
    r->alarmed = 1;
    if (r->o->on_collapse == 1)
        return err_set(err, JEPA_E_STOPPED, "step %" PRId64 ": collapse: the features of different clips are the same (clip-level rank %.3f, std %.2g)", step,
                       m->rank_clips, m->std_clips);
    run_say(r, "step %" PRId64 ": alarm: the features of different clips are the same (clip-level rank %.3f, std %.2g): are the clips different? Else a lower "
               "learning rate or a slower EMA helps", step, m->rank_clips, m->std_clips);
    return 0;
}

static int masks_of(const run *r, int64_t step, int group, mask_set **m, jepa_err *err) {
    const train_cfg *c = r->c;
    const mask_grid g = {c->enc.num_frames / c->enc.tubelet_size, c->enc.img_height / c->enc.patch_size, c->enc.img_width / c->enc.patch_size};
    for (int i = 0; i < c->n_masks; i++) {
        int rc = mask_group(&m[i], &c->mask[i], g, c->feed.batch, c->seed, (uint64_t)step, (uint32_t)(group * c->feed.batch), i, err);
        if (rc < 0) return rc;
    }
    return 0;
}

static int features_now(run *r, int which, monitor_numbers *out, jepa_err *err) {
    const float *x;
    int64_t clips, per, d;
    int rc = train_features(r->t, which, &x, &clips, &per, &d);
    if (rc < 0) return err_set(err, rc, "no features to watch yet");
    size_t bytes = (size_t)(clips * per * d) * sizeof(float);
    float *host = mem_alloc(bytes, 1);
    if (!host) return err_set(err, JEPA_E_MEMORY, "no memory for the monitor");
    if ((rc = buf_get(train_queue(r->t), host, x, bytes, err)) == 0 && (rc = monitor_features(host, clips, per, d, out, err)) == JEPA_E_USE) {
        err_prefix(err, rc, "step %" PRId64 ": the %s features", train_step_count(r->t), which ? "target" : "context");
        rc = JEPA_E_STOPPED; /* not finite, although the loss was */
    }
    mem_free(host);
    return rc;
}

static void name_bad(run *r) {
    feed_bad bad[32];
    int64_t replaced = 0;
    int n = feed_report(r->f, bad, 32, &replaced);
    for (int i = 0; i < n; i++) run_say(r, "data: %" PRId64 " %s(s): %s", bad[i].count, strncmp(bad[i].reason, "clip", 4) ? "item" : "clip", bad[i].reason);
    if (replaced) run_say(r, "data: %" PRId64 " clip(s) were replaced by the next of the order", replaced);
}

/* Steps until the end, a signal, an error. Groups of one step are computed one after the other (accumulated). */
static int steps(run *r, jepa_err *err) {
    const train_cfg *c = r->c;
    enum { MOST = 4096 };
    if (c->accumulate < 1 || c->accumulate > MOST) return err_set(err, JEPA_E_MODEL, "%d mask groups a step; 1 to %d are possible", c->accumulate, MOST);
    size_t n = (size_t)c->accumulate;
    feed_batch **b = mem_alloc(n, sizeof *b);
    mask_set **m = mem_alloc(n * MAX_GENERATORS, sizeof *m);
    train_batch *g = mem_alloc(n, sizeof *g);
    int rc = JEPA_E_MEMORY;
    if (!b || !m || !g) {
        err_set(err, rc, "no memory for %d mask groups", c->accumulate);
        goto done;
    }
    r->started = clock_seconds();
    r->first_step = train_step_count(r->t);
    rc = 0;
    while (train_step_count(r->t) < r->steps) {
        int64_t step = train_step_count(r->t);
        run_times t = {0};
        int replaced = 0;
        double begin = clock_seconds();
        for (size_t i = 0; i < n; i++) {
            if ((rc = feed_next(r->f, &b[i], err)) < 0 || (rc = masks_of(r, step, (int)i, m + i * MAX_GENERATORS, err)) < 0) goto done;
            g[i] = (train_batch){.batch = b[i]->batch, .frames = b[i]->frames, .height = b[i]->height, .width = b[i]->width, .x = b[i]->clips,
                                 .type = T_U8, .n_gen = c->n_masks, .masks = (const mask_set *const *)(m + i * MAX_GENERATORS)};
            t.data += b[i]->seconds_waited;
            replaced += b[i]->replaced;
        }
        train_numbers num;
        double before = clock_seconds();
        if ((rc = train_step(r->t, g, (int)n, &num, err)) < 0) goto done;
        t.device = clock_seconds() - before;
        for (size_t i = 0; i < n; i++) {
            feed_release(r->f, &b[i]);
            for (int k = 0; k < c->n_masks; k++) mask_free(&m[i * MAX_GENERATORS + (size_t)k]);
        }
        if (!num.finite) {
            if (r->saved >= 0)
                rc = err_set(err, JEPA_E_STOPPED, "step %" PRId64 ": %s is not finite (lr %.3g); nothing was updated, the last good checkpoint is %s/step-%08" PRId64,
                             num.step, num.bad_term, num.lr, r->dir, r->saved);
            else
                rc = err_set(err, JEPA_E_STOPPED, "step %" PRId64 ": %s is not finite (lr %.3g); nothing was updated, no checkpoint was written yet", num.step,
                             num.bad_term, num.lr);
            goto done;
        }
        monitor_numbers target, context;
        int watch = num.step % c->monitor_every == 0 || num.step == r->steps;
        if (watch && ((rc = features_now(r, 1, &target, err)) < 0 || (rc = features_now(r, 0, &context, err)) < 0)) goto done;
        t.step = clock_seconds() - begin;
        if ((rc = run_log_step(r, &num, watch ? &target : NULL, watch ? &context : NULL, &t, replaced, err)) < 0) goto done;
        if (watch && (rc = check_collapse(r, num.step, &target, err)) < 0) goto done;
        int stop = r->h && r->h->stop && r->h->stop(r->h->ctx);
        if ((stop || num.step % c->save_every == 0 || num.step == r->steps) && (rc = run_save(r, err)) < 0) goto done;
        if (stop && num.step < r->steps) {
            rc = err_set(err, JEPA_E_CANCELLED, "stopped at step %" PRId64 " of %" PRId64 "; the same command goes on from there", num.step, r->steps);
            goto done;
        }
    }
done:
    for (size_t i = 0; b && m && i < n; i++) {
        if (b[i]) feed_release(r->f, &b[i]);
        for (size_t k = 0; k < MAX_GENERATORS; k++) mask_free(&m[i * MAX_GENERATORS + k]);
    }
    mem_free(b);
    mem_free(m);
    mem_free(g);
    return rc;
}

static void say_lines(const run *r, char *text) {
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));)
        if (*line) run_say(r, "memory: %s", line);
}

static void say_plan(run *r) {
    const train_cfg *c = r->c;
    char text[4096];
    int64_t n = enc_tokens(&c->enc, c->enc.num_frames, c->enc.img_height, c->enc.img_width);
    run_say(r, "model %s: encoder %d x %d, %d heads, %lld parameters; predictor %d x %d, %lld parameters", c->model_name, c->enc.embed_dim, c->enc.depth,
            c->enc.num_heads, (long long)train_target(r->t)->total, c->pred.predictor_embed_dim, c->pred.depth,
            (long long)(train_params(r->t)->total - train_target(r->t)->total));
    run_say(r, "clips: %d frames of %dx%d, %lld tokens; %d clip(s) found; %d a mask group, %d group(s) a step; %" PRId64 " steps", c->enc.num_frames,
            c->enc.img_height, c->enc.img_width, (long long)n, r->list.n, c->feed.batch, c->accumulate, r->steps);
    train_plan(r->t, text, sizeof text);
    say_lines(r, text);
    int micro;
    recompute level;
    int64_t limit;
    train_chosen(r->t, &level, &micro, &limit);
    if (limit > 0) run_say(r, "memory: chosen for at most %.1f MiB", (double)limit / 1048576);
    if (!limit || !r->o->dry_run) return;
    run_say(r, "memory: the choices, fastest first:");
    train_plan_choices(r->t, text, sizeof text);
    say_lines(r, text);
}

/* Two runs in one folder would remove each other's checkpoints. File systems without locks are taken as they are. */
static int lock_dir(run *r, jepa_err *err) {
    r->lock = open(r->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->lock >= 0 && flock(r->lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return err_set(err, JEPA_E_IO, "%s: another run is writing there; wait for it, or choose another --out", r->dir);
    return 0;
}

int train_run(const train_cfg *c, dev *d, const train_run_opts *o, const train_hooks *h, jepa_err *err) {
    run r = {.c = c, .o = o, .h = h, .saved = -1, .lock = -1};
    double *weight = NULL;
    char path[1100], *text = NULL;
    size_t size = 0;
    int rc;
    const char *dir = o->out_dir ? o->out_dir : c->folder;
    if (o->dry_run && (!dir || !*dir)) dir = ".";
    if (!dir || !*dir) return err_set(err, JEPA_E_USE, "where should the run go? Give --out DIR, or folder: in the configuration");
    if (snprintf(r.dir, sizeof r.dir, "%s", dir) >= (int)sizeof r.dir) return err_set(err, JEPA_E_USE, "the output folder's name is too long");
    r.steps = o->max_steps > 0 ? o->max_steps : c->steps;
    if (c->notes[0]) run_say(&r, "%s", c->notes);
    if ((rc = find_data(&r, &weight, err)) < 0) goto done;
    feed_cfg fc = c->feed;
    train_cfg with = *c;
    if (r.steps < 1 || with.sched.iterations_per_epoch < 1) { /* ipe absent: an epoch is the data once */
        int64_t per_step = (int64_t)c->feed.batch * c->accumulate, ipe = r.list.n / per_step;
        if (ipe < 1) ipe = 1;
        with.sched.iterations_per_epoch = (double)ipe;
        if (with.save_every_epochs > 0) with.save_every = ipe > INT32_MAX / with.save_every_epochs ? INT32_MAX : (int)ipe * with.save_every_epochs;
        if (r.steps < 1) r.steps = (int64_t)((double)ipe * c->sched.epochs);
    }
    r.c = &with;
    if ((rc = run_precision(&r, &with.type, err)) < 0) goto done;
    const char *record = with.type == T_BF16 ? "bfloat16" : "float32";
    if (c->resolved && (rc = yaml_set(c->resolved, "meta.dtype", record, err)) < 0) goto done;
    if ((rc = train_open_plan(&r.t, &with, d, err)) < 0) goto done;
    for (int i = 0; i < c->n_masks; i++) {
        mask_grid g = {c->enc.num_frames / c->enc.tubelet_size, c->enc.img_height / c->enc.patch_size, c->enc.img_width / c->enc.patch_size};
        if ((rc = mask_cfg_check(&c->mask[i], g, err)) < 0) goto done;
    }
    say_plan(&r);
    if ((rc = train_fits(r.t, err)) < 0 || o->dry_run) goto done;
    train_chosen(r.t, &with.recompute_level, &with.micro_batch, &with.memory_limit);
    train_close(&r.t); /* the plan is said before its memory is asked for */
    if ((rc = train_open(&r.t, &with, d, err)) < 0) goto done;
    if ((rc = dir_make(r.dir, err)) < 0 || (rc = lock_dir(&r, err)) < 0 || (rc = ck_clean(r.dir, 0, err)) < 0 || (rc = run_resume(&r, err)) < 0) goto done;
    if (train_step_count(r.t) >= r.steps) {
        run_say(&r, "%s is finished: %" PRId64 " of %" PRId64 " steps done", r.dir, train_step_count(r.t), r.steps);
        goto done;
    }
    if (c->resolved) {
        snprintf(path, sizeof path, "%s/config.yaml", r.dir);
        if ((rc = yaml_write(c->resolved, &text, &size, err)) < 0 || (rc = file_write_atomic(path, text, size, err)) < 0) goto done;
    }
    fc.weight = weight;
    fc.seed = c->seed;
    fc.first_step = train_step_count(r.t) * c->accumulate;
    if ((rc = feed_open(&r.f, &fc, &r.list, err)) < 0 || (r.feed_text && (rc = feed_restore(r.f, r.feed_text, r.feed_size, err)) < 0) ||
        (rc = run_log_open(&r, err)) < 0)
        goto done;
    rc = steps(&r, err);
    name_bad(&r);
done:
    run_log_close(&r);
    feed_close(&r.f);
    train_close(&r.t);
    items_free(&r.list);
    mem_free(weight);
    mem_free(text);
    mem_free(r.feed_text);
    if (r.lock >= 0) close(r.lock);
    return rc;
}
