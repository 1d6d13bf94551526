/* masking.c: limits, one mask group, and cutting its lists to the shortest. */
#include "masking/draw.h"

#include <string.h>

void mask_cfg_defaults(mask_cfg *c, mask_kind kind) {
    memset(c, 0, sizeof *c);
    c->kind = kind;
    c->num_blocks = 8;
    c->spatial_scale[0] = c->spatial_scale[1] = 0.15;
    c->temporal_scale[0] = c->temporal_scale[1] = 1;
    c->aspect_ratio[0] = 0.75, c->aspect_ratio[1] = 1.5;
    c->max_temporal_keep = 1;
    c->enc_mask_scale[0] = 0.85, c->enc_mask_scale[1] = 1;
    c->pred_mask_scale[0] = 0.15, c->pred_mask_scale[1] = 0.2;
    c->num_enc_masks = 1, c->num_pred_masks = 4, c->min_keep = 10;
    c->ratio = 0.9;
    c->from = 1;
}

static int grid_check(mask_grid g, jepa_err *err) {
    if (g.frames < 1 || g.rows < 1 || g.cols < 1 || g.frames > MAX_SIDE || g.rows > MAX_SIDE || g.cols > MAX_SIDE ||
        (int64_t)g.frames * g.rows > MAX_TOKENS || (int64_t)g.frames * g.rows * g.cols > MAX_TOKENS)
        return err_set(err, JEPA_E_MODEL, "masks: a grid of %dx%dx%d tokens; each side must be at least 1, all together at most %d",
                       g.frames, g.rows, g.cols, MAX_TOKENS);
    if (mask_tokens(g) < 2)
        return err_set(err, JEPA_E_MODEL,
                       "masks: a grid of 1x1x1 tokens leaves nothing to see or nothing to predict; use a larger crop, a "
                       "smaller patch or more frames");
    return 0;
}

int mask_range(const char *name, const double r[2], double low, double high, jepa_err *err) {
    if (!(r[0] > low && r[0] <= r[1] && r[1] <= high))
        return err_set(err, JEPA_E_MODEL, "masks: %s is [%g, %g]; it must rise, lie above %g and be at most %g", name, r[0], r[1], low,
                       high);
    return 0;
}

int mask_cfg_check(const mask_cfg *c, mask_grid g, jepa_err *err) {
    int rc = grid_check(g, err);
    if (rc) return rc;
    switch (c->kind) {
    case MASK_MULTIBLOCK3D:
        return mask_check_3d(c, g, err);
    case MASK_MULTIBLOCK2D:
        return mask_check_2d(c, g, err);
    case MASK_TUBE:
        return mask_check_tube(c, g, err);
    case MASK_CAUSAL:
        return mask_check_causal(c, g, err);
    }
    return err_set(err, JEPA_E_USE, "masks: kind %d is none of multiblock3d, multiblock2d, tube, causal", (int)c->kind);
}

/* ---- from marks to lists ---- */

static int count(const uint32_t *who, int tokens, uint32_t bit) {
    int n = 0;
    for (int i = 0; i < tokens; i++) n += (who[i] & bit) != 0;
    return n;
}

static int shortest(const uint32_t *who, int batch, int tokens, uint32_t bit, int best) {
    for (int b = 0; b < batch; b++) {
        int n = count(who + (size_t)b * tokens, tokens, bit);
        if (n < best) best = n;
    }
    return best;
}

/* The first n marked tokens of each sample, in index order: on a video the last frames lose most by the cut. */
static void fill(const uint32_t *who, int batch, int tokens, uint32_t bit, int n, int32_t *list) {
    for (int b = 0; b < batch; b++, who += tokens, list += n)
        for (int i = 0, k = 0; k < n; i++)
            if (who[i] & bit) list[k++] = i;
}

/* rest = all tokens that are not in list */
static void complement(const int32_t *list, int batch, int tokens, int n, int32_t *rest) {
    for (int b = 0; b < batch; b++, list += n)
        for (int i = 0, k = 0; i < tokens; i++) {
            if (k < n && list[k] == i)
                k++;
            else
                *rest++ = i;
        }
}

static int32_t *new_list(int lists, int batch, int n) {
    size_t total;
    if (size_mul((size_t)lists * (size_t)batch, (size_t)n, &total)) return NULL;
    return mem_alloc(total, sizeof(int32_t));
}

static int lists_from(mask_set **out, const mask_cfg *c, const uint32_t *who, int batch, int tokens, int num_targets, jepa_err *err) {
    int full = c && c->kind == MASK_MULTIBLOCK3D && c->full_complement;
    int pred_full = c && c->kind == MASK_MULTIBLOCK3D && !full && c->pred_full_complement; /* the first option wins, as published */
    int inv = c && c->kind == MASK_MULTIBLOCK3D && c->inv_block;
    mask_set *m = mem_alloc(1, sizeof *m);
    if (!m) goto memory;
    m->batch = batch;
    m->num_targets = num_targets;
    m->n_context = shortest(who, batch, tokens, CONTEXT_BIT, tokens);
    m->n_target = tokens;
    for (int k = 0; k < num_targets; k++) m->n_target = shortest(who, batch, tokens, (uint32_t)TARGET_BIT << k, m->n_target);
    if (c && c->kind == MASK_MULTIBLOCK3D && c->max_keep > 0 && c->max_keep < m->n_context) m->n_context = c->max_keep;
    if (full) m->n_target = tokens - m->n_context;
    if (pred_full) m->n_context = tokens - m->n_target; /* max_keep has no say here, as published */
    if (m->n_context < 1 || m->n_target < 1) {
        err_set(err, JEPA_E_MODEL, "masks: %d context and %d target tokens of %d", m->n_context, m->n_target, tokens);
        mask_free(&m);
        return JEPA_E_MODEL;
    }
    m->context = new_list(1, batch, m->n_context);
    m->target = new_list(num_targets, batch, m->n_target);
    if (!m->context || !m->target) goto memory;
    if (!pred_full) fill(who, batch, tokens, CONTEXT_BIT, m->n_context, m->context);
    if (full) {
        complement(m->context, batch, tokens, m->n_context, m->target);
    } else {
        for (int k = 0; k < num_targets; k++)
            fill(who, batch, tokens, (uint32_t)TARGET_BIT << k, m->n_target, m->target + (size_t)k * batch * m->n_target);
        if (pred_full) complement(m->target, batch, tokens, m->n_target, m->context);
    }
    if (inv) { /* the blocks are seen and what lies outside is predicted */
        int32_t *list = m->context;
        int n = m->n_context;
        m->context = m->target, m->n_context = m->n_target;
        m->target = list, m->n_target = n;
    }
    *out = m;
    return 0;
memory:
    mask_free(&m);
    return err_set(err, JEPA_E_MEMORY, "masks: no memory for the index lists of %d samples of %d tokens", batch, tokens);
}

void mask_free(mask_set **m) {
    if (!m || !*m) return;
    mem_free((*m)->context);
    mem_free((*m)->target);
    mem_free(*m);
    *m = NULL;
}

/* ---- one group ---- */

/* Block sizes come from the seed and the step only: the same for all samples, groups and generators of a step. (Published: from the
 * iteration counter, the same for all generators.) Positions: a stream of its own for each sample and generator. */
int mask_group(mask_set **out, const mask_cfg *c, mask_grid g, int batch, uint64_t seed, uint64_t step, uint32_t sample0, int generator,
               jepa_err *err) {
    uint32_t *who = NULL, *scratch = NULL;
    int size[3] = {0}, context[2] = {0}, num_targets = 1, rc = mask_cfg_check(c, g, err);
    *out = NULL;
    if (rc) return rc;
    if (batch < 1 || batch > MAX_BATCH) return err_set(err, JEPA_E_USE, "masks: a group of %d samples (1 to %d)", batch, MAX_BATCH);
    if (generator < 0 || generator >= 1 << 16) return err_set(err, JEPA_E_USE, "masks: generator %d (0 to 65535)", generator);
    int tokens = mask_tokens(g);
    rng r = rng_key(seed, step, 0, RNG_MASK_SIZE);
    double u0 = rng_unit(&r), u1 = rng_unit(&r), u2 = rng_unit(&r);
    size_t marks;
    who = size_mul((size_t)batch, (size_t)tokens, &marks) ? NULL : mem_alloc(marks, sizeof *who);
    if (!who) return err_set(err, JEPA_E_MEMORY, "masks: no memory for %d samples of %d tokens", batch, tokens);
    if (c->kind == MASK_MULTIBLOCK3D) {
        mask_block_size3d(c, g, u0, u1, u2, size);
    } else if (c->kind == MASK_MULTIBLOCK2D) {
        static const double square[2] = {1, 1};
        mask_block_size2d(c->pred_mask_scale, c->aspect_ratio, g, c->full_grid, u0, size);
        mask_block_size2d(c->enc_mask_scale, square, g, c->full_grid, u1, context);
        num_targets = c->num_pred_masks;
    } else if (c->kind == MASK_TUBE) {
        scratch = mem_alloc((size_t)g.rows * (size_t)g.cols, sizeof *scratch);
        if (!scratch) {
            rc = err_set(err, JEPA_E_MEMORY, "masks: no memory for %d columns", g.rows * g.cols);
            goto done;
        }
    }
    for (int b = 0; b < batch && rc == 0; b++) {
        uint32_t *mine = who + (size_t)b * tokens;
        r = rng_key(seed, step, sample0 + (uint32_t)b, RNG_MASK_POS | ((uint32_t)generator << 8));
        if (c->kind == MASK_MULTIBLOCK3D)
            rc = mask_draw_3d(c, g, size, &r, mine, err);
        else if (c->kind == MASK_MULTIBLOCK2D)
            rc = mask_draw_2d(c, g, size, context, &r, mine, err);
        else if (c->kind == MASK_TUBE)
            mask_draw_tube(c, g, &r, scratch, mine);
        else
            mask_draw_causal(c, g, mine);
    }
    if (rc == 0) rc = lists_from(out, c, who, batch, tokens, num_targets, err);
done:
    mem_free(scratch);
    mem_free(who);
    return rc;
}

int mask_causal(mask_set **out, mask_grid g, int batch, int from, jepa_err *err) {
    mask_cfg c;
    mask_cfg_defaults(&c, MASK_CAUSAL);
    c.from = from;
    return mask_group(out, &c, g, batch, 0, 0, 0, 0, err);
}
