/* image_png.c: PNG and BMP checked before stb_image decodes them.
 *
 * A PNG is rewritten: checksums verified, header in range, the palette filled up to 256 entries (stb reads entries that a short palette
 * does not have), all compressed data in one chunk, transparency and the rest left out. */
#include "video/image.h"

#include <string.h>

uint32_t png_crc(const uint8_t *d, size_t n) {
    static const uint32_t nibble[16] = {0,          0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        c ^= d[i];
        c = nibble[c & 15] ^ c >> 4;
        c = nibble[c & 15] ^ c >> 4;
    }
    return ~c;
}

static uint32_t be32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }
static uint32_t le32(const uint8_t *p) { return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0]; }

static int bad(const char *format, const char *file, size_t at, jepa_err *err, const char *what) {
    return err_set_at(err, JEPA_E_INPUT, file, (int64_t)at, "%s: damaged %s at byte %zu: %s", file, format, at, what);
}

static int too_large(const char *file, jepa_err *err, long long w, long long h) {
    return err_set_at(err, JEPA_E_INPUT, file, -1, "%s: %lldx%lld pixels, more than %d million or %d a side", file, w, h,
                      IMAGE_MOST_PIXELS / 1000000, IMAGE_MOST_SIDE);
}

/* Bytes after decompression: rows with their filter byte, of seven passes where interlaced. */
static uint64_t png_raw(uint64_t w, uint64_t h, int bits, int interlaced) {
    static const uint8_t from[7][2] = {{0, 0}, {4, 0}, {0, 4}, {2, 0}, {0, 2}, {1, 0}, {0, 1}},
                         step[7][2] = {{8, 8}, {8, 8}, {4, 8}, {4, 4}, {2, 4}, {2, 2}, {1, 2}};
    if (!interlaced) return h * (1 + (w * (uint64_t)bits + 7) / 8);
    uint64_t sum = 0;
    for (int i = 0; i < 7; i++) {
        uint64_t x = (w + step[i][0] - 1 - from[i][0]) / step[i][0], y = (h + step[i][1] - 1 - from[i][1]) / step[i][1];
        if (x && y) sum += y * (1 + (x * (uint64_t)bits + 7) / 8);
    }
    return sum;
}

static uint8_t *chunk(uint8_t *o, const char *type, const uint8_t *data, size_t n) {
    o[0] = (uint8_t)(n >> 24), o[1] = (uint8_t)(n >> 16), o[2] = (uint8_t)(n >> 8), o[3] = (uint8_t)n;
    memcpy(o + 4, type, 4);
    if (n) memmove(o + 8, data, n);
    uint32_t c = png_crc(o + 4, n + 4);
    o += 8 + n;
    o[0] = (uint8_t)(c >> 24), o[1] = (uint8_t)(c >> 16), o[2] = (uint8_t)(c >> 8), o[3] = (uint8_t)c;
    return o + 4;
}

static int png_header(const uint8_t *p, size_t n, size_t at, image_facts *out, int *bits, const char *file, jepa_err *err) {
    static const uint8_t channels[7] = {1, 0, 3, 1, 2, 0, 4};
    if (n != 13) return bad("PNG", file, at, err, "header length");
    uint32_t w = be32(p), h = be32(p + 4);
    int depth = p[8], colour = p[9];
    if (!w || !h || w > INT32_MAX || h > INT32_MAX) return bad("PNG", file, at, err, "width or height");
    if (w > IMAGE_MOST_SIDE || h > IMAGE_MOST_SIDE || (uint64_t)w * h > IMAGE_MOST_PIXELS) return too_large(file, err, w, h);
    int ok = colour < 7 && channels[colour] && p[10] == 0 && p[11] == 0 && p[12] < 2;
    if (ok && (colour == 0 || colour == 3)) ok = depth == 1 || depth == 2 || depth == 4 || depth == 8 || (depth == 16 && !colour);
    else if (ok) ok = depth == 8 || depth == 16;
    if (!ok) return bad("PNG", file, at, err, "colour type, depth or method");
    out->width = (int)w, out->height = (int)h;
    *bits = depth * channels[colour];
    return 0;
}

int png_repack(const uint8_t *data, size_t size, image_facts *out, uint8_t **clean, size_t *clean_size, const char *file, jepa_err *err) {
    *out = (image_facts){.orientation = 1};
    *clean = NULL;
    size_t at = 8, packed = 0, pieces = 0;
    const uint8_t *header = NULL, *palette = NULL;
    size_t palette_size = 0;
    int bits = 0;
    if (size < 8 || memcmp(data, "\x89PNG\r\n\x1a\n", 8)) return bad("PNG", file, 0, err, "signature");
    uint8_t *body = NULL, *o = NULL;
    for (int pass = 0; pass < 2; pass++) { /* measured and checked first, then copied */
        for (at = 8;;) {
            if (size - at < 12) return mem_free(body), bad("PNG", file, at, err, "cut short, no end chunk");
            size_t n = be32(data + at);
            const uint8_t *type = data + at + 4, *p = data + at + 8;
            if (n > size - at - 12) return mem_free(body), bad("PNG", file, at, err, "chunk length (cut short?)");
            int last = !memcmp(type, "IEND", 4), piece = !memcmp(type, "IDAT", 4);
            if (pass) {
                if (piece) memcpy(o, p, n), o += n;
            } else {
                if (png_crc(type, n + 4) != be32(p + n)) return bad("PNG", file, at, err, "checksum");
                if (!memcmp(type, "CgBI", 4))
                    return err_set_at(err, JEPA_E_INPUT, file, -1, "%s: format not read: Apple's private PNG (convert it to PNG or JPEG)",
                                      file);
                if (!header && memcmp(type, "IHDR", 4)) return bad("PNG", file, at, err, "no header first");
                if (!memcmp(type, "IHDR", 4)) {
                    if (header) return bad("PNG", file, at, err, "second header");
                    int rc = png_header(p, n, at, out, &bits, file, err);
                    if (rc) return rc;
                    header = p;
                } else if (!memcmp(type, "PLTE", 4)) {
                    if (palette || pieces || n > 768 || n % 3 || !n) return bad("PNG", file, at, err, "palette");
                    palette = p, palette_size = n;
                } else if (piece) {
                    packed += n, pieces++;
                } else if (!memcmp(type, "eXIf", 4)) {
                    out->orientation = exif_orientation(p, n);
                } else if (!last && !(type[0] & 32)) {
                    return bad("PNG", file, at, err, "unknown critical chunk");
                }
            }
            at += n + 12;
            if (last) break;
        }
        if (pass) break;
        if (!pieces) return bad("PNG", file, at, err, "no picture data");
        if (header[9] == 3 && !palette) return bad("PNG", file, at, err, "no palette");
        /* deflate packs at most 1032 to 1: a header that promises more than the data can hold is not worth the memory */
        if (png_raw((uint64_t)out->width, (uint64_t)out->height, bits, header[12]) > (uint64_t)packed * 1032 + 64)
            return bad("PNG", file, at, err, "picture data too short for the size");
        if (packed > INT32_MAX - 4096) return bad("PNG", file, at, err, "picture data too long");
        body = mem_alloc(packed + 1, 1);
        o = body;
        if (!body) return err_set(err, JEPA_E_MEMORY, "%s: no memory for %zu bytes", file, packed);
    }
    out->end = at;
    *clean = mem_alloc(packed + 8 + 25 + 780 + 12 + 12, 1);
    if (!*clean) {
        mem_free(body);
        return err_set(err, JEPA_E_MEMORY, "%s: no memory for %zu bytes", file, packed);
    }
    uint8_t full[768] = {0};
    if (palette_size) memcpy(full, palette, palette_size);
    memcpy(*clean, data, 8);
    o = chunk(*clean + 8, "IHDR", header, 13);
    if (header[9] == 3) o = chunk(o, "PLTE", full, sizeof full);
    o = chunk(o, "IDAT", body, packed);
    o = chunk(o, "IEND", NULL, 0);
    *clean_size = (size_t)(o - *clean);
    mem_free(body);
    return 0;
}

int bmp_check(const uint8_t *d, size_t size, image_facts *out, const char *file, jepa_err *err) {
    *out = (image_facts){.orientation = 1, .end = size};
    if (size < 26 || d[0] != 'B' || d[1] != 'M') return bad("BMP", file, 0, err, "header");
    uint32_t offset = le32(d + 10), head = le32(d + 14);
    if (head != 12 && head != 40 && head != 56 && head != 108 && head != 124) return bad("BMP", file, 14, err, "header of unknown length");
    if (size < 14 + (size_t)head || offset > size || offset < 14 + head) return bad("BMP", file, 10, err, "cut short inside the header");
    int old = head == 12, depth = old ? d[24] | d[25] << 8 : d[28] | d[29] << 8;
    int64_t w = old ? d[18] | d[19] << 8 : (int32_t)le32(d + 18), h = old ? d[20] | d[21] << 8 : (int32_t)le32(d + 22);
    uint32_t packing = old ? 0 : le32(d + 30);
    int64_t rows = h < 0 ? -h : h; /* negative: stored from the top */
    if (packing == 1 || packing == 2)
        return err_set_at(err, JEPA_E_INPUT, file, -1, "%s: format not read: run-length packed BMP (convert it to PNG or JPEG)", file);
    if (w < 1 || rows < 1) return bad("BMP", file, 18, err, "width or height");
    if (w > IMAGE_MOST_SIDE || rows > IMAGE_MOST_SIDE || w * rows > IMAGE_MOST_PIXELS) return too_large(file, err, w, rows);
    if (depth != 1 && depth != 4 && depth != 8 && depth != 16 && depth != 24 && depth != 32)
        return bad("BMP", file, 28, err, "bits a pixel");
    if (packing != 0 && (packing != 3 || depth < 16 || depth == 24)) return bad("BMP", file, 30, err, "packing");
    size_t line = ((size_t)w * (size_t)depth + 7) / 8, stride = (line + 3) / 4 * 4;
    if (stride * ((size_t)rows - 1) + line > size - offset) return bad("BMP", file, size, err, "cut short");
    if (depth < 16) { /* each pixel's colour must be in the palette that stands before the picture */
        size_t entry = old ? 3 : 4, colours = (offset - 14 - head) / entry;
        if (old) colours = offset < 14 + 12 + 12 ? 0 : (offset - 14 - 24) / 3; /* stb counts so; less than is there */
        if (colours < 1 || colours > 256) return bad("BMP", file, 14 + head, err, "palette");
        for (int64_t y = 0; y < rows && colours < (size_t)1 << depth; y++)
            for (int64_t x = 0; x < w; x++) {
                size_t bit = (size_t)x * (size_t)depth;
                unsigned v = d[offset + (size_t)y * stride + bit / 8] >> (8 - depth - (int)(bit % 8)) & ((1u << depth) - 1);
                if (v >= colours) return bad("BMP", file, offset + (size_t)y * stride + bit / 8, err, "colour beyond the palette");
            }
    }
    out->width = (int)w, out->height = (int)rows;
    return 0;
}
