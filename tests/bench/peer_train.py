"""A training step of the published V-JEPA 2 code (github.com/facebookresearch/vjepa2, a clone of one's own), timed: a peer of compare.sh.

    peer_train.py CLONE --size vit_tiny --crop 128 --batch 4 --precision float32|bfloat16 --threads 1 --steps 3 [--seed 0] [--like 216,672]

Encoder, predictor, mask collator, optimizer and schedules are the published ones, imported from the clone; the step does what the loop of
app/vjepa/train.py does, in its order: target encoder on the whole clip and layer-norm, context encoder and predictor for each of the two
published mask generators, L1 at the masked tokens, backward, AdamW, gradients away, moving average. Differences, all in its favour: no
distributed wrapper (one process), no data loader (the clips are noise, made beforehand; their masks are drawn before the clock starts),
no activation checkpointing. bfloat16 is torch.autocast of the CPU (the published line names cuda), without a loss scaler: as on the CPU the
published one does nothing.
Prints one line of JSON: milliseconds a step by two clocks, the loss, mean context and target tokens of each generator, and memory.
"""
import argparse
import contextlib
import io
import json
import logging
import os
import sys
import time
import warnings

from peer_memory import memory

MASKS = [{"aspect_ratio": (0.75, 1.5), "num_blocks": 8, "spatial_scale": (0.15, 0.15), "temporal_scale": (1.0, 1.0), "max_temporal_keep": 1.0},
         {"aspect_ratio": (0.75, 1.5), "num_blocks": 2, "spatial_scale": (0.7, 0.7), "temporal_scale": (1.0, 1.0), "max_temporal_keep": 1.0}]


def main():
    a = argparse.ArgumentParser()
    a.add_argument("clone"), a.add_argument("--size", default="vit_tiny"), a.add_argument("--crop", type=int, default=128)
    a.add_argument("--batch", type=int, default=4), a.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    a.add_argument("--threads", type=int, default=1), a.add_argument("--steps", type=int, default=3), a.add_argument("--seed", type=int, default=0)
    a.add_argument("--like", help="CONTEXT,TARGET: tokens of all generators; the masks drawn are those nearest to it, of 200 draws")
    a.add_argument("--pred-dim", type=int, default=384), a.add_argument("--pred-depth", type=int, default=12)
    o = a.parse_args()
    sys.path.insert(0, o.clone)
    warnings.filterwarnings("ignore")
    import copy

    import torch
    import torch.nn.functional as F

    with contextlib.redirect_stdout(io.StringIO()):  # the published modules log to the standard output
        from app.vjepa.utils import init_opt, init_video_model
        from src.masks.multiseq_multiblock3d import MaskCollator
        from src.masks.utils import apply_masks

        logging.disable(logging.CRITICAL)
        torch.manual_seed(o.seed), torch.set_num_threads(o.threads)
        encoder, predictor = init_video_model(device="cpu", patch_size=16, max_num_frames=16, tubelet_size=2, model_name=o.size, crop_size=o.crop,
                                              pred_depth=o.pred_depth, pred_num_heads=12, pred_embed_dim=o.pred_dim, uniform_power=True,
                                              use_mask_tokens=True, num_mask_tokens=len(MASKS), zero_init_mask_tokens=True, use_sdpa=True, use_rope=True)
    target = copy.deepcopy(encoder)
    for p in target.parameters():
        p.requires_grad = False
    optimizer, _, scheduler, wd_scheduler = init_opt(is_anneal=False, encoder=encoder, predictor=predictor, iterations_per_epoch=300, start_lr=1e-4,
                                                     ref_lr=5.25e-4, warmup=40, num_epochs=10, wd=0.04, final_wd=0.04, final_lr=5.25e-4)
    collator = MaskCollator(MASKS, dataset_fpcs=[16], crop_size=(o.crop, o.crop), patch_size=(16, 16), tubelet_size=2)
    frames = list(range(16))
    noise = torch.Generator().manual_seed(o.seed)

    def masks(_):
        ((_, enc, pred),) = collator([(0, 0, [frames]) for _ in range(o.batch)])
        return enc, pred

    def batch(i):
        return [torch.randn(o.batch, 3, 16, o.crop, o.crop, generator=noise)], [drawn[i][0]], [drawn[i][1]]

    def step(clips, masks_enc, masks_pred):
        scheduler.step(), wd_scheduler.step()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=o.precision == "bfloat16"):
            with torch.no_grad():
                h = [F.layer_norm(hi, (hi.size(-1),)) for hi in target(clips)]
            z = predictor(encoder(clips, masks_enc), masks_enc, masks_pred)
            h = [apply_masks(hi, mi, concat=False) for hi, mi in zip(h, masks_pred)]
            pairs = [(zij, hij) for zi, hi in zip(z, h) for zij, hij in zip(zi, hi)]
            loss = sum(torch.mean(torch.abs(x - y)) for x, y in pairs) / len(pairs)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            m, k, q = 0.99925, list(target.parameters()), list(encoder.parameters())
            torch._foreach_mul_(k, m)
            torch._foreach_add_(k, q, alpha=1 - m)
        return float(loss.detach())

    # Their sizes differ from step to step: without --like those nearest to the mean of the draws, a typical step.
    drawn = [masks(i) for i in range(200)]
    size = [[sum(m.size(1) for m in side) for side in d] for d in drawn]
    want = [float(v) for v in o.like.split(",")] if o.like else [sum(s[k] for s in size) / len(size) for k in (0, 1)]
    drawn = [drawn[i] for i in sorted(range(len(drawn)), key=lambda i: abs(size[i][0] - want[0]) + abs(size[i][1] - want[1]))]
    wall, cpu, losses, sizes, first = [], [], [], [], 0
    for i in range(o.steps + 1):  # the first warms up
        x = batch(i)
        w, c = time.perf_counter(), time.process_time()
        loss = step(*x)
        if i == 0:
            first = memory()[1]
            continue
        wall.append(1e3 * (time.perf_counter() - w)), cpu.append(1e3 * (time.process_time() - c)), losses.append(loss)
        sizes.append([[e.size(1), p.size(1)] for e, p in zip(x[1][0], x[2][0])])
    mean = [[sum(s[g][k] for s in sizes) / len(sizes) for k in (0, 1)] for g in range(len(MASKS))]
    commit = os.popen(f"git -C '{o.clone}' rev-parse --short HEAD 2>/dev/null").read().strip()
    print(json.dumps({"program": "vjepa2", "version": f"vjepa2 {commit}, torch {torch.__version__}", "precision": o.precision, "threads": o.threads,
                      "batch": o.batch, "tokens": 8 * (o.crop // 16) ** 2, "masks": mean, "loss": losses[-1], "wall_ms": wall, "cpu_ms": cpu,
                      "after_first_bytes": first, "peak_bytes": memory()[0]}))


main()
