/* test_sha256.c: known digests; the processor's instructions and plain C give the same for every length. */
#include "checkpoint/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void known(void **state) {
    (void)state;
    static const char *const t[][2] = {/* FIPS 180-4's examples and the empty text */
                                       {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
                                       {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
                                       {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                                        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        sha256 s;
        char hex[65];
        sha256_open(&s);
        sha256_add(&s, t[i][0], strlen(t[i][0]));
        sha256_hex(&s, hex);
        assert_string_equal(hex, t[i][1]);
    }
    unsigned char *million = malloc(1000000);
    sha256 s;
    char hex[65];
    memset(million, 'a', 1000000);
    sha256_open(&s);
    sha256_add(&s, million, 1000000);
    sha256_hex(&s, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

/* Single bytes go block by block through plain C; longer pieces through whatever the processor has. */
static void any_pieces(void **state) {
    (void)state;
    unsigned char data[700];
    for (int i = 0; i < 700; i++) data[i] = (unsigned char)(i * 151 + i / 7);
    for (size_t n = 0; n <= sizeof data; n += n < 260 ? 1 : 37) {
        sha256 a, b, c;
        char x[65], y[65], z[65];
        sha256_open(&a), sha256_open(&b), sha256_open(&c);
        sha256_add(&a, data, n);
        for (size_t i = 0; i < n; i++) sha256_add(&b, data + i, 1);
        sha256_add(&c, data, n / 3);
        sha256_add(&c, data + n / 3, n - n / 3);
        sha256_hex(&a, x), sha256_hex(&b, y), sha256_hex(&c, z);
        assert_string_equal(x, y);
        assert_string_equal(x, z);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known), cmocka_unit_test(any_pieces)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
