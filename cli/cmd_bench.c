/* cmd_bench.c: jepa bench WHAT…: how fast this machine is at what the other commands do. */
#include "base/json.h"
#include "cli/cli.h"
#include "compute/ops.h"
#include "infer/bench.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "  jepa bench encoder predictor --arch vit_large --size 256 --threads 8\n"
    "  jepa bench all -m run/latest --json\n\n"
    "What is measured: encoder, predictor, products, or all of them. Without a model (-m), random weights of the given size: anybody can run it.\n"
    "Each line has the median of repeated runs with its quartiles, the rate of arithmetic (products and attention alone are counted), the share of\n"
    "what a large product reaches through the same device on the same threads right after it, and memory: weights, working memory, and the\n"
    "most that the process held (RssAnon + RssFile).\n";

enum { PART_ENCODER = 1, PART_PREDICTOR = 2, PART_PRODUCTS = 32, PART_ALL = 63 };
static const struct { const char *name; int kind; } parts[] = {
    {"encoder", PART_ENCODER}, {"predictor", PART_PREDICTOR}, {"products", PART_PRODUCTS}, {"all", PART_ALL},
};

typedef struct bencher {
    cli *c;
    bench_cfg cfg;
    const char *size, *product;
    int64_t peak_shape[3];
    char describe[160];
    int said; /* the head of the table is printed */
} bencher;

/* "224", "256x448": as many numbers as wanted; one number stands for all when `same` */
static int numbers(const char *option, const char *text, int want, int same, int64_t low, int64_t high, int64_t *out, jepa_err *err) {
    const char *s = text;
    int n = 0;
    for (; n < want; n++) {
        long long v;
        int used = 0;
        if (sscanf(s, "%lld%n", &v, &used) != 1 || v < low || v > high) break;
        out[n] = v, s += used;
        if (*s != 'x') {
            n++;
            break;
        }
        s++;
    }
    if (*s || (n != want && !(same && n == 1)))
        return err_set(err, JEPA_E_USE, "%s %s: %d number%s from %lld to %lld with x between", option, text, want, want > 1 ? "s" : "", (long long)low, (long long)high);
    for (; n < want; n++) out[n] = out[0];
    return 0;
}

static const char *seconds_text(char *text, size_t size, double s) {
    snprintf(text, size, s < 0.01 ? "%.4g ms" : s < 10 ? "%.1f ms" : "%.0f ms", s * 1e3);
    return text;
}

static double mib(int64_t bytes) { return (double)bytes / 1048576; }

/* model: "" for products alone. peak: seconds of the large product, n 0: not measured. */
static void print_row(bencher *b, const char *what, const char *model, const bench *m, const bench_row *r, const spread *peak, double peak_flops) {
    const spread *t = &r->time;
    const double rate = t->median > 0 ? r->flops / t->median : 0, top = peak->n && peak->median > 0 ? peak_flops / peak->median : 0;
    cli_progress_end(b->c);
    if (b->c->json) {
        json_writer w = {0};
        jw_open(&w, NULL, '{');
        jw_string(&w, "bench", what);
        jw_string(&w, "device", b->describe);
        jw_string(&w, "precision", b->cfg.precision);
        if (model[0]) jw_string(&w, "model", model);
        if (m) {
            jw_int(&w, "threads", dev_threads(m->d));
            jw_int(&w, "frames", m->frames), jw_int(&w, "height", m->height), jw_int(&w, "width", m->width);
        }
        if (r->clips) jw_int(&w, "batch", r->clips), jw_int(&w, "tokens", r->tokens);
        if (r->context) jw_int(&w, "context_tokens", r->context), jw_int(&w, "target_tokens", r->target);
        jw_int(&w, "runs", t->n);
        jw_double(&w, "seconds", t->median), jw_double(&w, "seconds_q1", t->q1), jw_double(&w, "seconds_q3", t->q3);
        jw_double(&w, "seconds_min", t->low), jw_double(&w, "seconds_max", t->high);
        if (r->clips) jw_double(&w, "clips_per_second", (double)r->clips / t->median);
        jw_double(&w, "gflop", r->flops / 1e9), jw_double(&w, "gflops", rate / 1e9);
        if (top > 0) jw_double(&w, "peak_gflops", top / 1e9), jw_double(&w, "share_of_peak", rate / top);
        if (r->weights) jw_int(&w, "weight_bytes", r->weights);
        jw_int(&w, "working_bytes", r->working);
        jw_int(&w, "rss_first_bytes", r->first.anon + r->first.file), jw_int(&w, "rss_bytes", r->last.anon + r->last.file);
        jw_int(&w, "rss_anon_bytes", r->last.anon), jw_int(&w, "rss_file_bytes", r->last.file), jw_int(&w, "peak_bytes", r->last.peak);
        jw_close(&w, '}');
        if (w.failed) cli_warn(b->c, "no memory for a line of results");
        else printf("%s\n", w.text);
        jw_free(&w);
    } else {
        char a[32], q1[32], q3[32];
        if (!b->said++)
            printf("%-34s %10s %23s %5s %9s %8s %9s   %s\n", "", "median", "quartiles", "runs", "GFLOP/s", "of peak", "clips/s", "MiB: weights, working, process's most");
        printf("%-34s %10s %10s … %10s %5d %9.1f", what, seconds_text(a, sizeof a, t->median), seconds_text(q1, sizeof q1, t->q1), seconds_text(q3, sizeof q3, t->q3),
               t->n, rate / 1e9);
        if (top > 0) printf(" %6.1f %%", 100 * rate / top);
        else printf(" %8s", "");
        if (r->clips) printf(" %9.3g", (double)r->clips / t->median);
        else printf(" %9s", "");
        printf("   %.1f, %.1f, %.1f\n", mib(r->weights), mib(r->working), mib(r->last.peak));
    }
    fflush(stdout);
}

static void say(bencher *b, const char *what) {
    char text[96];
    snprintf(text, sizeof text, "measuring: %s", what);
    cli_progress(b->c, text);
}

/* The rate that others are a share of: measured right after each of them, for machines change their pace. */
static int peak_of(bencher *b, dev *d, spread *peak, double *flops, jepa_err *err) {
    bench_cfg c = b->cfg;
    bench_row r;
    const int64_t *s = b->peak_shape;
    if (!c.time.repeat && c.time.seconds > 1) c.time.seconds = 1;
    const int rc = bench_product(d, &c, s[0], s[1], s[2], ACT_NONE, &r, err);
    *peak = r.time, *flops = r.flops;
    return rc;
}

static void head(bencher *b, const bench *m) {
    snprintf(b->describe, sizeof b->describe, "%s", dev_describe(m->d));
    if (b->c->json || b->said) return;
    printf("%s; %s\n%s%s, %lld clip%s of %dx%dx%d\n", b->describe, b->cfg.precision, m->name, b->cfg.model ? "" : " with random weights", (long long)b->cfg.batch,
           b->cfg.batch == 1 ? "" : "s", m->frames, m->height, m->width);
}

static int one(bencher *b, int kind, const char *what, jepa_err *err) {
    bench *m = NULL;
    bench_row r;
    spread peak = {0};
    double flops = 0;
    say(b, what);
    int rc = bench_open(&m, &b->cfg, kind == PART_PREDICTOR, err);
    if (rc < 0) return rc;
    head(b, m);
    rc = kind == PART_PREDICTOR ? bench_predictor(m, &r, err) : bench_encoder(m, &r, err);
    if (rc == 0) rc = peak_of(b, m->d, &peak, &flops, err);
    if (rc == 0) print_row(b, what, m->name, m, &r, &peak, flops);
    bench_close(&m);
    return rc;
}

/* The encoder's own products, and the large one. */
static int products(bencher *b, jepa_err *err) {
    bench *m = NULL;
    bench_row r;
    int rc = bench_open(&m, &b->cfg, 0, err);
    if (rc < 0) return rc;
    head(b, m);
    const enc_cfg *e = enc_config(m->e);
    const int64_t d = e->embed_dim, hidden = (int64_t)(e->embed_dim * e->mlp_ratio), *s = b->peak_shape;
    const int64_t rows = b->cfg.batch * enc_tokens(e, m->frames, m->height, m->width);
    const struct { const char *name; int64_t rows, in, out; int act; } list[] = {
        {"large", s[0], s[1], s[2], ACT_NONE}, {"qkv", rows, d, 3 * d, ACT_NONE}, {"proj", rows, d, d, ACT_NONE},
        {"fc1", rows, d, hidden, ACT_NONE},    {"fc1+gelu", rows, d, hidden, ACT_GELU}, {"fc2", rows, hidden, d, ACT_NONE},
    };
    bench_cfg c = b->cfg;
    if (!c.time.repeat && c.time.seconds > 1) c.time.seconds = 1;
    spread peak = {0};
    double flops = 0;
    for (size_t i = 0; i < sizeof list / sizeof *list && rc == 0; i++) {
        char what[96];
        snprintf(what, sizeof what, "product %s %lldx%lldx%lld", list[i].name, (long long)list[i].rows, (long long)list[i].in, (long long)list[i].out);
        say(b, what);
        if ((rc = bench_product(m->d, &c, list[i].rows, list[i].in, list[i].out, list[i].act, &r, err)) < 0) break;
        if (i == 0) peak = r.time, flops = r.flops;
        print_row(b, what, "", m, &r, &peak, flops);
    }
    bench_close(&m);
    return rc;
}

int cmd_bench(cli *c, int argc, char **argv) {
    jepa_err err = {0};
    text_list rest = {0};
    bencher b = {.c = c};
    int64_t hw[2];
    int batch = 1;
    bench_cfg_defaults(&b.cfg);
    b.cfg.time.stop = cli_stopped;
    b.product = "2048x1024x4096";
    const opt table[] = {
        {"--model", "MODEL", "a model, as embed takes it, instead of random weights", O_TEXT, &b.cfg.model, 0, 0, "-m"},
        {"--arch", "NAME", "vit_tiny, vit_small (default), vit_base, vit_large, vit_huge, vit_giant_xformers, vit_gigantic_xformers", O_TEXT, &b.cfg.arch, 0, 0, NULL},
        {"--size", "HxW", "pixels; one number for both; default: the model's, 224", O_TEXT, &b.size, 0, 0, NULL},
        {"--frames", "T", "frames a clip; default: the model's, 16", O_INT, &b.cfg.frames, 1, 4096, NULL},
        {"--batch", "B", "clips at a time; default 1", O_INT, &batch, 1, 4096, NULL},
        {"--repeat", "N", "runs timed; default: as many as --seconds hold, at least 3", O_INT, &b.cfg.time.repeat, 1, MEASURE_MOST, NULL},
        {"--seconds", "S", "time spent on each thing measured; default 3", O_DOUBLE, &b.cfg.time.seconds, 0, 1e5, NULL},
        {"--product", "NxIxO", "the large product: rows, inputs, outputs; default 2048x1024x4096", O_TEXT, &b.product, 0, 0, NULL},
    };
    int want = 0, rc = options_read(c, table, sizeof table / sizeof *table, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    for (int i = 0; i < rest.n; i++) {
        int kind = 0;
        for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
            if (!strcmp(rest.at[i], parts[k].name)) kind = parts[k].kind;
        if (!kind) rc = err_set(&err, JEPA_E_USE, "%s: nothing that can be measured; encoder, predictor, products or all", rest.at[i]);
        if (rc < 0) goto done;
        want |= kind;
    }
    if (!want) rc = err_set(&err, JEPA_E_USE, "what is to be measured? jepa bench encoder, predictor, products or all");
    if (rc == 0) rc = cli_device(c, &b.cfg.device, &err);
    if (rc == 0 && b.size && (rc = numbers("--size", b.size, 2, 1, 1, 8192, hw, &err)) == 0) b.cfg.height = (int)hw[0], b.cfg.width = (int)hw[1];
    if (rc == 0) rc = numbers("--product", b.product, 3, 0, 1, 1 << 20, b.peak_shape, &err);
    if (rc < 0) goto done;
    b.cfg.precision = c->precision, b.cfg.threads = c->threads, b.cfg.batch = batch;
    if (rc == 0 && want & PART_ENCODER) rc = one(&b, PART_ENCODER, "encoder", &err);
    if (rc == 0 && want & PART_PREDICTOR) rc = one(&b, PART_PREDICTOR, "predictor", &err);
    if (rc == 0 && want & PART_PRODUCTS) rc = products(&b, &err);
done:
    text_list_free(&rest);
    return cli_exit(c, rc, &err);
}
