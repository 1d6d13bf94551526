/* save.c: models out: Hugging Face folders (one file or shards) and our own. Weights first, the configuration last: a folder whose weights
 * could not be written never looks like a model. */
#include "checkpoint/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct outlist {
    st_out *item;
    char (*name)[256];
    float **gathered; /* stacked tensors, the only ones that are put together in memory (a few mask tokens) */
    int n, cap, n_gathered;
} outlist;

static void outlist_close(outlist *o) {
    for (int i = 0; i < o->n_gathered; i++) mem_free(o->gathered[i]);
    mem_free(o->gathered);
    mem_free(o->item);
    mem_free(o->name);
    *o = (outlist){0};
}

static int outlist_open(outlist *o, size_t cap, const char *dir, jepa_err *err) {
    *o = (outlist){0};
    o->item = mem_alloc(cap, sizeof *o->item);
    o->name = mem_alloc(cap, sizeof *o->name);
    o->gathered = mem_alloc(cap, sizeof *o->gathered);
    o->cap = (int)cap;
    if (o->item && o->name && o->gathered) return 0;
    outlist_close(o);
    return err_set_at(err, JEPA_E_MEMORY, dir, -1, "%s: no memory to write it", dir);
}

static st_out *add(outlist *o, dtype store) {
    st_out *s = &o->item[o->n];
    *s = (st_out){.name = o->name[o->n], .store = store, .t = {.type = T_F32}};
    o->n++;
    return s;
}

static size_t count_of(const ck_part *part, int n) {
    size_t all = 0;
    for (int i = 0; i < n; i++) all += (size_t)part[i].p->n;
    return all;
}

int part_is_half(const ck_part *part, const char *where, jepa_err *err) {
    for (int i = 0; i < part->p->n; i++)
        if (part->p->item[i].half)
            return err_set_at(err, JEPA_E_USE, where, -1, "%s: weights that were opened as bf16 are not written; open the model as f32", where);
    return 0;
}

static int check_parts(const ck_part *part, int n, dtype store, const char *dir, jepa_err *err) {
    if (n < 1 || (store != T_F32 && store != T_BF16 && store != T_F16))
        return err_set_at(err, JEPA_E_USE, dir, -1, "%s: nothing to write, or not as f32, bf16 or f16", dir);
    for (int i = 0; i < n; i++) {
        size_t k = strlen(part[i].prefix);
        int any = 0;
        for (int j = 0; j < part[i].p->n; j++) any |= !strncmp(part[i].p->item[j].name, part[i].prefix, k);
        if (!any || !part[i].p->value.p)
            return err_set_at(err, JEPA_E_USE, dir, -1, "%s: no parameters named %s* to write", dir, part[i].prefix);
        if (part_is_half(&part[i], dir, err)) return JEPA_E_USE;
    }
    return 0;
}

/* The last thing of a folder: text of a finished writer, whole or not at all. */
static int write_text(const char *dir, const char *name, json_writer *w, jepa_err *err) {
    char path[PATH_MAX];
    if (w->failed) return err_set_at(err, JEPA_E_MEMORY, dir, -1, "%s: no memory for %s", dir, name);
    int rc = path_join(path, sizeof path, dir, name, err);
    return rc ? rc : out_file_whole(path, w->text, w->size, err);
}

static int drop(const char *dir, const char *name, jepa_err *err) { /* a file of the other kind, left from an earlier save */
    char path[PATH_MAX];
    int rc = path_join(path, sizeof path, dir, name, err);
    if (rc) return rc;
    if (unlink(path) && errno != ENOENT) return err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be removed: %s", path, strerror(errno));
    return 0;
}

static const char *const META[] = {"format", "pt", NULL}; /* what transformers asks for */

/* ---- Hugging Face ---- */

/* All slices of a stacked tensor, put together when its first one comes. */
static int gather(outlist *o, const ck_part *part, const name_row *row, const char *dir, dtype store, jepa_err *err) {
    char name[160], inner[128];
    const param *first = NULL;
    int n = 0;
    for (;; n++) { /* mask_tokens.0, .1, … */
        if (name_make(row->meta, n, "", inner, sizeof inner) ||
            snprintf(name, sizeof name, "%s%s", part->prefix, inner) >= (int)sizeof name)
            break;
        int i = params_find(part->p, name);
        if (i < 0) break;
        if (!first) first = &part->p->item[i];
        if (part->p->item[i].count != first->count)
            return err_set_at(err, JEPA_E_MODEL, dir, -1, "%s: %s has another size than the first", dir, name);
    }
    if (!first || first->rank > 7) return err_set_at(err, JEPA_E_MODEL, dir, -1, "%s: %s* cannot be put together", dir, part->prefix);
    float *all = mem_alloc((size_t)n, (size_t)first->count * sizeof *all);
    if (!all) return err_set_at(err, JEPA_E_MEMORY, dir, -1, "%s: no memory for %s", dir, row->hf);
    o->gathered[o->n_gathered++] = all;
    for (int i = 0; i < n; i++) {
        name_make(row->meta, i, "", inner, sizeof inner);
        snprintf(name, sizeof name, "%s%s", part->prefix, inner);
        memcpy(all + (size_t)i * (size_t)first->count, param_value(part->p, params_find(part->p, name)),
               (size_t)first->count * sizeof *all);
    }
    st_out *s = add(o, store);
    snprintf(o->name[o->n - 1], sizeof *o->name, "%s", row->hf);
    s->t.rank = first->rank + 1;
    s->t.dim[0] = n;
    memcpy(s->t.dim + 1, first->dim, (size_t)first->rank * sizeof *first->dim);
    s->t.data = all;
    return 0;
}

static int add_hf(outlist *o, const ck_part *part, int i, int ijepa, const char *dir, dtype store, jepa_err *err) {
    const param *a = &part->p->item[i];
    const char *meta = a->name + strlen(part->prefix), *rest;
    int number, found = 0;
    if (ijepa && part->module != CK_ENCODER && part->module != CK_TARGET)
        return err_set_at(err, JEPA_E_MODEL, dir, -1, "%s: a Hugging Face IJepaModel is an encoder; a %s has no place in it", dir,
                          module_name(part->module));
    for (const name_row *r = ijepa ? ck_names_ijepa : names_of(part->module); r->meta; r++) {
        if (!name_match(r->meta, meta, &number, &rest)) continue;
        found = 1;
        if (r->how == NAME_STACK) {
            if (number) continue;
            int rc = gather(o, part, r, dir, store, err);
            if (rc) return rc;
            continue;
        }
        st_out *s = add(o, store);
        s->t.rank = a->rank;
        memcpy(s->t.dim, a->dim, sizeof a->dim);
        s->t.data = param_value(part->p, i);
        int of, at = name_part(r->how, &of);
        if (of > 1) { /* a third of the rows, or a half */
            if (a->rank < 1 || a->dim[0] % of)
                return err_set_at(err, JEPA_E_MODEL, dir, -1, "%s: the rows of %s are not %d equal parts", dir, a->name, of);
            s->t.dim[0] /= of;
            s->t.data = param_value(part->p, i) + (a->count / of) * at;
        }
        if (name_make(r->hf, number, rest, o->name[o->n - 1], sizeof *o->name))
            return err_set_at(err, JEPA_E_USE, dir, -1, "%s: name of %s too long", dir, a->name);
    }
    return found ? 0
                 : err_set_at(err, JEPA_E_MODEL, dir, -1, "%s: %s has no place in a Hugging Face %s folder", dir, meta,
                              ijepa ? "IJepaModel" : "VJEPA2Model");
}

static int by_name(const void *a, const void *b) { return strcmp(((const st_out *)a)->name, ((const st_out *)b)->name); }

static size_t bytes_of(const st_out *s) { return (size_t)tensor_count(&s->t) * dtype_size(s->store); }

/* Which shard each item goes to: filled in name order, a new one where the next tensor would not fit. Returns how many. */
static int divide(const outlist *o, size_t most, int *shard) {
    int k = 0;
    size_t in = 0;
    for (int i = 0; i < o->n; i++) {
        size_t b = bytes_of(&o->item[i]);
        if (i && in + b > most) {
            k++;
            in = 0;
        }
        in += b;
        shard[i] = k;
    }
    return k + 1;
}

static int write_shards(const char *dir, const outlist *o, const int *shard, int shards, jepa_err *err) {
    char path[PATH_MAX], name[64];
    json_writer w = {.indent = 2};
    int64_t total = 0, values = 0;
    int rc = 0;
    for (int i = 0; i < o->n; i++) total += (int64_t)bytes_of(&o->item[i]), values += tensor_count(&o->item[i].t);
    jw_open(&w, NULL, '{');
    jw_open(&w, "metadata", '{');
    jw_int(&w, "total_parameters", values);
    jw_int(&w, "total_size", total);
    jw_close(&w, '}');
    jw_open(&w, "weight_map", '{');
    for (int i = 0, to; !rc && i < o->n; i = to) {
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", shard[i] + 1, shards);
        for (to = i; to < o->n && shard[to] == shard[i]; to++) jw_string(&w, o->item[to].name, name);
        rc = path_join(path, sizeof path, dir, name, err);
        if (!rc) rc = st_write(path, o->item + i, to - i, META, err);
    }
    jw_close(&w, '}');
    jw_close(&w, '}');
    if (!rc) rc = write_text(dir, "model.safetensors.index.json", &w, err);
    jw_free(&w);
    return rc ? rc : drop(dir, "model.safetensors", err);
}

int ck_write_hf(const char *dir, const model_cfg *m, const ck_part *part, int n, dtype store, size_t shard_bytes, jepa_err *err) {
    outlist o = {0};
    json_writer w = {.indent = 2};
    int *shard = NULL, ijepa = !strcmp(m->family, "ijepa");
    char path[PATH_MAX];
    int rc = check_parts(part, n, store, dir, err);
    if (!rc) rc = config_to_hf(&w, m, store, dir, err);
    if (!rc) rc = outlist_open(&o, 3 * count_of(part, n) + 1, dir, err);
    for (int i = 0; !rc && i < n; i++)
        for (int k = 0; !rc && k < part[i].p->n; k++)
            if (!strncmp(part[i].p->item[k].name, part[i].prefix, strlen(part[i].prefix)))
                rc = add_hf(&o, &part[i], k, ijepa, dir, store, err);
    if (!rc) rc = dir_make(dir, err);
    if (!rc && shard_bytes) {
        qsort(o.item, (size_t)o.n, sizeof *o.item, by_name);
        shard = mem_alloc((size_t)o.n, sizeof *shard);
        int shards = shard ? divide(&o, shard_bytes, shard) : 0;
        rc = !shard                ? err_set_at(err, JEPA_E_MEMORY, dir, -1, "%s: no memory to write it", dir)
             : shards > MAX_SHARDS ? err_set_at(err, JEPA_E_USE, dir, -1, "%s: shards of %zu bytes would be %d files; at most %d", dir,
                                                shard_bytes, shards, MAX_SHARDS)
                                   : write_shards(dir, &o, shard, shards, err);
    } else if (!rc) {
        rc = path_join(path, sizeof path, dir, "model.safetensors", err);
        if (!rc) rc = st_write(path, o.item, o.n, META, err);
        if (!rc) rc = drop(dir, "model.safetensors.index.json", err);
    }
    if (!rc) rc = write_text(dir, "config.json", &w, err);
    mem_free(shard);
    jw_free(&w);
    outlist_close(&o);
    return rc;
}

/* ---- ours ---- */

int write_own(const char *dir, const model_cfg *m, const ck_part *part, int n, dtype store, int64_t step, jepa_err *err) {
    outlist o = {0};
    json_writer w = {.indent = 2};
    char path[PATH_MAX];
    int rc = check_parts(part, n, store, dir, err);
    if (!rc) rc = outlist_open(&o, count_of(part, n), dir, err);
    for (int i = 0; !rc && i < n; i++)
        for (int k = 0; !rc && k < part[i].p->n; k++) {
            const param *a = &part[i].p->item[k];
            size_t front = strlen(part[i].prefix);
            if (strncmp(a->name, part[i].prefix, front)) continue;
            st_out *s = add(&o, store);
            snprintf(o.name[o.n - 1], sizeof *o.name, "%s.%s", module_name(part[i].module), a->name + front);
            s->t.rank = a->rank;
            memcpy(s->t.dim, a->dim, sizeof a->dim);
            s->t.data = param_value(part[i].p, k);
        }
    if (!rc) rc = dir_make(dir, err);
    if (!rc) rc = path_join(path, sizeof path, dir, "model.safetensors", err);
    if (!rc) rc = st_write(path, o.item, o.n, META, err);
    if (!rc) {
        config_to_own(&w, m, part, n, step);
        rc = write_text(dir, "model.json", &w, err);
    }
    jw_free(&w);
    outlist_close(&o);
    return rc;
}

int ck_write_own(const char *dir, const model_cfg *m, const ck_part *part, int n, dtype store, jepa_err *err) {
    return write_own(dir, m, part, n, store, -1, err);
}
