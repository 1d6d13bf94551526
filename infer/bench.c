/* bench.c: see bench.h. */
#include "infer/bench.h"
#include "compute/ops.h"
#include "compute/profile.h"
#include "predictor/flops.h"

#include <stdio.h>
#include <string.h>

void bench_cfg_defaults(bench_cfg *c) {
    *c = (bench_cfg){.arch = "vit_small", .device = "cpu", .precision = "f32", .batch = 1, .time = {.seconds = 3, .warm = 1}};
}

/* ---- a model ---- */

/* Weights as inference in bf16 stores them, from float32 ones: to, opened alike and not allocated. */
static int halve(const params *from, params *to, dev *d, queue *q, jepa_err *err) {
    int rc = params_alloc(to, d, PARAMS_HALF_ONLY, err);
    for (int i = 0; i < from->n && rc == 0; i++) rc = param_put(to, i, q, param_value(from, i), 0, from->item[i].count, err);
    return rc;
}

static int random_encoder(bench *b, const enc_cfg *ec, jepa_err *err) {
    params p = {0};
    enc *e = NULL;
    int rc;
    if ((rc = enc_open(&b->e, ec, &b->p, "encoder.", err)) < 0) return rc;
    if (b->type != T_BF16) rc = (rc = params_alloc(&b->p, b->d, 0, err)) < 0 ? rc : enc_init(b->e, b->q, 0.02, b->c.seed, err);
    else if ((rc = enc_open(&e, ec, &p, "encoder.", err)) == 0 && (rc = params_alloc(&p, b->d, 0, err)) == 0 && (rc = enc_init(e, b->q, 0.02, b->c.seed, err)) == 0 &&
             (rc = enc_set_type(b->e, T_BF16, err)) == 0)
        rc = halve(&p, &b->p, b->d, b->q, err);
    enc_close(&e);
    params_close(&p);
    return rc;
}

static int random_predictor(bench *b, const pred_cfg *pc, jepa_err *err) {
    params p = {0};
    pred *e = NULL;
    int rc;
    if ((rc = pred_open(&b->pr, pc, &b->pp, "predictor.", err)) < 0) return rc;
    if (b->type != T_BF16) rc = (rc = params_alloc(&b->pp, b->d, 0, err)) < 0 ? rc : pred_init(b->pr, b->q, 0.02, b->c.seed + 1, err);
    else if ((rc = pred_open(&e, pc, &p, "predictor.", err)) == 0 && (rc = params_alloc(&p, b->d, 0, err)) == 0 &&
             (rc = pred_init(e, b->q, 0.02, b->c.seed + 1, err)) == 0 && (rc = pred_set_type(b->pr, T_BF16, err)) == 0)
        rc = halve(&p, &b->pp, b->d, b->q, err);
    pred_close(&e);
    params_close(&p);
    return rc;
}

static int random_weights(bench *b, int predictor, jepa_err *err) {
    enc_cfg ec;
    pred_cfg pc;
    int rc;
    enc_cfg_defaults(&ec);
    ec.num_frames = b->c.frames ? b->c.frames : 16;
    ec.img_height = b->c.height ? b->c.height : 224;
    ec.img_width = b->c.width ? b->c.width : 224;
    if ((rc = enc_cfg_size(&ec, b->c.arch, err)) < 0 || (rc = dev_open(&b->d, b->c.device, b->c.threads, err)) < 0 ||
        (b->c.isa && (rc = dev_limit_isa(b->d, b->c.isa, err)) < 0) || (rc = queue_open(&b->q, b->d, err)) < 0 || (rc = random_encoder(b, &ec, err)) < 0)
        return rc;
    b->ep = &b->p, b->prp = &b->pp;
    b->frames = ec.num_frames, b->height = ec.img_height, b->width = ec.img_width;
    snprintf(b->name, sizeof b->name, "%s", b->c.arch);
    pred_cfg_defaults(&pc, &ec);
    if (predictor && (rc = random_predictor(b, &pc, err)) < 0) return rc;
    memory_mark(); /* float32 weights that became bf16 ones are gone */
    return 0;
}

static int from_file(bench *b, int predictor, jepa_err *err) {
    jepa_options o;
    int rc;
    jepa_options_defaults(&o);
    if (b->c.open) o = *b->c.open;
    o.device = b->c.device, o.precision = b->c.precision, o.threads = b->c.threads, o.predictor = predictor;
    if ((rc = jepa_open(&b->m, b->c.model, &o, err)) < 0 || (b->c.isa && (rc = dev_limit_isa(b->m->d, b->c.isa, err)) < 0) || (rc = jepa_session(b->m, &b->run, err)) < 0) return rc;
    b->d = b->m->d, b->q = b->run->q, b->e = b->m->e, b->pr = b->m->pr, b->ep = &b->m->p, b->prp = &b->m->pp;
    b->frames = b->c.frames ? b->c.frames : b->m->ec.num_frames;
    b->height = b->c.height ? b->c.height : b->m->ec.img_height;
    b->width = b->c.width ? b->c.width : b->m->ec.img_width;
    snprintf(b->name, sizeof b->name, "%s%s%s", b->m->mc.family, b->m->mc.variant[0] ? " " : "", b->m->mc.variant);
    return 0;
}

int bench_open(bench **out, const bench_cfg *c, int predictor, jepa_err *err) {
    *out = NULL;
    bench *b = mem_alloc(1, sizeof *b);
    if (!b) return err_set(err, JEPA_E_MEMORY, "no memory to measure");
    b->c = *c;
    b->type = !strcmp(c->precision, "bf16") ? T_BF16 : T_F32;
    memory_mark(); /* where it is refused, peaks are the whole process's */
    int rc = c->batch < 1 || c->batch > 4096 ? err_set(err, JEPA_E_USE, "%lld clips at a time; 1 to 4096 are possible", (long long)c->batch)
             : c->model                      ? from_file(b, predictor, err)
                                             : random_weights(b, predictor, err);
    const enc_cfg *ec = rc < 0 ? NULL : enc_config(b->e);
    const int single = ec && b->frames == 1 && ec->image_patch_embed;
    if (ec && (b->height % ec->patch_size || b->width % ec->patch_size || (!single && b->frames % ec->tubelet_size) || !enc_tokens(ec, b->frames, b->height, b->width)))
        rc = err_set(err, JEPA_E_USE, "clips of %d frames of %dx%d; multiples of the tubelet size %d and of the patch size %d are needed", b->frames, b->height,
                     b->width, ec->tubelet_size, ec->patch_size);
    if (rc < 0) bench_close(&b);
    *out = b;
    return rc;
}

void bench_close(bench **bp) {
    bench *b = bp ? *bp : NULL;
    if (!b) return;
    if (b->m) {
        jepa_session_close(&b->run);
        jepa_close(&b->m);
    } else {
        enc_close(&b->e);
        pred_close(&b->pr);
        params_close(&b->p);
        params_close(&b->pp);
        queue_close(&b->q);
        dev_close(&b->d);
    }
    mem_free(b);
    *bp = NULL;
}

static int64_t stored(const params *p) { return (int64_t)(p->value.bytes + p->value16.bytes); }

static void noise(float *x, int64_t n, uint64_t seed) {
    rng r = rng_key(seed, 0, 0, RNG_TEST);
    for (int64_t i = 0; i < n; i++) x[i] = (float)rng_normal(&r);
}

/* ---- running ---- */

/* Both of what is measured below begin with where it runs. */
typedef struct runs_on { dev *d; const measure_cfg *c; } runs_on;
static int profiled(void *what, int on, jepa_err *err) {
    const runs_on *r = what;
    return dev_profile(r->d, on ? r->c->profile : NULL, err);
}

typedef struct encoding { runs_on on; bench *b; enc_in in; enc_acts *a; buf x, tokens; size_t bytes; } encoding;
static int encode(void *ctx, jepa_err *err) {
    encoding *r = ctx;
    const int rc = enc_forward(r->b->e, r->b->q, &r->in, r->a, r->tokens.p, err);
    return rc < 0 ? rc : queue_wait(r->b->q, err);
}
static void encoding_close(encoding *r) {
    enc_acts_close(&r->a);
    buf_free(&r->x);
    buf_free(&r->tokens);
}
/* given: clips [batch, frames, height, width, 3], or NULL: moving digits */
static int encoding_open(encoding *r, bench *b, const uint8_t *given, jepa_err *err) {
    const enc_cfg *ec = enc_config(b->e);
    const int64_t n = enc_tokens(ec, b->frames, b->height, b->width), batch = b->c.batch;
    const enc_shape shape = {.batch = batch, .frames = b->frames, .height = b->height, .width = b->width};
    uint8_t *host = NULL;
    size_t pixels, tokens;
    int rc = 0;
    *r = (encoding){.on = {b->d, &b->c.time}, .b = b};
    if (size_mul((size_t)batch * (size_t)b->frames * 3, (size_t)b->height * (size_t)b->width, &pixels) ||
        size_mul((size_t)batch * (size_t)n, (size_t)ec->embed_dim * sizeof(float), &tokens) || (!given && !(host = mem_alloc(pixels, 1))))
        return err_set(err, JEPA_E_MEMORY, "no memory for %lld clips of %dx%dx%d", (long long)batch, b->frames, b->height, b->width);
    if (host) rc = bench_clips(host, batch, b->frames, b->height, b->width, b->c.seed, err);
    if (rc == 0 && (rc = buf_new(&r->x, b->d, pixels, err)) == 0 && (rc = buf_new(&r->tokens, b->d, tokens, err)) == 0 &&
        (rc = buf_put(b->q, r->x.p, host ? host : given, pixels, err)) == 0)
        rc = enc_acts_open(&r->a, b->e, b->d, &shape, err);
    mem_free(host);
    r->in = (enc_in){.batch = batch, .frames = b->frames, .height = b->height, .width = b->width, .x = r->x.p, .type = T_U8};
    if (b->m) r->in.mean = b->m->clip.mean, r->in.std = b->m->clip.std;
    r->bytes = enc_acts_bytes(b->e, &shape) + pixels + tokens;
    if (rc < 0) encoding_close(r);
    return rc;
}

int bench_encoder(bench *b, measured *out, jepa_err *err) {
    const enc_cfg *ec = enc_config(b->e);
    const int64_t n = enc_tokens(ec, b->frames, b->height, b->width);
    encoding r;
    int rc = encoding_open(&r, b, NULL, err);
    if (rc < 0) return rc;
    *out = (measured){.clips = b->c.batch, .tokens = n, .weights = stored(b->ep), .working = (int64_t)r.bytes,
                      .flops = flops_forward(enc_flops(ec, b->c.batch, n, b->frames == 1))};
    rc = measure(&b->c.time, encode, profiled, &r, out, err);
    encoding_close(&r);
    return rc;
}

int bench_tokens(bench *b, const uint8_t *clips, float *tokens, jepa_err *err) {
    encoding r;
    int rc = encoding_open(&r, b, clips, err);
    if (rc < 0) return rc;
    if ((rc = encode(&r, err)) == 0) rc = buf_get(b->q, tokens, r.tokens.p, r.tokens.bytes, err);
    encoding_close(&r);
    return rc < 0 ? rc : queue_wait(b->q, err);
}

typedef struct predicting { runs_on on; bench *b; pred_in in; pred_acts *a; buf z, out; } predicting;
static int predict(void *ctx, jepa_err *err) {
    predicting *r = ctx;
    const int rc = pred_forward(r->b->pr, r->b->q, &r->in, r->a, r->out.p, err);
    return rc < 0 ? rc : queue_wait(r->b->q, err);
}

int bench_predictor(bench *b, measured *out, jepa_err *err) {
    const enc_cfg *ec = enc_config(b->e);
    const pred_cfg *pc = pred_config(b->pr);
    const mask_grid g = {b->frames == 1 && ec->image_patch_embed ? 1 : b->frames / ec->tubelet_size, b->height / ec->patch_size, b->width / ec->patch_size};
    const int64_t batch = b->c.batch, width = (int64_t)pc->embed_dim * (pc->levels > 1 ? pc->levels : 1);
    mask_cfg mc;
    mask_set *m = NULL;
    predicting r = {.on = {b->d, &b->c.time}, .b = b};
    float *z = NULL;
    size_t zn, on;
    int rc;
    mask_cfg_defaults(&mc, MASK_MULTIBLOCK3D);
    if ((rc = mask_cfg_check(&mc, g, err)) < 0 || (rc = mask_group(&m, &mc, g, (int)batch, b->c.seed, 0, 0, 0, err)) < 0) return rc;
    const pred_shape shape = {.batch = batch, .context = m->n_context, .target = m->n_target};
    *out = (measured){.clips = batch, .tokens = m->n_context + m->n_target, .context = m->n_context, .target = m->n_target};
    if (size_mul((size_t)batch * (size_t)m->n_context, (size_t)width, &zn) || size_mul((size_t)batch * (size_t)m->n_target, (size_t)pc->out_dim, &on) ||
        !(z = mem_alloc(zn, sizeof *z))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the predictor's %lld sequences", (long long)batch);
        goto done;
    }
    noise(z, (int64_t)zn, b->c.seed);
    if ((rc = buf_new(&r.z, b->d, zn * sizeof *z, err)) < 0 || (rc = buf_new(&r.out, b->d, on * sizeof(float), err)) < 0 ||
        (rc = buf_put(b->q, r.z.p, z, zn * sizeof *z, err)) < 0 || (rc = pred_acts_open(&r.a, b->pr, b->d, &shape, err)) < 0)
        goto done;
    mem_free(z);
    z = NULL;
    r.in = (pred_in){.batch = batch, .n_context = m->n_context, .n_target = m->n_target, .z = r.z.p, .context = m->context, .target = m->target,
                     .grid = {.frames = g.frames, .rows = g.rows, .cols = g.cols}};
    out->flops = flops_forward(pred_flops(pc, batch, m->n_context, m->n_target, 1, 0));
    out->weights = stored(b->prp);
    out->working = (int64_t)(pred_acts_bytes(b->pr, &shape) + (zn + on) * sizeof(float));
    rc = measure(&b->c.time, predict, profiled, &r, out, err);
done:
    pred_acts_close(&r.a);
    buf_free(&r.z);
    buf_free(&r.out);
    mem_free(z);
    mask_free(&m);
    return rc;
}

/* ---- products ---- */

typedef struct product { queue *q; op_linear a; } product;
static int multiply(void *ctx, jepa_err *err) {
    product *r = ctx;
    const int rc = dev_ops(queue_dev(r->q))->linear(r->q, &r->a);
    return rc < 0 ? err_set(err, rc, "%s: a product of %lld x %lld x %lld is not possible (code %d)", dev_name(queue_dev(r->q)), (long long)r->a.rows,
                            (long long)r->a.in, (long long)r->a.out, rc)
                  : queue_wait(r->q, err);
}

int bench_product(dev *d, const bench_cfg *c, int64_t rows, int64_t in, int64_t out_dim, int act, measured *out, jepa_err *err) {
    const int half = !strcmp(c->precision, "bf16");
    const int64_t count[] = {rows * in, out_dim * in, rows * out_dim, out_dim};
    buf b[4] = {{0}}, h[3] = {{0}}; /* x, w, y, bias; the first three as bf16 */
    product r = {0};
    int rc = queue_open(&r.q, d, err);
    *out = (measured){.flops = 2.0 * (double)rows * (double)in * (double)out_dim};
    for (int i = 0; i < 4 && rc == 0; i++) {
        const int whole = !half || i == 3; /* kept as float32 */
        if ((rc = buf_new(&b[i], d, (size_t)count[i] * sizeof(float), err)) < 0) break;
        float *v = i == 2 ? NULL : mem_alloc((size_t)count[i], sizeof *v);
        if (v) {
            noise(v, count[i], (uint64_t)i);
            rc = buf_put(r.q, b[i].p, v, (size_t)count[i] * sizeof *v, err);
        } else if (i != 2) rc = err_set(err, JEPA_E_MEMORY, "no memory for a product of %lld x %lld x %lld", (long long)rows, (long long)in, (long long)out_dim);
        mem_free(v);
        if (rc || whole) continue;
        if ((rc = buf_new(&h[i], d, (size_t)count[i] * 2, err)) == 0 && i != 2 &&
            (rc = dev_ops(d)->convert(r.q, &(op_convert){.n = count[i], .x = b[i].p, .y16 = h[i].p})) < 0)
            err_set(err, rc, "%s: nothing can be converted to bf16", dev_name(d));
        buf_free(&b[i]);
    }
    if (rc == 0) {
        r.a = (op_linear){.rows = rows, .in = in, .out = out_dim, .x = b[0].p, .x16 = h[0].p, .w = b[1].p, .w16 = h[1].p, .b = b[3].p, .y = b[2].p, .y16 = h[2].p, .act = act};
        out->working = (int64_t)(b[0].bytes + b[1].bytes + b[2].bytes + b[3].bytes + h[0].bytes + h[1].bytes + h[2].bytes);
        rc = measure(&c->time, multiply, NULL, &r, out, err);
    }
    for (int i = 0; i < 4; i++) buf_free(&b[i]);
    for (int i = 0; i < 3; i++) buf_free(&h[i]);
    queue_close(&r.q);
    return rc;
}
