/* json.h: JSON from outside, read with limits (cJSON underneath).
 *
 *     json *j; json_parse(&j, text, size, "config.json", &err);
 *     int64_t d; json_int(j, "hidden_size", 1, 65536, &d, &err);
 *
 * At most 64 levels deep, 256 MiB of text, 4 million values; strict UTF-8, no duplicate keys, no \u0000, numbers finite, nothing after the
 * value. Integers that fit int64_t are read exactly. An error names the file and byte. */
#ifndef JEPA_JSON_H
#define JEPA_JSON_H
#include "base/base.h"

typedef struct cJSON json; /* a value; the whole tree belongs to the root that json_parse gave */

int json_parse(json **out, const char *text, size_t size, const char *file, jepa_err *err);
int json_read(json **out, const char *path, jepa_err *err);
void json_close(json **root);

const json *json_get(const json *object, const char *key);    /* NULL: not there, or not an object */
const json *json_pointer(const json *root, const char *path); /* RFC 6901: "/a/0/b"; "" is the root */
const json *json_first(const json *container);                /* first member or element */
const json *json_next(const json *value);
const char *json_key(const json *value); /* member name or NULL */
int64_t json_size(const json *container);
int json_is_object(const json *v);
int json_is_array(const json *v);
int json_is_number(const json *v);
int json_is_string(const json *v);
int json_is_bool(const json *v);
int json_is_null(const json *v);
double json_number(const json *v, double otherwise);
const char *json_string(const json *v, const char *otherwise);
int json_bool(const json *v, int otherwise);

/* Member `key` as an integer in [low, high]: 0; JEPA_E_MODEL with a message naming file-independent key, value and range; JEPA_E_END if
 * absent (err untouched). */
int json_int(const json *object, const char *key, int64_t low, int64_t high, int64_t *out, jepa_err *err);
int json_double(const json *object, const char *key, double low, double high, double *out, jepa_err *err);

/* writing: text grown by pieces; jw_* keep commas and escapes right. Starts as {0}; indent > 0: members on lines of their own, set that far
 * in; < 0: no spaces at all. failed: memory ran out, the text is not whole (and the caller reports it). */
typedef struct json_writer {
    char *text;
    size_t size, cap;
    int failed, comma, indent, depth, lines;
} json_writer;
void jw_open(json_writer *w, const char *key, char bracket); /* bracket '{' or '['; key NULL at top or in arrays */
void jw_close(json_writer *w, char bracket);                 /* '}' or ']' */
void jw_string(json_writer *w, const char *key, const char *value);
void jw_int(json_writer *w, const char *key, int64_t value);
void jw_double(json_writer *w, const char *key, double value); /* shortest text that reads back exactly; non-finite: null */
void jw_bool(json_writer *w, const char *key, int value);
void jw_null(json_writer *w, const char *key);
void jw_free(json_writer *w);
#endif
