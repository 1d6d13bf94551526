/* items_tar.c: tar shards as WebDataset has them: the members that share a key (the path up to the first dot of the file name) and follow
 * each other are one sample. A sample's video, or else its image, is an item; `.cls` (a number as text) or `.json` ({"label": 3}) its
 * label. Other members, and further videos and images of the same key, are counted and left alone. A label that stands apart from its
 * medium (a folder packed in the order of its directory) finds it by the key. */
#include "base/json.h"
#include "video/items_in.h"
#include "video/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_JSON = 1 << 20, MOST_CLS = 64 };

typedef struct apart {
    uint64_t key;
    int64_t label;
} apart; /* key: a hash of it */

typedef struct shard {
    items *l;
    const char *path;
    int fd;
    item_from from;
    jepa_err *err;
    char *name;   /* of the medium found for the key, or of any member of it while there is none */
    size_t key_n; /* name's first so many bytes are the key */
    int open;     /* a key is in hand */
    name_kind kind;
    int sparse;
    int64_t offset, size, label;
    apart *apart; /* labels without a medium beside them */
    int n_apart, cap_apart;
} shard;

static size_t key_length(const char *name) { /* 0: no key, or no ending */
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name, *dot = strchr(base, '.');
    return !dot || dot == base || !dot[1] ? 0 : (size_t)(dot - name);
}

static uint64_t hash(const char *s, size_t n) {
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return h;
}

static int by_key(const void *a, const void *b) {
    uint64_t x = ((const apart *)a)->key, y = ((const apart *)b)->key;
    return x < y ? -1 : x > y;
}

static int set_apart(shard *s) {
    if (s->n_apart == s->cap_apart) {
        int cap = s->cap_apart ? s->cap_apart * 2 : 64;
        apart *more = cap > 1 << 28 ? NULL : mem_alloc((size_t)cap, sizeof *more);
        if (!more) return err_set(s->err, JEPA_E_MEMORY, "no memory for the labels of a tar");
        if (s->n_apart) memcpy(more, s->apart, (size_t)s->n_apart * sizeof *more);
        mem_free(s->apart);
        s->apart = more;
        s->cap_apart = cap;
    }
    s->apart[s->n_apart++] = (apart){hash(s->name, s->key_n), s->label};
    return 0;
}

static void join(shard *s, int before) {
    if (!s->n_apart || s->from.label != -1) return;
    qsort(s->apart, (size_t)s->n_apart, sizeof *s->apart, by_key);
    for (int i = before; i < s->l->n; i++) {
        item *it = &s->l->at[i];
        if (it->kind != ITEM_TAR || it->label != -1) continue;
        const char *name = it->path + it->inner;
        const apart key = {hash(name, key_length(name)), 0}, *found = bsearch(&key, s->apart, (size_t)s->n_apart, sizeof key, by_key);
        if (found) it->label = found->label;
    }
}

/* The sample in hand is complete. */
static int flush(shard *s) {
    int rc = 0;
    item it = {.label = s->from.label != -1 ? s->from.label : s->label,
               .line = s->from.line,
               .list = s->from.list,
               .kind = ITEM_TAR,
               .offset = s->offset,
               .size = s->size};
    if (s->open && s->kind != NAME_OTHER && s->sparse) {
        size_t n = strlen(s->path) + strlen(s->name) + 2;
        char *whole = mem_alloc(n, 1);
        if (!whole) return err_set(s->err, JEPA_E_MEMORY, "no memory for the list of files");
        snprintf(whole, n, "%s/%s", s->path, s->name);
        rc = items_append_bad(s->l, whole, "stored with holes; write the tar without --sparse", s->from, s->err);
        mem_free(whole);
    } else if (s->open && s->kind != NAME_OTHER) {
        rc = items_append_inner(s->l, s->path, '/', s->name, it, s->err);
    } else if (s->open && s->label != -1) {
        rc = set_apart(s);
    }
    s->open = 0;
    return rc;
}

static int keep_name(shard *s, const char *name, size_t key_n) {
    size_t n = strlen(name) + 1;
    char *c = mem_alloc(n, 1);
    if (!c) return err_set(s->err, JEPA_E_MEMORY, "no memory for the list of files");
    memcpy(c, name, n);
    mem_free(s->name);
    s->name = c;
    s->key_n = key_n;
    return 0;
}

static int label_of(shard *s, const tar_entry *e, int is_json) {
    int64_t most = is_json ? MOST_JSON : MOST_CLS, v = -1;
    if (e->size < 1 || e->size > most) return 0;
    char *d = mem_alloc((size_t)e->size + 1, 1);
    if (!d) return err_set(s->err, JEPA_E_MEMORY, "no memory for a label");
    size_t n = (size_t)e->size, i = 0;
    if (pread(s->fd, d, n, (off_t)e->offset) == (ssize_t)n) {
        json *j = NULL;
        if (is_json) {
            if (json_parse(&j, d, n, s->path, NULL) == 0 && json_int(j, "label", -999999999999999999, 999999999999999999, &v, NULL) == 0)
                s->label = v;
            json_close(&j);
        } else {
            while (n && strchr(" \t\r\n", d[n - 1]) && d[n - 1]) n--;
            while (i < n && strchr(" \t\r\n", d[i]) && d[i]) i++;
            if (items_integer(d + i, n - i, &v)) s->label = v;
        }
    }
    mem_free(d);
    return 0;
}

static int on_entry(void *ctx, const tar_entry *e) {
    shard *s = ctx;
    size_t key_n = key_length(e->name);
    const char *dot = e->name + key_n;
    int rc = 0;
    if (!e->regular) return 0;
    if (!key_n) {
        s->l->ignored++;
        return 0;
    }
    if (s->open && (key_n != s->key_n || memcmp(e->name, s->name, key_n))) rc = flush(s);
    if (!rc && !s->open) {
        if ((rc = keep_name(s, e->name, key_n)) < 0) return rc;
        s->open = 1;
        s->kind = NAME_OTHER;
        s->label = -1;
    }
    if (rc) return rc;
    name_kind kind = items_name_kind(dot);
    if (kind == NAME_VIDEO ? s->kind != NAME_VIDEO : kind == NAME_IMAGE && s->kind == NAME_OTHER) {
        if (s->kind == NAME_IMAGE) s->l->ignored++; /* a picture beside the video */
        s->kind = kind;
        s->offset = e->offset;
        s->size = e->size;
        s->sparse = e->sparse;
        return keep_name(s, e->name, key_n);
    }
    if (!strcasecmp(dot, ".cls") || !strcasecmp(dot, ".json")) return label_of(s, e, !strcasecmp(dot, ".json"));
    s->l->ignored++;
    return 0;
}

int items_add_tar(items *l, const char *path, item_from f, int searched, jepa_err *err) {
    shard s = {.l = l, .path = path, .from = f, .err = err};
    jepa_err why = {0};
    struct stat st;
    int before = l->n, rc;
    s.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (s.fd < 0 || fstat(s.fd, &st)) {
        char text[256];
        snprintf(text, sizeof text, "cannot be opened (%s)", strerror(errno));
        if (s.fd >= 0) close(s.fd);
        return items_append_bad(l, path, text, f, err);
    }
    s.err = &why;
    rc = tar_scan(s.fd, st.st_size, path, on_entry, &s, &why);
    if (rc != JEPA_E_MEMORY) { /* the samples before the damage count, the one in hand too: its medium is whole */
        s.err = err;
        int last = flush(&s);
        if (last < 0) rc = last;
        join(&s, before);
        size_t n = strlen(path);
        const char *text = !strncmp(why.text, path, n) && !strncmp(why.text + n, ": ", 2) ? why.text + n + 2 : why.text;
        if (last == 0 && rc < 0) rc = items_append_bad(l, path, text, f, err);
        if (rc == 0 && l->n == before && !searched) rc = items_append_bad(l, path, "no video and no image in this tar", f, err);
    } else {
        rc = err_set_at(err, rc, path, -1, "%s", why.text);
    }
    close(s.fd);
    mem_free(s.apart);
    mem_free(s.name);
    return rc;
}
