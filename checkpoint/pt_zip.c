/* pt_zip.c: the directory of a zip archive, as torch.save writes it: entries stored, offsets and sizes possibly in 64 bits.
 *
 * Read from the end: end record, its 64-bit form where fields are 0xffff…, then the central directory; sizes come from there alone (local
 * headers may leave them to a descriptor behind the data). Entries that overlap, lie outside the file or have the same name are refused
 * here. The checksums of stored entries are not compared: that would read all of the file. */
#include "checkpoint/pt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { END = 22, END64 = 56, LOCATOR = 20, CENTRAL = 46, LOCAL = 30 };

static uint64_t get(const unsigned char *p, int n) {
    uint64_t v = 0;
    while (n--) v = v << 8 | p[n];
    return v;
}

static int refuse(const zip *z, uint64_t at, jepa_err *err, const char *why) {
    return err_set_at(err, JEPA_E_MODEL, z->path, (int64_t)at, "%s: a zip archive, but %s", z->path, why);
}

static int refuse_entry(const zip *z, const zip_entry *e, jepa_err *err, const char *why) {
    return err_set_at(err, JEPA_E_MODEL, z->path, (int64_t)e->header, "%s: entry \"%.*s\" %s", z->path,
                      (int)(e->name_size > 150 ? 150 : e->name_size), (const char *)e->name, why);
}

static int name_order(const zip_entry *a, const unsigned char *name, size_t size) {
    size_t n = a->name_size < size ? a->name_size : size;
    int k = memcmp(a->name, name, n);
    return k ? k : a->name_size < size ? -1 : a->name_size > size;
}

static int by_name(const void *a, const void *b) {
    const zip_entry *y = b;
    return name_order(a, y->name, y->name_size);
}

static int by_place(const void *a, const void *b) {
    const zip_entry *x = a, *y = b;
    return x->header < y->header ? -1 : x->header > y->header;
}

/* 64-bit values of the fields that are 0xffffffff, in their order: size, packed, header. */
static int extra64(zip_entry *e, const unsigned char *p, size_t n) {
    int want = (e->size == UINT32_MAX) + (e->packed == UINT32_MAX) + (e->header == UINT32_MAX);
    while (want && n >= 4) {
        size_t id = get(p, 2), size = get(p + 2, 2);
        if (size > n - 4) return JEPA_E_MODEL;
        if (id == 1) {
            const unsigned char *q = p + 4;
            uint64_t *field[] = {&e->size, &e->packed, &e->header};
            for (int i = 0; i < 3; i++)
                if (*field[i] == UINT32_MAX) {
                    if (size < 8) return JEPA_E_MODEL;
                    *field[i] = get(q, 8);
                    q += 8, size -= 8;
                }
            return 0;
        }
        p += 4 + size, n -= 4 + size;
    }
    return want ? JEPA_E_MODEL : 0;
}

int zip_read(zip *z, pt_mem *mem, jepa_err *err) {
    const unsigned char *m = z->map;
    size_t size = z->size, end, low = size > END + 65535 ? size - END - 65535 : 0;
    if (size < END) return refuse(z, 0, err, "too short to be whole");
    for (end = size - END;; end--) { /* the comment behind it has any length up to 65535 */
        if (!memcmp(m + end, "PK\5\6", 4) && get(m + end + 20, 2) == size - end - END) break;
        if (end == low) return refuse(z, size, err, "its end is missing: the file was cut short, or is still being written");
    }
    uint64_t n = get(m + end + 10, 2), bytes = get(m + end + 12, 4), at = get(m + end + 16, 4), last = end;
    if (get(m + end + 4, 2) && get(m + end + 4, 2) != 0xffff) return refuse(z, end, err, "one in several parts, which is not read");
    if (end >= LOCATOR && !memcmp(m + end - LOCATOR, "PK\6\7", 4)) {
        uint64_t there = get(m + end - LOCATOR + 8, 8);
        if (there > end - LOCATOR || end - LOCATOR - there < END64 || memcmp(m + there, "PK\6\6", 4))
            return refuse(z, end, err, "the 64-bit end record is not where it is said to be");
        n = get(m + there + 32, 8), bytes = get(m + there + 40, 8), at = get(m + there + 48, 8), last = there;
    }
    if (at > last || bytes > last - at) return refuse(z, end, err, "its directory lies outside the file");
    if (n > bytes / CENTRAL) return refuse(z, at, err, "its directory is too short for the entries that it is said to have");
    if (n > PT_MAX_ENTRIES) return refuse(z, at, err, "it has more than 200000 entries");
    if (pt_grow(mem, &z->entry, &z->cap, (size_t)n + 1, sizeof *z->entry))
        return refuse(z, at, err, "it has more entries than a file of this size may");
    const unsigned char *p = m + at, *stop = p + bytes;
    for (uint64_t i = 0; i < n; i++) {
        if ((size_t)(stop - p) < CENTRAL || memcmp(p, "PK\1\2", 4)) return refuse(z, (uint64_t)(p - m), err, "its directory is damaged");
        size_t name = get(p + 28, 2), extra = get(p + 30, 2), comment = get(p + 32, 2);
        if ((size_t)(stop - p) - CENTRAL < name + extra + comment) return refuse(z, (uint64_t)(p - m), err, "its directory is damaged");
        zip_entry *e = &z->entry[z->n++];
        *e = (zip_entry){p + CENTRAL,    (uint32_t)name, (uint16_t)get(p + 10, 2), (uint16_t)get(p + 8, 2), get(p + 24, 4),
                         get(p + 20, 4), get(p + 42, 4)};
        if (extra64(e, p + CENTRAL + name, extra)) return refuse_entry(z, e, err, "has no 64-bit sizes where it needs them");
        if (e->header > at || at - e->header < LOCAL + (uint64_t)e->name_size || e->packed > at - e->header - LOCAL - e->name_size)
            return refuse_entry(z, e, err, "lies outside the file, or is said to be longer than it");
        p += CENTRAL + name + extra + comment;
    }
    qsort(z->entry, z->n, sizeof *z->entry, by_place);
    for (size_t i = 1; i < z->n; i++) {
        const zip_entry *e = &z->entry[i - 1];
        if (z->entry[i].header - e->header < LOCAL + (uint64_t)e->name_size + e->packed)
            return refuse_entry(z, e, err, "overlaps the one behind it");
    }
    qsort(z->entry, z->n, sizeof *z->entry, by_name);
    for (size_t i = 1; i < z->n; i++)
        if (!by_name(&z->entry[i - 1], &z->entry[i])) return refuse_entry(z, &z->entry[i], err, "is there twice");
    return 0;
}

const zip_entry *zip_find(const zip *z, const char *name, size_t size) {
    size_t low = 0, high = z->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int k = name_order(&z->entry[mid], (const unsigned char *)name, size);
        if (!k) return &z->entry[mid];
        if (k < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* where the bytes of an entry begin, behind its local header */
static int begin(const zip *z, const zip_entry *e, const unsigned char **data, jepa_err *err) {
    const unsigned char *p = z->map + e->header; /* zip_read: the header, the name and the packed bytes are inside */
    if (memcmp(p, "PK\3\4", 4)) return refuse_entry(z, e, err, "is not where the directory says");
    if (e->flags & 1) return refuse_entry(z, e, err, "is encrypted");
    uint64_t skip = LOCAL + get(p + 26, 2) + get(p + 28, 2);
    if (skip > z->size - e->header || e->packed > z->size - e->header - skip)
        return refuse_entry(z, e, err, "ends behind the end of the file");
    *data = p + skip;
    return 0;
}

int zip_data(const zip *z, const zip_entry *e, const unsigned char **data, jepa_err *err) {
    char why[160];
    if (e->method) {
        snprintf(why, sizeof why,
                 "is packed (method %d); torch.save stores, so this archive was made by another program: unpack it and zip it with -0",
                 e->method);
        return refuse_entry(z, e, err, why);
    }
    if (e->size != e->packed) return refuse_entry(z, e, err, "is stored, but its two sizes differ");
    return begin(z, e, data, err);
}

int zip_unpack(const zip *z, const zip_entry *e, unsigned char **data, pt_mem *mem, jepa_err *err) {
    const unsigned char *from;
    int rc = begin(z, e, &from, err);
    if (rc) return rc;
    if (e->method != 8) return refuse_entry(z, e, err, "is packed by a method that is not read");
    if (e->size > PT_MAX_PICKLE || e->packed > PT_MAX_PICKLE || mem->used > mem->limit || e->size > mem->limit - mem->used)
        return refuse_entry(z, e, err, "would be too large unpacked");
    *data = mem_alloc((size_t)e->size + 1, 1);
    if (!*data) return err_set_at(err, JEPA_E_MEMORY, z->path, -1, "%s: no memory to unpack its pickle", z->path);
    mem->used += (size_t)e->size;
    z_stream s = {.next_in = (unsigned char *)(uintptr_t)from, .avail_in = (uInt)e->packed, .next_out = *data, .avail_out = (uInt)e->size};
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK)
        return err_set_at(err, JEPA_E_MEMORY, z->path, -1, "%s: no memory to unpack its pickle", z->path);
    int end = inflate(&s, Z_FINISH);
    size_t got = (size_t)s.total_out;
    inflateEnd(&s);
    return end == Z_STREAM_END && got == e->size ? 0 : refuse_entry(z, e, err, "cannot be unpacked: its packed bytes are damaged");
}
