/* fuzz_list.c: bytes as a list of files. */
#include "video/video.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {"list.txt", "a/b/list.csv", "/list.txt", ""};
    items l = {0};
    jepa_err err = {0};
    int rc = items_parse(&l, (const char *)data, size, names[size % 4], &err);
    if (rc > 0 || (rc && !err.text[0])) abort();
    for (int i = 0; i < l.n; i++) {
        if (!l.at[i].path || !*l.at[i].path || strlen(l.at[i].path) > size + 16 || l.at[i].line < 1 || l.at[i].list != 0) abort();
        if (i && l.at[i].line <= l.at[i - 1].line) abort();
    }
    rc = items_parse(&l, (const char *)data, size, NULL, NULL); /* and again, behind the first */
    if (rc > 0) abort();
    items_free(&l);
    return 0;
}
