/* yaml_text.c: what a scalar says, and a tree as text again (libyaml's emitter). */
#include "base/yaml.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

/* ---- scalars ---- */

static const char *plain(const yaml *v) { return v && v->kind == YAML_SCALAR && !v->quoted ? v->text : NULL; }

int yaml_is_null(const yaml *v) {
    const char *s = plain(v);
    return s && (!*s || !strcmp(s, "~") || !strcasecmp(s, "null"));
}

int yaml_bool(const yaml *v, int *out) {
    static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no", "off"};
    const char *s = plain(v);
    for (int i = 0; s && i < 3; i++) {
        if (!strcasecmp(s, yes[i])) return *out = 1, 1;
        if (!strcasecmp(s, no[i])) return *out = 0, 1;
    }
    return 0;
}

static size_t digits(const char *s) { return strspn(s, "0123456789"); }

/* [+-] digits [. digits] [e[+-]digits], with a digit before or after the point; 010 is octal in YAML 1.1 and no number here. */
static int is_number(const char *s, int *whole) {
    if (*s == '+' || *s == '-') s++;
    size_t a = digits(s), b = 0;
    *whole = 1;
    if (a > 1 && s[0] == '0') return 0;
    s += a;
    if (*s == '.') {
        *whole = 0;
        b = digits(++s);
        s += b;
    }
    if (!a && !b) return 0;
    if (*s == 'e' || *s == 'E') {
        *whole = 0;
        if (*++s == '+' || *s == '-') s++;
        a = digits(s);
        if (!a) return 0;
        s += a;
    }
    return !*s;
}

int yaml_double(const yaml *v, double *out) {
    const char *s = plain(v);
    int whole;
    if (!s || !is_number(s, &whole)) return 0;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* the caller's locale may write 1,5 */
    if (!c) return 0;
    double x = strtod_l(s, NULL, c);
    freelocale(c);
    if (!isfinite(x)) return 0;
    *out = x;
    return 1;
}

int yaml_int(const yaml *v, int64_t *out) {
    const char *s = plain(v);
    int whole;
    double x;
    if (!s || !is_number(s, &whole)) return 0;
    if (whole) {
        errno = 0;
        long long n = strtoll(s, NULL, 10);
        if (errno) return 0;
        *out = n;
        return 1;
    }
    if (!yaml_double(v, &x) || x != floor(x) || fabs(x) > 9007199254740992.0) return 0; /* 2^53: exact above no more */
    *out = (int64_t)x;
    return 1;
}

/* ---- writing ---- */

typedef struct sink {
    char *text;
    size_t size, cap;
} sink;

static int more(void *ctx, unsigned char *data, size_t n) {
    sink *s = ctx;
    size_t need;
    if (size_add(s->size, n, &need) || size_add(need, 1, &need)) return 0;
    if (need > s->cap) {
        size_t cap = need < 2048 ? 4096 : 2 * need;
        char *t = mem_alloc(cap, 1);
        if (!t) return 0;
        if (s->size) memcpy(t, s->text, s->size);
        mem_free(s->text);
        s->text = t, s->cap = cap;
    }
    memcpy(s->text + s->size, data, n);
    s->size += n;
    return 1;
}

static int scalar(yaml_emitter_t *e, const char *text, int quoted) {
    yaml_event_t ev;
    size_t n = strlen(text);
    yaml_scalar_style_t style = quoted ? YAML_SINGLE_QUOTED_SCALAR_STYLE : YAML_PLAIN_SCALAR_STYLE;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 32 || (quoted && (unsigned char)text[i] >= 127))
            style = YAML_DOUBLE_QUOTED_SCALAR_STYLE; /* lines and odd bytes: escaped */
    return n <= INT32_MAX && yaml_scalar_event_initialize(&ev, NULL, NULL, (const yaml_char_t *)text, (int)n, 1, 1, style) &&
           yaml_emitter_emit(e, &ev);
}

static int value(yaml_emitter_t *e, const yaml *y) {
    yaml_event_t ev;
    if (y->kind == YAML_SCALAR) return scalar(e, y->text ? y->text : "", y->quoted);
    int map = y->kind == YAML_MAP;
    if (!(map ? yaml_mapping_start_event_initialize(&ev, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE)
              : yaml_sequence_start_event_initialize(&ev, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE)) ||
        !yaml_emitter_emit(e, &ev))
        return 0;
    for (int i = 0; i < y->count; i++) {
        if (map && !scalar(e, y->item[i]->key, 0)) return 0;
        if (!value(e, y->item[i])) return 0;
    }
    return (map ? yaml_mapping_end_event_initialize(&ev) : yaml_sequence_end_event_initialize(&ev)) && yaml_emitter_emit(e, &ev);
}

int yaml_write(const yaml *root, char **text, size_t *size, jepa_err *err) {
    yaml_emitter_t e;
    yaml_event_t ev;
    sink s = {0};
    *text = NULL, *size = 0;
    if (!yaml_emitter_initialize(&e)) return err_set(err, JEPA_E_MEMORY, "no memory to write YAML");
    yaml_emitter_set_output(&e, more, &s);
    yaml_emitter_set_encoding(&e, YAML_UTF8_ENCODING);
    yaml_emitter_set_unicode(&e, 1);
    yaml_emitter_set_width(&e, -1);
    int ok = yaml_stream_start_event_initialize(&ev, YAML_UTF8_ENCODING) && yaml_emitter_emit(&e, &ev) &&
             yaml_document_start_event_initialize(&ev, NULL, NULL, NULL, 1) && yaml_emitter_emit(&e, &ev) && value(&e, root) &&
             yaml_document_end_event_initialize(&ev, 1) && yaml_emitter_emit(&e, &ev) && yaml_stream_end_event_initialize(&ev) &&
             yaml_emitter_emit(&e, &ev);
    yaml_emitter_delete(&e);
    if (ok && !s.text) ok = more(&s, (unsigned char *)"", 0);
    if (!ok) {
        mem_free(s.text);
        return err_set(err, JEPA_E_MEMORY, "YAML could not be written");
    }
    s.text[s.size] = 0;
    *text = s.text, *size = s.size;
    return 0;
}
