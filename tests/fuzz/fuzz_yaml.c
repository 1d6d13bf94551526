/* fuzz_yaml.c: any bytes as YAML; what is read is written and must read back the same; then as settings of a tree. */
#include "base/yaml.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int says(const yaml *y) { /* more than a string */
    int64_t i;
    double d;
    int b;
    return yaml_int(y, &i) || yaml_double(y, &d) || yaml_bool(y, &b) || yaml_is_null(y);
}

static void same(const yaml *a, const yaml *b) {
    if (a->kind != b->kind || a->count != b->count || (a->key && strcmp(a->key, b->key))) abort();
    if (a->kind == YAML_SCALAR && strcmp(a->text, b->text)) abort();
    if (a->kind == YAML_SCALAR && a->quoted != b->quoted && (a->quoted || says(a)))
        abort(); /* plain text of several lines may come back quoted */
    for (int i = 0; i < a->count; i++) same(a->item[i], b->item[i]);
}

static void touch(const yaml *y) {
    (void)says(y);
    for (int k = 0; k < y->count; k++) touch(y->item[k]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    yaml *y, *z;
    jepa_err err = {0};
    char *text;
    size_t n;
    if (yaml_parse(&y, (const char *)data, size, "fuzz", &err) == 0) {
        touch(y);
        if (yaml_write(y, &text, &n, &err)) abort();
        if (n <= 1 << 20) { /* escapes can make a text longer than is read */
            if (yaml_parse(&z, text, n, "back", &err)) abort();
            same(y, z);
            yaml_close(&z);
        }
        mem_free(text);
        if (size < 4096) {
            char *path = mem_alloc(size + 1, 1), *value;
            if (path) {
                memcpy(path, data, size);
                value = strchr(path, '=');
                if (value) *value++ = 0;
                yaml_set(y, path, value ? value : path, &err);
                touch(y);
                mem_free(path);
            }
        }
        yaml_close(&y);
    } else if (!err.text[0] || y) {
        abort();
    }
    return 0;
}
