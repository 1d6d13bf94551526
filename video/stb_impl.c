/* stb_impl.c: the one place where stb_image is compiled: JPEG, PNG and BMP from memory, everything static. Debian's libstb-dev. */
#include "video/image.h"

#include <limits.h>
#include <string.h>

enum { MOST_BYTES = 1 << 30 }; /* one block; a decompression bomb ends here */

static void *stb_get(size_t n) { return n > MOST_BYTES ? NULL : mem_alloc(1, n); } /* zeroed: what a file leaves out is black, not chance */

static void *stb_grow(void *p, size_t old, size_t n) {
    void *q = stb_get(n);
    if (q && p) memcpy(q, p, old < n ? old : n);
    if (q) mem_free(p);
    return q;
}

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_MAX_DIMENSIONS IMAGE_MOST_SIDE
#define STBI_MALLOC(n) stb_get(n)
#define STBI_REALLOC_SIZED(p, old, n) stb_grow(p, old, n)
#define STBI_FREE(p) mem_free(p)
#define STBI_ASSERT(x) ((void)0) /* a file never ends the process */

/* stb's warnings, in this file alone; unused static functions are reported at its end, so nothing is popped */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#include <stb_image.h>

int stb_decode(const uint8_t *data, size_t size, image *out, const char **why) {
    int w = 0, h = 0, n = 0;
    *why = "larger than 2 GiB";
    if (size > INT_MAX) return JEPA_E_INPUT;
    uint8_t *rgb = stbi_load_from_memory(data, (int)size, &w, &h, &n, 3); /* alpha is dropped, not blended; 16 bits lose the low byte */
    *why = stbi_failure_reason();
    if (!*why) *why = "damaged";
    if (!rgb) return strcmp(*why, "outofmem") ? JEPA_E_INPUT : JEPA_E_MEMORY;
    *out = (image){.width = w, .height = h, .rgb = rgb};
    return 0;
}
