#!/bin/sh
# How fast this machine trains and embeds with the demo's model: sh tests/bench/step.sh [BUILD_FOLDER]. Prints medians; needs a minute on a calm machine.
set -eu
jepa=$(cd "${1:-build}" && pwd)/jepa
source=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d "${TMPDIR:-/tmp}/jepa-bench-XXXXXX")
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"$jepa" --version | head -n 2
"$jepa" synth moving-digits --out digits --clips 512 --seed 1 --quiet
"$jepa" train "$source/configs/tiny.yaml" --quiet --set data.datasets=[digits/clips.txt] --set meta.log_every=1 --set meta.monitor_every=1000 --out run --steps 80
# columns by name; the first ten steps warm up
median() { awk -F, -v want="$1" 'NR == 1 {for (i = 1; i <= NF; i++) if ($i == want) c = i; next} NR > 11 {print $c}' run/log.csv | sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
echo "training step, 16 clips of 16x48x48: $(median step_ms) ms, of it computing $(median device_ms) ms, waiting for data $(median data_ms) ms; $(median clips_per_s) clips/s"
t0=$(date +%s.%N)
"$jepa" embed --quiet -m run/latest --batch 16 -o out.npy digits/clips.txt >/dev/null
t1=$(date +%s.%N)
echo "embedding 512 clip files, whole command: $(awk -v a="$t0" -v b="$t1" 'BEGIN {printf "%.2f s, %.0f clips/s", b - a, 512 / (b - a)}')"
