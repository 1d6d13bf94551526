/* predict.c: clips and masks in, predictions beside their targets out. */
#include "infer/predict.h"
#include "compute/ops.h"

#include <math.h>
#include <string.h>

struct predict_work { /* working memory for calls of one shape */
    int64_t batch, frames, height, width, n_context, n_target;
    enc_acts *all, *context;
    pred_acts *pred;
    buf x, keep, tokens, z, out;
    float *host, *row; /* features of all tokens; one of them, normalised */
    int32_t *lists;
};

void predict_session_close(jepa_run *r) {
    struct predict_work *w = r->work;
    if (!w) return;
    enc_acts_close(&w->all);
    enc_acts_close(&w->context);
    pred_acts_close(&w->pred);
    buf *const b[] = {&w->x, &w->keep, &w->tokens, &w->z, &w->out};
    for (size_t i = 0; i < sizeof b / sizeof *b; i++) buf_free(b[i]);
    mem_free(w->host), mem_free(w->row), mem_free(w->lists);
    mem_free(w);
    r->work = NULL;
}

/* V-JEPA 2.1's predictor reads and predicts levels joined along the channels. */
static int joined(const jepa *m) { return m->ec.level_norms > 0; }

int64_t predict_dim(const jepa *m, int *has_target) {
    if (has_target) *has_target = m->pc.out_dim == enc_out_dim(&m->ec, joined(m));
    return m->pc.out_dim;
}

int predict_plan_check(const jepa *m, const pred_plan *p, jepa_err *err) {
    if (!m->pr) return err_set(err, JEPA_E_USE, "the model was opened without its predictor (jepa_options.predictor)");
    if (p->mask_token < 0 || p->mask_token >= m->pc.num_mask_tokens)
        return err_set(err, JEPA_E_USE, "mask token %d; the predictor has %d (0 to %d)", p->mask_token, m->pc.num_mask_tokens, m->pc.num_mask_tokens - 1);
    const int64_t *g = p->clip->grid;
    if (p->masks->grid.frames != g[0] || p->masks->grid.rows != g[1] || p->masks->grid.cols != g[2])
        return err_set(err, JEPA_E_USE, "masks are for a grid of %dx%dx%d tokens, clips have %lldx%lldx%lld", p->masks->grid.frames, p->masks->grid.rows,
                       p->masks->grid.cols, (long long)g[0], (long long)g[1], (long long)g[2]);
    return 0;
}

static int room(jepa_run *r, const pred_plan *p, int64_t n, int64_t frames, int64_t height, int64_t width, jepa_err *err) {
    const jepa *m = r->m;
    const pred_masks *k = p->masks;
    struct predict_work *w = r->work;
    if (w && n <= w->batch && frames == w->frames && height == w->height && width == w->width && k->n_context == w->n_context && k->n_target == w->n_target)
        return 0;
    predict_session_close(r);
    const int64_t tokens = enc_tokens(&m->ec, frames, height, width), d = enc_out_dim(&m->ec, joined(m));
    size_t x, t, out;
    if (tokens < 1 || size_mul((size_t)n * 3, (size_t)frames, &x) || size_mul(x, (size_t)height, &x) || size_mul(x, (size_t)width * sizeof(float), &x) ||
        size_mul((size_t)n * (size_t)tokens, (size_t)d * sizeof(float), &t) || size_mul((size_t)n * (size_t)k->n_target, (size_t)m->pc.out_dim * sizeof(float), &out))
        return err_set(err, JEPA_E_MEMORY, "%lld clips of %lldx%lldx%lld overflow", (long long)n, (long long)frames, (long long)height, (long long)width);
    if (!(w = r->work = mem_alloc(1, sizeof *w))) return err_set(err, JEPA_E_MEMORY, "no memory for predictions");
    const enc_shape all = {.batch = n, .frames = frames, .height = height, .width = width};
    enc_shape seen = all;
    seen.tokens = k->n_context;
    const int64_t blocks = k->blocks, per = k->n_target / blocks;
    const pred_shape ps = {.batch = n * blocks, .context = k->n_context, .target = per};
    int rc;
    if ((rc = enc_acts_open(&w->all, m->e, m->d, &all, err)) < 0 || (rc = enc_acts_open(&w->context, m->ctx ? m->ctx : m->e, m->d, &seen, err)) < 0 ||
        (rc = pred_acts_open(&w->pred, m->pr, m->d, &ps, err)) < 0 || (rc = buf_new(&w->x, m->d, x, err)) < 0 ||
        (rc = buf_new(&w->keep, m->d, (size_t)(n * k->n_context) * sizeof(int32_t), err)) < 0 || (rc = buf_new(&w->tokens, m->d, t, err)) < 0 ||
        (rc = buf_new(&w->z, m->d, t, err)) < 0 || (rc = buf_new(&w->out, m->d, out, err)) < 0)
        goto fail;
    if (!(w->host = mem_alloc(t, 1)) || !(w->row = mem_alloc((size_t)d, sizeof *w->row)) || !(w->lists = mem_alloc((size_t)n * (size_t)(k->n_context + k->n_target), sizeof *w->lists))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for the features of %lld tokens", (long long)(n * tokens));
        goto fail;
    }
    w->batch = n, w->frames = frames, w->height = height, w->width = width, w->n_context = k->n_context, w->n_target = k->n_target;
    return 0;
fail:
    predict_session_close(r);
    return rc;
}

/* Index lists of n clips: context [n,nc]; targets block-major, [blocks,n,per block]. */
static void lists_of(const pred_masks *k, int64_t first, int64_t n, int32_t *context, int32_t *target) {
    const int64_t per = k->n_target / k->blocks;
    for (int64_t i = 0; i < n; i++) {
        int64_t set = k->sets == 1 ? 0 : first + i;
        memcpy(context + i * k->n_context, k->context + set * k->n_context, (size_t)k->n_context * sizeof *context);
        for (int64_t b = 0; b < k->blocks; b++)
            memcpy(target + (b * n + i) * per, k->target + set * k->n_target + b * per, (size_t)per * sizeof *target);
    }
}

/* Each level of each token to mean 0 and deviation 1 (eps 1e-5, PyTorch's default), as training targets are. */
static void normalise(const float *x, float *y, int64_t d, int levels) {
    const int64_t w = d / levels;
    for (int l = 0; l < levels; l++, x += w, y += w) {
        double mean = 0, var = 0;
        for (int64_t i = 0; i < w; i++) mean += x[i] / (double)w;
        for (int64_t i = 0; i < w; i++) var += (x[i] - mean) * (x[i] - mean) / (double)w;
        double rstd = 1 / sqrt(var + 1e-5);
        for (int64_t i = 0; i < w; i++) y[i] = (float)((x[i] - mean) * rstd);
    }
}

int run_predict(jepa_run *r, const pred_plan *p, int64_t first, const void *x, dtype type, int64_t n, int64_t frames, int64_t height, int64_t width,
                float *predicted, float *target, float *error, jepa_err *err) {
    jepa *m = r->m;
    const pred_masks *k = p->masks;
    const ops *o = dev_ops(m->d);
    int has_target;
    const int64_t dim = predict_dim(m, &has_target), d = enc_out_dim(&m->ec, joined(m)), nt = k->n_target, blocks = k->blocks, per = nt / blocks;
    if (k->sets > 1 && first + n > k->sets)
        return err_set(err, JEPA_E_USE, "the mask file has lists for %lld clips and this is clip %lld", (long long)k->sets, (long long)(first + n));
    int rc = room(r, p, n, frames, height, width, err);
    if (rc < 0) return rc;
    struct predict_work *w = r->work;
    const int64_t tokens = enc_tokens(&m->ec, frames, height, width);
    const size_t bytes = (size_t)(n * frames * height * width * 3) * dtype_size(type);
    int32_t *context = w->lists, *aim = context + n * k->n_context;
    lists_of(k, first, n, context, aim);
    const int64_t sr = m->o.published_positions ? m->mc.published_rows : 0, sc = m->o.published_positions ? m->mc.published_cols : 0;
    enc_in in = {.batch = n, .frames = frames, .height = height, .width = width, .x = w->x.p, .type = type, .frames_first = type != T_U8,
                 .split_rows = sr, .split_cols = sc, .mean = p->clip->clip.mean, .std = p->clip->clip.std, .all_levels = joined(m)};
    if ((rc = buf_put(r->q, w->x.p, x, bytes, err)) < 0 || (rc = buf_put(r->q, w->keep.p, context, (size_t)(n * k->n_context) * sizeof *context, err)) < 0) return rc;
    const int wanted = has_target && (target || error);
    if (wanted && ((rc = enc_forward(m->e, r->q, &in, w->all, w->tokens.p, err)) < 0 ||
                   (rc = buf_get(r->q, w->host, w->tokens.p, (size_t)(n * tokens * d) * sizeof(float), err)) < 0))
        return rc;
    if (p->encode_all) {
        if ((m->ctx || !wanted) && (rc = enc_forward(m->ctx ? m->ctx : m->e, r->q, &in, w->all, w->tokens.p, err)) < 0) return rc;
        rc = o->gather_rows(r->q, &(op_rows){.batch = n, .n_src = tokens, .n_dst = k->n_context, .d = d, .src = w->tokens.p, .dst = w->z.p, .index = w->keep.p});
        if (rc < 0) return err_set(err, rc, "the context's tokens could not be picked");
    } else {
        in.keep = w->keep.p, in.keep_host = context, in.n_keep = k->n_context;
        if ((rc = enc_forward(m->ctx ? m->ctx : m->e, r->q, &in, w->context, w->z.p, err)) < 0) return rc;
    }
    const pred_in pi = {.batch = n, .n_context = k->n_context, .n_target = per, .z = w->z.p, .context = context, .target = aim,
                        .grid = {.frames = p->clip->grid[0], .rows = p->clip->grid[1], .cols = p->clip->grid[2], .split_rows = sr, .split_cols = sc},
                        .mask_token = p->mask_token, .image = m->ec.image_patch_embed && frames == 1, .target_blocks = (int)blocks};
    if ((rc = pred_forward(m->pr, r->q, &pi, w->pred, w->out.p, err)) < 0) return rc;
    /* block-major on the device, clip after clip for the caller */
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t i = 0; i < n; i++)
            if ((rc = buf_get(r->q, predicted + (i * nt + b * per) * dim, (float *)w->out.p + (b * n + i) * per * dim, (size_t)(per * dim) * sizeof(float), err)) < 0)
                return rc;
    const int levels = joined(m) && m->ec.levels > 1 ? m->ec.levels : 1;
    for (int64_t i = 0; wanted && i < n; i++)
        for (int64_t b = 0; b < blocks; b++)
            for (int64_t t = 0; t < per; t++) {
                const int64_t row = i * nt + b * per + t;
                const float *feature = w->host + (i * tokens + aim[(b * n + i) * per + t]) * d;
                float *to = target ? target + row * dim : w->row; /* blocks may share a token: the features stay as they are */
                normalise(feature, to, d, levels);
                double sum = 0;
                for (int64_t c = 0; c < dim; c++) sum += fabs((double)predicted[row * dim + c] - to[c]);
                if (error) error[row] = (float)(sum / (double)dim);
            }
    return 0;
}

/* ---- one video, through the public interface ---- */

void jepa_predict_options_defaults(jepa_predict_options *o) {
    memset(o, 0, sizeof *o);
    o->size = sizeof *o;
    o->mask_token = -1;
}

void jepa_prediction_free(jepa_prediction *p) {
    if (!p) return;
    mem_free(p->predicted), mem_free(p->target), mem_free(p->error), mem_free(p->context), mem_free(p->index);
    mem_free(p->start_seconds), mem_free(p->end_seconds);
    memset(p, 0, sizeof *p);
}

static int prediction_new(jepa_prediction *out, const jepa *m, const pred_masks *k, const clip_plan *c, int64_t clips, jepa_err *err) {
    int has_target;
    size_t cells, ints;
    out->clips = clips, out->n = k->n_target, out->n_context = k->n_context, out->dim = predict_dim(m, &has_target);
    memcpy(out->grid, c->grid, sizeof out->grid);
    if (size_mul((size_t)clips, (size_t)k->n_target, &cells) || size_mul((size_t)clips, (size_t)k->n_context, &ints) ||
        size_mul(cells, (size_t)out->dim, &cells) || !(out->predicted = mem_alloc(cells, sizeof(float))) ||
        (has_target && (!(out->target = mem_alloc(cells, sizeof(float))) || !(out->error = mem_alloc(cells / (size_t)out->dim, sizeof(float))))) ||
        !(out->context = mem_alloc(ints, sizeof(int32_t))) || !(out->index = mem_alloc(cells / (size_t)out->dim, sizeof(int32_t))) ||
        !(out->start_seconds = mem_alloc((size_t)clips, sizeof(double))) || !(out->end_seconds = mem_alloc((size_t)clips, sizeof(double))))
        return err_set(err, JEPA_E_MEMORY, "no memory for predictions of %lld clips", (long long)clips);
    for (int64_t i = 0; i < clips; i++) {
        int64_t set = k->sets == 1 ? 0 : i;
        if (set >= k->sets) return err_set(err, JEPA_E_USE, "the mask file has lists for %lld clips, the video gives %lld", (long long)k->sets, (long long)clips);
        memcpy(out->context + i * k->n_context, k->context + set * k->n_context, (size_t)k->n_context * sizeof(int32_t));
        memcpy(out->index + i * k->n_target, k->target + set * k->n_target, (size_t)k->n_target * sizeof(int32_t));
    }
    return 0;
}

int jepa_predict(jepa_run *r, const char *path, const jepa_predict_options *given, jepa_prediction *out, jepa_err *err) {
    memset(out, 0, sizeof *out);
    jepa_predict_options o;
    jepa_predict_options_defaults(&o);
    if (!r || !path || (given && (given->size < sizeof given->size || given->size > sizeof *given)))
        return err_set(err, JEPA_E_USE, "a session, a file and options with their size are needed");
    if (given) memcpy(&o, given, given->size);
    jepa *m = r->m;
    clip_plan c;
    pred_masks k = {0};
    clip_list l = {0};
    vid *v = NULL;
    uint8_t *clip = NULL;
    int rc = plan_make(m, o.sampling, &c, err);
    if (rc < 0) return rc;
    const mask_grid g = {(int)c.grid[0], (int)c.grid[1], (int)c.grid[2]};
    if ((rc = pred_masks_make(&k, o.mask, g, !strcmp(m->mc.family, "ijepa"), err)) < 0) return rc;
    const pred_plan p = {.clip = &c, .masks = &k, .mask_token = o.mask_token < 0 ? m->mc.mask_token : o.mask_token, .encode_all = o.encode_all};
    const vid_opts vo = {.as_stored = c.as_stored};
    if ((rc = predict_plan_check(m, &p, err)) < 0 || (rc = vid_open(&v, path, &vo, err)) < 0 || (rc = clips_of(v, &c, &l, err)) < 0 ||
        (rc = prediction_new(out, m, &k, &c, l.n, err)) < 0)
        goto done;
    if (!(clip = mem_alloc((size_t)c.frames * (size_t)c.clip.crop, (size_t)c.clip.crop * 3))) {
        rc = err_set(err, JEPA_E_MEMORY, "no memory for a clip");
        goto done;
    }
    for (int i = 0; i < l.n && i < out->clips; i++) {
        if (m->o.cancel && m->o.cancel(m->o.ctx)) {
            rc = err_set(err, JEPA_E_CANCELLED, "%s: cancelled", path);
            goto done;
        }
        if ((rc = clip_load(v, &c, &l, i, clip, &out->start_seconds[i], &out->end_seconds[i], err)) < 0 ||
            (rc = run_predict(r, &p, i, clip, T_U8, 1, c.frames, c.clip.crop, c.clip.crop, out->predicted + i * out->n * out->dim,
                              out->target ? out->target + i * out->n * out->dim : NULL, out->error ? out->error + i * out->n : NULL, err)) < 0)
            goto done;
    }
    if (l.n < out->clips) out->clips = l.n; /* a cut file had fewer clips in it */
done:
    if (rc < 0) jepa_prediction_free(out);
    mem_free(clip), mem_free(l.index);
    vid_close(&v);
    pred_masks_free(&k);
    return rc;
}
