/* convert.c: float32 to bf16 and back. */
#include "tests/checkop/checkop.h"

static int call_convert(const ops *o, queue *q, const job *j, void **p) {
    op_convert a = *(const op_convert *)j->arg;
    if (job_find(j, "x")) a.x = at(j, p, "x");
    if (job_find(j, "x16")) a.x16 = at(j, p, "x16");
    if (job_find(j, "y")) a.y = at(j, p, "y");
    if (job_find(j, "y16")) a.y16 = at(j, p, "y16");
    return o->convert(q, &a);
}

/* Bit patterns where rounding is easily wrong: ties to both sides, a carry into the exponent and into infinity, the smallest numbers,
 * signed zeros, infinities, and NaNs whose upper half alone would be an infinity. */
static const uint32_t HARD[] = {0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001, 0x3fffffff, 0x7f7fffff, 0x7f7f8000, 0x7f7f7fff, 0xff7fffff,
                                0x00000001, 0x00008000, 0x00008001, 0x00018000, 0x007fffff, 0x80000000, 0x00000000, 0x7f800000, 0xff800000,
                                0x7f800001, 0xff80ffff, 0x7fc00000, 0x7fffffff, 0xffffffff};

static job convert_job(ctx *c, op_convert *a, int64_t n, int widen) {
    *a = (op_convert){.n = n};
    job j = job_of(c, "convert", call_convert, a, "n %lld %s", (long long)n, widen ? "to f32" : "to bf16");
    j.bytes = 6.0 * (double)n;
    int64_t rows = n ? 1 : 0;
    if (widen) {
        array *x = job_array(c, &j, IN, "x16", T_BF16, rows, n, 0);
        for (int64_t i = 0; i < n && n >= 1009; i++) /* all of them, in turn */
            ((uint16_t *)x->init)[i] = (uint16_t)i;
        job_array(c, &j, OUT, "y", T_F32, rows, n, 0); /* exact */
        return j;
    }
    array *x = job_array(c, &j, IN, "x", T_F32, rows, n, 0);
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = n >= 1009 && i % 3 == 1 ? HARD[i / 3 % COUNT(HARD)] : rng_u32(&c->r);
        if (i % 3 != 2) memcpy(row_of(x, 0) + i, &bits, sizeof bits);
    }
    job_array(c, &j, OUT, "y16", T_BF16, rows, n, 0)->rounds = "x";
    return j;
}

void family_convert(ctx *c) {
    if (!op_begin(c, "convert")) return;
    static const int64_t N[] = {1, 3, 7, 8, 9, 15, 16, 17, 33, 1009, 65536 + 5, 0};
    op_convert a, bad;
    for (int i = 0; i < COUNT(N) + (c->bench ? 1 : 0); i++)
        for (int widen = 0; widen < 2; widen++) {
            job j = convert_job(c, &a, i < COUNT(N) ? N[i] : 12582912, widen);
            job_run(c, &j);
            if (i < COUNT(N) && N[i] < 1000) job_nan(c, &j);
            job_close(&j);
        }
    for (int widen = 0; widen < 2; widen++) {
        job j = convert_job(c, &a, 5, widen);
        job_refuse_null(c, &j, widen ? "x16" : "x");
        job_refuse_null(c, &j, widen ? "y" : "y16");
        bad = a, bad.n = -1;
        job_refuse(c, &j, &bad, JEPA_E_USE, "n -1");
        bad = a, bad.type = T_F16;
        job_refuse(c, &j, &bad, JEPA_E_UNSUPPORTED, "f16");
        bad = a; /* refused before anything is touched */
        if (widen)
            bad.x = (const float *)&a;
        else
            bad.x16 = (const uint16_t *)&a;
        job_refuse(c, &j, &bad, JEPA_E_USE, "x and x16");
        bad = a;
        if (widen)
            bad.y16 = (uint16_t *)&bad;
        else
            bad.y = (float *)&bad;
        job_refuse(c, &j, &bad, JEPA_E_USE, "y and y16");
        job_close(&j);
    }
    op_end(c);
}
