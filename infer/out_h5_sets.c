/* out_h5_sets.c: see h5_sets.h. */
#include "infer/h5_sets.h"
#include "video/h5.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MOST_SETS = 24, CHUNK_BYTES = 1 << 20 };
struct h5_sets {
    hid_t file, text;
    int broken; /* a write failed: HDF5 1.10 crashes when it is asked to close such a file, so its handles are let go */
    char path[1100], aside[1112];
    int n;
    struct one {
        hid_t id, mem;
        int rank;
        hsize_t dim[8];
        hsize_t rows;
        char name[48];
    } set[MOST_SETS];
};

static int failed(h5_sets *h, const char *what, jepa_err *err) {
    h->broken = 1;
    return err_set_at(err, JEPA_E_IO, h->path, -1, "%s: %s cannot be written%s%s", h->path, what, errno ? ": " : "",
                      errno ? strerror(errno) : "");
}

int h5_sets_open(h5_sets **out, const char *path, jepa_err *err) {
    *out = NULL;
    h5_sets *h = mem_alloc(1, sizeof *h);
    if (!h) return err_set(err, JEPA_E_MEMORY, "no memory to write %s", path);
    h->file = h->text = -1;
    if (snprintf(h->path, sizeof h->path, "%s", path) >= (int)sizeof h->path) {
        mem_free(h);
        return err_set(err, JEPA_E_USE, "output name too long");
    }
    snprintf(h->aside, sizeof h->aside, "%s.tmp", path);
    h5_lock();
    errno = 0;
    int fd = open(h->aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), rc = 0; /* gives the reason that HDF5 would keep to itself */
    if (fd >= 0) close(fd);
    if (fd < 0 || (h->text = H5Tcopy(H5T_C_S1)) < 0 || H5Tset_size(h->text, H5T_VARIABLE) < 0 || H5Tset_cset(h->text, H5T_CSET_UTF8) < 0 ||
        (h->file = H5Fcreate(h->aside, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)) < 0)
        rc = failed(h, "the file", err);
    h5_unlock();
    if (rc < 0) {
        h5_sets_abort(&h);
        return rc;
    }
    *out = h;
    return 0;
}

int h5_sets_new(h5_sets *h, const char *name, dtype type, int rank, const int64_t *dim, jepa_err *err) {
    if (h->n == MOST_SETS || rank < 0 || rank > 6) return err_set(err, JEPA_E_USE, "%s: too many data sets", h->path);
    struct one *s = &h->set[h->n];
    hsize_t now[8] = {0}, most[8] = {H5S_UNLIMITED}, chunk[8] = {1};
    size_t row = type == T_NONE ? 32 : dtype_size(type);
    for (int i = 0; i < rank; i++) {
        if (dim[i] < 1) return err_set(err, JEPA_E_USE, "%s: %s with a side of %lld", h->path, name, (long long)dim[i]);
        now[i + 1] = most[i + 1] = chunk[i + 1] = s->dim[i] = (hsize_t)dim[i];
        row *= (size_t)dim[i];
    }
    if (row < CHUNK_BYTES) chunk[0] = CHUNK_BYTES / 4 / row ? CHUNK_BYTES / 4 / row : 1;
    for (int i = 1; i <= rank && row > (size_t)1 << 31; i++) { /* a chunk has at most 4 GiB */
        row /= chunk[i];
        chunk[i] = 1;
    }
    s->rank = rank;
    snprintf(s->name, sizeof s->name, "%s", name);
    h5_lock();
    s->mem = type == T_NONE ? h->text : type == T_F32 ? H5T_NATIVE_FLOAT : type == T_F64 ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64;
    hid_t space = H5Screate_simple(rank + 1, now, most), plist = H5Pcreate(H5P_DATASET_CREATE);
    errno = 0;
    s->id = space >= 0 && plist >= 0 && H5Pset_chunk(plist, rank + 1, chunk) >= 0
                ? H5Dcreate2(h->file, name, s->mem, space, H5P_DEFAULT, plist, H5P_DEFAULT)
                : -1;
    if (space >= 0) H5Sclose(space);
    if (plist >= 0) H5Pclose(plist);
    const int rc = s->id < 0 ? failed(h, name, err) : h->n++;
    h5_unlock();
    return rc;
}

int h5_sets_add(h5_sets *h, int set, const void *rows, int64_t n, jepa_err *err) {
    struct one *s = &h->set[set];
    hsize_t to[8] = {s->rows + (hsize_t)n}, at[8] = {s->rows}, count[8] = {(hsize_t)n};
    for (int i = 0; i < s->rank; i++) to[i + 1] = count[i + 1] = s->dim[i];
    h5_lock();
    errno = 0;
    hid_t there = -1, here = -1;
    int ok = H5Dset_extent(s->id, to) >= 0 && (there = H5Dget_space(s->id)) >= 0 &&
             H5Sselect_hyperslab(there, H5S_SELECT_SET, at, NULL, count, NULL) >= 0 &&
             (here = H5Screate_simple(s->rank + 1, count, NULL)) >= 0 && H5Dwrite(s->id, s->mem, here, there, H5P_DEFAULT, rows) >= 0;
    if (here >= 0) H5Sclose(here);
    if (there >= 0) H5Sclose(there);
    s->rows += (hsize_t)n;
    const int rc = ok ? 0 : failed(h, s->name, err);
    h5_unlock();
    return rc;
}

static int attribute(h5_sets *h, const char *name, int text, const void *value, int n, jepa_err *err) {
    hsize_t dim = (hsize_t)n;
    h5_lock();
    const hid_t type = text ? h->text : H5T_NATIVE_INT64;
    errno = 0;
    hid_t s = n ? H5Screate_simple(1, &dim, NULL) : H5Screate(H5S_SCALAR),
          a = s < 0 ? -1 : H5Acreate2(h->file, name, type, s, H5P_DEFAULT, H5P_DEFAULT);
    int ok = a >= 0 && H5Awrite(a, type, value) >= 0;
    if (a >= 0) H5Aclose(a);
    if (s >= 0) H5Sclose(s);
    const int rc = ok ? 0 : failed(h, name, err);
    h5_unlock();
    return rc;
}
int h5_sets_text(h5_sets *h, const char *name, const char *value, jepa_err *err) {
    const char *v = value ? value : "";
    return attribute(h, name, 1, &v, 0, err);
}
int h5_sets_numbers(h5_sets *h, const char *name, const int64_t *value, int n, jepa_err *err) {
    return attribute(h, name, 0, value, n == 1 ? 0 : n, err);
}

static int shut(h5_sets *h) {
    int ok = !h->broken && (h->file < 0 || H5Fflush(h->file, H5F_SCOPE_GLOBAL) >= 0);
    for (int i = 0; i < h->n; i++) ok = ok && H5Dclose(h->set[i].id) >= 0;
    h->n = 0;
    if (ok && h->text >= 0) H5Tclose(h->text);
    ok = ok && (h->file < 0 || H5Fclose(h->file) >= 0);
    h->text = h->file = -1;
    h->broken |= !ok;
    return ok;
}

int h5_sets_finish(h5_sets **hp, jepa_err *err) {
    h5_sets *h = *hp;
    const int64_t one = 1;
    int rc = h5_sets_numbers(h, "complete", &one, 1, err), fd = -1;
    h5_lock();
    errno = 0;
    if (!rc && (!shut(h) || (fd = open(h->aside, O_RDONLY | O_CLOEXEC)) < 0 || fsync(fd) < 0 || rename(h->aside, h->path) < 0))
        rc = failed(h, "the file", err);
    if (fd >= 0) close(fd);
    h5_unlock();
    if (rc < 0)
        h5_sets_abort(hp);
    else
        mem_free(h), *hp = NULL;
    return rc;
}

void h5_sets_abort(h5_sets **hp) {
    h5_sets *h = hp ? *hp : NULL;
    if (!h) return;
    h5_lock();
    shut(h);
    h5_unlock();
    unlink(h->aside);
    mem_free(h);
    *hp = NULL;
}
