"""What test_torch_files.sh asks of torch and transformers: models made, files of ours opened and held to the ones that they came from.

    python3 torch_files.py make          the inputs: cases of .pt files, an IJepaModel folder, clips and pictures as tensors
    python3 torch_files.py same A B…     archives and folders hold the same values (names of Meta's or of Hugging Face's)
    python3 torch_files.py output INPUT FOLDER EMBEDDED…   the class's output for the input is what `jepa embed` wrote, to 1e-4
"""
import collections
import os
import sys
import zlib

import numpy as np
import torch
from safetensors.torch import load_file, save_file


def val(name, shape):
    n = int(np.prod(shape))
    a = ((zlib.crc32(name.encode()) + np.arange(n)) % 251 - 125) / 128.0  # exact in f32, bf16, f16
    return torch.tensor(a.reshape(shape), dtype=torch.float64).float()


def vit(d=48, depth=2, p=16, t=2, mlp=4):
    s = collections.OrderedDict()

    def put(k, *sh):
        s[k] = val(k, sh)

    put("patch_embed.proj.weight", d, 3, t, p, p), put("patch_embed.proj.bias", d)
    for i in range(depth):
        b = f"blocks.{i}."
        for n in ("norm1", "norm2"):
            put(b + n + ".weight", d), put(b + n + ".bias", d)
        put(b + "attn.qkv.weight", 3 * d, d), put(b + "attn.qkv.bias", 3 * d)
        put(b + "attn.proj.weight", d, d), put(b + "attn.proj.bias", d)
        put(b + "mlp.fc1.weight", mlp * d, d), put(b + "mlp.fc1.bias", mlp * d)
        put(b + "mlp.fc2.weight", d, mlp * d), put(b + "mlp.fc2.bias", d)
    put("norm.weight", d), put("norm.bias", d)
    return s


def make():
    base = vit()

    def pre(s, p):
        return collections.OrderedDict((p + k, v) for k, v in s.items())

    w = torch.nn.Linear(3, 4)
    opt = torch.optim.AdamW(w.parameters())
    w(torch.ones(1, 3)).sum().backward()
    opt.step()
    torch.save({"target_encoder": base, "epoch": 3}, "plain.pt")
    torch.save({"encoder": pre(base, "module.backbone."), "target_encoder": pre(base, "module.backbone."), "predictor": {}, "opt": opt.state_dict(), "scaler": None, "epoch": 3,
                "loss": np.float64(0.5), "lr": 1e-3}, "prefixed.pt")
    torch.save({"ema_encoder": pre({k: v.bfloat16() for k, v in base.items()}, "module.")}, "bf16.pt")
    torch.save({"target_encoder": {k: v.half() for k, v in base.items()}}, "f16.pt")
    flat = torch.cat([x.reshape(-1) for x in base.values()])
    v, o = collections.OrderedDict(), 0
    for k, x in base.items():
        v[k] = flat[o:o + x.numel()].reshape(x.shape)
        o += x.numel()
    torch.save({"target_encoder": v}, "shared.pt")
    torch.save({"target_encoder": collections.OrderedDict((k, x.t().contiguous().t() if x.ndim == 2 else x) for k, x in base.items())}, "strided.pt")
    torch.save(base, "bare.pt")
    torch.save({"target_encoder": base}, "legacy.pt", _use_new_zipfile_serialization=False)
    for protocol in (3, 4, 5):
        torch.save({"target_encoder": collections.OrderedDict((k, torch.nn.Parameter(x)) for k, x in base.items()), "rng": torch.get_rng_state(), "np": np.random.get_state()},
                   f"protocol{protocol}.pt", pickle_protocol=protocol)
    save_file({"target_encoder." + k: x for k, x in base.items()}, "base.safetensors")
    class Evil:
        def __reduce__(self):
            return os.system, ("touch ran",)
    torch.save({"target_encoder": base, "note": Evil()}, "evil.pt")

    from transformers import IJepaConfig, IJepaModel
    torch.manual_seed(0)
    m = IJepaModel(IJepaConfig(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=192, image_size=56, patch_size=14, layer_norm_eps=1e-6))
    with torch.no_grad():
        for p in m.parameters():
            p.copy_(torch.randn_like(p) * 0.1)
    m.save_pretrained("ijepa")
    os.mkdir("ijepa-bin")
    torch.save(load_file("ijepa/model.safetensors"), "ijepa-bin/pytorch_model.bin")
    with open("ijepa/config.json") as f, open("ijepa-bin/config.json", "w") as g:
        g.write(f.read())
    save_file({"pixel_values": torch.randn(3, 1, 3, 56, 56)}, "pictures.safetensors")
    save_file({"pixel_values": torch.randn(2, 4, 3, 64, 64)}, "clips.safetensors")


def flatten(path):
    """every tensor by the name it has without wrappers' prefixes"""
    if os.path.isdir(path):
        return load_file(os.path.join(path, "model.safetensors"))
    d = load_file(path) if path.endswith(".safetensors") else torch.load(path, map_location="cpu", weights_only=True)
    out = {}

    def walk(x, top):
        for k, v in x.items():
            if isinstance(v, torch.Tensor):
                assert path.endswith(".safetensors") or k.startswith("module."), k  # as the published files
                out[top + k.replace("module.", "").replace("backbone.", "")] = v
            elif isinstance(v, dict) and k != "opt":
                walk(v, k + ".")

    walk(d, "")
    return out


def same(first, *others):
    want = flatten(first)
    assert want
    for path in others:
        got = flatten(path)
        keys = set(want) & set(got) if path.endswith(".pt") and not first.endswith(".pt") else set(want) | set(got)
        assert len(keys) >= min(len(want), len(got)), (path, sorted(set(want) ^ set(got))[:4])
        for k in keys:
            assert got[k].dtype == want[k].dtype and torch.equal(got[k], want[k]), (path, k)
        print(f"{path}: {len(keys)} tensors as in {first}")


def output(inputs, *pairs):
    from transformers import AutoModel
    x = load_file(inputs)["pixel_values"]
    for folder, embedded in zip(pairs[::2], pairs[1::2]):
        m = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            if m.config.model_type == "ijepa":
                y = m(x[:, 0]).last_hidden_state
            else:
                y = m(pixel_values_videos=x, skip_predictor=True).last_hidden_state
        e = load_file(embedded)["embeddings"]
        d = (y - e).abs().max().item()
        assert y.shape == e.shape and d < 1e-4, (folder, embedded, y.shape, e.shape, d)
        print(f"{type(m).__name__} of {folder}: output within {d:.2g} of {embedded}")


{"make": make, "same": same, "output": output}[sys.argv[1]](*sys.argv[2:])
