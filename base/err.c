/* err.c: the one line that says what went wrong. */
#include "base/base.h"

#include <stdio.h>
#include <string.h>

/* Cuts at the end of a UTF-8 character and replaces control bytes, so that a hostile file name cannot steer a terminal. */
static void tidy(char *s, size_t written, size_t size) {
    if (written >= size) {
        size_t n = size - 1;
        while (n && ((unsigned char)s[n] & 0xc0) == 0x80) n--;
        if (n && (unsigned char)s[n - 1] >= 0xc0) n--;
        s[n < size ? n : size - 1] = 0;
    }
    for (; *s; s++)
        if ((unsigned char)*s < 32 || *s == 127) *s = '?';
}

static int fill(jepa_err *err, int code, const char *file, int64_t offset, const char *fmt, va_list ap) {
    if (!err) return code;
    err->code = code;
    err->offset = offset;
    err->file[0] = 0;
    if (file) {
        int k = snprintf(err->file, sizeof err->file, "%s", file);
        tidy(err->file, k < 0 ? 0 : (size_t)k, sizeof err->file);
    }
    int k = vsnprintf(err->text, sizeof err->text, fmt, ap);
    tidy(err->text, k < 0 ? 0 : (size_t)k, sizeof err->text);
    return code;
}

int err_set(jepa_err *err, int code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fill(err, code, NULL, -1, fmt, ap);
    va_end(ap);
    return code;
}

int err_set_at(jepa_err *err, int code, const char *file, int64_t offset, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fill(err, code, file, offset, fmt, ap);
    va_end(ap);
    return code;
}

int err_prefix(jepa_err *err, int code, const char *fmt, ...) {
    if (!err) return code;
    char front[sizeof err->text], whole[2 * sizeof err->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(front, sizeof front, fmt, ap);
    va_end(ap);
    int k = snprintf(whole, sizeof whole, "%s: %s", front, err->text);
    memcpy(err->text, whole, sizeof err->text);
    tidy(err->text, k < 0 ? 0 : (size_t)k, sizeof err->text);
    return err->code ? err->code : code;
}
