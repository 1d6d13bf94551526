#!/bin/sh
# The demo's recipe on three seeds, in float32 and in bf16: what a linear probe reads out of features of digits never shown, mean of three, against
# fixed bounds: direction >= 0.74 and 22 points above the untrained network, digit >= 0.40 and 12 points above (a faithful implementation's seeds
# spread by 0.043). bf16 reaches them too, and no less than float32 but for that spread: the difference of two means of three seeds has
# 0.043·sqrt(2/3) = 0.035, and twice that is allowed.
set -eu
build=$1 source=$2
jepa=$build/jepa
dir=$(mktemp -d "${TMPDIR:-/tmp}/jepa-digits-XXXXXX")
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"$jepa" synth moving-digits --out digits --clips 6000 --seed 1 --quiet
"$jepa" synth moving-digits --out probe --clips 1000 --seed 2 --quiet
"$jepa" synth moving-digits --out held-out --clips 500 --seed 3 --held-out --quiet
for kind in f32 bf16; do
    for s in 0 1 2; do
        "$jepa" train "$source/configs/tiny.yaml" --quiet --precision $kind --set data.datasets=[digits/clips.txt] --set meta.seed=$s --out $kind-$s
        "$jepa" probe linear --quiet --json -m $kind-$s/latest --train probe/direction.txt --test held-out/direction.txt --train probe/digit.txt --test held-out/digit.txt |
            tee -a results-$kind
    done
done
# {"test":"direction.txt", … "pretrained":0.78,"untrained":0.50, …}
field() { grep "\"$2.txt\"" "results-$1" | sed "s/.*\"$3\": *\([0-9.]*\).*/\1/"; } # PRECISION NAME FIELD
mean() { field "$1" "$2" "$3" | awk '{s += $1} END {printf "%.4f", s / NR}'; }
held() { # PRECISION NAME BOUND GAIN
    [ "$(field "$1" "$2" pretrained | wc -l)" = 3 ] || { echo "$1, $2: not three results"; return 1; }
    p=$(mean "$1" "$2" pretrained) u=$(mean "$1" "$2" untrained)
    echo "$1, $2: pretrained $p, untrained $u, mean of three seeds"
    awk -v p="$p" -v u="$u" -v b="$3" -v g="$4" 'BEGIN {exit !(p >= b && p - u >= g)}' || { echo "below the bounds $3 and +$4"; return 1; }
}
for kind in f32 bf16; do
    held $kind direction 0.74 0.22
    held $kind digit 0.40 0.12
done
for name in direction digit; do
    awk -v f="$(mean f32 $name pretrained)" -v h="$(mean bf16 $name pretrained)" 'BEGIN {exit !(h >= f - 0.07)}' || { echo "$name: bf16 is below float32 by more than seeds differ"; exit 1; }
done
