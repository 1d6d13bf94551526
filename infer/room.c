/* room.c: --memory of a job: how many clips a call, sessions and decoders so that its plan stays within what is allowed. */
#include "infer/job.h"
#include "infer/predict.h"

#include <stdio.h>

/* The program, its libraries and the products' own room; a decoder's, beside its frames. */
static const double PROGRAM = 64.0 * 1048576, DECODER = 16.0 * 1048576, GIB = 1073741824;
enum { SLOTS = 4 }; /* clips of a decoder: three that wait (job_pipe.c), one in hand */

static double weights(const jepa *m) {
    const params *const p[] = {&m->p, &m->pp, &m->cp};
    double sum = 0;
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) sum += (double)p[i]->value.bytes + (double)p[i]->value16.bytes;
    return sum;
}

static double limit_of(int64_t memory) {
    if (memory != MEM_AUTO) return (double)memory;
    const double left = (double)mem_available();
    return left - left / 16;
}

/* Frames as they are decoded, by the first input: the others may differ. */
static double source_frames(const items *in, const clip_plan *p, int first) {
    const vid_opts o = {.as_stored = p->as_stored};
    vid *v = NULL;
    double bytes = 0;
    if (in->n > first && vid_open_item(&v, &in->at[first], &o, NULL) == 0) {
        const vid_info *i = vid_get_info(v);
        bytes = 3.0 * i->width * i->height * p->frames;
    }
    vid_close(&v);
    return bytes;
}

/* What a session of n clips a call takes: activations, tokens (and a copy in host memory), wanted layers, pixels. */
static double session(const jepa *m, const clip_plan *p, int n) {
    const enc_shape s = {.batch = n, .frames = p->frames, .height = p->clip.crop, .width = p->clip.crop};
    const double tokens = (double)n * (double)enc_tokens(&m->ec, p->frames, p->clip.crop, p->clip.crop) * m->ec.embed_dim * sizeof(float);
    return (double)enc_acts_bytes(m->e, &s) + tokens * (2 + p->layers) + 3.0 * n * p->frames * p->clip.crop * p->clip.crop;
}

static double embed_bytes(const embed_job *j, double source, int sessions, int batch, int decoders) {
    const clip_plan *p = j->plan;
    const double clip = 3.0 * p->frames * p->clip.crop * p->clip.crop, row = (double)p->per_row * (double)p->dim * sizeof(float);
    return PROGRAM + weights(j->m) + sessions * session(j->m, p, batch) + (sessions + 1.0) * batch * (clip + row) +
           decoders * (DECODER + SLOTS * clip + source);
}

int embed_fit(embed_job *j, jepa_err *err) {
    if (!j->memory) return 0;
    const double limit = limit_of(j->memory), source = source_frames(j->inputs, j->plan, j->shard);
    int sessions, threads, batch = j->batch < 1 ? 1 : j->batch, decoders = j->threads < 1 ? 1 : j->threads;
    char text[200];
    encoders_shape(j, &sessions, &threads);
    while (embed_bytes(j, source, sessions, batch, decoders) > limit && (batch > 1 || sessions > 1 || decoders > 1)) {
        if (batch > 1) batch /= 2; /* costs next to nothing */
        else if (sessions > 1) sessions--;
        else decoders--;
    }
    const double need = embed_bytes(j, source, sessions, batch, decoders);
    if (need > limit)
        return err_set(err, JEPA_E_MEMORY,
                       "%.2f GiB are allowed, and one clip at a time needs %.2f (weights %.2f, working memory %.2f, decoding %.2f): fewer --frames, a "
                       "smaller --crop%s would help",
                       limit / GIB, need / GIB, weights(j->m) / GIB, session(j->m, j->plan, 1) / GIB, (DECODER + source) / GIB,
                       j->m->type == T_F32 ? ", --precision bf16" : "");
    j->batch = batch, j->encoders = sessions, j->threads = decoders;
    snprintf(text, sizeof text, "memory: %d session%s, %d clip%s a call, %d decoder%s: %.2f GiB planned, %.2f allowed", sessions, sessions == 1 ? "" : "s", batch,
             batch == 1 ? "" : "s", decoders, decoders == 1 ? "" : "s", need / GIB, limit / GIB);
    if (j->line) j->line(j->ctx, text);
    return 0;
}

static double predict_bytes(const predict_job *j, double source, int n) {
    const jepa *m = j->m;
    const clip_plan *c = j->plan->clip;
    const pred_masks *k = j->plan->masks;
    const int64_t all = enc_tokens(&m->ec, c->frames, c->clip.crop, c->clip.crop), width = enc_out_dim(&m->ec, m->ec.level_norms > 0);
    const enc_shape whole = {.batch = n, .frames = c->frames, .height = c->clip.crop, .width = c->clip.crop};
    enc_shape seen = whole;
    if (!j->plan->encode_all) seen.tokens = k->n_context;
    const pred_shape ps = {.batch = n * k->blocks, .context = k->n_context, .target = k->n_target / k->blocks};
    const double clip = 3.0 * c->frames * c->clip.crop * c->clip.crop, rows = (double)n * (double)width * sizeof(float);
    return PROGRAM + weights(m) + (double)enc_acts_bytes(m->e, &whole) + (double)enc_acts_bytes(m->ctx ? m->ctx : m->e, &seen) +
           (double)pred_acts_bytes(m->pr, &ps) + 3 * rows * (double)all /* tokens, z, their copy */ +
           3.0 * n * (double)k->n_target * m->pc.out_dim * sizeof(float) /* predicted twice, target */ + 2 * n * clip + DECODER + source;
}

int predict_fit(predict_job *j, jepa_err *err) {
    if (!j->memory) return 0;
    const double limit = limit_of(j->memory), source = source_frames(j->inputs, j->plan->clip, 0);
    int n = j->batch < 1 ? 1 : j->batch;
    while (n > 1 && predict_bytes(j, source, n) > limit) n /= 2;
    const double need = predict_bytes(j, source, n);
    if (need > limit)
        return err_set(err, JEPA_E_MEMORY,
                       "%.2f GiB are allowed, and one clip at a time needs %.2f (weights %.2f): fewer --frames, a smaller --crop%s would help", limit / GIB,
                       need / GIB, weights(j->m) / GIB, j->m->type == T_F32 ? ", --precision bf16" : "");
    j->batch = n;
    return 0;
}
