"""What a careful user of PyTorch writes to embed a list of videos: a DataLoader whose workers decode with torchcodec or PyAV, the Hugging
Face processor's transform, VJEPA2Model on batches, mean over tokens. One of two programs that embed.sh times in turn.

    peer_embed.py MODEL LIST --stride 4 --reader torchcodec|pyav --part all|decode|model --workers 2 --batch 8 --out out.npy
    peer_embed.py --make DIR --size vit_tiny --crop 128        a model with random weights, as a Hugging Face folder
"""
import argparse
import time

import numpy as np
import torch

from peer_model import make


def make_with_processor(path, size, crop):
    from transformers.models.vjepa2.video_processing_vjepa2 import VJEPA2VideoProcessor

    make(path, size, crop)
    VJEPA2VideoProcessor(crop_size=crop).save_pretrained(path)


def indices(frames, n, stride):
    """Meta's rule for one clip without randomness (evaluation): the window begins at 0."""
    span = n * stride
    if frames > span:
        i = np.linspace(0, span, num=n)
        return np.clip(i, 0, span - 1).astype(np.int64)
    i = np.linspace(0, frames, num=frames // stride)
    i = np.concatenate((i, np.ones(n - len(i)) * frames))
    return np.clip(i, 0, frames - 1).astype(np.int64)


class Clips(torch.utils.data.Dataset):
    def __init__(self, paths, crop, frames, stride, reader):
        self.paths, self.crop, self.frames, self.stride, self.reader = paths, crop, frames, stride, reader

    def __len__(self):
        return len(self.paths)

    def read(self, path):
        if self.reader == "torchcodec":
            from torchcodec.decoders import VideoDecoder

            d = VideoDecoder(path, num_ffmpeg_threads=1, seek_mode="exact")
            return d.get_frames_at(indices=indices(len(d), self.frames, self.stride).tolist()).data
        import av

        with av.open(path) as f:  # PyAV has no frame index: decode up to the last frame wanted
            s = f.streams.video[0]
            s.thread_count = 1
            want = indices(s.frames, self.frames, self.stride)
            got, last = {}, int(want.max())
            for k, frame in enumerate(f.decode(s)):
                if k in set(want.tolist()):
                    got[k] = frame.to_ndarray(format="rgb24")
                if k == last:
                    break
            return torch.from_numpy(np.stack([got[int(k)] for k in want])).permute(0, 3, 1, 2)

    def __getitem__(self, i):
        import torchvision.transforms.v2.functional as F

        x = F.resize(self.read(self.paths[i]), int(self.crop * 256 / 224), antialias=True)
        x = F.center_crop(x, self.crop).float() / 255
        return F.normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def start(_):
    torch.set_num_threads(1)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("model", nargs="?"), a.add_argument("list", nargs="?")
    a.add_argument("--make"), a.add_argument("--size", default="vit_tiny"), a.add_argument("--crop", type=int, default=128)
    a.add_argument("--stride", type=int, default=4), a.add_argument("--reader", default="torchcodec"), a.add_argument("--part", default="all")
    a.add_argument("--workers", type=int, default=2), a.add_argument("--batch", type=int, default=8), a.add_argument("--threads", type=int, default=2)
    a.add_argument("--out")
    o = a.parse_args()
    if o.make:
        return make_with_processor(o.make, o.size, o.crop)
    from transformers import VJEPA2Model

    torch.set_num_threads(o.threads)
    paths = [line.split(" ")[0].strip() for line in open(o.list) if line.strip()]
    model = VJEPA2Model.from_pretrained(o.model, attn_implementation="sdpa").eval()
    c = model.config
    clips = Clips(paths, c.crop_size, c.frames_per_clip, o.stride, o.reader)
    loader = torch.utils.data.DataLoader(clips, batch_size=o.batch, num_workers=o.workers, worker_init_fn=start, prefetch_factor=2 if o.workers else None)
    if o.part == "model":
        loader = [torch.randn(o.batch, c.frames_per_clip, 3, c.crop_size, c.crop_size)] * (len(paths) // o.batch)
    rows = []
    began = time.time()
    with torch.inference_mode():
        for x in loader:
            rows.append(x.mean((2, 3, 4)) if o.part == "decode" else model(pixel_values_videos=x, skip_predictor=True).last_hidden_state.mean(1))
    seconds, n = time.time() - began, sum(len(r) for r in rows)
    print(f"{n} clips, {seconds:.2f} s, {n / seconds:.2f} clips/s")
    if o.out:
        np.save(o.out, torch.cat(rows).numpy())


main()
