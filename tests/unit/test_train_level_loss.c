/* test_train_level_loss.c: V-JEPA 2.1's loss: its value by hand, its gradient, distances, refusals. */
#include "test_encoder_common.h"
#include "train/train.h"

enum { ITEMS = 2, SEEN = 4, HIDDEN = 3, ALL = 16, LEVELS = 2, WIDE = 5, CHANNELS = LEVELS * WIDE, ROWS = SEEN + HIDDEN };
static const int32_t seen[ITEMS * SEEN] = {0, 3, 4, 12, 1, 2, 9, 15}, hidden[ITEMS * HIDDEN] = {1, 10, 11, 0, 7, 8};

typedef struct job {
    dev *d;
    queue *q;
    float *targets, *z, *all, *h, distance[ITEMS * SEEN];
    int32_t index[ITEMS * ROWS];
    double sums[2];
    level_loss_in in;
} job;

static void open_job(job *j, const char *device) {
    jepa_err err = {0};
    must(dev_open(&j->d, device, 2, &err));
    must(queue_open(&j->q, j->d, &err));
    j->targets = numbers(ITEMS * ALL * CHANNELS, 3, -2, 2);
    j->z = numbers(ITEMS * ROWS * CHANNELS, 4, -2, 2);
    j->all = numbers(ITEMS * ROWS * CHANNELS, 4, -2, 2);
    j->h = numbers(ITEMS * ROWS * CHANNELS, 5, 0, 1);
    must(level_targets(j->q, j->targets, ITEMS * ALL, LEVELS, WIDE, 1e-5, &err));
    must(level_distance(seen, SEEN, hidden, HIDDEN, ITEMS, 2, 0, j->distance, &err)); /* 4 frames of 2 x 2 */
    j->in = (level_loss_in){.batch = ITEMS,
                            .n_context = SEEN,
                            .n_target = HIDDEN,
                            .tokens = ALL,
                            .d = CHANNELS,
                            .context = seen,
                            .target = hidden,
                            .targets = j->targets,
                            .distance = j->distance,
                            .p = 2,
                            .lambda = 0.5,
                            .scale = 1,
                            .all = j->all,
                            .h = j->h,
                            .index = j->index,
                            .sums = j->sums};
}

static void close_job(job *j) {
    queue_close(&j->q);
    dev_close(&j->d);
    mem_free(j->targets);
    mem_free(j->z);
    mem_free(j->all);
    mem_free(j->h);
}

/* The definition, with the gradient of z. */
static void by_hand(const job *j, double *hidden_term, double *seen_term, double *dz) {
    const level_loss_in *in = &j->in;
    *hidden_term = *seen_term = 0;
    for (int b = 0; b < ITEMS; b++)
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < CHANNELS; c++) {
                const int k = (b * ROWS + r) * CHANNELS + c, token = r < SEEN ? seen[b * SEEN + r] : hidden[b * HIDDEN + r - SEEN];
                const double e = (double)j->z[k] - j->targets[(b * ALL + token) * CHANNELS + c];
                const double far = r < SEEN && in->distance ? in->distance[b * SEEN + r] : 1;
                const double part = 1.0 / (ITEMS * (r < SEEN ? SEEN : HIDDEN) * CHANNELS) / far;
                *(r < SEEN ? seen_term : hidden_term) += part * pow(fabs(e), in->p) / in->p;
                dz[k] = (r < SEEN ? in->lambda : 1) * part * pow(fabs(e), in->p - 1) * (e > 0 ? 1 : -1);
            }
}

static void value_and_gradient_are_the_definition(void **s) {
    const char *const device[] = {"ref", "cpu"};
    for (int way = 0; way < 12; way++) {
        job j;
        jepa_err err = {0};
        double want[2], got[2], dz[ITEMS * ROWS * CHANNELS];
        open_job(&j, device[way % 2]);
        if (way / 2 % 3 == 1) j.in.distance = NULL;
        if (way / 2 % 3 == 2) j.in.lambda = 0;
        if (way >= 6) j.in.p = 1;
        by_hand(&j, &want[0], &want[1], dz);
        must(level_loss(j.q, &j.in, &got[0], &got[1], &err));
        for (int i = 0; i < 2; i++) assert_true(fabs(got[i] - want[i]) < 1e-6 * want[i]); /* differences in float32, sums in double */
        for (int i = 0; i < ITEMS * ROWS * CHANNELS; i++) assert_true(fabs(j.all[i] - dz[i]) <= 1e-6 * fabs(dz[i]) + 1e-9);
        close_job(&j);
    }
}

static void targets_are_normalised_level_by_level(void **s) {
    job j;
    open_job(&j, "ref");
    for (int r = 0; r < ITEMS * ALL * LEVELS; r++) {
        double mean = 0, square = 0;
        for (int c = 0; c < WIDE; c++) mean += j.targets[r * WIDE + c] / WIDE;
        for (int c = 0; c < WIDE; c++) square += pow(j.targets[r * WIDE + c] - mean, 2) / WIDE;
        assert_true(fabs(mean) < 1e-6 && fabs(square - 1) < 1e-3); /* eps 1e-5 beside a variance that may be 0.05 */
    }
    close_job(&j);
}

static void distances_are_to_the_nearest_hidden_token(void **s) {
    jepa_err err = {0};
    float d[3];
    /* frames of 4 x 4: token 0 = (0,0,0), 21 = (1,1,1), 63 = (3,3,3) */
    must(level_distance((int32_t[]){0, 20, 63}, 3, (int32_t[]){21, 26}, 2, 1, 4, 0, d, &err));
    assert_true(fabs(d[0] - pow(3, 0.25)) < 1e-6 && fabs(d[1] - 1) < 1e-6 && fabs(d[2] - pow(6, 0.25)) < 1e-6); /* 26 = (1,2,2) */
    must(level_distance((int32_t[]){0}, 1, (int32_t[]){32 * 32 * 3}, 1, 1, 32, 1, d, &err));
    assert_true(fabs(d[0] - sqrt(1.5)) < 1e-6); /* three frames on, over 32 // 16 */
    must(level_distance((int32_t[]){0}, 1, (int32_t[]){3}, 1, 1, 31, 1, d, &err));
    assert_true(fabs(d[0] - sqrt(3)) < 1e-6); /* 31 // 16 = 1 */
}

static void wrong_calls_are_refused(void **s) {
    jepa_err err = {0};
    float d[4];
    refused(level_distance((int32_t[]){0, 5}, 2, (int32_t[]){4, 5}, 2, 1, 4, 0, d, &err), JEPA_E_USE, &err,
            "token 5 is context and target");
    refused(level_distance((int32_t[]){0}, 1, (int32_t[]){5}, 1, 1, 8, 1, d, &err), JEPA_E_USE, &err, "this one is 8 x 8");
    refused(level_distance((int32_t[]){-1}, 1, (int32_t[]){5}, 1, 1, 4, 0, d, &err), JEPA_E_USE, &err, "token -1");
    refused(level_distance((int32_t[]){0}, 1, (int32_t[]){5}, 1, 1, 0, 0, d, &err), JEPA_E_USE, &err, "0 x 0");
    refused(level_distance((int32_t[]){0}, 1, (int32_t[]){5}, 0, 1, 4, 0, d, &err), JEPA_E_USE, &err, "0 target");
    job j;
    double a, b;
    open_job(&j, "ref");
    const level_loss_in good = j.in;
    j.in.lambda = NAN;
    refused(level_loss(j.q, &j.in, &a, &b, &err), JEPA_E_USE, &err, "lambda nan");
    j.in = good, j.in.p = 0.5;
    refused(level_loss(j.q, &j.in, &a, &b, &err), JEPA_E_USE, &err, "exponent 0.5");
    j.in = good, j.in.n_target = 0;
    refused(level_loss(j.q, &j.in, &a, &b, &err), JEPA_E_USE, &err, "(4 + 0) tokens");
    j.in = good, j.in.tokens = 15; /* token 15 is none of 15 */
    refused(level_loss(j.q, &j.in, &a, &b, &err), JEPA_E_USE, &err, "could not be taken");
    close_job(&j);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(value_and_gradient_are_the_definition),
        cmocka_unit_test(targets_are_normalised_level_by_level),
        cmocka_unit_test(distances_are_to_the_nearest_hidden_token),
        cmocka_unit_test(wrong_calls_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
