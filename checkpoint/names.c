/* names.c: what the same tensor is called in which file, as tables, and the family's published sizes. */
#include "checkpoint/internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Hugging Face keeps query, key and value apart; Meta's attn.qkv has them as three thirds of its rows. */
const name_row ck_names_encoder[] = {
    {"patch_embed.proj.*", "encoder.embeddings.patch_embeddings.proj.*", NAME_SAME},
    {"blocks.#.norm1.*", "encoder.layer.#.norm1.*", NAME_SAME},
    {"blocks.#.attn.qkv.*", "encoder.layer.#.attention.query.*", NAME_QUERY},
    {"blocks.#.attn.qkv.*", "encoder.layer.#.attention.key.*", NAME_KEY},
    {"blocks.#.attn.qkv.*", "encoder.layer.#.attention.value.*", NAME_VALUE},
    {"blocks.#.attn.proj.*", "encoder.layer.#.attention.proj.*", NAME_SAME},
    {"blocks.#.norm2.*", "encoder.layer.#.norm2.*", NAME_SAME},
    {"blocks.#.mlp.fc1.*", "encoder.layer.#.mlp.fc1.*", NAME_SAME},
    {"blocks.#.mlp.fc2.*", "encoder.layer.#.mlp.fc2.*", NAME_SAME},
    {"norm.*", "encoder.layernorm.*", NAME_SAME},
    {NULL, NULL, NAME_SAME},
};

const name_row ck_names_predictor[] = {
    {"predictor_embed.*", "predictor.embeddings.predictor_embeddings.*", NAME_SAME},
    {"mask_tokens.#", "predictor.embeddings.mask_tokens", NAME_STACK}, /* [n,1,1,D] for n of [1,1,D] */
    {"predictor_blocks.#.norm1.*", "predictor.layer.#.norm1.*", NAME_SAME},
    {"predictor_blocks.#.attn.qkv.*", "predictor.layer.#.attention.query.*", NAME_QUERY},
    {"predictor_blocks.#.attn.qkv.*", "predictor.layer.#.attention.key.*", NAME_KEY},
    {"predictor_blocks.#.attn.qkv.*", "predictor.layer.#.attention.value.*", NAME_VALUE},
    {"predictor_blocks.#.attn.proj.*", "predictor.layer.#.attention.proj.*", NAME_SAME},
    {"predictor_blocks.#.norm2.*", "predictor.layer.#.norm2.*", NAME_SAME},
    {"predictor_blocks.#.mlp.fc1.*", "predictor.layer.#.mlp.fc1.*", NAME_SAME},
    {"predictor_blocks.#.mlp.fc2.*", "predictor.layer.#.mlp.fc2.*", NAME_SAME},
    {"predictor_norm.*", "predictor.layernorm.*", NAME_SAME},
    {"predictor_proj.*", "predictor.proj.*", NAME_SAME},
    {NULL, NULL, NAME_SAME},
};

const name_row ck_names_ijepa[] = {
    /* of an IJepaModel folder, which has an encoder only */
    {"pos_embed", "embeddings.position_embeddings", NAME_SAME},
    {"patch_embed.proj.*", "embeddings.patch_embeddings.projection.*", NAME_SAME},
    {"blocks.#.norm1.*", "encoder.layer.#.layernorm_before.*", NAME_SAME},
    {"blocks.#.attn.qkv.*", "encoder.layer.#.attention.attention.query.*", NAME_QUERY},
    {"blocks.#.attn.qkv.*", "encoder.layer.#.attention.attention.key.*", NAME_KEY},
    {"blocks.#.attn.qkv.*", "encoder.layer.#.attention.attention.value.*", NAME_VALUE},
    {"blocks.#.attn.proj.*", "encoder.layer.#.attention.output.dense.*", NAME_SAME},
    {"blocks.#.norm2.*", "encoder.layer.#.layernorm_after.*", NAME_SAME},
    {"blocks.#.mlp.fc1.*", "encoder.layer.#.intermediate.dense.*", NAME_SAME},
    {"blocks.#.mlp.fc2.*", "encoder.layer.#.output.dense.*", NAME_SAME},
    {"norm.*", "layernorm.*", NAME_SAME},
    {NULL, NULL, NAME_SAME},
};

const name_row *names_of(ck_module m) {
    return m == CK_PREDICTOR ? ck_names_predictor : m == CK_POOLER ? ck_names_pooler : ck_names_encoder;
}

int name_part(name_how how, int *of) {
    *of = how >= NAME_QUERY && how <= NAME_VALUE ? 3 : how == NAME_KV_KEY || how == NAME_KV_VALUE ? 2 : 1;
    return *of == 3 ? how - NAME_QUERY : *of == 2 ? how - NAME_KV_KEY : 0;
}

const char *module_name(ck_module m) {
    return m == CK_PREDICTOR ? "predictor" : m == CK_TARGET ? "target_encoder" : m == CK_POOLER ? "pooler" : "encoder";
}

int name_match(const char *pattern, const char *name, int *number, const char **rest) {
    *number = -1;
    *rest = "";
    for (; *pattern; pattern++) {
        if (*pattern == '#') {
            if (*name < '0' || *name > '9' || (*name == '0' && name[1] >= '0' && name[1] <= '9')) return 0;
            int n = 0;
            for (; *name >= '0' && *name <= '9'; name++) {
                if (n > 9999) return 0;
                n = n * 10 + (*name - '0');
            }
            *number = n;
        } else if (*pattern == '*') {
            *rest = name;
            return !strcmp(name, "weight") || !strcmp(name, "bias");
        } else if (*pattern != *name++) {
            return 0;
        }
    }
    return !*name;
}

int name_make(const char *pattern, int number, const char *rest, char *out, size_t size) {
    size_t n = 0;
    for (; *pattern && n < size; pattern++) {
        int k = *pattern == '#'   ? snprintf(out + n, size - n, "%d", number)
                : *pattern == '*' ? snprintf(out + n, size - n, "%s", rest)
                                  : snprintf(out + n, size - n, "%c", *pattern);
        n += k > 0 ? (size_t)k : 0;
    }
    return n < size ? 0 : JEPA_E_USE;
}

static const struct variant {
    const char *name;
    int dim, depth, heads;
    double ratio;
} VARIANTS[] = {
    {"vit_tiny", 192, 12, 3, 4.0},
    {"vit_small", 384, 12, 6, 4.0},
    {"vit_base", 768, 12, 12, 4.0},
    {"vit_large", 1024, 24, 16, 4.0},
    {"vit_huge", 1280, 32, 16, 4.0},
    {"vit_giant_xformers", 1408, 40, 22, 48.0 / 11},
    {"vit_gigantic_xformers", 1664, 48, 26, 64.0 / 13},
    {"vit_giant", 1408, 40, 16, 48.0 / 11}, /* I-JEPA's */
};
enum { N_VARIANTS = sizeof VARIANTS / sizeof *VARIANTS };

const char *ck_variant(int dim, int depth, int heads, double ratio) {
    for (int i = 0; i < N_VARIANTS; i++) {
        const struct variant *v = &VARIANTS[i];
        if (v->dim == dim && v->depth == depth && v->heads == heads && fabs(v->ratio - ratio) < 1e-3) return v->name;
    }
    return "";
}

int ck_variant_size(const char *name, int *dim, int *depth, int *heads, double *ratio) {
    for (int i = 0; i < N_VARIANTS; i++)
        if (!strcmp(VARIANTS[i].name, name)) {
            *dim = VARIANTS[i].dim, *depth = VARIANTS[i].depth, *heads = VARIANTS[i].heads, *ratio = VARIANTS[i].ratio;
            return 1;
        }
    return 0;
}

int ck_variant_heads(int dim, int depth, const char *family) {
    int heads = 0;
    for (int i = 0; i < N_VARIANTS; i++) /* giant is there twice: I-JEPA's stands last */
        if (VARIANTS[i].dim == dim && VARIANTS[i].depth == depth && (!heads || !strcmp(family, "ijepa"))) heads = VARIANTS[i].heads;
    return heads;
}

double ck_ratio(int64_t hidden, int64_t dim) {
    double r = (double)hidden / (double)dim;
    while ((int64_t)floor((double)dim * r) < hidden) r = nextafter(r, 1e9);
    return r;
}
