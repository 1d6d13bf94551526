#!/bin/sh
# Help begins with an example, wrong use is one line and exit code 2, info tells every kind of file apart.
. "$2/tests/e2e/lib.sh"
run 0 "$JEPA" --version
head -n 1 out | grep -q "^jepa [0-9]" || fail "version: $(head -n 1 out)"
says out "libavformat"
run 0 "$JEPA" --help
commands=$(sed -n 's/^  \([a-z]*\)  *[a-z].*/\1/p' out | grep -v '^jepa$')
[ "$(echo "$commands" | wc -l)" -ge 7 ] || fail "subcommands: $commands"
for c in $commands; do
    run 0 "$JEPA" $c --help
    head -n 1 out | grep -q "^  jepa $c" || fail "help of $c begins: $(head -n 1 out)"
    says out "^options:"
    says out "--threads N"
    [ -s err ] && fail "help of $c wrote to stderr"
    error 2 "no such option" "$JEPA" $c --no-such-option
    equal "$(wc -l <err | tr -d ' ')" 1 "lines of a wrong option"
    error 2 "" "$JEPA" $c
    equal "$(wc -l <err | tr -d ' ')" 1 "lines of $c without arguments"
    error 2 "needs a value" "$JEPA" $c --threads
    error 2 "whole number" "$JEPA" $c --threads two
    error 2 "must lie between" "$JEPA" $c --threads 0
    error 2 "takes no value" "$JEPA" $c --quiet=1
    [ -s out ] && fail "wrong use of $c wrote to stdout"
done
run 2 "$JEPA"
[ -s out ] && fail "no arguments: something on stdout"
error 2 "no such command" "$JEPA" fly
equal "$(wc -l <err | tr -d ' ')" 1 "lines of a wrong command"

# ---- info ----
model m
"$JEPA" embed -m m/latest --quiet -o e.h5 m.data/clips.txt >/dev/null || fail embed
echo hello >text.txt
run 0 "$JEPA" info m m/latest m.data/clips/000000.mp4 "$SRC/tests/data/images/rgb.png" e.h5
for text in "jepa run checkpoint" "embed_dim  *24" "optimizer  *yes" "predictor  *yes" "codec  *h264" "frames  *16" "kind  *image" "kind  *HDF5" \
    "embeddings  *\[8, 24\] f32" "@complete  *1"; do
    says out "$text"
done
run 1 "$JEPA" info --json m/latest none.mp4 m.data/clips/000000.mp4 e.h5 text.txt
equal "$(wc -l <out | tr -d ' ')" 3 "lines of --json"
equal "$(grep -c '^jepa: ' err)" 2 "lines of errors"
says err "none.mp4: not found"
says err "text.txt: "
if command -v python3 >/dev/null 2>&1; then
    python3 -c 'import json,sys
for line in open("out"): assert json.loads(line)["path"]' || fail "--json is not valid JSON lines"
fi
[ -d "$SRC/tests/data/vectors/vjepa2-hf-tiny/model" ] && {
    run 0 "$JEPA" info "$SRC/tests/data/vectors/vjepa2-hf-tiny/model"
    says out "Hugging Face VJEPA2"
    says out "num_frames  *4"
}
error 4 "none.mp4: not found" "$JEPA" info none.mp4
error 2 "nothing was named" "$JEPA" info
mkdir "odd \"name\""
cp m.data/clips/000000.mp4 "odd \"name\"/a\\b.mp4"
run 0 "$JEPA" info --json "odd \"name\"/a\\b.mp4"
run 0 "$JEPA" embed -m m/latest --json --quiet -o "odd \"name\"/e.h5" "odd \"name\"/a\\b.mp4"
says out '"out": "odd \\"name\\"/e.h5"'

# ---- probe, pca: the other two that read a model ----
digits test 16 9
sed 's|^|m.data/|' m.data/direction.txt >train.txt
sed 's|^|test/|' test/direction.txt >test.txt
run 0 "$JEPA" probe linear -m m/latest --train test.txt --test train.txt
says out "pretrained .* untrained .* raw pixels"
run 0 "$JEPA" probe linear -m m/latest --train test.txt --test train.txt --json
says out '"pretrained": '
error 3 "no label" "$JEPA" probe linear -m m/latest --train m.data/clips.txt --test test.txt
run 0 "$JEPA" pca -m m/latest m.data/clips/000000.mp4 -o p.png
run 0 "$JEPA" info p.png
says out "kind  *image"
error 4 "not found" "$JEPA" pca -m m/latest none.mp4 -o q.png
# a pipe whose reader went away, and a full device: no crash, and not success
if [ -e /dev/full ]; then
    "$JEPA" info m >/dev/full 2>err
    equal $? 4 "exit code with a full standard output"
    "$JEPA" --help >/dev/full 2>err
    equal $? 4 "exit code of help with a full standard output"
fi
finish
