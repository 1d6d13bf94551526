#!/bin/sh
# What `jepa info` says of tar shards and HDF5 files, and `jepa frames` out of them: the same pictures as from the files themselves.
. "$2/tests/e2e/lib.sh"
need tar
digits d 4 16
clip() { printf 'd/clips/%06d.mp4' "$1"; }
mkdir w
for i in 0 1 2; do
    cp "$(clip $i)" "w/s$i.mp4"
    echo "$i" >"w/s$i.cls"
    echo words >"w/s$i.txt"
done
tar --sort=name -C w -cf shard.tar . || fail tar
run 0 "$JEPA" info --json shard.tar
equal "$(sed 's/"bytes": [0-9]*/"bytes": N/' out)" '{"path": "shard.tar", "kind": "tar", "samples": 3, "labelled": 3, "bytes": N, "other_members": 3}' info
head -c "$(($(wc -c <shard.tar) - 14000))" shard.tar >cut.tar
run 0 "$JEPA" info cut.tar
grep -q 'cut short at byte' out || fail "no word of the cut: $(cat out)"
head -c 300 shard.tar >short.tar
error 4 'cut short' "$JEPA" info short.tar

run 0 "$JEPA" frames --raw --frames 16 --stride 1 -o clips.safetensors "$(clip 0)" "$(clip 1)" "$(clip 2)"
"$BUILD/tests/e2e/make_h5" demo.hdf5 data/demo_%d/obs/agentview clips.safetensors || fail make_h5
"$BUILD/tests/e2e/make_h5" demo.hdf5 data/demo_%d/obs/wrist clips.safetensors gzip || fail make_h5
run 0 "$JEPA" info demo.hdf5
for line in 'kind  *HDF5' 'frame_sets  *6' 'episodes  *3' 'cameras  *agentview' ' wrist' 'frames  *96' 'shortest  *16' 'longest  *16' 'fps  *10' '/data/demo_2/obs/wrist  *\[16, '; do
    grep -q "$line" out || fail "info does not say $line"
done

run 0 "$JEPA" frames --raw --index 0,5,15 -o files.safetensors "$(clip 0)" "$(clip 1)" "$(clip 2)"
run 0 "$JEPA" frames --raw --index 0,5,15 -o tar.safetensors shard.tar
equal "$("$VALS" --diff files.safetensors frames tar.safetensors frames)" 0 "frames in a tar"
run 0 "$JEPA" frames --raw --index 0,5,15 -o h5.safetensors demo.hdf5
equal "$("$VALS" --shape h5.safetensors frames | cut -d' ' -f1,2)" "6 3" "frames of HDF5"
run 0 "$JEPA" frames --raw --index 0,5 -o pictures demo.hdf5
equal "$(find pictures -name '*.png' | wc -l)" 12 "one name for each"
finish
