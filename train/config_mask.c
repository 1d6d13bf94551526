/* config_mask.c: the mask section: V-JEPA's list of generators, or I-JEPA's one map. */
#include "train/config_read.h"

#include <stdio.h>
#include <string.h>

static const char *at(char path[64], int i, const char *key) {
    if (i < 0)
        snprintf(path, 64, "mask.%s", key);
    else
        snprintf(path, 64, "mask.%d.%s", i, key);
    return path;
}

/* keys of another kind of generator would be ignored: refused, as unknown keys are */
static void refuse(cfg_reader *r, int i, const char *const *keys, const char *type) {
    char p[64];
    for (; *keys; keys++)
        if (cfg_has(r, at(p, i, *keys))) cfg_fail(r, yaml_at(r->root, p), p, "a generator of type %s does not have it", type);
}

static void read_generator(cfg_reader *r, int i, mask_cfg *m) {
    static const char *const blocks_only[] = {"num_blocks",        "spatial_scale",   "temporal_scale",       "aspect_ratio", "max_keep",
                                              "max_temporal_keep", "full_complement", "pred_full_complement", "inv_block",    NULL},
                             *const tube_only[] = {"ratio", NULL}, *const causal_only[] = {"from", NULL};
    char p[64], type[32] = "";
    cfg_text(r, at(p, i, "type"), "multiblock3d", type, sizeof type);
    if (r->rc) return;
    if (!strcmp(type, "tube")) {
        mask_cfg_defaults(m, MASK_TUBE);
        refuse(r, i, blocks_only, type);
        refuse(r, i, causal_only, type);
        cfg_double(r, at(p, i, "ratio"), NULL, 0, 1, &m->ratio);
    } else if (!strcmp(type, "causal")) {
        mask_cfg_defaults(m, MASK_CAUSAL);
        refuse(r, i, blocks_only, type);
        refuse(r, i, tube_only, type);
        cfg_int32(r, at(p, i, "from"), NULL, 1, 1 << 16, &m->from);
    } else if (!strcmp(type, "multiblock3d")) {
        mask_cfg_defaults(m, MASK_MULTIBLOCK3D);
        refuse(r, i, tube_only, type);
        refuse(r, i, causal_only, type);
        cfg_int32(r, at(p, i, "num_blocks"), NULL, 1, 1024, &m->num_blocks);
        cfg_pair(r, at(p, i, "spatial_scale"), NULL, 0, 1, m->spatial_scale);
        cfg_pair(r, at(p, i, "temporal_scale"), "[1.0, 1.0]", 0, 1, m->temporal_scale);
        cfg_pair(r, at(p, i, "aspect_ratio"), NULL, 1e-6, 1e6, m->aspect_ratio);
        cfg_double(r, at(p, i, "max_temporal_keep"), "1.0", 0, 1, &m->max_temporal_keep);
        cfg_bool(r, at(p, i, "full_complement"), "false", &m->full_complement);
        cfg_bool(r, at(p, i, "pred_full_complement"), "false", &m->pred_full_complement);
        cfg_bool(r, at(p, i, "inv_block"), "false", &m->inv_block);
        if (cfg_has(r, at(p, i, "max_keep")))
            cfg_int32(r, p, NULL, 1, 1 << 30, &m->max_keep);
        else
            cfg_at(r, p, "null");
    } else {
        cfg_fail(r, yaml_at(r->root, p), p, "%.24s is not known; known: multiblock3d, tube, causal", type);
    }
}

static void read_ijepa(cfg_reader *r, int patch, mask_cfg *m) {
    char p[64];
    int mask_patch = patch;
    mask_cfg_defaults(m, MASK_MULTIBLOCK2D);
    cfg_bool(r, at(p, -1, "allow_overlap"), "false", &m->allow_overlap);
    cfg_pair(r, at(p, -1, "aspect_ratio"), "[0.75, 1.5]", 1e-6, 1e6, m->aspect_ratio);
    cfg_pair(r, at(p, -1, "enc_mask_scale"), NULL, 0, 1, m->enc_mask_scale);
    cfg_pair(r, at(p, -1, "pred_mask_scale"), NULL, 0, 1, m->pred_mask_scale);
    cfg_int32(r, at(p, -1, "min_keep"), "10", 0, 1 << 20, &m->min_keep);
    cfg_int32(r, at(p, -1, "num_enc_masks"), "1", 1, 1, &m->num_enc_masks);
    cfg_int32(r, at(p, -1, "num_pred_masks"), "4", 1, 31, &m->num_pred_masks);
    cfg_bool(r, at(p, -1, "full_grid"), "false", &m->full_grid);
    if (cfg_has(r, at(p, -1, "patch_size"))) {
        cfg_int32(r, p, NULL, 1, 256, &mask_patch);
        if (mask_patch != patch) cfg_fail(r, yaml_at(r->root, p), p, "%d, but data.patch_size is %d", mask_patch, patch);
    }
}

void cfg_read_masks(cfg_reader *r, train_cfg *c) {
    const yaml *list = cfg_at(r, "mask", NULL);
    if (!list) return;
    if (list->kind == YAML_MAP) {
        read_ijepa(r, c->enc.patch_size, &c->mask[0]);
        c->n_masks = 1;
    } else if (list->kind != YAML_LIST || list->count < 1 || list->count > MAX_GENERATORS) {
        cfg_fail(r, list, "mask", "a list of 1 to %d generators was expected", MAX_GENERATORS);
        return;
    } else {
        c->n_masks = list->count;
        for (int i = 0; i < c->n_masks; i++) read_generator(r, i, &c->mask[i]);
    }
    if (r->rc) return;
    const mask_grid g = {c->enc.num_frames / c->enc.tubelet_size, c->enc.img_height / c->enc.patch_size,
                         c->enc.img_width / c->enc.patch_size};
    for (int i = 0; i < c->n_masks && !r->rc; i++) {
        jepa_err why = {0};
        const yaml *v = list->kind == YAML_LIST ? list->item[i] : list;
        if (mask_cfg_check(&c->mask[i], g, &why)) cfg_fail(r, v, "mask", "%s", strncmp(why.text, "masks: ", 7) ? why.text : why.text + 7);
    }
}
