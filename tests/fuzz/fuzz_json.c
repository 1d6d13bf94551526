/* fuzz_json.c: JSON from outside: parsed, walked, looked into. */
#include "base/json.h"

static void visit(const json *v, int64_t *sum) {
    int64_t n;
    for (const json *m = json_first(v); m; m = json_next(m)) {
        if (json_key(m) && json_int(v, json_key(m), -100, INT64_MAX, &n, NULL) == 0) *sum += n & 1;
        visit(m, sum);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json *j;
    jepa_err err;
    if (json_parse(&j, (const char *)data, size, "fuzz", &err)) return 0;
    int64_t sum = 0;
    visit(j, &sum);
    json_pointer(j, "/a/0/b~1c");
    json_close(&j);
    return 0;
}
