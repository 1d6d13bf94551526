/* merge_h5.c: an .h5 output read again, row by row: its small columns a block at a time, its rows one at a time. */
#include "infer/merge.h"
#include "video/h5.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 256, MOST_SETTINGS = 1 << 20 };
enum { C_EMB, C_PATH, C_CLIP, C_START, C_END, C_LABEL, C_ITEM, C_FPATH, C_FREASON, C_FITEM, C_FLINE, COLUMNS };
static const char *const names[COLUMNS] = {"embeddings", "path",        "clip",          "start_seconds", "end_seconds", "label",
                                           "item",       "failed/path", "failed/reason", "failed/item",   "failed/line"};
enum { T_MODEL, T_SHA, T_PRECISION, T_POOL, T_VERSION, T_SETTINGS, T_TRANSFORM, T_DEVICE, TEXTS };
static const char *const texts[TEXTS] = {"model", "model_sha256", "precision", "pool", "version", "settings", "transform", "device"};

typedef struct cells {
    int64_t from, n;
    char *path[BLOCK], *reason[BLOCK];
    int32_t clip[BLOCK];
    double start[BLOCK], end[BLOCK];
    int64_t label[BLOCK], item[BLOCK];
} cells;
struct h5_in {
    hid_t file, text, id[COLUMNS];
    char *path;
    int rank;
    hsize_t dim[3];
    int64_t rows, failures;
    cells row, bad;
};

static int io(const h5_in *h, const char *what, jepa_err *err) {
    return err_set_at(err, JEPA_E_IO, h->path, -1, "%s: cannot be read (%s): damaged", h->path, what);
}

static void drop(cells *b) {
    for (int64_t i = 0; i < b->n; i++) {
        if (b->path[i]) H5free_memory(b->path[i]);
        if (b->reason[i]) H5free_memory(b->reason[i]);
        b->path[i] = b->reason[i] = NULL;
    }
    b->n = 0;
}

void h5_in_close(h5_in **hp) {
    h5_in *h = hp ? *hp : NULL;
    if (!h) return;
    h5_lock();
    drop(&h->row), drop(&h->bad);
    for (int i = 0; i < COLUMNS; i++)
        if (h->id[i] >= 0) H5Dclose(h->id[i]);
    if (h->text >= 0) H5Tclose(h->text);
    if (h->file >= 0) H5Fclose(h->file);
    h5_unlock();
    mem_free(h->path);
    mem_free(h);
    *hp = NULL;
}

/* ---- attributes ---- */

static int number(hid_t file, const char *name, hid_t type, int n, void *value) {
    hid_t a = H5Aexists(file, name) > 0 ? H5Aopen(file, name, H5P_DEFAULT) : -1, s = a >= 0 ? H5Aget_space(a) : -1,
          t = a >= 0 ? H5Aget_type(a) : -1;
    int ok = s >= 0 && t >= 0 && H5Tget_class(t) == H5T_INTEGER && H5Sget_simple_extent_npoints(s) == n && H5Aread(a, type, value) >= 0;
    if (t >= 0) H5Tclose(t);
    if (s >= 0) H5Sclose(s);
    if (a >= 0) H5Aclose(a);
    return ok;
}
/* The library's memory: H5free_memory. */
static char *text_of(const h5_in *h, const char *name) {
    char *v = NULL;
    hid_t a = H5Aexists(h->file, name) > 0 ? H5Aopen(h->file, name, H5P_DEFAULT) : -1, s = a >= 0 ? H5Aget_space(a) : -1,
          t = a >= 0 ? H5Aget_type(a) : -1;
    if (s < 0 || t < 0 || H5Tget_class(t) != H5T_STRING || H5Tis_variable_str(t) <= 0 || H5Sget_simple_extent_npoints(s) != 1 ||
        H5Aread(a, h->text, &v) < 0)
        v = NULL;
    if (t >= 0) H5Tclose(t);
    if (s >= 0) H5Sclose(s);
    if (a >= 0) H5Aclose(a);
    return v;
}

static int describe(h5_in *h, h5_in_info *info, jepa_err *err) {
    char *v[TEXTS] = {0}, *to;
    size_t size = 0;
    int rc = 0;
    int64_t grid[3] = {0};
    if (!number(h->file, "complete", H5T_NATIVE_INT, 1, &info->complete) ||
        !number(h->file, "frames", H5T_NATIVE_INT, 1, &info->m.frames) || !number(h->file, "grid", H5T_NATIVE_INT64, 3, grid))
        return err_set_at(err, JEPA_E_USE, h->path, -1, "%s: is not an output of this program's embed", h->path);
    for (int i = 0; i < TEXTS && !rc; i++) {
        v[i] = text_of(h, texts[i]);
        if (!v[i] || strlen(v[i]) > MOST_SETTINGS)
            rc = err_set_at(err, JEPA_E_USE, h->path, -1, "%s: is not an output of this program's embed (no %s)", h->path, texts[i]);
        else
            size += strlen(v[i]) + 1;
    }
    if (!rc && !(to = info->text = mem_alloc(size, 1))) rc = err_set(err, JEPA_E_MEMORY, "no memory to read %s", h->path);
    const char **const place[TEXTS] = {&info->m.model,   &info->m.sha256,   &info->m.precision, &info->m.pool,
                                       &info->m.version, &info->m.settings, &info->m.transform, &info->m.device};
    for (int i = 0; i < TEXTS; i++) {
        if (!rc) memcpy(to, v[i], strlen(v[i]) + 1), *place[i] = to, to += strlen(to) + 1;
        if (v[i]) H5free_memory(v[i]);
    }
    memcpy(info->m.grid, grid, sizeof grid);
    return rc;
}

/* ---- columns ---- */

static int column(h5_in *h, int i, int64_t *rows, emb_meta *m, jepa_err *err) {
    static const H5T_class_t kind[COLUMNS] = {H5T_FLOAT,   H5T_STRING, H5T_INTEGER, H5T_FLOAT,   H5T_FLOAT,  H5T_INTEGER,
                                              H5T_INTEGER, H5T_STRING, H5T_STRING,  H5T_INTEGER, H5T_INTEGER};
    hsize_t dim[H5S_MAX_RANK] = {0};
    if (H5Lexists(h->file, i >= C_FPATH ? "failed" : names[i], H5P_DEFAULT) <= 0 || H5Lexists(h->file, names[i], H5P_DEFAULT) <= 0)
        return err_set_at(err, JEPA_E_USE, h->path, -1, "%s: has no data set %s: not this program's, or an older version's", h->path,
                          names[i]);
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS); /* rows are read once, in order: a chunk or two, or many inputs need much memory */
    if (access >= 0) H5Pset_chunk_cache(access, 11, 1 << 18, 1);
    h->id[i] = H5Dopen2(h->file, names[i], access >= 0 ? access : H5P_DEFAULT);
    if (access >= 0) H5Pclose(access);
    if (h->id[i] < 0) return io(h, names[i], err);
    hid_t s = H5Dget_space(h->id[i]), t = H5Dget_type(h->id[i]);
    const int rank = s >= 0 ? H5Sget_simple_extent_ndims(s) : -1, want = i == C_EMB ? (rank == 3 ? 3 : 2) : 1;
    int ok = rank == want && t >= 0 && H5Tget_class(t) == kind[i] && H5Sget_simple_extent_dims(s, dim, NULL) >= 0 &&
             (kind[i] != H5T_STRING || H5Tis_variable_str(t) > 0) && dim[0] <= INT64_MAX / 2;
    if (ok && i == C_EMB) {
        ok = dim[1] >= 1 && dim[1] <= INT32_MAX && (rank == 2 || (dim[2] >= 1 && dim[2] <= INT32_MAX / dim[1]));
        h->rank = rank;
        memcpy(h->dim, dim, sizeof h->dim);
        m->layered = rank == 3;
        m->per_row = rank == 3 ? (int64_t)dim[1] : 1;
        m->dim = (int64_t)dim[rank - 1];
        m->store = H5Tget_size(t) == 2 ? T_F16 : T_F32;
    }
    if (t >= 0) H5Tclose(t);
    if (s >= 0) H5Sclose(s);
    if (!ok) return io(h, names[i], err);
    if (*rows >= 0 && (int64_t)dim[0] != *rows)
        return err_set_at(err, JEPA_E_IO, h->path, -1, "%s: %s has %lld rows, others %lld: damaged", h->path, names[i], (long long)dim[0],
                          (long long)*rows);
    *rows = (int64_t)dim[0];
    return 0;
}

int h5_in_open(h5_in **out, const char *path, h5_in_info *info, jepa_err *err) {
    h5_in *h = *out = mem_alloc(1, sizeof *h);
    const size_t n = strlen(path) + 1;
    if (!h || !(h->path = mem_alloc(n, 1))) {
        mem_free(h);
        *out = NULL;
        return err_set(err, JEPA_E_MEMORY, "no memory to read %s", path);
    }
    memcpy(h->path, path, n);
    h->file = h->text = -1;
    for (int i = 0; i < COLUMNS; i++) h->id[i] = -1;
    int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC); /* gives the reason that HDF5 would keep to itself */
    if (fd < 0)
        rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be opened: %s", path, strerror(errno));
    else
        close(fd);
    if (rc < 0) {
        h5_in_close(out);
        return rc;
    }
    h5_lock();
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
#if H5_VERSION_GE(1, 10, 7)
    if (access >= 0) H5Pset_file_locking(access, 0, 1);
#endif
    h->file = H5Fopen(path, H5F_ACC_RDONLY, access);
    if (access >= 0) H5Pclose(access);
    if (h->file < 0)
        rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: is not HDF5, or damaged", path);
    else if ((h->text = H5Tcopy(H5T_C_S1)) < 0 || H5Tset_size(h->text, H5T_VARIABLE) < 0 || H5Tset_cset(h->text, H5T_CSET_UTF8) < 0)
        rc = io(h, "text", err);
    if (!rc) rc = describe(h, info, err);
    h->rows = h->failures = -1;
    for (int i = 0; i < COLUMNS && !rc && info->complete; i++) rc = column(h, i, i >= C_FPATH ? &h->failures : &h->rows, &info->m, err);
    info->rows = h->rows < 0 ? 0 : h->rows, info->failures = h->failures < 0 ? 0 : h->failures;
    h5_unlock();
    if (rc < 0) h5_in_close(out);
    return rc;
}

static int get(h5_in *h, int column, hid_t memory, int64_t from, int64_t n, void *to, jepa_err *err) {
    hsize_t at[3] = {(hsize_t)from, 0, 0}, count[3] = {(hsize_t)n, h->dim[1], h->dim[2]};
    const int rank = column == C_EMB ? h->rank : 1;
    hid_t there = H5Dget_space(h->id[column]), here = H5Screate_simple(rank, count, NULL);
    int ok = there >= 0 && here >= 0 && H5Sselect_hyperslab(there, H5S_SELECT_SET, at, NULL, count, NULL) >= 0 &&
             H5Dread(h->id[column], memory, here, there, H5P_DEFAULT, to) >= 0;
    if (here >= 0) H5Sclose(here);
    if (there >= 0) H5Sclose(there);
    return ok ? 0 : io(h, names[column], err);
}

static int fill(h5_in *h, cells *b, int64_t k, int64_t all, jepa_err *err) {
    const int bad = b == &h->bad;
    if (k >= b->from && k < b->from + b->n) return 0;
    drop(b);
    const int64_t from = k, n = all - k < BLOCK ? all - k : BLOCK;
    int rc = get(h, bad ? C_FPATH : C_PATH, h->text, from, n, b->path, err);
    b->from = from, b->n = n; /* from here on there may be texts to free */
    if (!rc) rc = get(h, bad ? C_FITEM : C_ITEM, H5T_NATIVE_INT64, from, n, b->item, err);
    if (!rc && bad) rc = get(h, C_FREASON, h->text, from, n, b->reason, err);
    if (!rc && bad) rc = get(h, C_FLINE, H5T_NATIVE_INT32, from, n, b->clip, err);
    if (!rc && !bad) rc = get(h, C_CLIP, H5T_NATIVE_INT32, from, n, b->clip, err);
    if (!rc && !bad) rc = get(h, C_START, H5T_NATIVE_DOUBLE, from, n, b->start, err);
    if (!rc && !bad) rc = get(h, C_END, H5T_NATIVE_DOUBLE, from, n, b->end, err);
    if (!rc && !bad) rc = get(h, C_LABEL, H5T_NATIVE_INT64, from, n, b->label, err);
    if (rc < 0) drop(b);
    return rc;
}

int h5_in_row(h5_in *h, int64_t k, float *data, part_row *r, jepa_err *err) {
    cells *b = &h->row;
    h5_lock();
    int rc = fill(h, b, k, h->rows, err);
    if (!rc && data) rc = get(h, C_EMB, H5T_NATIVE_FLOAT, k, 1, data, err);
    h5_unlock();
    const int64_t i = k - b->from;
    if (!rc)
        *r = (part_row){.item = b->item[i],
                        .clip = b->clip[i],
                        .start = b->start[i],
                        .end = b->end[i],
                        .label = b->label[i],
                        .path = b->path[i] ? b->path[i] : "",
                        .data = data};
    return rc;
}

int h5_in_failure(h5_in *h, int64_t k, part_row *r, jepa_err *err) {
    cells *b = &h->bad;
    h5_lock();
    int rc = fill(h, b, k, h->failures, err);
    h5_unlock();
    const int64_t i = k - b->from;
    if (!rc)
        *r = (part_row){.item = b->item[i],
                        .line = b->clip[i],
                        .label = -1,
                        .path = b->path[i] ? b->path[i] : "",
                        .reason = b->reason[i] && *b->reason[i] ? b->reason[i] : "unknown"};
    return rc;
}
