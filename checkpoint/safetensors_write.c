/* safetensors_write.c: writing one .safetensors file straight from where the values lie, converting as it goes.
 *
 * Tensors stand by size of type, largest first, then by name, and the header is padded with spaces to 8 bytes: so data are aligned, and a
 * file has the same bytes as the one that the safetensors library writes. */
#include "checkpoint/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 65536 };

static dtype stored(const st_out *o) { return o->store == T_NONE ? o->t.type : o->store; }

static int by_place(const void *a, const void *b) {
    const st_out *x = *(const st_out *const *)a, *y = *(const st_out *const *)b;
    size_t p = dtype_size(stored(x)), q = dtype_size(stored(y));
    return p != q ? (p > q ? -1 : 1) : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) { return strcmp((*(const st_out *const *)a)->name, (*(const st_out *const *)b)->name); }

static int check(const char *path, const st_out *o, size_t *bytes, jepa_err *err) {
    dtype s = stored(o);
    if (!o->name || !o->name[0] || strlen(o->name) > 512 || !strcmp(o->name, "__metadata__"))
        return err_set_at(err, JEPA_E_USE, path, -1, "%s: a tensor without a usable name", path);
    if (!st_type_name(s) || o->t.rank < 0 || o->t.rank > 8)
        return err_set_at(err, JEPA_E_USE, path, -1, "%s: tensor %s has no type, or more than 8 dimensions", path, o->name);
    if (s != o->t.type && !(o->t.type == T_F32 && (s == T_BF16 || s == T_F16 || s == T_F64)))
        return err_set_at(err, JEPA_E_USE, path, -1, "%s: tensor %s: %s cannot be stored as %s", path, o->name, dtype_name(o->t.type),
                          dtype_name(s));
    *bytes = dtype_size(s);
    for (int i = 0; i < o->t.rank; i++)
        if (o->t.dim[i] < 0 || size_mul(*bytes, (size_t)o->t.dim[i], bytes))
            return err_set_at(err, JEPA_E_USE, path, -1, "%s: tensor %s: its shape overflows", path, o->name);
    if (*bytes && !o->t.data) return err_set_at(err, JEPA_E_USE, path, -1, "%s: tensor %s has no data", path, o->name);
    return 0;
}

static int write_data(out_file *f, const st_out *o, size_t bytes, unsigned char *piece, jepa_err *err) {
    dtype s = stored(o);
    if (s == o->t.type) return out_write(f, o->t.data, bytes, err);
    const float *x = o->t.data;
    size_t one = dtype_size(s), n = bytes / one;
    for (size_t i = 0; i < n;) {
        size_t k = n - i < PIECE / one ? n - i : PIECE / one;
        for (size_t j = 0; j < k; j++) {
            double d = (double)x[i + j];
            uint16_t h = s == T_BF16 ? f32_to_bf16(x[i + j]) : f32_to_f16(x[i + j]);
            memcpy(piece + j * one, s == T_F64 ? (void *)&d : (void *)&h, one);
        }
        int rc = out_write(f, piece, k * one, err);
        if (rc) return rc;
        i += k;
    }
    return 0;
}

int st_write(const char *path, const st_out *item, int n, const char *const *meta, jepa_err *err) {
    out_file f = {.fd = -1};
    json_writer w = {.indent = -1};
    const st_out **order = mem_alloc((size_t)(n > 0 ? n : 0), sizeof *order);
    size_t *bytes = mem_alloc((size_t)(n > 0 ? n : 0), sizeof *bytes), at = 0;
    unsigned char *piece = mem_alloc(PIECE, 1);
    int rc = !order || !bytes || !piece || n < 0 ? err_set_at(err, JEPA_E_MEMORY, path, -1, "%s: no memory to write it", path) : 0;
    for (int i = 0; !rc && i < n; i++) {
        order[i] = &item[i];
        rc = check(path, order[i], &bytes[i], err);
    }
    if (!rc) qsort(order, (size_t)n, sizeof *order, by_name);
    for (int i = 1; !rc && i < n; i++)
        if (!strcmp(order[i - 1]->name, order[i]->name))
            rc = err_set_at(err, JEPA_E_USE, path, -1, "%s: two tensors are named %s", path, order[i]->name);
    if (!rc) qsort(order, (size_t)n, sizeof *order, by_place);
    if (!rc) jw_open(&w, NULL, '{');
    if (!rc && meta && meta[0]) {
        jw_open(&w, "__metadata__", '{');
        for (int i = 0; meta[i] && meta[i + 1]; i += 2) jw_string(&w, meta[i], meta[i + 1]);
        jw_close(&w, '}');
    }
    for (int i = 0; !rc && i < n; i++) {
        rc = check(path, order[i], &bytes[i], err);
        if (rc) break;
        jw_open(&w, order[i]->name, '{');
        jw_string(&w, "dtype", st_type_name(stored(order[i])));
        jw_open(&w, "shape", '[');
        for (int k = 0; k < order[i]->t.rank; k++) jw_int(&w, NULL, order[i]->t.dim[k]);
        jw_close(&w, ']');
        jw_open(&w, "data_offsets", '[');
        jw_int(&w, NULL, (int64_t)at);
        if (size_add(at, bytes[i], &at) || at > (size_t)1 << 52)
            rc = err_set_at(err, JEPA_E_USE, path, -1, "%s: too large to be written", path);
        jw_int(&w, NULL, (int64_t)at);
        jw_close(&w, ']');
        jw_close(&w, '}');
    }
    if (!rc) {
        jw_close(&w, '}');
        if (w.failed) rc = err_set_at(err, JEPA_E_MEMORY, path, -1, "%s: no memory for the header", path);
    }
    if (!rc) rc = out_open(&f, path, err);
    if (!rc) {
        size_t length = (w.size + 7) / 8 * 8;
        unsigned char head[8];
        for (int i = 0; i < 8; i++) head[i] = (unsigned char)((uint64_t)length >> (8 * i));
        rc = out_write(&f, head, 8, err);
        if (!rc) rc = out_write(&f, w.text, w.size, err);
        if (!rc) rc = out_write(&f, "       ", length - w.size, err);
    }
    for (int i = 0; !rc && i < n; i++) rc = write_data(&f, order[i], bytes[i], piece, err);
    if (!rc) rc = out_commit(&f, err);
    out_abort(&f);
    jw_free(&w);
    mem_free(order);
    mem_free(bytes);
    mem_free(piece);
    return rc;
}
