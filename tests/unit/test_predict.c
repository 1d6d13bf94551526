/* test_predict.c: masks from a text or a file; predictions against those of the published code; the error, the public interface, refusals;
 * principal components kept and read again. */
#include "checkpoint/checkpoint.h"
#include "infer/draw.h"
#include "infer/pca.h"
#include "infer/predict.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SET TEST_DATA "/vectors/vjepa2-hf-tiny/"
enum { B = 2, T = 4, S = 64, D = 56, TOKENS = 2 * 4 * 4 };
static char dir[64];
static char *file(const char *name) {
    static char path[4][128];
    static int k;
    char *p = path[k++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static void masks_from_a_text(void **state) {
    (void)state;
    const mask_grid g = {4, 6, 6}, still = {1, 14, 14};
    static const char *const good[] = {"future:from=1", "future:from=3", "future", "multiblock", "multiblock:generator=1,seed=9", "tube:ratio=0.9", "tube:ratio=0.5,seed=3"};
    pred_masks m;
    jepa_err err = {0};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (pred_masks_make(&m, good[i], g, 0, &err) < 0) fail_msg("%s: %s", good[i], err.text);
        char seen[144] = {0};
        assert_true(m.sets == 1 && m.blocks == 1 && m.n_context > 0 && m.n_target > 0 && m.n_context + m.n_target <= 144);
        for (int64_t k = 0; k < m.n_context; k++) assert_int_equal(seen[m.context[k]]++, 0);
        for (int64_t k = 0; k < m.n_target; k++) assert_int_equal(seen[m.target[k]]++, 0);
        pred_masks_free(&m);
    }
    assert_int_equal(pred_masks_make(&m, "future:from=3", g, 0, &err), 0);
    assert_true(m.n_context == 3 * 36 && m.n_target == 36 && m.context[0] == 0 && m.target[0] == 108);
    pred_masks_free(&m);
    assert_int_equal(pred_masks_make(&m, "multiblock:seed=2", still, 1, &err), 0); /* I-JEPA: four targets, each by itself */
    assert_true(m.blocks == 4 && m.n_target % 4 == 0 && m.n_context > 10);
    pred_masks_free(&m);
    static const struct { const char *spec, *says; } bad[] = {
        {"future:from=4", "nothing would be left"}, {"future:from=0", "from must be a number"}, {"future:until=3", "\"until\" is not an option"},
        {"future:from=x", "must be a number"}, {"blocks", "is not known"}, {"", "is not known"}, {"tube:ratio=2", "ratio must be"},
        {"multiblock:generator=2", "generator must be"}, {"multiblock:seed", "is not an option"}, {"file:/nowhere/m.safetensors", "/nowhere/m.safetensors"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err = (jepa_err){0};
        assert_true(pred_masks_make(&m, bad[i].spec, g, 0, &err) < 0);
        if (!strstr(err.text, bad[i].says)) fail_msg("%s: '%s' lacks '%s'", bad[i].spec, err.text, bad[i].says);
    }
    assert_true(pred_masks_make(&m, NULL, g, 0, &err) < 0);
}

static void write_masks(const char *path, const int64_t *context, const int64_t *target, int rank, const int64_t *cd, const int64_t *td, dtype type) {
    jepa_err err = {0};
    const st_out t[] = {{"context", {.type = type, .rank = rank, .dim = {cd[0], rank > 1 ? cd[1] : 0}, .data = context}, T_NONE},
                        {"target", {.type = type, .rank = rank, .dim = {td[0], rank > 1 ? td[1] : 0}, .data = target}, T_NONE}};
    if (st_write(path, t, 2, NULL, &err) < 0) fail_msg("%s", err.text);
}

static void masks_from_a_file(void **state) {
    (void)state;
    const mask_grid g = {1, 2, 3};
    pred_masks m;
    jepa_err err = {0};
    char spec[160];
    const int64_t c[] = {0, 2, 1, 3}, t[] = {5, 4}, two[] = {2, 2}, one[] = {2, 1}, flat2[] = {2, 0}, flat1[] = {1, 0};
    snprintf(spec, sizeof spec, "file:%s", file("m.safetensors"));
    const char *path = spec + 5;
    write_masks(path, c, t, 2, two, one, T_I64);
    assert_int_equal(pred_masks_make(&m, spec, g, 0, &err), 0);
    assert_true(m.sets == 2 && m.n_context == 2 && m.n_target == 1 && m.context[3] == 3 && m.target[1] == 4);
    pred_masks_free(&m);
    write_masks(path, c, t, 1, flat2, flat1, T_I64);
    assert_int_equal(pred_masks_make(&m, spec, g, 0, &err), 0);
    assert_true(m.sets == 1 && m.context[1] == 2);
    pred_masks_free(&m);
    const int64_t outside[] = {0, 6}, below[] = {-1, 2}, twice[] = {5, 2};
    static const char *const says[] = {"names token 6", "names token -1", "token 5 is listed twice"};
    const int64_t *const bad[] = {outside, below, twice};
    for (int i = 0; i < 3; i++) {
        write_masks(path, bad[i], t, 1, flat2, flat1, T_I64);
        assert_true(pred_masks_make(&m, spec, g, 0, &err) < 0);
        if (!strstr(err.text, says[i]) || !strstr(err.text, "m.safetensors")) fail_msg("'%s' lacks '%s'", err.text, says[i]);
    }
    write_masks(path, c, t, 2, two, flat1, T_I64); /* [2,2] and [1,…]: other numbers of clips */
    assert_true(pred_masks_make(&m, spec, g, 0, &err) < 0);
    const float f[] = {0, 1};
    const st_out wrong[] = {{"context", {.type = T_F32, .rank = 1, .dim = {2}, .data = f}, T_NONE}};
    assert_int_equal(st_write(path, wrong, 1, NULL, &err), 0);
    assert_true(pred_masks_make(&m, spec, g, 0, &err) < 0 && strstr(err.text, "must be int64"));
}

static jepa *open_model(int predictor) {
    jepa *m;
    jepa_err err = {0};
    jepa_options o;
    jepa_options_defaults(&o);
    o.threads = 1, o.predictor = predictor;
    if (jepa_open(&m, SET "model", &o, &err) < 0) fail_msg("%s", err.text);
    return m;
}

/* The published code encodes all tokens and picks the context's; our other way, seeing the context alone, must give something else. */
static void as_published(void **state) {
    (void)state;
    jepa *m = open_model(1);
    jepa_run *r;
    jepa_err err = {0};
    st_file *f;
    clip_plan c;
    assert_int_equal(jepa_session(m, &r, &err), 0);
    assert_int_equal(st_open(&f, SET "io.safetensors", &err), 0);
    const st_tensor *x = st_find(f, "pixel_values_videos"), *ci = st_find(f, "context_mask"), *ti = st_find(f, "target_mask"), *want = st_find(f, "predictor.last_hidden_state");
    assert_non_null(x), assert_non_null(ci), assert_non_null(ti), assert_non_null(want);
    assert_true(x->t.dim[0] == B && x->t.dim[1] == T && want->t.dim[2] == D);
    char spec[160];
    snprintf(spec, sizeof spec, "file:%s", file("golden.safetensors"));
    write_masks(spec + 5, ci->t.data, ti->t.data, 2, ci->t.dim, ti->t.dim, ci->t.type);
    assert_int_equal(plan_make(m, NULL, &c, &err), 0);
    pred_masks k;
    if (pred_masks_make(&k, spec, (mask_grid){2, 4, 4}, 0, &err) < 0) fail_msg("%s", err.text);
    assert_true(k.sets == B && k.n_target == want->t.dim[1]);
    pred_plan p = {.clip = &c, .masks = &k, .mask_token = m->mc.mask_token, .encode_all = 1};
    assert_int_equal(m->mc.mask_token, 1);
    assert_int_equal(predict_plan_check(m, &p, &err), 0);
    size_t n = (size_t)(B * k.n_target * D);
    float *got = malloc(n * sizeof *got), *other = malloc(n * sizeof *other), *target = malloc(n * sizeof *target), *error = malloc(n * sizeof *error);
    if (run_predict(r, &p, 0, x->t.data, T_F32, B, T, S, S, got, target, error, &err) < 0) fail_msg("%s", err.text);
    const float *w = want->t.data;
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - w[i]) <= 2e-4 + 1e-4 * fabs((double)w[i]))) /* the table's bound for float32 */
            fail_msg("value %zu: %g, published %g", i, got[i], w[i]);
    for (int64_t t = 0; t < B * k.n_target; t++) {
        double sum = 0, mean = 0, sq = 0;
        for (int i = 0; i < D; i++) {
            double v = target[t * D + i];
            sum += fabs(got[t * D + i] - v) / D, mean += v / D, sq += v * v / D;
        }
        assert_true(fabs(sum - error[t]) < 1e-5 && fabs(mean) < 1e-4 && fabs(sq - 1) < 1e-2); /* rounding; eps in the variance */
    }
    /* one clip at a time, and with no place for targets: the same numbers */
    for (int b = 0; b < B; b++) {
        float e[64];
        const size_t clip = (size_t)T * 3 * S * S, row = (size_t)k.n_target * D;
        assert_int_equal(run_predict(r, &p, b, (const float *)x->t.data + b * clip, T_F32, 1, T, S, S, other, NULL, e, &err), 0);
        for (size_t i = 0; i < row; i++) assert_true(fabs(other[i] - got[b * row + i]) < 1e-5); /* other blocking of the same sums */
        for (int64_t t = 0; t < k.n_target; t++) assert_true(fabs(e[t] - error[b * k.n_target + t]) < 1e-5);
    }
    assert_true(run_predict(r, &p, 1, x->t.data, T_F32, B, T, S, S, got, NULL, NULL, &err) < 0 && strstr(err.text, "clip 3")); /* lists for two clips */
    p.encode_all = 0;
    assert_int_equal(run_predict(r, &p, 0, x->t.data, T_F32, B, T, S, S, other, target, error, &err), 0);
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs(other[i] - w[i]));
    assert_true(most > 1e-3);
    p.mask_token = 3;
    assert_true(predict_plan_check(m, &p, &err) < 0 && strstr(err.text, "mask token 3"));
    free(got), free(other), free(target), free(error);
    pred_masks_free(&k);
    st_close(&f);
    jepa_session_close(&r);
    jepa_close(&m);
}

static void public_interface(void **state) {
    (void)state;
    jepa *m = open_model(1), *plain = open_model(0);
    jepa_run *r, *q;
    jepa_err err = {0};
    jepa_prediction a, b;
    jepa_predict_options o;
    jepa_embed_options s;
    assert_int_equal(jepa_session(m, &r, &err), 0);
    assert_int_equal(jepa_session(plain, &q, &err), 0);
    jepa_embed_options_defaults(&s);
    s.clips = 2;
    jepa_predict_options_defaults(&o);
    o.mask = "future:from=1", o.sampling = &s;
    if (jepa_predict(r, file("clip.mp4"), &o, &a, &err) < 0) fail_msg("%s", err.text);
    assert_true(a.clips == 2 && a.n == 16 && a.n_context == 16 && a.dim == D && a.grid[0] == 2 && a.grid[1] == 4 && a.grid[2] == 4);
    assert_true(a.index[0] == 16 && a.index[31] == 31 && a.context[15] == 15 && a.start_seconds[0] < a.start_seconds[1]);
    for (int64_t i = 0; i < a.clips * a.n; i++) assert_true(a.error[i] > 0 && a.error[i] < 10);
    o.mask_token = 0;
    assert_int_equal(jepa_predict(r, file("clip.mp4"), &o, &b, &err), 0);
    double most = 0;
    for (int64_t i = 0; i < a.clips * a.n * a.dim; i++) most = fmax(most, fabs(a.predicted[i] - b.predicted[i])), assert_true(a.target[i] == b.target[i]);
    assert_true(most > 1e-4); /* another token, another prediction */
    jepa_prediction_free(&a);
    jepa_prediction_free(&b);
    assert_null(a.predicted);
    jepa_prediction_free(NULL);
    o.mask_token = 77;
    assert_int_equal(jepa_predict(r, file("clip.mp4"), &o, &a, &err), JEPA_E_USE);
    o.mask_token = -1;
    assert_int_equal(jepa_predict(q, file("clip.mp4"), &o, &a, &err), JEPA_E_USE); /* opened without its predictor */
    assert_non_null(strstr(err.text, "predictor"));
    assert_true(jepa_predict(r, file("no.mp4"), &o, &a, &err) < 0 && strstr(err.text, "not found"));
    o.mask = NULL;
    assert_int_equal(jepa_predict(r, file("clip.mp4"), &o, &a, &err), JEPA_E_USE);
    o.size = 2;
    assert_int_equal(jepa_predict(r, file("clip.mp4"), &o, &a, &err), JEPA_E_USE);
    jepa_session_close(&r);
    jepa_session_close(&q);
    jepa_close(&m);
    jepa_close(&plain);
}

/* Tokens spread along known directions: the axes must be those, a basis read back must colour as the one that was written. */
static void principal_components(void **state) {
    (void)state;
    enum { N = 2000, W = 8 };
    dev *d;
    queue *q;
    jepa_err err = {0};
    pca_basis b, c;
    float *x = malloc(N * W * sizeof *x);
    uint8_t *u = malloc(N * 3), *v = malloc(N * 3);
    rng g = rng_key(5, 0, 0, 0);
    assert_int_equal(dev_open(&d, "cpu", 1, &err), 0);
    assert_int_equal(queue_open(&q, d, &err), 0);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < W; k++) x[i * W + k] = (float)(3 + (rng_unit(&g) - 0.5) * (k == 5 ? 10 : k == 2 ? 4 : k == 7 ? 2 : 0.1));
    if (pca_basis_make(&b, q, x, N, W, 0, &err) < 0) fail_msg("%s", err.text);
    static const int want[] = {5, 2, 7};
    for (int p = 0; p < 3; p++) assert_true(fabs(b.axis[p * W + want[p]]) > 0.99);
    pca_colours(&b, x, N, u);
    assert_int_equal(pca_basis_write(&b, file("b.safetensors"), &err), 0);
    if (pca_basis_read(&c, file("b.safetensors"), &err) < 0) fail_msg("%s", err.text);
    pca_colours(&c, x, N, v);
    assert_memory_equal(u, v, N * 3);
    pca_basis_free(&b), pca_basis_free(&c);
    /* half of the tokens lie far away along one direction: a threshold cuts them off, on the side that is asked for */
    for (int i = 0; i < N; i++) x[i * W] = i % 2 ? 40.f : 0.f;
    int black[2][2] = {{0}};
    for (int side = 0; side < 2; side++) {
        if (pca_basis_make(&b, q, x, N, W, side ? -0.5 : 0.5, &err) < 0) fail_msg("%s", err.text);
        assert_true(b.foreground && fabs(b.axis[5]) > 0.99); /* what is left is spread along channel 5 */
        pca_colours(&b, x, N, u);
        for (int i = 0; i < N; i++) black[side][i % 2] += !u[3 * i] && !u[3 * i + 1] && !u[3 * i + 2];
        assert_int_equal(pca_basis_write(&b, file("b.safetensors"), &err), 0);
        assert_int_equal(pca_basis_read(&c, file("b.safetensors"), &err), 0);
        pca_colours(&c, x, N, v);
        assert_memory_equal(u, v, N * 3);
        pca_basis_free(&b), pca_basis_free(&c);
    }
    assert_true(black[0][0] + black[1][0] >= N / 2 && black[0][1] + black[1][1] >= N / 2 && (black[0][0] > N / 4) != (black[1][0] > N / 4));
    x[3] = NAN;
    assert_true(pca_basis_make(&b, q, x, N, W, 0, &err) < 0 && strstr(err.text, "not finite"));
    assert_true(pca_basis_make(&b, q, x, 2, W, 0, &err) < 0);
    assert_true(pca_basis_make(&b, q, x, N, W, 1, &err) < 0);
    assert_true(pca_basis_read(&b, SET "io.safetensors", &err) == JEPA_E_MODEL);
    free(x), free(u), free(v);
    queue_close(&q);
    dev_close(&d);
}

static void drawing_stays_inside(void **state) {
    (void)state;
    canvas c;
    jepa_err err = {0};
    static const uint8_t red[3] = {255, 0, 0};
    assert_int_equal(canvas_open(&c, 20, 10, &err), 0);
    canvas_fill(&c, -5, -5, 100, 100, red);
    canvas_line(&c, -50, -3, 90, 70, red);
    canvas_line(&c, NAN, 0, 1, 1, red);
    canvas_text(&c, 15, 5, 3, "09.az~", red);
    canvas_bar(&c, 18, -4, 5, 60, 0, 1);
    assert_memory_equal(c.rgb, red, 3);
    canvas_close(&c);
    assert_true(canvas_open(&c, 0, 5, &err) < 0 && canvas_open(&c, 20000, 5, &err) < 0);
    double low, high;
    const float v[] = {NAN, 3, 1, 2, INFINITY};
    robust_range(v, 5, &low, &high);
    assert_true(low == 1 && high == 3);
    robust_range(v, 1, &low, &high);
    assert_true(low == 0 && high == 1);
    uint8_t a[3], b[3];
    heat_colour(-1, a), heat_colour(0, b);
    assert_memory_equal(a, b, 3);
    heat_colour(NAN, b);
    assert_memory_equal(a, b, 3);
    heat_colour(2, a), heat_colour(1, b);
    assert_memory_equal(a, b, 3);
    const double x[] = {1, 1}, y[] = {2, 2}, no[] = {NAN, NAN};
    const curve same = {"a", x, y, 2}, none = {"b", no, y, 2};
    assert_int_equal(draw_curves(file("c.png"), &same, 1, "error", &err), 0);
    assert_int_equal(access(file("c.png"), F_OK), 0);
    assert_true(draw_curves(file("d.png"), &none, 1, "error", &err) < 0);
}

static int make_clip(void **state) {
    (void)state;
    jepa_err err = {0};
    snprintf(dir, sizeof dir, "/tmp/jepa-predict-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    uint8_t *frames = malloc(16 * 48 * 48 * 3);
    vid_writer *w = NULL;
    const vid_write_cfg c = {.width = 48, .height = 48, .fps = 8, .crf = 10};
    for (int i = 0; i < 16 * 48 * 48 * 3; i++) frames[i] = (uint8_t)(i * 7 + i / 48 * 13);
    int rc = vid_writer_open(&w, file("clip.mp4"), &c, &err);
    for (int f = 0; f < 16 && rc == 0; f++) rc = vid_writer_add(w, frames + f * 48 * 48 * 3, &err);
    if (rc == 0) rc = vid_writer_finish(&w, &err);
    free(frames);
    return rc;
}
static int clean(void **state) {
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_from_a_text), cmocka_unit_test(masks_from_a_file), cmocka_unit_test(as_published),
        cmocka_unit_test(public_interface),  cmocka_unit_test(principal_components), cmocka_unit_test(drawing_stays_inside),
    };
    return cmocka_run_group_tests(tests, make_clip, clean);
}
