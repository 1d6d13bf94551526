/* sha256.h: SHA-256 (FIPS 180-4), to name weights by their content.
 *
 *     sha256 s; sha256_open(&s); sha256_add(&s, data, n); char hex[65]; sha256_hex(&s, hex); */
#ifndef JEPA_SHA256_H
#define JEPA_SHA256_H
#include <stddef.h>
#include <stdint.h>

typedef struct sha256 {
    uint32_t h[8];
    uint64_t bytes;
    unsigned char block[64];
} sha256;
void sha256_open(sha256 *s);
void sha256_add(sha256 *s, const void *data, size_t n);
void sha256_hex(sha256 *s, char hex[65]); /* ends it */
#endif
