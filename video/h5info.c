/* h5info.c: see h5info.h. */
#include "video/h5info.h"
#include "video/h5.h"

#include <errno.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct walk { int (*fn)(void *, int, const char *, const char *); void *ctx; int n, stopped; } walk;
enum { MOST = 10000 };

int h5_is(const char *path) {
    unsigned char b[8];
    FILE *f = fopen(path, "re");
    int yes = f && fread(b, 1, 8, f) == 8 && !memcmp(b, "\x89HDF\r\n\x1a\n", 8);
    if (f) fclose(f);
    return yes;
}

static void type_name(hid_t t, char *out, size_t size) {
    size_t bytes = H5Tget_size(t);
    switch (H5Tget_class(t)) {
    case H5T_INTEGER: snprintf(out, size, "%c%zu", H5Tget_sign(t) == H5T_SGN_NONE ? 'u' : 'i', 8 * bytes); break;
    case H5T_FLOAT: snprintf(out, size, "f%zu", 8 * bytes); break;
    case H5T_STRING: snprintf(out, size, "text"); break;
    default: snprintf(out, size, "other"); break;
    }
}

static void shape_text(hid_t space, hid_t type, char *out, size_t size) {
    hsize_t dim[H5S_MAX_RANK];
    char t[24];
    int rank = H5Sget_simple_extent_dims(space, dim, NULL), k = snprintf(out, size, "[");
    type_name(type, t, sizeof t);
    for (int i = 0; i < rank && k > 0 && (size_t)k < size; i++) k += snprintf(out + k, size - (size_t)k, "%s%llu", i ? ", " : "", (unsigned long long)dim[i]);
    if (k > 0 && (size_t)k < size) snprintf(out + k, size - (size_t)k, "] %s", t);
}

static herr_t on_object(hid_t root, const char *name, const H5O_info_t *info, void *ctx) {
    walk *w = ctx;
    if (++w->n > MOST) return 1;
    if (info->type != H5O_TYPE_DATASET) return 0;
    char text[200] = "";
    hid_t d = H5Dopen2(root, name, H5P_DEFAULT), s = d >= 0 ? H5Dget_space(d) : -1, t = d >= 0 ? H5Dget_type(d) : -1;
    if (s >= 0 && t >= 0) shape_text(s, t, text, sizeof text);
    if (t >= 0) H5Tclose(t);
    if (s >= 0) H5Sclose(s);
    if (d >= 0) H5Dclose(d);
    return w->stopped = w->fn(w->ctx, 0, name, text[0] ? text : "unreadable");
}

static herr_t on_attribute(hid_t root, const char *name, const H5A_info_t *info, void *ctx) {
    walk *w = ctx;
    char text[400] = "", *str = NULL;
    double v;
    hid_t a = H5Aopen(root, name, H5P_DEFAULT), t = a >= 0 ? H5Aget_type(a) : -1, s = a >= 0 ? H5Aget_space(a) : -1;
    if (++w->n > MOST) w->stopped = 1;
    else if (s >= 0 && t >= 0) {
        int one = H5Sget_simple_extent_npoints(s) == 1;
        H5T_class_t k = H5Tget_class(t);
        if (one && k == H5T_STRING && H5Tis_variable_str(t) > 0) {
            if (H5Aread(a, t, &str) >= 0 && str) snprintf(text, sizeof text, "%s", str), H5free_memory(str);
        } else if (one && (k == H5T_INTEGER || k == H5T_FLOAT)) {
            if (H5Aread(a, H5T_NATIVE_DOUBLE, &v) >= 0) snprintf(text, sizeof text, "%.10g", v);
        } else shape_text(s, t, text, sizeof text);
    }
    if (s >= 0) H5Sclose(s);
    if (t >= 0) H5Tclose(t);
    if (a >= 0) H5Aclose(a);
    if (!w->stopped) w->stopped = w->fn(w->ctx, 1, name, text);
    return w->stopped;
}

int h5_describe(const char *path, int (*fn)(void *, int, const char *, const char *), void *ctx, jepa_err *err) {
    walk w = {.fn = fn, .ctx = ctx};
    if (access(path, R_OK)) return err_set_at(err, JEPA_E_IO, path, -1, "%s: %s", path, errno == ENOENT ? "not found" : strerror(errno));
    if (!h5_is(path)) return err_set_at(err, JEPA_E_INPUT, path, 0, "%s: is not HDF5", path);
    h5_lock(); /* fn is called under it: it must not come back here */
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
#if H5_VERSION_GE(1, 10, 7)
    H5Pset_file_locking(fapl, 0, 1);
#endif
    hid_t f = H5Fopen(path, H5F_ACC_RDONLY, fapl);
    int rc = 0;
    hsize_t at = 0;
    if (f < 0) rc = err_set_at(err, JEPA_E_INPUT, path, -1, "%s: cannot be opened as HDF5: damaged, or not written to the end", path);
    else if (H5Ovisit2(f, H5_INDEX_NAME, H5_ITER_NATIVE, on_object, &w, H5O_INFO_BASIC) < 0 ||
             (!w.stopped && H5Aiterate2(f, H5_INDEX_NAME, H5_ITER_NATIVE, &at, on_attribute, &w) < 0))
        rc = err_set_at(err, JEPA_E_INPUT, path, -1, "%s: damaged HDF5", path);
    if (f >= 0) H5Fclose(f);
    if (fapl >= 0) H5Pclose(fapl);
    h5_unlock();
    return rc;
}
