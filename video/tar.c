/* tar.c: see tar.h. */
#include "video/tar.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

typedef struct scan {
    int fd;
    int64_t size, at; /* of the file; where the next header lies */
    const char *path;
    jepa_err *err;
    char *name, *long_name; /* of the entry in hand; from the header before it */
    int64_t pax_size;       /* -1: none */
    int sparse;
} scan;

static int damaged(const scan *s, const char *name, const char *why) {
    return err_set_at(s->err, JEPA_E_INPUT, s->path, s->at, "%s: damaged tar: entry %.120s at byte %lld: %s", s->path,
                      name && *name ? name : "without a name", (long long)s->at, why);
}

static int cut(const scan *s, const char *name) {
    return err_set_at(s->err, JEPA_E_INPUT, s->path, s->at, "%s: tar cut short at byte %lld, in %s%.120s: what follows is not there",
                      s->path, (long long)s->size, name ? "entry " : "a header", name ? name : "");
}

/* 1: n bytes at `at`; 0: fewer; JEPA_E_IO */
static int get(const scan *s, void *to, size_t n, int64_t at) {
    size_t have = 0;
    while (have < n) {
        ssize_t k = pread(s->fd, (char *)to + have, n - have, (off_t)(at + (int64_t)have));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0 || fault_point("tar.read"))
            return err_set_at(s->err, JEPA_E_IO, s->path, at, "%s: cannot be read: %s", s->path, strerror(k < 0 ? errno : EIO));
        if (!k) return 0;
        have += (size_t)k;
    }
    return 1;
}

/* An octal field, or GNU's big-endian binary; -1: neither, or too large. */
static int64_t number(const uint8_t *f, int n) {
    int64_t v = 0;
    int i = 0;
    if (*f & 0x80) {
        v = *f & 0x7f;
        if (v & 0x40) return -1; /* negative */
        for (i = 1; i < n; i++) {
            if (v > (INT64_MAX - f[i]) / 256) return -1;
            v = v * 256 + f[i];
        }
        return v;
    }
    while (i < n && f[i] == ' ') i++;
    for (; i < n && f[i] != ' ' && f[i]; i++) {
        if (f[i] < '0' || f[i] > '7' || v > INT64_MAX / 8) return -1;
        v = v * 8 + (f[i] - '0');
    }
    return v;
}

static int sum_fits(const uint8_t *b) {
    int64_t plain = 0, with_sign = 0, want = number(b + 148, 8); /* old writers added signed bytes */
    for (int i = 0; i < TAR_BLOCK; i++) {
        int in_field = i >= 148 && i < 156;
        plain += in_field ? ' ' : b[i];
        with_sign += in_field ? ' ' : (int8_t)b[i];
    }
    return want == plain || want == with_sign;
}

static int all_zero(const uint8_t *b) {
    for (int i = 0; i < TAR_BLOCK; i++)
        if (b[i]) return 0;
    return 1;
}

int tar_looks_like(const uint8_t *b, size_t size) { return size >= TAR_BLOCK && *b && !all_zero(b) && sum_fits(b); }

/* The bytes of a name or pax header in memory, with a NUL behind */
static int header_data(scan *s, const char *what, int64_t at, int64_t size, int64_t most, char **out) {
    *out = NULL;
    if (size > most) return damaged(s, what, "a name or attribute header of that size is not believed");
    if (size > s->size - at) return cut(s, what);
    char *d = mem_alloc((size_t)size + 1, 1);
    if (!d) return err_set_at(s->err, JEPA_E_MEMORY, s->path, at, "%s: no memory for a name", s->path);
    int rc = get(s, d, (size_t)size, at);
    if (rc == 1) {
        *out = d;
        return 0;
    }
    mem_free(d);
    return rc ? rc : cut(s, what);
}

/* "27 path=a/b\n" again and again */
static int pax(scan *s, const char *d, size_t n) {
    while (n) {
        size_t len = 0, i = 0;
        for (; i < n && d[i] >= '0' && d[i] <= '9' && len < TAR_LONGEST_PAX; i++) len = len * 10 + (size_t)(d[i] - '0');
        if (!i || i >= n || d[i] != ' ' || len <= i + 2 || len > n || d[len - 1] != '\n')
            return damaged(s, "pax header", "its records do not fit");
        const char *key = d + i + 1, *eq = memchr(key, '=', len - i - 2);
        if (!eq) return damaged(s, "pax header", "a record without '='");
        size_t key_n = (size_t)(eq - key), value_n = (size_t)(d + len - 1 - (eq + 1));
        if (key_n == 4 && !memcmp(key, "path", 4)) {
            if (memchr(eq + 1, 0, value_n) || value_n > TAR_LONGEST_NAME) return damaged(s, "pax header", "its path is not a name");
            mem_free(s->long_name);
            s->long_name = mem_alloc(value_n + 1, 1);
            if (!s->long_name) return err_set_at(s->err, JEPA_E_MEMORY, s->path, s->at, "%s: no memory for a name", s->path);
            memcpy(s->long_name, eq + 1, value_n);
        } else if (key_n == 4 && !memcmp(key, "size", 4)) {
            int64_t v = value_n ? 0 : -1;
            for (size_t k = 0; k < value_n && v >= 0; k++) {
                int c = eq[1 + k];
                v = c < '0' || c > '9' || v > (INT64_MAX - 9) / 10 ? -1 : v * 10 + (c - '0');
            }
            if (v < 0) return damaged(s, "pax header", "its size is not a number");
            s->pax_size = v;
        } else if (key_n > 10 && !memcmp(key, "GNU.sparse", 10)) {
            s->sparse = 1;
        }
        d += len;
        n -= len;
    }
    return 0;
}

static void forget(scan *s) {
    mem_free(s->long_name);
    s->long_name = NULL;
    s->pax_size = -1;
    s->sparse = 0;
}

/* s->name: the long name, or prefix and name of the header */
static int name_entry(scan *s, const uint8_t *b) {
    mem_free(s->name);
    s->name = s->long_name;
    s->long_name = NULL;
    if (s->name) return 0;
    size_t n = strnlen((const char *)b, 100), p = memcmp(b + 257, "ustar\0", 6) ? 0 : strnlen((const char *)b + 345, 155);
    s->name = mem_alloc(n + p + 2, 1);
    if (!s->name) return err_set_at(s->err, JEPA_E_MEMORY, s->path, s->at, "%s: no memory for a name", s->path);
    if (p) memcpy(s->name, b + 345, p), s->name[p++] = '/';
    memcpy(s->name + p, b, n);
    return 0;
}

/* Old GNU files with holes: the map goes on in further blocks before the data. */
static int skip_map(scan *s, const uint8_t *b, int64_t *data) {
    uint8_t more[TAR_BLOCK];
    for (int go_on = b[482]; go_on; go_on = more[504]) {
        if (*data > s->size - TAR_BLOCK) return cut(s, s->name);
        int rc = get(s, more, sizeof more, *data);
        if (rc != 1) return rc ? rc : cut(s, s->name);
        *data += TAR_BLOCK;
    }
    return 0;
}

/* 1: an entry for the caller; 2: a header about the next one; 0: the end; < 0 */
static int next(scan *s, tar_entry *e) {
    uint8_t b[TAR_BLOCK];
    int rc, waiting = s->long_name || s->pax_size >= 0 || s->sparse;
    if (s->at >= s->size) return waiting ? cut(s, s->long_name) : 0;
    if (s->size - s->at < TAR_BLOCK) return cut(s, NULL);
    if ((rc = get(s, b, sizeof b, s->at)) != 1) return rc ? rc : cut(s, NULL);
    if (all_zero(b)) return waiting ? damaged(s, s->long_name, "the end stands where the entry should") : 0;
    char type = (char)b[156];
    int64_t size = number(b + 124, 12), data = s->at + TAR_BLOCK;
    char known[101] = {0};
    memcpy(known, b, 100);
    if (!sum_fits(b)) return damaged(s, known, "the header's checksum is wrong");
    if (size < 0) return damaged(s, known, "its size is not a number, or too large");
    if (type == 'L' || type == 'K' || type == 'x' || type == 'X' || type == 'g') {
        char *d = NULL;
        rc = type == 'K' || type == 'g' ? 0 : header_data(s, known, data, size, type == 'L' ? TAR_LONGEST_NAME : TAR_LONGEST_PAX, &d);
        if (!rc && size > s->size - data) rc = cut(s, known);
        if (!rc && type == 'L') {
            mem_free(s->long_name);
            s->long_name = d;
            d = NULL;
        } else if (!rc && d) {
            rc = pax(s, d, (size_t)size);
        }
        mem_free(d);
        if (rc) return rc;
        s->at = data + size + (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
        return 2;
    }
    if ((rc = name_entry(s, b)) < 0) return rc;
    if (s->pax_size >= 0) size = s->pax_size;
    if (type >= '1' && type <= '6') size = 0; /* links, devices, folders: what they say of a size is no data */
    *e = (tar_entry){.name = s->name, .regular = type == '0' || type == '7' || !type, .sparse = s->sparse};
    if (type == 'S') {
        e->regular = e->sparse = 1;
        if ((rc = skip_map(s, b, &data)) < 0) return rc;
    }
    if (e->regular && *s->name && s->name[strlen(s->name) - 1] == '/') e->regular = 0; /* old tar's folders */
    if (size > s->size - data) {
        if (size > INT64_MAX / 2) return damaged(s, s->name, "its size is larger than any file");
        return cut(s, s->name);
    }
    e->offset = data;
    e->size = size;
    s->at = data + size + (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
    return 1;
}

int tar_scan(int fd, int64_t size, const char *path, int (*fn)(void *ctx, const tar_entry *e), void *ctx, jepa_err *err) {
    scan s = {.fd = fd, .size = size, .path = path, .err = err, .pax_size = -1};
    tar_entry e;
    int rc;
    while ((rc = next(&s, &e)) > 0) { /* each step goes on by a block at least */
        if (rc == 2) continue;
        if ((rc = fn(ctx, &e)) != 0) break;
        forget(&s);
    }
    forget(&s);
    mem_free(s.name);
    return rc;
}
