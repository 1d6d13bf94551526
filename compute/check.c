/* check.c: the argument checks that every back end shares. Sizes are bounded before anything multiplies them. */
#include <math.h>
#include "compute/device.h"

static const int64_t MAX_WIDTH = (int64_t)1 << 24; /* channels: no model's row is near that */
static const int64_t MAX_ROWS = (int64_t)1 << 40;  /* rows, batches, strides */
static const int64_t MAX_BYTES = (int64_t)1 << 60; /* of one array */

static int width_ok(int64_t d) { return d >= 1 && d <= MAX_WIDTH; }

static int count_ok(int64_t n) { return n >= 0 && n <= MAX_ROWS; }

/* An array of a·b rows whose row of `width` 8-byte items (floats are smaller) starts each ld items; ld 0: dense. */
static int span_ok(int64_t a, int64_t b, int64_t ld, int64_t width) {
    int64_t n;
    if (!count_ok(a) || !count_ok(b) || width < 1 || ld < 0 || ld > MAX_ROWS) return 0;
    ld = stride_or(ld, width);
    return ld >= width && !__builtin_mul_overflow(a, b, &n) && !__builtin_mul_overflow(n, ld, &n) && n <= MAX_BYTES / 8;
}

/* What the 16-bit pointers hold. */
static int type_rc(dtype t) { return t == T_NONE || t == T_BF16 ? 0 : JEPA_E_UNSUPPORTED; }

/* An operand in one of its two forms. */
static int one(const void *a, const void *a16) { return (a != NULL) + (a16 != NULL) == 1; }
static int at_most_one(const void *a, const void *a16) { return !a || !a16; }

int check_index(const int32_t *index, int64_t count, int64_t below) {
    for (int64_t i = 0; i < count; i++)
        if (index[i] < 0 || index[i] >= below) return JEPA_E_USE;
    return 0;
}

int check_linear(const op_linear *a) {
    if (!a || !count_ok(a->rows) || !width_ok(a->in) || !width_ok(a->out) || (a->act != ACT_NONE && a->act != ACT_GELU)) return JEPA_E_USE;
    if (!span_ok(a->rows, 1, a->ldx, a->in) || !span_ok(a->rows, 1, a->ldy, a->out) || (a->r && !span_ok(a->rows, 1, a->ldr, a->out)))
        return JEPA_E_USE;
    if (!at_most_one(a->x, a->x16) || !at_most_one(a->w, a->w16) || !at_most_one(a->y, a->y16) || !at_most_one(a->pre, a->pre16))
        return JEPA_E_USE;
    if (a->rows > 0 && (!one(a->x, a->x16) || !one(a->w, a->w16) || !one(a->y, a->y16))) return JEPA_E_USE;
    if (a->r && a->r == a->y && stride_or(a->ldr, a->out) != stride_or(a->ldy, a->out)) return JEPA_E_USE;
    return type_rc(a->type);
}

int check_linear_bwd(const op_linear_bwd *a) {
    if (!a || !count_ok(a->rows) || !width_ok(a->in) || !width_ok(a->out)) return JEPA_E_USE;
    if (!span_ok(a->rows, 1, a->lddy, a->out) || !span_ok(a->rows, 1, a->ldx, a->in) || !span_ok(a->rows, 1, a->lddx, a->in))
        return JEPA_E_USE;
    if (!at_most_one(a->dy, a->dy16) || !at_most_one(a->x, a->x16) || !at_most_one(a->w, a->w16) || !at_most_one(a->dx, a->dx16) ||
        !at_most_one(a->pre, a->pre16) || (a->x_act != ACT_NONE && a->x_act != ACT_GELU))
        return JEPA_E_USE;
    if (a->add && (a->dx16 || a->pre || a->pre16)) return JEPA_E_USE;
    if (a->rows > 0 && (!one(a->dy, a->dy16) || ((a->dx || a->dx16) && !one(a->w, a->w16)) || (a->dw && !one(a->x, a->x16)))) return JEPA_E_USE;
    return type_rc(a->type);
}

int check_gelu(const op_gelu *a) { return !a || !count_ok(a->n) || (a->n > 0 && (!a->x || !a->y)) ? JEPA_E_USE : 0; }

int check_gelu_bwd(const op_gelu_bwd *a) { return !a || !count_ok(a->n) || (a->n > 0 && (!a->dy || !a->x || !a->dx)) ? JEPA_E_USE : 0; }

int check_convert(const op_convert *a) {
    if (!a || !count_ok(a->n) || !at_most_one(a->x, a->x16) || !at_most_one(a->y, a->y16)) return JEPA_E_USE;
    if (a->n > 0 && !(a->x && a->y16) && !(a->x16 && a->y)) return JEPA_E_USE;
    return type_rc(a->type);
}

int check_layernorm(const op_layernorm *a) {
    if (!a || !width_ok(a->d) || !span_ok(a->rows, 1, a->ldx, a->d) || !span_ok(a->rows, 1, a->ldy, a->d)) return JEPA_E_USE;
    if (!isfinite(a->eps) || a->eps < 0 || !at_most_one(a->y, a->y16) ||
        (a->rows > 0 && (!a->x || !one(a->y, a->y16))))
        return JEPA_E_USE;
    if (a->x && a->x == a->y && stride_or(a->ldx, a->d) != stride_or(a->ldy, a->d)) return JEPA_E_USE;
    return type_rc(a->type);
}

int check_layernorm_bwd(const op_layernorm_bwd *a) {
    if (!a || !width_ok(a->d) || !span_ok(a->rows, 1, 0, a->d) || !at_most_one(a->dy, a->dy16)) return JEPA_E_USE;
    if (a->rows > 0 && (!one(a->dy, a->dy16) || !a->x || !a->mean || !a->rstd || !a->dx)) return JEPA_E_USE;
    return type_rc(a->type);
}

/* What forward and backward of attention have in common. */
static int heads_rc(int64_t batch, int64_t heads, int64_t nq, int64_t nk, int64_t head_dim, int64_t block, double scale) {
    if (!count_ok(batch) || !count_ok(nq) || !count_ok(nk) || heads < 1 || head_dim < 1 || block < 0 || !isfinite(scale)) return JEPA_E_USE;
    if (!width_ok(heads) || !width_ok(head_dim) || !width_ok(heads * head_dim)) return JEPA_E_USE;
    if ((nk == 0 && nq > 0) || (block > 0 && nq != nk)) return JEPA_E_USE;
    return head_dim > 128 ? JEPA_E_UNSUPPORTED : 0;
}

int check_attention(const op_attention *a) {
    int rc = !a ? JEPA_E_USE : heads_rc(a->batch, a->heads, a->nq, a->nk, a->head_dim, a->block, a->scale);
    if (rc < 0) return rc;
    int64_t d = a->heads * a->head_dim;
    if (!span_ok(a->batch, a->nq, a->ldq, d) || !span_ok(a->batch, a->nk, a->ldk, d) || !span_ok(a->batch, a->nk, a->ldv, d) ||
        !span_ok(a->batch, a->nq, a->ldo, d))
        return JEPA_E_USE;
    const int full = a->q && a->k && a->v && a->o, half = a->q16 && a->k16 && a->v16 && a->o16;
    if ((a->q || a->k || a->v || a->o) && (a->q16 || a->k16 || a->v16 || a->o16)) return JEPA_E_USE;
    if (a->batch > 0 && a->nq > 0 && !full && !half) return JEPA_E_USE;
    if (a->cs && (a->nq != a->nk || !span_ok(a->batch, a->nq, 0, 2 * a->head_dim))) return JEPA_E_USE;
    return type_rc(a->type);
}

int check_attention_bwd(const op_attention_bwd *a) {
    int rc = !a ? JEPA_E_USE : heads_rc(a->batch, a->heads, a->nq, a->nk, a->head_dim, a->block, a->scale);
    if (rc < 0) return rc;
    int64_t d = a->heads * a->head_dim;
    if (!span_ok(a->batch, a->nq, a->ldq, d) || !span_ok(a->batch, a->nk, a->ldk, d) || !span_ok(a->batch, a->nk, a->ldv, d) ||
        !span_ok(a->batch, a->nq, a->ldo, d) || !span_ok(a->batch, a->nq, a->lddo, d) || !span_ok(a->batch, a->nq, a->lddq, d) ||
        !span_ok(a->batch, a->nk, a->lddk, d) || !span_ok(a->batch, a->nk, a->lddv, d))
        return JEPA_E_USE;
    const int any16 = a->q16 || a->k16 || a->v16 || a->o16 || a->dout16 || a->dq16 || a->dk16 || a->dv16;
    if (any16 && (a->q || a->k || a->v || a->o || a->dout || a->dq || a->dk || a->dv)) return JEPA_E_USE;
    if (a->batch > 0 && a->nq > 0 && (!a->lse || !(any16 ? a->q16 && a->k16 && a->v16 && a->o16 && a->dout16 && a->dq16
                                                         : a->q && a->k && a->v && a->o && a->dout && a->dq)))
        return JEPA_E_USE;
    if (a->batch > 0 && a->nk > 0 && !(any16 ? a->dk16 && a->dv16 : a->dk && a->dv)) return JEPA_E_USE;
    if (a->cs && (a->nq != a->nk || !span_ok(a->batch, a->nq, 0, 2 * a->head_dim))) return JEPA_E_USE;
    return type_rc(a->type);
}

int check_rope_table(const op_rope_table *a) {
    if (!a || !width_ok(a->head_dim) || !span_ok(a->n, 2, 0, a->head_dim) || (a->kind != ROPE_TILED && a->kind != ROPE_INTERLEAVED))
        return JEPA_E_USE;
    return a->n > 0 && (!a->pos || !a->cs) ? JEPA_E_USE : 0;
}

int check_rope(const op_rope *a) {
    if (!a || !width_ok(a->heads) || !width_ok(a->head_dim) || !width_ok(a->heads * a->head_dim)) return JEPA_E_USE;
    if (!span_ok(a->batch, a->n, a->ldx, a->heads * a->head_dim) || !span_ok(a->batch, a->n, 0, 2 * a->head_dim)) return JEPA_E_USE;
    return a->batch > 0 && a->n > 0 && (!a->x || !a->cs) ? JEPA_E_USE : 0;
}

static int rows_shape_ok(const op_rows *a) {
    return a && width_ok(a->d) && span_ok(a->batch, a->n_src, a->lds, a->d) && span_ok(a->batch, a->n_dst, a->ldd, a->d);
}

int check_gather_rows(const op_rows *a) {
    if (!rows_shape_ok(a)) return JEPA_E_USE;
    if (a->batch == 0 || a->n_dst == 0) return 0;
    if (!a->src || !a->dst || !a->index) return JEPA_E_USE;
    return check_index(a->index, a->batch * a->n_dst, a->n_src);
}

int check_scatter_add_rows(const op_rows *a) {
    if (!rows_shape_ok(a)) return JEPA_E_USE;
    if (a->batch == 0 || a->n_src == 0) return 0;
    if (!a->src || !a->dst || !a->index) return JEPA_E_USE;
    return check_index(a->index, a->batch * a->n_src, a->n_dst);
}

static int part_ok(int64_t off, int64_t count, int64_t n) { return off >= 0 && count >= 0 && off <= n && count <= n - off; }

int check_copy_rows(const op_rows *a) {
    if (!rows_shape_ok(a) || !part_ok(a->src_off, a->count, a->n_src) || !part_ok(a->dst_off, a->count, a->n_dst)) return JEPA_E_USE;
    return a->batch > 0 && a->count > 0 && (!a->src || !a->dst) ? JEPA_E_USE : 0;
}

int check_broadcast_row(const op_rows *a) {
    if (!a || !width_ok(a->d) || !span_ok(a->batch, a->n_dst, a->ldd, a->d) || !part_ok(a->dst_off, a->count, a->n_dst)) return JEPA_E_USE;
    return a->batch > 0 && a->count > 0 && (!a->src || !a->dst) ? JEPA_E_USE : 0;
}

int check_sum_rows(const op_rows *a) {
    if (!a || !width_ok(a->d) || !span_ok(a->batch, a->n_src, a->lds, a->d) || !part_ok(a->src_off, a->count, a->n_src)) return JEPA_E_USE;
    return a->batch > 0 && a->count > 0 && (!a->src || !a->dst) ? JEPA_E_USE : 0;
}

int check_tubelets(const op_tubelets *a) {
    if (!a || !count_ok(a->batch) || !width_ok(a->channels) || !width_ok(a->frames) || !width_ok(a->height) || !width_ok(a->width))
        return JEPA_E_USE;
    if (a->tubelet < 1 || a->tubelet > a->frames || a->patch < 1 || a->patch > a->height || a->patch > a->width) return JEPA_E_USE;
    /* The clip's own size bounds the rows too, unless a keep list repeats tokens. */
    int64_t pixels, row;
    if (__builtin_mul_overflow(a->height, a->width, &pixels) || __builtin_mul_overflow(pixels, a->frames, &pixels) ||
        __builtin_mul_overflow(pixels, a->channels, &pixels) || !span_ok(a->batch, 1, 0, 1) || pixels > MAX_BYTES / 8 ||
        (a->batch > 0 && pixels > MAX_BYTES / 8 / a->batch))
        return JEPA_E_USE;
    row = a->channels * a->tubelet * a->patch * a->patch;
    if (a->keep && !span_ok(a->batch, a->n_keep, 0, row)) return JEPA_E_USE;
    dtype type = a->type == T_NONE ? T_F32 : a->type;
    if (type != T_F32 && type != T_U8) return JEPA_E_UNSUPPORTED;
    if (a->batch == 0 || (a->keep && a->n_keep == 0)) return 0;
    if (!a->x || !one(a->y, a->y16)) return JEPA_E_USE;
    if (type == T_U8) {
        if (!a->mean || !a->std) return JEPA_E_USE;
        for (int64_t c = 0; c < a->channels; c++)
            if (!isfinite(a->mean[c]) || !isfinite(a->std[c]) || !(a->std[c] > 0)) return JEPA_E_USE;
    }
    if (a->keep) return check_index(a->keep, a->batch * a->n_keep, a->frames / a->tubelet * (a->height / a->patch) * (a->width / a->patch));
    return 0;
}

int check_loss(const op_loss *a) {
    if (!a || !width_ok(a->d) || !span_ok(a->rows, 1, 0, a->d) || !isfinite(a->scale)) return JEPA_E_USE;
    if (a->kind != LOSS_SMOOTH_L1 && (a->kind != LOSS_POWER || !isfinite(a->p) || a->p <= 0)) return JEPA_E_USE;
    return a->rows > 0 && (!a->z || !a->h || !a->loss) ? JEPA_E_USE : 0;
}

/* grad_scale 0 is a forgotten field: it would throw the gradient away without a word. */
int check_adamw(const op_adamw *a) {
    if (!a || !count_ok(a->n) || a->step < 1 || !isfinite(a->lr) || !isfinite(a->wd) || !isfinite(a->grad_scale) || a->grad_scale == 0)
        return JEPA_E_USE;
    if (!(a->beta1 >= 0 && a->beta1 < 1) || !(a->beta2 >= 0 && a->beta2 < 1) || !isfinite(a->eps) || a->eps < 0) return JEPA_E_USE;
    if ((a->target16 && !a->target) || (a->target && !(a->momentum >= 0 && a->momentum <= 1))) return JEPA_E_USE;
    return a->n > 0 && (!a->param || !a->grad || !a->m || !a->v) ? JEPA_E_USE : 0;
}

int check_ema(const op_ema *a) {
    if (!a || !count_ok(a->n) || !(a->momentum >= 0 && a->momentum <= 1)) return JEPA_E_USE;
    return a->n > 0 && (!a->target || !a->source) ? JEPA_E_USE : 0;
}

int check_sqnorm(const op_sqnorm *a) { return !a || !count_ok(a->n) || (a->n > 0 && (!a->x || !a->out)) ? JEPA_E_USE : 0; }

int check_axpy(const op_axpy *a) { return !a || !count_ok(a->n) || (a->n > 0 && (!a->x || !a->y)) ? JEPA_E_USE : 0; }

int check_scale(const op_scale *a) { return !a || !count_ok(a->n) || (a->n > 0 && !a->x) ? JEPA_E_USE : 0; }

int check_colstats(const op_colstats *a) {
    if (!a || !width_ok(a->d) || !span_ok(a->rows, 1, a->ldx, a->d) || !span_ok(a->d, 1, 0, a->d)) return JEPA_E_USE;
    return a->rows > 0 && (!a->x || !a->sum || !a->sumsq) ? JEPA_E_USE : 0;
}
