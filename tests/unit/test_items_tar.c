/* test_items_tar.c: tar shards: forged headers, long names, what counts as a sample, frames read in place. */
#include "video/tar.h"
#include "video_make.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

static const char *failing; /* the fault point that fails, for the `fail_at`th time that it is passed */
static int fail_at;
int fault_point(const char *name) { return failing && !strcmp(name, failing) && --fail_at == 0 ? 5 /* EIO */ : 0; }

/* ---- writing tars byte by byte ---- */

typedef struct made { uint8_t b[1 << 20]; size_t n; } made;
static made t;

static void seal(uint8_t *h) {
    unsigned sum = 0;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < 512; i++) sum += h[i];
    snprintf((char *)h + 148, 8, "%06o", sum);
    h[155] = ' ';
}

static uint8_t *header(const char *name, size_t size, char type) {
    uint8_t *h = t.b + t.n;
    memset(h, 0, 512);
    memcpy(h, name, strlen(name) < 100 ? strlen(name) : 100);
    memcpy(h + 100, "0000644\0000000000\0000000000", 24);
    snprintf((char *)h + 124, 12, "%011zo", size);
    h[156] = (uint8_t)type;
    memcpy(h + 257, "ustar\00000", 8);
    seal(h);
    t.n += 512;
    return h;
}

static void bytes(const void *data, size_t size) {
    memcpy(t.b + t.n, data, size);
    memset(t.b + t.n + size, 0, 512);
    t.n += (size + 511) / 512 * 512;
}

static void member(const char *name, const void *data, size_t size) {
    header(name, size, '0');
    bytes(data, size);
}
static void text(const char *name, const char *data) { member(name, data, strlen(data)); }

static void finish(void) {
    memset(t.b + t.n, 0, 1024);
    t.n += 1024;
}

static void save(const char *name) {
    FILE *f = fopen(in_folder(name), "w");
    assert_non_null(f);
    assert_int_equal(fwrite(t.b, 1, t.n, f), t.n);
    fclose(f);
}

static char *pax_record(char *out, const char *key, const char *value) {
    size_t body = strlen(key) + strlen(value) + 3, digits = 1; /* space, '=', newline */
    char number[24];
    while ((size_t)snprintf(number, sizeof number, "%zu", body + digits) != digits) digits++;
    sprintf(out, "%zu %s=%s\n", body + digits, key, value);
    return out;
}

/* ---- reading them ---- */

static items list;
static jepa_err err;

static int add(const char *name) {
    items_free(&list);
    err = (jepa_err){0};
    return items_add(&list, in_folder(name), &err);
}

static const char *inside(int i) { return list.at[i].path + list.at[i].inner; }
static void expect(int i, const char *name, int64_t label) {
    assert_true(i < list.n);
    if (list.at[i].kind != ITEM_TAR) fail_msg("item %d: %s: %s", i, list.at[i].path, inside(i));
    assert_string_equal(inside(i), name);
    assert_int_equal(list.at[i].label, label);
}
static void expect_bad(int i, const char *part) {
    vid *v = NULL;
    assert_true(i < list.n);
    assert_int_equal(list.at[i].kind, ITEM_BAD);
    if (!strstr(inside(i), part)) fail_msg("\"%s\" does not say \"%s\"", inside(i), part);
    assert_int_equal(vid_open_item(&v, &list.at[i], NULL, &err), JEPA_E_INPUT);
    assert_null(v);
    assert_non_null(strstr(err.text, part));
    assert_null(strchr(err.text, '\n'));
}

static void samples(void **state) {
    t.n = 0;
    header("train/", 0, '5');
    text("train/0001.mp4", "v");
    text("train/0001.cls", " 7\n");
    text("train/0001.jpg", "thumbnail"); /* beside a video: left alone */
    text("train/0001.txt", "caption");
    text("train/0002.json", "{\"label\": 12, \"text\": \"a\"}"); /* before its medium */
    text("train/0002.JPG", "i");
    text("train/0003.png", "i");
    text("train/0003.json", "{\"label\": 1.5}");
    text("train/0004.png", "i");
    text("train/0004.mp4", "the video goes before the image");
    text("train/0006.cls", "9"); /* no medium beside it: it comes last */
    text("train/0005.cls", "3"); /* none at all */
    text("other/0005.left.webm", "v");
    text("other/0005.right.webm", "v"); /* the second of a key */
    text("a.b/clip.mov", "v");          /* a dot in a folder is no end of the key */
    text("README", "no ending");
    text(".hidden.mp4", "no key");
    header("link.mp4", 0, '2');
    text("0001.mp4", "v");
    text("train/0006.mp4", "v");
    finish();
    save("shard.tar");
    assert_int_equal(add("shard.tar"), 0);
    assert_int_equal(list.n, 8);
    expect(0, "train/0001.mp4", 7);
    expect(7, "train/0006.mp4", 9);
    expect(1, "train/0002.JPG", 12);
    expect(2, "train/0003.png", -1);
    expect(3, "train/0004.mp4", -1);
    expect(4, "other/0005.left.webm", -1);
    expect(5, "a.b/clip.mov", -1);
    expect(6, "0001.mp4", -1);
    assert_int_equal(list.ignored, 6);
    assert_int_equal(list.at[3].size, strlen("the video goes before the image"));
    assert_int_equal(list.at[0].offset, 1024);
    /* told by content; a list line and a folder may name it; a label on the line goes before */
    assert_int_equal(script("mkdir -p d/e; cp shard.tar d/e/x; cp shard.tar d/e/y.tar; echo 'd/e/x 5' >l.txt; echo z >d/e/a.mp4; : >d/z.mp4"), 0);
    assert_int_equal(add("l.txt"), 0);
    assert_int_equal(list.n, 8);
    assert_int_equal(list.at[0].label, 5);
    assert_int_equal(list.at[6].line, 1);
    assert_int_equal(add("d"), 0);
    assert_int_equal(list.n, 10); /* a.mp4, the members in their order, z.mp4; x has no ending */
    expect(1, "train/0001.mp4", 7);
    expect(7, "0001.mp4", -1);
    assert_int_equal(list.at[9].kind, ITEM_FILE);
    assert_int_equal(access(in_folder("train"), F_OK), -1); /* nothing was extracted */
    item c;
    assert_int_equal(item_copy(&c, &list.at[1], &err), 0);
    assert_string_equal(c.path, list.at[1].path);
    mem_free(c.path);
}

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
        if (k == 13) t.n += 1024;
        else finish();
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
    assert_int_equal(script("gzip -c shard.tar >shard.tar.gz; cp shard.tar.gz shard.tgz"), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(add(i ? "shard.tgz" : "shard.tar.gz"), 0);
        assert_int_equal(list.n, 1);
        expect_bad(0, "compressed tar");
    }
}

/* The real tool's archives, in its formats, and the frames in them: the same as from the files. */
static void read_in_place(void **state) {
    need_encoder("libx264");
    assert_int_equal(script("mkdir -p w; for i in 0 1 2; do ff -ss 0.$i -i numbered.mp4 -c copy w/s$i.mp4; echo $i >w/s$i.cls; done\n"
                            "ff -i numbered.mp4 -c copy w/s3.mkv; ff -i numbered.mp4 -frames:v 1 w/s4.png; ff -i numbered.mp4 -frames:v 1 w/s5.jpg\n"
                            "printf moovless >w/s6.mp4; : >w/s7.mp4\n"
                            "for f in ustar gnu pax v7; do tar --format=$f --sort=name -C w -cf w-$f.tar .; done"),
                     0);
    static const char *const formats[] = {"ustar", "gnu", "pax", "v7"};
    for (int f = 0; f < 4; f++) {
        char name[32];
        snprintf(name, sizeof name, "w-%s.tar", formats[f]);
        assert_int_equal(add(name), 0);
        assert_int_equal(list.n, 8);
        for (int i = 0; i < 6; i++) {
            assert_int_equal(list.at[i].label, i < 3 ? i : -1);
            char path[64];
            snprintf(path, sizeof path, "w/%s", inside(i) + 2); /* "./s0.mp4" */
            vid *v = NULL, *w = opened(path);
            if (vid_open_item(&v, &list.at[i], NULL, &err) < 0) fail_msg("%s", err.text);
            const vid_info *a = vid_get_info(v), *b = vid_get_info(w);
            assert_memory_equal(a, b, sizeof *a);
            int n = (int)a->frames;
            uint8_t *x = read_all(v, n), *y = read_all(w, n);
            assert_memory_equal(x, y, picture_size(v) * (size_t)n);
            int64_t last = n - 1;
            if (vid_read(v, &last, 1, x, NULL, &err) < 0) fail_msg("%s", err.text); /* after going back and forth */
            assert_memory_equal(x, y + picture_size(v) * (size_t)last, picture_size(v));
            free(x);
            free(y);
            vid_close(&v);
            vid_close(&w);
        }
        for (int i = 6; i < 8; i++) {
            vid *v = NULL;
            assert_int_equal(vid_open_item(&v, &list.at[i], NULL, &err), JEPA_E_INPUT);
            assert_non_null(strstr(err.text, i == 6 ? "/s6.mp4: not a media file" : "/s7.mp4: empty file"));
        }
    }
    /* the tar goes away, or is cut, between the list and the reading */
    assert_int_equal(truncate(in_folder("w-v7.tar"), 1024), 0);
    vid *v = NULL;
    assert_int_equal(vid_open_item(&v, &list.at[1], NULL, &err), JEPA_E_INPUT);
    assert_non_null(strstr(err.text, "has changed"));
    assert_int_equal(unlink(in_folder("w-v7.tar")), 0);
    assert_int_equal(vid_open_item(&v, &list.at[1], NULL, &err), JEPA_E_INPUT);
    assert_non_null(strstr(err.text, "the tar is not found"));
}

/* Reading fails, memory runs out: at any place, an error with its reason, and nothing is left behind. */
static void failures(void **state) {
    need_encoder("libx264");
    int reading = 0, no_memory = 0;
    vid *v = NULL;
    failing = "tar.read";
    fail_at = 3;
    assert_int_equal(add("w-gnu.tar"), 0);
    failing = NULL;
    assert_true(list.n >= 1);
    expect_bad(list.n - 1, "cannot be read: Input/output error");
    for (int at = 1; at < 400; at++) {
        failing = "alloc";
        fail_at = at;
        int rc = add("w-pax.tar");
        failing = NULL;
        if (rc == 0) break;
        assert_int_equal(rc, JEPA_E_MEMORY);
        assert_true(err.text[0]);
        no_memory++;
    }
    assert_true(no_memory > 8);
    assert_int_equal(add("w-gnu.tar"), 0);
    for (int at = 1; at < 60; at++)
        for (int i = 0; i < 5; i += 4) { /* a video, an image */
            failing = at % 2 ? "video.range" : "alloc";
            fail_at = (at + 1) / 2;
            int rc = vid_open_item(&v, &list.at[i], NULL, &err);
            failing = NULL;
            assert_int_equal(rc < 0, !v);
            reading += rc == JEPA_E_INPUT, no_memory += rc == JEPA_E_MEMORY;
            if (rc < 0) assert_true(rc == JEPA_E_INPUT || rc == JEPA_E_MEMORY);
            vid_close(&v);
        }
    assert_true(reading > 0 && no_memory > 0);
}

static void *reader(void *ctx) {
    uint8_t *const *want = ctx;
    for (int round = 0; round < 6; round++)
        for (int i = 0; i < 4; i++) {
            vid *v = NULL;
            int64_t k = round * 7 % 30;
            uint8_t *got = NULL;
            if (vid_open_item(&v, &list.at[i], NULL, NULL) < 0) return "not opened";
            got = malloc(picture_size(v));
            int rc = vid_read(v, &k, 1, got, NULL, NULL), differs = rc < 0 || memcmp(got, want[i] + picture_size(v) * (size_t)k, picture_size(v));
            free(got);
            vid_close(&v);
            if (differs) return "other bytes";
        }
    return NULL;
}

static void many_threads(void **state) {
    need_encoder("libx264");
    uint8_t *want[4];
    pthread_t id[8];
    assert_int_equal(add("w-pax.tar"), 0);
    for (int i = 0; i < 4; i++) {
        vid *v = NULL;
        assert_int_equal(vid_open_item(&v, &list.at[i], NULL, &err), 0);
        want[i] = read_all(v, (int)vid_get_info(v)->frames);
        vid_close(&v);
    }
    for (int i = 0; i < 8; i++) assert_int_equal(pthread_create(&id[i], NULL, reader, want), 0);
    for (int i = 0; i < 8; i++) {
        void *said = NULL;
        pthread_join(id[i], &said);
        if (said) fail_msg("%s", (const char *)said);
    }
    for (int i = 0; i < 4; i++) free(want[i]);
}

/* 100,000 samples: scanned once, little kept for each. */
static void large(void **state) {
    FILE *f = fopen(in_folder("large.tar"), "w");
    assert_non_null(f);
    for (int i = 0; i < 100000; i++) {
        char name[32];
        t.n = 0;
        snprintf(name, sizeof name, "%08d.mp4", i);
        text(name, "v");
        if (i == 99999) finish();
        fwrite(t.b, 1, t.n, f);
    }
    fclose(f);
    assert_int_equal(add("large.tar"), 0);
    assert_int_equal(list.n, 100000);
    expect(99999, "00099999.mp4", -1);
    assert_true(sizeof(item) <= 56);
    assert_int_equal(unlink(in_folder("large.tar")), 0);
}

static int set_up(void **state) {
    if (make_folder()) return -1;
    return have_ffmpeg ? script(numbered) : 0;
}
static int tear_down(void **state) {
    items_free(&list);
    return remove_folder();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples),       cmocka_unit_test(long_names),   cmocka_unit_test(forged), cmocka_unit_test(cut_everywhere),
        cmocka_unit_test(read_in_place), cmocka_unit_test(failures),      cmocka_unit_test(many_threads), cmocka_unit_test(large),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
