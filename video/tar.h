/* tar.h: the headers of a tar archive, read once, in place: ustar, GNU long names and pax names and sizes; old tar too. Nothing is extracted.
 *
 * Everything in a header is a stranger's word: checksums are checked, sizes compared with the file, names bounded. */
#ifndef JEPA_TAR_H
#define JEPA_TAR_H
#include "base/base.h"

enum { TAR_BLOCK = 512, TAR_LONGEST_NAME = 1 << 16, TAR_LONGEST_PAX = 1 << 20 };
typedef struct tar_entry {
    const char *name;     /* as stored, until fn returns */
    int64_t offset, size; /* of its bytes in the file: all of them are there */
    int regular;          /* 0: a folder, a link, a device */
    int sparse;           /* stored with holes: the bytes are not the file's */
} tar_entry;

/* 1: starts like a tar (an empty one, of zeros only, does not). */
int tar_looks_like(const uint8_t *block, size_t size);
/* fn for each entry in order; stops when it answers nonzero, and returns that. 0: the end (its mark, or the end of the file after an entry).
 * JEPA_E_INPUT: damaged or cut short, err names the entry and the byte; the entries before it have been given. */
int tar_scan(int fd, int64_t size, const char *path, int (*fn)(void *ctx, const tar_entry *e), void *ctx, jepa_err *err);
#endif
