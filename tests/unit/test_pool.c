/* test_pool.c: the team: every item once, whoever asks, however many threads and cores there are. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include "base/base.h"

enum { ITEMS = 100 };

static void count_up(void *ctx, int64_t i) { ((int *)ctx)[i]++; } /* plain: an item that ran twice at once would be a race */

static team *opened(int threads) {
    team *p = NULL;
    jepa_err err = {0};
    assert_int_equal(pool_open(&p, threads, &err), 0);
    return p;
}

static void sleep_us(long us) { nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL); }

static void every_item_runs_once(void **s) {
    for (int threads = 1; threads < 6; threads++) {
        team *p = opened(threads);
        for (int want = 0; want < 8; want++)
            for (int n = 0; n < 40; n++) {
                int hits[40] = {0};
                pool_for(p, want, n, count_up, hits);
                for (int i = 0; i < 40; i++) assert_int_equal(hits[i], i < n);
            }
        pool_close(&p);
        assert_null(p);
    }
    int hits[3] = {0};
    pool_for(NULL, 4, 3, count_up, hits);
    pool_once(2, 3, count_up, hits);
    pool_once(9, 3, count_up, hits);
    for (int i = 0; i < 3; i++) assert_int_equal(hits[i], 3);
}

/* Jobs that come while the team spins, and ones that find it asleep (its spin is 30 µs). */
static void jobs_follow_each_other(void **s) {
    team *p = opened(2);
    int hits[ITEMS] = {0};
    for (int k = 0; k < 20000; k++) pool_for(p, 2, 1 + k % ITEMS, count_up, hits);
    for (int k = 0; k < 300; k++) {
        sleep_us(k % 3 ? 20 + k % 30 : 300);
        pool_for(p, 2, ITEMS, count_up, hits);
    }
    for (int i = 0; i < ITEMS; i++) assert_int_equal(hits[i], 300 + 20000 / ITEMS * (ITEMS - i));
    pool_close(&p);
}

static void more_threads_than_cores(void **s) {
    team *p = opened(pool_cores() * 4 + 3);
    int hits[ITEMS] = {0};
    for (int k = 0; k < 500; k++) pool_for(p, 1000, ITEMS, count_up, hits);
    for (int i = 0; i < ITEMS; i++) assert_int_equal(hits[i], 500);
    pool_close(&p);
}

typedef struct nest { team *p; atomic_int hits[8]; } nest;
static void inner(void *ctx, int64_t i) { atomic_fetch_add((atomic_int *)ctx + i, 1); }
static void outer(void *ctx, int64_t i) { pool_for(((nest *)ctx)->p, 3, 8, inner, ((nest *)ctx)->hits); }
static void a_job_inside_a_job(void **s) {
    nest n = {.p = opened(3)};
    for (int k = 0; k < 200; k++) pool_for(n.p, 3, 5, outer, &n);
    for (int i = 0; i < 8; i++) assert_int_equal(atomic_load(&n.hits[i]), 200 * 5);
    pool_close(&n.p);
}

typedef struct caller { team *p; int hits[ITEMS]; } caller;
static void *call_often(void *arg) {
    caller *c = arg;
    for (int k = 0; k < 2000; k++) pool_for(c->p, 2, ITEMS, count_up, c->hits);
    return NULL;
}
static void callers_at_once(void **s) {
    caller c[4] = {0};
    pthread_t id[4];
    c[0].p = opened(2);
    for (int k = 0; k < 4; k++) {
        c[k].p = c[0].p;
        assert_int_equal(pthread_create(&id[k], NULL, call_often, &c[k]), 0);
    }
    for (int k = 0; k < 4; k++) pthread_join(id[k], NULL);
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < ITEMS; i++) assert_int_equal(c[k].hits[i], 2000);
    pool_close(&c[0].p);
}

/* Item 0 waits for all others: whoever is free has to take what lies in the share of the one that waits. */
typedef struct held { atomic_int done, helped; } held;
static void hold(void *ctx, int64_t i) {
    held *h = ctx;
    if (i) {
        atomic_fetch_add(&h->done, 1);
        return;
    }
    for (int k = 0; k < 20000 && atomic_load(&h->done) < ITEMS - 1; k++) sleep_us(100); /* 2 s and more, then it has failed */
    atomic_store(&h->helped, atomic_load(&h->done) == ITEMS - 1);
}
static void others_take_what_is_not_begun(void **s) {
    team *p = opened(2);
    for (int k = 0; k < 20; k++) {
        held h = {0};
        pool_for(p, 2, ITEMS, hold, &h);
        assert_true(atomic_load(&h.helped));
    }
    pool_close(&p);
}

static void closing(void **s) {
    int hits[ITEMS] = {0};
    for (int k = 0; k < 100; k++) { /* never used; just used, so still spinning; asleep */
        team *p = opened(3);
        if (k % 3) pool_for(p, 3, ITEMS, count_up, hits);
        if (k % 3 == 2) sleep_us(200);
        pool_close(&p);
    }
    int few[3] = {0}; /* a worker that comes just as the team closes: once in some ten thousand it took the end for a job and waited for another */
    for (int k = 0; k < 10000; k++) pool_once(2 + k % 3, 3, count_up, few);
    for (int i = 0; i < 3; i++) assert_int_equal(few[i], 10000);
    team *none = NULL;
    jepa_err err = {0};
    pool_close(&none);
    pool_close(NULL);
    assert_int_equal(pool_open(&none, 0, &err), JEPA_E_USE);
    assert_int_equal(pool_open(&none, 100000, &err), JEPA_E_USE);
    assert_int_equal(pool_open(NULL, 1, &err), JEPA_E_USE);
    assert_null(none);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_runs_once), cmocka_unit_test(jobs_follow_each_other), cmocka_unit_test(more_threads_than_cores),
        cmocka_unit_test(a_job_inside_a_job),   cmocka_unit_test(callers_at_once),        cmocka_unit_test(others_take_what_is_not_begun),
        cmocka_unit_test(closing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
