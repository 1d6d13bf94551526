/* part.c: OUT.part, the rows of an embedding job as they come: append-only, a checksum a record, so that a job that was killed at any
 * moment goes on with nothing lost and nothing doubled.
 *
 * Bytes: "JEPAPRT1", then records. Record: u32 kind, u32 crc32 of the payload, u64 payload size, payload. The first record (settings) holds
 * the number of floats a row and the job's settings as JSON. An item is whole when its end record is there; what follows the last one is
 * cut off on opening. Little endian, as every machine this runs on. */
#include "infer/infer.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static const char magic[8] = "JEPAPRT1";
enum { K_SETTINGS = 1, K_ROW, K_FAILED, K_END };
enum { MAX_TEXT = 1 << 20 };

struct part {
    int fd;
    char path[1100];
    int64_t floats, items, rows, failures;
    uint64_t first, end; /* where records begin, and where the whole ones end */
    unsigned char *buf;
    size_t cap;
};

typedef struct head {
    uint32_t kind, crc;
    uint64_t size;
} head;
typedef struct row_head {
    int64_t item, label;
    double start, end;
    int32_t clip, line;
    uint32_t path, reason;
} row_head; /* then path, reason, floats */

static int failed(const part *p, jepa_err *err, const char *what) {
    return err_set_at(err, JEPA_E_IO, p->path, -1, "%s: cannot be %s: %s", p->path, what, strerror(errno));
}

static int room(part *p, size_t size, jepa_err *err) {
    if (size <= p->cap) return 0;
    mem_free(p->buf);
    p->cap = 0;
    if (!(p->buf = mem_alloc(size, 1))) return err_set(err, JEPA_E_MEMORY, "%s: no memory for a record of %zu bytes", p->path, size);
    p->cap = size;
    return 0;
}

static int write_all(int fd, const void *data, size_t n) {
    const char *b = data;
    while (n) {
        if (fault_point("part.write")) return errno = ENOSPC, -1;
        ssize_t k = write(fd, b, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return -1;
        b += k;
        n -= (size_t)k;
    }
    return 0;
}

/* The payload lies in p->buf behind the place of its head, so that a record is one write. */
static int append(part *p, uint32_t kind, size_t size, jepa_err *err) {
    head h = {kind, (uint32_t)crc32_z(0, p->buf + sizeof(head), size), size};
    memcpy(p->buf, &h, sizeof h);
    if (write_all(p->fd, p->buf, sizeof h + size)) {
        int e = errno;
        if (ftruncate(p->fd, (off_t)p->end) == 0) lseek(p->fd, (off_t)p->end, SEEK_SET);
        errno = e;
        return failed(p, err, "written");
    }
    p->end += sizeof h + size;
    return 0;
}

/* Record at `at`: 1 and its payload in p->buf, 0 where no whole record is (the end, or a torn write). */
static int record(part *p, uint64_t at, uint64_t file, head *h, jepa_err *err) {
    if (file - at < sizeof *h || pread(p->fd, h, sizeof *h, (off_t)at) != (ssize_t)sizeof *h) return 0;
    if (h->kind < K_SETTINGS || h->kind > K_END || h->size > file - at - sizeof *h) return 0;
    if (h->size > (uint64_t)p->floats * sizeof(float) + 3 * MAX_TEXT) return 0;
    int rc = room(p, (size_t)h->size + sizeof *h, err);
    if (rc < 0) return rc;
    size_t done = 0;
    while (done < h->size) {
        ssize_t k = pread(p->fd, p->buf + done, (size_t)h->size - done, (off_t)(at + sizeof *h + done));
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return 0;
        done += (size_t)k;
    }
    return (uint32_t)crc32_z(0, p->buf, (size_t)h->size) == h->crc;
}

static int row_of(const part *p, const head *h, part_row *r) {
    row_head rh;
    if (h->size < sizeof rh) return -1;
    memcpy(&rh, p->buf, sizeof rh);
    size_t data = h->kind == K_ROW ? (size_t)p->floats * sizeof(float) : 0;
    if (!rh.path || rh.path > MAX_TEXT || rh.reason > MAX_TEXT || h->size != sizeof rh + rh.path + rh.reason + data) return -1;
    const char *path = (const char *)p->buf + sizeof rh, *reason = path + rh.path;
    if (path[rh.path - 1] || (rh.reason && reason[rh.reason - 1]) || (h->kind == K_FAILED) != (rh.reason > 0)) return -1;
    *r = (part_row){.item = rh.item,
                    .clip = rh.clip,
                    .line = rh.line,
                    .start = rh.start,
                    .end = rh.end,
                    .label = rh.label,
                    .path = path,
                    .reason = rh.reason ? reason : NULL,
                    .data = data ? (const float *)(reason + rh.reason) : NULL};
    return 0;
}

static int scan(part *p, uint64_t file, jepa_err *err) {
    head h;
    int64_t rows = 0, failures = 0;
    int rc;
    for (uint64_t at = p->end; (rc = record(p, at, file, &h, err)) == 1; at += sizeof h + h.size) {
        rows += h.kind == K_ROW;
        failures += h.kind == K_FAILED;
        if (h.kind != K_END) continue;
        p->items++;
        p->rows = rows, p->failures = failures;
        p->end = at + sizeof h + h.size;
    }
    return rc;
}

static int resume(part *p, uint64_t file, const char *settings, jepa_err *err) {
    char got[8], what[200];
    head h;
    int rc;
    if (pread(p->fd, got, sizeof got, 0) != (ssize_t)sizeof got || memcmp(got, magic, sizeof magic) ||
        (rc = record(p, sizeof magic, file, &h, err)) == 0 || (rc == 1 && (h.kind != K_SETTINGS || h.size < sizeof(int64_t) + 1)))
        return err_set_at(err, JEPA_E_IO, p->path, 0, "%s: is not an unfinished job of this program; remove it or choose another -o",
                          p->path);
    if (rc < 0) return rc;
    int64_t floats;
    memcpy(&floats, p->buf, sizeof floats);
    p->buf[h.size - 1] = 0;
    if (settings_differ((const char *)p->buf + sizeof floats, settings, what, sizeof what) || floats != p->floats)
        return err_set_at(err, JEPA_E_USE, p->path, -1, "%s: was begun with other settings (%s); remove it or choose another -o", p->path,
                          floats != p->floats ? "size of a row" : what);
    p->first = p->end = sizeof magic + sizeof h + h.size;
    if ((rc = scan(p, file, err)) < 0) return rc;
    if (ftruncate(p->fd, (off_t)p->end) || lseek(p->fd, (off_t)p->end, SEEK_SET) < 0) return failed(p, err, "written");
    return 0;
}

/* A new file: magic and settings in one write. Into *whole what was (or would be) written: mem_free. */
static int first_bytes(const part *p, const char *settings, unsigned char **whole, size_t *size, jepa_err *err) {
    size_t n = strlen(settings) + 1;
    head h = {K_SETTINGS, 0, sizeof p->floats + n};
    *size = sizeof magic + sizeof h + (size_t)h.size;
    if (!(*whole = mem_alloc(*size, 1))) return err_set(err, JEPA_E_MEMORY, "no memory for the settings");
    unsigned char *b = *whole + sizeof magic + sizeof h;
    memcpy(b, &p->floats, sizeof p->floats);
    memcpy(b + sizeof p->floats, settings, n);
    h.crc = (uint32_t)crc32_z(0, b, (size_t)h.size);
    memcpy(*whole, magic, sizeof magic);
    memcpy(*whole + sizeof magic, &h, sizeof h);
    return 0;
}

/* 1: the file holds less than those bytes, and nothing else: its job was killed before it began. */
static int torn_start(const part *p, uint64_t file, const unsigned char *whole, size_t size) {
    unsigned char b[256];
    if (file >= size) return 0;
    for (size_t at = 0; at < file;) {
        size_t n = file - at < sizeof b ? (size_t)file - at : sizeof b;
        if (pread(p->fd, b, n, (off_t)at) != (ssize_t)n || memcmp(b, whole + at, n)) return 0;
        at += n;
    }
    return 1;
}

int part_open(part **out, const char *path, const char *settings, int64_t floats, jepa_err *err) {
    *out = NULL;
    part *p = mem_alloc(1, sizeof *p);
    struct stat st;
    size_t n = strlen(settings) + 1;
    unsigned char *whole = NULL;
    if (!p) return err_set(err, JEPA_E_MEMORY, "no memory");
    p->fd = -1;
    p->floats = floats;
    int rc;
    if (floats < 1 || (uint64_t)floats > SIZE_MAX / 8 || n > MAX_TEXT ||
        snprintf(p->path, sizeof p->path, "%s", path) >= (int)sizeof p->path) {
        rc = err_set(err, JEPA_E_USE, "output name or settings too long");
        goto fail;
    }
    p->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (p->fd < 0 || fstat(p->fd, &st)) {
        rc = failed(p, err, "written");
        goto fail;
    }
    if (flock(p->fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        rc = err_set_at(err, JEPA_E_IO, path, -1, "%s: another job is writing it", path);
        goto fail;
    }
    if ((rc = first_bytes(p, settings, &whole, &n, err)) < 0) goto fail;
    if (!torn_start(p, (uint64_t)st.st_size, whole, n)) {
        if ((rc = resume(p, (uint64_t)st.st_size, settings, err)) < 0) goto fail;
    } else {
        if (ftruncate(p->fd, 0) || lseek(p->fd, 0, SEEK_SET) < 0 || write_all(p->fd, whole, n)) {
            rc = failed(p, err, "written");
            goto fail;
        }
        p->first = p->end = n;
    }
    mem_free(whole);
    *out = p;
    return 0;
fail:
    mem_free(whole);
    part_close(&p);
    return rc;
}

int64_t part_items(const part *p) { return p->items; }
int64_t part_rows(const part *p) { return p->rows; }
int64_t part_failures(const part *p) { return p->failures; }

/* bytes that a text takes, its NUL included: a multiple of 8, so that the floats behind it are aligned */
static uint32_t padded(const char *s) { return s ? ((uint32_t)strnlen(s, MAX_TEXT - 8) + 8) / 8 * 8 : 0; }
static void text_in(unsigned char *to, const char *s, uint32_t size) {
    if (!size) return;
    memset(to, 0, size);
    memcpy(to, s, strnlen(s, size - 1));
}

int part_add(part *p, const part_row *r, jepa_err *err) {
    row_head h = {.item = r->item,
                  .label = r->label,
                  .start = r->start,
                  .end = r->end,
                  .clip = r->clip,
                  .line = r->line,
                  .path = padded(r->path),
                  .reason = padded(r->reason)};
    size_t data = r->reason ? 0 : (size_t)p->floats * sizeof(float), size = sizeof h + h.path + h.reason + data;
    int rc = room(p, sizeof(head) + size, err);
    if (rc < 0) return rc;
    unsigned char *b = p->buf + sizeof(head);
    memcpy(b, &h, sizeof h);
    text_in(b += sizeof h, r->path, h.path);
    text_in(b + h.path, r->reason, h.reason);
    if (data) memcpy(b + h.path + h.reason, r->data, data);
    if ((rc = append(p, r->reason ? K_FAILED : K_ROW, size, err)) < 0) return rc;
    if (r->reason)
        p->failures++;
    else
        p->rows++;
    return 0;
}

int part_item_done(part *p, int64_t number, jepa_err *err) {
    int rc = room(p, sizeof(head) + sizeof number, err);
    if (rc < 0) return rc;
    memcpy(p->buf + sizeof(head), &number, sizeof number);
    if ((rc = append(p, K_END, sizeof number, err)) == 0) p->items++;
    return rc;
}

static int each(void *src, int only_failures, row_fn *fn, void *ctx, jepa_err *err) {
    part *p = src;
    head h;
    part_row r;
    int rc = 0;
    for (uint64_t at = p->first; at < p->end; at += sizeof h + h.size) {
        if (only_failures && p->end - at >= sizeof h && pread(p->fd, &h, sizeof h, (off_t)at) == (ssize_t)sizeof h && h.kind == K_ROW &&
            h.size <= p->end - at - sizeof h)
            continue;
        if ((rc = record(p, at, p->end, &h, err)) < 0) return rc;
        if (rc == 0)
            return err_set_at(err, JEPA_E_IO, p->path, (int64_t)at, "%s: cannot be read back at byte %llu", p->path,
                              (unsigned long long)at);
        if (h.kind != K_ROW && h.kind != K_FAILED) continue;
        if (row_of(p, &h, &r) < 0)
            return err_set_at(err, JEPA_E_IO, p->path, (int64_t)at, "%s: a damaged record at byte %llu", p->path, (unsigned long long)at);
        if ((!only_failures || r.reason) && (rc = fn(ctx, &r, err)) < 0) return rc;
    }
    return 0;
}
int part_each(part *p, row_fn *fn, void *ctx, jepa_err *err) { return each(p, 0, fn, ctx, err); }
emb_source part_source(part *p) { return (emb_source){.ctx = p, .rows = p->rows, .failures = p->failures, .each = each}; }

void part_close(part **pp) {
    part *p = *pp;
    if (!p) return;
    if (p->fd >= 0) close(p->fd);
    mem_free(p->buf);
    mem_free(p);
    *pp = NULL;
}

int part_remove(part **pp) {
    if (!*pp) return 0;
    int rc = unlink((*pp)->path);
    part_close(pp);
    return rc ? JEPA_E_IO : 0;
}

/* First key whose value is not the same in both objects, as text. */
int settings_differ(const char *a, const char *b, char *what, size_t size) {
    json *x = NULL, *y = NULL;
    int differ = 1;
    snprintf(what, size, "unreadable");
    if (json_parse(&x, a, strlen(a), "settings", NULL) == 0 && json_parse(&y, b, strlen(b), "settings", NULL) == 0) {
        differ = json_size(x) != json_size(y);
        snprintf(what, size, "number of settings");
        for (const json *v = json_first(y); v; v = json_next(v)) {
            const json *u = json_get(x, json_key(v));
            const char *s = json_string(v, NULL), *t = json_string(u, NULL);
            int same = s && t ? !strcmp(s, t)
                              : !s && !t && u && json_number(u, -1e300) == json_number(v, -1e300) && json_bool(u, 2) == json_bool(v, 2);
            if (same) continue;
            differ = 1;
            if (s && t)
                snprintf(what, size, "%s: %.60s there, %.60s now", json_key(v), t, s);
            else
                snprintf(what, size, "%s: %g there, %g now", json_key(v), json_number(u, 0), json_number(v, 0));
            break;
        }
    }
    json_close(&x);
    json_close(&y);
    return differ;
}
