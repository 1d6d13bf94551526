/* test_items_tar.c: tar shards: what counts as a sample, frames read in place. */
#include "tar_make.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

static const char *failing; /* the fault point that fails, for the `fail_at`th time that it is passed */
static int fail_at;
int fault_point(const char *name) { return failing && !strcmp(name, failing) && --fail_at == 0 ? 5 /* EIO */ : 0; }

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
    assert_int_equal(
        script("mkdir -p d/e; cp shard.tar d/e/x; cp shard.tar d/e/y.tar; echo 'd/e/x 5' >l.txt; echo z >d/e/a.mp4; : >d/z.mp4"), 0);
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

/* The real tool's archives, in its formats, and the frames in them: the same as from the files. */
static void read_in_place(void **state) {
    need_encoder("libx264");
    assert_int_equal(
        script("mkdir -p w; for i in 0 1 2; do ff -ss 0.$i -i numbered.mp4 -c copy w/s$i.mp4; echo $i >w/s$i.cls; done\n"
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
            int rc = vid_read(v, &k, 1, got, NULL, NULL),
                differs = rc < 0 || memcmp(got, want[i] + picture_size(v) * (size_t)k, picture_size(v));
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
        cmocka_unit_test(samples),      cmocka_unit_test(read_in_place), cmocka_unit_test(failures),
        cmocka_unit_test(many_threads), cmocka_unit_test(large),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
