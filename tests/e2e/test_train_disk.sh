#!/bin/sh
# A full disk and signals at any moment, inside a checkpoint too: one line, the right exit code, and earlier checkpoints that still resume.
. "$2/tests/e2e/lib.sh"
digits d 12
go() { # DIR STEPS [OPTION…]
    into=$1 most=$2
    shift 2
    train "$into" --set "data.datasets=[d/clips.txt]" --steps "$most" "$@"
}
step_of() { readlink "$1/latest" | sed 's/step-0*//'; }
run 0 go whole 12 --set meta.save_every_steps=1

# ---- a full disk: a small file system where we may mount one, else a limit on the size of files ----
mkdir disk
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=3m tmpfs disk 2>/dev/null; then
    trap 'umount "$WORK/disk" 2>/dev/null; rm -rf "$WORK"' EXIT
    run 0 go disk/run 4 # about 1 MB a checkpoint
    head -c 1400000 /dev/zero >disk/filler 2>/dev/null
    error 4 "No space left on device" go disk/run 12 --set meta.save_every_steps=1 --set meta.keep_last=0
    s=$(step_of disk/run)
    [ "$s" -ge 4 ] || fail "latest is step '$s'"
    "$JEPA" info disk/run >/dev/null || fail "the checkpoint before the full disk cannot be opened"
    ls disk/run | grep -q tmp && fail "leftovers: $(ls disk/run)"
    rm disk/filler
    run 0 go disk/run 12 --set meta.keep_last=1
    same disk/run/latest/model.safetensors whole/latest/model.safetensors
    same disk/run/latest/optimizer.safetensors whole/latest/optimizer.safetensors
    umount disk
    trap 'rm -rf "$WORK"' EXIT
    mount -t tmpfs -o ro tmpfs disk && {
        error 4 "Read-only file system" go disk/run 4
        umount disk
    }
else
    echo "no small file system can be mounted here: a limit on file sizes instead"
fi
run 0 go limit 4
full() { # bytes a file may have: less than the weights
    (
        ulimit -f 100 || exit 99
        exec "$JEPA" train "$SRC/configs/tiny.yaml" --threads 1 --out limit --set model.embed_dim=24 --set model.depth=2 --set model.num_heads=2 \
            --set model.pred_embed_dim=16 --set model.pred_depth=1 --set data.batch_size=4 --set meta.log_every=1 --set meta.seed=3 \
            --set "data.datasets=[d/clips.txt]" --steps 12
    )
}
error 4 "File too large" full
equal "$(readlink limit/latest)" step-00000004 "latest after a failed checkpoint"
run 0 go limit 12
same limit/latest/model.safetensors whole/latest/model.safetensors

# ---- signals, some of them inside a checkpoint: one is written every step ----
tries=0
while [ $tries -lt 12 ]; do
    tries=$((tries + 1))
    { EXEC=exec; go sig 12 --set meta.save_every_steps=1; } >/dev/null 2>err &
    pid=$!
    wait_for 60 grep -q '^[0-9]' sig/log.csv || fail "no step: $(tail -n 1 err)"
    sleep "0.$((tries * 3 % 10))"
    if [ $((tries % 3)) = 0 ]; then
        kill -9 $pid 2>/dev/null
        wait $pid 2>/dev/null
    else
        kill -TERM $pid 2>/dev/null
        wait $pid
        code=$?
        [ $code = 143 ] || [ $code = 0 ] || fail "exit $code after SIGTERM: $(tail -n 2 err)"
        ls sig | grep -q tmp && fail "leftovers after SIGTERM: $(ls sig)"
    fi
    "$JEPA" info sig >/dev/null 2>err || fail "after a signal: $(cat err)"
    [ "$(step_of sig)" = 12 ] && break
done
run 0 go sig 12 --set meta.save_every_steps=1
same sig/latest/model.safetensors whole/latest/model.safetensors
same sig/latest/optimizer.safetensors whole/latest/optimizer.safetensors
cut -d, -f1-5 sig/log.csv >left
cut -d, -f1-5 whole/log.csv >right
same left right
equal "$(ls -d sig/step-* | wc -l)" 2 "checkpoints kept"
finish
