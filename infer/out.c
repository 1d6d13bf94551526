/* out.c: an embedding job's result as .npy or .safetensors (HDF5: out_h5.c), written when all of it is there: one row in memory, each
 * column to its own place in the file. */
#include "infer/infer.h"
#include "base/json.h"
#include "infer/merge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int ends(const char *path, const char *with) {
    size_t n = strlen(path), k = strlen(with);
    return n > k && !strcmp(path + n - k, with);
}
int emb_ending(const char *path) {
    return ends(path, ".h5") || ends(path, ".hdf5") ? EMB_H5
           : ends(path, ".npy")                     ? EMB_NPY
           : ends(path, ".safetensors")             ? EMB_SAFETENSORS
                                                    : EMB_NONE;
}

/* ---- columns of a file, each filled from its own place on ---- */

enum { COLUMNS = 6, BUFFER = 1 << 16 };
typedef struct column {
    uint64_t at; /* in the file: where the next flush goes */
    size_t used;
    unsigned char *buf; /* [BUFFER] */
} column;
typedef struct columns {
    int fd, n;
    const emb_meta *m;
    const char *path;
    column c[COLUMNS];
    uint16_t *half;
    int64_t rows, most;
} columns;

static int write_at(int fd, const void *data, size_t n, uint64_t at) {
    const char *b = data;
    while (n) {
        if (fault_point("out.write")) return errno = ENOSPC, -1;
        ssize_t k = pwrite(fd, b, n, (off_t)at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return -1;
        b += k, n -= (size_t)k, at += (uint64_t)k;
    }
    return 0;
}
static int flush(columns *w, column *c) {
    int bad = c->used && write_at(w->fd, c->buf, c->used, c->at);
    c->at += c->used, c->used = 0;
    return bad;
}
static int put(columns *w, int which, const void *data, size_t n) {
    column *c = &w->c[which];
    if (c->used + n > BUFFER && flush(w, c)) return -1;
    if (n > BUFFER) {
        if (write_at(w->fd, data, n, c->at)) return -1;
        c->at += n;
        return 0;
    }
    memcpy(c->buf + c->used, data, n);
    c->used += n;
    return 0;
}

static int put_row(void *ctx, const part_row *r, jepa_err *err) {
    columns *w = ctx;
    const size_t n = (size_t)(w->m->per_row * w->m->dim);
    const int32_t number = (int32_t)r->item;
    if (!r->data) return 0;
    if (w->rows++ == w->most) return err_set_at(err, JEPA_E_IO, w->path, -1, "%s: more rows came than were counted", w->path);
    int bad;
    if (w->m->store == T_F16) {
        float one;
        for (size_t i = 0; i < n; i++) memcpy(&one, r->data + i, sizeof one), w->half[i] = f32_to_f16(one);
        bad = put(w, 0, w->half, n * sizeof *w->half);
    } else
        bad = put(w, 0, r->data, n * sizeof *r->data);
    if (!bad && w->n > 1)
        bad = put(w, 1, &r->start, sizeof r->start) || put(w, 2, &r->end, sizeof r->end) || put(w, 3, &r->label, sizeof r->label) ||
              put(w, 4, &r->clip, sizeof r->clip) || put(w, 5, &number, sizeof number);
    return bad ? err_set_at(err, JEPA_E_IO, w->path, -1, "%s: cannot be written: %s", w->path, strerror(errno)) : 0;
}

/* head: the file's beginning; offset[n]: where each column's bytes begin. */
static int write_columns(const char *path, const emb_meta *m, const emb_source *s, const void *head, size_t head_size, int n,
                         const uint64_t *offset, jepa_err *err) {
    char aside[1200];
    columns w = {.fd = -1, .n = n, .m = m, .path = path, .most = s->rows};
    int rc = 0;
    if (snprintf(aside, sizeof aside, "%s.tmp", path) >= (int)sizeof aside) return err_set(err, JEPA_E_USE, "output name too long");
    for (int i = 0; i < n && !rc; i++) {
        w.c[i].at = offset[i];
        if (!(w.c[i].buf = mem_alloc(BUFFER, 1))) rc = JEPA_E_MEMORY;
    }
    if (rc || (m->store == T_F16 && !(w.half = mem_alloc((size_t)(m->per_row * m->dim), sizeof *w.half)))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for a row");
        goto done;
    }
    int bad = (w.fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) < 0 || write_at(w.fd, head, head_size, 0);
    if (!bad && (rc = s->each(s->ctx, 0, put_row, &w, err)) < 0) goto done;
    for (int i = 0; i < n && !bad; i++) bad = flush(&w, &w.c[i]);
    if (!bad && w.rows != s->rows)
        rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: %lld of %lld rows came", path, (long long)w.rows, (long long)s->rows);
    else if (bad || fsync(w.fd))
        rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be written: %s", path, strerror(errno));
    else if (rename(aside, path))
        rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be written: %s", path, strerror(errno));
done:
    if (w.fd >= 0) close(w.fd);
    if (rc)
        unlink(aside);
    else
        dir_sync(path);
    for (int i = 0; i < n; i++) mem_free(w.c[i].buf);
    mem_free(w.half);
    return rc;
}

/* NumPy format 1.0: magic, version, header length, a Python literal padded to 64 bytes, the data. */
static int out_npy(const char *path, const emb_meta *m, const emb_source *s, jepa_err *err) {
    char head[512], dict[256], shape[96];
    if (m->layered)
        snprintf(shape, sizeof shape, "(%lld, %lld, %lld)", (long long)s->rows, (long long)m->per_row, (long long)m->dim);
    else
        snprintf(shape, sizeof shape, "(%lld, %lld)", (long long)s->rows, (long long)m->dim);
    int n = snprintf(dict, sizeof dict, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", m->store == T_F16 ? "<f2" : "<f4", shape);
    int total = (10 + n + 1 + 63) / 64 * 64 - 10;
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    head[8] = (char)(total & 255), head[9] = (char)(total >> 8);
    snprintf(head + 10, sizeof head - 10, "%-*s\n", total - 1, dict);
    const uint64_t at = (uint64_t)total + 10;
    return write_columns(path, m, s, head, (size_t)at, 1, &at, err);
}

static int list_failure(void *ctx, const part_row *r, jepa_err *err) {
    json_writer *w = ctx;
    if (!r->reason) return 0;
    jw_open(w, NULL, '{');
    jw_string(w, "path", r->path), jw_string(w, "reason", r->reason), jw_int(w, "item", r->item), jw_int(w, "line", r->line);
    jw_close(w, '}');
    return w->failed ? err_set(err, JEPA_E_MEMORY, "no memory for the list of failures") : 0;
}

/* u64 size of the header, the header in JSON padded with spaces to a multiple of 8, the tensors. */
static int out_safetensors(const char *path, const emb_meta *m, const emb_source *s, jepa_err *err) {
    static const struct {
        const char *name, *type;
        size_t size;
    } col[COLUMNS] = {{"embeddings", NULL, 0}, {"start_seconds", "F64", 8}, {"end_seconds", "F64", 8},
                      {"label", "I64", 8},     {"clip", "I32", 4},          {"item", "I32", 4}};
    char frames[32], grid[80];
    json_writer w = {0}, bad = {.indent = -1};
    uint64_t offset[COLUMNS + 1] = {0};
    unsigned char *head = NULL;
    int rc = 0;
    size_t cells, rows = (size_t)s->rows, row = m->store == T_F16 ? 2 : 4;
    if (size_mul(row, (size_t)m->per_row, &row) || size_mul(row, (size_t)m->dim, &row) || size_mul(row, rows, &cells))
        return err_set(err, JEPA_E_MEMORY, "%s: too many rows", path);
    jw_open(&bad, NULL, '[');
    if (s->failures && (rc = s->each(s->ctx, 1, list_failure, &bad, err)) < 0) goto done;
    jw_close(&bad, ']');
    snprintf(frames, sizeof frames, "%d", m->frames);
    snprintf(grid, sizeof grid, "%lld,%lld,%lld", (long long)m->grid[0], (long long)m->grid[1], (long long)m->grid[2]);
    const struct {
        const char *key, *value;
    } meta[] = {{"model", m->model},     {"model_sha256", m->sha256}, {"precision", m->precision}, {"frames", frames},
                {"grid", grid},          {"pool", m->pool},           {"transform", m->transform}, {"device", m->device},
                {"version", m->version}, {"settings", m->settings},   {"failed", bad.text}};
    w.indent = -1;
    jw_open(&w, NULL, '{');
    jw_open(&w, "__metadata__", '{');
    for (size_t i = 0; i < sizeof meta / sizeof *meta; i++) jw_string(&w, meta[i].key, meta[i].value ? meta[i].value : "");
    jw_close(&w, '}');
    for (int i = 0; i < COLUMNS; i++) {
        offset[i + 1] = offset[i] + (i ? (uint64_t)rows * col[i].size : (uint64_t)cells);
        jw_open(&w, col[i].name, '{');
        jw_string(&w, "dtype", i ? col[i].type : m->store == T_F16 ? "F16" : "F32");
        jw_open(&w, "shape", '[');
        jw_int(&w, NULL, s->rows);
        if (!i && m->layered) jw_int(&w, NULL, m->per_row);
        if (!i) jw_int(&w, NULL, m->dim);
        jw_close(&w, ']');
        jw_open(&w, "data_offsets", '[');
        jw_int(&w, NULL, (int64_t)offset[i]), jw_int(&w, NULL, (int64_t)offset[i + 1]);
        jw_close(&w, ']');
        jw_close(&w, '}');
    }
    jw_close(&w, '}');
    size_t n = w.text ? strlen(w.text) : 0, size = 8 + (n + 7) / 8 * 8;
    if (w.failed || bad.failed || !(head = mem_alloc(size, 1))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the header of %s", path);
        goto done;
    }
    memset(head + 8, ' ', size - 8);
    memcpy(head + 8, w.text, n);
    for (int i = 0; i < 8; i++) head[i] = (unsigned char)((uint64_t)(size - 8) >> 8 * i & 255);
    for (int i = 0; i < COLUMNS; i++) offset[i] += size;
    rc = write_columns(path, m, s, head, size, COLUMNS, offset, err);
done:
    mem_free(head);
    jw_free(&w), jw_free(&bad);
    return rc;
}

int emb_write(const char *path, const emb_meta *m, const emb_source *s, jepa_err *err) {
    switch (emb_ending(path)) {
    case EMB_H5:
        return emb_h5_write(path, m, s, err);
    case EMB_NPY:
        return out_npy(path, m, s, err);
    case EMB_SAFETENSORS:
        return out_safetensors(path, m, s, err);
    default:
        return err_set(err, JEPA_E_USE, "%s: outputs end in .h5, .npy or .safetensors", path);
    }
}

int emb_check(const char *path, const char *settings, jepa_err *err) {
    struct stat st;
    char what[200], aside[1200];
    emb_in *in = NULL;
    jepa_err why = {0};
    const int how = emb_ending(path);
    if (!how) return err_set(err, JEPA_E_USE, "%s: outputs end in .h5, .npy or .safetensors", path);
    if (stat(path, &st)) return 0;
    const int begun = snprintf(aside, sizeof aside, "%s.part", path) < (int)sizeof aside && stat(aside, &st) == 0;
    if (how == EMB_NPY) /* killed between the last two steps: OUT.part says whether it is this job's */
        return begun ? 0
                     : err_set(err, JEPA_E_USE, "%s: exists already, and .npy does not say how it was made; remove it or choose another -o",
                               path);
    int rc = emb_in_open(&in, path, &why);
    if (rc < 0) {
        if (begun && how == EMB_H5 && rc == JEPA_E_IO) return 0; /* a killed job's, torn: made anew from OUT.part */
        return err_set(err, JEPA_E_USE, "%s; it exists already: remove it or choose another -o", why.text);
    }
    if (settings_differ(emb_in_settings(in), settings, what, sizeof what))
        rc = err_set(err, JEPA_E_USE, "%s: exists already with other settings (%s); remove it or choose another -o", path, what);
    else if (emb_in_complete(in))
        rc = 1;
    else if (!begun)
        rc = err_set(err, JEPA_E_USE, "%s: is unfinished, and %s to go on from is gone; remove it or choose another -o", path, aside);
    emb_in_close(&in);
    return rc;
}
