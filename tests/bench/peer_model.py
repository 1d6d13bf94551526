"""A Hugging Face VJEPA2 folder of random weights, which the peers of this folder and jepa read alike."""
SIZES = {"vit_tiny": (192, 12, 3), "vit_small": (384, 12, 6), "vit_base": (768, 12, 12), "vit_large": (1024, 24, 16)}


def make(path, size, crop):
    import torch
    from transformers import VJEPA2Config, VJEPA2Model

    torch.manual_seed(0)
    dim, depth, heads = SIZES[size]
    config = VJEPA2Config(hidden_size=dim, num_hidden_layers=depth, num_attention_heads=heads, crop_size=crop, frames_per_clip=16,
                          pred_hidden_size=48, pred_num_attention_heads=2, pred_num_hidden_layers=1)
    VJEPA2Model(config).save_pretrained(path)
