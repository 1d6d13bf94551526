/* out.c: an embedding job's result as .npy or .safetensors (HDF5: out_h5.c), written from OUT.part when all of it is there. */
#include "infer/infer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int ends(const char *path, const char *with) {
    size_t n = strlen(path), k = strlen(with);
    return n > k && !strcmp(path + n - k, with);
}

typedef struct npy { FILE *f; const emb_meta *m; uint16_t *half; } npy;

static int put_row(void *ctx, const part_row *r) {
    npy *w = ctx;
    size_t n = (size_t)(w->m->per_row * w->m->dim);
    if (!r->data) return 0;
    const float *x = r->data;
    float one;
    if (w->m->store == T_F16) {
        for (size_t i = 0; i < n; i++) memcpy(&one, x + i, sizeof one), w->half[i] = f32_to_f16(one);
        return fwrite(w->half, sizeof *w->half, n, w->f) == n ? 0 : JEPA_E_IO;
    }
    return fwrite(x, sizeof *x, n, w->f) == n ? 0 : JEPA_E_IO;
}

/* NumPy format 1.0: magic, version, header length, a Python literal padded to 64 bytes, the data. */
static int out_npy(const char *path, const emb_meta *m, part *p, jepa_err *err) {
    char aside[1200], dict[256], shape[96];
    npy w = {.m = m};
    int rc = 0;
    if (snprintf(aside, sizeof aside, "%s.tmp", path) >= (int)sizeof aside) return err_set(err, JEPA_E_USE, "output name too long");
    if (m->layered) snprintf(shape, sizeof shape, "(%lld, %lld, %lld)", (long long)part_rows(p), (long long)m->per_row, (long long)m->dim);
    else snprintf(shape, sizeof shape, "(%lld, %lld)", (long long)part_rows(p), (long long)m->dim);
    int n = snprintf(dict, sizeof dict, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", m->store == T_F16 ? "<f2" : "<f4", shape);
    int total = (10 + n + 1 + 63) / 64 * 64 - 10;
    if (m->store == T_F16 && !(w.half = mem_alloc((size_t)(m->per_row * m->dim), sizeof *w.half))) return err_set(err, JEPA_E_MEMORY, "no memory for a row");
    w.f = fopen(aside, "we");
    if (!w.f) {
        rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be written: %s", path, strerror(errno));
        mem_free(w.half);
        return rc;
    }
    int bad = fwrite("\x93NUMPY\x01\x00", 1, 8, w.f) != 8 || fputc(total & 255, w.f) < 0 || fputc(total >> 8, w.f) < 0 ||
              fprintf(w.f, "%-*s\n", total - 1, dict) < 0;
    if (!bad && (rc = part_each(p, put_row, &w, err)) < 0 && rc != JEPA_E_IO) bad = 1;
    if (bad || rc < 0 || fflush(w.f) || ferror(w.f) || fsync(fileno(w.f))) {
        if (!rc || rc == JEPA_E_IO) rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be written: %s; %s.part is kept", path, strerror(errno), path);
    }
    if (fclose(w.f) && !rc) rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be written: %s", path, strerror(errno));
    if (!rc && rename(aside, path)) rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be written: %s", path, strerror(errno));
    if (rc) unlink(aside);
    else dir_sync(path);
    mem_free(w.half);
    return rc;
}

typedef struct all { const emb_meta *m; float *x; double *start, *end; int64_t *label; int32_t *clip, *item; int64_t n, most; } all;

static int keep_row(void *ctx, const part_row *r) {
    all *a = ctx;
    size_t n = (size_t)(a->m->per_row * a->m->dim);
    if (!r->data || a->n >= a->most) return 0;
    memcpy(a->x + (size_t)a->n * n, r->data, n * sizeof(float));
    a->start[a->n] = r->start, a->end[a->n] = r->end, a->label[a->n] = r->label, a->clip[a->n] = r->clip, a->item[a->n] = (int32_t)r->item;
    a->n++;
    return 0;
}

static int out_safetensors(const char *path, const emb_meta *m, part *p, jepa_err *err) {
    all a = {.m = m, .most = part_rows(p)};
    int64_t n = a.most;
    size_t cells, k = (size_t)(n ? n : 1);
    int rc = JEPA_E_MEMORY;
    char text[6][160];
    if (size_mul(k, (size_t)m->per_row, &cells) || size_mul(cells, (size_t)m->dim, &cells) || !(a.x = mem_alloc(cells, sizeof *a.x)) ||
        !(a.start = mem_alloc(k, sizeof *a.start)) || !(a.end = mem_alloc(k, sizeof *a.end)) || !(a.label = mem_alloc(k, sizeof *a.label)) ||
        !(a.clip = mem_alloc(k, sizeof *a.clip)) || !(a.item = mem_alloc(k, sizeof *a.item))) {
        err_set(err, rc, "no memory for %lld rows; .h5 and .npy need one row at a time", (long long)n);
        goto done;
    }
    if ((rc = part_each(p, keep_row, &a, err)) < 0) goto done;
    st_out o[] = {
        {"embeddings", {T_F32, m->layered ? 3 : 2, {n, m->layered ? m->per_row : m->dim, m->dim}, a.x}, m->store},
        {"start_seconds", {T_F64, 1, {n}, a.start}, T_NONE}, {"end_seconds", {T_F64, 1, {n}, a.end}, T_NONE},
        {"label", {T_I64, 1, {n}, a.label}, T_NONE}, {"clip", {T_I32, 1, {n}, a.clip}, T_NONE}, {"item", {T_I32, 1, {n}, a.item}, T_NONE},
    };
    snprintf(text[0], sizeof text[0], "%d", m->frames);
    snprintf(text[1], sizeof text[1], "%lld,%lld,%lld", (long long)m->grid[0], (long long)m->grid[1], (long long)m->grid[2]);
    const char *const meta[] = {"model", m->model, "model_sha256", m->sha256, "precision", m->precision, "frames", text[0], "grid", text[1], "pool", m->pool,
                                "transform", m->transform, "version", m->version, "settings", m->settings, NULL};
    rc = st_write(path, o, sizeof o / sizeof *o, meta, err);
done:
    mem_free(a.x), mem_free(a.start), mem_free(a.end), mem_free(a.label), mem_free(a.clip), mem_free(a.item);
    return rc;
}

int emb_write(const char *path, const emb_meta *m, part *p, jepa_err *err) {
    if (ends(path, ".h5") || ends(path, ".hdf5")) return emb_write_h5(path, m, p, err);
    if (ends(path, ".npy")) return out_npy(path, m, p, err);
    if (ends(path, ".safetensors")) return out_safetensors(path, m, p, err);
    return err_set(err, JEPA_E_USE, "%s: outputs end in .h5, .npy or .safetensors", path);
}

int emb_check(const char *path, const char *settings, jepa_err *err) {
    struct stat st;
    char what[200], *there = NULL;
    if (!ends(path, ".h5") && !ends(path, ".hdf5") && !ends(path, ".npy") && !ends(path, ".safetensors"))
        return err_set(err, JEPA_E_USE, "%s: outputs end in .h5, .npy or .safetensors", path);
    if (stat(path, &st)) return 0;
    if (ends(path, ".npy")) return err_set(err, JEPA_E_USE, "%s: exists already, and .npy does not say how it was made; remove it or choose another -o", path);
    int rc = 0;
    st_file *f = NULL;
    if (ends(path, ".safetensors")) {
        if ((rc = st_open(&f, path, err)) < 0) return err_prefix(err, rc, "exists already");
        const char *s = st_meta(f, "settings");
        if (s && (there = mem_alloc(strlen(s) + 1, 1))) memcpy(there, s, strlen(s));
        st_close(&f);
    } else if ((rc = emb_check_h5(path, &there, err)) < 0) {
        return rc;
    }
    if (!there) rc = err_set(err, JEPA_E_USE, "%s: exists already and was not made by this program; choose another -o", path);
    else if (settings_differ(there, settings, what, sizeof what))
        rc = err_set(err, JEPA_E_USE, "%s: exists already with other settings (%s); remove it or choose another -o", path, what);
    else rc = 1;
    mem_free(there);
    return rc;
}
