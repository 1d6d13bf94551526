/* image.c: still images: told by content, checked, decoded, turned upright. */
#include "video/image.h"

#include <stdio.h>
#include <string.h>

enum { MOST_FILE = 1 << 28 };

image_kind image_sniff(const uint8_t *b, size_t n, const char **name) {
    static const struct { uint8_t at, size; const char *magic, *name; image_kind kind; } known[] = {
        {0, 3, "\xff\xd8\xff", "JPEG", IMAGE_JPEG},
        {0, 8, "\x89PNG\r\n\x1a\n", "PNG", IMAGE_PNG},
        {0, 6, "GIF87a", "GIF", IMAGE_OTHER},
        {0, 6, "GIF89a", "GIF", IMAGE_OTHER},
        {8, 4, "WEBP", "WebP", IMAGE_OTHER},
        {0, 4, "II*\0", "TIFF", IMAGE_OTHER},
        {0, 4, "MM\0*", "TIFF", IMAGE_OTHER},
        {0, 4, "II+\0", "TIFF", IMAGE_OTHER},
        {0, 4, "MM\0+", "TIFF", IMAGE_OTHER},
        {4, 8, "ftypheic", "HEIC", IMAGE_OTHER},
        {4, 8, "ftypheix", "HEIC", IMAGE_OTHER},
        {4, 8, "ftypmif1", "HEIF", IMAGE_OTHER},
        {4, 8, "ftypmsf1", "HEIF", IMAGE_OTHER},
        {4, 8, "ftypavif", "AVIF", IMAGE_OTHER},
        {4, 8, "ftypavis", "AVIF", IMAGE_OTHER},
        {0, 8, "\0\0\0\x0cjP  ", "JPEG 2000", IMAGE_OTHER},
        {0, 4, "\xff\x4f\xff\x51", "JPEG 2000", IMAGE_OTHER},
        {0, 8, "\0\0\0\x0cJXL ", "JPEG XL", IMAGE_OTHER},
        {0, 2, "\xff\x0a", "JPEG XL", IMAGE_OTHER},
        {0, 4, "8BPS", "PSD", IMAGE_OTHER},
        {0, 4, "\0\0\1\0", "ICO", IMAGE_OTHER},
        {0, 4, "DDS ", "DDS", IMAGE_OTHER},
        {0, 4, "\x76\x2f\x31\x01", "OpenEXR", IMAGE_OTHER},
        {0, 10, "#?RADIANCE", "HDR", IMAGE_OTHER},
    };
    *name = NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n >= (size_t)known[i].at + known[i].size && !memcmp(b + known[i].at, known[i].magic, known[i].size)) {
            if (known[i].at == 8 && memcmp(b, "RIFF", 4)) continue;
            *name = known[i].name;
            return known[i].kind;
        }
    if (n >= 14 && b[0] == 'B' && b[1] == 'M' && !b[6] && !b[7] && !b[8] && !b[9]) { /* two letters alone are too little */
        *name = "BMP";
        return IMAGE_BMP;
    }
    if (n >= 3 && b[0] == 'P' && b[1] >= '1' && b[1] <= '7' && (b[2] == '\n' || b[2] == ' ' || b[2] == '\r' || b[2] == '\t')) {
        *name = "PNM";
        return IMAGE_OTHER;
    }
    return IMAGE_NONE;
}

/* EXIF's eight ways of storing an upright picture */
static int turn(image *im, int orientation, const char *file, jepa_err *err) {
    if (orientation < 2 || orientation > 8) return 0;
    int w = im->width, h = im->height, swap = orientation > 4, ow = swap ? h : w, oh = swap ? w : h;
    uint8_t *o = mem_alloc((size_t)w * (size_t)h, 3);
    if (!o) return err_set(err, JEPA_E_MEMORY, "%s: no memory to turn a %dx%d picture", file, w, h);
    for (int y = 0; y < oh; y++)
        for (int x = 0; x < ow; x++) {
            int sy = swap ? x : y, sx = swap ? y : x;
            if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) sy = h - 1 - sy;
            if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) sx = w - 1 - sx;
            memcpy(o + ((size_t)y * (size_t)ow + (size_t)x) * 3, im->rgb + ((size_t)sy * (size_t)w + (size_t)sx) * 3, 3);
        }
    mem_free(im->rgb);
    *im = (image){.width = ow, .height = oh, .rgb = o};
    return 0;
}

int image_parse(image *out, const uint8_t *data, size_t size, const char *file, int as_stored, jepa_err *err) {
    const char *name, *why;
    image_facts f;
    uint8_t *clean = NULL;
    size_t clean_size = 0;
    int rc;
    *out = (image){0};
    switch (image_sniff(data, size, &name)) {
    case IMAGE_JPEG:
        rc = jpeg_check(data, size, &f, file, err);
        break;
    case IMAGE_PNG:
        rc = png_repack(data, size, &f, &clean, &clean_size, file, err);
        break;
    case IMAGE_BMP:
        rc = bmp_check(data, size, &f, file, err);
        break;
    case IMAGE_OTHER:
        return err_set_at(err, JEPA_E_INPUT, file, -1, "%s: format not read: %s (convert it to PNG or JPEG)", file, name);
    default:
        return err_set_at(err, JEPA_E_INPUT, file, -1, size ? "%s: not an image (JPEG, PNG and BMP are read)" : "%s: empty file", file);
    }
    if (rc) return rc;
    rc = stb_decode(clean ? clean : data, clean ? clean_size : f.end, out, &why);
    mem_free(clean);
    if (rc == JEPA_E_MEMORY) return err_set(err, rc, "%s: no memory for a %dx%d picture", file, f.width, f.height);
    if (rc) return err_set_at(err, rc, file, -1, "%s: damaged %s: %s", file, name, why);
    if (out->width != f.width || out->height != f.height)
        rc = err_set_at(err, JEPA_E_INPUT, file, -1, "%s: damaged %s: two sizes", file, name);
    if (!rc && !as_stored) rc = turn(out, f.orientation, file, err);
    if (rc) {
        mem_free(out->rgb);
        *out = (image){0};
    }
    return rc;
}

int image_read(image *out, const char *path, int as_stored, jepa_err *err) {
    char *data;
    size_t size;
    *out = (image){0};
    int rc = file_read(path, MOST_FILE, &data, &size, err);
    if (rc) return rc;
    rc = image_parse(out, (const uint8_t *)data, size, path, as_stored, err);
    mem_free(data);
    return rc;
}
