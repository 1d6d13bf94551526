/* image.h: still images from bytes: told by content, checked before stb_image sees them. Inside video/, and for its tests.
 *
 * stb_image trusts a file more than a stranger's file deserves (Debian's version shifts and overflows on damaged JPEGs, reads palette
 * entries that were never written). So each format has a check of ours in front, and stb gets only what passed. */
#ifndef JEPA_IMAGE_H
#define JEPA_IMAGE_H
#include "video/video.h"

enum { IMAGE_MOST_SIDE = 65535, IMAGE_MOST_PIXELS = 100000000 };
typedef enum { IMAGE_NONE, IMAGE_JPEG, IMAGE_PNG, IMAGE_BMP, IMAGE_OTHER /* an image format that is not read */ } image_kind;
typedef struct image_facts {
    int width, height;   /* as stored */
    int orientation;     /* EXIF: 1 … 8; 1: upright */
    size_t end;          /* bytes that belong to the image */
} image_facts;

/* *name: the format's name ("JPEG", "WebP", …), or NULL. 16 bytes of head are enough. */
image_kind image_sniff(const uint8_t *head, size_t size, const char **name);
/* A whole file in memory → RGB. file: for messages. */
int image_parse(image *out, const uint8_t *data, size_t size, const char *file, int as_stored, jepa_err *err);

/* Markers, tables and frame header in range, and the entropy-coded data walked to the end of every scan: what passes decodes without
 * running out of bits and without overflow. */
int jpeg_check(const uint8_t *data, size_t size, image_facts *out, const char *file, jepa_err *err);
/* Chunks and their checksums checked; *clean (mem_free): the same image of IHDR, full PLTE, one IDAT, IEND only, without transparency. */
int png_repack(const uint8_t *data, size_t size, image_facts *out, uint8_t **clean, size_t *clean_size, const char *file, jepa_err *err);
int bmp_check(const uint8_t *data, size_t size, image_facts *out, const char *file, jepa_err *err);
uint32_t png_crc(const uint8_t *data, size_t size);
int exif_orientation(const uint8_t *tiff, size_t size); /* 1 … 8; 1 where it says nothing */

/* stb_impl.c: 0, or JEPA_E_INPUT (*why: stb's words), JEPA_E_MEMORY. rgb by mem_alloc. */
int stb_decode(const uint8_t *data, size_t size, image *out, const char **why);
#endif
