/* pt_make.h: PyTorch archives made by hand, right ones and wrong ones: a growing block of bytes, the pickle opcodes that torch.save writes,
 * a zip with stored entries. Nothing here uses the code under test. */
#ifndef PT_MAKE_H
#define PT_MAKE_H
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

typedef struct blob {
    unsigned char *p;
    size_t n, cap;
} blob;

static inline void put(blob *b, const void *data, size_t n) {
    if (b->n + n > b->cap) {
        b->cap = (b->n + n) * 2 + 256;
        b->p = realloc(b->p, b->cap);
        if (!b->p) abort();
    }
    if (n) memcpy(b->p + b->n, data, n);
    b->n += n;
}
static inline void puts_(blob *b, const char *s) { put(b, s, strlen(s)); }
static inline void put8(blob *b, int v) {
    unsigned char c = (unsigned char)v;
    put(b, &c, 1);
}
static inline void putn(blob *b, uint64_t v, int n) {
    while (n--) put8(b, (int)(v & 255)), v >>= 8;
}
static inline void blob_free(blob *b) {
    free(b->p);
    *b = (blob){0};
}

/* ---- pickle ---- */
static inline void pk_begin(blob *b, int protocol) { put8(b, 0x80), put8(b, protocol); }
static inline void pk_text(blob *b, const char *s) { put8(b, 'X'), putn(b, strlen(s), 4), puts_(b, s); }
static inline void pk_int(blob *b, int64_t v) {
    if (v >= 0 && v < 256)
        put8(b, 'K'), putn(b, (uint64_t)v, 1);
    else if (v >= INT32_MIN && v <= INT32_MAX)
        put8(b, 'J'), putn(b, (uint64_t)v, 4);
    else
        put8(b, 0x8a), put8(b, 8), putn(b, (uint64_t)v, 8);
}
static inline void pk_global(blob *b, const char *module, const char *name) {
    put8(b, 'c'), puts_(b, module), put8(b, '\n'), puts_(b, name), put8(b, '\n');
}
static inline void pk_odict(blob *b) { pk_global(b, "collections", "OrderedDict"), puts_(b, ")R"); }
static inline void pk_ints(blob *b, int n, const int64_t *v) {
    put8(b, '(');
    for (int i = 0; i < n; i++) pk_int(b, v[i]);
    put8(b, 't');
}
static inline void pk_storage(blob *b, const char *class, const char *key, int64_t numel) {
    put8(b, '('), pk_text(b, "storage"), pk_global(b, "torch", class), pk_text(b, key), pk_text(b, "cpu"), pk_int(b, numel), puts_(b, "tQ");
}
static inline void pk_view(blob *b, const char *class, const char *key, int64_t numel, int64_t offset, int rank, const int64_t *dim,
                           const int64_t *stride) {
    pk_global(b, "torch._utils", "_rebuild_tensor_v2"), put8(b, '(');
    pk_storage(b, class, key, numel), pk_int(b, offset), pk_ints(b, rank, dim), pk_ints(b, rank, stride), put8(b, 0x89), pk_odict(b),
        puts_(b, "tR");
}
static inline void pk_tensor(blob *b, const char *class, const char *key, int rank,
                             const int64_t *dim) { /* contiguous, all of its storage */
    int64_t stride[8], n = 1;
    for (int i = rank - 1; i >= 0; i--) stride[i] = n, n *= dim[i];
    pk_view(b, class, key, n, 0, rank, dim, stride);
}

/* ---- zip ---- */
typedef struct zip_make {
    blob out, central;
    int entries, force64; /* force64: sizes and offsets in 64 bits although they are small */
} zip_make;
static inline void zip_central(zip_make *z, const char *name, int method, uint32_t crc, uint64_t size, uint64_t packed, uint64_t header) {
    int big = z->force64 || size >= UINT32_MAX || packed >= UINT32_MAX || header >= UINT32_MAX;
    blob *c = &z->central;
    puts_(c, "PK\1\2"), putn(c, 45, 2), putn(c, 45, 2), putn(c, 0, 2), putn(c, (uint64_t)method, 2), putn(c, 0, 4), putn(c, crc, 4);
    putn(c, big ? UINT32_MAX : packed, 4), putn(c, big ? UINT32_MAX : size, 4);
    putn(c, strlen(name), 2), putn(c, big ? 28 : 0, 2), putn(c, 0, 2), putn(c, 0, 2), putn(c, 0, 2), putn(c, 0, 4);
    putn(c, big ? UINT32_MAX : header, 4), puts_(c, name);
    if (big) putn(c, 1, 2), putn(c, 24, 2), putn(c, size, 8), putn(c, packed, 8), putn(c, header, 8);
    z->entries++;
}
static inline void zip_local(blob *o, const char *name, int method, uint32_t crc, uint64_t size, uint64_t packed) {
    puts_(o, "PK\3\4"), putn(o, 45, 2), putn(o, 0, 2), putn(o, (uint64_t)method, 2), putn(o, 0, 4), putn(o, crc, 4);
    putn(o, packed < UINT32_MAX ? packed : UINT32_MAX, 4), putn(o, size < UINT32_MAX ? size : UINT32_MAX, 4), putn(o, strlen(name), 2),
        putn(o, 0, 2), puts_(o, name);
}
static inline void zip_add(zip_make *z, const char *name, const void *data, size_t size) {
    uint32_t crc = (uint32_t)crc32(0, data, (uInt)size);
    uint64_t header = z->out.n;
    zip_local(&z->out, name, 0, crc, size, size);
    put(&z->out, data, size);
    zip_central(z, name, 0, crc, size, size, header);
}
static inline void zip_tail(blob *o, int entries, uint64_t size, uint64_t at, int is64) {
    if (is64) {
        uint64_t end = at + size;
        puts_(o, "PK\6\6"), putn(o, 44, 8), putn(o, 45, 2), putn(o, 45, 2), putn(o, 0, 8), putn(o, (uint64_t)entries, 8),
            putn(o, (uint64_t)entries, 8), putn(o, size, 8), putn(o, at, 8);
        puts_(o, "PK\6\7"), putn(o, 0, 4), putn(o, end, 8), putn(o, 1, 4);
    }
    puts_(o, "PK\5\6"), putn(o, 0, 4), putn(o, is64 ? 0xffff : (uint64_t)entries, 2), putn(o, is64 ? 0xffff : (uint64_t)entries, 2);
    putn(o, is64 ? UINT32_MAX : size, 4), putn(o, is64 ? UINT32_MAX : at, 4), putn(o, 0, 2);
}
static inline void zip_end(zip_make *z) {
    uint64_t at = z->out.n;
    put(&z->out, z->central.p, z->central.n);
    zip_tail(&z->out, z->entries, z->central.n, at, z->force64);
    blob_free(&z->central);
}

static inline void write_all(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
}

/* ---- a state dict with values: each tensor a storage of its own, numbered on ---- */
typedef struct archive_make {
    zip_make z;
    blob pkl, values[512];
    int n;
} archive_make;
static inline void ar_add(archive_make *a, const void *data, size_t size) { put(&a->values[a->n++], data, size); }
/* the pickle, byteorder and the storages as a file */
static inline void ar_write(archive_make *a, const char *path) {
    char name[64];
    zip_add(&a->z, "a/data.pkl", a->pkl.p, a->pkl.n);
    zip_add(&a->z, "a/byteorder", "little", 6);
    for (int i = 0; i < a->n; i++) {
        snprintf(name, sizeof name, "a/data/%d", i);
        zip_add(&a->z, name, a->values[i].p, a->values[i].n);
        blob_free(&a->values[i]);
    }
    zip_add(&a->z, "a/version", "3\n", 2);
    zip_end(&a->z);
    write_all(path, a->z.out.p, a->z.out.n);
    blob_free(&a->z.out);
    blob_free(&a->pkl);
    memset(a, 0, sizeof *a);
}

/* ---- the model of the cases: values told by names, exact in all float types ---- */
static inline float case_value(const char *name, int64_t i) {
    return ((float)((crc32(0, (const void *)name, (uInt)strlen(name)) + (uint64_t)i) % 251) - 125.0f) / 128.0f;
}
typedef struct case_tensor {
    char name[64];
    int rank;
    int64_t dim[5], count;
} case_tensor;
static inline void case_put(case_tensor *t, int *n, int rank, const int64_t *dim, const char *fmt, int block) {
    case_tensor *k = &t[(*n)++];
    snprintf(k->name, sizeof k->name, fmt, block);
    k->rank = rank, k->count = 1;
    for (int i = 0; i < rank; i++) k->dim[i] = dim[i], k->count *= dim[i];
}
#define DIMS(...)                                                                                                                          \
    (const int64_t[]) { __VA_ARGS__ }
static inline int case_vit(case_tensor *t, int d, int depth, int p, int tube, int mlp) { /* its tensors, in the order of a file */
    int n = 0;
    case_put(t, &n, 5, DIMS(d, 3, tube, p, p), "patch_embed.proj.weight", 0), case_put(t, &n, 1, DIMS(d), "patch_embed.proj.bias", 0);
    for (int i = 0; i < depth; i++) {
        case_put(t, &n, 1, DIMS(d), "blocks.%d.norm1.weight", i), case_put(t, &n, 1, DIMS(d), "blocks.%d.norm1.bias", i);
        case_put(t, &n, 1, DIMS(d), "blocks.%d.norm2.weight", i), case_put(t, &n, 1, DIMS(d), "blocks.%d.norm2.bias", i);
        case_put(t, &n, 2, DIMS(3 * d, d), "blocks.%d.attn.qkv.weight", i), case_put(t, &n, 1, DIMS(3 * d), "blocks.%d.attn.qkv.bias", i);
        case_put(t, &n, 2, DIMS(d, d), "blocks.%d.attn.proj.weight", i), case_put(t, &n, 1, DIMS(d), "blocks.%d.attn.proj.bias", i);
        case_put(t, &n, 2, DIMS(mlp * d, d), "blocks.%d.mlp.fc1.weight", i), case_put(t, &n, 1, DIMS(mlp * d), "blocks.%d.mlp.fc1.bias", i);
        case_put(t, &n, 2, DIMS(d, mlp * d), "blocks.%d.mlp.fc2.weight", i), case_put(t, &n, 1, DIMS(d), "blocks.%d.mlp.fc2.bias", i);
    }
    case_put(t, &n, 1, DIMS(d), "norm.weight", 0), case_put(t, &n, 1, DIMS(d), "norm.bias", 0);
    return n;
}
static inline int case_predictor(case_tensor *t, int d, int out, int depth, int tokens) {
    int n = 0;
    case_put(t, &n, 2, DIMS(d, out), "predictor_embed.weight", 0), case_put(t, &n, 1, DIMS(d), "predictor_embed.bias", 0);
    for (int i = 0; i < tokens; i++) case_put(t, &n, 3, DIMS(1, 1, d), "mask_tokens.%d", i);
    for (int i = 0; i < depth; i++) {
        case_put(t, &n, 1, DIMS(d), "predictor_blocks.%d.norm1.weight", i),
            case_put(t, &n, 1, DIMS(d), "predictor_blocks.%d.norm1.bias", i);
        case_put(t, &n, 1, DIMS(d), "predictor_blocks.%d.norm2.weight", i),
            case_put(t, &n, 1, DIMS(d), "predictor_blocks.%d.norm2.bias", i);
        case_put(t, &n, 2, DIMS(3 * d, d), "predictor_blocks.%d.attn.qkv.weight", i),
            case_put(t, &n, 1, DIMS(3 * d), "predictor_blocks.%d.attn.qkv.bias", i);
        case_put(t, &n, 2, DIMS(d, d), "predictor_blocks.%d.attn.proj.weight", i),
            case_put(t, &n, 1, DIMS(d), "predictor_blocks.%d.attn.proj.bias", i);
        case_put(t, &n, 2, DIMS(4 * d, d), "predictor_blocks.%d.mlp.fc1.weight", i),
            case_put(t, &n, 1, DIMS(4 * d), "predictor_blocks.%d.mlp.fc1.bias", i);
        case_put(t, &n, 2, DIMS(d, 4 * d), "predictor_blocks.%d.mlp.fc2.weight", i),
            case_put(t, &n, 1, DIMS(d), "predictor_blocks.%d.mlp.fc2.bias", i);
    }
    case_put(t, &n, 1, DIMS(d), "predictor_norm.weight", 0), case_put(t, &n, 1, DIMS(d), "predictor_norm.bias", 0);
    case_put(t, &n, 2, DIMS(out, d), "predictor_proj.weight", 0), case_put(t, &n, 1, DIMS(out), "predictor_proj.bias", 0);
    return n;
}
static inline void case_number(archive_make *a, char *key, size_t size) { snprintf(key, size, "%d", a->n); }
/* one tensor into the dict that is open: 'f' f32, 'b' bf16, 'h' f16 (the values are exact in all) */
static inline void case_add(archive_make *a, const char *prefix, const case_tensor *t, char type) {
    char key[16], whole[160];
    blob v = {0};
    snprintf(whole, sizeof whole, "%s%s", prefix, t->name);
    case_number(a, key, sizeof key);
    pk_text(&a->pkl, whole);
    pk_tensor(&a->pkl, type == 'b' ? "BFloat16Storage" : type == 'h' ? "HalfStorage" : "FloatStorage", key, t->rank, t->dim);
    for (int64_t i = 0; i < t->count; i++) {
        float x = case_value(t->name, i);
        uint32_t bits;
        memcpy(&bits, &x, 4);
        if (type == 'b') bits >>= 16;
        if (type == 'h') { /* normal numbers of 8 bits, or 0: both fields shift over */
            uint32_t e = bits >> 23 & 255;
            bits = e ? (bits >> 16 & 0x8000) | (e - 112) << 10 | (bits >> 13 & 0x3ff) : bits >> 16;
        }
        put(&v, &bits, type == 'f' ? 4 : 2);
    }
    ar_add(a, v.p, v.n);
    blob_free(&v);
}
#endif
