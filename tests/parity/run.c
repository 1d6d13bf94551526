/* run.c: finds the sets, runs their checks, writes a row for each. */
#include "parity.h"

#include <dirent.h>
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int wanted(const session *s, const char *label, const char *name) {
    char full[600];
    snprintf(full, sizeof full, "%s/%s", label, name);
    return !s->o->only || !fnmatch(s->o->only, full, 0);
}

static void row_failed(session *s, const char *label, const char *name, const char *why) {
    fprintf(s->out, "FAIL  %s/%s: %s\n", label, name, why);
    s->n.failed++;
}

static void row(check *c) {
    session *s = c->s;
    tally *t = &c->t;
    int good = t->bad == 0;
    char numbers[200];
    if (t->text[0])
        snprintf(numbers, sizeof numbers, "%s", t->text);
    else if (c->mean_abs >= 0)
        snprintf(numbers, sizeof numbers, "error %.3g  bound abs %g rel %g mean %g", t->err, c->abs, c->rel, c->mean_abs);
    else
        snprintf(numbers, sizeof numbers, "error %.3g  bound abs %g rel %g", t->err, c->abs, c->rel);
    fprintf(s->out, "%s  %s/%s  %s  (%lld values%s)\n", good ? "pass" : "FAIL", c->set->label, c->name, numbers, (long long)t->compared,
            t->skipped ? ", some not compared" : "");
    if (!good)
        fprintf(s->out, "      %lld outside their bound; %s\n", (long long)t->bad, t->where);
    else if (s->o->verbose) {
        double f32 = json_number(json_get(c->j, "f32_error"), 0);
        fprintf(s->out, "      closest to its bound (%.0f %%): %s\n", 100 * t->ratio, t->where);
        if (f32 > 0) fprintf(s->out, "      %.1f times the published code's own float32 error (%.3g)\n", t->err / f32, f32);
        if (t->skipped) fprintf(s->out, "      %lld values not compared (null or excluded)\n", (long long)t->skipped);
    }
    if (good)
        s->n.passed++;
    else
        s->n.failed++;
}

static void run_check(session *s, set *set_, const json *j) {
    const json *meta = set_->meta;
    check c = {.s = s,
               .set = set_,
               .j = j,
               .config = json_get(meta, "config"),
               .own_config = json_get(j, "config"),
               .params = json_get(j, "params"),
               .inputs = json_get(j, "inputs"),
               .outputs = json_get(j, "outputs"),
               .name = json_string(json_get(j, "name"), NULL),
               .kind = json_string(json_get(meta, "kind"), NULL),
               .family = json_string(json_get(meta, "family"), NULL),
               .run = json_string(json_get(j, "run"), NULL)};
    if (!c.name) {
        row_failed(s, set_->label, "meta.json", "a check has no name");
        return;
    }
    if (!wanted(s, set_->label, c.name)) return;
    if (json_get(j, "kind")) c.kind = json_string(json_get(j, "kind"), "(not a string)");
    jepa_err err = {0};
    int (*verb)(check *, jepa_err *) = NULL;
    int rc = table_check(&c, &verb, &err);
    if (rc == 0) rc = verb(&c, &err);
    if (rc == 0 && c.t.bad == 0) { /* a pass needs that everything named was compared */
        if (c.t.roles != json_size(c.outputs))
            rc = err_set(&err, JEPA_E_MODEL, "%d of %d outputs were compared", c.t.roles, (int)json_size(c.outputs));
        else if (c.t.compared == 0 && c.t.skipped > 0)
            rc = err_set(&err, PARITY_SKIP, "nothing to compare: all stored values are null or excluded");
        else if (c.t.compared == 0)
            rc = err_set(&err, JEPA_E_MODEL, "nothing was compared");
    }
    if (rc == PARITY_SKIP) {
        fprintf(s->out, "skip  %s/%s: %s\n", set_->label, c.name, err.text);
        s->n.skipped++;
    } else if (rc < 0) {
        row_failed(s, set_->label, c.name, err.text);
    } else {
        row(&c);
    }
}

static void run_set(session *s, const char *path, const char *label) {
    set one;
    jepa_err err = {0};
    int rc = set_open(&one, path, label, &err);
    if (rc == 0) rc = table_check_meta(one.meta, &err);
    if (rc < 0)
        row_failed(s, label, "meta.json", err.text);
    else
        for (const json *j = json_first(json_get(one.meta, "checks")); j; j = json_next(j)) run_check(s, &one, j);
    set_close(&one);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Folders in the order of their names, so that two runs print the same rows. */
static void walk(session *s, const char *path, const char *label, int depth) {
    char file[1400];
    struct stat st;
    snprintf(file, sizeof file, "%s/meta.json", path);
    if (stat(file, &st) == 0) run_set(s, path, label);
    if (depth == 0) return;
    DIR *d = opendir(path);
    if (!d) {
        row_failed(s, label, ".", "the folder cannot be read");
        return;
    }
    char *names[1024];
    int n = 0;
    for (struct dirent *e; (e = readdir(d)) && n < 1024;)
        if (e->d_name[0] != '.' && (names[n] = strdup(e->d_name))) n++;
    closedir(d);
    qsort(names, (size_t)n, sizeof *names, by_name);
    for (int i = 0; i < n; i++) {
        char below[600];
        int fits = snprintf(file, sizeof file, "%s/%s", path, names[i]) < (int)sizeof file;
        int plain = snprintf(below, sizeof below, "%s/%s", label, names[i]) < (int)sizeof below;
        if (fits && plain && stat(file, &st) == 0 && S_ISDIR(st.st_mode)) walk(s, file, below, depth - 1);
        free(names[i]);
    }
}

int parity_run(const parity_opts *o, const char *const *dir, int n_dirs, FILE *out, parity_counts *counts) {
    session s = {.o = o, .out = out};
    jepa_err err = {0};
    const char *device = o->device ? o->device : "cpu";
    if (dev_open(&s.d, device, 0, &err) < 0 || queue_open(&s.q, s.d, &err) < 0) {
        row_failed(&s, "device", device, err.text);
    } else {
        for (int i = 0; i < n_dirs; i++) {
            char path[1200];
            snprintf(path, sizeof path, "%s", dir[i]);
            size_t n = strlen(path);
            while (n > 1 && path[n - 1] == '/') path[--n] = 0;
            const char *slash = strrchr(path, '/');
            struct stat st;
            if (n == 0 || stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
                row_failed(&s, path, ".", "no such folder");
            else
                walk(&s, path, slash && slash[1] ? slash + 1 : path, 8);
        }
    }
    queue_close(&s.q);
    dev_close(&s.d);
    int found = s.n.passed + s.n.failed + s.n.skipped;
    if (!found) fprintf(out, "no check was found\n");
    fprintf(out, "%d passed, %d failed, %d skipped\n", s.n.passed, s.n.failed, s.n.skipped);
    if (counts) *counts = s.n;
    return found && !s.n.failed ? 0 : 1;
}
