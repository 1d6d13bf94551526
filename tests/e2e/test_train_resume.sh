#!/bin/sh
# Stop and go on: a run that was interrupted (SIGTERM, kill -9) is the run that never stopped, digit for digit and bit for bit; with any
# number of feed threads. Items of awkward lists, cut and unreadable ones among them, so that replacement and counters are resumed too.
. "$2/tests/e2e/lib.sh"
need ffmpeg
mkdir data
cd data || exit 1
numbered numbered.mp4
bad_files
mkdir "my clips"
cp numbered.mp4 "my clips/tea cup.mp4"
cp numbered.mp4 "ü_名.mp4"
i=0
while [ $i -lt 5 ]; do # 24 items and epochs of 6 steps; one cannot be read
    printf 'numbered.mp4 3\nmy clips/tea cup.mp4 4\nü_名.mp4 5\ntrunc.mp4 6\n' >>list.txt
    i=$((i + 1))
done
printf 'numbered.mp4\r\nmy clips/tea cup.mp4::7\ntrunc.mp4\ntext.mp4 0\n' >>list.txt
cd ..
go() { # DIR STEPS [OPTION…]
    into=$1 most=$2
    shift 2
    train "$into" --set "data.datasets=[data/list.txt]" --set data.max_bad=0.2 --set data.num_workers=2 --set data.random_window=true --set meta.monitor_every=5 \
        --set "data_aug.random_resize_scale=[0.3,1.0]" --set data_aug.horizontal_flip=true --steps "$most" "$@"
}
rows() { cut -d, -f1-5 "$1/log.csv"; } # step, loss, learning rate, weight decay, momentum
step_of() { readlink "$1/latest" | sed 's/step-0*//'; }
alike() { # DIR DIR: the same run
    for f in model.safetensors optimizer.safetensors; do same "$1/latest/$f" "$2/latest/$f"; done
    rows "$1" >left
    rows "$2" >right
    same left right
    same "$1/latest/model.json" "$2/latest/model.json"
}

# B: stopped by SIGTERM inside an epoch, then gone on with
{ EXEC=exec; go b 100000; } >/dev/null 2>err &
pid=$!
wait_for 60 grep -q '^8,' b/log.csv || fail "no eighth step: $(tail -n 2 err)"
kill -TERM $pid
wait $pid
equal $? 143 "exit code after SIGTERM"
tail -n 5 err | grep -q "^jepa: stopped at step .* goes on from there" || fail "no word of where it stopped: $(tail -n 3 err)"
s=$(step_of b)
[ "$s" -ge 8 ] || fail "stopped at step '$s'"
[ $((s % 6)) = 0 ] && go b $((s += 1)) --quiet >/dev/null 2>err # inside an epoch is the harder case
n=$((s + 10))
run 0 go b $n
says err "resumed from b/step-"
equal "$(step_of b)" $n "last step"
case $(readlink b/latest) in step-*) ;; *) fail "latest is not relative: $(readlink b/latest)" ;; esac
[ -L b/latest ] || fail "latest is no symbolic link"

# A: never stopped
run 0 go a $n
equal "$(rows a | tail -n +2 | wc -l)" $n "rows of log.csv"
alike a b
says err "data: .*not a media file"
says err "replaced"
grep -q '"feed"' a/latest/state.json || fail "state.json lacks the feed's counters"
sed 's/"steps": *[0-9]*//' a/latest/state.json >left
sed 's/"steps": *[0-9]*//' b/latest/state.json >right
same left right

# other numbers of feed threads
for w in 1 4; do
    run 0 go w$w $n --set data.num_workers=$w
    alike a w$w
done

# killed without a word, between two checkpoints
{ EXEC=exec; go k 100000 --set meta.save_every_steps=3; } >/dev/null 2>err &
pid=$!
wait_for 60 grep -q '^8,' k/log.csv || fail "no eighth step: $(tail -n 2 err)"
kill -9 $pid
wait $pid 2>/dev/null
s=$(step_of k)
[ "$s" -ge 3 ] && [ "$s" -lt $n ] || s=$n
if [ "$s" -lt $n ]; then
    run 0 go k $n --set meta.save_every_steps=3
    alike a k
else
    echo "killed too late to compare (step $s)"
fi
ls k | grep -q tmp && fail "leftovers: $(ls k)"

# a finished run says so; an existing one is not begun anew
run 0 go a $n
says err "finished: $n of $n steps"
error 2 "holds a run already" go a $n --resume never
error 3 "seed" go a $((n + 1)) --set meta.seed=4
# from a checkpoint named by its path, into another folder
run 0 go p $((n + 2)) --resume "b/step-$(printf %08d $n)"
says err "resumed from b/step"
# the precision is the run's: without --precision it goes on in it, another one is refused before anything is written
run 0 go h 4 --precision bf16
run 0 go h2 2 --precision bf16
find h2 -type f -exec cksum {} + | sort >left
error 2 "h2/step-00000002: was trained in bf16, and f32 is asked for.* --precision .*--init" go h2 4 --precision f32
error 2 "was trained in bf16, and f32 is asked for" go h2 4 --set meta.dtype=float32
error 2 "was trained in bf16" go h2 4 --precision f32 --dry-run
error 2 "was trained in bf16" go q 4 --precision f32 --resume h2/step-00000002
error 2 "was trained in bf16" go q 4 --precision f32 --resume h2
error 2 "a/step-.*: was trained in f32, and bf16 is asked for" go a $((n + 1)) --precision bf16
[ -e q ] && fail "a refused precision left a folder"
find h2 -type f -exec cksum {} + | sort >right
same left right
run 0 go h3 4 --resume h2/step-00000002
says err "precision: bf16, as h2/step-00000002 was trained"
run 0 go h2 4
says err "precision: bf16, as h2/step-00000002 was trained"
says h2/config.yaml "dtype: bfloat16"
alike h h2
for f in model.safetensors optimizer.safetensors; do same h/latest/$f h3/latest/$f; done
run 0 go h2 6 --precision bf16
error 3 "" go q $n --resume data
error 4 "nowhere: not found" go q $n --resume nowhere
finish
