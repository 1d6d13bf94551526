/* tar_make.h: tars written byte by byte, and what is expected of their items. */
#ifndef TAR_MAKE_H
#define TAR_MAKE_H
#include "video_make.h"

/* ---- writing tars byte by byte ---- */

typedef struct made {
    uint8_t b[1 << 20];
    size_t n;
} made;
static made t;

HELPER void seal(uint8_t *h) {
    unsigned sum = 0;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < 512; i++) sum += h[i];
    snprintf((char *)h + 148, 8, "%06o", sum);
    h[155] = ' ';
}

HELPER uint8_t *header(const char *name, size_t size, char type) {
    uint8_t *h = t.b + t.n;
    memset(h, 0, 512);
    memcpy(h, name, strlen(name) < 100 ? strlen(name) : 100);
    memcpy(h + 100, "0000644\0000000000\0000000000", 24);
    snprintf((char *)h + 124, 12, "%011zo", size);
    h[156] = (uint8_t)type;
    memcpy(h + 257, "ustar\00000", 8);
    seal(h);
    t.n += 512;
    return h;
}

HELPER void bytes(const void *data, size_t size) {
    memcpy(t.b + t.n, data, size);
    memset(t.b + t.n + size, 0, 512);
    t.n += (size + 511) / 512 * 512;
}

HELPER void member(const char *name, const void *data, size_t size) {
    header(name, size, '0');
    bytes(data, size);
}
HELPER void text(const char *name, const char *data) { member(name, data, strlen(data)); }

HELPER void finish(void) {
    memset(t.b + t.n, 0, 1024);
    t.n += 1024;
}

HELPER void save(const char *name) {
    FILE *f = fopen(in_folder(name), "w");
    assert_non_null(f);
    assert_int_equal(fwrite(t.b, 1, t.n, f), t.n);
    fclose(f);
}

HELPER char *pax_record(char *out, const char *key, const char *value) {
    size_t body = strlen(key) + strlen(value) + 3, digits = 1; /* space, '=', newline */
    char number[24];
    while ((size_t)snprintf(number, sizeof number, "%zu", body + digits) != digits) digits++;
    sprintf(out, "%zu %s=%s\n", body + digits, key, value);
    return out;
}

/* ---- reading them ---- */

static items list;
static jepa_err err;

HELPER int add(const char *name) {
    items_free(&list);
    err = (jepa_err){0};
    return items_add(&list, in_folder(name), &err);
}

HELPER const char *inside(int i) { return list.at[i].path + list.at[i].inner; }
HELPER void expect(int i, const char *name, int64_t label) {
    assert_true(i < list.n);
    if (list.at[i].kind != ITEM_TAR) fail_msg("item %d: %s: %s", i, list.at[i].path, inside(i));
    assert_string_equal(inside(i), name);
    assert_int_equal(list.at[i].label, label);
}
HELPER void expect_bad(int i, const char *part) {
    vid *v = NULL;
    assert_true(i < list.n);
    assert_int_equal(list.at[i].kind, ITEM_BAD);
    if (!strstr(inside(i), part)) fail_msg("\"%s\" does not say \"%s\"", inside(i), part);
    assert_int_equal(vid_open_item(&v, &list.at[i], NULL, &err), JEPA_E_INPUT);
    assert_null(v);
    assert_non_null(strstr(err.text, part));
    assert_null(strchr(err.text, '\n'));
}

#endif
