#!/bin/sh
# The demo's recipe on three seeds: what a linear probe reads out of features of digits never shown, mean of three, against fixed bounds:
# direction >= 0.74 and 22 points above the untrained network, digit >= 0.40 and 12 points above (a faithful implementation's seeds spread by 0.043).
set -eu
build=$1 source=$2
jepa=$build/jepa
dir=$(mktemp -d "${TMPDIR:-/tmp}/jepa-digits-XXXXXX")
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"$jepa" synth moving-digits --out digits --clips 6000 --seed 1 --quiet
"$jepa" synth moving-digits --out probe --clips 1000 --seed 2 --quiet
"$jepa" synth moving-digits --out held-out --clips 500 --seed 3 --held-out --quiet
for s in 0 1 2; do
    "$jepa" train "$source/configs/tiny.yaml" --quiet --set data.datasets=[digits/clips.txt] --set meta.seed=$s --out run$s
    "$jepa" probe linear --quiet --json -m run$s/latest --train probe/direction.txt --test held-out/direction.txt --train probe/digit.txt --test held-out/digit.txt |
        tee -a results
done
# {"test":"direction.txt", … "pretrained":0.78,"untrained":0.50, …}
field() { grep "\"$1.txt\"" results | sed "s/.*\"$2\": *\([0-9.]*\).*/\1/"; }
mean() { field "$1" "$2" | awk '{s += $1} END {printf "%.4f", s / NR}'; }
held() { # NAME BOUND GAIN
    p=$(mean "$1" pretrained) u=$(mean "$1" untrained)
    echo "$1: pretrained $p, untrained $u, mean of $(field "$1" pretrained | wc -l) seeds"
    awk -v p="$p" -v u="$u" -v b="$2" -v g="$3" 'BEGIN {exit !(p >= b && p - u >= g)}' || { echo "below the bounds $2 and +$3"; return 1; }
}
[ "$(field direction pretrained | wc -l)" = 3 ]
held direction 0.74 0.22
held digit 0.40 0.12
