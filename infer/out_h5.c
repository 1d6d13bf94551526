/* out_h5.c: the one place that writes HDF5: an embedding job's rows, their paths and times, and what failed.
 *
 * Handles are closed in reverse through one list; the library's own printing is off while we work. */
#include "infer/infer.h"

#include <errno.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_IDS = 64, BLOCK_ROWS = 256 };

typedef struct h5 {
    hid_t file, text, id[MAX_IDS];
    int n, bad;
    const emb_meta *m;
    hid_t emb, path, clip, start, end, label, fpath, freason;
    int64_t rows, failures;
    const char *where;   /* what was being written when it failed */
} h5;

static hid_t keep(h5 *h, hid_t id, const char *where) {
    if (id < 0 || h->n == MAX_IDS) {
        if (!h->bad) h->where = where;
        h->bad = 1;
    } else h->id[h->n++] = id;
    return id;
}

static void close_all(h5 *h) {
    while (h->n) {
        hid_t id = h->id[--h->n];
        switch (H5Iget_type(id)) {
        case H5I_DATASET: H5Dclose(id); break;
        case H5I_DATASPACE: H5Sclose(id); break;
        case H5I_DATATYPE: H5Tclose(id); break;
        case H5I_GROUP: H5Gclose(id); break;
        case H5I_GENPROP_LST: H5Pclose(id); break;
        case H5I_ATTR: H5Aclose(id); break;
        default: break;
        }
    }
}

static void attr(h5 *h, const char *name, hid_t type, int n, const void *value) {
    hsize_t dim = (hsize_t)n;
    hid_t s = n ? H5Screate_simple(1, &dim, NULL) : H5Screate(H5S_SCALAR), a = H5Acreate2(h->file, name, type, s, H5P_DEFAULT, H5P_DEFAULT);
    if (a < 0 || H5Awrite(a, type, value) < 0) h->bad = 1, h->where = name;
    if (a >= 0) H5Aclose(a);
    if (s >= 0) H5Sclose(s);
}
static void attr_text(h5 *h, const char *name, const char *value) {
    const char *v = value ? value : "";
    attr(h, name, h->text, 0, &v);
}

/* a data set of n rows (further dimensions in dim), chunked where it is large */
static hid_t dataset(h5 *h, hid_t at, const char *name, hid_t type, int rank, hsize_t *dim) {
    hid_t s = keep(h, H5Screate_simple(rank, dim, NULL), name), c = keep(h, H5Pcreate(H5P_DATASET_CREATE), name);
    if (h->bad) return -1;
    if (rank > 1 && dim[0]) {
        hsize_t chunk[3] = {1, dim[1], rank > 2 ? dim[2] : 1};
        size_t row = H5Tget_size(type) * (size_t)(chunk[1] * chunk[2]);
        while (chunk[0] < dim[0] && chunk[0] * row < 1 << 20) chunk[0] *= 2;
        if (chunk[0] > dim[0]) chunk[0] = dim[0];
        while (row * chunk[0] > (size_t)1 << 31 && chunk[1] > 1) chunk[1] = (chunk[1] + 1) / 2, row = H5Tget_size(type) * (size_t)(chunk[1] * chunk[2]);
        if (H5Pset_chunk(c, rank, chunk) < 0) h->bad = 1;
    }
    return keep(h, H5Dcreate2(at, name, type, s, H5P_DEFAULT, c, H5P_DEFAULT), name);
}

static int put(h5 *h, hid_t d, hid_t memtype, int64_t row, int rank, const hsize_t *size, const void *value, const char *where) {
    hsize_t from[3] = {(hsize_t)row, 0, 0}, count[3] = {1, size ? size[0] : 1, size ? size[1] : 1};
    hid_t s = H5Dget_space(d), ms = H5Screate_simple(rank, count, NULL);
    int bad = s < 0 || ms < 0 || H5Sselect_hyperslab(s, H5S_SELECT_SET, from, NULL, count, NULL) < 0 || H5Dwrite(d, memtype, ms, s, H5P_DEFAULT, value) < 0;
    if (s >= 0) H5Sclose(s);
    if (ms >= 0) H5Sclose(ms);
    if (bad) h->bad = 1, h->where = where;
    return bad ? JEPA_E_IO : 0;
}

static int add_row(void *ctx, const part_row *r) {
    h5 *h = ctx;
    if (r->reason) {
        if (put(h, h->fpath, h->text, h->failures, 1, NULL, &r->path, "failed/path") || put(h, h->freason, h->text, h->failures, 1, NULL, &r->reason, "failed/reason"))
            return JEPA_E_IO;
        h->failures++;
        return 0;
    }
    const hsize_t flat[2] = {(hsize_t)h->m->dim, 1}, deep[2] = {(hsize_t)h->m->per_row, (hsize_t)h->m->dim};
    if (put(h, h->emb, H5T_NATIVE_FLOAT, h->rows, h->m->layered ? 3 : 2, h->m->layered ? deep : flat, r->data, "embeddings") ||
        put(h, h->path, h->text, h->rows, 1, NULL, &r->path, "path") || put(h, h->clip, H5T_NATIVE_INT32, h->rows, 1, NULL, &r->clip, "clip") ||
        put(h, h->start, H5T_NATIVE_DOUBLE, h->rows, 1, NULL, &r->start, "start_seconds") ||
        put(h, h->end, H5T_NATIVE_DOUBLE, h->rows, 1, NULL, &r->end, "end_seconds") || put(h, h->label, H5T_NATIVE_INT64, h->rows, 1, NULL, &r->label, "label"))
        return JEPA_E_IO;
    h->rows++;
    return 0;
}

static hid_t half_type(h5 *h) { /* IEEE binary16: HDF5 1.10 has no name for it */
    hid_t t = keep(h, H5Tcopy(H5T_IEEE_F32LE), "f16");
    if (t < 0 || H5Tset_fields(t, 15, 10, 5, 0, 10) < 0 || H5Tset_size(t, 2) < 0 || H5Tset_ebias(t, 15) < 0) h->bad = 1;
    return t;
}

int emb_write_h5(const char *path, const emb_meta *m, part *p, jepa_err *err) {
    char aside[1200];
    h5 h = {.m = m, .file = -1, .where = "file"};
    H5E_auto2_t print;
    void *print_ctx;
    if (snprintf(aside, sizeof aside, "%s.tmp", path) >= (int)sizeof aside) return err_set(err, JEPA_E_USE, "output name too long");
    H5Eget_auto2(H5E_DEFAULT, &print, &print_ctx);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    int rc = 0;
    errno = 0;
    h.file = H5Fcreate(aside, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    if (h.file < 0) {
        rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be written: %s; %s.part is kept", path, strerror(errno ? errno : EIO), path);
        goto done;
    }
    h.text = keep(&h, H5Tcopy(H5T_C_S1), "text");
    if (h.text < 0 || H5Tset_size(h.text, H5T_VARIABLE) < 0 || H5Tset_cset(h.text, H5T_CSET_UTF8) < 0) h.bad = 1;
    hsize_t n = (hsize_t)part_rows(p), bad = (hsize_t)part_failures(p), dim[3] = {n, (hsize_t)(m->layered ? m->per_row : m->dim), (hsize_t)m->dim};
    hid_t type = m->store == T_F16 ? half_type(&h) : H5T_IEEE_F32LE;
    h.emb = dataset(&h, h.file, "embeddings", type, m->layered ? 3 : 2, dim);
    h.path = dataset(&h, h.file, "path", h.text, 1, &n);
    h.clip = dataset(&h, h.file, "clip", H5T_STD_I32LE, 1, &n);
    h.start = dataset(&h, h.file, "start_seconds", H5T_IEEE_F64LE, 1, &n);
    h.end = dataset(&h, h.file, "end_seconds", H5T_IEEE_F64LE, 1, &n);
    h.label = dataset(&h, h.file, "label", H5T_STD_I64LE, 1, &n);
    hid_t g = keep(&h, H5Gcreate2(h.file, "failed", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), "failed");
    h.fpath = dataset(&h, g, "path", h.text, 1, &bad);
    h.freason = dataset(&h, g, "reason", h.text, 1, &bad);
    if (!h.bad && (rc = part_each(p, add_row, &h, err)) < 0 && !h.bad) goto done;
    if (!h.bad) {
        const int64_t grid[3] = {m->grid[0], m->grid[1], m->grid[2]};
        const int yes = 1;
        attr_text(&h, "model", m->model), attr_text(&h, "model_sha256", m->sha256), attr_text(&h, "precision", m->precision);
        attr_text(&h, "pool", m->pool), attr_text(&h, "version", m->version), attr_text(&h, "settings", m->settings);
        attr_text(&h, "transform", m->transform), attr_text(&h, "device", m->device);
        attr(&h, "frames", H5T_NATIVE_INT, 0, &m->frames), attr(&h, "grid", H5T_NATIVE_INT64, 3, grid), attr(&h, "complete", H5T_NATIVE_INT, 0, &yes);
    }
    close_all(&h);
    if (H5Fclose(h.file) < 0) h.bad = 1, h.where = "file";
    h.file = -1;
    if (h.bad) rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be written (%s): %s; %s.part is kept", path, h.where, strerror(errno ? errno : EIO), path);
    else if (rename(aside, path)) rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be written: %s", path, strerror(errno));
    else dir_sync(path);
done:
    close_all(&h);
    if (h.file >= 0) H5Fclose(h.file);
    if (rc) unlink(aside);
    H5Eset_auto2(H5E_DEFAULT, print, print_ctx);
    return rc;
}

int emb_check_h5(const char *path, char **settings, jepa_err *err) {
    *settings = NULL;
    H5E_auto2_t print;
    void *print_ctx;
    H5Eget_auto2(H5E_DEFAULT, &print, &print_ctx);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), a = f >= 0 && H5Aexists(f, "settings") > 0 ? H5Aopen(f, "settings", H5P_DEFAULT) : -1;
    hid_t t = a >= 0 ? H5Aget_type(a) : -1;
    char *text = NULL;
    int rc = 0;
    if (f < 0) rc = err_set_at(err, JEPA_E_USE, path, -1, "%s: exists already and is not HDF5; remove it or choose another -o", path);
    if (t >= 0 && H5Tget_class(t) == H5T_STRING && H5Tis_variable_str(t) > 0 && H5Aread(a, t, &text) >= 0 && text) {
        size_t n = strlen(text);
        if ((*settings = mem_alloc(n + 1, 1))) memcpy(*settings, text, n);
        H5free_memory(text);
    }
    if (t >= 0) H5Tclose(t);
    if (a >= 0) H5Aclose(a);
    if (f >= 0) H5Fclose(f);
    H5Eset_auto2(H5E_DEFAULT, print, print_ctx);
    return rc;
}
