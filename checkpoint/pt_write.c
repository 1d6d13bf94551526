/* pt_write.c: models out as a PyTorch archive with Meta's names: what torch.load(weights_only=True) opens.
 *
 * A zip whose entries are stored, each beginning at a multiple of 64 bytes: data.pkl, byteorder, one data/N for each parameter, version.
 * The pickle (protocol 2) is a dict of an OrderedDict for each module. Values go out from where they lie; an entry's checksum is known when
 * its last byte is written and is then put into its header. Offsets and sizes above 4 GB take the 64-bit fields. Two parts of the same
 * parameters share their entries. */
#include "checkpoint/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { PIECE = 65536, ALIGN = 64, LOCAL = 30 };

typedef struct bytes { /* grown by pieces */
    unsigned char *p;
    size_t size, cap;
    int failed;
} bytes;

static void put(bytes *b, const void *data, size_t n) {
    if (b->failed || !n) return;
    if (b->size + n > b->cap) {
        size_t cap = b->cap * 2 > b->size + n ? b->cap * 2 : b->size + n + 4096;
        unsigned char *p = mem_alloc(cap, 1);
        if (!p) {
            b->failed = 1;
            return;
        }
        if (b->size) memcpy(p, b->p, b->size);
        mem_free(b->p);
        b->p = p, b->cap = cap;
    }
    memcpy(b->p + b->size, data, n);
    b->size += n;
}

static void put_number(bytes *b, uint64_t v, int n) {
    unsigned char x[8];
    for (int i = 0; i < n; i++) x[i] = (unsigned char)(v >> (8 * i));
    put(b, x, (size_t)n);
}

static void put_text(bytes *b, const char *s) { put(b, s, strlen(s)); }

/* ---- the pickle ---- */

static void pickle_text(bytes *b, const char *s) {
    put_text(b, "X");
    put_number(b, strlen(s), 4);
    put_text(b, s);
}

static void pickle_int(bytes *b, int64_t v) {
    if (v >= 0 && v < 256) {
        put_text(b, "K");
        put_number(b, (uint64_t)v, 1);
    } else if (v <= INT32_MAX) {
        put_text(b, "J");
        put_number(b, (uint64_t)v, 4);
    } else {
        put_text(b, "\x8a\x08");
        put_number(b, (uint64_t)v, 8);
    }
}

static void pickle_tensor(bytes *b, const param *a, int entry, dtype store) {
    char key[16];
    int64_t stride[8], step = 1;
    snprintf(key, sizeof key, "%d", entry);
    put_text(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_text(b, "storage");
    put_text(b, store == T_BF16 ? "ctorch\nBFloat16Storage\n" : store == T_F16 ? "ctorch\nHalfStorage\n" : "ctorch\nFloatStorage\n");
    pickle_text(b, key);
    pickle_text(b, "cpu");
    pickle_int(b, a->count);
    put_text(b, "tQK");
    put_number(b, 0, 1);
    put_text(b, "(");
    for (int i = 0; i < a->rank; i++) pickle_int(b, a->dim[i]);
    put_text(b, "t(");
    for (int i = a->rank - 1; i >= 0; i--) stride[i] = step, step *= a->dim[i];
    for (int i = 0; i < a->rank; i++) pickle_int(b, stride[i]);
    put_text(b, "t\x89"
                "ccollections\nOrderedDict\n)RtR");
}

/* ---- the zip ---- */

typedef struct archive {
    out_file f;
    uint64_t at, entries;
    bytes central;
    char stem[128];
    jepa_err *err;
} archive;

/* The local header with an extra field that fills up to 64 bytes; sizes stand in it already, the checksum comes later. */
static int begin(archive *z, const char *name, uint64_t size, uint64_t *header, char whole[256]) {
    bytes h = {0};
    int big = size >= UINT32_MAX;
    size_t n = (size_t)snprintf(whole, 256, "%s/%s", z->stem, name), extra = (size_t)(big ? 20 : 0) + 4, fill;
    fill = (ALIGN - (z->at + LOCAL + n + extra) % ALIGN) % ALIGN;
    *header = z->at;
    put_text(&h, "PK\3\4");
    put_number(&h, big ? 45 : 20, 2);
    put_number(&h, 1 << 11, 2);                    /* names are UTF-8 */
    put_number(&h, 0, 2);                          /* stored */
    put_number(&h, 0, 2), put_number(&h, 0x21, 2); /* 1 January 1980: the same model is the same file */
    put_number(&h, 0, 4);
    put_number(&h, big ? UINT32_MAX : size, 4), put_number(&h, big ? UINT32_MAX : size, 4);
    put_number(&h, n, 2), put_number(&h, extra + fill, 2);
    put(&h, whole, n);
    if (big) put_number(&h, 1, 2), put_number(&h, 16, 2), put_number(&h, size, 8), put_number(&h, size, 8);
    put_text(&h, "FB"); /* as PyTorch names its own filling */
    put_number(&h, fill, 2);
    for (size_t i = 0; i < fill; i++) put_text(&h, "Z");
    int rc = h.failed ? err_set_at(z->err, JEPA_E_MEMORY, z->f.path, -1, "%s: no memory to write it", z->f.path)
                      : out_write(&z->f, h.p, h.size, z->err);
    z->at += h.size;
    mem_free(h.p);
    return rc;
}

static int end(archive *z, const char *whole, uint64_t size, uint64_t header, uint32_t crc) {
    unsigned char c[4] = {(unsigned char)crc, (unsigned char)(crc >> 8), (unsigned char)(crc >> 16), (unsigned char)(crc >> 24)};
    if (ck_fault("ck.write") || pwrite(z->f.fd, c, 4, (off_t)header + 14) != 4)
        return err_set_at(z->err, JEPA_E_IO, z->f.path, -1, "%s: cannot be written: %s", z->f.path, strerror(errno));
    bytes *b = &z->central;
    int big = size >= UINT32_MAX, far = header >= UINT32_MAX;
    put_text(b, "PK\1\2");
    put_number(b, big || far ? 45 : 20, 2), put_number(b, big || far ? 45 : 20, 2);
    put_number(b, 1 << 11, 2), put_number(b, 0, 2);
    put_number(b, 0, 2), put_number(b, 0x21, 2);
    put_number(b, crc, 4);
    put_number(b, big ? UINT32_MAX : size, 4), put_number(b, big ? UINT32_MAX : size, 4);
    put_number(b, strlen(whole), 2), put_number(b, (uint64_t)(big || far ? 4 + (big ? 16 : 0) + (far ? 8 : 0) : 0), 2);
    put_number(b, 0, 2), put_number(b, 0, 2), put_number(b, 0, 2), put_number(b, 0, 4);
    put_number(b, far ? UINT32_MAX : header, 4);
    put_text(b, whole);
    if (big || far) put_number(b, 1, 2), put_number(b, (uint64_t)((big ? 16 : 0) + (far ? 8 : 0)), 2);
    if (big) put_number(b, size, 8), put_number(b, size, 8);
    if (far) put_number(b, header, 8);
    z->entries++;
    return b->failed ? err_set_at(z->err, JEPA_E_MEMORY, z->f.path, -1, "%s: no memory to write it", z->f.path) : 0;
}

static int entry(archive *z, const char *name, const void *data, size_t size) {
    char whole[256];
    uint64_t header;
    int rc = begin(z, name, size, &header, whole);
    if (!rc) rc = out_write(&z->f, data, size, z->err);
    z->at += size;
    return rc ? rc : end(z, whole, size, header, (uint32_t)crc32_z(crc32_z(0, NULL, 0), data, size));
}

/* The values of one parameter, converted as they go out. */
static int values(archive *z, int number, const float *x, int64_t count, dtype store, unsigned char *piece) {
    char whole[256], name[32];
    size_t one = dtype_size(store), size = (size_t)count * one;
    uint64_t header;
    uLong crc = crc32_z(0, NULL, 0);
    snprintf(name, sizeof name, "data/%d", number);
    int rc = begin(z, name, size, &header, whole);
    for (size_t i = 0, k; !rc && i < (size_t)count; i += k) {
        k = (size_t)count - i < PIECE / one ? (size_t)count - i : PIECE / one;
        const void *from = piece;
        if (store == T_F32) from = x + i;
        for (size_t j = 0; j < k && store != T_F32; j++) {
            uint16_t h = store == T_BF16 ? f32_to_bf16(x[i + j]) : f32_to_f16(x[i + j]);
            memcpy(piece + j * one, &h, one);
        }
        crc = crc32_z(crc, from, k * one);
        rc = out_write(&z->f, from, k * one, z->err);
    }
    z->at += size;
    return rc ? rc : end(z, whole, size, header, (uint32_t)crc);
}

static int finish(archive *z) {
    bytes *b = &z->central;
    uint64_t begin_at = z->at, size = b->size, end64 = begin_at + size;
    if (begin_at >= UINT32_MAX || size >= UINT32_MAX || z->entries >= 0xffff) {
        put_text(b, "PK\6\6");
        put_number(b, 44, 8), put_number(b, 45, 2), put_number(b, 45, 2), put_number(b, 0, 4), put_number(b, 0, 4);
        put_number(b, z->entries, 8), put_number(b, z->entries, 8), put_number(b, size, 8), put_number(b, begin_at, 8);
        put_text(b, "PK\6\7");
        put_number(b, 0, 4), put_number(b, end64, 8), put_number(b, 1, 4);
    }
    put_text(b, "PK\5\6");
    put_number(b, 0, 4);
    put_number(b, z->entries < 0xffff ? z->entries : 0xffff, 2), put_number(b, z->entries < 0xffff ? z->entries : 0xffff, 2);
    put_number(b, size < UINT32_MAX ? size : UINT32_MAX, 4), put_number(b, begin_at < UINT32_MAX ? begin_at : UINT32_MAX, 4);
    put_number(b, 0, 2);
    if (b->failed) return err_set_at(z->err, JEPA_E_MEMORY, z->f.path, -1, "%s: no memory to write it", z->f.path);
    return out_write(&z->f, b->p, b->size, z->err);
}

/* ---- the model ---- */

static int mine(const ck_part *part, int i) { return !strncmp(part->p->item[i].name, part->prefix, strlen(part->prefix)); }

/* the part before it that holds the same parameters, or itself */
static int same_as(const ck_part *part, int n) {
    for (int i = 0; i < n; i++)
        if (part[i].p == part[n].p && !strcmp(part[i].prefix, part[n].prefix)) return i;
    return n;
}

static int check(const char *path, const ck_part *part, int n, dtype store, jepa_err *err) {
    if (n < 1 || n > 4 || (store != T_F32 && store != T_BF16 && store != T_F16))
        return err_set_at(err, JEPA_E_USE, path, -1, "%s: nothing to write, or not as f32, bf16 or f16", path);
    for (int i = 0; i < n; i++) {
        int any = 0;
        for (int k = 0; k < part[i].p->n; k++) any |= mine(&part[i], k);
        if (!any || !part[i].p->value.p)
            return err_set_at(err, JEPA_E_USE, path, -1, "%s: no parameters named %s* to write", path, part[i].prefix);
        if (part_is_half(&part[i], path, err)) return JEPA_E_USE;
        if (part[i].module == CK_POOLER)
            return err_set_at(err, JEPA_E_USE, path, -1, "%s: a classification head has no place in a checkpoint of Meta's form", path);
        for (int k = 0; k < i; k++)
            if (part[k].module == part[i].module)
                return err_set_at(err, JEPA_E_USE, path, -1, "%s: %s is given twice", path, module_name(part[i].module));
    }
    return 0;
}

int ck_write_pt(const char *path, const model_cfg *m, const ck_part *part, int n, dtype store, jepa_err *err) {
    const char *front =
        !strcmp(m->family, "ijepa") || !strcmp(m->family, "vjepa2ac") ? "module." : "module.backbone."; /* as the published files */
    archive z = {.stem = "archive", .err = err};
    bytes pkl = {0};
    int first[4], entries = 0, rc = check(path, part, n, store, err);
    if (rc) return rc;
    unsigned char *piece = mem_alloc(PIECE, 1);
    if (!piece) return err_set_at(err, JEPA_E_MEMORY, path, -1, "%s: no memory to write it", path);
    put_text(&pkl, "\x80\x02}(");
    for (int i = 0; i < n; i++) {
        int same = same_as(part, i), entry_number;
        first[i] = same < i ? first[same] : entries;
        entry_number = first[i];
        pickle_text(&pkl, module_name(part[i].module));
        put_text(&pkl, "ccollections\nOrderedDict\n)R(");
        for (int k = 0; k < part[i].p->n; k++) {
            char name[256];
            if (!mine(&part[i], k)) continue;
            snprintf(name, sizeof name, "%s%s", front, part[i].p->item[k].name + strlen(part[i].prefix));
            pickle_text(&pkl, name);
            pickle_tensor(&pkl, &part[i].p->item[k], entry_number++, store);
        }
        if (same == i) entries = entry_number;
        put_text(&pkl, "u");
    }
    put_text(&pkl, "u.");
    rc = pkl.failed ? err_set_at(err, JEPA_E_MEMORY, path, -1, "%s: no memory to write it", path) : out_open(&z.f, path, err);
    if (rc) z.f.fd = -1;
    if (!rc) rc = entry(&z, "data.pkl", pkl.p, pkl.size);
    if (!rc) rc = entry(&z, "byteorder", "little", 6);
    for (int i = 0, k, number = 0; !rc && i < n; i++)
        for (k = 0; same_as(part, i) == i && !rc && k < part[i].p->n; k++)
            if (mine(&part[i], k)) rc = values(&z, number++, param_value(part[i].p, k), part[i].p->item[k].count, store, piece);
    if (!rc) rc = entry(&z, "version", "3\n", 2);
    if (!rc) rc = finish(&z);
    if (!rc) rc = out_commit(&z.f, err);
    if (z.f.path[0]) out_abort(&z.f);
    mem_free(z.central.p);
    mem_free(pkl.p);
    mem_free(piece);
    return rc;
}
