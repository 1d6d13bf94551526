#!/bin/sh
# An embedding job beside a PyTorch loop on the same cores, the same frames and float32:
#     sh tests/bench/embed.sh [BUILD] [CLIPS] [ROUNDS]       JEPA_PEER names the environment that setup.sh made (default build/peer)
# 500 clips of 320x240, ViT-Ti at 16 x 128 x 128; then 16 frames out of 3,000. Both programs in turn, medians of clips/s, and their ratio.
set -eu
build=$(cd "${1:-build}" && pwd)
clips=${2:-500} rounds=${3:-3}
here=$(cd "$(dirname "$0")" && pwd)
python=$(cd "${JEPA_PEER:-$build/peer}" && pwd)/bin/python
dir=${JEPA_BENCH_DIR:-$(mktemp -d "${TMPDIR:-/tmp}/jepa-bench-XXXXXX")}
[ -n "${JEPA_BENCH_DIR:-}" ] || trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir"
cd "$dir"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
"$build/jepa" --version | head -n 2
[ -d model ] || "$python" "$here/peer_embed.py" --make model --size vit_tiny --crop 128 2>/dev/null >/dev/null
if [ ! -e clips.txt ]; then
    i=0
    while [ $i -lt "$clips" ]; do # moving pictures that differ: 90 frames, a key frame each 30
        ffmpeg -v error -y -f lavfi -i "testsrc2=s=320x240:r=30,hue=h=$((i * 7 % 360)),rotate=$((i % 13))*PI/26:c=gray,noise=alls=8:allf=t" -frames:v 90 -c:v libx264 \
            -preset veryfast -crf 23 -g 30 -pix_fmt yuv420p "c$i.mp4"
        echo "$dir/c$i.mp4" >>clips.part
        i=$((i + 1))
    done
    mv clips.part clips.txt
fi
if [ ! -e long.txt ]; then # 3,000 frames, a key frame each 250
    ffmpeg -v error -y -f lavfi -i "testsrc2=s=320x240:r=30,noise=alls=8:allf=t" -frames:v 3000 -c:v libx264 -preset veryfast -crf 23 -g 250 -pix_fmt yuv420p long.mp4
    for i in 1 2 3 4 5 6 7 8 9 10; do echo "$dir/long.mp4"; done >long.txt
fi
median() { sort -n "$1" | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
rate() { sed -n 's/.* \([0-9.]*\) clips\/s.*/\1/p'; }
ours() { # LIST STRIDE BATCH DECODERS: clips/s of the job, without the start of the program, as the peer counts
    rm -f ours.npy ours.npy.part
    "$build/tests/bench/parts" "$4" "$3" "$2" model "$1" ours.npy all | rate
}
part() { "$build/tests/bench/parts" "$4" "$3" "$2" model "$1" - "$5" | rate; }
peer() { "$python" "$here/peer_embed.py" model "$1" --stride "$2" --reader "$3" --workers "$4" --batch 8 --part "$5" --out "peer-$5.npy" 2>/dev/null | rate; }
compare() { # NAME LIST STRIDE PART READER WORKERS
    : >a && : >b
    k=0
    while [ $k -lt "$rounds" ]; do
        if [ "$4" = all ]; then ours "$2" "$3" 8 2 >>a; else part "$2" "$3" 8 2 "$4" >>a; fi
        peer "$2" "$3" "$5" "$6" "$4" >>b
        k=$((k + 1))
    done
    awk -v n="$1" -v p="$5, $6 workers" -v a="$(median a)" -v b="$(median b)" 'BEGIN {printf "%-34s jepa %8.2f clips/s   PyTorch (%s) %8.2f   ratio %.2f\n", n, a, p, b, a / b}'
}
compare "job, $clips short clips" clips.txt 4 all torchcodec 2
compare "job, $clips short clips" clips.txt 4 all torchcodec 1
compare "job, $clips short clips" clips.txt 4 all pyav 2
compare "decode only" clips.txt 4 decode torchcodec 2
compare "model only" clips.txt 4 model torchcodec 0
compare "16 of 3,000 frames" long.txt 187 all torchcodec 2
compare "16 of 3,000 frames, decode only" long.txt 187 decode torchcodec 2
"$python" - <<'P'
import numpy as np
a, b = np.load("ours.npy"), np.load("peer-all.npy")
print("largest difference of the embeddings of the last pair, relative:", float(np.abs(a - b).max() / np.abs(b).max()))
P
