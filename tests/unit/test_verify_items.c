/* test_verify_items.c: every item once, with any number of threads; what it says of each; stopped; failures of allocation anywhere. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "video/verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { W = 32, H = 16, FRAMES = 70 /* more than one piece */, VIDEOS = 3, ITEMS = 24 };
static char home[64], path[VIDEOS + 2][96];
static items list;
static int fail_at;

int fault_point(const char *name) {
    if (strcmp(name, "alloc") || !__atomic_load_n(&fail_at, __ATOMIC_RELAXED)) return 0;
    return __atomic_sub_fetch(&fail_at, 1, __ATOMIC_RELAXED) == 0 ? ENOMEM : 0;
}

static void make_video(const char *to, int frames) {
    static uint8_t rgb[W * H * 3];
    vid_writer *w = NULL;
    vid_write_cfg c = {.width = W, .height = H, .fps = 10, .crf = 20, .gop = 12};
    jepa_err err = {0};
    if (vid_writer_open(&w, to, &c, &err)) fail_msg("%s", err.text);
    for (int n = 0; n < frames; n++) {
        memset(rgb, n, sizeof rgb);
        if (vid_writer_add(w, rgb, &err)) fail_msg("%s", err.text);
    }
    if (vid_writer_finish(&w, &err)) fail_msg("%s", err.text);
}

static int setup(void **state) {
    jepa_err err = {0};
    video_quiet();
    strcpy(home, "/tmp/jepa-verify-XXXXXX");
    if (!mkdtemp(home)) return -1;
    for (int k = 0; k < VIDEOS + 2; k++) snprintf(path[k], sizeof path[k], "%s/%d.mp4", home, k);
    for (int k = 0; k < VIDEOS; k++) make_video(path[k], FRAMES + k);
    FILE *f = fopen(path[VIDEOS], "w"); /* the one after it is missing */
    if (!f || fclose(f)) return -1;
    for (int i = 0; i < ITEMS; i++)
        if (items_add(&list, path[i % (VIDEOS + 2)], &err) < 0) return -1;
    return list.n == ITEMS ? 0 : -1;
}

static int teardown(void **state) {
    for (int k = 0; k <= VIDEOS; k++) unlink(path[k]);
    items_free(&list);
    return rmdir(home);
}

typedef struct seen { int times[ITEMS], calls, stop_after; } seen;

static void note(void *ctx, int32_t which, const verify_result *r) {
    seen *s = ctx;
    int k = which % (VIDEOS + 2);
    assert_in_range(which, 0, ITEMS - 1);
    s->times[which]++;
    __atomic_add_fetch(&s->calls, 1, __ATOMIC_RELAXED);
    if (k < VIDEOS) {
        assert_int_equal(r->state, VERIFY_GOOD);
        assert_int_equal(r->frames, FRAMES + k);
        assert_int_equal(r->promised, FRAMES + k);
        assert_int_equal(r->width, W);
        assert_int_equal(r->height, H);
        assert_true(r->seconds > (FRAMES + k) / 10.0 - 0.2 && r->seconds < (FRAMES + k) / 10.0 + 0.2);
    } else {
        assert_int_equal(r->state, VERIFY_BAD);
        assert_string_equal(r->reason, k == VIDEOS ? "empty file" : "not found");
        assert_non_null(strstr(r->text, path[k]));
    }
}

static int stop(void *ctx) {
    seen *s = ctx;
    return s->stop_after && __atomic_load_n(&s->calls, __ATOMIC_RELAXED) >= s->stop_after;
}

static void each_item_once(void **state) {
    for (int workers = 1; workers <= 5; workers += 2) {
        seen s = {0};
        jepa_err err = {0};
        const verify_cfg c = {.workers = workers, .stop = stop, .item = note, .ctx = &s};
        assert_int_equal(verify_items(&list, &c, &err), 0);
        for (int i = 0; i < ITEMS; i++) assert_int_equal(s.times[i], 1);
    }
}

static void stopped(void **state) {
    for (int workers = 1; workers <= 3; workers += 2) {
        seen s = {.stop_after = 5};
        jepa_err err = {0};
        const verify_cfg c = {.workers = workers, .stop = stop, .item = note, .ctx = &s};
        assert_int_equal(verify_items(&list, &c, &err), JEPA_E_CANCELLED);
        assert_in_range(s.calls, 5, 5 + workers);
    }
}

static void wrong_use(void **state) {
    jepa_err err = {0};
    const verify_cfg none = {0};
    assert_int_equal(verify_items(&list, &none, &err), JEPA_E_USE);
    assert_int_equal(verify_items(NULL, &none, &err), JEPA_E_USE);
}

static void nothing(void *ctx, int32_t which, const verify_result *r) { ++*(int *)ctx; }

/* Out of memory anywhere: said so, or the item counts as one that cannot be used; never a crash, a leak, or an item twice. */
static void out_of_memory(void **state) {
    const items few = {.at = list.at, .n = 2};
    int errors = 0, points = 0;
    for (int at = 1; at < 4000; at += 1 + at / 8) {
        int calls = 0;
        jepa_err err = {0};
        const verify_cfg c = {.workers = 1, .item = nothing, .ctx = &calls};
        __atomic_store_n(&fail_at, at, __ATOMIC_RELAXED);
        int rc = verify_items(&few, &c, &err), left = __atomic_exchange_n(&fail_at, 0, __ATOMIC_RELAXED);
        assert_in_range(calls, 0, 2);
        assert_true(rc == 0 || rc == JEPA_E_MEMORY);
        if (rc) errors++;
        if (left > 0) break; /* asked less often than that */
        points++;
    }
    assert_true(errors > 0 && points > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_item_once), cmocka_unit_test(stopped), cmocka_unit_test(wrong_use),
                                       cmocka_unit_test(out_of_memory)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
