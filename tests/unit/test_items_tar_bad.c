/* test_items_tar_bad.c: tar headers of every form, forged ones, archives cut at any byte. */
#include "tar_make.h"

static void long_names(void **state) {
    char name[400], record[1000], big[1200];
    t.n = 0;
    memset(name, 'n', 300);
    strcpy(name + 300, ".mp4");
    header("././@LongLink", strlen(name) + 1, 'L');
    bytes(name, strlen(name) + 1);
    text("shortened.mp4", "one");
    memset(name, 'p', 200);
    name[100] = '/';
    strcpy(name + 200, ".avi");
    pax_record(record, "mtime", "1.5");
    pax_record(record + strlen(record), "path", name);
    pax_record(record + strlen(record), "size", "3");
    header("PaxHeaders/x", strlen(record), 'x');
    bytes(record, strlen(record));
    header("shortened.avi", 0, '0'); /* the size stands in the attributes */
    bytes("two", 3);
    pax_record(record, "comment", "for all");
    header("pax_global", strlen(record), 'g');
    bytes(record, strlen(record));
    uint8_t *h = header("c.mkv", 5, '0'); /* ustar's prefix; a size in binary */
    memcpy(h + 345, "prefix/of/it", 12);
    memcpy(h + 124, "\x80\0\0\0\0\0\0\0\0\0\0\5", 12);
    seal(h);
    bytes("three", 5);
    h = header("old.mp4", 4, 0); /* before ustar: no magic, type 0, a signed sum */
    memset(h + 257, 0, 8);
    seal(h);
    bytes("four", 4);
    finish();
    save("long.tar");
    assert_int_equal(add("long.tar"), 0);
    assert_int_equal(list.n, 4);
    memset(big, 'n', 300);
    strcpy(big + 300, ".mp4");
    expect(0, big, -1);
    expect(1, name, -1);
    expect(2, "prefix/of/it/c.mkv", -1);
    expect(3, "old.mp4", -1);
    assert_int_equal(list.at[1].size, 3);
    for (int i = 0; i < 4; i++) assert_memory_equal(t.b + list.at[i].offset, ((const char *[]){"one", "two", "three", "four"})[i], 3);
}

static void forged(void **state) {
    char record[200];
    for (int k = 0; k < 14; k++) {
        uint8_t *h;
        t.n = 0;
        text("good.mp4", "whole");
        const char *why = "checksum";
        switch (k) {
        case 0: /* a bit turned */
            h = header("evil.mp4", 4, '0');
            h[3] ^= 1;
            bytes("data", 4);
            why = "entry evim.mp4";
            h[3] = 'm';
            break;
        case 1: /* 8 GiB less a byte, in a file of 2 KiB */
            h = header("evil.mp4", 0, '0');
            memcpy(h + 124, "77777777777", 11);
            seal(h);
            why = "cut short";
            break;
        case 2: /* binary, beyond 63 bits */
            h = header("evil.mp4", 0, '0');
            memcpy(h + 124, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
            seal(h);
            why = "entry evil.mp4 at byte 1024: its size";
            break;
        case 3: /* negative */
            h = header("evil.mp4", 0, '0');
            memset(h + 124, 0xff, 12);
            seal(h);
            why = "its size";
            break;
        case 4: /* just below 2^63: offset + size would overflow */
            h = header("evil.mp4", 0, '0');
            memcpy(h + 124, "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12);
            seal(h);
            why = "evil.mp4 at byte 1024: its size is larger than any file";
            break;
        case 5: /* not octal */
            h = header("evil.mp4", 0, '0');
            memcpy(h + 124, "99999999999", 11);
            seal(h);
            why = "its size";
            break;
        case 6: /* a name of 2 GiB */
            header("././@LongLink", 0x7fffffff, 'L');
            why = "not believed";
            break;
        case 7: /* attributes: a record longer than all of them */
            header("pax", 20, 'x');
            bytes("999999 path=x.mp4\n\0\0", 20);
            why = "records";
            break;
        case 8:
            header("pax", 9, 'x');
            bytes("0 path=x\n", 9);
            why = "records";
            break;
        case 9:
            pax_record(record, "size", "99999999999999999999");
            header("pax", strlen(record), 'x');
            bytes(record, strlen(record));
            why = "size is not a number";
            break;
        case 10: /* a size in the attributes that leads beyond the end */
            pax_record(record, "size", "9223372036854775000");
            header("pax", strlen(record), 'x');
            bytes(record, strlen(record));
            header("evil.mp4", 0, '0');
            why = "larger than any file";
            break;
        case 11: /* attributes of nothing */
            pax_record(record, "path", "x.mp4");
            header("pax", strlen(record), 'x');
            bytes(record, strlen(record));
            why = "the end stands";
            break;
        case 12: /* noise */
            for (int i = 0; i < 512; i++) t.b[t.n + (size_t)i] = (uint8_t)(i * 7 + 1);
            t.n += 512;
            break;
        case 13: /* a map of holes that goes on for ever, in itself */
            h = header("evil.mp4", 4, 'S');
            h[482] = 1;
            seal(h);
            for (int i = 0; i < 4; i++) {
                memset(t.b + t.n, 1, 512);
                t.n += 512;
            }
            t.n -= 512;
            why = "cut short";
            memset(t.b + t.n, 1, 1024); /* instead of the end */
            break;
        }
        if (k == 13)
            t.n += 1024;
        else
            finish();
        if (k == 1) t.n -= 1024;
        save("forged.tar");
        assert_int_equal(add("forged.tar"), 0);
        if (list.n != 2) fail_msg("forgery %d: %d items", k, list.n);
        expect(0, "good.mp4", -1);
        expect_bad(1, why);
    }
    /* stored with holes: this one fails, the next does not */
    t.n = 0;
    uint8_t *h = header("holes.mp4", 4, 'S');
    h[482] = 1;
    seal(h);
    memset(t.b + t.n, 0, 512);
    t.n += 512;
    bytes("data", 4);
    text("good.mp4", "whole");
    finish();
    save("holes.tar");
    assert_int_equal(add("holes.tar"), 0);
    assert_int_equal(list.n, 2);
    expect_bad(0, "--sparse");
    expect(1, "good.mp4", -1);
}

static void cut_everywhere(void **state) {
    t.n = 0;
    text("a.mp4", "first");
    text("b.mp4", "second");
    char record[64];
    pax_record(record, "path", "third.mp4");
    header("pax", strlen(record), 'x');
    bytes(record, strlen(record));
    text("c.mp4", "third");
    size_t entries = t.n;
    finish();
    for (size_t n = 1; n < t.n; n += n < entries ? 37 : 256) {
        size_t whole = t.n;
        t.n = n;
        save("cut.tar");
        t.n = whole;
        assert_int_equal(add("cut.tar"), 0);
        int good = n >= 3072 + 512 + 5 ? 3 : n >= 1024 + 512 + 6 ? 2 : n >= 512 + 5 ? 1 : 0;
        /* the end at an entry's end is taken as the end; zeros in part, too */
        int clean = n == 1024 || n == 2048 || n >= entries || (good && n < (size_t)(good == 3 ? 4096 : good * 1024));
        if (n > entries && n < entries + 512) clean = 0;
        if (list.n != good + !clean) fail_msg("cut at %zu: %d items, %d whole", n, list.n, good);
        if (!clean && n >= 512) expect_bad(list.n - 1, "cut short");
        if (!clean && n < 512) expect_bad(0, "cut short");
    }
    t.n = 0;
    finish();
    save("empty.tar");
    assert_int_equal(add("empty.tar"), 0);
    assert_int_equal(list.n, 1);
    expect_bad(0, "no video and no image");
    assert_int_equal(script("gzip -c cut.tar >shard.tar.gz; cp shard.tar.gz shard.tgz"), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(add(i ? "shard.tgz" : "shard.tar.gz"), 0);
        assert_int_equal(list.n, 1);
        expect_bad(0, "compressed tar");
    }
}

static int set_up(void **state) { return make_folder(); }
static int tear_down(void **state) {
    items_free(&list);
    return remove_folder();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_names),
        cmocka_unit_test(forged),
        cmocka_unit_test(cut_everywhere),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
