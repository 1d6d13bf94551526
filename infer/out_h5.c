/* out_h5.c: an embedding job's .h5, the one place that writes it: rows, their paths and times, and what failed; data sets grow row by row.
 *
 * The file is made aside with all attributes and (a job that goes on) the rows there are, and renamed: from then on it says what it is. It
 * is opened again without HDF5's locks, so that others can look in; they see what was last flushed. */
#include "infer/infer.h"
#include "video/h5.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 16, CHUNK_ROWS = 1024 };
enum { C_EMB, C_PATH, C_CLIP, C_START, C_END, C_LABEL, C_ITEM, C_FPATH, C_FREASON, C_FITEM, C_FLINE, COLUMNS };
static const char *const names[COLUMNS] = {"embeddings", "path",        "clip",          "start_seconds", "end_seconds", "label",
                                           "item",       "failed/path", "failed/reason", "failed/item",   "failed/line"};

struct emb_h5 {
    hid_t file, text, id[COLUMNS];
    hid_t small; /* transfers with a small buffer: the library clears one of 1 MiB for each text otherwise */
    char path[1100];
    emb_meta m; /* numbers only are used after opening */
    int64_t rows, failures;
    int broken; /* a write failed: HDF5 1.10 crashes when it is asked to close such a file, so its handles are let go, not closed */
};

static int failed(emb_h5 *h, const char *what, jepa_err *err) {
    const int e = errno;
    h->broken = 1;
    return err_set_at(err, JEPA_E_IO, h->path, -1, "%s: cannot be written (%s)%s%s", h->path, what, e ? ": " : "", e ? strerror(e) : "");
}

static int shut(emb_h5 *h) {
    int ok = !h->broken && (h->file < 0 || H5Fflush(h->file, H5F_SCOPE_GLOBAL) >= 0);
    for (int i = COLUMNS - 1; i >= 0; i--) {
        ok = ok && (h->id[i] < 0 || H5Dclose(h->id[i]) >= 0);
        h->id[i] = -1;
    }
    if (ok && h->text >= 0) H5Tclose(h->text);
    if (h->small >= 0) H5Pclose(h->small);
    ok = ok && (h->file < 0 || H5Fclose(h->file) >= 0);
    h->text = h->file = h->small = -1;
    h->broken |= !ok;
    return ok;
}

void emb_h5_close(emb_h5 **hp) {
    emb_h5 *h = hp ? *hp : NULL;
    if (!h) return;
    h5_lock();
    shut(h);
    h5_unlock();
    mem_free(h);
    *hp = NULL;
}

/* ---- making the file ---- */

static int attr(hid_t file, const char *name, hid_t type, int n, const void *value) {
    hsize_t dim = (hsize_t)n;
    hid_t s = n ? H5Screate_simple(1, &dim, NULL) : H5Screate(H5S_SCALAR),
          a = s < 0 ? -1 : H5Acreate2(file, name, type, s, H5P_DEFAULT, H5P_DEFAULT);
    int ok = a >= 0 && H5Awrite(a, type, value) >= 0;
    if (a >= 0) H5Aclose(a);
    if (s >= 0) H5Sclose(s);
    return ok;
}

static int attributes(emb_h5 *h, const emb_meta *m) {
    const struct {
        const char *name, *value;
    } texts[] = {{"model", m->model},     {"model_sha256", m->sha256}, {"precision", m->precision}, {"pool", m->pool},
                 {"version", m->version}, {"settings", m->settings},   {"transform", m->transform}, {"device", m->device}};
    const int64_t grid[3] = {m->grid[0], m->grid[1], m->grid[2]};
    const int no = 0;
    int ok = 1;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *v = texts[i].value ? texts[i].value : "";
        ok &= attr(h->file, texts[i].name, h->text, 0, &v);
    }
    return ok && attr(h->file, "frames", H5T_NATIVE_INT, 0, &m->frames) && attr(h->file, "grid", H5T_NATIVE_INT64, 3, grid) &&
           attr(h->file, "complete", H5T_NATIVE_INT, 0, &no);
}

static hid_t half_type(void) { /* IEEE binary16: HDF5 1.10 has no name for it */
    hid_t t = H5Tcopy(H5T_IEEE_F32LE);
    if (t >= 0 && (H5Tset_fields(t, 15, 10, 5, 0, 10) < 0 || H5Tset_size(t, 2) < 0 || H5Tset_ebias(t, 15) < 0)) H5Tclose(t), t = -1;
    return t;
}

/* expect: about so many rows will come. A file of few rows has small chunks. */
static hid_t column(emb_h5 *h, const char *name, hid_t type, int rank, const hsize_t *dim, int64_t expect, int gzip) {
    hsize_t now[3] = {0, dim[0], dim[1]}, most[3] = {H5S_UNLIMITED, dim[0], dim[1]}, chunk[3] = {1, dim[0], dim[1]};
    size_t row = H5Tget_size(type);
    for (int i = 1; i < rank; i++) row *= (size_t)chunk[i];
    while (chunk[0] < CHUNK_ROWS && chunk[0] * row < CHUNK_BYTES && (expect < 1 || chunk[0] < (hsize_t)expect)) chunk[0] *= 2;
    for (int i = 1; i < rank; i++) /* HDF5 has no chunk of 4 GiB */
        while (row > (size_t)1 << 30 && chunk[i] > 1)
            row = row / (size_t)chunk[i] * (size_t)((chunk[i] + 1) / 2), chunk[i] = (chunk[i] + 1) / 2;
    hid_t s = H5Screate_simple(rank, now, most), c = H5Pcreate(H5P_DATASET_CREATE), d = -1;
    if (s >= 0 && c >= 0 && H5Pset_chunk(c, rank, chunk) >= 0 &&
        (!gzip || (H5Pset_shuffle(c) >= 0 && H5Pset_deflate(c, (unsigned)gzip) >= 0)))
        d = H5Dcreate2(h->file, name, type, s, H5P_DEFAULT, c, H5P_DEFAULT);
    if (s >= 0) H5Sclose(s);
    if (c >= 0) H5Pclose(c);
    return d;
}

static int columns(emb_h5 *h, const emb_meta *m, int64_t expect, const char **what) {
    const hsize_t dim[2] = {(hsize_t)(m->layered ? m->per_row : m->dim), (hsize_t)m->dim}, none[2] = {1, 1};
    hid_t emb = m->store == T_F16 ? half_type() : H5Tcopy(H5T_IEEE_F32LE),
          g = H5Gcreate2(h->file, "failed", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t type[COLUMNS] = {emb,           h->text, H5T_STD_I32LE, H5T_IEEE_F64LE, H5T_IEEE_F64LE, H5T_STD_I64LE,
                                 H5T_STD_I64LE, h->text, h->text,       H5T_STD_I64LE,  H5T_STD_I32LE};
    int ok = emb >= 0 && g >= 0;
    *what = "failed";
    for (int i = 0; i < COLUMNS && ok; i++) {
        const int bad = i >= C_FPATH;
        *what = names[i];
        h->id[i] = column(h, names[i], type[i], i == C_EMB ? m->layered ? 3 : 2 : 1, i == C_EMB ? dim : none, bad ? 16 : expect,
                          i == C_EMB ? m->gzip : 0);
        ok = h->id[i] >= 0;
    }
    if (g >= 0) H5Gclose(g);
    if (emb >= 0) H5Tclose(emb);
    return ok;
}

static int text_type(emb_h5 *h) {
    h->text = H5Tcopy(H5T_C_S1);
    h->small = H5Pcreate(H5P_DATASET_XFER);
    return h->small >= 0 && H5Pset_buffer(h->small, 4096, NULL, NULL) >= 0 && h->text >= 0 && H5Tset_size(h->text, H5T_VARIABLE) >= 0 &&
           H5Tset_cset(h->text, H5T_CSET_UTF8) >= 0;
}

static hid_t unlocked(void) {
    hid_t a = H5Pcreate(H5P_FILE_ACCESS);
#if H5_VERSION_GE(1, 10, 7)
    if (a >= 0) H5Pset_file_locking(a, 0, 1);
#endif
    return a;
}

static int make(emb_h5 *h, const char *aside, const emb_meta *m, int64_t expect, jepa_err *err) {
    const char *what = "file";
    hid_t access = unlocked();
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666); /* gives the reason that HDF5 would keep to itself */
    if (fd >= 0) close(fd);
    int ok = fd >= 0 && access >= 0 && (h->file = H5Fcreate(aside, H5F_ACC_TRUNC, H5P_DEFAULT, access)) >= 0 && text_type(h) &&
             columns(h, m, expect, &what) && attributes(h, m);
    if (access >= 0) H5Pclose(access);
    return ok ? 0 : failed(h, what, err);
}

static int open_again(emb_h5 *h, jepa_err *err) {
    hid_t access = unlocked();
    int ok = (h->file = H5Fopen(h->path, H5F_ACC_RDWR, access)) >= 0 && text_type(h);
    for (int i = 0; i < COLUMNS && ok; i++) ok = (h->id[i] = H5Dopen2(h->file, names[i], H5P_DEFAULT)) >= 0;
    if (access >= 0) H5Pclose(access);
    return ok ? 0 : failed(h, "file", err);
}

/* ---- rows ---- */

static int put(emb_h5 *h, int column, hid_t memory, int64_t row, const void *value) {
    const int rank = column == C_EMB && h->m.layered ? 3 : column == C_EMB ? 2 : 1;
    const hsize_t wide = (hsize_t)(h->m.layered ? h->m.per_row : h->m.dim), deep = (hsize_t)h->m.dim;
    hsize_t to[3] = {(hsize_t)row + 1, wide, deep}, at[3] = {(hsize_t)row, 0, 0}, count[3] = {1, wide, deep};
    hid_t d = h->id[column], there = -1, here = -1;
    int ok = H5Dset_extent(d, to) >= 0 && (there = H5Dget_space(d)) >= 0 &&
             H5Sselect_hyperslab(there, H5S_SELECT_SET, at, NULL, count, NULL) >= 0 && (here = H5Screate_simple(rank, count, NULL)) >= 0 &&
             H5Dwrite(d, memory, here, there, column == C_EMB ? H5P_DEFAULT : h->small, value) >= 0;
    if (here >= 0) H5Sclose(here);
    if (there >= 0) H5Sclose(there);
    return ok;
}

int emb_h5_add(emb_h5 *h, const part_row *r, jepa_err *err) {
    const char *path = r->path ? r->path : "";
    h5_lock(); /* the names of types are calls of the library too */
    const struct {
        int column;
        hid_t memory;
        const void *value;
    } row[] = {{C_EMB, H5T_NATIVE_FLOAT, r->data},   {C_PATH, h->text, &path},
               {C_CLIP, H5T_NATIVE_INT32, &r->clip}, {C_START, H5T_NATIVE_DOUBLE, &r->start},
               {C_END, H5T_NATIVE_DOUBLE, &r->end},  {C_LABEL, H5T_NATIVE_INT64, &r->label},
               {C_ITEM, H5T_NATIVE_INT64, &r->item}},
      bad[] = {{C_FPATH, h->text, &path},
               {C_FREASON, h->text, &r->reason},
               {C_FITEM, H5T_NATIVE_INT64, &r->item},
               {C_FLINE, H5T_NATIVE_INT32, &r->line}};
    const size_t n = r->reason ? sizeof bad / sizeof *bad : sizeof row / sizeof *row;
    int rc = 0;
    errno = 0;
    if (fault_point("h5.add")) errno = ENOSPC, rc = failed(h, "row", err);
    for (size_t i = 0; i < n && !rc; i++)
        if (!(r->reason ? put(h, bad[i].column, bad[i].memory, h->failures, bad[i].value)
                        : put(h, row[i].column, row[i].memory, h->rows, row[i].value)))
            rc = failed(h, names[r->reason ? bad[i].column : row[i].column], err);
    h5_unlock();
    if (!rc) ++*(r->reason ? &h->failures : &h->rows);
    return rc;
}
static int add_row(void *ctx, const part_row *r, jepa_err *err) { return emb_h5_add(ctx, r, err); }

int emb_h5_flush(emb_h5 *h, jepa_err *err) {
    h5_lock();
    errno = 0;
    int rc = H5Fflush(h->file, H5F_SCOPE_GLOBAL) < 0 ? failed(h, "flush", err) : 0;
    h5_unlock();
    return rc;
}

/* ---- opening and finishing ---- */

/* A file aside with its attributes and the rows of `first`. */
static int begin(emb_h5 **out, const char *path, char *aside, size_t size, const emb_meta *m, const emb_source *first, int64_t rows,
                 jepa_err *err) {
    emb_h5 *h = *out = mem_alloc(1, sizeof *h);
    if (!h) return err_set(err, JEPA_E_MEMORY, "no memory to write %s", path);
    h->file = h->text = h->small = -1;
    for (int i = 0; i < COLUMNS; i++) h->id[i] = -1;
    h->m = *m;
    aside[0] = 0;
    if (snprintf(h->path, sizeof h->path, "%s", path) >= (int)sizeof h->path) return err_set(err, JEPA_E_USE, "output name too long");
    snprintf(aside, size, "%s.tmp", path);
    h5_lock();
    errno = 0;
    int rc = make(h, aside, m, rows, err);
    h5_unlock();
    return rc < 0 || !first ? rc : first->each(first->ctx, 0, add_row, h, err);
}

/* The rows first, then `complete`: a file that says so is. */
static int say_complete(emb_h5 *h) {
    const int yes = 1;
    hid_t a = H5Fflush(h->file, H5F_SCOPE_GLOBAL) < 0 ? -1 : H5Aopen(h->file, "complete", H5P_DEFAULT);
    int ok = a >= 0 && H5Awrite(a, H5T_NATIVE_INT, &yes) >= 0;
    if (a >= 0) H5Aclose(a);
    return ok;
}
static int shut_and_sync(emb_h5 *h, const char *path) {
    int ok = shut(h), fd = ok ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    return ok;
}

int emb_h5_open(emb_h5 **out, const char *path, const emb_meta *m, const emb_source *first, int64_t rows, jepa_err *err) {
    char aside[1112];
    int rc = begin(out, path, aside, sizeof aside, m, first, rows, err);
    if (rc == 0) {
        emb_h5 *h = *out;
        h5_lock();
        errno = 0;
        rc = !shut(h) || rename(aside, path) ? failed(h, "file", err) : open_again(h, err);
        h5_unlock();
    }
    if (rc < 0 && *out && aside[0]) unlink(aside);
    if (rc < 0) emb_h5_close(out);
    return rc;
}

int emb_h5_write(const char *path, const emb_meta *m, const emb_source *s, jepa_err *err) {
    char aside[1112];
    emb_h5 *h = NULL;
    int rc = begin(&h, path, aside, sizeof aside, m, s, s->rows, err);
    if (rc == 0) {
        h5_lock();
        errno = 0;
        if (!say_complete(h) || !shut_and_sync(h, aside) || rename(aside, path)) rc = failed(h, "file", err);
        h5_unlock();
    }
    if (rc < 0 && h && aside[0])
        unlink(aside);
    else
        dir_sync(path);
    emb_h5_close(&h);
    return rc;
}

int emb_h5_finish(emb_h5 **hp, jepa_err *err) {
    emb_h5 *h = *hp;
    int rc = 0;
    h5_lock();
    errno = 0;
    if (!say_complete(h) || !shut_and_sync(h, h->path)) rc = failed(h, "file", err);
    h5_unlock();
    if (!rc) dir_sync(h->path);
    emb_h5_close(hp);
    return rc;
}
