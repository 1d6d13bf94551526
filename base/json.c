/* json.c: JSON read with limits and written by pieces.
 *
 * cJSON builds the tree. A scan before it checks what cJSON lets pass: depth, number of values, brackets that match (an unclosed one makes
 * Debian's cJSON read past the end), control bytes, UTF-8, \u0000 (it would cut a string short) and the spelling of numbers. A walk after
 * it refuses duplicate keys and puts the digits beside integers that a double cannot hold. */
#include "base/json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64, MAX_TEXT = 256 << 20, MAX_VALUES = 4 << 20, MAX_NUMBER = 60 };
static const double EXACT = 9007199254740992.0; /* 2^53 */

/* ---- the scan ---- */

typedef struct scan {
    const unsigned char *text;
    size_t size, at, big; /* big: integers of more than 15 digits */
    const char *why;
} scan;

/* length of the UTF-8 character at s (n bytes left), 0: none there */
static size_t utf8(const unsigned char *s, size_t n) {
    if (s[0] < 0x80) return 1;
    size_t k = s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
    if (!k || k > n) return 0;
    for (size_t i = 1; i < k; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90))
        return 0;
    return k;
}

static int scan_string(scan *s) { /* at the opening quote */
    for (s->at++; s->at < s->size;) {
        unsigned char c = s->text[s->at];
        if (c == '"') {
            s->at++;
            return 0;
        }
        if (c < 0x20) return s->why = "control byte in a string", -1;
        if (c == '\\') {
            if (s->size - s->at >= 6 && !memcmp(s->text + s->at, "\\u0000", 6)) return s->why = "\\u0000 in a string", -1;
            if (s->size - s->at < 2) break;
            s->at += 2; /* cJSON checks the rest of the escape */
            continue;
        }
        size_t k = utf8(s->text + s->at, s->size - s->at);
        if (!k) return s->why = "not UTF-8", -1;
        s->at += k;
    }
    return s->why = "string without an end", -1;
}

static size_t digits(const unsigned char *t, size_t *i, size_t n) {
    size_t from = *i;
    while (*i < n && t[*i] >= '0' && t[*i] <= '9') ++*i;
    return *i - from;
}

static int scan_number(scan *s) {
    size_t i = s->at, n = s->size;
    const unsigned char *t = s->text;
    s->why = "not a number as JSON writes them";
    if (t[i] == '-') i++;
    size_t first = i, whole = digits(t, &i, n);
    if (!whole || (whole > 1 && t[first] == '0')) return -1;
    int integer = 1;
    if (i < n && t[i] == '.') {
        i++;
        integer = 0;
        if (!digits(t, &i, n)) return -1;
    }
    if (i < n && (t[i] == 'e' || t[i] == 'E')) {
        i++;
        integer = 0;
        if (i < n && (t[i] == '+' || t[i] == '-')) i++;
        if (!digits(t, &i, n)) return -1;
    }
    if (i - s->at > MAX_NUMBER) return s->why = "number with more than 60 characters", -1;
    if (integer && whole > 15) s->big++;
    s->at = i;
    s->why = NULL;
    return 0;
}

/* 0, or -1 with why and at. The order of tokens is left to cJSON. */
static int scan_all(scan *s) {
    char open[MAX_DEPTH];
    int depth = 0;
    size_t values = 0;
    if (s->size >= 3 && !memcmp(s->text, "\xef\xbb\xbf", 3)) s->at = 3;
    while (s->at < s->size) {
        unsigned char c = s->text[s->at];
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ':' || c == ',') {
            s->at++;
            continue;
        }
        if (c == ']' || c == '}') {
            if (!depth || open[depth - 1] != (c == ']' ? '[' : '{')) return s->why = "closing bracket that nothing opened", -1;
            depth--;
            s->at++;
            continue;
        }
        if (++values > MAX_VALUES) return s->why = "more than 4 million values", -1;
        if (c == '[' || c == '{') {
            if (depth == MAX_DEPTH) return s->why = "more than 64 levels deep", -1;
            open[depth++] = (char)c;
            s->at++;
        } else if (c == '"') {
            if (scan_string(s)) return -1;
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            if (scan_number(s)) return -1;
        } else {
            size_t left = s->size - s->at;
            size_t k = left >= 4 && !memcmp(s->text + s->at, "true", 4)    ? 4
                       : left >= 5 && !memcmp(s->text + s->at, "false", 5) ? 5
                       : left >= 4 && !memcmp(s->text + s->at, "null", 4)  ? 4
                                                                           : 0;
            if (!k) return s->why = "no JSON value starts like this", -1;
            s->at += k;
        }
    }
    if (depth) return s->why = "ends before the last bracket is closed", -1;
    if (!values) return s->why = "nothing in it", -1;
    return 0;
}

/* ---- the walk ---- */

typedef struct walk {
    const unsigned char *text;
    size_t size, at; /* of the next number in the text; document order is tree order */
    const char **key;
    size_t cap;
    size_t big;
    const char *why, *name;
} walk;

/* the next number of the text, strings passed over */
static size_t next_number(walk *w) {
    scan s = {.text = w->text, .size = w->size, .at = w->at};
    while (s.at < s.size) {
        unsigned char c = s.text[s.at];
        if (c == '"')
            scan_string(&s);
        else if (c == '-' || (c >= '0' && c <= '9'))
            break;
        else
            s.at++;
    }
    size_t from = s.at;
    scan_number(&s);
    w->at = s.at;
    return from;
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static int unique_keys(walk *w, const json *object) {
    size_t n = 0;
    for (const json *m = object->child; m; m = m->next) n++;
    if (n < 2) return 0;
    if (n > w->cap) {
        const char **more = realloc(w->key, n * sizeof *more);
        if (!more) return w->why = "no memory", -1;
        w->key = more;
        w->cap = n;
    }
    n = 0;
    for (const json *m = object->child; m; m = m->next) w->key[n++] = m->string;
    qsort(w->key, n, sizeof *w->key, by_text);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(w->key[i - 1], w->key[i])) return w->why = "key twice", w->name = w->key[i], -1;
    return 0;
}

static int walk_tree(walk *w, json *v) { /* at most MAX_DEPTH deep */
    if (cJSON_IsNumber(v)) {
        if (!isfinite(v->valuedouble)) return w->why = "number too large", -1;
        if (!w->big) return 0; /* no integer of the text needs its digits kept */
        size_t from = next_number(w);
        if (fabs(v->valuedouble) < EXACT) return 0;
        size_t n = w->at - from;
        v->valuestring = cJSON_malloc(n + 1); /* cJSON_Delete frees it */
        if (!v->valuestring) return w->why = "no memory", -1;
        memcpy(v->valuestring, w->text + from, n);
        v->valuestring[n] = 0;
        return 0;
    }
    if (cJSON_IsObject(v) && unique_keys(w, v)) return -1;
    if (cJSON_IsObject(v) || cJSON_IsArray(v))
        for (json *m = v->child; m; m = m->next)
            if (walk_tree(w, m)) return -1;
    return 0;
}

int json_parse(json **out, const char *text, size_t size, const char *file, jepa_err *err) {
    *out = NULL;
    const char *name = file ? file : "JSON text";
    if (size > MAX_TEXT) return err_set_at(err, JEPA_E_IO, name, -1, "%s: JSON of %zu bytes; at most 256 MiB are read", name, size);
    scan s = {.text = (const unsigned char *)text, .size = size};
    if (scan_all(&s)) return err_set_at(err, JEPA_E_IO, name, (int64_t)s.at, "%s: not valid JSON at byte %zu: %s", name, s.at, s.why);
    const char *end = text;
    json *root = cJSON_ParseWithLengthOpts(text, size, &end, 0);
    size_t at = end >= text && (size_t)(end - text) <= size ? (size_t)(end - text) : 0;
    if (!root) return err_set_at(err, JEPA_E_IO, name, (int64_t)at, "%s: not valid JSON at byte %zu", name, at);
    while (at < size && strchr(" \t\n\r", text[at])) at++; /* no NUL: the scan refused it */
    if (at < size) {
        cJSON_Delete(root);
        return err_set_at(err, JEPA_E_IO, name, (int64_t)at, "%s: not valid JSON at byte %zu: something follows the value", name, at);
    }
    walk w = {.text = s.text, .size = size, .big = s.big};
    int rc = 0;
    if (walk_tree(&w, root)) {
        int code = strcmp(w.why, "no memory") ? JEPA_E_IO : JEPA_E_MEMORY;
        rc = w.name ? err_set_at(err, code, name, -1, "%s: JSON refused: key \"%.100s\" stands twice in one object", name, w.name)
                    : err_set_at(err, code, name, -1, "%s: JSON refused: %s", name, w.why);
    }
    free(w.key);
    if (rc)
        cJSON_Delete(root);
    else
        *out = root;
    return rc;
}

int json_read(json **out, const char *path, jepa_err *err) {
    char *text;
    size_t size;
    *out = NULL;
    int rc = file_read(path, MAX_TEXT, &text, &size, err);
    if (rc) return rc;
    rc = json_parse(out, text, size, path, err);
    mem_free(text);
    return rc;
}

void json_close(json **root) {
    if (!root || !*root) return;
    cJSON_Delete(*root);
    *root = NULL;
}

/* ---- looking ---- */

const json *json_get(const json *object, const char *key) {
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

static const json *step_into(const json *v, const char *token, size_t n) {
    if (json_is_array(v)) {
        if (!n || n > 9 || (n > 1 && token[0] == '0')) return NULL;
        long i = 0;
        for (size_t k = 0; k < n; k++) {
            if (token[k] < '0' || token[k] > '9') return NULL;
            i = i * 10 + (token[k] - '0');
        }
        const json *m = v->child;
        while (m && i-- > 0) m = m->next;
        return m;
    }
    for (const json *m = json_is_object(v) ? v->child : NULL; m; m = m->next) { /* "~1" is '/', "~0" is '~' */
        const char *key = m->string;
        size_t k = 0;
        for (; k < n && *key; key++) {
            char c = token[k];
            size_t used = 1;
            if (c == '~' && k + 1 < n && (token[k + 1] == '0' || token[k + 1] == '1')) {
                c = token[k + 1] == '0' ? '~' : '/';
                used = 2;
            }
            if (c != *key) break;
            k += used;
        }
        if (k == n && !*key) return m;
    }
    return NULL;
}

const json *json_pointer(const json *root, const char *path) {
    const json *v = root;
    if (*path && *path != '/') return NULL;
    while (v && *path) {
        const char *end = strchr(++path, '/');
        size_t n = end ? (size_t)(end - path) : strlen(path);
        v = step_into(v, path, n);
        path += n;
    }
    return v;
}

const json *json_first(const json *c) { return json_is_object(c) || json_is_array(c) ? c->child : NULL; }
const json *json_next(const json *v) { return v ? v->next : NULL; }
const char *json_key(const json *v) { return v ? v->string : NULL; }

int64_t json_size(const json *c) {
    int64_t n = 0;
    for (const json *m = json_first(c); m; m = m->next) n++;
    return n;
}

int json_is_object(const json *v) { return cJSON_IsObject(v); }
int json_is_array(const json *v) { return cJSON_IsArray(v); }
int json_is_number(const json *v) { return cJSON_IsNumber(v); }
int json_is_string(const json *v) { return cJSON_IsString(v); }
int json_is_bool(const json *v) { return cJSON_IsBool(v); }
int json_is_null(const json *v) { return cJSON_IsNull(v); }
double json_number(const json *v, double otherwise) { return cJSON_IsNumber(v) ? v->valuedouble : otherwise; }
const char *json_string(const json *v, const char *otherwise) { return cJSON_IsString(v) ? v->valuestring : otherwise; }
int json_bool(const json *v, int otherwise) { return cJSON_IsBool(v) ? cJSON_IsTrue(v) : otherwise; }

int json_int(const json *object, const char *key, int64_t low, int64_t high, int64_t *out, jepa_err *err) {
    const json *v = json_get(object, key);
    if (!v) return JEPA_E_END;
    if (!cJSON_IsNumber(v))
        return err_set(err, JEPA_E_MODEL, "%s is not a number; an integer from %lld to %lld was expected", key, (long long)low,
                       (long long)high);
    int64_t n;
    if (fabs(v->valuedouble) < EXACT) {
        if (v->valuedouble != floor(v->valuedouble))
            return err_set(err, JEPA_E_MODEL, "%s is %.17g; an integer from %lld to %lld was expected", key, v->valuedouble, (long long)low,
                           (long long)high);
        n = (int64_t)v->valuedouble;
    } else {
        char *end = NULL;
        errno = 0;
        n = v->valuestring ? strtoll(v->valuestring, &end, 10) : 0;
        if (!end || *end || errno)
            return err_set(err, JEPA_E_MODEL, "%s is %.17g, which is not an integer of 64 bits; from %lld to %lld is allowed", key,
                           v->valuedouble, (long long)low, (long long)high);
    }
    if (n < low || n > high)
        return err_set(err, JEPA_E_MODEL, "%s is %lld; from %lld to %lld is allowed", key, (long long)n, (long long)low, (long long)high);
    *out = n;
    return 0;
}

int json_double(const json *object, const char *key, double low, double high, double *out, jepa_err *err) {
    const json *v = json_get(object, key);
    if (!v) return JEPA_E_END;
    if (!cJSON_IsNumber(v)) return err_set(err, JEPA_E_MODEL, "%s is not a number; one from %g to %g was expected", key, low, high);
    if (!(v->valuedouble >= low && v->valuedouble <= high))
        return err_set(err, JEPA_E_MODEL, "%s is %g; from %g to %g is allowed", key, v->valuedouble, low, high);
    *out = v->valuedouble;
    return 0;
}

/* ---- writing ---- */

static void put(json_writer *w, const char *s, size_t n) {
    if (w->failed) return;
    if (n >= w->cap - w->size || !w->cap) {
        size_t cap = w->cap ? w->cap : 256, need;
        if (size_add(w->size, n, &need) || need > SIZE_MAX / 4) {
            w->failed = 1;
            return;
        }
        while (cap <= need) cap *= 2;
        char *more = realloc(w->text, cap);
        if (!more) {
            w->failed = 1;
            return;
        }
        w->text = more;
        w->cap = cap;
    }
    memcpy(w->text + w->size, s, n);
    w->size += n;
    w->text[w->size] = 0;
}

static void puts_(json_writer *w, const char *s) { put(w, s, strlen(s)); }

static void quoted(json_writer *w, const char *s) {
    put(w, "\"", 1);
    for (const char *p = s; *p;) {
        size_t n = strcspn(p, "\"\\\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a"
                              "\x1b\x1c\x1d\x1e\x1f");
        put(w, p, n);
        p += n;
        if (!*p) break;
        char code[8];
        if (*p == '"' || *p == '\\')
            snprintf(code, sizeof code, "\\%c", *p);
        else if (*p == '\n')
            snprintf(code, sizeof code, "\\n");
        else
            snprintf(code, sizeof code, "\\u%04x", (unsigned char)*p);
        puts_(w, code);
        p++;
    }
    put(w, "\"", 1);
}

static void line(json_writer *w) {
    put(w, "\n", 1);
    for (int i = 0; i < w->indent * w->depth; i++) put(w, " ", 1);
}

/* what stands before a value: comma, line, key. Elements of arrays stay on one line unless they are containers themselves. */
static void before(json_writer *w, const char *key, int container) {
    if (w->comma) put(w, ",", 1);
    if (w->indent > 0 && w->depth && (key || container)) {
        line(w);
        w->lines = 1;
    } else if (w->comma && w->indent >= 0) {
        put(w, " ", 1);
    }
    if (key) {
        quoted(w, key);
        puts_(w, w->indent < 0 ? ":" : ": ");
    }
    w->comma = 1;
}

void jw_open(json_writer *w, const char *key, char bracket) {
    before(w, key, 1);
    put(w, &bracket, 1);
    w->comma = 0;
    w->lines = 0;
    w->depth++;
}

void jw_close(json_writer *w, char bracket) {
    if (w->depth) w->depth--;
    if (w->indent > 0 && w->lines) line(w); /* something inside began a line of its own */
    put(w, &bracket, 1);
    w->comma = 1;
    w->lines = w->depth > 0; /* what holds this container put it on its own line */
    if (!w->depth && w->indent > 0) put(w, "\n", 1);
}

void jw_string(json_writer *w, const char *key, const char *value) {
    before(w, key, 0);
    quoted(w, value);
}

void jw_int(json_writer *w, const char *key, int64_t value) {
    char t[32];
    snprintf(t, sizeof t, "%lld", (long long)value);
    before(w, key, 0);
    puts_(w, t);
}

void jw_double(json_writer *w, const char *key, double value) {
    if (!isfinite(value)) {
        jw_null(w, key);
        return;
    }
    char t[48];
    for (int digits_ = 1; digits_ <= 17; digits_++) {
        snprintf(t, sizeof t, "%.*g", digits_, value);
        if (strtod(t, NULL) == value) break;
    }
    for (int digits_ = 2; fabs(value) >= 1 && fabs(value) < 1e15 && strchr(t, 'e') && digits_ <= 17; digits_++) /* 30.0 rather than 3e+01 */
        snprintf(t, sizeof t, "%.*g", digits_, value);
    const char *point = localeconv()->decimal_point; /* a program may have set a locale with ',' */
    char *p = *point && strcmp(point, ".") ? strstr(t, point) : NULL;
    if (p) {
        *p = '.';
        memmove(p + 1, p + strlen(point), strlen(p + strlen(point)) + 1);
    }
    if (!strpbrk(t, ".e")) strcat(t, ".0"); /* readers that tell 4 from 4.0 get the type back too */
    before(w, key, 0);
    puts_(w, t);
}

void jw_bool(json_writer *w, const char *key, int value) {
    before(w, key, 0);
    puts_(w, value ? "true" : "false");
}

void jw_null(json_writer *w, const char *key) {
    before(w, key, 0);
    puts_(w, "null");
}

void jw_free(json_writer *w) {
    if (!w) return;
    free(w->text);
    *w = (json_writer){0};
}
