/* tensors.c: the tensors of a model's files, whichever form these have: one list, searched by name. */
#include "checkpoint/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- one file ---- */

int weights_open(weight_file *w, const char *path, jepa_err *err) {
    unsigned char head[16] = {0};
    *w = (weight_file){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return err_set_at(err, JEPA_E_IO, path, -1, "%s: %s", path, errno == ENOENT ? "not found" : strerror(errno));
    ssize_t n = read(fd, head, sizeof head);
    close(fd);
    if (n < 0) return err_set_at(err, JEPA_E_IO, path, -1, "%s: %s", path, strerror(errno));
    return content_is_pytorch(head, (size_t)n) ? pt_open(&w->pt, path, err) : st_open(&w->st, path, err);
}

void weights_close(weight_file *w) {
    st_close(&w->st);
    pt_close(&w->pt);
}

int weights_count(const weight_file *w) { return w->pt ? pt_count(w->pt) : st_count(w->st); }
const char *weights_name(const weight_file *w, int i) { return w->pt ? pt_at(w->pt, i)->name : st_at(w->st, i)->name; }
int weights_has(const weight_file *w, const char *name) { return w->pt ? pt_find(w->pt, "", name) != NULL : st_find(w->st, name) != NULL; }

static void get(const weight_file *w, int i, ck_tensor *out) {
    *out = (ck_tensor){0};
    if (w->pt) {
        const pt_tensor *t = pt_at(w->pt, i);
        out->name = out->stored = t->name, out->top = t->top;
        out->type = t->type, out->rank = t->rank, out->data = t->data;
        memcpy(out->dim, t->dim, sizeof t->dim);
        memcpy(out->stride, t->stride, sizeof t->stride);
        return;
    }
    const st_tensor *t = st_at(w->st, i);
    int64_t step = 1;
    out->name = out->stored = t->name, out->top = "";
    out->type = t->t.type, out->rank = t->t.rank, out->data = t->t.data;
    for (int k = t->t.rank - 1; k >= 0; k--) {
        out->dim[k] = t->t.dim[k], out->stride[k] = step;
        step *= t->t.dim[k] ? t->t.dim[k] : 1; /* the product was checked when the file was opened */
    }
}

/* ---- all of them ---- */

static int by_name(const void *a, const void *b, void *tensors) {
    const ck_tensor *t = tensors;
    return strcmp(t[*(const int *)a].name, t[*(const int *)b].name);
}

int ck_collect(ck *c, jepa_err *err) {
    int n = 0;
    for (int i = 0; i < c->files; i++) n += weights_count(&c->file[i]);
    c->tensor = mem_alloc((size_t)n, sizeof *c->tensor);
    c->by_name = mem_alloc((size_t)n, sizeof *c->by_name);
    if (!c->tensor || !c->by_name) return err_set_at(err, JEPA_E_MEMORY, c->path, -1, "%s: no memory for %d tensors", c->path, n);
    for (int i = 0; i < c->files; i++)
        for (int k = 0; k < weights_count(&c->file[i]); k++) get(&c->file[i], k, &c->tensor[c->n++]);
    if (c->layout == LAYOUT_META) {
        int rc = meta_names(c, err);
        if (rc) return rc;
    }
    for (int i = 0; i < c->n; i++) c->by_name[i] = i;
    qsort_r(c->by_name, (size_t)c->n, sizeof *c->by_name, by_name, c->tensor);
    for (int i = 1; c->layout == LAYOUT_META && i < c->n; i++)
        if (!by_name(&c->by_name[i - 1], &c->by_name[i], c->tensor)) {
            const ck_tensor *a = &c->tensor[c->by_name[i - 1]], *b = &c->tensor[c->by_name[i]];
            return err_set_at(err, JEPA_E_MODEL, c->path, -1, "%s: %.60s: %.120s and %.60s: %.120s would be the same parameter", c->path,
                              a->top, a->stored, b->top, b->stored);
        }
    return 0;
}

const ck_tensor *ck_find(const ck *c, const char *name) {
    int low = 0, high = c->n - 1;
    while (low <= high) {
        int mid = low + (high - low) / 2, k = strcmp(name, c->tensor[c->by_name[mid]].name);
        if (!k) return &c->tensor[c->by_name[mid]];
        if (k < 0)
            high = mid - 1;
        else
            low = mid + 1;
    }
    return NULL;
}

int ck_copy_part(const ck_tensor *t, int64_t slice, int64_t first, int64_t n, float *dst) {
    pt_tensor v = {.type = t->type, .rank = t->rank, .data = t->data};
    int skip = slice >= 0;
    memcpy(v.dim, t->dim, sizeof v.dim);
    memcpy(v.stride, t->stride, sizeof v.stride);
    if (skip) {
        v.data = (const char *)t->data + (size_t)slice * (size_t)t->stride[0] * dtype_size(t->type);
        v.rank--;
        memmove(v.dim, v.dim + 1, (size_t)v.rank * sizeof *v.dim);
        memmove(v.stride, v.stride + 1, (size_t)v.rank * sizeof *v.stride);
    }
    return pt_copy_part(&v, first, n, dst);
}

static void release(const weight_file *w) {
    if (w->pt)
        pt_release(w->pt);
    else
        st_release(w->st);
}

static const void *bytes_of(const weight_file *w, size_t *n) { return w->pt ? pt_bytes(w->pt, n) : st_bytes(w->st, n); }

/* Pages that a neighbour reaches into come again when it is read. */
void ck_release_tensor(const ck *c, const ck_tensor *t) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)t->data;
    size_t reach = 1;
    for (int i = 0; i < t->rank; i++) {
        if (!t->dim[i]) return;
        reach += (size_t)(t->dim[i] - 1) * (size_t)t->stride[i];
    }
    for (int i = 0; i < c->files; i++) { /* only what lies in a file's mapping may be given back */
        size_t n;
        const uintptr_t map = (uintptr_t)bytes_of(&c->file[i], &n);
        if (at < map || at - map >= n) continue;
        const uintptr_t from = at / page * page, left = map + n - from, want = at - from + reach * dtype_size(t->type);
        madvise((void *)from, want < left ? want : left, MADV_DONTNEED);
        return;
    }
}

void ck_release(const ck *c) {
    for (int i = 0; i < c->files; i++) release(&c->file[i]);
}

/* ---- questions ---- */

int ck_has(const ck *c, ck_module m) {
    char front[64];
    if (c->is_ijepa) return m == CK_ENCODER;
    snprintf(front, sizeof front, "%s%s.", m == CK_POOLER ? "" : c->hf_prefix, module_name(m));
    size_t n = strlen(front);
    for (int i = 0; i < c->n; i++)
        if (!strncmp(c->tensor[i].name, front, n)) return 1;
    return 0;
}

int ck_has_optimizer(const ck *c) {
    char path[PATH_MAX];
    if (c->layout == LAYOUT_META) return c->file[0].pt && pt_has_optimizer(c->file[0].pt);
    ck_side_file(c, "optimizer.safetensors", path, sizeof path);
    return path[0] != 0;
}

static int in_order(const ck_tensor *t) {
    int64_t step = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->dim[i] != 1 && t->stride[i] != step) return 0;
        step *= t->dim[i];
    }
    return 1;
}

int ck_each(const ck *c, int (*fn)(void *ctx, const char *name, const tensor *t), void *ctx) {
    char name[1200];
    for (int i = 0; i < c->n; i++) {
        const ck_tensor *t = &c->tensor[i];
        tensor v = {.type = t->type, .rank = t->rank, .data = in_order(t) ? t->data : NULL};
        memcpy(v.dim, t->dim, sizeof v.dim);
        snprintf(name, sizeof name, "%s%s%s", t->top, t->top[0] ? "." : "", t->stored);
        int rc = fn(ctx, name, &v);
        if (rc) return rc;
    }
    return 0;
}

int ck_sha256(const ck *c, char hex[65], jepa_err *err) {
    enum { PIECE = 8 << 20 }; /* pages are given back as it goes: a model's file may be larger than what is free */
    (void)err;
    sha256 s;
    sha256_open(&s);
    for (int i = 0; i < c->files; i++) { /* shards were opened in the order of their names */
        size_t n;
        unsigned char *bytes = (unsigned char *)(uintptr_t)bytes_of(&c->file[i], &n);
        for (size_t at = 0, k; at < n; at += k) {
            k = n - at < PIECE ? n - at : PIECE;
            sha256_add(&s, bytes + at, k);
            madvise(bytes + at, k, MADV_DONTNEED);
        }
    }
    sha256_hex(&s, hex);
    return 0;
}
