/* cmd_bench.c: jepa bench WHAT…: how fast this machine is at what the other commands do. */
#include "cli/bench_print.h"
#include "compute/ops.h"
#include "infer/bench.h"
#include "train/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "  jepa bench encoder --arch vit_large --size 256 --threads 8\n"
    "  jepa bench step configs/vitl16-256.yaml --set data.batch_size=2 --profile\n"
    "  jepa bench all -m run/latest clip.mp4 --json\n\n"
    "What is measured: encoder, predictor, step (of training), decode, feed, products, or all. Without a model (-m), random weights of the given\n"
    "size: anybody can run it. decode and feed read the videos given, else one of moving digits that is made for it; step follows CONFIG.yaml,\n"
    "else the published step (predictor 384 wide, 12 deep; masks of 8 blocks of 0.15 and 2 of 0.7) on clips in memory. Each line has the median of\n"
    "repeated runs with its quartiles, the rate of arithmetic (products and attention alone are counted), its share of what a large product\n"
    "reaches on the same threads right after it, and memory: weights, working memory, and the most that the process held.\n";

enum { PART_ENCODER = 1, PART_PREDICTOR = 2, PART_STEP = 4, PART_DECODE = 8, PART_FEED = 16, PART_PRODUCTS = 32, PART_ALL = 63 };
static const struct { const char *name; int kind; } parts[] = {
    {"encoder", PART_ENCODER}, {"predictor", PART_PREDICTOR}, {"step", PART_STEP},         {"decode", PART_DECODE},
    {"feed", PART_FEED},       {"products", PART_PRODUCTS},   {"all", PART_ALL},
};

typedef struct bencher {
    cli *c;
    bench_cfg cfg;
    jepa_options open;
    const char *size, *product, *config;
    text_list sets;
    enc_cfg like;               /* with a model: its sizes; frames, height, width as asked */
    int batch, workers, accuracy, profile;
    int64_t large[3];           /* rows, inputs, outputs of the large product */
    items in;
    char made[64];              /* the video made for decode and feed, or "" */
    op_profile prof;
    int lines;
} bencher;

/* "224", "256x448": `want` numbers; a single one stands for all where `same` */
static int numbers(const char *option, const char *text, int want, int same, int64_t low, int64_t high, int64_t *out, jepa_err *err) {
    const char *s = text;
    int n = 0;
    while (n < want) {
        char *end;
        const long long v = strtoll(s, &end, 10);
        if (end == s || v < low || v > high) break;
        out[n++] = v, s = end;
        if (*s != 'x' || s[1] < '0' || s[1] > '9') break;
        s++;
    }
    if (*s || (n != want && !(same && n == 1)))
        return err_set(err, JEPA_E_USE, "%s %s: %d whole numbers from %lld to %lld with x between are needed", option, text, want, (long long)low, (long long)high);
    for (; n < want; n++) out[n] = out[0];
    return 0;
}

static void say(bencher *b, const char *what) {
    char text[128];
    snprintf(text, sizeof text, "measuring: %s", what);
    cli_progress(b->c, text);
}

static void head(bencher *b, dev *d, const char *model, int frames, int height, int width) {
    if (b->c->json) return;
    cli_progress_end(b->c);
    printf("%s; %s; %s%s; %lld clip%s of %dx%dx%d\n", dev_describe(d), b->cfg.precision, model, b->cfg.model || b->config ? "" : " with random weights",
           (long long)b->cfg.batch, b->cfg.batch == 1 ? "" : "s", frames, height, width);
}

/* The rate that others are a share of: measured right after each of them, for machines change their pace. */
static int large_product(bencher *b, dev *d, double rate[2], jepa_err *err) {
    bench_cfg c = b->cfg;
    measured m;
    if (!c.time.repeat && c.time.seconds > 1) c.time.seconds = 1;
    const int rc = bench_product(d, &c, b->large[0], b->large[1], b->large[2], ACT_NONE, &m, err);
    rate[0] = rc == 0 ? m.flops / m.time.median : 0, rate[1] = rc == 0 ? m.flops / m.cpu : 0;
    return rc;
}

static op_profile *profile_of(bencher *b) {
    memset(&b->prof, 0, sizeof b->prof);
    return b->profile ? &b->prof : NULL;
}

static int model_part(bencher *b, int kind, const char *what, jepa_err *err) {
    bench *m = NULL;
    measured r;
    double peak[2] = {0};
    say(b, what);
    b->cfg.time.profile = profile_of(b);
    int rc = bench_open(&m, &b->cfg, kind == PART_PREDICTOR, err);
    if (rc < 0) return rc;
    if (!b->lines) head(b, m->d, m->name, m->frames, m->height, m->width);
    rc = kind == PART_PREDICTOR ? bench_predictor(m, &r, err) : bench_encoder(m, &r, err);
    if (rc == 0) rc = large_product(b, m->d, peak, err);
    const bench_line l = {.what = what, .device = dev_describe(m->d), .precision = b->cfg.precision, .model = m->name, .threads = dev_threads(m->d), .frames = m->frames,
                          .height = m->height, .width = m->width, .m = &r, .peak = peak[0], .peak_cpu = peak[1], .profile = b->cfg.time.profile};
    if (rc == 0) bench_print(b->c, &l, &b->lines);
    bench_close(&m);
    return rc;
}

/* The large product, and the encoder's own. */
static int products(bencher *b, jepa_err *err) {
    bench *m = NULL;
    int rc = bench_open(&m, &b->cfg, 0, err);
    if (rc < 0) return rc;
    if (!b->lines) head(b, m->d, m->name, m->frames, m->height, m->width);
    const enc_cfg *e = enc_config(m->e);
    const int64_t d = e->embed_dim, hidden = (int64_t)(e->embed_dim * e->mlp_ratio), *s = b->large;
    const int64_t rows = b->cfg.batch * enc_tokens(e, m->frames, m->height, m->width);
    const struct { const char *name; int64_t rows, in, out; int act; } list[] = {
        {"large", s[0], s[1], s[2], ACT_NONE},  {"qkv", rows, d, 3 * d, ACT_NONE},      {"proj", rows, d, d, ACT_NONE},
        {"fc1", rows, d, hidden, ACT_NONE},     {"fc1+gelu", rows, d, hidden, ACT_GELU}, {"fc2", rows, hidden, d, ACT_NONE},
    };
    bench_cfg c = b->cfg;
    if (!c.time.repeat && c.time.seconds > 1) c.time.seconds = 1;
    double peak = 0;
    for (size_t i = 0; i < sizeof list / sizeof *list && rc == 0; i++) {
        char what[96];
        measured r;
        snprintf(what, sizeof what, "product %s %lldx%lldx%lld", list[i].name, (long long)list[i].rows, (long long)list[i].in, (long long)list[i].out);
        say(b, what);
        if ((rc = bench_product(m->d, &c, list[i].rows, list[i].in, list[i].out, list[i].act, &r, err)) < 0) break;
        if (i == 0) peak = r.flops / r.time.median;
        const bench_line l = {.what = what, .device = dev_describe(m->d), .precision = b->cfg.precision, .threads = dev_threads(m->d), .m = &r, .peak = peak};
        bench_print(b->c, &l, &b->lines);
    }
    bench_close(&m);
    return rc;
}

/* Sizes of what is measured, without its weights. */
static int sizes(bencher *b, jepa_err *err) {
    enc_cfg *e = &b->like;
    enc_cfg_defaults(e);
    e->img_height = e->img_width = 224;
    int rc = 0;
    if (b->cfg.model) {
        const ck_hints hints = {.arch = b->open.arch, .family = b->open.family, .config = b->open.config, .heads = b->open.heads, .pred_heads = b->open.predictor_heads};
        ck *k = NULL;
        model_cfg m;
        rc = ck_open_as(&k, b->cfg.model, &hints, err);
        if (rc == 0 && (rc = ck_config(k, &m, err)) == 0) {
            e->img_height = m.img_height, e->img_width = m.img_width, e->num_frames = m.num_frames;
            e->patch_size = m.patch_size, e->tubelet_size = m.tubelet_size;
            e->embed_dim = m.embed_dim, e->depth = m.depth, e->num_heads = m.num_heads ? m.num_heads : e->num_heads, e->mlp_ratio = m.mlp_ratio;
        }
        ck_close(&k);
    } else rc = enc_cfg_size(e, b->cfg.arch, err);
    if (b->cfg.frames) e->num_frames = b->cfg.frames;
    if (b->cfg.height) e->img_height = b->cfg.height, e->img_width = b->cfg.width;
    return rc;
}

static int step(bencher *b, jepa_err *err) {
    train_cfg c;
    dev *d = NULL;
    measured r;
    double peak[2] = {0};
    say(b, "step");
    int rc = b->config ? train_cfg_read(&c, b->config, b->sets.at, b->sets.n, err) : bench_train_cfg(&c, &b->like, (int)b->cfg.batch, err);
    if (rc < 0) {
        train_cfg_free(&c);
        return rc;
    }
    if (b->config && b->batch) c.feed.batch = b->batch;
    if (b->c->precision || !b->config) c.type = !strcmp(b->cfg.precision, "bf16") ? T_BF16 : T_F32; /* else the configuration's */
    const char *before = b->cfg.precision;
    b->cfg.precision = c.type == T_BF16 ? "bf16" : "f32";
    if (b->config && c.accumulate > 1) cli_line(b->c, "%s: a step of this run has %d mask groups; one of them, and the update, is measured", b->config, c.accumulate);
    measure_cfg t = b->cfg.time;
    t.profile = profile_of(b);
    rc = dev_open(&d, b->cfg.device, b->cfg.threads, err);
    if (rc == 0 && b->cfg.isa) rc = dev_limit_isa(d, b->cfg.isa, err);
    if (rc == 0) {
        if (!b->config) snprintf(c.model_name, sizeof c.model_name, "%s", b->cfg.model ? b->cfg.model : b->cfg.arch);
        if (!b->lines) head(b, d, c.model_name, c.enc.num_frames, c.enc.img_height, c.enc.img_width);
        rc = bench_step(d, &c, &t, &r, err);
    }
    if (rc == 0) rc = large_product(b, d, peak, err);
    if (rc == 0) {
        const bench_line l = {.what = "step", .device = dev_describe(d), .precision = b->cfg.precision, .model = c.model_name, .threads = dev_threads(d),
                              .frames = c.enc.num_frames, .height = c.enc.img_height, .width = c.enc.img_width, .m = &r, .peak = peak[0], .peak_cpu = peak[1], .profile = t.profile};
        bench_print(b->c, &l, &b->lines);
    }
    dev_close(&d);
    train_cfg_free(&c);
    b->cfg.precision = before;
    return rc;
}

/* Videos for decode and feed: those given, or one that is made. */
static int videos(bencher *b, jepa_err *err) {
    enum { SIDE = 320, FRAMES = 150 };
    if (b->in.n) return 0;
    const char *tmp = getenv("TMPDIR");
    char dir[32] = "/tmp";
    if (tmp && strlen(tmp) < sizeof dir) snprintf(dir, sizeof dir, "%s", tmp);
    snprintf(b->made, sizeof b->made, "%s/jepa-bench-XXXXXX.mp4", dir);
    const int fd = mkstemps(b->made, 4);
    if (fd < 0) {
        b->made[0] = 0;
        return err_set(err, JEPA_E_IO, "%s: no file can be made there for decode and feed; give a video", dir);
    }
    close(fd);
    say(b, "making a video");
    int rc = bench_video(b->made, SIDE, FRAMES, err);
    for (int i = 0; i < 4 && rc == 0; i++) rc = items_add(&b->in, b->made, err);
    return rc;
}

static int decode(bencher *b, jepa_err *err) {
    measured r;
    const int frames = b->like.num_frames, crop = b->like.img_width;
    int rc = videos(b, err);
    say(b, "decode");
    if (rc < 0 || (rc = bench_decode(&b->cfg, &b->in, frames, crop, &r, err)) < 0) return rc;
    const bench_line l = {.what = "decode", .threads = 1, .frames = frames, .height = crop, .width = crop, .m = &r};
    bench_print(b->c, &l, &b->lines);
    return 0;
}

static int feeding(bencher *b, jepa_err *err) {
    measured r;
    feed_cfg f;
    feed_cfg_defaults(&f);
    f.batch = (int)b->cfg.batch;
    f.sample.frames = b->like.num_frames;
    f.crop = b->like.img_width;
    f.threads = b->workers;
    int rc = videos(b, err);
    say(b, "feed");
    if (rc < 0 || (rc = bench_feed(&f, &b->in, &b->cfg.time, &r, err)) < 0) return rc;
    const bench_line l = {.what = "feed", .threads = f.threads, .frames = f.sample.frames, .height = f.crop, .width = f.crop, .m = &r};
    bench_print(b->c, &l, &b->lines);
    return 0;
}

static int accuracy(bencher *b, jepa_err *err) {
    bench_cosines s;
    say(b, "accuracy");
    const int rc = bench_accuracy(&b->cfg, b->made[0] ? NULL : &b->in, &s, err);
    if (rc == 0)
        bench_print_cosines(b->c, b->cfg.model ? b->cfg.model : b->cfg.arch, b->cfg.precision, s.token_mean, s.token_worst, s.pooled_mean, s.pooled_worst, s.tokens, s.clips);
    return rc;
}

static int ends(const char *path, const char *with) {
    const size_t n = strlen(path), k = strlen(with);
    return n > k && !strcmp(path + n - k, with);
}

/* The words before the first input say what; a YAML is the step's configuration, all else are videos. */
static int read_words(bencher *b, const text_list *rest, int *want, jepa_err *err) {
    int i = 0, rc = 0;
    for (; i < rest->n; i++) {
        int kind = 0;
        for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
            if (!strcmp(rest->at[i], parts[k].name)) kind = parts[k].kind;
        if (!kind) break;
        *want |= kind;
    }
    if (!*want && !b->accuracy)
        return i < rest->n ? err_set(err, JEPA_E_USE, "%s: nothing that is measured; encoder, predictor, step, decode, feed, products or all", rest->at[i])
                           : err_set(err, JEPA_E_USE, "what is to be measured? jepa bench encoder, predictor, step, decode, feed, products or all");
    for (; i < rest->n && rc == 0; i++) {
        if (!ends(rest->at[i], ".yaml") && !ends(rest->at[i], ".yml")) rc = items_add(&b->in, rest->at[i], err);
        else if (b->config) rc = err_set(err, JEPA_E_USE, "%s: one configuration is enough (%s)", rest->at[i], b->config);
        else b->config = rest->at[i];
    }
    return rc;
}

int cmd_bench(cli *c, int argc, char **argv) {
    jepa_err err = {0};
    text_list rest = {0};
    bencher b = {.c = c, .product = "2048x1024x4096", .workers = pool_cores()};
    int64_t hw[2], seed = 0;
    bench_cfg_defaults(&b.cfg);
    jepa_options_defaults(&b.open);
    b.cfg.time.stop = cli_stopped;
    const opt table[] = {
        {"--model", "MODEL", "a model, as embed takes it, instead of random weights", O_TEXT, &b.cfg.model, 0, 0, "-m"},
        {"--arch", "NAME", "vit_tiny, vit_small (default), vit_base, vit_large, vit_huge, vit_giant_xformers, vit_gigantic_xformers; with -m: its size", O_TEXT, &b.open.arch, 0, 0, NULL},
        {"--family", "F", "-m: ijepa, vjepa1, vjepa2 or vjepa21; default: told by content", O_TEXT, &b.open.family, 0, 0, NULL},
        {"--config", "FILE", "-m: its training YAML, or a Hugging Face config.json", O_TEXT, &b.open.config, 0, 0, NULL},
        {"--heads", "N", "-m: attention heads of the encoder, where the size is no published one", O_INT, &b.open.heads, 1, 1024, NULL},
        {"--pred-heads", "N", "-m: attention heads of the predictor", O_INT, &b.open.predictor_heads, 1, 1024, NULL},
        {"--size", "HxW", "pixels; one number for both; default: the model's, 224", O_TEXT, &b.size, 0, 0, NULL},
        {"--frames", "T", "frames a clip; default: the model's, 16", O_INT, &b.cfg.frames, 1, 4096, NULL},
        {"--batch", "B", "clips at a time; default 1 (step: the configuration's)", O_INT, &b.batch, 1, 4096, NULL},
        {"--repeat", "N", "runs timed; default: as many as --seconds hold, at least 3", O_INT, &b.cfg.time.repeat, 1, MEASURE_MOST, NULL},
        {"--seconds", "S", "time spent on each thing measured; default 3", O_DOUBLE, &b.cfg.time.seconds, 0, 1e5, NULL},
        {"--set", "KEY=VALUE", "step: changes a value of the configuration: section.key=value; may be repeated", O_LIST, &b.sets, 0, 0, NULL},
        {"--profile", NULL, "encoder, predictor, step: time by operation too", O_FLAG, &b.profile, 0, 0, NULL},
        {"--accuracy", NULL, "the encoder's outputs in --precision beside f32 (of the videos given): cosine of each token and pooled", O_FLAG, &b.accuracy, 0, 0, NULL},
        {"--product", "NxIxO", "the large product: rows, inputs, outputs; default 2048x1024x4096", O_TEXT, &b.product, 0, 0, NULL},
        {"--isa", "NAME", "no more than these instructions: portable, avx2, avx512, avx512_bf16; default: all that the processor has", O_TEXT, &b.cfg.isa, 0, 0, NULL},
        {"--workers", "N", "feed: threads that decode; default: the cores", O_INT, &b.workers, 1, 256, NULL},
        {"--seed", "S", "of weights, clips and masks; default 0", O_LONG, &seed, 0, 9e15, NULL},
    };
    int want = 0, rc = options_read(c, table, sizeof table / sizeof *table, argc, argv, usage, &rest, &err);
    if (rc) {
        rc = rc == 1 ? 0 : rc;
        goto done;
    }
    if ((rc = read_words(&b, &rest, &want, &err)) < 0 || (rc = cli_device(c, &b.cfg.device, &err)) < 0 ||
        (b.size && (rc = numbers("--size", b.size, 2, 1, 1, 8192, hw, &err)) < 0) || (rc = numbers("--product", b.product, 3, 0, 1, 1 << 16, b.large, &err)) < 0)
        goto done;
    if (b.size) b.cfg.height = (int)hw[0], b.cfg.width = (int)hw[1];
    if (b.open.arch && !b.cfg.model) b.cfg.arch = b.open.arch;
    b.cfg.open = &b.open, b.cfg.seed = (uint64_t)seed;
    if ((rc = cli_precision(c, &b.cfg.precision, &err)) < 0) goto done;
    b.cfg.threads = c->threads, b.cfg.batch = b.batch ? b.batch : 1;
    rc = sizes(&b, &err);
    if (rc == 0 && want & PART_ENCODER) rc = model_part(&b, PART_ENCODER, "encoder", &err);
    if (rc == 0 && want & PART_PREDICTOR) rc = model_part(&b, PART_PREDICTOR, "predictor", &err);
    if (rc == 0 && want & PART_STEP) rc = step(&b, &err);
    if (rc == 0 && want & PART_DECODE) rc = decode(&b, &err);
    if (rc == 0 && want & PART_FEED) rc = feeding(&b, &err);
    if (rc == 0 && want & PART_PRODUCTS) rc = products(&b, &err);
    if (rc == 0 && b.accuracy) rc = accuracy(&b, &err);
done:
    if (b.made[0]) unlink(b.made);
    items_free(&b.in);
    text_list_free(&b.sets);
    text_list_free(&rest);
    return cli_exit(c, rc, &err);
}
