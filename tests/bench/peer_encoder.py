"""The encoder of a Hugging Face VJEPA2 folder, timed in PyTorch or in OpenVINO: one of the programs that compare.sh runs in turn.

    peer_encoder.py --make DIR --size vit_small --crop 224      a model with random weights, as a Hugging Face folder
    peer_encoder.py MODEL --lib transformers|openvino --precision float32|bfloat16 --threads 1 --clips 3

Prints one line of JSON: milliseconds per clip (batch 1) by the wall's clock and by the process's CPU clock (of all threads), and memory.
transformers: sdpa, the encoder alone, weights cast to bfloat16 for bfloat16. OpenVINO: the same module converted (kept as
MODEL/openvino.xml with float32 weights), one stream, INFERENCE_PRECISION_HINT f32 or bf16; what the plugin really took is in "took".
"""
import argparse
import json
import os
import sys
import time

from peer_memory import memory
from peer_model import SIZES, make

def flops(dim, depth, tokens, patch):
    """Matrix products of one clip, two operations per multiply-add, as `jepa bench` counts them: no rotary, norms, softmax."""
    return 2.0 * tokens * patch * dim + depth * (24.0 * tokens * dim * dim + 4.0 * tokens * tokens * dim)


def timed(run, clips):
    """One clip to warm up, then each clip by two clocks."""
    run()
    first = memory()[1]
    wall, cpu = [], []
    for _ in range(clips):
        w, c = time.perf_counter(), time.process_time()
        run()
        wall.append(1e3 * (time.perf_counter() - w))
        cpu.append(1e3 * (time.process_time() - c))
    return wall, cpu, first


def with_transformers(o):
    import torch
    import transformers

    torch.set_num_threads(o.threads)
    model = transformers.VJEPA2Model.from_pretrained(o.model, attn_implementation="sdpa", dtype=getattr(torch, o.precision)).eval()
    c = model.config
    x = torch.randn(1, c.frames_per_clip, 3, c.crop_size, c.crop_size, generator=torch.Generator().manual_seed(0))
    x = x.to(getattr(torch, o.precision))
    with torch.inference_mode():
        result = timed(lambda: model(pixel_values_videos=x, skip_predictor=True).last_hidden_state, o.clips)
    return result, c, f"transformers {transformers.__version__}, torch {torch.__version__}", o.precision


def convert(folder, xml):
    import openvino as ov
    import torch
    from transformers import VJEPA2Model

    class Encoder(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(pixel_values_videos=x, skip_predictor=True).last_hidden_state

    model = VJEPA2Model.from_pretrained(folder, attn_implementation="sdpa").eval()
    c = model.config
    shape = (1, c.frames_per_clip, 3, c.crop_size, c.crop_size)
    with torch.inference_mode():
        ov.save_model(ov.convert_model(Encoder(model), example_input=torch.zeros(shape), input=[shape]), xml, compress_to_fp16=False)


def with_openvino(o):
    import numpy as np
    import openvino as ov

    xml = os.path.join(o.model, "openvino.xml")
    if not os.path.exists(xml):  # in a process of its own: the memory of a conversion is not the memory of a run
        import subprocess

        subprocess.run([sys.executable, __file__, o.model, "--convert", xml], check=True, stdout=subprocess.DEVNULL)
    config = type("config", (), json.load(open(os.path.join(o.model, "config.json"))))
    core = ov.Core()
    hint = {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16}[o.precision]
    model = core.compile_model(xml, "CPU", {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": o.threads, "NUM_STREAMS": 1,
                                            "PERFORMANCE_HINT": "LATENCY"})
    took = model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    request = model.create_infer_request()
    x = np.random.default_rng(0).standard_normal((1, config.frames_per_clip, 3, config.crop_size, config.crop_size), dtype=np.float32)
    request.set_input_tensor(ov.Tensor(x))
    took = {"f32": "float32", "bf16": "bfloat16"}.get(took, took)
    return timed(request.infer, o.clips), config, f"openvino {ov.__version__.split('-')[0]}", took


def main():
    a = argparse.ArgumentParser()
    a.add_argument("model", nargs="?"), a.add_argument("--lib", default="transformers", choices=["transformers", "openvino"])
    a.add_argument("--precision", default="float32", choices=["float32", "bfloat16"]), a.add_argument("--threads", type=int, default=1)
    a.add_argument("--clips", type=int, default=3), a.add_argument("--make"), a.add_argument("--convert")
    a.add_argument("--size", default="vit_small", choices=SIZES), a.add_argument("--crop", type=int, default=224)
    o = a.parse_args()
    if o.make:
        return make(o.make, o.size, o.crop)
    if o.convert:
        return convert(o.model, o.convert)
    (wall, cpu, first), c, version, took = (with_transformers if o.lib == "transformers" else with_openvino)(o)
    tokens = (c.frames_per_clip // c.tubelet_size) * (c.crop_size // c.patch_size) ** 2
    print(json.dumps({"program": o.lib, "version": version, "precision": o.precision, "took": took, "threads": o.threads, "tokens": tokens,
                      "flops": flops(c.hidden_size, c.num_hidden_layers, tokens, c.tubelet_size * c.patch_size**2 * 3),
                      "wall_ms": wall, "cpu_ms": cpu, "after_first_bytes": first, "peak_bytes": memory()[0]}))


main()
