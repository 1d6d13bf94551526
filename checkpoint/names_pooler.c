/* names_pooler.c: the attentive pooler's and classifier's names (encoder/attentive.h) beside those of Hugging Face's
 * VJEPA2ForVideoClassification, which stand outside its "vjepa2." prefix. */
#include "checkpoint/internal.h"

/* Meta's xattn.kv has keys and values as two halves of its rows. */
const name_row ck_names_pooler[] = {
    {"pooler.query_tokens", "pooler.query_tokens", NAME_SAME},
    {"pooler.blocks.#.norm1.*", "pooler.self_attention_layers.#.layer_norm1.*", NAME_SAME},
    {"pooler.blocks.#.attn.qkv.*", "pooler.self_attention_layers.#.self_attn.q_proj.*", NAME_QUERY},
    {"pooler.blocks.#.attn.qkv.*", "pooler.self_attention_layers.#.self_attn.k_proj.*", NAME_KEY},
    {"pooler.blocks.#.attn.qkv.*", "pooler.self_attention_layers.#.self_attn.v_proj.*", NAME_VALUE},
    {"pooler.blocks.#.attn.proj.*", "pooler.self_attention_layers.#.self_attn.out_proj.*", NAME_SAME},
    {"pooler.blocks.#.norm2.*", "pooler.self_attention_layers.#.layer_norm2.*", NAME_SAME},
    {"pooler.blocks.#.mlp.fc1.*", "pooler.self_attention_layers.#.mlp.fc1.*", NAME_SAME},
    {"pooler.blocks.#.mlp.fc2.*", "pooler.self_attention_layers.#.mlp.fc2.*", NAME_SAME},
    {"pooler.cross_attention_block.norm1.*", "pooler.cross_attention_layer.layer_norm1.*", NAME_SAME},
    {"pooler.cross_attention_block.xattn.q.*", "pooler.cross_attention_layer.cross_attn.q_proj.*", NAME_SAME},
    {"pooler.cross_attention_block.xattn.kv.*", "pooler.cross_attention_layer.cross_attn.k_proj.*", NAME_KV_KEY},
    {"pooler.cross_attention_block.xattn.kv.*", "pooler.cross_attention_layer.cross_attn.v_proj.*", NAME_KV_VALUE},
    {"pooler.cross_attention_block.norm2.*", "pooler.cross_attention_layer.layer_norm2.*", NAME_SAME},
    {"pooler.cross_attention_block.mlp.fc1.*", "pooler.cross_attention_layer.mlp.fc1.*", NAME_SAME},
    {"pooler.cross_attention_block.mlp.fc2.*", "pooler.cross_attention_layer.mlp.fc2.*", NAME_SAME},
    {"linear.*", "classifier.*", NAME_SAME},
    {NULL, NULL, NAME_SAME},
};

/* Sizes of the head of a Hugging Face folder; none: all stay 0. */
int config_pooler(const ck *c, model_cfg *m, jepa_err *err) {
    const char *file = c->config_path;
    const json *labels = json_get(c->config, "id2label");
    int64_t blocks = 3, classes = 2; /* transformers' defaults */
    if (!ck_has(c, CK_POOLER)) return 0;
    int rc = json_int(c->config, "num_pooler_layers", 0, 63, &blocks, err); /* of self-attention; the cross-attention one is not counted */
    if ((!rc || rc == JEPA_E_END) && !json_is_object(labels)) rc = json_int(c->config, "num_labels", 1, 1 << 20, &classes, err);
    if (rc && rc != JEPA_E_END) return err_prefix(err, rc, "%s", file);
    if (json_is_object(labels)) classes = json_size(labels);
    if (classes < 1 || classes > 1 << 20)
        return err_set_at(err, JEPA_E_MODEL, file, -1, "%s: id2label names %lld classes", file, (long long)classes);
    m->pooler_depth = (int)blocks + 1;
    m->num_classes = (int)classes;
    m->pooler_heads = m->num_heads;
    m->pooler_eps = m->layer_norm_eps;
    m->pooler_mlp_ratio = 4; /* whatever mlp_ratio is: transformers does not hand it on to the pooler */
    return 0;
}
