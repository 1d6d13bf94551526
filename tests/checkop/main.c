/* main.c: checkop: every operation of a back end against its definition in compute/ref.
 *
 *     checkop [--on cpu] [--isa portable|avx2|avx512|avx512_bf16|neon|wide|avx512_simde] [--op GLOB] [--seed N] [--most MFLOP] [--bench] [--verbose]
 *
 * No back ends that a user gets: wide, AVX-512's sizes in portable C; avx512_simde, the AVX-512 kernels in AVX2 and plain C by SIMDe.
 * --most leaves out what has more arithmetic, for emulators.
 * Exit 0: all equal within their bounds; 1: not; 2: wrong arguments; 77: this machine (or build) lacks the instruction set. */
#include <stdlib.h>
#include "compute/device.h"
#include "tests/checkop/checkop.h"

static int stop(int code, const jepa_err *err) {
    fprintf(stderr, "checkop: %s\n", err->text);
    return code;
}

static void close_devices(ctx *c) {
    for (int t = 0; t < 2; t++) queue_close(&c->dev_q[t]), dev_close(&c->dev[t]);
    queue_close(&c->ref_q);
    dev_close(&c->ref);
    free(c->normal);
}

/* Tables that are the tests' own, and what they need. */
static int choose(dev *d, const char *isa, jepa_err *err) {
    static const struct {
        const char *isa, *on, *what;
        void (*fill)(ops *t);
    } own[] = {
        {"wide", "portable", "kernels of 16 lanes in portable C", ops_init_wide},
#ifdef CHECKOP_SIMDE
        {"avx512_simde", "avx2", "AVX-512 kernels in AVX2 and plain C by SIMDe", ops_init_avx512_simde},
#endif
    };
    for (int i = 0; isa && i < COUNT(own); i++) {
        if (strcmp(isa, own[i].isa)) continue;
        int rc = dev_limit_isa(d, own[i].on, err);
        if (rc < 0) return rc;
        own[i].fill(&d->table);
        snprintf(d->describe, sizeof d->describe, "cpu: %s, %d thread%s", own[i].what, d->threads, d->threads == 1 ? "" : "s");
        return 0;
    }
    if (isa && !strcmp(isa, "avx512_simde"))
        return err_set(err, JEPA_E_UNSUPPORTED, "avx512_simde: not in this build; it needs SIMDe (on Debian: libsimde-dev), x86-64 and no sanitizer");
    return isa ? dev_limit_isa(d, isa, err) : 0;
}

int main(int argc, char **argv) {
    ctx c = {.glob = "*", .seed = 1};
    const char *on = "cpu", *isa = NULL;
    jepa_err err = {0};
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "--bench"))
            c.bench = 1;
        else if (!strcmp(argv[i], "--verbose"))
            c.verbose = 1;
        else if (!strcmp(argv[i], "--on") && next)
            on = argv[++i];
        else if (!strcmp(argv[i], "--isa") && next)
            isa = argv[++i];
        else if (!strcmp(argv[i], "--op") && next)
            c.glob = argv[++i];
        else if (!strcmp(argv[i], "--seed") && next)
            c.seed = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--most") && next)
            c.most = strtod(argv[++i], NULL) * 1e6;
        else {
            fprintf(stderr, "usage: checkop [--on cpu|ref] [--isa portable|avx2|avx512|avx512_bf16|neon|wide|avx512_simde] [--op GLOB] [--seed N] "
                            "[--most MFLOP] [--bench] [--verbose]\n");
            return 2;
        }
    }
    int rc = dev_open(&c.ref, "ref", 1, &err);
    if (rc == 0) rc = queue_open(&c.ref_q, c.ref, &err);
    for (int t = 0; t < 2 && rc == 0; t++)
        if ((rc = dev_open(&c.dev[t], on, t + 1, &err)) == 0 && (rc = choose(c.dev[t], isa, &err)) == 0)
            rc = queue_open(&c.dev_q[t], c.dev[t], &err);
    if (rc < 0) {
        close_devices(&c);
        return stop(rc == JEPA_E_UNSUPPORTED ? 77 : 2, &err);
    }
    c.pairs = (c.dev[1]->flags & CPU_AVX512_BF16) != 0 || (isa && (!strcmp(isa, "wide") || !strcmp(isa, "avx512_simde")));
    c.teams = dev_threads(c.dev[1]) == 2 ? 2 : 1;
    printf("checkop: %s, against %s\n", dev_describe(c.dev[1]), dev_describe(c.ref));
    family_linear(&c);
    family_gelu(&c);
    family_convert(&c);
    family_layernorm(&c);
    family_attention(&c);
    family_rope(&c);
    family_rows(&c);
    family_tubelets(&c);
    family_loss(&c);
    family_optim(&c);
    for (int t = 0; t < 2; t++) {
        if (queue_wait(c.dev_q[t], &err) < 0) {
            stop(1, &err);
            c.failures++;
        }
    }
    close_devices(&c);
    if (!c.ops_seen) {
        fprintf(stderr, "checkop: no operation is named like '%s'\n", c.glob);
        return 2;
    }
    if (c.left_out) printf("left out, being larger than %g MFLOP: %d\n", c.most * 1e-6, c.left_out);
    printf("%d operations, %d failures\n", c.ops_seen, c.failures);
    return c.failures ? 1 : 0;
}
