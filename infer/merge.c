/* merge.c: the outputs of a job's shards → one, in the order of the whole job's items, a row at a time. Inputs are walked side by side:
 * each is in the order of its items, so the next row is that of the smallest item. */
#include "infer/merge.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_SHARDS = 1 << 20, MOST_INPUTS = 1 << 14 };

/* ---- an input ---- */

struct emb_in {
    h5_in *h5;
    st_file *st;
    json *bad; /* .safetensors: the failures */
    const json *at;
    int64_t at_k;
    const st_tensor *t[6];
    h5_in_info info;
    float *data;
    int64_t row; /* numbers in a row */
};

void emb_in_close(emb_in **inp) {
    emb_in *in = inp ? *inp : NULL;
    if (!in) return;
    h5_in_close(&in->h5);
    st_close(&in->st);
    json_close(&in->bad);
    mem_free(in->info.text), mem_free(in->data);
    mem_free(in);
    *inp = NULL;
}

int emb_in_complete(const emb_in *in) { return in->info.complete; }
int emb_in_has_paths(const emb_in *in) { return in->h5 != NULL; }
const char *emb_in_settings(const emb_in *in) { return in->info.m.settings; }
const emb_meta *emb_in_meta(const emb_in *in) { return &in->info.m; }
int64_t emb_in_rows(const emb_in *in) { return in->info.rows; }
int64_t emb_in_failures(const emb_in *in) { return in->info.failures; }

static int open_st(emb_in *in, const char *path, jepa_err *err) {
    static const struct {
        const char *name;
        dtype type;
    } col[6] = {{"embeddings", T_NONE}, {"start_seconds", T_F64}, {"end_seconds", T_F64},
                {"label", T_I64},       {"clip", T_I32},          {"item", T_I32}};
    emb_meta *m = &in->info.m;
    int rc = st_open(&in->st, path, err);
    if (rc < 0) return err_set_at(err, JEPA_E_IO, path, -1, "%s: is no .safetensors, or damaged", path);
    const struct {
        const char **to, *key;
    } text[] = {{&m->settings, "settings"}, {&m->model, "model"},         {&m->sha256, "model_sha256"}, {&m->precision, "precision"},
                {&m->pool, "pool"},         {&m->transform, "transform"}, {&m->version, "version"},     {&m->device, "device"}};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        if (!(*text[i].to = st_meta(in->st, text[i].key))) {
            if (!i) return err_set_at(err, JEPA_E_USE, path, -1, "%s: was not made by this program's embed", path);
            *text[i].to = "";
        }
    for (int i = 0; i < 6; i++) {
        const st_tensor *t = in->t[i] = st_find(in->st, col[i].name);
        if (!t ||
            (i ? t->t.rank != 1 || t->t.type != col[i].type
               : (t->t.rank != 2 && t->t.rank != 3) || (t->t.type != T_F32 && t->t.type != T_F16)) ||
            t->t.dim[0] != in->t[0]->t.dim[0])
            return err_set_at(err, JEPA_E_USE, path, -1, "%s: has no tensor %s of the right form: was not made by this program's embed",
                              path, col[i].name);
    }
    const tensor *e = &in->t[0]->t;
    m->layered = e->rank == 3, m->store = e->type, m->per_row = m->layered ? e->dim[1] : 1, m->dim = e->dim[e->rank - 1];
    in->info.rows = e->dim[0], in->info.complete = 1;
    const char *s = st_meta(in->st, "frames"), *g = st_meta(in->st, "grid"), *bad = st_meta(in->st, "failed");
    long long grid[3] = {0};
    m->frames = s ? atoi(s) : 0;
    if (g) sscanf(g, "%lld,%lld,%lld", &grid[0], &grid[1], &grid[2]);
    for (int i = 0; i < 3; i++) m->grid[i] = grid[i];
    if (bad && (json_parse(&in->bad, bad, strlen(bad), path, err) < 0 || !json_is_array(in->bad)))
        return err_set_at(err, JEPA_E_IO, path, -1, "%s: its list of failures cannot be read: damaged", path);
    in->info.failures = in->bad ? json_size(in->bad) : 0;
    return 0;
}

int emb_in_open(emb_in **out, const char *path, jepa_err *err) {
    emb_in *in = *out = mem_alloc(1, sizeof *in);
    int rc;
    if (!in) return err_set(err, JEPA_E_MEMORY, "no memory to read %s", path);
    switch (emb_ending(path)) {
    case EMB_H5:
        rc = h5_in_open(&in->h5, path, &in->info, err);
        break;
    case EMB_SAFETENSORS:
        rc = open_st(in, path, err);
        break;
    case EMB_NPY:
        rc = err_set(err, JEPA_E_USE, "%s: .npy does not say which items its rows are of; .h5 and .safetensors do", path);
        break;
    default:
        rc = err_set(err, JEPA_E_USE, "%s: .h5 and .safetensors are read", path);
    }
    if (!rc && in->info.complete) {
        in->row = in->info.m.per_row * in->info.m.dim;
        if (in->row < 1 || in->row > INT32_MAX || !(in->data = mem_alloc((size_t)in->row, sizeof *in->data)))
            rc = err_set(err, JEPA_E_MEMORY, "%s: no memory for a row", path);
    }
    if (rc < 0) emb_in_close(out);
    return rc;
}

static void cell(const st_tensor *t, int64_t k, size_t size, void *to) { memcpy(to, (const char *)t->t.data + (size_t)k * size, size); }

int emb_in_row(emb_in *in, int64_t k, int data, part_row *r, jepa_err *err) {
    if (in->h5) return h5_in_row(in->h5, k, data ? in->data : NULL, r, err);
    int32_t number;
    *r = (part_row){.path = "", .data = data ? in->data : NULL};
    cell(in->t[1], k, 8, &r->start), cell(in->t[2], k, 8, &r->end), cell(in->t[3], k, 8, &r->label), cell(in->t[4], k, 4, &r->clip),
        cell(in->t[5], k, 4, &number);
    r->item = number;
    const size_t n = (size_t)in->row;
    if (data && in->t[0]->t.type == T_F32) cell(in->t[0], k, n * 4, in->data);
    for (size_t i = 0; data && in->t[0]->t.type == T_F16 && i < n; i++) {
        uint16_t half;
        cell(in->t[0], k * in->row + (int64_t)i, 2, &half);
        in->data[i] = f16_to_f32(half);
    }
    return 0;
}

int emb_in_failure(emb_in *in, int64_t k, part_row *r, jepa_err *err) {
    if (in->h5) return h5_in_failure(in->h5, k, r, err);
    if (!in->at || in->at_k > k) in->at = json_first(in->bad), in->at_k = 0;
    for (; in->at && in->at_k < k; in->at_k++) in->at = json_next(in->at);
    int64_t number = -1, line = 0;
    if (!in->at || json_int(in->at, "item", 0, INT32_MAX, &number, err) || json_int(in->at, "line", 0, INT32_MAX, &line, err))
        return err_set(err, JEPA_E_IO, "a list of failures cannot be read: damaged");
    *r = (part_row){.item = number,
                    .line = (int32_t)line,
                    .label = -1,
                    .path = json_string(json_get(in->at, "path"), ""),
                    .reason = json_string(json_get(in->at, "reason"), "unknown")};
    return 0;
}

/* ---- settings: the same but for the shard ---- */

/* text with its "shard" being `shard`, else byte for byte; NULL: it has none, or no memory. mem_free. */
static char *with_shard(const char *text, const char *shard) {
    static const char key[] = "\"shard\": \"";
    const char *at = strstr(text, key), *end = at ? strchr(at + sizeof key - 1, '"') : NULL;
    const size_t size = strlen(text) + strlen(shard) + 1;
    char *out = end ? mem_alloc(size, 1) : NULL;
    if (out) snprintf(out, size, "%.*s%s%s", (int)(at - text) + (int)sizeof key - 1, text, shard, end);
    return out;
}

/* "3/16", "0,2/3" → their bits in have (of [shards], made when NULL: owner of each shard, -1 none). */
static int shards_of(const char *path, const char *settings, int input, const char *const *paths, int **owner, int *shards, int64_t *total,
                     jepa_err *err) {
    json *j = NULL;
    int rc = json_parse(&j, settings, strlen(settings), path, err), n = 0;
    if (rc < 0) return rc;
    const char *s = json_string(json_get(j, "shard"), NULL), *inputs_ = json_string(json_get(j, "inputs"), NULL),
               *slash = s ? strchr(s, '/') : NULL;
    if (!slash || (n = atoi(slash + 1)) < 1 || n > MOST_SHARDS || !inputs_ || (*total = atoll(inputs_)) < 1 || *total > INT32_MAX) {
        rc = err_set(err, JEPA_E_USE, "%s: is not of a job over a list: its settings name no shard of it", path);
        goto done;
    }
    if (*owner && n != *shards) {
        rc = err_set(err, JEPA_E_USE, "%s is of a job of %d shards, %s of one of %d", path, n, paths[0], *shards);
        goto done;
    }
    if (!*owner) {
        if (!(*owner = mem_alloc((size_t)n, sizeof **owner))) {
            rc = err_set(err, JEPA_E_MEMORY, "no memory for %d shards", n);
            goto done;
        }
        for (int i = 0; i < n; i++) (*owner)[i] = -1;
        *shards = n;
    }
    for (char *end;; s = end + 1) {
        long k = strtol(s, &end, 10);
        if (end == s || k < 0 || k >= n || (*end != ',' && end != slash)) {
            rc = err_set(err, JEPA_E_USE, "%s: names no shard (%s)", path, s);
            break;
        }
        if ((*owner)[k] >= 0) {
            rc = err_set(err, JEPA_E_USE, "shard %ld of %d is in %s and in %s", k, n, paths[(*owner)[k]], path);
            break;
        }
        (*owner)[k] = input;
        if (end == slash) break;
    }
done:
    json_close(&j);
    return rc;
}

/* "0,2/3"; "0/1" where none is missing. */
static char *list_shards(const int *owner, int shards, int missing, int say_missing) {
    const size_t size = (size_t)shards * 8 + 16;
    char *text = mem_alloc(size, 1);
    size_t k = 0;
    if (!text) return NULL;
    if (!missing) {
        snprintf(text, size, "0/1");
        return text;
    }
    for (int i = 0; i < shards; i++)
        if ((owner[i] < 0) == say_missing) k += (size_t)snprintf(text + k, size - k, "%s%d", k ? "," : "", i);
    if (!say_missing) snprintf(text + k, size - k, "/%d", shards);
    return text;
}

/* ---- walking side by side ---- */

typedef struct inputs {
    merge_job *j;
    emb_in **in;
    int64_t *row, *bad; /* next of each */
    int64_t *row_item, *bad_item;
    const int *owner;
    int shards;
} inputs;

static int item_of(inputs *a, int i, int failure, int64_t before, jepa_err *err) {
    part_row r;
    int64_t *k = failure ? a->bad : a->row, *to = failure ? a->bad_item : a->row_item,
            n = failure ? emb_in_failures(a->in[i]) : emb_in_rows(a->in[i]);
    to[i] = INT64_MAX;
    if (k[i] >= n) return 0;
    int rc = failure ? emb_in_failure(a->in[i], k[i], &r, err) : emb_in_row(a->in[i], k[i], 0, &r, err);
    if (rc < 0) return rc;
    if (r.item < before || r.item < 0)
        return err_set(err, JEPA_E_IO, "%s: its items are not in order (%lld after %lld): damaged", a->j->in[i], (long long)r.item,
                       (long long)before);
    if (a->owner[r.item % a->shards] != i)
        return err_set(err, JEPA_E_USE, "%s: item %lld is not of its shard, but of shard %lld of %d", a->j->in[i], (long long)r.item,
                       (long long)(r.item % a->shards), a->shards);
    to[i] = r.item;
    return 0;
}
static int restart(inputs *a, jepa_err *err) {
    int rc = 0;
    for (int i = 0; i < a->j->n && !rc; i++) {
        a->row[i] = a->bad[i] = 0;
        if ((rc = item_of(a, i, 0, 0, err)) == 0) rc = item_of(a, i, 1, 0, err);
    }
    return rc;
}
/* The input whose next row or failure is that of the smallest item; -1: none is left. */
static int smallest(const inputs *a, int failures) {
    const int64_t *item_ = failures ? a->bad_item : a->row_item;
    int best = -1;
    for (int i = 0; i < a->j->n; i++)
        if (item_[i] != INT64_MAX && (best < 0 || item_[i] < item_[best])) best = i;
    return best;
}

static int each(void *src, int only_failures, row_fn *fn, void *ctx, jepa_err *err) {
    inputs *a = src;
    int rc = restart(a, err);
    for (int failures = only_failures; failures < 2 && !rc; failures++) {
        int64_t *k = failures ? a->bad : a->row, *of = failures ? a->bad_item : a->row_item;
        for (int i; !rc && (i = smallest(a, failures)) >= 0;) {
            part_row r;
            rc = failures ? emb_in_failure(a->in[i], k[i], &r, err) : emb_in_row(a->in[i], k[i], 1, &r, err);
            if (!rc) rc = fn(ctx, &r, err);
            k[i]++;
            if (!rc) rc = item_of(a, i, failures, of[i], err);
        }
    }
    return rc;
}

/* Items of the whole job that are nowhere. */
static int count_missing(inputs *a, int64_t total, jepa_err *err) {
    int64_t next = 0, seen = 0;
    int rc = restart(a, err);
    while (!rc) {
        const int r = smallest(a, 0), f = smallest(a, 1), failure = r < 0 || (f >= 0 && a->bad_item[f] < a->row_item[r]),
                  i = failure ? f : r;
        if (i < 0) break;
        const int64_t now = failure ? a->bad_item[i] : a->row_item[i];
        if (now >= total)
            return err_set(err, JEPA_E_IO, "%s: item %lld of a job of %lld: damaged", a->j->in[i], (long long)now, (long long)total);
        if (now >= next) seen++, next = now + 1;
        ++*(failure ? &a->bad[i] : &a->row[i]);
        rc = item_of(a, i, failure, now, err);
    }
    a->j->missing = total - seen;
    return rc;
}

int merge_run(merge_job *j, jepa_err *err) {
    inputs a = {.j = j};
    int *owner = NULL, shards = 0, missing = 0, rc = 0;
    int64_t total = 0, all = 0;
    char *same = NULL, *other = NULL, *shard = NULL, *settings = NULL, what[256];
    j->rows = j->failures = j->missing = 0;
    if (!emb_ending(j->out)) return err_set(err, JEPA_E_USE, "%s: outputs end in .h5, .npy or .safetensors", j->out);
    if (j->n < 1 || j->n > MOST_INPUTS) return err_set(err, JEPA_E_USE, "merge takes 1 to %d inputs", MOST_INPUTS);
    if (access(j->out, F_OK) == 0)
        return err_set(err, JEPA_E_USE, "%s: exists already; remove it or choose another name (the output comes first)", j->out);
    const size_t n = (size_t)j->n;
    if (!(a.in = mem_alloc(n, sizeof *a.in)) || !(a.row = mem_alloc(n, sizeof *a.row)) || !(a.bad = mem_alloc(n, sizeof *a.bad)) ||
        !(a.row_item = mem_alloc(n, sizeof *a.row_item)) || !(a.bad_item = mem_alloc(n, sizeof *a.bad_item))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for %d inputs", j->n);
        goto done;
    }
    for (int i = 0; i < j->n; i++) {
        if ((rc = emb_in_open(&a.in[i], j->in[i], err)) < 0) goto done;
        const emb_meta *m = emb_in_meta(a.in[i]), *m0 = emb_in_meta(a.in[0]);
        if (!emb_in_complete(a.in[i])) {
            rc = err_set(err, JEPA_E_USE, "%s: is unfinished; the command that makes it goes on with it", j->in[i]);
            goto done;
        }
        if (emb_ending(j->out) == EMB_H5 && !emb_in_has_paths(a.in[i])) {
            rc = err_set(err, JEPA_E_USE, "%s: a .safetensors does not hold the paths that an .h5 has; merge into .safetensors or .npy",
                         j->in[i]);
            goto done;
        }
        if (!(other = with_shard(emb_in_settings(a.in[i]), "")) || (!same && !(same = with_shard(emb_in_settings(a.in[i]), "")))) {
            rc = err_set(err, JEPA_E_USE, "%s: its settings cannot be read", j->in[i]);
            goto done;
        }
        if (settings_differ(same, other, what, sizeof what) || m->per_row != m0->per_row || m->dim != m0->dim ||
            m->layered != m0->layered || m->store != m0->store) {
            const int of_rows = !settings_differ(same, other, what, sizeof what);
            rc = err_set(err, JEPA_E_USE, "%s: has other settings than %s (%s)", j->in[i], j->in[0],
                         of_rows ? "size or type of a row" : what);
            goto done;
        }
        mem_free(other), other = NULL;
        if ((rc = shards_of(j->in[i], emb_in_settings(a.in[i]), i, j->in, &owner, &shards, &total, err)) < 0) goto done;
        if (!i) all = total;
        j->rows += emb_in_rows(a.in[i]), j->failures += emb_in_failures(a.in[i]);
    }
    for (int i = 0; i < shards; i++) missing += owner[i] < 0 && i < all; /* a shard beyond the last item has none */
    a.owner = owner, a.shards = shards;
    if ((rc = count_missing(&a, all, err)) < 0) goto done;
    if (missing || j->missing) {
        if (!(shard = list_shards(owner, shards, missing, 1))) {
            rc = err_set(err, JEPA_E_MEMORY, "no memory for %d shards", shards);
            goto done;
        }
        char text[400];
        if (missing)
            snprintf(text, sizeof text, "%d of %d shards missing: %.200s (%lld of %lld items)", missing, shards, shard,
                     (long long)j->missing, (long long)all);
        else
            snprintf(text, sizeof text, "%lld of %lld items missing", (long long)j->missing, (long long)all);
        if (!j->allow_missing) {
            rc = err_set(err, JEPA_E_USE, "%s; --allow-missing merges what is there", text);
            goto done;
        }
        if (j->line) j->line(j->ctx, text);
        mem_free(shard), shard = NULL;
    }
    if (!(shard = list_shards(owner, shards, missing, 0)) || !(settings = with_shard(emb_in_settings(a.in[0]), shard))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the settings");
        goto done;
    }
    emb_meta m = *emb_in_meta(a.in[0]);
    m.settings = settings, m.gzip = j->gzip;
    j->per_row = m.per_row, j->dim = m.dim;
    const emb_source s = {.ctx = &a, .rows = j->rows, .failures = j->failures, .each = each};
    rc = emb_write(j->out, &m, &s, err);
done:
    for (size_t i = 0; a.in && i < n; i++) emb_in_close(&a.in[i]);
    mem_free(a.in), mem_free(a.row), mem_free(a.bad), mem_free(a.row_item), mem_free(a.bad_item);
    mem_free(owner), mem_free(same), mem_free(other), mem_free(shard), mem_free(settings);
    return rc;
}
