/* verbs_load.c: load: every tensor of a module of a PyTorch archive is what the stored one says, exactly. */
#include "parity.h"

#include <string.h>

typedef struct load {
    check *c;
    pt_file *f;
    const char *role, *top, *prefix;
    double scale;
    int compared;
} load;

static int one(load *l, const char *name, const char *shown, const tensor *stored, jepa_err *err) {
    const pt_tensor *t = pt_find(l->f, l->top, name);
    if (!t) {
        if (!exclude_find(l->c, l->role, shown, 0).compared) return 0;
        return err_set(err, JEPA_E_MODEL, "\"%s\" of the archive has no tensor \"%s\"", l->top, name);
    }
    size_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= (size_t)t->dim[i];
    float *x = mem_alloc(n, sizeof *x);
    if (!x) return err_set(err, JEPA_E_MEMORY, "no memory for %s", name);
    int rc = pt_copy_f32(t, x);
    if (rc < 0) err_set(err, rc, "%s is %s", name, dtype_name(t->type));
    for (size_t i = 0; i < n; i++) x[i] *= (float)l->scale;
    const tensor ours = tensor_f32(x, t->rank, t->dim);
    if (rc == 0) rc = compare_tensor(l->c, l->role, shown, &ours, stored, err);
    mem_free(x);
    l->compared++;
    return rc;
}

static int module(load *l, const ref *r, const st_file *st, jepa_err *err) {
    size_t pl = strlen(r->rest) - 1, fl = strlen(l->prefix);
    char name[600];
    for (int i = 0; i < st_count(st); i++) {
        const st_tensor *s = st_at(st, i);
        if (strncmp(s->name, r->rest, pl)) continue;
        snprintf(name, sizeof name, "%s%s", l->prefix, s->name + pl);
        int rc = one(l, name, s->name + pl, &s->t, err);
        if (rc < 0) return rc;
    }
    for (int i = 0; i < pt_count(l->f); i++) { /* and no other parameter, but a table that rotary models do not use */
        const pt_tensor *t = pt_at(l->f, i);
        if (strcmp(t->top, l->top)) continue;
        if (strncmp(t->name, l->prefix, fl)) return err_set(err, JEPA_E_MODEL, "%s: %s does not begin with %s", l->top, t->name, l->prefix);
        snprintf(name, sizeof name, "%.*s%s", (int)pl, r->rest, t->name + fl);
        int none = t->type > T_F64; /* counters, and tensors without elements */
        for (int k = 0; k < t->rank; k++) none |= !t->dim[k];
        if (!none && !st_find(st, name) && strcmp(t->name + fl, "pos_embed") && strcmp(t->name + fl, "predictor_pos_embed"))
            return err_set(err, JEPA_E_MODEL, "%s: %s of the archive is not stored", l->top, t->name);
    }
    return l->compared ? 0 : err_set(err, JEPA_E_MODEL, "%s: nothing was compared", l->role);
}

int verb_load(check *c, jepa_err *err) {
    double scale = json_number(json_get(c->params, "scale"), 1);
    int rc = 0;
    for (const json *o = json_first(c->outputs); o && rc == 0; o = json_next(o)) {
        const json *w = json_get(json_get(c->j, "weights"), json_key(o));
        const char *file = json_string(json_get(w, "file"), NULL), *key = json_string(json_get(w, "key"), NULL);
        char path[1400];
        ref r = {0};
        const st_file *st = NULL;
        if (!file || !key) return err_set(err, JEPA_E_MODEL, "the check names no archive and key for %s", json_key(o));
        if ((rc = set_path(c->set, file, path, sizeof path, err)) < 0 || (rc = ref_parse(&r, json_string(o, NULL), err)) < 0 ||
            (rc = set_safetensors(c->set, r.file, r.file_len, &st, err)) < 0)
            return rc;
        load l = {.c = c, .role = json_key(o), .top = key, .prefix = json_string(json_get(w, "prefix"), ""), .scale = scale};
        if ((rc = pt_open(&l.f, path, err)) < 0) return rc;
        if (r.is_prefix) {
            rc = module(&l, &r, st, err);
        } else { /* one tensor at the top */
            const st_tensor *s = st_find(st, r.rest);
            l.top = "";
            rc = s ? one(&l, key, key, &s->t, err)
                   : err_set(err, JEPA_E_MODEL, "%.*s has no tensor \"%s\"", (int)r.file_len, r.file, r.rest);
        }
        pt_close(&l.f);
        c->t.roles++;
    }
    return rc;
}
