#!/bin/sh
# jepa beside its peers on this machine, program after program on the same cores, and the ratios:
#     sh tests/bench/compare.sh [BUILD] [--what "encoder step"] [--models "vit_small-224 vit_base-224 vit_large-256"]
#         [--steps "vit_tiny-128-4 vit_small-224-2"] [--precision "float32 bfloat16"] [--threads "1 2"] [--rounds 3] [--runs 3]
#         [--vjepa2 CLONE] [--cores LIST] [--avx2 auto|no] [--limit SECONDS] [--with COMMAND] [--out FILE]
# The peers: transformers' VJEPA2Model and OpenVINO (encoder, one clip of 16 frames, the same folder of random weights), and Meta's published
# training step (--vjepa2: a clone of github.com/facebookresearch/vjepa2; without it no steps are compared). setup.sh makes their environment,
# JEPA_PEER names it (default BUILD/peer). The models are made once in JEPA_BENCH_DIR (default BUILD/bench, 3 GB for the three sizes).
# A round runs each program once: start, one run to warm up, --runs timed. --cores binds all to those cores (taskset), else none is bound.
# --limit cuts off a run that takes too long (bfloat16 where the processor has none); a row that fails says so and the others go on.
# --with goes before each run: "flock FILE" where others measure too, "nice", "chrt -f 1". Threads of PyTorch and OpenVINO wait by spinning: on a
# machine that others use, rows of several threads say little.
# Float32 rows are repeated with AVX2 only where the processor has more. Nothing in the tests depends on what this prints.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=build
case ${1:-} in -* | "") ;; *) build=$1 && shift ;; esac
what="encoder step" models="vit_small-224 vit_base-224 vit_large-256" steps="vit_tiny-128-4 vit_small-224-2" precisions="float32 bfloat16"
threads="1 2" rounds=3 runs=3 clone="" cores="" avx2=auto limit=600 with="" out=""
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || { echo "$1: a value is needed" >&2 && exit 2; }
    case $1 in
    --what) what=$2 ;; --models) models=$2 ;; --steps) steps=$2 ;; --precision) precisions=$2 ;; --threads) threads=$2 ;; --rounds) rounds=$2 ;;
    --runs) runs=$2 ;; --vjepa2) clone=$2 ;; --cores) cores=$2 ;; --avx2) avx2=$2 ;; --limit) limit=$2 ;; --with) with=$2 ;; --out) out=$2 ;;
    *) echo "$1: not known; see the head of $0" >&2 && exit 2 ;;
    esac
    shift 2
done
build=$(cd "$build" && pwd)
[ -x "$build/jepa" ] || { echo "$build: no jepa is built there" >&2 && exit 2; }
python=$(cd "${JEPA_PEER:-$build/peer}" && pwd)/bin/python
dir=${JEPA_BENCH_DIR:-$build/bench}
mkdir -p "$dir"
[ -n "$out" ] || out=$dir/compare.jsonl
: >"$out"
log=$dir/compare.log
: >"$log"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PYTHONDONTWRITEBYTECODE=1 TOKENIZERS_PARALLELISM=false
flags=" $(sed -n 's/^flags[^:]*: //p' /proc/cpuinfo | head -n 1) "
has() { case $flags in *" $1 "*) true ;; *) false ;; esac; }
date -u +%F
sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1
"$build/jepa" --version | head -n 2

tag() { # PROGRAM ROUND ROW: a line of JSON on the input becomes a line of the results
    sed -n "s/^{/{\"round\": $2, \"by\": \"$1\", \"row\": \"$3\", /p" | tail -n 1 >>"$out"
}
bound() { # N COMMAND…: on N threads and, where cores are named, on the first N of them
    n=$1
    shift
    if [ -n "$cores" ]; then set -- taskset -c "$(echo "$cores" | cut -d, -f "1-$n")" "$@"; fi
    # shellcheck disable=SC2086
    OMP_NUM_THREADS=$n $with timeout "$limit" "$@" 2>>"$log"
}
one() { # PROGRAM ROUND ROW N COMMAND…
    by=$1 round=$2 row=$3 n=$4
    shift 4
    lines=$(wc -l <"$out")
    bound "$n" "$@" | tag "$by" "$round" "$row" || true
    [ "$(wc -l <"$out")" -gt "$lines" ] || echo "$row: $by gave no result (limit $limit s); see $log" >&2
}
short() { [ "$1" = float32 ] && echo f32 || echo bf16; }
bf16_peers=yes # a processor without these computes bf16 by widening: OpenVINO then takes float32 whatever it is told
has avx512_bf16 || has amx_bf16 || has avx_ne_convert || bf16_peers=no

encoder_row() { # MODEL PRECISION N NAME [jepa's further options]
    model=$1 precision=$2 n=$3 name=$4
    shift 4
    k=1
    while [ "$k" -le "$rounds" ]; do
        one jepa $k "$name" "$n" "$build/jepa" bench encoder -m "$dir/$model" --precision "$(short "$precision")" --threads "$n" --repeat "$runs" --json "$@"
        one transformers $k "$name" "$n" "$python" "$here/peer_encoder.py" "$dir/$model" --precision "$precision" --threads "$n" --clips "$runs"
        case "$precision $bf16_peers $name" in
        *AVX2*) [ $k = 1 ] && echo "$name: no OpenVINO, it has no variable for AVX2 alone" ;;
        "bfloat16 no "*) [ $k = 1 ] && echo "$name: no OpenVINO, this processor has no bf16 products and it then computes in float32" ;;
        *) one openvino $k "$name" "$n" "$python" "$here/peer_encoder.py" "$dir/$model" --lib openvino --precision "$precision" --threads "$n" --clips "$runs" ;;
        esac
        k=$((k + 1))
    done
    "$python" "$here/peer_table.py" "$out" --row "$name"
}
step_row() { # SIZE-CROP-BATCH PRECISION N NAME
    size=${1%%-*} rest=${1#*-} precision=$2 n=$3 name=$4
    crop=${rest%%-*} batch=${rest#*-}
    k=1
    while [ "$k" -le "$rounds" ]; do
        one jepa $k "$name" "$n" "$build/jepa" bench step --arch "$size" --size "$crop" --frames 16 --batch "$batch" --precision "$(short "$precision")" \
            --threads "$n" --repeat "$runs" --seed "$k" --json
        like=$(tail -n 1 "$out" | sed -n "s/^{\"round\": $k, \"by\": \"jepa\", \"row\": \"$name\",.*\"context_tokens\": \([0-9]*\), \"target_tokens\": \([0-9]*\),.*/\1,\2/p")
        one vjepa2 $k "$name" "$n" "$python" "$here/peer_train.py" "$clone" --size "$size" --crop "$crop" --batch "$batch" --precision "$precision" \
            --threads "$n" --steps "$runs" --seed "$k" ${like:+--like "$like"}
        k=$((k + 1))
    done
    "$python" "$here/peer_table.py" "$out" --row "$name"
}

case " $what " in *" encoder "*)
    for model in $models; do
        [ -e "$dir/$model/config.json" ] || "$python" "$here/peer_encoder.py" --make "$dir/$model" --size "${model%-*}" --crop "${model#*-}" 2>>"$log" >>"$log"
        [ -e "$dir/$model/openvino.xml" ] || "$python" "$here/peer_encoder.py" "$dir/$model" --convert "$dir/$model/openvino.xml" 2>>"$log" >>"$log"
    done
    for model in $models; do for precision in $precisions; do for n in $threads; do encoder_row "$model" "$precision" "$n" "encoder $model $precision, $n thread(s)"; done; done; done
    case " $precisions " in *" float32 "*)
        if [ "$avx2" = no ]; then :
        elif ! has avx512f; then echo "AVX2 only: this processor has no more, the float32 rows above are those"
        elif ! "$build/jepa" bench --help 2>&1 | grep -q -- --isa; then echo "AVX2 only: omitted, jepa bench has no --isa"
        else
            for model in $models; do for n in $threads; do (
                export ONEDNN_MAX_CPU_ISA=AVX2 DNNL_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2
                encoder_row "$model" float32 "$n" "encoder $model float32 AVX2, $n thread(s)" --isa avx2
            ); done; done
        fi ;;
    esac ;;
esac
case " $what " in *" step "*)
    if [ -z "$clone" ]; then echo "training steps: omitted, --vjepa2 names no clone of the published code"
    else for size in $steps; do for precision in $precisions; do for n in $threads; do step_row "$size" "$precision" "$n" "step $size $precision, $n thread(s)"; done; done; done
    fi ;;
esac
echo
"$python" "$here/peer_table.py" "$out"
echo "each run: $out"
