/* pt.c: PyTorch archives: opened, told apart, and the tensors of their state dicts laid out as views of the mapped file.
 *
 * The object in the file is a dict of dicts. A dict that holds tensors is a state dict, and its place (keys joined by '.') is the tensors'
 * `top`; what is in a list, under a key that is no text, or under the names that trainers give their optimizers is passed over. */
#include "checkpoint/pt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEPTH = 8, TEXT_BLOCK = 65536 };
/* A hostile file must not grow: what is kept of it stays below this many times its size, and this. Real ones need far less. */
enum { BUDGET_TIMES = 2, BUDGET_MORE = 4 << 20 };

/* ---- memory, out of the budget ---- */

int pt_grow(pt_mem *m, void *array, size_t *cap, size_t want, size_t item) {
    if (want <= *cap) return 0;
    size_t n = want < 16 ? 16 : want, bytes, old = *cap * item;
    if (n < *cap + *cap / 2) n = *cap + *cap / 2;
    void **a = array;
    if (size_mul(n, item, &bytes) || bytes > m->limit || m->used > m->limit - bytes) return JEPA_E_MEMORY;
    void *p = mem_alloc(n, item);
    if (!p) return JEPA_E_MEMORY;
    if (old) memcpy(p, *a, old);
    mem_free(*a);
    *a = p;
    *cap = n;
    m->used += bytes - old;
    return 0;
}

void pt_give_back(pt_mem *m, void *array, size_t *cap, size_t item) {
    void **a = array;
    mem_free(*a);
    *a = NULL;
    m->used -= *cap * item;
    *cap = 0;
}

/* ---- the tensors ---- */

static char *keep_text(pt_file *f, const char *a, size_t n, const char *b, size_t m) { /* a, '.' where a is not empty, b */
    size_t whole = n + m + 2;
    if (f->text_room < whole) {
        if (pt_grow(&f->mem, &f->text, &f->text_cap, f->texts + 1, sizeof *f->text)) return NULL;
        size_t block = whole > TEXT_BLOCK ? whole : TEXT_BLOCK;
        if (f->mem.used > f->mem.limit || block > f->mem.limit - f->mem.used || !(f->text[f->texts] = mem_alloc(block, 1))) return NULL;
        f->mem.used += block;
        f->texts++;
        f->text_room = block;
    }
    char *block = f->text[f->texts - 1], *to = block + (whole > TEXT_BLOCK ? 0 : TEXT_BLOCK - f->text_room), *p = to;
    f->text_room = whole > TEXT_BLOCK ? 0 : f->text_room - whole;
    if (n) {
        memcpy(p, a, n);
        p += n;
        *p++ = '.';
    }
    memcpy(p, b, m);
    return to;
}

static int over(const pt_file *f, jepa_err *err) {
    return err_set_at(err, JEPA_E_MODEL, f->path, -1, "%s: holds more names and tensors than a file of this size may", f->path);
}

static int bad_tensor(const pt_file *f, const pt_tensor *t, size_t at, jepa_err *err, const char *why) {
    return err_set_at(err, JEPA_E_MODEL, f->path, pickle_offset(&f->k, at), "%s: tensor %s%s%s: %s", f->path, t->top, t->top[0] ? ": " : "",
                      t->name, why);
}

static int numbers(const pickle *k, const value *tuple, int64_t out[8], int *n) {
    if (tuple->kind != V_TUPLE || tuple->items.n > 8) return JEPA_E_MODEL;
    *n = (int)tuple->items.n;
    for (int i = 0; i < *n; i++) {
        const value *v = &k->v[k->item[tuple->items.first + (uint32_t)i]];
        if (v->kind != V_INT || v->number < 0) return JEPA_E_MODEL;
        out[i] = v->number;
    }
    return 0;
}

/* bytes of the storage, and how many elements a view may reach */
static int storage_of(pt_file *f, pt_tensor *t, const value *storage, const unsigned char **bytes, int64_t *numel, jepa_err *err) {
    storage_claim c;
    char why[300], name[400];
    size_t size;
    storage_read(&f->k, storage, &c);
    if (c.why) return bad_tensor(f, t, storage->at, err, c.why);
    if (t->type == T_NONE) t->type = c.type; /* else the tensor says it, of a storage of plain bytes */
    if (!dtype_size(t->type) || !dtype_size(c.type)) {
        snprintf(why, sizeof why, "values of %s are not read", pt_class_name(c.class->class, name, sizeof name));
        return bad_tensor(f, t, storage->at, err, why);
    }
    *numel = c.view_size;
    if (f->storage) {
        const pt_storage *s = legacy_find(f, c.key, c.key_size);
        if (!s || !s->bytes) return bad_tensor(f, t, storage->at, err, "its storage is not in the file's list");
        *bytes = s->bytes + (size_t)c.view_offset * dtype_size(c.type);
    } else {
        size_t n =
            (size_t)snprintf(name, sizeof name, "%sdata/%.*s", f->prefix, (int)(c.key_size > 80 ? 80 : c.key_size), (const char *)c.key);
        const zip_entry *e = n < sizeof name ? zip_find(&f->z, name, n) : NULL;
        if (!e) {
            snprintf(why, sizeof why, "its storage, entry %.200s, is not in the archive", name);
            return bad_tensor(f, t, storage->at, err, why);
        }
        int rc = zip_data(&f->z, e, bytes, err);
        if (rc) return err_prefix(err, rc, "tensor %s", t->name);
        if (size_mul((size_t)c.numel, dtype_size(c.type), &size) || size != e->size) {
            snprintf(why, sizeof why, "its storage, entry %.150s, has %llu bytes; %lld values of %s are others", name,
                     (unsigned long long)e->size, (long long)c.numel, dtype_name(c.type));
            return bad_tensor(f, t, storage->at, err, why);
        }
        *bytes += (size_t)c.view_offset * dtype_size(c.type);
    }
    if (c.type != t->type) *numel = *numel * (int64_t)dtype_size(c.type) / (int64_t)dtype_size(t->type);
    return 0;
}

/* A view: offset + Σ (dim-1)·stride inside its storage; sizes checked before anything is multiplied by them. */
static int read_view(pt_file *f, pt_tensor *t, const value *v, jepa_err *err) {
    const pickle *k = &f->k;
    const value *args = &k->v[v->args];
    const uint32_t *a = k->item + args->items.first;
    uint32_t least = v->role == C_TENSOR1 ? 4 : v->role == C_TENSOR2 ? 6 : 7;
    int dims = 0, strides = 0, empty = 0;
    int64_t numel = 0, last;
    const unsigned char *bytes = NULL;
    size_t count = 1, claimed;
    if (args->items.n < least || k->v[a[0]].kind != V_STORAGE || k->v[a[1]].kind != V_INT || numbers(k, &k->v[a[2]], t->dim, &dims) ||
        numbers(k, &k->v[a[3]], t->stride, &strides) || dims != strides || k->v[a[1]].number < 0)
        return bad_tensor(f, t, v->at, err, "offset, shape and strides are not whole numbers, or more than 8 dimensions");
    t->rank = dims;
    if (v->role == C_TENSOR3) {
        if (k->v[a[6]].kind != V_CLASS || k->v[a[6]].role != C_DTYPE || !k->v[a[6]].type)
            return bad_tensor(f, t, v->at, err, "its type is not one that is read");
        t->type = (dtype)k->v[a[6]].type;
    }
    int rc = storage_of(f, t, &k->v[a[0]], &bytes, &numel, err);
    if (rc) return rc;
    last = k->v[a[1]].number;
    for (int i = 0; i < dims; i++) {
        int64_t step;
        empty |= t->dim[i] == 0;
        if (size_mul(count, (size_t)(t->dim[i] ? t->dim[i] : 1), &count) ||
            (t->dim[i] && (__builtin_mul_overflow(t->dim[i] - 1, t->stride[i], &step) || __builtin_add_overflow(last, step, &last))))
            return bad_tensor(f, t, v->at, err, "its shape overflows");
    }
    if (empty) count = 0;
    if (count && last >= numel) {
        char why[200];
        snprintf(why, sizeof why, "its view reaches element %lld of a storage of %lld", (long long)last, (long long)numel);
        return bad_tensor(f, t, v->at, err, why);
    }
    /* one storage may serve many tensors, and a stride may be 0: together they must not claim more than there could be */
    if (count > INT64_MAX / 16 || size_mul(count, dtype_size(t->type), &claimed) ||
        __builtin_add_overflow(f->claimed, claimed, &f->claimed) || f->claimed / 4 > f->size + BUDGET_MORE)
        return bad_tensor(f, t, v->at, err, "views of the same bytes add up to more than four times the file");
    t->data = count ? bytes + (size_t)k->v[a[1]].number * dtype_size(t->type) : f->map;
    return 0;
}

static int add_tensor(pt_file *f, const char *top, const value *key, const value *v, jepa_err *err) {
    const char *name = (const char *)f->k.p + key->text.at;
    if (!key->text.size || key->text.size > PT_MAX_NAME || memchr(name, 0, key->text.size))
        return err_set_at(err, JEPA_E_MODEL, f->path, pickle_offset(&f->k, key->at),
                          "%s: a tensor of \"%.100s\" whose name is empty, longer than 512 bytes or no text", f->path, top);
    if (pt_grow(&f->mem, &f->tensor, &f->cap, f->n + 1, sizeof *f->tensor)) return over(f, err);
    pt_tensor *t = &f->tensor[f->n];
    *t = (pt_tensor){.top = top, .name = keep_text(f, "", 0, name, key->text.size)};
    if (!t->name) return over(f, err);
    int rc = read_view(f, t, v, err);
    if (!rc) f->n++;
    return rc;
}

/* ---- the dicts ---- */

enum { N_OPTIMIZERS = 7 };
/* 0, or which of the names: up to N_OPTIMIZERS an optimizer's, behind them others of the kind */
static int optimizer_name(const pickle *k, uint32_t key) {
    static const char *const SKIP[] = {"opt",   "optimizer", "optimizers", "optimizer_state", "optimizer_states", "optimizer_state_dict",
                                       "optim", "scaler",    "scheduler",  "lr_scheduler",    "lr_schedulers",    "wd_scheduler"};
    for (size_t i = 0; i < sizeof SKIP / sizeof *SKIP; i++)
        if (pickle_text_is(k, key, SKIP[i])) return (int)i + 1;
    return 0;
}

static int holds_tensors(const pickle *k, const value *dict) {
    for (uint32_t i = dict->pairs.head; i; i = k->pair[i].next)
        if (k->v[k->pair[i].value].kind == V_TENSOR && k->v[k->pair[i].key].kind == V_TEXT) return 1;
    return 0;
}

static int walk(pt_file *f, const value *dict, const char *top, int depth, jepa_err *err) {
    const pickle *k = &f->k;
    int rc = 0, state_dict = depth && holds_tensors(k, dict);
    for (uint32_t i = dict->pairs.head; !rc && i; i = k->pair[i].next) {
        const value *key = &k->v[k->pair[i].key], *v = &k->v[k->pair[i].value];
        if (++f->visits > f->k.n + 65536) return over(f, err); /* dicts that hold one another over and over */
        if (key->kind != V_TEXT) continue;
        if (v->kind == V_TENSOR) {
            rc = add_tensor(f, top, key, v, err);
        } else if (v->kind == V_DICT && optimizer_name(k, k->pair[i].key)) {
            f->optimizer |= v->pairs.head && optimizer_name(k, k->pair[i].key) <= N_OPTIMIZERS;
        } else if (v->kind == V_DICT) {
            if (depth == MAX_DEPTH || key->text.size > PT_MAX_NAME || strlen(top) > PT_MAX_NAME ||
                memchr(k->p + key->text.at, 0, key->text.size))
                return err_set_at(err, JEPA_E_MODEL, f->path, pickle_offset(k, key->at),
                                  "%s: dicts nested more than %d deep, or with names that are none", f->path, MAX_DEPTH);
            const char *inner = keep_text(f, top, strlen(top), (const char *)k->p + key->text.at, key->text.size);
            rc = inner ? walk(f, v, inner, depth + 1, err) : over(f, err);
        } else if (state_dict && v->kind == V_OBJECT) {
            char class[300];
            rc = err_set_at(err, JEPA_E_MODEL, f->path, pickle_offset(k, v->at),
                            "%s: %s: %.*s: is made by %s (byte %u of %s), which is no tensor that is read", f->path, top,
                            (int)(key->text.size > 120 ? 120 : key->text.size), (const char *)k->p + key->text.at,
                            pt_class_name(v->class, class, sizeof class), v->at, k->what);
        }
    }
    return rc;
}

static int by_name(const void *a, const void *b, void *tensors) {
    const pt_tensor *t = tensors, *x = &t[*(const uint32_t *)a], *y = &t[*(const uint32_t *)b];
    int k = strcmp(x->top, y->top);
    return k ? k : strcmp(x->name, y->name);
}

static int find_tensors(pt_file *f, jepa_err *err) {
    const value *root = &f->k.v[f->k.root];
    if (root->kind != V_DICT) {
        char class[300];
        return err_set_at(err, JEPA_E_MODEL, f->path, pickle_offset(&f->k, root->at), "%s: holds no state dict but %s%s", f->path,
                          root->kind == V_TENSOR   ? "one tensor"
                          : root->kind == V_OBJECT ? "an object of "
                                                   : "another value",
                          root->kind == V_OBJECT ? pt_class_name(root->class, class, sizeof class) : "");
    }
    int rc = walk(f, root, "", 0, err);
    if (rc) return rc;
    if (pt_grow(&f->mem, &f->by_name, &f->by_name_cap, f->n + 1, sizeof *f->by_name)) return over(f, err);
    for (size_t i = 0; i < f->n; i++) f->by_name[i] = (uint32_t)i;
    qsort_r(f->by_name, f->n, sizeof *f->by_name, by_name, f->tensor);
    for (size_t i = 1; i < f->n; i++) /* a dict has a key once; in a pickle the last would win */
        if (!by_name(&f->by_name[i - 1], &f->by_name[i], f->tensor))
            return bad_tensor(f, &f->tensor[f->by_name[i]], 0, err, "is there twice");
    return 0;
}

/* ---- the file ---- */

static int is_tar(const pt_file *f) { return f->size >= 512 && !memcmp(f->map + 257, "ustar", 5); }

static int read_zip(pt_file *f, jepa_err *err) {
    f->z = (zip){.map = f->map, .size = f->size, .path = f->path};
    int rc = zip_read(&f->z, &f->mem, err);
    if (rc) return rc;
    const zip_entry *pkl = NULL;
    for (size_t i = 0; i < f->z.n; i++) {
        const zip_entry *e = &f->z.entry[i];
        if (e->name_size >= 8 && !memcmp(e->name + e->name_size - 8, "data.pkl", 8) &&
            (e->name_size == 8 || e->name[e->name_size - 9] == '/') && (!pkl || e->name_size < pkl->name_size))
            pkl = e;
    }
    if (!pkl || pkl->name_size - 8 >= sizeof f->prefix)
        return err_set_at(err, JEPA_E_MODEL, f->path, -1, "%s: is a zip archive without a data.pkl, so not one that torch.save wrote",
                          f->path);
    memcpy(f->prefix, pkl->name, pkl->name_size - 8);
    char name[300];
    int n = snprintf(name, sizeof name, "%sbyteorder", f->prefix);
    const zip_entry *order = zip_find(&f->z, name, (size_t)n);
    const unsigned char *data = NULL;
    if (order) {
        if ((rc = zip_data(&f->z, order, &data, err))) return rc;
        if (order->size != 6 || memcmp(data, "little", 6))
            return err_set_at(err, JEPA_E_MODEL, f->path, data - f->map, "%s: its values are big-endian (entry %s), which is not read",
                              f->path, name);
    }
    if (!pkl->method)
        rc = zip_data(&f->z, pkl, &data, err);
    else {
        rc = zip_unpack(&f->z, pkl, &f->unpacked, &f->mem, err);
        data = f->unpacked;
    }
    if (rc) return rc;
    f->k = (pickle){.p = data,
                    .size = (size_t)pkl->size,
                    .path = f->path,
                    .what = "data.pkl",
                    .base = f->unpacked ? -1 : data - f->map,
                    .mem = &f->mem};
    return pickle_read(&f->k, err);
}

int pt_open(pt_file **out, const char *path, jepa_err *err) {
    *out = NULL;
    int fd = ck_fault("ck.map") ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hold us up */
    if (fd < 0) return err_set_at(err, JEPA_E_IO, path, -1, "%s: %s", path, errno == ENOENT ? "not found" : strerror(errno));
    pt_file *f = mem_alloc(1, sizeof *f);
    struct stat st;
    int rc = 0;
    if (!f || !(f->path = strdup(path))) {
        rc = err_set_at(err, JEPA_E_MEMORY, path, -1, "%s: no memory to open it", path);
        goto done;
    }
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: is not an ordinary file", path);
        goto done;
    }
    if (st.st_size < 8) {
        rc = err_set_at(err, JEPA_E_MODEL, path, 0, "%s: %lld bytes are no PyTorch file", path, (long long)st.st_size);
        goto done;
    }
    f->size = (size_t)st.st_size;
    void *map = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be mapped: %s", path, strerror(errno));
        goto done;
    }
    f->map = map;
    f->mem.limit = f->size > SIZE_MAX / 4 ? SIZE_MAX / 2 : f->size * BUDGET_TIMES + BUDGET_MORE;
    if (!memcmp(f->map, "PK\3\4", 4) || !memcmp(f->map, "PK\5\6", 4))
        rc = read_zip(f, err);
    else if (f->map[0] == 0x80 && f->map[1] >= 2 && f->map[1] <= 5)
        rc = legacy_read(f, err);
    else if (is_tar(f))
        rc = err_set_at(
            err, JEPA_E_MODEL, path, 0,
            "%s: is a tar archive: the form of PyTorch 0.1, which is not read (or a data set); load and save it again with a newer PyTorch",
            path);
    else
        rc = err_set_at(err, JEPA_E_MODEL, path, 0, "%s: is neither a zip archive nor a pickle, so no PyTorch file", path);
    if (!rc) rc = find_tensors(f, err);
    if (!rc) *out = f;
done:
    close(fd);
    if (rc) pt_close(&f);
    return rc;
}

void pt_close(pt_file **f) {
    if (!f || !*f) return;
    pt_file *p = *f;
    pickle_close(&p->k);
    for (size_t i = 0; i < p->texts; i++) mem_free(p->text[i]);
    mem_free(p->text);
    mem_free(p->tensor);
    mem_free(p->by_name);
    mem_free(p->storage);
    mem_free(p->z.entry);
    mem_free(p->unpacked);
    if (p->map) munmap((void *)(uintptr_t)p->map, p->size);
    free(p->path);
    mem_free(p);
    *f = NULL;
}

/* ---- questions ---- */

const void *pt_bytes(const pt_file *f, size_t *size) {
    *size = f->size;
    return f->map;
}

void pt_release(const pt_file *f) { madvise((void *)(uintptr_t)f->map, f->size, MADV_DONTNEED); }
int pt_has_optimizer(const pt_file *f) { return f->optimizer; }
int pt_is_legacy(const pt_file *f) { return f->storage != NULL; }

int pt_count(const pt_file *f) { return (int)f->n; }
const pt_tensor *pt_at(const pt_file *f, int i) { return i >= 0 && (size_t)i < f->n ? &f->tensor[i] : NULL; }

const pt_tensor *pt_find(const pt_file *f, const char *top, const char *name) {
    size_t low = 0, high = f->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const pt_tensor *t = &f->tensor[f->by_name[mid]];
        int k = strcmp(t->top, top);
        if (!k) k = strcmp(t->name, name);
        if (!k) return t;
        if (k < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* Contiguous runs of the last dimensions are converted at once; the rest by counting through the indices. */
int pt_copy_part(const pt_tensor *t, int64_t first, int64_t n, float *dst) {
    size_t one = dtype_size(t->type), run = 1;
    if (!one) return JEPA_E_UNSUPPORTED;
    int outer = t->rank;
    for (int i = 0; i < t->rank; i++)
        if (!t->dim[i]) return 0;
    while (outer && (t->dim[outer - 1] == 1 || t->stride[outer - 1] == (int64_t)run)) run *= (size_t)t->dim[--outer];
    int64_t at[8] = {0}, skip = first / (int64_t)run;
    size_t in = (size_t)(first % (int64_t)run); /* elements of the run that come before */
    const char *from = t->data;
    for (int i = outer - 1; i >= 0; i--) {
        at[i] = skip % t->dim[i];
        skip /= t->dim[i];
        from += (size_t)at[i] * (size_t)t->stride[i] * one;
    }
    while (n > 0) {
        const size_t now = (int64_t)(run - in) < n ? run - in : (size_t)n;
        const int rc = convert_to_f32(dst, from + in * one, t->type, now);
        if (rc) return rc;
        dst += now;
        n -= (int64_t)now;
        in = 0;
        for (int i = outer - 1; i >= 0; i--) {
            from += (size_t)t->stride[i] * one;
            if (++at[i] < t->dim[i]) break;
            from -= (size_t)t->stride[i] * (size_t)t->dim[i] * one;
            at[i] = 0;
        }
    }
    return 0;
}

int pt_copy_f32(const pt_tensor *t, float *dst) {
    int64_t n = 1; /* fits: the file holds them */
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return pt_copy_part(t, 0, n, dst);
}
