/* meta_config.c: the sizes of a model from its tensors, its family from what is there, and what no tensor tells from a hint or a table.
 *
 * Family: a 2-D patch embedding is I-JEPA; norms_block, a patch embedding for images or modality vectors are V-JEPA 2.1; action_encoder in
 * the predictor is V-JEPA 2-AC. V-JEPA 1 and V-JEPA 2 have the same tensors but for the position tables, and files of V-JEPA 2 may hold
 * tables too, which its rotary positions do not use. So a file is V-JEPA 1 when its pos_embed is a sin-cos table and either the predictor
 * has one too and fewer than the 10 mask tokens of V-JEPA 2's files, or (an encoder alone) grid and width are those of a published V-JEPA 1
 * model. Everything else with a 3-D patch embedding is V-JEPA 2. A family that is given (hints) wins. */
#include "checkpoint/internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct sizes {
    ck *c;
    const meta_hints *h;
    model_cfg *m;
    const char *encoder; /* the module that sizes are read from: "target_encoder", else "encoder"; NULL: there is none */
    int predictor;
    jepa_err *err;
} sizes;

static const ck_tensor *get(const sizes *s, const char *module, const char *name) {
    char whole[300];
    return snprintf(whole, sizeof whole, "%s.%s", module, name) < (int)sizeof whole ? ck_find(s->c, whole) : NULL;
}

static int refuse(const sizes *s, const char *module, const char *name, const char *why) {
    return err_set_at(s->err, JEPA_E_MODEL, s->c->path, -1, "%s: %s: %s: %s", s->c->path, module, name, why);
}

/* The tensor of that rank, its dimensions in range; 0: not there. */
static const ck_tensor *ranked(const sizes *s, const char *module, const char *name, int rank, int *rc) {
    const ck_tensor *t = get(s, module, name);
    char why[300], dims[200];
    if (!t) return NULL;
    int ok = t->rank == rank;
    for (int i = 0; i < t->rank; i++) ok = ok && t->dim[i] >= 1 && t->dim[i] <= 1 << 20;
    if (ok) return t;
    shape_text(dims, sizeof dims, t->rank, t->dim);
    snprintf(why, sizeof why, "has shape %s; %d dimensions of at least 1 were expected", dims, rank);
    *rc = refuse(s, module, name, why);
    return NULL;
}

/* One more than the highest number of "blocks.#.…" (which may have holes: ck_load names what is missing). */
static int count(const sizes *s, const char *module, const char *pattern) {
    int most = 0;
    size_t n = strlen(module);
    for (int i = 0; i < s->c->n; i++) {
        const char *name = s->c->tensor[i].name, *rest;
        int k;
        if (!strncmp(name, module, n) && name[n] == '.' && name_match(pattern, name + n + 1, &k, &rest) && k >= most) most = k + 1;
    }
    return most;
}

static int mlp(const sizes *s, const char *module, const char *pattern, int depth, int dim, double *ratio) {
    char name[128];
    int rc = 0;
    *ratio = 4;
    for (int i = 0; i < depth; i++) { /* the first that is there: others may be missing */
        name_make(pattern, i, "", name, sizeof name);
        const ck_tensor *t = ranked(s, module, name, 2, &rc);
        if (rc) return rc;
        if (!t) continue;
        *ratio = ck_ratio(t->dim[0], dim);
        return *ratio <= 64 && *ratio >= 0.01
                   ? 0
                   : refuse(s, module, name, "a hidden width of more than 64 times, or less than a hundredth of, the model's");
    }
    return 0;
}

/* A few tensors with large numbers in their names or shapes must not make a model that memory is then asked for: at least half of what its
 * blocks hold must be there. (Which tensors are missing, ck_load says.) */
static int enough(const sizes *s, const char *module, int depth, double dim, double ratio) {
    double need = depth * (4 * dim * dim + 2 * dim * floor(dim * ratio)), have = 0;
    size_t n = strlen(module);
    if (need < 1 << 20) return 0;
    for (int i = 0; i < s->c->n; i++) {
        const ck_tensor *t = &s->c->tensor[i];
        double values = 1;
        if (strncmp(t->name, module, n) || t->name[n] != '.') continue;
        for (int k = 0; k < t->rank; k++) values *= (double)t->dim[k];
        have += values;
    }
    if (have * 2 >= need) return 0;
    return err_set_at(s->err, JEPA_E_MODEL, s->c->path, -1,
                      "%s: %s: its names and shapes are those of %d blocks of width %.0f with %.4g values, and %.4g are there", s->c->path,
                      module, depth, dim, need, have);
}

/* What a configuration says of a dimension that the file has otherwise: both shapes. */
static int differs(const sizes *s, const char *module, const char *name, const ck_tensor *t, int axis, int axis2, int64_t should,
                   const char *who) {
    char is[200], want[200], why[500];
    int64_t dim[8];
    memcpy(dim, t->dim, sizeof dim);
    dim[axis] = should;
    if (axis2 >= 0) dim[axis2] = should;
    shape_text(is, sizeof is, t->rank, t->dim);
    shape_text(want, sizeof want, t->rank, dim);
    snprintf(why, sizeof why, "has shape %s in the file, %s by %s", is, want, who);
    return refuse(s, module, name, why);
}

/* ---- position tables ---- */

typedef struct table { /* a sin-cos table taken apart */
    int rows, cols, depth, uniform;
} table;

static float at(const ck_tensor *t, int64_t row, int64_t channel) {
    pt_tensor v = {.type = t->type, .rank = 0};
    float x = NAN;
    v.data = (const char *)t->data + (size_t)(row * t->stride[1] + channel * t->stride[2]) * dtype_size(t->type);
    return pt_copy_f32(&v, &x) ? NAN : x;
}

/* first row in which that channel (a sine of frequency 1) is not what it is in the first: the length of what runs inside that axis */
static int64_t first_change(const ck_tensor *t, int64_t channel) {
    int64_t i = 1;
    while (i < t->dim[1] && fabsf(at(t, i, channel)) < 1e-3f) i++;
    return i;
}

/* Position 0 is sin 0 … and cos 0 …: zeros, then ones, for each axis. The lengths of the runs are the axes' channels, and the rows where
 * the first sine of an axis changes are the grid. */
static int take_apart(const ck_tensor *t, int image, table *out) {
    int64_t d = t->dim[2], zeros = 0, n = t->dim[1];
    while (zeros < d && at(t, 0, zeros) == 0) zeros++;
    if (!zeros || zeros * 2 > d) return 0;
    for (int64_t i = zeros; i < 2 * zeros; i++)
        if (at(t, 0, i) != 1) return 0;
    *out = (table){.depth = 1};
    if (image) { /* I-JEPA: columns first */
        int64_t cols = d / 2 < d ? first_change(t, d / 2) : n;
        if (zeros != d / 4 || n % cols) return 0;
        out->cols = (int)cols, out->rows = (int)(n / cols);
        return 1;
    }
    out->uniform = zeros == (d + 5) / 6 && zeros * 4 != d;
    if (!out->uniform && zeros * 4 != d) return 0;
    if (2 * zeros >= d) return 0;
    int64_t plane = first_change(t, 0), cols = first_change(t, 2 * zeros);
    if (n % plane || plane % cols) return 0;
    out->depth = (int)(n / plane), out->rows = (int)(plane / cols), out->cols = (int)cols;
    return 1;
}

/* A table that is no sin-cos one still says how many positions there are: a square grid of the usual depths. */
static int guess_grid(int64_t n, int image, table *out) {
    static const int depth[] = {8, 32, 1, 4, 16, 2};
    for (size_t i = 0; i < sizeof depth / sizeof *depth; i++) {
        int t = image ? 1 : depth[i];
        int64_t side = n % t ? 0 : (int64_t)llround(sqrt((double)(n / t)));
        if (!side || side * side * t != n || side > 4096) continue;
        *out = (table){.depth = t, .rows = (int)side, .cols = (int)side};
        return 1;
    }
    return 0;
}

/* ---- family ---- */

static int family(sizes *s, const ck_tensor *pos, const table *is) {
    model_cfg *m = s->m;
    const ck_tensor *patch = s->encoder ? get(s, s->encoder, "patch_embed.proj.weight") : NULL;
    const char *f = "vjepa2", *why = "5-D patch embedding, rotary positions";
    int predictor_table = get(s, "predictor", "predictor_pos_embed") != NULL, tokens = count(s, "predictor", "mask_tokens.#");
    if (patch && patch->rank == 4)
        f = "ijepa", why = "2-D patch embedding";
    else if (!s->encoder && get(s, "predictor", "mask_token"))
        f = "ijepa", why = "a predictor with one mask_token";
    else if (s->encoder && (count(s, s->encoder, "norms_block.#.*") || get(s, s->encoder, "patch_embed_img.proj.weight") ||
                            get(s, s->encoder, "video_mod_embed")))
        f = "vjepa21", why = "norms of levels, modality vectors or an image patch embedding";
    else if (get(s, "predictor", "action_encoder.weight"))
        f = "vjepa2ac", why = "action_encoder in the predictor";
    else if (pos && is && s->predictor && predictor_table && tokens < 10)
        f = "vjepa1", why = "sin-cos tables in encoder and predictor, fewer than 10 mask tokens";
    else if (pos && is && !s->predictor && (pos->dim[1] == 1568 || pos->dim[1] == 4608) && (pos->dim[2] == 1024 || pos->dim[2] == 1280))
        f = "vjepa1", why = "a sin-cos table of a published V-JEPA 1 size; if it is V-JEPA 2, say so (family vjepa2)";
    if (s->h->family[0])
        f = s->h->family, why = "as given";
    else if (s->h->use_rope == 0 && !strcmp(f, "vjepa2"))
        f = "vjepa1", why = "use_rope: false";
    else if (s->h->use_rope == 1 && !strcmp(f, "vjepa1"))
        f = "vjepa2", why = "use_rope: true";
    if (patch && (patch->rank == 4) != !strcmp(f, "ijepa"))
        return refuse(s, s->encoder, "patch_embed.proj.weight",
                      patch->rank == 4 ? "is for images, so the model is I-JEPA's, not what was given"
                                       : "is for clips, so the model is not I-JEPA's");
    snprintf(m->family, sizeof m->family, "%s", f);
    ck_note(s->c, "family %s: %s", f, why);
    return 0;
}

/* ---- encoder ---- */

static const struct published { /* what a name tells beside the contents: only taken where width and depth are the same */
    const char *name;
    int dim, depth, crop, frames;
} PUBLISHED[] = {
    {"vitl.pt", 1024, 24, 256, 64},
    {"vith.pt", 1280, 32, 256, 64},
    {"vitg.pt", 1408, 40, 256, 64},
    {"vitg-384.pt", 1408, 40, 384, 64},
    {"vjepa2-ac-vitg.pt", 1408, 40, 256, 64},
    {"vjepa2_1_vitb_dist_vitG_384.pt", 768, 12, 384, 64},
    {"vjepa2_1_vitl_dist_vitG_384.pt", 1024, 24, 384, 64},
    {"vjepa2_1_vitg_384.pt", 1408, 40, 384, 64},
    {"vjepa2_1_vitG_384.pt", 1664, 48, 384, 64},
};

static int grid(sizes *s, const ck_tensor *pos, const table *is) {
    model_cfg *m = s->m;
    const char *base = strrchr(s->c->path, '/'), *from = "default";
    const struct published *p = NULL;
    char text[200];
    base = base ? base + 1 : s->c->path;
    for (size_t i = 0; i < sizeof PUBLISHED / sizeof *PUBLISHED; i++)
        if (!strcmp(base, PUBLISHED[i].name) && PUBLISHED[i].dim == m->embed_dim && PUBLISHED[i].depth == m->depth) p = &PUBLISHED[i];
    int image = !strcmp(m->family, "ijepa");
    m->img_height = m->img_width = image ? 224 : 256;
    m->num_frames = image ? 1 : 16;
    if (p) m->img_height = m->img_width = p->crop, m->num_frames = p->frames, from = "published file of that name";
    table t;
    if (pos && (is ? (t = *is, 1) : guess_grid(pos->dim[1], image, &t))) {
        int64_t h = (int64_t)t.rows * m->patch_size, w = (int64_t)t.cols * m->patch_size, f = (int64_t)t.depth * m->tubelet_size;
        if (h > 65536 || w > 65536 || f > 65536) return refuse(s, s->encoder, "pos_embed", "has more positions than a picture could");
        m->img_height = (int)h, m->img_width = (int)w, m->num_frames = image ? 1 : (int)f;
        from = is ? "pos_embed" : "number of positions of pos_embed";
    } else if (pos && !m->use_rope) {
        return refuse(s, s->encoder, "pos_embed",
                      "is no sin-cos table and no square grid; the picture's size cannot be told (--config says it)");
    }
    if (s->h->crop || s->h->frames) {
        if (pos && !m->use_rope) { /* the table in the file is what the model is built with; another input size interpolates it */
            if (s->h->crop && s->h->crop != m->img_height)
                ck_note(s->c, "crop %d: the stored table is for %dx%d and will be interpolated", s->h->crop, m->img_height, m->img_width);
        } else {
            if (s->h->crop) m->img_height = m->img_width = s->h->crop;
            if (s->h->frames && !image) m->num_frames = s->h->frames;
            from = "as given";
        }
    }
    if (m->patch_size > m->img_height || m->patch_size > m->img_width || m->tubelet_size > m->num_frames)
        return err_set_at(s->err, JEPA_E_MODEL, s->c->path, -1, "%s: patches of %d frames by %d pixels do not fit into %d frames of %dx%d",
                          s->c->path, m->tubelet_size, m->patch_size, m->num_frames, m->img_height, m->img_width);
    snprintf(text, sizeof text, "%d frame%s of %dx%d pixels: %s", m->num_frames, m->num_frames == 1 ? "" : "s", m->img_height, m->img_width,
             from);
    ck_note(s->c, "%s", text);
    return 0;
}

static int levels(sizes *s) {
    static const int block[][5] = {{12, 2, 5, 8, 11}, {24, 5, 11, 17, 23}, {40, 9, 19, 29, 39}, {48, 11, 23, 37, 47}};
    model_cfg *m = s->m;
    int norms = s->encoder ? count(s, s->encoder, "norms_block.#.*") : 0, known = 0;
    m->use_rope = m->rope_interleaved = m->interpolate_rope = 1;
    m->image_patch_embed = s->encoder && get(s, s->encoder, "patch_embed_img.proj.weight") != NULL;
    m->modality_embedding = (s->encoder && get(s, s->encoder, "video_mod_embed")) || get(s, "predictor", "video_mod_embed");
    for (size_t i = 0; i < sizeof block / sizeof *block; i++)
        if (block[i][0] == m->depth && norms == 4) memcpy(m->level_block, block[i] + 1, sizeof m->level_block), known = 1;
    if (norms == 1) m->level_block[0] = m->depth - 1, known = 1;
    if (norms && !known)
        return err_set_at(
            s->err, JEPA_E_MODEL, s->c->path, -1,
            "%s: %d norms of levels in an encoder of %d blocks: which blocks they belong to is known for 4 in 12, 24, 40 or 48", s->c->path,
            norms, m->depth);
    m->level_norms = norms;
    int four = get(s, "predictor", "predictor_embed.0.weight") != NULL;
    if (s->predictor)
        m->levels = four ? norms : 1;
    else
        m->levels = m->embed_dim == 768 || m->embed_dim == 1024 ? 1 : norms; /* ViT-B and ViT-L of 2.1 are distilled students */
    ck_note(s->c, "levels %d of %d: %s; rows and columns of the rotary positions are rescaled (as trained)", m->levels, norms,
            s->predictor ? "by the predictor's embedding" : "by the width");
    return 0;
}

static int encoder(sizes *s) {
    model_cfg *m = s->m;
    const meta_hints *h = s->h;
    int rc = 0, d = 0, n = 0, heads = 0, image;
    double ratio = 0;
    table is;
    const ck_tensor *patch = get(s, s->encoder, "patch_embed.proj.weight"), *pos;
    if (!patch) return refuse(s, s->encoder, "patch_embed.proj.weight", "is missing, so the sizes cannot be told");
    image = patch->rank == 4;
    patch = ranked(s, s->encoder, "patch_embed.proj.weight", image ? 4 : 5, &rc);
    if (!patch) return rc;
    const int64_t *k = patch->dim + (image ? 2 : 3);
    if (patch->dim[0] > 65536 || patch->dim[1] > 64 || k[0] > 1024 || k[0] != k[1] || (!image && patch->dim[2] > 1024))
        return refuse(s, s->encoder, "patch_embed.proj.weight",
                      "has a shape that no patch embedding has: [width, channels, (frames,) side, side]");
    m->embed_dim = (int)patch->dim[0], m->in_chans = (int)patch->dim[1], m->patch_size = (int)k[0],
    m->tubelet_size = image ? 1 : (int)patch->dim[2];
    m->depth = count(s, s->encoder, "blocks.#.norm1.*");
    m->layer_norm_eps = h->eps > 0 ? h->eps : 1e-6;
    if (!m->depth || m->depth > 1024)
        return refuse(s, s->encoder, "blocks.0.norm1.weight", "is missing, or there are more than 1024 blocks");
    const char *who = h->arch[0] ? h->arch : "the configuration";
    if (h->patch && h->patch != m->patch_size)
        return differs(s, s->encoder, "patch_embed.proj.weight", patch, image ? 2 : 3, image ? 3 : 4, h->patch,
                       "the configuration (patch_size)");
    if (h->tubelet && !image && h->tubelet != m->tubelet_size)
        return differs(s, s->encoder, "patch_embed.proj.weight", patch, 2, -1, h->tubelet, "the configuration (tubelet_size)");
    if ((rc = mlp(s, s->encoder, "blocks.#.mlp.fc1.weight", m->depth, m->embed_dim, &m->mlp_ratio))) return rc;
    if ((rc = enough(s, s->encoder, m->depth, m->embed_dim, m->mlp_ratio))) return rc;
    pos = ranked(s, s->encoder, "pos_embed", 3, &rc);
    if (rc) return rc;
    if (pos && pos->dim[2] != m->embed_dim) return refuse(s, s->encoder, "pos_embed", "is not as wide as the patch embedding");
    int sincos = pos && take_apart(pos, image, &is);
    if ((rc = family(s, pos, sincos ? &is : NULL))) return rc;
    if (h->arch[0] && !ck_variant_size(h->arch, &d, &n, &heads, &ratio))
        ck_note(s->c, "%s: not an architecture that is known here", h->arch);
    if (h->dim) d = h->dim;
    if (h->depth) n = h->depth;
    if (d && d != m->embed_dim) return differs(s, s->encoder, "patch_embed.proj.weight", patch, 0, -1, d, who);
    if (n) m->depth = n; /* blocks that the file lacks, or has too many of, are named when it is loaded */
    m->use_rope = strcmp(m->family, "ijepa") && strcmp(m->family, "vjepa1");
    m->uniform_power = h->uniform_power >= 0 ? h->uniform_power : sincos ? is.uniform : !strcmp(m->family, "vjepa1");
    if (!strcmp(m->family, "vjepa21") && (rc = levels(s))) return rc;
    if ((rc = grid(s, pos, sincos ? &is : NULL))) return rc;
    m->num_heads = h->heads ? h->heads : heads ? heads : ck_variant_heads(m->embed_dim, m->depth, m->family);
    if (m->num_heads && m->embed_dim % m->num_heads)
        return err_set_at(s->err, JEPA_E_MODEL, s->c->path, -1, "%s: %d heads do not divide its %d channels", s->c->path, m->num_heads,
                          m->embed_dim);
    snprintf(m->variant, sizeof m->variant, "%s", ck_variant(m->embed_dim, m->depth, m->num_heads, m->mlp_ratio));
    if (m->num_heads)
        ck_note(s->c, "%d heads: %s", m->num_heads,
                h->heads        ? "as given"
                : heads         ? h->arch
                : m->variant[0] ? m->variant
                                : "by width and depth");
    else
        ck_note(s->c,
                "heads: no tensor tells their number, and a width of %d at depth %d is no published size: --heads N or --arch says it",
                m->embed_dim, m->depth);
    return 0;
}

/* ---- predictor ---- */

static int predictor(sizes *s) {
    model_cfg *m = s->m;
    const meta_hints *h = s->h;
    int rc = 0, ac = !strcmp(m->family, "vjepa2ac");
    const ck_tensor *in = ranked(s, "predictor", "predictor_embed.0.weight", 2, &rc), *to = NULL, *out = NULL;
    if (!rc) to = ranked(s, "predictor", in ? "predictor_embed.2.weight" : "predictor_embed.weight", 2, &rc);
    if (!rc) out = ranked(s, "predictor", "predictor_proj.weight", 2, &rc);
    if (rc) return rc;
    if (!to || !out)
        return refuse(s, "predictor", to ? "predictor_proj.weight" : "predictor_embed.weight", "is missing, so the sizes cannot be told");
    int64_t reads = in ? in->dim[1] : to->dim[1];
    if (!m->embed_dim) m->embed_dim = in ? (int)to->dim[1] : (int)reads;
    if (reads % m->embed_dim || reads / m->embed_dim > 4 || to->dim[0] > 65536)
        return refuse(s, "predictor", in ? "predictor_embed.0.weight" : "predictor_embed.weight",
                      "does not read tokens as wide as the encoder's");
    m->predictor_embed_dim = (int)to->dim[0];
    m->predictor_out_dim = (int)out->dim[0];
    m->predictor_levels = (int)(reads / m->embed_dim);
    m->predictor_depth = count(s, "predictor", "predictor_blocks.#.norm1.*");
    m->predictor_context_proj = get(s, "predictor", "predictor_proj_context.weight") != NULL;
    m->predictor_interpolate_rope = !strcmp(m->family, "vjepa21");
    m->num_mask_tokens = get(s, "predictor", "mask_token") ? 1 : count(s, "predictor", "mask_tokens.#");
    if (!m->predictor_depth || m->predictor_depth > 1024)
        return refuse(s, "predictor", "predictor_blocks.0.norm1.weight", "is missing, or there are more than 1024 blocks");
    if (!ac && (m->num_mask_tokens < 1 || m->num_mask_tokens > 10000)) return refuse(s, "predictor", "mask_tokens.0", "is missing");
    if ((rc =
             mlp(s, "predictor", "predictor_blocks.#.mlp.fc1.weight", m->predictor_depth, m->predictor_embed_dim, &m->predictor_mlp_ratio)))
        return rc;
    if ((rc = enough(s, "predictor", m->predictor_depth, m->predictor_embed_dim, m->predictor_mlp_ratio))) return rc;
    if (h->pred_dim && h->pred_dim != m->predictor_embed_dim)
        return differs(s, "predictor", in ? "predictor_embed.2.weight" : "predictor_embed.weight", to, 0, -1, h->pred_dim,
                       "the configuration (pred_embed_dim)");
    if (h->pred_depth) m->predictor_depth = h->pred_depth;
    if (h->mask_tokens && !ac && h->mask_tokens != m->num_mask_tokens)
        return err_set_at(s->err, JEPA_E_MODEL, s->c->path, -1, "%s: predictor: has %d mask tokens, %d by the configuration", s->c->path,
                          m->num_mask_tokens, h->mask_tokens);
    int as_encoder = !strcmp(m->family, "ijepa") || !strcmp(m->family, "vjepa1"), usual = ac ? 1024 : 384;
    m->predictor_num_heads = h->pred_heads                     ? h->pred_heads
                             : as_encoder                      ? m->num_heads
                             : m->predictor_embed_dim == usual ? (ac ? 16 : 12)
                                                               : 0;
    if (m->predictor_num_heads && m->predictor_embed_dim % m->predictor_num_heads) {
        if (h->pred_heads)
            return err_set_at(s->err, JEPA_E_MODEL, s->c->path, -1, "%s: %d heads do not divide the predictor's %d channels", s->c->path,
                              h->pred_heads, m->predictor_embed_dim);
        m->predictor_num_heads = 0;
    }
    if (m->predictor_num_heads)
        ck_note(s->c, "%d heads in the predictor: %s", m->predictor_num_heads,
                h->pred_heads ? "as given"
                : as_encoder  ? "as many as the encoder has"
                              : "as published for its width");
    else
        ck_note(s->c, "heads of the predictor: no tensor tells their number, and its width %d is no published one: --pred-heads N says it",
                m->predictor_embed_dim);
    return 0;
}

int meta_config(ck *c, const ck_hints *hints, jepa_err *err) {
    static const struct {
        const char *family, *name;
    } NAMES[] = {{"ijepa", "I-JEPA"}, {"vjepa1", "V-JEPA"}, {"vjepa2", "V-JEPA 2"}, {"vjepa21", "V-JEPA 2.1"}, {"vjepa2ac", "V-JEPA 2-AC"}};
    meta_hints h;
    sizes s = {.c = c, .h = &h, .m = &c->meta, .err = err};
    int rc = meta_hints_read(&h, hints, err);
    if (rc) return rc;
    s.encoder = ck_has(c, CK_TARGET) ? "target_encoder" : ck_has(c, CK_ENCODER) ? "encoder" : NULL;
    s.predictor = ck_has(c, CK_PREDICTOR);
    if (s.encoder) {
        rc = encoder(&s);
    } else {
        rc = family(&s, NULL, NULL);
        c->meta.use_rope = strcmp(c->meta.family, "ijepa") && strcmp(c->meta.family, "vjepa1");
        c->meta.layer_norm_eps = h.eps > 0 ? h.eps : 1e-6;
        if (!strcmp(c->meta.family, "vjepa21")) c->meta.rope_interleaved = 1;
    }
    if (!rc && s.predictor) rc = predictor(&s);
    for (size_t i = 0; !rc && i < sizeof NAMES / sizeof *NAMES; i++)
        if (!strcmp(NAMES[i].family, c->meta.family))
            snprintf(c->kind, sizeof c->kind, "%s of %s%s",
                     c->file[0].st                 ? "safetensors file"
                     : pt_is_legacy(c->file[0].pt) ? "PyTorch checkpoint (old form)"
                                                   : "PyTorch checkpoint",
                     NAMES[i].name, s.encoder ? "" : ", a predictor alone");
    return rc;
}
