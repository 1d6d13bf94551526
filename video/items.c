/* items.c: what the user named, as a list of files with labels: videos, images, folders, lists.
 *
 * List lines: "PATH", "PATH LABEL", "PATH,LABEL" or "PATH::LABEL"; carriage returns stripped, blank lines and those that start with '#'
 * ignored. A path may hold spaces: the last field is the label when it is an integer and the path without it exists, or the whole line
 * does not. A relative path is tried beside the list, then in the working folder. Tar shards and HDF5 files become the items in them
 * (items_tar.c, items_h5.c), wherever they are named. */
#include "video/h5info.h"
#include "video/items_in.h"
#include "video/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_ITEMS = 100000000, MOST_LINE = 65536, MOST_DEPTH = 64 };
static const size_t most_list = (size_t)1 << 32; /* 4 GiB: some forty million lines */

static char *copy(const char *s, size_t n) {
    char *c = mem_alloc(n + 1, 1);
    if (c) memcpy(c, s, n);
    return c;
}

static int ends_with(const char *s, const char *const *endings) {
    const char *dot = strrchr(s, '.');
    for (; dot && *endings; endings++)
        if (!strcasecmp(dot + 1, *endings)) return 1;
    return 0;
}

static int no_memory(jepa_err *err) { return err_set(err, JEPA_E_MEMORY, "no memory for the list of files"); }

int items_append(items *l, item it, jepa_err *err) {
    if (!it.path) return no_memory(err);
    if (l->n == l->cap) {
        int cap = l->cap ? l->cap * 2 : 64;
        item *more = l->n >= MOST_ITEMS ? NULL : mem_alloc((size_t)cap, sizeof *more);
        if (!more) {
            mem_free(it.path);
            return l->n >= MOST_ITEMS ? err_set(err, JEPA_E_MEMORY, "more than %d files", MOST_ITEMS) : no_memory(err);
        }
        if (l->n) memcpy(more, l->at, (size_t)l->n * sizeof *more);
        mem_free(l->at);
        l->at = more;
        l->cap = cap;
    }
    l->at[l->n++] = it;
    return 0;
}

int items_append_inner(items *l, const char *file, char between, const char *inner, item it, jepa_err *err) {
    size_t n = strlen(file), m = strlen(inner);
    it.path = n < UINT32_MAX ? mem_alloc(n + m + 2, 1) : NULL;
    if (it.path) {
        memcpy(it.path, file, n);
        it.path[n] = between;
        memcpy(it.path + n + 1, inner, m);
    }
    it.inner = (uint32_t)n + 1;
    return items_append(l, it, err);
}

int items_append_bad(items *l, const char *path, const char *reason, item_from f, jepa_err *err) {
    item it = {.label = f.label, .line = f.line, .list = f.list, .kind = ITEM_BAD};
    size_t n = strlen(path), m = strlen(reason);
    it.path = n < UINT32_MAX ? mem_alloc(n + m + 2, 1) : NULL;
    if (it.path) {
        memcpy(it.path, path, n);
        memcpy(it.path + n + 1, reason, m);
    }
    it.inner = (uint32_t)n + 1;
    return items_append(l, it, err);
}

int item_copy(item *to, const item *from, jepa_err *err) {
    size_t n = strlen(from->path) + 1;
    if (from->kind == ITEM_BAD) n += strlen(from->path + from->inner) + 1;
    *to = *from;
    to->path = copy(from->path, n);
    return to->path ? 0 : no_memory(err);
}

/* A path as named: a container becomes what is in it. path is taken over. */
static int append(items *l, char *path, int64_t label, int line, int list, jepa_err *err) {
    item_from f = {label, line, list};
    holds h = path && items_name_kind(path) == NAME_OTHER ? items_sniff(path) : HOLDS_NOTHING_SPECIAL;
    if (h == HOLDS_NOTHING_SPECIAL) return items_append(l, (item){.path = path, .label = label, .line = line, .list = list}, err);
    int rc = h == HOLDS_TAR  ? items_add_tar(l, path, f, 0, err)
             : h == HOLDS_H5 ? items_add_h5(l, path, f, 0, err)
                             : items_append_bad(l, path, "a compressed tar is not read in place; decompress it first", f, err);
    mem_free(path);
    return rc;
}

void items_free(items *l) {
    if (!l) return;
    for (int i = 0; i < l->n; i++) mem_free(l->at[i].path);
    for (int i = 0; i < l->n_lists; i++) mem_free(l->list_paths[i]);
    mem_free(l->at);
    mem_free(l->list_paths);
    *l = (items){0};
}

static int exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

/* ---- lists ---- */

static int space(char c) { return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\r'; }

int items_integer(const char *s, size_t n, int64_t *out) {
    size_t i = n && (*s == '-' || *s == '+');
    int64_t v = 0;
    if (i == n || n - i > 18) return 0;
    for (size_t k = i; k < n; k++) {
        if (s[k] < '0' || s[k] > '9') return 0;
        v = v * 10 + (s[k] - '0');
    }
    *out = *s == '-' ? -v : v;
    return 1;
}

/* s[0..n) as a path: beside the list, or in the working folder. *there: whether it exists. Where neither does, beside the list. */
static char *resolve(const char *folder, size_t folder_n, const char *s, size_t n, int *there) {
    char *here = copy(s, n);
    *there = 0;
    if (!here || *here == '/' || !folder_n) {
        *there = here && exists(here);
        return here;
    }
    char *beside = mem_alloc(folder_n + n + 1, 1);
    if (beside) {
        memcpy(beside, folder, folder_n);
        memcpy(beside + folder_n, s, n);
        *there = exists(beside);
        if (!*there && exists(here)) {
            *there = 1;
            mem_free(beside);
            return here;
        }
    }
    mem_free(here);
    return beside;
}

static void trim(const char **s, size_t *n) {
    while (*n && space((*s)[*n - 1])) --*n;
    while (*n && space(**s)) ++*s, --*n;
}

/* a field that a spreadsheet has quoted */
static void unquote(const char **s, size_t *n) {
    if (*n >= 2 && **s == '"' && (*s)[*n - 1] == '"') ++*s, *n -= 2;
}

static int parse_line(items *l, const char *s, size_t n, int line, int list, const char *folder, size_t folder_n, jepa_err *err) {
    int64_t label;
    int there, whole_there;
    char *path = NULL;
    trim(&s, &n);
    if (!n || *s == '#') return 0;
    for (size_t i = n; i-- > 1;) { /* the last "::" with an integer behind it */
        const char *left = s, *right = s + i + 1;
        size_t left_n = i - 1, right_n = n - i - 1;
        if (s[i] != ':' || s[i - 1] != ':') continue;
        trim(&left, &left_n);
        trim(&right, &right_n);
        if (!left_n || !items_integer(right, right_n, &label)) break;
        unquote(&left, &left_n);
        return append(l, resolve(folder, folder_n, left, left_n, &there), label, line, list, err);
    }
    size_t cut = n; /* behind the last white space or comma */
    while (cut && !space(s[cut - 1]) && s[cut - 1] != ',') cut--;
    if (cut && items_integer(s + cut, n - cut, &label)) {
        const char *left = s;
        size_t left_n = cut;
        while (left_n && (space(s[left_n - 1]) || s[left_n - 1] == ',')) left_n--;
        trim(&left, &left_n);
        unquote(&left, &left_n);
        if (left_n) {
            path = resolve(folder, folder_n, left, left_n, &there);
            if (!path) return no_memory(err);
            if (there) return append(l, path, label, line, list, err);
            char *whole = resolve(folder, folder_n, s, n, &whole_there);
            if (!whole || !whole_there) {
                mem_free(whole);
                return append(l, path, label, line, list, err);
            }
            mem_free(path);
            return append(l, whole, -1, line, list, err);
        }
    }
    path = resolve(folder, folder_n, s, n, &there);
    if (path && !there && n > 2 && *s == '"' && s[n - 1] == '"') {
        mem_free(path);
        path = resolve(folder, folder_n, s + 1, n - 2, &there);
    }
    return append(l, path, -1, line, list, err);
}

int items_parse(items *l, const char *text, size_t size, const char *list_path, jepa_err *err) {
    const char *name = list_path ? list_path : "list", *slash = strrchr(name, '/');
    size_t folder_n = slash ? (size_t)(slash - name) + 1 : 0, at = 0;
    if (size >= 2 && (!memcmp(text, "\xff\xfe", 2) || !memcmp(text, "\xfe\xff", 2)))
        return err_set_at(err, JEPA_E_INPUT, name, 0, "%s: UTF-16 text; save it as UTF-8", name);
    if (size >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) at = 3;
    char **lists = mem_alloc((size_t)l->n_lists + 1, sizeof *lists), *own = copy(name, strlen(name));
    if (!lists || !own) {
        mem_free(lists);
        mem_free(own);
        return no_memory(err);
    }
    if (l->n_lists) memcpy(lists, l->list_paths, (size_t)l->n_lists * sizeof *lists);
    mem_free(l->list_paths);
    l->list_paths = lists;
    lists[l->n_lists++] = own;
    for (int line = 1; at < size; line++) {
        const char *s = text + at, *end = memchr(s, '\n', size - at);
        size_t n = end ? (size_t)(end - s) : size - at;
        if (memchr(s, 0, n))
            return err_set_at(err, JEPA_E_INPUT, name, (int64_t)at, "%s: line %d holds a NUL byte: not a list of files", name, line);
        if (n > MOST_LINE)
            return err_set_at(err, JEPA_E_INPUT, name, (int64_t)at, "%s: line %d is %zu bytes long: not a list of files", name, line, n);
        int rc = parse_line(l, s, n, line, l->n_lists - 1, name, folder_n, err);
        if (rc) return rc;
        at += n + 1;
    }
    return 0;
}

/* ---- folders ---- */

/* By name here, not by content: opening each file of a large tree would take minutes. Image formats that are not read are listed too,
 * so that they fail by name instead of vanishing. */
name_kind items_name_kind(const char *name) {
    static const char *const videos[] = {"mp4",  "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "mts",
                                         "m2ts", "vob", "flv", "wmv", "asf",  "3gp", "ogv", "ogg",  NULL};
    static const char *const images[] = {"jpg", "jpeg", "jpe",  "jfif", "png",  "bmp", "gif", "webp",
                                         "tif", "tiff", "heic", "heif", "avif", "jxl", "jp2", NULL};
    return ends_with(name, videos) ? NAME_VIDEO : ends_with(name, images) ? NAME_IMAGE : NAME_OTHER;
}

holds items_sniff(const char *path) {
    static const char *const packed[] = {"gz", "tgz", "zst", "tzst", "xz", "txz", "bz2", "tbz2", "lz4", NULL};
    static const char *const tar[] = {"tar", NULL};
    uint8_t b[TAR_BLOCK];
    struct stat st;
    holds h = HOLDS_NOTHING_SPECIAL;
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return h; /* a pipe must not be read from here */
    if (ends_with(path, packed) && strcasestr(path, ".t")) {
        const char *name = strrchr(path, '/'), *dot = strrchr(path, '.');
        if (strcasestr(name ? name : path, ".tar.") || dot[1] == 't' || dot[1] == 'T') return HOLDS_PACKED;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return h;
    ssize_t n = pread(fd, b, sizeof b, 0);
    close(fd);
    if (n >= 8 && !memcmp(b, "\x89HDF\r\n\x1a\n", 8))
        h = HOLDS_H5;
    else if (n > 0 && (tar_looks_like(b, (size_t)n) || ends_with(path, tar)))
        h = HOLDS_TAR;
    else if (h5_is(path))
        h = HOLDS_H5;
    return h;
}

static const char *const containers[] = {"tar", "h5", "hdf5", NULL}; /* in folders; named directly, content alone counts */

typedef struct place {
    dev_t dev;
    ino_t ino;
} place;
typedef struct walk {
    items *l;
    place *seen;
    int n, cap;
    jepa_err *err;
} walk;

/* 1: entered before, by this or another name: links cannot make it go round, nor list a folder twice. */
static int been_there(walk *w, const struct stat *st) {
    for (int i = 0; i < w->n; i++)
        if (w->seen[i].dev == st->st_dev && w->seen[i].ino == st->st_ino) return 1;
    if (w->n == w->cap) {
        int cap = w->cap ? w->cap * 2 : 64;
        place *more = mem_alloc((size_t)cap, sizeof *more);
        if (!more) return no_memory(w->err);
        if (w->n) memcpy(more, w->seen, (size_t)w->n * sizeof *more);
        mem_free(w->seen);
        w->seen = more;
        w->cap = cap;
    }
    w->seen[w->n++] = (place){st->st_dev, st->st_ino};
    return 0;
}

static int visible(const struct dirent *d) { return d->d_name[0] != '.'; }
static int by_bytes(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int enter(walk *w, const char *folder, int depth) {
    struct stat st;
    struct dirent **names = NULL;
    int rc = 0, n, slash = folder[strlen(folder) - 1] != '/';
    if (depth > MOST_DEPTH) return err_set_at(w->err, JEPA_E_INPUT, folder, -1, "%s: folders more than %d deep", folder, MOST_DEPTH);
    if (stat(folder, &st)) return err_set_at(w->err, JEPA_E_IO, folder, -1, "%s: %s", folder, strerror(errno));
    if ((rc = been_there(w, &st)) != 0) return rc < 0 ? rc : 0;
    n = scandir(folder, &names, visible, by_bytes);
    if (n < 0) return err_set_at(w->err, JEPA_E_IO, folder, -1, "%s: folder cannot be read: %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        size_t size = strlen(folder) + strlen(names[i]->d_name) + 2;
        char *path = rc ? NULL : mem_alloc(size, 1);
        if (!rc && !path) rc = no_memory(w->err);
        if (path) {
            snprintf(path, size, slash ? "%s/%s" : "%s%s", folder, names[i]->d_name);
            if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
                rc = enter(w, path, depth + 1);
            } else if ((items_name_kind(path) || ends_with(path, containers)) && (stat(path, &st) || S_ISREG(st.st_mode))) {
                rc = items_append(w->l, (item){.path = path, .label = -1, .list = -1}, w->err); /* a link to nowhere fails later, by name */
                path = NULL;
            }
        }
        mem_free(path);
        free(names[i]);
    }
    free(names);
    return rc;
}

/* Tars and HDF5 files found, replaced by what is in them; those without anything for us are other people's files, and left out. */
static int open_containers(items *l, int before, jepa_err *err) {
    items found = {0};
    int rc = 0, n = l->n - before;
    for (int i = before; i < l->n && n; i++) n -= !ends_with(l->at[i].path, containers);
    if (!n) return 0;
    found.n = l->n - before;
    found.at = mem_alloc((size_t)found.n, sizeof *found.at);
    if (!found.at) return no_memory(err);
    memcpy(found.at, l->at + before, (size_t)found.n * sizeof *found.at);
    l->n = before;
    for (int i = 0; i < found.n; i++) {
        item *it = &found.at[i];
        const item_from f = {.label = -1, .list = -1};
        holds h = !rc && items_name_kind(it->path) == NAME_OTHER ? items_sniff(it->path) : HOLDS_NOTHING_SPECIAL;
        if (rc) continue;
        if (h == HOLDS_TAR) {
            rc = items_add_tar(l, it->path, f, 1, err);
        } else if (h == HOLDS_H5) {
            rc = items_add_h5(l, it->path, f, 1, err);
        } else if (items_name_kind(it->path)) {
            rc = items_append(l, *it, err);
            it->path = NULL;
        }
    }
    items_free(&found);
    return rc;
}

static int compare(const void *a, const void *b) { return strcmp(((const item *)a)->path, ((const item *)b)->path); }

static int add_folder(items *l, const char *folder, jepa_err *err) {
    int before = l->n;
    walk w = {.l = l, .err = err};
    int rc = enter(&w, folder, 0);
    mem_free(w.seen);
    if (!rc && l->n > before) qsort(l->at + before, (size_t)(l->n - before), sizeof *l->at, compare);
    if (!rc) rc = open_containers(l, before, err);
    if (!rc && l->n == before)
        rc = err_set_at(err, JEPA_E_INPUT, folder, -1, "%s: no file in this folder has a video's or image's ending (.mp4, .mkv, .jpg, …)",
                        folder);
    return rc;
}

int items_add(items *l, const char *input, jepa_err *err) {
    static const char *const lists[] = {"txt", "csv", NULL}, *const arrays[] = {"npy", "npz", NULL};
    struct stat st;
    if (!input || !*input) return err_set(err, JEPA_E_USE, "an empty file name was given");
    int standard = !strcmp(input, "-");
    if (!standard && stat(input, &st) == 0 && S_ISDIR(st.st_mode)) return add_folder(l, input, err);
    if (ends_with(input, arrays))
        return err_set_at(err, JEPA_E_INPUT, input, -1,
                          "%s: lists in NumPy files are not read; write one path and label a line into a .txt", input);
    if (!standard && !ends_with(input, lists)) return append(l, copy(input, strlen(input)), -1, 0, -1, err);
    char *text;
    size_t size;
    int before = l->n, rc = file_read(standard ? "/dev/stdin" : input, most_list, &text, &size, err);
    if (rc) return standard ? err_prefix(err, rc, "list on standard input") : rc;
    rc = items_parse(l, text, size, standard ? "standard input" : input, err);
    mem_free(text);
    if (!rc && l->n == before)
        rc = err_set_at(err, JEPA_E_INPUT, input, -1, "%s: the list names no file", standard ? "standard input" : input);
    return rc;
}
