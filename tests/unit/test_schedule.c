/* Schedules against the published ones, step by step. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/json.h"
#include "train/train.h"

#include <math.h>
#include <string.h>

static json *root;

static int setup(void **state) { return json_read(&root, TEST_DATA "/vectors/schedules/schedules.json", NULL); }
static int teardown(void **state) {
    json_close(&root);
    return 0;
}

static double num(const json *o, const char *key) { return json_number(json_get(o, key), NAN); }

/* same formula in double: a few roundings apart */
static int near(double a, double b) { return fabs(a - b) <= 1e-18 + 1e-12 * fabs(b); }

static void recorded(void **state) {
    int rows = 0, sets = 0;
    for (const json *s = json_first(root); s; s = json_next(s)) {
        const json *c = json_get(s, "config");
        if (!c) continue;
        sets++;
        const char *kind = json_string(json_get(c, "kind"), "");
        sched_cfg k = {.iterations_per_epoch = num(c, "ipe"),
                       .epochs = num(c, "epochs"),
                       .warmup_epochs = num(c, "warmup"),
                       .start_lr = num(c, "start_lr"),
                       .lr = num(c, "lr"),
                       .final_lr = num(c, "final_lr"),
                       .weight_decay = num(c, "wd"),
                       .final_weight_decay = num(c, "final_wd"),
                       .ipe_scale = num(c, "ipe_scale")};
        const json *ema = json_get(c, "ema");
        int has_ema = json_is_array(ema);
        if (has_ema) k.ema_start = json_number(json_first(ema), NAN), k.ema_end = json_number(json_next(json_first(ema)), NAN);
        if (!strcmp(kind, "linear_decay"))
            k.kind = SCHED_LINEAR_DECAY, k.warmup_epochs = 0;
        else if (!strcmp(kind, "wsd"))
            k.kind = SCHED_WSD, k.anneal_epochs = num(c, "anneal");
        else if (strcmp(kind, "warmup_cosine"))
            fail_msg("kind %s", kind);
        for (const json *r = json_first(json_get(s, "values")); r; r = json_next(r), rows++) {
            double want[4], lr, wd, m;
            int i = 0;
            for (const json *v = json_first(r); v && i < 4; v = json_next(v)) want[i++] = json_number(v, NAN);
            assert_int_equal(i, 4);
            sched_at(&k, (int64_t)want[0], &lr, &wd, &m);
            if (!near(lr, want[1]) || !near(wd, want[2]) || (has_ema && !near(m, want[3])))
                fail_msg("%s step %g: lr %.17g wd %.17g ema %.17g, published %.17g %.17g %.17g", json_key(s), want[0], lr, wd, m, want[1],
                         want[2], want[3]);
        }
    }
    assert_int_equal(sets, 6);
    assert_int_equal(rows, 915); /* nothing was skipped */
}

static void lambda(void **state) {
    int rows = 0;
    const json *s = json_get(root, "lambda-2.1");
    for (const json *r = json_first(json_get(s, "values")); r; r = json_next(r), rows++) {
        double at = json_number(json_first(r), NAN), want = json_number(json_next(json_first(r)), NAN);
        assert_true(near(sched_lambda((int64_t)at, num(s, "lambda_value"), (int64_t)num(s, "start"), (int64_t)num(s, "end")), want));
    }
    assert_int_equal(rows, 12);
    assert_true(sched_lambda(5, 0.5, 5, 5) == 0.5); /* no ramp: no division by zero */
}

/* what no published run reaches: nothing divides by zero, nothing rises again, nothing is NaN */
static void ends(void **state) {
    sched_cfg k = {.kind = SCHED_WARMUP_COSINE,
                   .iterations_per_epoch = 10,
                   .epochs = 3,
                   .warmup_epochs = 0,
                   .start_lr = 1e-4,
                   .lr = 1e-3,
                   .final_lr = 1e-6,
                   .weight_decay = 0.04,
                   .final_weight_decay = 0.4,
                   .ipe_scale = 1,
                   .ema_start = 0.9,
                   .ema_end = 1};
    double lr, wd, m, lr2, wd2, m2;
    sched_at(&k, 30, &lr, &wd, &m);
    assert_true(near(lr, 1e-6) && near(wd, 0.4));
    sched_at(&k, 300, &lr2, &wd2, &m2);
    assert_true(lr2 == lr && wd2 == wd && m2 == 1);
    for (int kind = 0; kind < 3; kind++) {
        k.kind = (sched_kind)kind;
        for (int e = 0; e < 2; e++) {
            k.epochs = e, k.warmup_epochs = 1 - e, k.anneal_epochs = 0;
            for (int64_t step = 0; step < 40; step++) {
                sched_at(&k, step, &lr, &wd, &m);
                assert_true(isfinite(lr) && isfinite(wd) && isfinite(m));
            }
        }
    }
    sched_at(&k, 1, NULL, NULL, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(recorded), cmocka_unit_test(lambda), cmocka_unit_test(ends)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
