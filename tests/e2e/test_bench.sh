#!/bin/sh
# jepa bench on tiny shapes: every part runs, its JSON has its fields, the arithmetic counted is that of the shape. No time is judged.
. "$2/tests/e2e/lib.sh"

field() { sed -n "${3:-1}p" "$1" | sed -n "s/.*\"$2\": \([^,}]*\).*/\1/p"; } # FILE NAME [LINE]
number() { # FILE NAME [LINE]: is there, and above zero
    v=$(field "$@")
    awk -v v="$v" 'BEGIN { exit !(v ~ /^[0-9.e+-]+$/ && v + 0 > 0) }' || fail "$2 is '$v' in: $(sed -n "${3:-1}p" "$1")"
}
tiny="--arch vit_tiny --size 64x48 --frames 4 --product 32x32x32 --repeat 2 --threads 1 --quiet"

# ---- each part ----
# shellcheck disable=SC2086
run 0 "$JEPA" bench encoder predictor products --json $tiny && {
    equal "$(wc -l <out | tr -d ' ')" 8 "lines of encoder, predictor and six products"
    for line in 1 2; do
        for name in threads frames height width batch tokens runs seconds seconds_q1 seconds_q3 seconds_min seconds_max seconds_mean cpu_seconds clips_per_second \
            gflop gflops peak_gflops share_of_peak weight_bytes working_bytes rss_first_bytes rss_bytes rss_anon_bytes rss_file_bytes peak_bytes; do
            number out $name $line
        done
    done
    equal "$(field out bench)" '"encoder"'
    equal "$(field out precision)" '"f32"'
    equal "$(field out runs)" 2
    equal "$(field out tokens)" 24 "tokens of 2 x 4 x 3"
    # n = 24 tokens of 192 channels: patches 2·n·1536·192, 12 blocks of 24·n·192² (products) and 4·n²·192 (attention)
    equal "$(field out gflop)" 0.27426816 "GFLOP of the encoder"
    number out context_tokens 2
    number out target_tokens 2
    # predictor of n = k + m tokens, 384 wide: 2·k·192·384 + 12·(24·n·384² + 4·n²·384) + 2·m·384·192
    k=$(field out context_tokens 2) m=$(field out target_tokens 2)
    want=$(awk -v k="$k" -v m="$m" 'BEGIN { n = k + m; printf "%.9f", (2*k*192*384 + 12*(24*n*384*384 + 4*n*n*384) + 2*m*384*192) / 1e9 }')
    equal "$(printf %.9f "$(field out gflop 2)")" "$want" "GFLOP of the predictor"
    equal "$(field out gflop 3)" 6.5536e-05 "GFLOP of the large product"
    equal "$(field out bench 4)" '"product qkv 24x192x576"'
    equal "$(field out gflop 4)" 0.005308416 "GFLOP of qkv"
}
# shellcheck disable=SC2086
run 0 "$JEPA" bench step --json $tiny --batch 2 --profile && {
    for name in tokens context_tokens target_tokens seconds gflop gflops share_of_peak weight_bytes peak_bytes; do number out $name; done
    equal "$(field out batch)" 2
    for op in adamw "attention_bwd rotary" "linear_bwd 192 > 576 dx dw" loss layernorm; do says out "\"name\": \"$op\""; done
}
run 0 "$JEPA" bench step "$SRC/configs/tiny.yaml" --set data.batch_size=2 --json --repeat 1 --threads 1 --product 32x32x32 --quiet && {
    equal "$(field out batch)" 2
    equal "$(field out tokens)" 128 "tokens of the configuration's clips"
    equal "$(field out model)" '"custom"'
    equal "$(field out runs)" 1
}
digits d 3
# shellcheck disable=SC2086
run 0 "$JEPA" bench decode feed --json $tiny --size 32 --workers 1 --batch 2 d/clips && {
    equal "$(field out bench 1)" '"decode"'
    equal "$(field out batch 1)" 3 "clips decoded a run"
    number out frames_decoded_per_second 1
    equal "$(field out bench 2)" '"feed"'
    number out clips_per_second 2
    grep -q '"gflop' out && fail "decoding has no arithmetic rate: $(cat out)"
}
# shellcheck disable=SC2086
run 0 "$JEPA" bench feed decode $tiny --size 32 --batch 1 # videos of its own
ls "${TMPDIR:-/tmp}"/jepa-bench-*.mp4 >/dev/null 2>&1 && fail "the video that was made is still there"

# ---- with a model; accuracy; the table ----
model m
run 0 "$JEPA" bench encoder predictor -m m/latest --json --repeat 2 --product 32x32x32 --quiet && {
    equal "$(field out tokens)" 128 "tokens of the model's clips"
    number out seconds 2
}
run 0 "$JEPA" bench step -m m/latest --batch 3 --json --repeat 1 --product 32x32x32 --quiet --size 144 --frames 2 && {
    equal "$(field out batch)" 3
    equal "$(field out tokens)" 144 "tokens of 1 x 12 x 12 patches of the model"
}
run 0 "$JEPA" bench --accuracy -m m/latest --json --quiet --batch 2 m.data/clips/000000.mp4 m.data/clips/000001.mp4 && {
    equal "$(field out bench)" '"accuracy"'
    equal "$(field out tokens)" 256 "tokens compared"
    for name in cosine_token_mean cosine_token_worst cosine_pooled_mean cosine_pooled_worst; do # float32 beside itself: 1 but for the sums' roundings
        awk -v v="$(field out $name)" 'BEGIN { exit !(v > 1 - 1e-12 && v < 1 + 1e-12) }' || fail "$name: $(field out $name)"
    done
}
# shellcheck disable=SC2086
run 0 "$JEPA" bench encoder --accuracy --profile $tiny && {
    says out "GFLOP/s"
    says out "^encoder "
    says out "attention"
    says out "cosine: tokens 1.0000000"
}

# shellcheck disable=SC2086
run 0 "$JEPA" bench encoder --isa portable --json $tiny && says out "portable kernels"

# shellcheck disable=SC2086
run 0 "$JEPA" bench encoder step products --accuracy --precision bf16 --json $tiny && {
    equal "$(field out precision 1)" '"bf16"'
    equal "$(field out precision 2)" '"bf16"'
    equal "$(field out precision 3)" '"bf16"'
    equal "$(field out bench 9)" '"accuracy"'
    # each rounding to bf16 is off by 2^-9 at most; a hundred of them one after the other, with random signs, leave an angle of some hundredths: its
    # cosine is above 0.999. And not all the same as in float32: something was rounded.
    less 0.999 "$(field out cosine_token_worst 9)" "worst cosine of bf16"
    less "$(field out cosine_token_mean 9)" 0.9999999 "mean cosine of bf16"
}
run 0 "$JEPA" bench step "$SRC/configs/tiny.yaml" --set data.batch_size=2 --set meta.dtype=bfloat16 --json --repeat 1 --threads 1 --product 32x32x32 --quiet &&
    equal "$(field out precision)" '"bf16"' "the configuration's precision"

# ---- wrong use ----
error 2 "what is to be measured" "$JEPA" bench
error 2 "fly: nothing that is measured" "$JEPA" bench fly
error 2 "size 4x: 2 whole numbers" "$JEPA" bench encoder --size 4x
error 2 "product 4x4: 3 whole numbers" "$JEPA" bench encoder --product 4x4
error 2 "multiples of" "$JEPA" bench encoder --size 40
error 3 "not known" "$JEPA" bench encoder --arch vit_none
error 2 "precision f8" "$JEPA" bench encoder --precision f8
error 2 "instruction set z80" "$JEPA" bench encoder --isa z80
error 4 "none.mp4: not found" "$JEPA" bench decode none.mp4
error 4 "none" "$JEPA" bench encoder -m none

# ---- an interrupt ends it ----
"$JEPA" bench encoder --arch vit_tiny --size 32 --frames 2 --seconds 1000 --threads 1 >out 2>err &
pid=$!
sleep 1
kill -INT $pid
wait $pid
equal $? 130 "exit code after an interrupt"
finish
