# lib.sh: what the end-to-end scripts share. Sourced first: . "$2/tests/e2e/lib.sh". $1: build folder, $2: source folder.
set -u
BUILD=$1 SRC=$2
JEPA=$BUILD/jepa VALS=$BUILD/tests/e2e/vals
unset LC_ALL 2>/dev/null || :
WORK=$(mktemp -d "${TMPDIR:-/tmp}/jepa-e2e.XXXXXX") || exit 1
trap 'rm -rf "$WORK"' EXIT
trap 'exit 1' INT TERM
cd "$WORK" || exit 1
failures=0

fail() { # MESSAGE…: counts; the script goes on, so that one run shows all
    failures=$((failures + 1))
    echo "FAILED: $*"
}
finish() {
    [ "$failures" = 0 ] || { echo "$failures failure(s)"; exit 1; }
    echo "ok"
    exit 0
}
skip() {
    echo "skipped: $*"
    exit 77
}
need() { command -v "$1" >/dev/null 2>&1 || skip "$1 is not installed"; }
[ -x "$JEPA" ] || { echo "no $JEPA"; exit 1; }

# run CODE COMMAND…: stdout → out, stderr → err; the exit code must be CODE. A sanitizer's or shell's death is never expected.
run() {
    want=$1
    shift
    "$@" >out 2>err
    got=$?
    [ "$got" = "$want" ] || { fail "exit $got, expected $want: $*"; sed 's/^/    /' err | tail -n 15; return 1; }
    return 0
}
# error CODE TEXT COMMAND…: fails with CODE; the last line of stderr begins "jepa: " and holds TEXT (a basic regular expression)
error() {
    code=$1 text=$2
    shift 2
    run "$code" "$@" || return 1
    tail -n 1 err | grep -q "^jepa: " || { fail "no line 'jepa: …' last: $* → $(tail -n 1 err)"; return 1; }
    tail -n 1 err | grep -q -- "$text" || { fail "the message lacks '$text': $* → $(tail -n 1 err)"; return 1; }
    return 0
}
says() { grep -q -- "$2" "$1" || fail "$1 lacks '$2': $(tail -n 3 "$1")"; } # FILE TEXT
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }
equal() { [ "$1" = "$2" ] || fail "${3:-value}: got '$1', expected '$2'"; } # GOT WANTED WHAT
less() { # A B WHAT: A < B as numbers (words such as nan are no numbers: a failure)
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a ~ /^[0-9.]/ && a + 0 < b + 0) }' || fail "${3:-value}: $1 is not below $2"
}

# ---- data ----
digits() { "$JEPA" synth moving-digits --out "$1" --clips "$2" --seed "${3:-1}" --quiet >/dev/null || fail "synth"; } # DIR CLIPS [SEED]

numbered() { # FILE: 60 frames, frame n has luma 16 + 3n: a picture tells its own number
    ffmpeg -v error -y -f lavfi -i "color=c=black:s=320x240:r=30:d=2,format=yuv420p,geq=lum='16+3*N':cb=128:cr=128" -c:v libx264 -crf 4 -g 12 -bf 2 \
        -pix_fmt yuv420p -colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv "$1" || skip "ffmpeg cannot make the numbered clip"
}
bad_files() { # in the working folder: six files that cannot be read (missing.mp4 is the sixth), and trunc.mp4, which ends early
    : >empty.mp4
    echo "not a video" >text.mp4
    ffmpeg -v error -y -f lavfi -i "sine=d=1" -c:a aac audio.mp4
    ffmpeg -v error -y -f lavfi -i "color=red:s=64x64" -frames:v 1 cover.png
    ffmpeg -v error -y -i audio.mp4 -i cover.png -map 0 -map 1 -c copy -c:v:0 png -disposition:v:0 attached_pic cover.m4a
    ffmpeg -v error -y -f lavfi -i "testsrc2=s=320x240:r=30:d=2" -c:v libx264 -crf 18 -g 12 -pix_fmt yuv420p rich.mp4
    size=$(wc -c <rich.mp4)
    head -c $((size * 6 / 10)) rich.mp4 >nomoov.mp4
    ffmpeg -v error -y -i rich.mp4 -c copy -movflags +faststart fs.mp4
    head -c $((size * 6 / 10)) fs.mp4 >trunc.mp4
}

# ---- training of a very small model: train DIR [OPTION…]; in the background: { EXEC=exec; train …; } & so that $! is the program ----
train() {
    train_dir=$1
    shift
    ${EXEC:-} "$JEPA" train "$SRC/configs/tiny.yaml" --threads 1 --out "$train_dir" --set model.embed_dim=24 --set model.depth=2 --set model.num_heads=2 \
        --set model.pred_embed_dim=16 --set model.pred_depth=1 --set data.batch_size=4 --set meta.log_every=1 --set meta.seed=3 "$@"
}
model() { # DIR: a small trained model (DIR/latest), from digits in DIR.data
    digits "$1.data" 8
    train "$1" --set "data.datasets=[$1.data/clips.txt]" --steps 2 --quiet >/dev/null 2>model.err || { cat model.err; fail "model"; }
}
# wait_for SECONDS COMMAND…: until it succeeds
wait_for() {
    tries=$(($1 * 20))
    shift
    while [ $tries -gt 0 ]; do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.05
        tries=$((tries - 1))
    done
    return 1
}
