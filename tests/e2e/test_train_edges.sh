#!/bin/sh
# Training that cannot go on says why in one line, ends soon with the documented exit code, and leaves earlier checkpoints as they were.
. "$2/tests/e2e/lib.sh"
need ffmpeg
bad_files
digits d 12
mkdir empty_dir
: >empty.txt
printf '# nothing\n\n' >comment.txt
printf 'missing.mp4\nempty.mp4\ntext.mp4\naudio.mp4\ncover.m4a\nnomoov.mp4\n' >bad.txt
on() { # LIST DIR [OPTION…]
    list=$1 into=$2
    shift 2
    train "$into" --set "data.datasets=[$list]" "$@"
}

# ---- configurations ----
sed 's/^  ipe: 100/  ipe: 100\n  no_such_key: 3/' "$SRC/configs/tiny.yaml" >key.yaml
line=$(grep -n no_such_key key.yaml | cut -d: -f1)
error 3 "key.yaml:$line: optimization.no_such_key: unknown key" "$JEPA" train key.yaml --out no
error 3 "model.no_such_key: unknown key" on d/clips.txt no --set model.no_such_key=1
error 3 "50 is no multiple of data.patch_size 12" on d/clips.txt no --set data.crop_size=50
error 3 "num_heads 5 does not divide embed_dim 24" on d/clips.txt no --set model.num_heads=5
error 3 "--set" on d/clips.txt no --set "optimization.lr=fast"
error 3 "" on d/clips.txt no --set "mask=7"
error 2 "" on d/clips.txt no --set "optimization.lr"
error 2 "not a value in YAML" on d/clips.txt no --set "data.datasets=[d/clips.txt"
error 3 "auto_augment" on d/clips.txt no --set data_aug.auto_augment=true # a published key whose value is not supported
error 3 "[Gg]rid\|mask" on d/clips.txt no --set data.crop_size=12 --set "data.dataset_fpcs=[2]" # one token: nothing to hide
error 3 "" "$JEPA" train text.mp4 --out no
error 4 "none.yaml: not found" "$JEPA" train none.yaml --out no
error 2 "one configuration" "$JEPA" train --out no
error 2 "--on-collapse" on d/clips.txt no --on-collapse perhaps
error 2 "--out" "$JEPA" train "$SRC/configs/tiny.yaml" --set "data.datasets=[d/clips.txt]"
error 3 "cuda" on d/clips.txt no --device cuda
error 2 "f32 or bf16" on d/clips.txt no --precision fp8
[ -e no ] && fail "a refused configuration left a folder"

# ---- data ----
error 4 "none.txt: not found" on none.txt no
error 4 "names no file" on empty.txt no
error 4 "names no file" on comment.txt no
error 4 "no file in this folder" on empty_dir no
start=$(date +%s)
error 6 "too many items cannot be used" on bad.txt bad
error 6 "too many items cannot be used" on bad.txt bad1 --set data.max_bad=1
error 4 "missing.mp4: not found" on missing.mp4 bad2
error 6 "1 of 1" on text.mp4 bad2
less $(($(date +%s) - start)) 30 "seconds until lists of only bad files end"
cat d/clips.txt | sed 's|^|d/|' >mixed.txt
printf 'text.mp4\ntrunc.mp4\nempty.mp4\n' >>mixed.txt
run 0 on mixed.txt mixed --steps 8 --set data.max_bad=0.2
says err "data: .* not a media file"
says err "data: .* empty file"
says err "replaced"
says err "data: .* cut"
cut -d, -f17 mixed/log.csv | grep -q '^[1-9]' || fail "no row of log.csv counts a replaced clip"
error 6 "2 of 15" on mixed.txt mixed2 --steps 8 --set data.max_bad=0.01
# --set takes lists, and a folder is data too
run 0 on "d/clips.txt,d/clips" two --steps 1 --set "data.datasets_weights=[0.25,0.75]" --set "optimization.ema=[0.9,1.0]"
says err "24 clip(s) found"

# ---- --dry-run ----
run 0 on d/clips.txt dry --dry-run
says out "together"
says out "12 clip(s) found"
[ -e dry ] && fail "--dry-run wrote something"
[ "$(find . -name 'config.yaml' | grep -c dry)" = 0 ] || fail "--dry-run wrote something"
# more than there is: the plan, then why not; nothing is written, and nothing was asked for
error 5 "would help" on d/clips.txt dry --dry-run --set data.batch_size=65536 --set data.crop_size=192
says out "together"
error 5 "would help" on d/clips.txt dry --set data.batch_size=65536 --set data.crop_size=192
[ -e dry ] && fail "a run that does not fit wrote something"

# ---- not finite ----
run 0 on d/clips.txt nan --steps 3
cp -r nan/step-00000003 kept
error 6 "step 5: .* is not finite" on d/clips.txt nan --steps 20 --set optimization.lr=1e6 --set optimization.warmup=0
says err "last good checkpoint is nan/step-00000003"
diff -r kept nan/step-00000003 || fail "the last good checkpoint changed"
run 0 on d/clips.txt nan --steps 5
says err "resumed from nan/step-00000003"

# ---- collapse: all clips the same ----
ffmpeg -v error -y -f lavfi -i "color=gray:s=64x64:r=10:d=2" -c:v libx264 grey.mp4
for i in 1 2 3 4 5 6 7 8; do
    echo grey.mp4 >>grey.txt
    ffmpeg -v error -y -f lavfi -i "color=gray:s=64x64:r=10:d=2,noise=alls=100:allf=t:all_seed=$i" -c:v libx264 -crf 10 noise$i.mp4
    echo noise$i.mp4 >>noise.txt
done
run 0 on grey.txt grey --steps 50
says err "alarm: the features of different clips are the same"
at=$(sed -n 's/^step \([0-9]*\): alarm.*/\1/p' err)
less "${at:-99}" 50 "step of the alarm"
error 6 "step $at: collapse: the features of different clips are the same" on grey.txt grey2 --steps 50 --on-collapse stop
run 0 on noise.txt noise --steps 50 --on-collapse stop
grep -q alarm err && fail "alarm on noise: $(grep alarm err)"
run 0 on noise.txt single --steps 45 --set data.batch_size=1 --on-collapse stop # one clip a group cannot be compared

# ---- outputs that cannot be written ----
error 4 "text.mp4/run: folder cannot be made" on d/clips.txt text.mp4/run
error 4 "text.mp4: folder cannot be made" on d/clips.txt text.mp4
error 4 "" on d/clips.txt /proc/no
: >as_file
mkdir half
ln -s ../as_file half/log.csv
run 0 on d/clips.txt half --steps 1
# the folder is another run's while it goes
{ EXEC=exec; on d/clips.txt busy --steps 100000; } >/dev/null 2>busy.err &
pid=$!
wait_for 60 grep -q '^1,' busy/log.csv || fail "no first step: $(tail -n 1 busy.err)"
error 4 "another run" on d/clips.txt busy --steps 3
kill -TERM $pid
wait $pid
equal $? 143 "exit code after SIGTERM: $(tail -n 2 busy.err)"
finish
