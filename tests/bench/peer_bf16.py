"""How far bfloat16 is from float64: PyTorch's own run and ours, of one Hugging Face VJEPA2 folder on one fixed clip.

    peer_bf16.py MODEL FILE [--clip build/tests/bench/clip] [--threads 2] [--seed 0]

Written to FILE (safetensors): input [1,T,3,H,W] float32; output64, transformers' in float64 (sdpa, the encoder alone); float32, bfloat16 (weights
and input cast), autocast (float32 weights under torch.autocast), as they came out, in float32. --clip: the program that runs jepa on FILE's input
in f32 and bf16 (tests/bench/clip.c). Printed, of each beside float64: relative error (Frobenius), the worst token's, and cosines of
tokens and of their mean.
An existing FILE is not computed again. In bfloat16 the published module's residual stream and rotary angles are bfloat16 too, under autocast as
well; with norms at 1 and biases at 0 the two runs are then the same.
"""
import argparse
import os
import subprocess
import tempfile


def make(model, path, threads, seed):
    import torch
    from safetensors.torch import save_file
    from transformers import VJEPA2Config, VJEPA2Model

    torch.set_num_threads(threads)

    def run(x, dtype, autocast=False):
        m = VJEPA2Model.from_pretrained(model, attn_implementation="sdpa", dtype=dtype).eval()
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            y = m(pixel_values_videos=x.to(dtype), skip_predictor=True).last_hidden_state
        return y[0].to(torch.float64 if dtype == torch.float64 else torch.float32).contiguous()

    c = VJEPA2Config.from_pretrained(model)
    shape = (1, c.frames_per_clip, 3, c.crop_size, c.crop_size)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    # smooth in space and time, of unit deviation, as pictures are rather than noise
    x = torch.nn.functional.avg_pool3d(x.transpose(1, 2), (5, 9, 9), stride=1, padding=(2, 4, 4)).transpose(1, 2)
    x = (x / x.std()).contiguous()
    save_file({"input": x, "output64": run(x, torch.float64), "float32": run(x, torch.float32), "bfloat16": run(x, torch.bfloat16),
               "autocast": run(x, torch.float32, True)}, path)


def report(name, y, want):
    import numpy as np

    y = y.astype(np.float64).reshape(want.shape)
    d = y - want
    token = np.linalg.norm(d, axis=1) / np.linalg.norm(want, axis=1)
    cos = lambda a, b: (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    c = cos(y, want)
    print(f"{name:<24} relative error {np.linalg.norm(d) / np.linalg.norm(want):.3e}, worst token {token.max():.3e}; "
          f"cosine: tokens {c.mean():.7f}, worst {c.min():.7f}, pooled {cos(y.mean(0), want.mean(0)):.8f}")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("model"), a.add_argument("file"), a.add_argument("--clip"), a.add_argument("--threads", type=int, default=2)
    a.add_argument("--seed", type=int, default=0)
    o = a.parse_args()
    if not os.path.exists(o.file):
        make(o.model, o.file, o.threads, o.seed)
    from safetensors.numpy import load_file

    t = load_file(o.file)
    for name in ("float32", "bfloat16", "autocast"):
        report("transformers " + name, t[name], t["output64"])
    for precision in ("f32", "bf16") if o.clip else ():
        with tempfile.TemporaryDirectory() as d:
            out = os.path.join(d, "out.safetensors")
            subprocess.run([o.clip, o.model, precision, o.file, out, str(o.threads)], check=True)
            report("jepa " + precision, load_file(out)["output"], t["output64"])


main()
