/* state.c: training state on disk: step folders that exist only when whole, and `latest`.
 *
 * run/step-00000120/   model.json model.safetensors    target_encoder.*, encoder.*, predictor.*: also a model that ck_open reads
 *                      optimizer.safetensors           exp_avg.NAME and exp_avg_sq.NAME for each trained parameter
 *                      state.json                      the trainer's own text, kept as it is
 *                      config.yaml                     the resolved configuration, where given
 * run/latest -> step-00000120
 *
 * A save writes step-….tmp, syncs every file and the folder, and renames. A step folder of the same name changes places with it in one
 * rename (RENAME_EXCHANGE), so that at every moment a whole folder has the name; then `latest` is replaced, also by rename. */
#include "checkpoint/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const FILES[] = {"model.json", "model.safetensors", "optimizer.safetensors", "state.json"}; /* what a whole folder has */

static int io(const char *path, const char *what, jepa_err *err) {
    int e = errno;
    return err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be %s: %s", path, what, strerror(e));
}

int64_t step_of_name(const char *name) {
    if (strncmp(name, "step-", 5) || strlen(name) < 13 || strlen(name) > 5 + 18) return -1;
    int64_t n = 0;
    for (const char *p = name + 5; *p; p++) {
        if (*p < '0' || *p > '9') return -1;
        n = n * 10 + (*p - '0');
    }
    return n;
}

/* ---- saving ---- */

static int save_optimizer(const char *dir, const params *p, int64_t step, jepa_err *err) {
    char path[PATH_MAX], number[32];
    snprintf(number, sizeof number, "%lld", (long long)step);
    const char *meta[] = {"format", "pt", "step", number, NULL};
    st_out *o = mem_alloc(2 * (size_t)p->n, sizeof *o);
    char(*name)[160] = mem_alloc(2 * (size_t)p->n, sizeof *name);
    int rc = !o || !name ? err_set_at(err, JEPA_E_MEMORY, dir, -1, "%s: no memory to write the moments", dir)
                         : path_join(path, sizeof path, dir, FILES[2], err);
    for (int i = 0; !rc && i < 2 * p->n; i++) {
        const param *a = &p->item[i / 2];
        snprintf(name[i], sizeof name[i], "%s.%s", i % 2 ? "exp_avg_sq" : "exp_avg", a->name);
        o[i].name = name[i];
        o[i].t.type = T_F32;
        o[i].t.rank = a->rank;
        memcpy(o[i].t.dim, a->dim, sizeof a->dim);
        o[i].t.data = (const float *)(i % 2 ? p->v.p : p->m.p) + a->offset;
    }
    if (!rc) rc = st_write(path, o, 2 * p->n, meta, err);
    mem_free(o);
    mem_free(name);
    return rc;
}

static int save_text(const char *dir, const char *name, const char *text, size_t size, jepa_err *err) {
    char path[PATH_MAX];
    int rc = path_join(path, sizeof path, dir, name, err);
    return rc ? rc : out_file_whole(path, text, size, err);
}

static int has_prefix(const params *p, const char *prefix) {
    for (int i = 0; i < p->n; i++)
        if (!strncmp(p->item[i].name, prefix, strlen(prefix))) return 1;
    return 0;
}

static int save_files(const char *dir, const model_cfg *m, const ck_state *s, jepa_err *err) {
    ck_part part[3];
    int n = 0;
    if (s->target) part[n++] = (ck_part){CK_TARGET, s->target, "target_encoder."};
    part[n++] = (ck_part){CK_ENCODER, s->train, "encoder."};
    if (has_prefix(s->train, "predictor.")) part[n++] = (ck_part){CK_PREDICTOR, s->train, "predictor."};
    int rc = write_own(dir, m, part, n, T_F32, s->step, err);
    if (!rc) rc = save_optimizer(dir, s->train, s->step, err);
    if (!rc) rc = save_text(dir, FILES[3], s->json ? s->json : "{}", s->json ? s->json_size : 2, err);
    if (!rc && s->config_yaml) rc = save_text(dir, "config.yaml", s->config_yaml, strlen(s->config_yaml), err);
    return rc ? rc : dir_sync_self(dir, err);
}

/* aside takes the name `final`; what had it before is gone afterwards, and never before. */
static int put_in_place(const char *run_dir, const char *aside, const char *final, jepa_err *err) {
    struct stat st;
    int there = lstat(final, &st) == 0;
    if (ck_fault("ck.rename")) return io(final, "renamed into place", err);
    if (!there) {
        if (rename(aside, final)) return io(final, "renamed into place", err);
        return dir_sync_self(run_dir, err);
    }
    if (ck_fault("ck.exchange") || renameat2(AT_FDCWD, aside, AT_FDCWD, final, RENAME_EXCHANGE)) {
        if (errno != EINVAL && errno != ENOSYS) return io(final, "renamed into place", err);
        char old[PATH_MAX]; /* a file system without exchange: the old one steps aside, and comes back if the new one cannot take its place
                             */
        if (snprintf(old, sizeof old, "%s.old.tmp", final) >= (int)sizeof old)
            return err_set_at(err, JEPA_E_IO, final, -1, "%.200s…: path too long", final);
        int rc = dir_remove(old, err);
        if (rc) return rc;
        if (ck_fault("ck.rename") || rename(final, old)) return io(final, "renamed", err);
        if (ck_fault("ck.rename") || rename(aside, final)) {
            rc = io(final, "renamed into place", err);
            if (rename(old, final)) err_prefix(err, rc, "the earlier checkpoint is now %.200s", old);
            return rc;
        }
        rc = dir_sync_self(run_dir, err);
        return rc ? rc : dir_remove(old, err);
    }
    int rc = dir_sync_self(run_dir, err);
    return rc ? rc : dir_remove(aside, err);
}

static int point_latest(const char *run_dir, const char *name, jepa_err *err) {
    char link[PATH_MAX], aside[PATH_MAX];
    int rc = path_join(link, sizeof link, run_dir, "latest", err);
    if (!rc) rc = path_join(aside, sizeof aside, run_dir, "latest.tmp", err);
    if (rc) return rc;
    if (unlink(aside) && errno != ENOENT) return io(aside, "removed", err);
    if (ck_fault("ck.link") || symlink(name, aside)) return io(aside, "made", err);
    if (ck_fault("ck.rename") || rename(aside, link)) {
        rc = io(link, "replaced", err);
        unlink(aside);
        return rc;
    }
    return dir_sync_self(run_dir, err);
}

int ck_save_state(const char *run_dir, const model_cfg *m, const ck_state *s, jepa_err *err) {
    char name[32], aside_name[40], final[PATH_MAX], aside[PATH_MAX];
    if (s->step < 0 || s->step >= 100000000000000000) return err_set(err, JEPA_E_USE, "step %lld cannot be saved", (long long)s->step);
    if (!s->train || !s->train->m.p || !s->train->v.p)
        return err_set(err, JEPA_E_USE, "training parameters without moments cannot be saved");
    snprintf(name, sizeof name, "step-%08lld", (long long)s->step);
    snprintf(aside_name, sizeof aside_name, "%s.tmp", name);
    int rc = path_join(final, sizeof final, run_dir, name, err);
    if (!rc) rc = path_join(aside, sizeof aside, run_dir, aside_name, err);
    if (!rc) rc = dir_make(run_dir, err);
    if (!rc) rc = dir_remove(aside, err); /* a save that was cut off */
    int made = 0;
    if (!rc) {
        made = !(ck_fault("ck.mkdir") || mkdir(aside, 0777));
        if (!made) rc = io(aside, "made", err);
    }
    if (!rc) rc = save_files(aside, m, s, err);
    if (!rc) rc = put_in_place(run_dir, aside, final, err);
    if (rc) {
        if (made) dir_remove(aside, NULL);
        return err_prefix(err, rc, "checkpoint of step %lld not saved", (long long)s->step);
    }
    rc = point_latest(run_dir, name, err);
    return rc ? err_prefix(err, rc, "checkpoint of step %lld saved, but", (long long)s->step) : 0;
}

/* ---- loading ---- */

static int load_moments(const st_file *f, const params *p, jepa_err *err) {
    for (int pass = 0; pass < 2; pass++) /* first look, then fill: nothing is half loaded */
        for (int i = 0; i < 2 * p->n; i++) {
            const param *a = &p->item[i / 2];
            char name[160];
            snprintf(name, sizeof name, "%s.%s", i % 2 ? "exp_avg_sq" : "exp_avg", a->name);
            const st_tensor *t = st_find(f, name);
            int same = t && t->t.type == T_F32 && t->t.rank == a->rank;
            for (int k = 0; same && k < a->rank; k++) same = t->t.dim[k] == a->dim[k];
            if (!same)
                return err_set_at(err, JEPA_E_MODEL, st_path(f), -1, "%s: tensor %s is %s", st_path(f), name,
                                  t ? "of another shape or type than the model's" : "missing");
            if (pass) memcpy((float *)(i % 2 ? p->v.p : p->m.p) + a->offset, t->t.data, (size_t)a->count * sizeof(float));
        }
    if (st_count(f) != 2 * p->n)
        return err_set_at(err, JEPA_E_MODEL, st_path(f), -1, "%s: holds %d tensors, the model's moments are %d", st_path(f), st_count(f),
                          2 * p->n);
    return 0;
}

int ck_load_state(const char *step_dir, params *train, params *target, int64_t *step, char **text, size_t *text_size, jepa_err *err) {
    ck *c = NULL;
    st_file *moments = NULL;
    char path[PATH_MAX];
    int64_t at = 0;
    *text = NULL;
    *text_size = 0;
    if (!train->m.p || !train->v.p) return err_set(err, JEPA_E_USE, "training parameters without moments cannot be resumed into");
    int rc = ck_open(&c, step_dir, err);
    if (rc) return rc;
    if (c->layout != LAYOUT_OWN || strcmp(c->kind, "jepa run checkpoint")) {
        rc = err_set_at(err, JEPA_E_MODEL, step_dir, -1, "%s: is a %s, not a checkpoint that training can go on from", step_dir, c->kind);
        goto done;
    }
    rc = json_int(c->config, "step", 0, INT64_MAX, &at, err);
    if (rc) {
        rc = rc == JEPA_E_END ? err_set_at(err, JEPA_E_MODEL, c->config_path, -1, "%s: has no step", c->config_path)
                              : err_prefix(err, rc, "%s", c->config_path);
        goto done;
    }
    rc = path_join(path, sizeof path, c->path, FILES[2], err);
    if (!rc) rc = st_open(&moments, path, err);
    char number[32];
    snprintf(number, sizeof number, "%lld", (long long)at);
    if (!rc && strcmp(st_meta(moments, "step") ? st_meta(moments, "step") : "", number))
        rc = err_set_at(err, JEPA_E_MODEL, path, -1, "%s: is not of step %s, which its model.json names", path, number);
    if (!rc) rc = path_join(path, sizeof path, c->path, FILES[3], err);
    if (!rc) rc = file_read(path, 256 << 20, text, text_size, err);
    if (!rc) rc = load_moments(moments, train, err);
    if (!rc) rc = ck_load(c, train, "encoder.", CK_ENCODER, 0, NULL, err);
    if (!rc && has_prefix(train, "predictor.")) rc = ck_load(c, train, "predictor.", CK_PREDICTOR, 0, NULL, err);
    if (!rc && target) rc = ck_load(c, target, "target_encoder.", CK_TARGET, 0, NULL, err);
    *step = at;
done:
    st_close(&moments);
    ck_close(&c);
    if (rc) {
        mem_free(*text);
        *text = NULL;
        *text_size = 0;
    }
    return rc;
}

/* ---- finding and removing ---- */

static int whole(const char *dir) {
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++)
        if (path_join(path, sizeof path, dir, FILES[i], NULL) || !path_is_file(path)) return 0;
    return 1;
}

typedef struct steps {
    int64_t *step;
    int n, cap;
} steps;

static int descending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The whole step folders of a run, newest first. */
static int list_steps(const char *run_dir, steps *s, jepa_err *err) {
    char path[PATH_MAX];
    *s = (steps){0};
    DIR *d = opendir(run_dir);
    if (!d) return errno == ENOENT ? 0 : io(run_dir, "read", err);
    int rc = 0;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        int64_t step = step_of_name(e->d_name);
        if (step < 0 || path_join(path, sizeof path, run_dir, e->d_name, NULL) || !whole(path)) continue;
        if (s->n == s->cap) {
            int cap = s->cap ? 2 * s->cap : 64;
            int64_t *more = realloc(s->step, (size_t)cap * sizeof *more);
            if (!more) {
                rc = err_set_at(err, JEPA_E_MEMORY, run_dir, -1, "%s: no memory to list it", run_dir);
                break;
            }
            s->step = more;
            s->cap = cap;
        }
        s->step[s->n++] = step;
    }
    closedir(d);
    if (s->n) qsort(s->step, (size_t)s->n, sizeof *s->step, descending);
    return rc;
}

/* The step that `latest` names, or -1. */
static int64_t latest_step(const char *run_dir) {
    char link[PATH_MAX], to[64];
    if (path_join(link, sizeof link, run_dir, "latest", NULL)) return -1;
    ssize_t n = readlink(link, to, sizeof to - 1);
    if (n <= 0) return -1;
    to[n] = 0;
    return step_of_name(to);
}

int ck_find_latest(const char *run_dir, char *path, size_t size, jepa_err *err) {
    steps s;
    char name[32];
    int64_t step = latest_step(run_dir);
    if (step >= 0) {
        snprintf(name, sizeof name, "step-%08lld", (long long)step);
        int rc = path_join(path, size, run_dir, name, err);
        if (rc || whole(path)) return rc;
    }
    int rc = list_steps(run_dir, &s, err);
    if (!rc && !s.n) rc = JEPA_E_END;
    if (!rc) {
        snprintf(name, sizeof name, "step-%08lld", (long long)s.step[0]);
        rc = path_join(path, size, run_dir, name, err);
    }
    free(s.step);
    return rc;
}

static int ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

static int remove_leftovers(const char *run_dir, jepa_err *err) {
    char path[PATH_MAX];
    DIR *d = opendir(run_dir);
    if (!d) return errno == ENOENT ? 0 : io(run_dir, "read", err);
    int rc = 0;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        if (!ends_with(e->d_name, ".tmp") || (strncmp(e->d_name, "step-", 5) && strcmp(e->d_name, "latest.tmp"))) continue;
        rc = path_join(path, sizeof path, run_dir, e->d_name, err);
        if (!rc && !strcmp(e->d_name, "latest.tmp"))
            rc = unlink(path) ? io(path, "removed", err) : 0;
        else if (!rc && path_is_dir(path))
            rc = dir_remove(path, err);
    }
    closedir(d);
    return rc;
}

int ck_clean(const char *run_dir, int keep_last, jepa_err *err) {
    steps s;
    char path[PATH_MAX], aside[PATH_MAX], name[40];
    int rc = remove_leftovers(run_dir, err);
    if (rc || keep_last <= 0) return rc;
    rc = list_steps(run_dir, &s, err);
    int64_t latest = latest_step(run_dir);
    for (int i = keep_last; !rc && i < s.n; i++) {
        if (s.step[i] == latest) continue;
        snprintf(name, sizeof name, "step-%08lld", (long long)s.step[i]);
        rc = path_join(path, sizeof path, run_dir, name, err);
        if (!rc && snprintf(aside, sizeof aside, "%s.tmp", path) >= (int)sizeof aside)
            rc = err_set_at(err, JEPA_E_IO, path, -1, "%.200s…: path too long", path);
        if (!rc) rc = dir_remove(aside, err);
        /* under its own name it is whole or not there */
        if (!rc && (ck_fault("ck.rename") || rename(path, aside))) rc = io(path, "removed", err);
        if (!rc) rc = dir_remove(aside, err);
    }
    free(s.step);
    return rc;
}
