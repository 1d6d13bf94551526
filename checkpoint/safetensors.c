/* safetensors.c: one .safetensors file, mapped and checked.
 *
 * The file: 8 bytes length n (little endian), n bytes of JSON {name: {dtype, shape, data_offsets: [from, to]}, "__metadata__": {…}}, then
 * the data that the offsets count in. The format allows no hole and no overlap: sorted by offset, each tensor begins where the one before
 * it ends, the first at 0 and the last at the end of the file. Data may be unaligned (older writers); convert_to_f32 takes that.
 * A file that another process cuts while it is mapped raises SIGBUS, as with any mapping: writers rename instead. */
#include "checkpoint/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_HEADER = 100000000, MAX_NAME = 512, MAX_META = 1 << 20 };

struct st_file {
    char *path;
    unsigned char *map;
    size_t size;
    int64_t data; /* where the offsets count from */
    json *header;
    st_tensor *tensor;
    int n;
    int *by_name;
};

static const struct {
    const char *name;
    dtype type;
} TYPES[] = {
    {"F32", T_F32}, {"BF16", T_BF16}, {"F16", T_F16}, {"F64", T_F64}, {"I64", T_I64},
    {"I32", T_I32}, {"I16", T_I16},   {"I8", T_I8},   {"U8", T_U8},   {"BOOL", T_BOOL},
};

int st_type(const char *name, dtype *out) {
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (!strcmp(name, TYPES[i].name)) {
            *out = TYPES[i].type;
            return 0;
        }
    return JEPA_E_MODEL;
}

const char *st_type_name(dtype t) {
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (TYPES[i].type == t) return TYPES[i].name;
    return NULL;
}

int content_is_safetensors(const unsigned char *head, size_t n) {
    return n > 8 && head[8] == '{' && !head[4] && !head[5] && !head[6] && !head[7]; /* any first bytes may be a length: "PK\3\4" is 67 MB */
}

int content_is_pytorch(const unsigned char *head, size_t n) {
    if (n < 4 || content_is_safetensors(head, n)) return 0;
    return !memcmp(head, "PK\3\4", 4) || !memcmp(head, "PK\5\6", 4) || (head[0] == 0x80 && head[1] >= 2 && head[1] <= 5);
}

const char *content_name(const unsigned char *head, size_t n) {
    static const struct {
        const char *bytes;
        size_t n;
        const char *name;
    } KNOWN[] = {
        {"PK\x03\x04", 4, "a zip archive, most likely a PyTorch checkpoint (.pt, .pth)"},
        {"\x80\x02", 2, "a Python pickle, most likely a PyTorch checkpoint in the old format"},
        {"\x89HDF\r\n\x1a\n", 8, "an HDF5 file, not a model"},
        {"GGUF", 4, "a GGUF file, which is not read"},
        {"\x1f\x8b", 2, "gzip data; unpack it first"},
        {"version https://git-lfs", 23, "a Git LFS pointer: the weights themselves are not here (git lfs pull fetches them)"},
        {"{", 1, "JSON text, not weights"},
    };
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
        if (n >= KNOWN[i].n && !memcmp(head, KNOWN[i].bytes, KNOWN[i].n)) return KNOWN[i].name;
    return NULL;
}

void shape_text(char *out, size_t size, int rank, const int64_t *dim) {
    size_t n = 0;
    if (size) out[0] = 0;
    for (int i = 0; i <= rank && n < size; i++) {
        int k = i < rank ? snprintf(out + n, size - n, "%s%lld", i ? ", " : "[", (long long)dim[i])
                         : snprintf(out + n, size - n, rank ? "]" : "[]");
        n += k > 0 ? (size_t)k : 0;
    }
}

static int refuse(const st_file *f, jepa_err *err, const char *name, const char *why) {
    return err_set_at(err, JEPA_E_MODEL, f->path, 8, "%s: tensor \"%.150s\": %s", f->path, name, why);
}

/* element i of an array as a size below 2^53; -1: not one */
static int64_t size_of(const json *v) {
    double d = json_number(v, -1);
    return d >= 0 && d < 9007199254740992.0 && d == (double)(int64_t)d ? (int64_t)d : -1;
}

static int read_entry(st_file *f, const json *entry, st_tensor *t, jepa_err *err) {
    const char *name = json_key(entry);
    size_t length = strlen(name);
    if (!length || length > MAX_NAME) return refuse(f, err, name, "its name is empty or longer than 512 bytes");
    if (!json_is_object(entry)) return refuse(f, err, name, "its entry is not an object");
    const json *shape = json_get(entry, "shape"), *range = json_get(entry, "data_offsets");
    const char *type = json_string(json_get(entry, "dtype"), NULL);
    if (!type || !json_is_array(shape) || !json_is_array(range) || json_size(range) != 2)
        return refuse(f, err, name, "its entry lacks one of dtype, shape, data_offsets");
    t->name = name;
    t->t = (tensor){0};
    if (st_type(type, &t->t.type)) {
        char why[96];
        snprintf(why, sizeof why, "its type \"%.20s\" is not one that is read", type);
        return refuse(f, err, name, why);
    }
    size_t bytes = dtype_size(t->t.type);
    int empty = 0;
    for (const json *d = json_first(shape); d; d = json_next(d)) {
        if (t->t.rank == 8) return refuse(f, err, name, "it has more than 8 dimensions");
        int64_t k = size_of(d);
        if (k < 0) return refuse(f, err, name, "a dimension is not a whole number from 0 to 2^53");
        t->t.dim[t->t.rank++] = k;
        if (!k)
            empty = 1;
        else if (size_mul(bytes, (size_t)k, &bytes))
            return refuse(f, err, name, "its shape overflows");
    }
    if (empty) bytes = 0;
    int64_t from = size_of(json_first(range)), to = size_of(json_next(json_first(range)));
    if (from < 0 || to < from) return refuse(f, err, name, "data_offsets are not two whole numbers in order");
    if (to > (int64_t)f->size - f->data) return refuse(f, err, name, "data_offsets lie behind the end of the file (is it cut short?)");
    if ((size_t)(to - from) != bytes) {
        char dims[200], why[320];
        shape_text(dims, sizeof dims, t->t.rank, t->t.dim);
        snprintf(why, sizeof why, "shape %s of %s needs %zu bytes, data_offsets span %lld", dims, type, bytes, (long long)(to - from));
        return refuse(f, err, name, why);
    }
    t->offset = f->data + from;
    t->t.data = f->map + t->offset;
    return 0;
}

static int by_offset(const void *a, const void *b) {
    const st_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    int xe = tensor_count(&x->t) == 0, ye = tensor_count(&y->t) == 0; /* an empty one stands before the one that begins where it lies */
    return xe != ye ? ye - xe : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b, void *tensors) {
    const st_tensor *t = tensors;
    return strcmp(t[*(const int *)a].name, t[*(const int *)b].name);
}

static int read_header(st_file *f, size_t length, jepa_err *err) {
    int rc = json_parse(&f->header, (const char *)f->map + 8, length, f->path, err);
    if (rc == JEPA_E_IO) {
        err_prefix(err, rc, "safetensors header (bytes counted from its start, byte 8)");
        if (err) {
            err->code = JEPA_E_MODEL;
            if (err->offset >= 0) err->offset += 8;
        }
        return JEPA_E_MODEL;
    }
    if (rc) return rc;
    if (!json_is_object(f->header))
        return err_set_at(err, JEPA_E_MODEL, f->path, 8, "%s: the safetensors header is not a JSON object", f->path);
    int64_t n = json_size(f->header);
    f->tensor = mem_alloc((size_t)n, sizeof *f->tensor);
    f->by_name = mem_alloc((size_t)n, sizeof *f->by_name);
    if (!f->tensor || !f->by_name)
        return err_set_at(err, JEPA_E_MEMORY, f->path, -1, "%s: no memory for %lld tensor entries", f->path, (long long)n);
    for (const json *e = json_first(f->header); e; e = json_next(e)) {
        if (!strcmp(json_key(e), "__metadata__")) {
            int64_t texts = 0;
            for (const json *m = json_first(e); m; m = json_next(m)) texts += json_is_string(m);
            if (!json_is_object(e) || texts != json_size(e))
                return err_set_at(err, JEPA_E_MODEL, f->path, 8,
                                  "%s: __metadata__ of the safetensors header holds something that is not text", f->path);
            continue;
        }
        rc = read_entry(f, e, &f->tensor[f->n], err);
        if (rc) return rc;
        f->n++;
    }
    qsort(f->tensor, (size_t)f->n, sizeof *f->tensor, by_offset);
    int64_t at = f->data;
    for (int i = 0; i < f->n; i++) {
        const st_tensor *t = &f->tensor[i];
        if (t->offset != at)
            return refuse(f, err, t->name, t->offset < at ? "its data overlap those of another tensor" : "there is a hole before its data");
        at += tensor_count(&t->t) * (int64_t)dtype_size(t->t.type);
    }
    if (at != (int64_t)f->size)
        return err_set_at(err, JEPA_E_MODEL, f->path, at, "%s: %lld bytes follow the last tensor and belong to none", f->path,
                          (long long)((int64_t)f->size - at));
    for (int i = 0; i < f->n; i++) f->by_name[i] = i;
    qsort_r(f->by_name, (size_t)f->n, sizeof *f->by_name, by_name, f->tensor);
    return 0;
}

int st_open(st_file **out, const char *path, jepa_err *err) {
    *out = NULL;
    int fd = ck_fault("ck.map") ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hold us up */
    if (fd < 0) return err_set_at(err, JEPA_E_IO, path, -1, "%s: %s", path, errno == ENOENT ? "not found" : strerror(errno));
    st_file *f = mem_alloc(1, sizeof *f);
    struct stat st;
    int rc = 0;
    if (!f || !(f->path = strdup(path))) {
        rc = err_set_at(err, JEPA_E_MEMORY, path, -1, "%s: no memory to open it", path);
        goto fail;
    }
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: is not an ordinary file", path);
        goto fail;
    }
    if (st.st_size < 8) {
        rc = err_set_at(err, JEPA_E_MODEL, path, 0, "%s: %lld bytes are no safetensors file", path, (long long)st.st_size);
        goto fail;
    }
    f->size = (size_t)st.st_size;
    void *map = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: cannot be mapped: %s", path, strerror(errno));
        goto fail;
    }
    f->map = map;
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | f->map[i];
    const char *what = f->map[8 < f->size ? 8 : 0] == '{' && length <= MAX_HEADER ? NULL : content_name(f->map, f->size);
    if (what)
        rc = err_set_at(err, JEPA_E_MODEL, path, 0, "%s: not a safetensors file but %s", path, what);
    else if (length > MAX_HEADER)
        rc = err_set_at(err, JEPA_E_MODEL, path, 0, "%s: not a safetensors file, or a header of %llu bytes; at most 100 MB", path,
                        (unsigned long long)length);
    else if (length > f->size - 8)
        rc = err_set_at(err, JEPA_E_MODEL, path, 0, "%s: the header is said to have %llu bytes, the file has %zu (is it cut short?)", path,
                        (unsigned long long)length, f->size);
    else if (!length || f->map[8] != '{')
        rc = err_set_at(err, JEPA_E_MODEL, path, 8, "%s: not a safetensors file: its header does not begin with '{'", path);
    if (rc) goto fail;
    f->data = 8 + (int64_t)length;
    rc = read_header(f, (size_t)length, err);
    if (rc) goto fail;
    close(fd);
    *out = f;
    return 0;
fail:
    close(fd);
    st_close(&f);
    return rc;
}

void st_close(st_file **f) {
    if (!f || !*f) return;
    st_file *s = *f;
    if (s->map) munmap(s->map, s->size);
    json_close(&s->header);
    mem_free(s->tensor);
    mem_free(s->by_name);
    free(s->path);
    mem_free(s);
    *f = NULL;
}

int st_count(const st_file *f) { return f->n; }
const st_tensor *st_at(const st_file *f, int i) { return i >= 0 && i < f->n ? &f->tensor[i] : NULL; }
const char *st_path(const st_file *f) { return f->path; }

const void *st_bytes(const st_file *f, size_t *size) {
    *size = f->size;
    return f->map;
}

void st_release(const st_file *f) { madvise(f->map, f->size, MADV_DONTNEED); }

const st_tensor *st_find(const st_file *f, const char *name) {
    int low = 0, high = f->n - 1;
    while (low <= high) {
        int mid = low + (high - low) / 2, k = strcmp(name, f->tensor[f->by_name[mid]].name);
        if (!k) return &f->tensor[f->by_name[mid]];
        if (k < 0)
            high = mid - 1;
        else
            low = mid + 1;
    }
    return NULL;
}

const char *st_meta(const st_file *f, const char *key) { return json_string(json_get(json_get(f->header, "__metadata__"), key), NULL); }
