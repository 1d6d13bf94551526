/* fuzz_image.c: bytes as a still image; a PNG also with its checksums made right, or nothing behind them would be reached. */
#include "video/image.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try(const uint8_t *data, size_t size, int as_stored) {
    image im;
    jepa_err err = {0};
    int rc = image_parse(&im, data, size, "fuzz", as_stored, &err);
    if (rc > 0 || (rc == 0) != (im.rgb != NULL) || (rc && !err.text[0])) abort();
    size_t n = im.rgb ? (size_t)im.width * (size_t)im.height * 3 : 0, sum = 0;
    for (size_t i = 0; i < n; i++) sum += im.rgb[i]; /* all of it is there */
    if (sum > n * 255) abort();
    mem_free(im.rgb);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try(data, size, size & 1);
    if (size < 20 || memcmp(data, "\x89PNG", 4)) return 0;
    uint8_t *b = malloc(size);
    if (!b) return 0;
    memcpy(b, data, size);
    for (size_t at = 8; size - at >= 12;) {
        size_t n = (size_t)b[at] << 24 | (size_t)b[at + 1] << 16 | (size_t)b[at + 2] << 8 | b[at + 3];
        if (n > size - at - 12) break;
        uint32_t c = png_crc(b + at + 4, n + 4);
        for (int i = 0; i < 4; i++) b[at + 8 + n + (size_t)i] = (uint8_t)(c >> (24 - 8 * i));
        at += n + 12;
    }
    try(b, size, 0);
    free(b);
    return 0;
}
