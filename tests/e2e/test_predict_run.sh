#!/bin/sh
# jepa predict and jepa pca as typed: outputs whole and of the right shape, pictures and videos that open again, errors that name their cause.
. "$2/tests/e2e/lib.sh"
need ffmpeg
MODEL=$SRC/tests/data/vectors/vjepa2-hf-tiny/model # 4 frames of 64x64: 2 x 4 x 4 tokens, 56 channels
numbered n.mp4
ffmpeg -v error -y -f lavfi -i "testsrc2=s=160x120:r=16:d=3" -c:v libx264 -crf 20 t.mp4
echo "not a video" >text.mp4

# ---- the issue's own lines ----
run 0 "$JEPA" predict -m "$MODEL" --mask future:from=1 t.mp4 -o p.h5 --video errors.mp4 --png e.png && {
    says err "mask token 1 of 3"
    says out "16 tokens seen, 16 predicted of 56 channels, mean error"
    equal "$("$VALS" --shape p.h5 predicted)" "1 16 56" predicted
    equal "$("$VALS" --shape p.h5 target)" "1 16 56" target
    equal "$("$VALS" --shape p.h5 error)" "1 16" error
    equal "$("$VALS" p.h5 context_index | tr '\n' ' ' | cut -d' ' -f1-3)" "0 1 2" context
    run 0 "$JEPA" info errors.mp4 e.png p.h5
    says out "@complete *1"
    says out "@mask *future:from=1"
}
[ -e p.h5.tmp ] && fail "p.h5.tmp was left behind"
# the same again, in batches, gives the same rows; --json is one object
run 0 "$JEPA" predict -m "$MODEL" --mask future:from=1 --clips 5 t.mp4 -o a.h5 --json && says out '"clips": 5'
run 0 "$JEPA" predict -m "$MODEL" --mask future:from=1 --clips 5 --batch 3 t.mp4 -o b.h5
less "$("$VALS" --diff a.h5 predicted b.h5 predicted)" 1e-5 "batches of 3 against single clips"
# another token, another way to see the context: other predictions
run 0 "$JEPA" predict -m "$MODEL" --mask future:from=1 --clips 5 --mask-token 0 t.mp4 -o c.h5
less 1e-4 "$("$VALS" --diff a.h5 predicted c.h5 predicted)" "mask token 0 against 1"
run 0 "$JEPA" predict -m "$MODEL" --mask future:from=1 --clips 5 --encode-all t.mp4 -o d.h5
less 1e-4 "$("$VALS" --diff a.h5 predicted d.h5 predicted)" "all tokens encoded against the context's alone"
equal "$("$VALS" --diff a.h5 target d.h5 target)" 0 targets
for mask in multiblock multiblock:generator=1,seed=4 tube:ratio=0.5; do run 0 "$JEPA" predict -m "$MODEL" --mask $mask --frames 8 t.mp4 -o m.h5 --quiet; done

# ---- a surprise curve: a line a window, and a picture ----
run 0 "$JEPA" predict -m "$MODEL" --mask future:from=1 --fps 8 --every 0.25 --csv s.csv --curve s.png t.mp4 n.mp4 && {
    head -n 1 s.csv >head
    says head "path,clip,start_seconds,predicted_from_seconds,end_seconds,error"
    less 15 "$(wc -l <s.csv)" "lines of the curve"
    run 0 "$JEPA" info s.png
}
[ -e predictions.h5 ] && fail "an output nobody asked for"

# ---- bad input ----
run 1 "$JEPA" predict -m "$MODEL" --mask future:from=1 t.mp4 text.mp4 -o g.h5 && { says err "jepa: text.mp4: not a media file"; equal "$("$VALS" --shape g.h5 error)" "1 16" rows; }
error 4 "none of 1 inputs" "$JEPA" predict -m "$MODEL" --mask future:from=1 text.mp4 -o none.h5
[ -e none.h5 ] || [ -e none.h5.tmp ] && fail "something was written for no row"
error 2 "nothing would be left to predict" "$JEPA" predict -m "$MODEL" --mask future:from=2 t.mp4 -o x.h5
error 2 "which mask" "$JEPA" predict -m "$MODEL" t.mp4 -o x.h5
error 2 "mask token 9" "$JEPA" predict -m "$MODEL" --mask future --mask-token 9 t.mp4 -o x.h5
error 2 "written as .h5" "$JEPA" predict -m "$MODEL" --mask future t.mp4 -o x.csv
error 4 "cannot be written" "$JEPA" predict -m "$MODEL" --mask future t.mp4 -o nowhere/x.h5
error 4 "m.safetensors" "$JEPA" predict -m "$MODEL" --mask file:m.safetensors t.mp4 -o x.h5

# ---- our own runs have two encoders: the context's sees, the target's is predicted ----
model own
run 0 "$JEPA" predict -m own/latest --mask multiblock own.data/clips.txt -o own.h5 --quiet && {
    equal "$("$VALS" --shape own.h5 predicted | cut -d' ' -f1,3)" "8 24" "rows and channels"
}

# ---- principal components ----
run 0 "$JEPA" pca -m "$MODEL" t.mp4 -o pca.mp4 --fps 8 --save-basis basis.safetensors && { run 0 "$JEPA" info pca.mp4; says out "frames *24"; }
run 0 "$JEPA" pca -m "$MODEL" t.mp4 n.mp4 -o one.png --clips 2 --basis basis.safetensors && says out "4 clips"
run 0 "$JEPA" pca -m "$MODEL" t.mp4 n.mp4 -o two.png --clips 2 --basis basis.safetensors
same one.png two.png
run 0 "$JEPA" pca -m "$MODEL" t.mp4 -o fg.png --foreground 0.5
run 1 "$JEPA" pca -m "$MODEL" t.mp4 text.mp4 -o some.png && says err "jepa: text.mp4: not a media file"
error 2 "belong to the run that makes one" "$JEPA" pca -m "$MODEL" t.mp4 -o x.png --basis basis.safetensors --foreground 0.5
error 2 "a .png, .mp4" "$JEPA" pca -m "$MODEL" t.mp4 -o x.jpg
error 3 "is no basis" "$JEPA" pca -m "$MODEL" t.mp4 -o x.png --basis "$MODEL/model.safetensors"
error 2 "channels" "$JEPA" pca -m own/latest own.data/clips.txt -o x.png --basis basis.safetensors
[ -e x.png ] && fail "a picture was written after an error"
finish
