/* fuzz_tar.c: any bytes as a tar: listed, the items held against the file, some opened. Where the first byte is odd the headers' checksums
 * are made right first, or nearly no change would get past them. */
#include "video/tar.h"
#include "video/video.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void seal(uint8_t *h) {
    unsigned sum = 0;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < TAR_BLOCK; i++) sum += h[i];
    snprintf((char *)h + 148, 8, "%06o", sum);
    h[155] = ' ';
}

typedef struct seen {
    int64_t end, size;
} seen;
static int on_entry(void *ctx, const tar_entry *e) {
    seen *s = ctx;
    if (!e->name || strlen(e->name) > 2 * TAR_LONGEST_PAX) abort();
    if (e->size < 0 || e->offset < s->end + TAR_BLOCK || e->offset > s->size || e->size > s->size - e->offset) abort();
    s->end = e->offset + e->size;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    jepa_err err = {0};
    items l = {0};
    video_quiet();
    if (size < 1) return 0;
    int fd = memfd_create("fuzz", MFD_CLOEXEC), sealed = *data & 1;
    size_t n = size - 1;
    uint8_t *b = malloc(n + 1);
    if (fd < 0 || !b) abort();
    memcpy(b, data + 1, n);
    for (size_t at = 0; sealed && at + TAR_BLOCK <= n; at += TAR_BLOCK)
        if (!memcmp(b + at + 257, "ustar", 5)) seal(b + at);
    if (write(fd, b, n) == (ssize_t)n) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        seen s = {.size = (int64_t)n};
        int rc = tar_scan(fd, (int64_t)n, path, on_entry, &s, &err);
        if (rc > 0 || (rc < 0 && !err.text[0])) abort();
        if (items_add(&l, path, &err) < 0) abort(); /* damage is an item, not an error */
        for (int i = 0; i < l.n; i++) {
            const item *it = &l.at[i];
            if (it->kind == ITEM_TAR && (it->offset < TAR_BLOCK || it->size < 0 || it->size > (int64_t)n - it->offset)) abort();
            if (it->kind == ITEM_BAD && !it->path[it->inner]) abort();
            if (it->kind == ITEM_H5 || i > 3) continue;
            vid *v = NULL;
            err = (jepa_err){0};
            rc = vid_open_item(&v, it, NULL, &err);
            if ((rc < 0) != !v || (rc < 0 && !err.text[0])) abort();
            vid_close(&v);
        }
        items_free(&l);
    }
    free(b);
    close(fd);
    return 0;
}
