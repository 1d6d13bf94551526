/* data.c: the files of a set, and what a check names in them. */
#include "parity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int set_path(const set *s, const char *name, char *path, size_t size, jepa_err *err) {
    int n = snprintf(path, size, "%s/%s", s->path, name);
    return n > 0 && (size_t)n < size ? 0 : err_set(err, JEPA_E_MODEL, "the path of %s is too long", name);
}

int set_open(set *s, const char *path, const char *label, jepa_err *err) {
    memset(s, 0, sizeof *s);
    snprintf(s->path, sizeof s->path, "%s", path);
    snprintf(s->label, sizeof s->label, "%s", label);
    char file[1200];
    int rc = set_path(s, "meta.json", file, sizeof file, err);
    return rc < 0 ? rc : json_read(&s->meta, file, err);
}

void set_close(set *s) {
    for (int i = 0; i < s->n_files; i++) {
        st_close(&s->file[i].st);
        json_close(&s->file[i].j);
    }
    json_close(&s->meta);
    memset(s, 0, sizeof *s);
}

/* The cached entry of a file, made when it is asked for first. */
static int file_slot(set *s, const char *name, size_t len, set_file **out, jepa_err *err) {
    for (int i = 0; i < s->n_files; i++)
        if (strlen(s->file[i].name) == len && !memcmp(s->file[i].name, name, len)) return *out = &s->file[i], 0;
    if (len >= sizeof s->file[0].name || s->n_files == (int)(sizeof s->file / sizeof *s->file))
        return err_set(err, JEPA_E_MODEL, "more files, or longer names, than a set may have");
    *out = &s->file[s->n_files++];
    memcpy((*out)->name, name, len);
    (*out)->name[len] = 0;
    return 0;
}

int set_safetensors(set *s, const char *name, size_t len, const st_file **out, jepa_err *err) {
    set_file *f = NULL;
    char path[1400];
    int rc = file_slot(s, name, len, &f, err);
    if (rc < 0) return rc;
    if (!f->st && ((rc = set_path(s, f->name, path, sizeof path, err)) < 0 || (rc = st_open(&f->st, path, err)) < 0)) return rc;
    *out = f->st;
    return 0;
}

int ref_parse(ref *r, const char *text, jepa_err *err) {
    const char *colon = text ? strchr(text, ':') : NULL;
    if (!colon || colon == text)
        return err_set(err, JEPA_E_MODEL, "\"%s\" is no file:tensor, file:prefix* or file:/pointer", text ? text : "(not a string)");
    *r = (ref){text, (size_t)(colon - text), colon + 1, 0};
    size_t n = strlen(r->rest);
    r->is_prefix = n > 0 && r->rest[n - 1] == '*';
    return 0;
}

int ref_tensor(check *c, const char *text, const tensor **out, jepa_err *err) {
    ref r = {0};
    const st_file *st = NULL;
    int rc = ref_parse(&r, text, err);
    if (rc < 0 || (rc = set_safetensors(c->set, r.file, r.file_len, &st, err)) < 0) return rc;
    const st_tensor *t = st_find(st, r.rest);
    if (!t) return err_set(err, JEPA_E_MODEL, "%.*s has no tensor \"%s\"", (int)r.file_len, r.file, r.rest);
    *out = &t->t;
    return 0;
}

int ref_json(check *c, const char *text, const json **out, jepa_err *err) {
    ref r = {0};
    set_file *f = NULL;
    char path[1400];
    int rc = ref_parse(&r, text, err);
    if (rc < 0 || (rc = file_slot(c->set, r.file, r.file_len, &f, err)) < 0) return rc;
    if (!f->j && ((rc = set_path(c->set, f->name, path, sizeof path, err)) < 0 || (rc = json_read(&f->j, path, err)) < 0)) return rc;
    *out = json_pointer(f->j, r.rest);
    return *out ? 0 : err_set(err, JEPA_E_MODEL, "%s has nothing at \"%s\"", f->name, r.rest);
}

int input_tensor(check *c, const char *role, const tensor **out, jepa_err *err) {
    const json *v = json_get(c->inputs, role);
    return v ? ref_tensor(c, json_string(v, NULL), out, err) : JEPA_E_END;
}

int input_tensor_is(check *c, const char *role, dtype type, int rank, const tensor **out, jepa_err *err) {
    int rc = input_tensor(c, role, out, err);
    if (rc == JEPA_E_END) return err_set(err, JEPA_E_MODEL, "the check has no input \"%s\"", role);
    if (rc < 0) return rc;
    if ((*out)->type != type || (*out)->rank != rank)
        return err_set(err, JEPA_E_MODEL, "input %s is %s of %d dimensions; this verb needs %s of %d", role, dtype_name((*out)->type),
                       (*out)->rank, dtype_name(type), rank);
    return 0;
}

int input_index(check *c, const char *role, int64_t batch, int32_t **out, int64_t *n, jepa_err *err) {
    const tensor *t = NULL;
    *out = NULL;
    int rc = input_tensor(c, role, &t, err);
    if (rc < 0) return rc;
    if ((t->type != T_I64 && t->type != T_I32) || t->rank != 2 || t->dim[0] != batch)
        return err_set(err, JEPA_E_MODEL, "input %s is no list of integers [%lld,K]", role, (long long)batch);
    int64_t count = tensor_count(t);
    *n = t->dim[1];
    if (!(*out = mem_alloc((size_t)count + 1, sizeof **out))) return err_set(err, JEPA_E_MEMORY, "no memory for %s", role);
    for (int64_t i = 0; i < count; i++) {
        int64_t v;
        int32_t w;
        if (t->type == T_I64)
            memcpy(&v, (const char *)t->data + 8 * i, 8);
        else
            memcpy(&w, (const char *)t->data + 4 * i, 4), v = w;
        if (v < 0 || v > INT32_MAX) {
            mem_free(*out), *out = NULL;
            return err_set(err, JEPA_E_MODEL, "input %s holds the token index %lld", role, (long long)v);
        }
        (*out)[i] = (int32_t)v;
    }
    return 0;
}

const char *output_ref(const check *c, const char *role) { return json_string(json_get(c->outputs, role), NULL); }

const json *config_get(const check *c, const char *key) {
    const json *v = json_get(c->own_config, key);
    return v ? v : json_get(c->config, key);
}

int config_int(const check *c, const char *key, int64_t low, int64_t high, int *out, jepa_err *err) {
    double v = 0;
    int rc = config_double(c, key, (double)low, (double)high, &v, err);
    if (rc < 0) return rc;
    if (v != floor(v)) return err_set(err, JEPA_E_MODEL, "config's %s is %g, no integer", key, v);
    *out = (int)v;
    return 0;
}

int config_double(const check *c, const char *key, double low, double high, double *out, jepa_err *err) {
    const json *v = config_get(c, key);
    if (!json_is_number(v)) return err_set(err, JEPA_E_MODEL, v ? "config's %s is no number" : "config has no %s", key);
    *out = json_number(v, 0);
    return *out >= low && *out <= high ? 0 : err_set(err, JEPA_E_MODEL, "config's %s is %g; %g to %g work", key, *out, low, high);
}

int config_true(const check *c, const char *key) { return json_bool(config_get(c, key), 0); }

int json_numbers(const json *v, const char *what, int n, double *out, jepa_err *err) {
    if (n == 1 && json_is_number(v)) return *out = json_number(v, 0), 0;
    if (!json_is_array(v) || json_size(v) != n) return err_set(err, JEPA_E_MODEL, "%s is not a list of %d numbers", what, n);
    int i = 0;
    for (const json *e = json_first(v); e; e = json_next(e)) {
        if (!json_is_number(e)) return err_set(err, JEPA_E_MODEL, "%s is not a list of %d numbers", what, n);
        out[i++] = json_number(e, 0);
    }
    return 0;
}

int param_numbers(const check *c, const char *key, int n, double *out, jepa_err *err) {
    const json *v = json_get(c->params, key);
    return v ? json_numbers(v, key, n, out, err) : err_set(err, JEPA_E_MODEL, "params has no %s", key);
}

int param_int(const check *c, const char *key, int64_t low, int64_t high, int64_t *out, jepa_err *err) {
    double v;
    int rc = param_numbers(c, key, 1, &v, err);
    if (rc < 0) return rc;
    if (v != floor(v) || v < (double)low || v > (double)high)
        return err_set(err, JEPA_E_MODEL, "params' %s is %g; integers %lld to %lld work", key, v, (long long)low, (long long)high);
    *out = (int64_t)v;
    return 0;
}

const char *param_string(const check *c, const char *key, const char *otherwise) {
    return json_string(json_get(c->params, key), otherwise);
}
