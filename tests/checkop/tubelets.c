/* tubelets.c: tubelets from float32 and uint8 clips. */
#include "tests/checkop/checkop.h"

static const float MEAN[] = {0.485f, 0.456f, 0.406f, 0.5f}, STD[] = {0.229f, 0.224f, 0.225f, 0.25f};

static int call_tubelets(const ops *o, queue *q, const job *j, void **p) {
    op_tubelets a = *(const op_tubelets *)j->arg;
    a.x = at(j, p, "x");
    a.keep = at(j, p, "keep");
    a.y = at(j, p, "y");
    if (a.type == T_U8) {
        a.mean = at(j, p, "mean");
        a.std = at(j, p, "std");
    }
    if (j->flag) a.y16 = at(j, p, "y16"); /* both at once */
    int half = job_find(j, "y16") != NULL, rc = a.y || !half ? o->tubelets(q, &a) : 0;
    if (rc < 0 || !half) return rc;
    a.y = NULL; /* and once more into the other form */
    a.y16 = at(j, p, "y16");
    return o->tubelets(q, &a);
}

enum { U8 = 1, FRAMES_FIRST = 2, KEEP = 4, KEEP_NONE = 8, HALF_TOO = 16, HALF_ONLY = 32 };

static job clip_job(ctx *c, op_tubelets *a, int64_t batch, int64_t ch, int64_t t, int64_t h, int64_t w, int64_t tub, int64_t patch,
                    int flag) {
    *a = (op_tubelets){.batch = batch, .channels = ch, .frames = t, .height = h, .width = w, .tubelet = tub, .patch = patch};
    a->type = flag & U8 ? T_U8 : T_F32;
    a->frames_first = flag & FRAMES_FIRST ? 1 : 0;
    int64_t all = t / tub * (h / patch) * (w / patch),
            n = flag & KEEP        ? (all + 1) / 2
                : flag & KEEP_NONE ? 0
                                   : all,
            row = ch * tub * patch * patch;
    if (flag & (KEEP | KEEP_NONE)) a->n_keep = n;
    job j = job_of(c, "tubelets", call_tubelets, a, "b%lld %lldx%lldx%lldx%lld by %lldx%lld%s%s%s%s%s", (long long)batch, (long long)ch,
                   (long long)t, (long long)h, (long long)w, (long long)tub, (long long)patch, flag & U8 ? " u8" : " f32",
                   flag & FRAMES_FIRST ? " frames first" : "", flag & KEEP ? " keep" : "", flag & KEEP_NONE ? " keep none" : "",
                   flag & HALF_TOO ? ", also bf16" : flag & HALF_ONLY ? ", bf16" : "");
    j.bytes = (double)(batch * n * row) * ((flag & U8 ? 1 : 4) + (flag & HALF_ONLY ? 2 : 4));
    array *x = job_array(c, &j, IN, "x", flag & U8 ? T_U8 : T_F32, batch ? 1 : 0, batch * ch * t * h * w, 0);
    if (flag & U8)
        for (int64_t i = 0; i < array_span(x); i++) x->init[i] = (unsigned char)(i < 256 ? i : rng_u32(&c->r));
    if (flag & U8) {
        memcpy(job_array(c, &j, IN, "mean", T_F32, 1, ch, 0)->init, MEAN, (size_t)ch * sizeof *MEAN);
        memcpy(job_array(c, &j, IN, "std", T_F32, 1, ch, 0)->init, STD, (size_t)ch * sizeof *STD);
    }
    if (flag & (KEEP | KEEP_NONE)) {
        int32_t *keep = (int32_t *)job_array(c, &j, IN, "keep", T_I32, batch, n, 0)->init;
        uint32_t order[4096];
        for (int64_t b = 0; b < batch; b++) {
            rng_permute(&c->r, order, (uint32_t)all);
            for (int64_t i = 0; i < n; i++) keep[b * n + i] = (int32_t)order[i];
        }
    }
    array *y = job_array(c, &j, OUT, flag & HALF_ONLY ? "y16" : "y", flag & HALF_ONLY ? T_BF16 : T_F32, batch * n, row, 0);
    if (flag & HALF_ONLY) bound_bf16(y);
    if (flag & HALF_TOO) job_array(c, &j, OUT, "y16", T_BF16, batch * n, row, 0)->rounds = "y";
    if (flag & U8) {
        y->abs = 4 * ULP / 0.224; /* x/255, mean and their difference (below 1), each rounded once, over std; float32 is copied: 0 */
        y->rel += 2 * ULP;
    }
    return j;
}

void family_tubelets(ctx *c) {
    if (!op_begin(c, "tubelets")) return;
    static const int64_t SHAPES[][7] = {
        {1, 1, 1, 1, 1, 1, 1},    {2, 3, 4, 8, 8, 2, 4},   {1, 3, 2, 9, 6, 2, 3},    {2, 1, 5, 7, 11, 2, 2},   {1, 3, 7, 33, 18, 3, 8},
        {1, 4, 2, 16, 16, 1, 16}, {3, 3, 2, 10, 10, 2, 5}, {1, 3, 4, 28, 42, 2, 14}, {1, 2, 3, 17, 17, 3, 17}, {2, 3, 8, 48, 64, 2, 16}};
    static const int FLAGS[] = {0,        FRAMES_FIRST,        U8,
                                KEEP,     U8 | KEEP,           KEEP | FRAMES_FIRST,
                                HALF_TOO, U8 | KEEP | HALF_TOO, U8 | HALF_ONLY};
    op_tubelets a;
    for (int s = 0; s < COUNT(SHAPES); s++)
        for (int f = 0; f < COUNT(FLAGS); f++) {
            const int64_t *v = SHAPES[s];
            job j = clip_job(c, &a, v[0], v[1], v[2], v[3], v[4], v[5], v[6], FLAGS[f]);
            job_run(c, &j);
            /* mean and std live in host memory and are checked to be numbers: a NaN there is refused on both sides alike */
            job_nan(c, &j);
            job_close(&j);
        }
    static const int NONE[] = {KEEP_NONE, KEEP_NONE | U8};
    for (int i = 0; i < 2; i++) {
        job j = clip_job(c, &a, 2, 3, 4, 8, 8, 2, 4, NONE[i]);
        job_run(c, &j);
        job_close(&j);
        j = clip_job(c, &a, 0, 3, 4, 8, 8, 2, 4, i ? U8 : 0);
        job_run(c, &j);
        job_close(&j);
        j = clip_job(c, &a, 2, 3, 16, 112, 112, 2, 16, i ? U8 : 0);
        job_run(c, &j);
        job_close(&j);
    }
    for (int i = 0; c->bench && i < 4; i++) {
        job j = clip_job(c, &a, 4, 3, 16, 224, 224, 2, 16, (i & 1 ? U8 : 0) | (i & 2 ? HALF_ONLY : 0));
        job_run(c, &j);
        job_close(&j);
    }
    job j = clip_job(c, &a, 2, 3, 4, 8, 8, 2, 4, U8 | HALF_TOO);
    j.flag = 1;
    job_refuse(c, &j, NULL, JEPA_E_USE, "y and y16");
    job_close(&j);
    j = clip_job(c, &a, 2, 3, 4, 8, 8, 2, 4, U8 | HALF_ONLY);
    job_refuse_null(c, &j, "y16");
    job_close(&j);
    j = clip_job(c, &a, 2, 3, 4, 8, 8, 2, 4, U8 | KEEP);
    static const char *const NEEDED[] = {"x", "y", "mean", "std"};
    for (int i = 0; i < COUNT(NEEDED); i++) job_refuse_null(c, &j, NEEDED[i]);
    const struct {
        size_t field;
        int64_t value;
        const char *why;
    } SIZES[] = {
        {offsetof(op_tubelets, batch), -1, "batch -1"},
        {offsetof(op_tubelets, batch), INT64_MAX, "batch 2^63-1"},
        {offsetof(op_tubelets, channels), 0, "channels 0"},
        {offsetof(op_tubelets, frames), 1, "frames < tubelet"},
        {offsetof(op_tubelets, height), 3, "height < patch"},
        {offsetof(op_tubelets, width), 3, "width < patch"},
        {offsetof(op_tubelets, tubelet), 0, "tubelet 0"},
        {offsetof(op_tubelets, patch), 0, "patch 0"},
        {offsetof(op_tubelets, patch), INT64_MAX, "patch 2^63-1"},
        {offsetof(op_tubelets, n_keep), -1, "n_keep -1"},
        {offsetof(op_tubelets, width), INT64_MAX, "width 2^63-1"},
    };
    op_tubelets bad;
    for (int i = 0; i < COUNT(SIZES); i++) {
        bad = a;
        memcpy((char *)&bad + SIZES[i].field, &SIZES[i].value, sizeof SIZES[i].value);
        job_refuse(c, &j, &bad, JEPA_E_USE, SIZES[i].why);
    }
    bad = a;
    bad.type = T_F16;
    job_refuse(c, &j, &bad, JEPA_E_UNSUPPORTED, "f16");
    static const int32_t WRONG[] = {-1, 8, INT32_MAX};
    int32_t *keep = (int32_t *)job_find(&j, "keep")->init;
    for (int i = 0; i < COUNT(WRONG); i++) {
        int32_t kept = keep[7 - i];
        keep[7 - i] = WRONG[i];
        job_refuse(c, &j, NULL, JEPA_E_USE, "keep outside the clip's tokens");
        keep[7 - i] = kept;
    }
    static const float STDS[] = {0, -1, NAN};
    for (int i = 0; i < COUNT(STDS); i++) {
        float *std = (float *)job_find(&j, "std")->init, kept = std[1];
        std[1] = STDS[i];
        job_refuse(c, &j, NULL, JEPA_E_USE, "std not above 0");
        std[1] = kept;
    }
    job_close(&j);
    op_end(c);
}
