/* yaml.c: YAML as a tree with lines, over libyaml's events: reading with limits, and setting a path. Scalars and writing: yaml_text.c. */
#include "base/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MAX_BYTES = 1 << 20, MAX_LEVELS = 32, MAX_NODES = 100000 };

typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    const char *file, *text;
    size_t size;
    jepa_err *err;
    int nodes, has_event;
    int from_command; /* lines are 0 */
} reader;

static int complain(reader *r, size_t line, const char *what) {
    if (r->from_command) return err_set(r->err, JEPA_E_MODEL, "%s: %s", r->file, what);
    return err_set_at(r->err, JEPA_E_MODEL, r->file, -1, "%s:%zu: %s", r->file, line, what);
}

static size_t line_of(const reader *r) { return r->event.start_mark.line + 1; }

static int no_memory(reader *r) { return err_set(r->err, JEPA_E_MEMORY, "%s: no memory for its %d values", r->file, r->nodes); }

/* libyaml only says "found character that cannot start any token" */
static int indented_by_tab(const reader *r, size_t line) {
    const char *p = r->text, *end = r->text + r->size;
    for (; line && p < end; p++) line -= *p == '\n';
    while (p < end && *p == ' ') p++;
    return p < end && *p == '\t';
}

static int next(reader *r) {
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = 0;
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        const yaml_parser_t *p = &r->parser;
        char text[400];
        if (p->error == YAML_MEMORY_ERROR) return no_memory(r);
        if (p->error == YAML_READER_ERROR) {
            snprintf(text, sizeof text, "not valid YAML text: %s (byte %zu)", p->problem ? p->problem : "unreadable", p->problem_offset);
            return complain(r, p->mark.line + 1, text);
        }
        if (indented_by_tab(r, p->problem_mark.line))
            snprintf(text, sizeof text, "a tab; YAML indents with spaces");
        else
            snprintf(text, sizeof text, "not valid YAML: %s%s%s", p->problem ? p->problem : "cannot be read", p->context ? ", " : "",
                     p->context ? p->context : "");
        return complain(r, p->problem_mark.line + 1, text);
    }
    r->has_event = 1;
    return 0;
}

/* ---- the tree ---- */

static char *copy(const char *text, size_t n) {
    char *p = mem_alloc(n + 1, 1);
    if (p && n) memcpy(p, text, n);
    return p;
}

static void free_tree(yaml *y) {
    if (!y) return;
    for (int i = 0; i < y->count; i++) free_tree(y->item[i]); /* at most MAX_LEVELS deep */
    mem_free(y->item);
    mem_free(y->key);
    mem_free(y->text);
    mem_free(y);
}

void yaml_close(yaml **y) {
    if (!y) return;
    free_tree(*y);
    *y = NULL;
}

static int append(yaml *parent, yaml *child) {
    if (parent->count == parent->cap) {
        int cap = parent->cap ? 2 * parent->cap : 8;
        yaml **more = mem_alloc((size_t)cap, sizeof *more);
        if (!more) return JEPA_E_MEMORY;
        if (parent->count) memcpy(more, parent->item, (size_t)parent->count * sizeof *more);
        mem_free(parent->item);
        parent->item = more, parent->cap = cap;
    }
    parent->item[parent->count++] = child;
    return 0;
}

static int by_key(const void *a, const void *b) { return strcmp((*(yaml *const *)a)->key, (*(yaml *const *)b)->key); }

/* Duplicate keys: sorted pointers, so that a map of 100,000 keys takes no longer than it should. */
static int no_duplicates(reader *r, const yaml *map) {
    int rc = 0;
    if (map->count < 2) return 0;
    yaml **sorted = mem_alloc((size_t)map->count, sizeof *sorted);
    if (!sorted) return no_memory(r);
    memcpy(sorted, map->item, (size_t)map->count * sizeof *sorted);
    qsort(sorted, (size_t)map->count, sizeof *sorted, by_key);
    for (int i = 1; i < map->count && rc == 0; i++)
        if (!strcmp(sorted[i - 1]->key, sorted[i]->key)) {
            char text[200];
            int a = sorted[i - 1]->line, b = sorted[i]->line;
            snprintf(text, sizeof text, "key \"%.80s\" is here twice (first on line %d)", sorted[i]->key, a < b ? a : b);
            rc = complain(r, (size_t)(a < b ? b : a), text);
        }
    mem_free(sorted);
    return rc;
}

/* ---- reading ---- */

static int is_refused(reader *r) {
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (r->event.type) {
    case YAML_ALIAS_EVENT:
        anchor = r->event.data.alias.anchor;
        break;
    case YAML_SCALAR_EVENT:
        anchor = r->event.data.scalar.anchor, tag = r->event.data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = r->event.data.sequence_start.anchor, tag = r->event.data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = r->event.data.mapping_start.anchor, tag = r->event.data.mapping_start.tag;
        break;
    default:
        break;
    }
    char text[200];
    if (anchor)
        snprintf(text, sizeof text, "anchors and aliases are not read (%.60s); write the value out", (const char *)anchor);
    else if (tag)
        snprintf(text, sizeof text, "tags are not read (%.60s)", (const char *)tag);
    else
        return 0;
    return complain(r, line_of(r), text);
}

static int scalar_text(reader *r, char **out) {
    const char *s = (const char *)r->event.data.scalar.value;
    size_t n = r->event.data.scalar.length;
    if (memchr(s, 0, n)) return complain(r, line_of(r), "a zero byte inside a value");
    *out = copy(s, n);
    return *out ? 0 : no_memory(r);
}

/* The value that the current event begins; key (may be NULL) is taken over. */
static int read_value(reader *r, int level, char *key, yaml **out) {
    int rc = is_refused(r);
    yaml *y = NULL;
    if (rc == 0 && level > MAX_LEVELS) rc = complain(r, line_of(r), "nested more than 32 levels deep");
    if (rc == 0 && ++r->nodes > MAX_NODES) rc = complain(r, line_of(r), "more than 100,000 values");
    if (rc == 0 && !(y = mem_alloc(1, sizeof *y))) rc = no_memory(r);
    if (rc) {
        mem_free(key);
        return rc;
    }
    y->key = key;
    y->line = r->from_command ? 0 : (int)line_of(r);
    switch (r->event.type) {
    case YAML_SCALAR_EVENT:
        y->kind = YAML_SCALAR;
        y->quoted = r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        rc = scalar_text(r, &y->text);
        break;
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        y->kind = r->event.type == YAML_MAPPING_START_EVENT ? YAML_MAP : YAML_LIST;
        for (;;) {
            char *name = NULL;
            yaml *child = NULL;
            int line = 0;
            if ((rc = next(r))) break;
            if (r->event.type == (y->kind == YAML_MAP ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT)) break;
            if (y->kind == YAML_MAP) {
                if ((rc = is_refused(r))) break;
                if (r->event.type != YAML_SCALAR_EVENT) {
                    rc = complain(r, line_of(r), "a key that is itself a map or list");
                    break;
                }
                line = (int)line_of(r);
                if ((rc = scalar_text(r, &name))) break;
                if ((rc = next(r))) {
                    mem_free(name);
                    break;
                }
            }
            if ((rc = read_value(r, level + 1, name, &child))) break;
            if (line && !r->from_command) child->line = line; /* where a reader looks for it: the key's line */
            if (append(y, child)) {
                free_tree(child);
                rc = no_memory(r);
                break;
            }
        }
        if (rc == 0 && y->kind == YAML_MAP) rc = no_duplicates(r, y);
        break;
    default:
        rc = complain(r, line_of(r), "not a value");
        break;
    }
    if (rc)
        free_tree(y);
    else
        *out = y;
    return rc;
}

static int parse(yaml **out, const char *text, size_t size, const char *file, int from_command, jepa_err *err) {
    reader r;
    yaml *y = NULL;
    int rc = 0;
    *out = NULL;
    memset(&r, 0, sizeof r);
    r.file = file ? file : "yaml", r.text = text, r.size = size, r.err = err, r.from_command = from_command;
    if (size >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) r.text = text += 3, r.size = size -= 3; /* byte order mark */
    if (size > MAX_BYTES)
        return err_set_at(err, JEPA_E_MODEL, r.file, -1, "%s: %zu bytes; a YAML file may have at most %d", r.file, size, MAX_BYTES);
    if (fault_point("alloc") || !yaml_parser_initialize(&r.parser)) return no_memory(&r);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    while ((rc = next(&r)) == 0 && r.event.type != YAML_STREAM_END_EVENT) {
        if (r.event.type == YAML_STREAM_START_EVENT || r.event.type == YAML_DOCUMENT_END_EVENT) continue;
        if (r.event.type == YAML_DOCUMENT_START_EVENT) {
            if (y) rc = complain(&r, line_of(&r), "a second document; one is read");
        } else {
            rc = read_value(&r, 1, NULL, &y);
        }
        if (rc) break;
    }
    if (rc == 0 && !y && (!(y = mem_alloc(1, sizeof *y)) || !(y->text = copy("", 0)))) rc = no_memory(&r);
    if (rc == 0 && !from_command && y->kind == YAML_SCALAR && !y->quoted && !*y->text) { /* nothing but comments: an empty map */
        mem_free(y->text);
        y->text = NULL, y->kind = YAML_MAP, y->line = 1;
    }
    if (r.has_event) yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    if (rc) yaml_close(&y);
    *out = y;
    return rc;
}

int yaml_parse(yaml **out, const char *text, size_t size, const char *file, jepa_err *err) { return parse(out, text, size, file, 0, err); }

int yaml_read(yaml **out, const char *path, jepa_err *err) {
    char *text;
    size_t size;
    *out = NULL;
    int rc = file_read(path, MAX_BYTES, &text, &size, err);
    if (rc) return rc;
    rc = yaml_parse(out, text, size, path, err);
    mem_free(text);
    return rc;
}

/* ---- finding and setting ---- */

static yaml *find(const yaml *map, const char *key, size_t n) {
    if (!map || map->kind != YAML_MAP) return NULL;
    for (int i = 0; i < map->count; i++)
        if (!strncmp(map->item[i]->key, key, n) && !map->item[i]->key[n]) return map->item[i];
    return NULL;
}

/* a list's element by its number, 0 = first */
static yaml *element(const yaml *list, const char *text, size_t n) {
    long at = 0;
    if (!list || list->kind != YAML_LIST || !n || n > 6) return NULL;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return NULL;
        at = at * 10 + (text[i] - '0');
    }
    return at < list->count ? list->item[at] : NULL;
}

const yaml *yaml_get(const yaml *map, const char *key) { return find(map, key, strlen(key)); }

const yaml *yaml_at(const yaml *root, const char *dotted) {
    const yaml *at = root;
    for (const char *p = dotted; at; p += 1) {
        size_t n = strcspn(p, ".");
        at = at->kind == YAML_LIST ? element(at, p, n) : find(at, p, n);
        p += n;
        if (!*p) return at;
    }
    return NULL;
}

static int levels(const yaml *y) {
    int deepest = 0;
    for (int i = 0; i < y->count; i++) {
        int d = levels(y->item[i]);
        if (d > deepest) deepest = d;
    }
    return deepest + 1;
}

int yaml_set(yaml *root, const char *dotted, const char *value, jepa_err *err) {
    yaml *at = root, *y = NULL;
    int rc, depth = 1;
    size_t n = strlen(value);
    if (!*dotted || *dotted == '.' || dotted[strlen(dotted) - 1] == '.' || strstr(dotted, ".."))
        return err_set(err, JEPA_E_USE, "\"%.200s\": a setting is named section.key", dotted);
    char name[240];
    snprintf(name, sizeof name, "%s", dotted);
    if (!n) {
        y = mem_alloc(1, sizeof *y); /* nothing: null */
        if (y && !(y->text = copy("", 0))) yaml_close(&y);
        rc = y ? 0 : JEPA_E_MEMORY;
    } else {
        rc = parse(&y, value, n, name, 1, err);
    }
    if (rc) return rc == JEPA_E_MODEL ? err_set(err, JEPA_E_USE, "%.200s=%.200s: not a value in YAML", dotted, value) : rc;
    /* everything is looked at first, so that a refused setting leaves the tree as it was */
    for (const char *p = dotted; *p; depth++) {
        size_t k = strcspn(p, ".");
        const yaml *child = at ? (at->kind == YAML_LIST ? element(at, p, k) : find(at, p, k)) : NULL;
        int at_end = !p[k];
        if (at && (at->kind == YAML_SCALAR && !yaml_is_null(at)))
            rc = err_set(err, JEPA_E_USE, "%.200s: \"%s\" is a value, not a section", dotted, at->key ? at->key : "");
        else if (at && at->kind == YAML_LIST && !child)
            rc = err_set(err, JEPA_E_USE, "%.200s: \"%s\" is a list of %d; its elements are 0 to %d", dotted, at->key ? at->key : "",
                         at->count, at->count - 1);
        if (rc) break;
        at = (yaml *)child;
        p += k + !at_end;
    }
    if (rc == 0 && depth + levels(y) > MAX_LEVELS + 1)
        rc = err_set(err, JEPA_E_USE, "%.200s: nested more than %d levels deep", dotted, MAX_LEVELS);
    if (rc) {
        yaml_close(&y);
        return rc;
    }
    at = root;
    for (const char *p = dotted;;) {
        size_t k = strcspn(p, ".");
        if (at->kind == YAML_SCALAR) { /* null becomes a section */
            mem_free(at->text);
            at->text = NULL, at->kind = YAML_MAP, at->quoted = 0;
        }
        yaml *child = at->kind == YAML_LIST ? element(at, p, k) : find(at, p, k);
        if (!child) {
            child = mem_alloc(1, sizeof *child);
            if (child) child->kind = YAML_MAP, child->key = copy(p, k);
            if (!child || !child->key || append(at, child)) {
                free_tree(child);
                yaml_close(&y);
                return err_set(err, JEPA_E_MEMORY, "%.200s: no memory", dotted);
            }
        }
        at = child;
        if (!p[k]) break;
        p += k + 1;
    }
    /* the new value takes the old one's place and keeps its key */
    for (int i = 0; i < at->count; i++) free_tree(at->item[i]);
    mem_free(at->item);
    mem_free(at->text);
    at->kind = y->kind, at->line = 0, at->text = y->text, at->quoted = y->quoted, at->item = y->item, at->count = y->count,
    at->cap = y->cap;
    y->text = NULL, y->item = NULL, y->count = 0;
    yaml_close(&y);
    return 0;
}
