/* items_tar.c: tar shards as WebDataset has them: the members that share a key (the path up to the first dot of the file name) and follow
 * each other are one sample. A sample's video, or else its image, is an item; `.cls` (a number as text) or `.json` ({"label": 3}) its
 * label. Other members, and further videos and images of the same key, are counted and left alone. */
#include "base/json.h"
#include "video/items_in.h"
#include "video/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_JSON = 1 << 20, MOST_CLS = 64 };

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
} shard;

/* The sample in hand is complete. */
static int flush(shard *s) {
    int rc = 0;
    item it = {.label = s->from.label != -1 ? s->from.label : s->label, .line = s->from.line, .list = s->from.list, .kind = ITEM_TAR,
               .offset = s->offset, .size = s->size};
    if (s->open && s->kind != NAME_OTHER && s->sparse) {
        size_t n = strlen(s->path) + strlen(s->name) + 2;
        char *whole = mem_alloc(n, 1);
        if (!whole) return err_set(s->err, JEPA_E_MEMORY, "no memory for the list of files");
        snprintf(whole, n, "%s/%s", s->path, s->name);
        rc = items_append_bad(s->l, whole, "stored with holes; write the tar without --sparse", s->from, s->err);
        mem_free(whole);
    } else if (s->open && s->kind != NAME_OTHER) {
        rc = items_append_inner(s->l, s->path, '/', s->name, it, s->err);
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
    const char *slash = strrchr(e->name, '/'), *base = slash ? slash + 1 : e->name, *dot = strchr(base, '.');
    int rc = 0;
    if (!e->regular) return 0;
    if (!dot || dot == base || !dot[1]) { /* no key, or no ending */
        s->l->ignored++;
        return 0;
    }
    size_t key_n = (size_t)(dot - e->name);
    if (s->open && (key_n != s->key_n || memcmp(e->name, s->name, key_n))) rc = flush(s);
    if (!rc && !s->open) {
        if ((rc = keep_name(s, e->name, key_n)) < 0) return rc;
        s->open = 1;
        s->kind = NAME_OTHER;
        s->label = -1;
    }
    if (rc) return rc;
    name_kind kind = items_name_kind(base);
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
        size_t n = strlen(path);
        const char *text = !strncmp(why.text, path, n) && !strncmp(why.text + n, ": ", 2) ? why.text + n + 2 : why.text;
        if (last == 0 && rc < 0) rc = items_append_bad(l, path, text, f, err);
        if (rc == 0 && l->n == before && !searched) rc = items_append_bad(l, path, "no video and no image in this tar", f, err);
    } else {
        rc = err_set_at(err, rc, path, -1, "%s", why.text);
    }
    close(s.fd);
    mem_free(s.name);
    return rc;
}
