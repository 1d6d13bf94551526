#!/bin/sh
# The main job, from nothing: sh demo.sh [FOLDER_OF_VIDEOS]
# Installs packages, builds, pretrains a small model on video files, looks at what it learned, embeds a real clip and draws it (demo.png).
set -eu
cd "$(dirname "$0")"
sh install.sh
out=${JEPA_DEMO_OUT:-demo-out}
generator="Unix Makefiles"
command -v ninja >/dev/null 2>&1 && generator=Ninja
echo "== building"
cmake -S . -B build -G "$generator" -DJEPA_TESTS=OFF >/dev/null
cmake --build build --parallel "$(nproc)" --target jepa | tail -n 1
jepa=$PWD/build/jepa
mkdir -p "$out"
if [ $# -gt 0 ]; then
    [ -e "$1" ] || { echo "demo.sh: $1: not found" >&2; exit 2; }
    case "$1" in /*) videos=$1 ;; *) videos=$PWD/$1 ;; esac
    echo "== pretraining on $1"
    "$jepa" train configs/own-videos.yaml --set "data.datasets=[$videos]" --out "$out/own-run"
    echo "== embedding"
    "$jepa" embed -m "$out/own-run/latest" -o "$out/own.h5" "$videos" || [ $? = 1 ]
    first=$(find "$videos" -type f \( -name '*.mp4' -o -name '*.mkv' -o -name '*.webm' -o -name '*.mov' -o -name '*.avi' \) | LC_ALL=C sort | head -n 1)
    [ -z "$first" ] || "$jepa" pca -m "$out/own-run/latest" --crop 192 -o demo.png "$first"
    "$jepa" info "$out/own-run/latest" "$out/own.h5"
    echo "embeddings: $out/own.h5 · picture: demo.png · run: $out/own-run (log.csv, checkpoints)"
    exit 0
fi
clips=${JEPA_DEMO_CLIPS:-6000}
echo "== making $clips small videos of moving digits"
[ -f "$out/digits/direction.txt" ] || "$jepa" synth moving-digits --out "$out/digits" --clips "$clips" --seed 1
[ -f "$out/probe/direction.txt" ] || "$jepa" synth moving-digits --out "$out/probe" --clips 1000 --seed 2
[ -f "$out/held-out/direction.txt" ] || "$jepa" synth moving-digits --out "$out/held-out" --clips 500 --seed 3 --held-out
echo "== pretraining without labels"
"$jepa" train configs/tiny.yaml --set "data.datasets=[$(cd "$out" && pwd)/digits/clips.txt]" --out "$out/run"
echo "== what a linear probe reads out of frozen features of digits never shown"
"$jepa" probe linear -m "$out/run/latest" --train "$out/probe/direction.txt" --test "$out/held-out/direction.txt" \
    --train "$out/probe/digit.txt" --test "$out/held-out/digit.txt"
echo "== a real clip (Big Buck Bunny, CC BY 3.0, Blender Foundation)"
"$jepa" embed -m "$out/run/latest" --crop 192 --fps 8 --pool none -o "$out/bunny.h5" examples/data/bigbuckbunny.mp4
"$jepa" pca -m "$out/run/latest" --crop 192 --fps 8 -o demo.png examples/data/bigbuckbunny.mp4
"$jepa" info "$out/run/latest" examples/data/bigbuckbunny.mp4 "$out/bunny.h5"
echo "picture: demo.png · run: $out/run (log.csv, checkpoints) · embeddings: $out/bunny.h5"
