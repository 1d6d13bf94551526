#!/bin/sh
# jepa verify: every item decoded once; what cannot be used is named with its reason, what is left goes into a list that can be used whole.
. "$2/tests/e2e/lib.sh"
need ffmpeg
need tar
digits d 6 16
bad_files
clip() { printf 'd/clips/%06d.mp4' "$1"; }
{
    echo "# a comment"
    echo "$(clip 0) 7"
    echo "empty.mp4 1"
    echo "$(clip 1) :: 3"
    echo "text.mp4"
    echo "missing.mp4"
    echo "trunc.mp4 2"
    echo "nomoov.mp4"
    echo "audio.mp4"
    echo "cover.m4a"
    echo "$(clip 2)"
} >list.txt
run 1 "$JEPA" verify list.txt --good good.txt --workers 1
cp out one
grep -v '^[0-9]* items in' out >one.bad
for text in "^empty.mp4: empty file.*(line 3)" "^text.mp4: .*(line 5)" "^missing.mp4: not found.*(line 6)" "^trunc.mp4: cut short: [0-9]* of 60 frames can be decoded (line 7)" \
    "^nomoov.mp4: .*(line 8)" "^audio.mp4: .*(line 9)" "^cover.m4a: .*(line 10)" "^10 items in .*: 4 usable ([0-9]* frames.*, 1 of them cut short; 6 cannot be used (60.00 %)" \
    "^ *1  empty file" "^good.txt: a list"; do
    says out "$text"
done
run 1 "$JEPA" verify list.txt --workers 4
grep -v '^[0-9]* items in\|^good' out >four.bad
grep -v '^good' one.bad >one.named # with several threads the causes may stand in another order
sort one.named >one.sorted
sort four.bad >four.sorted
same one.sorted four.sorted
equal "$(grep -c . good.txt)" 4 "lines of the list"
grep -q "^/.*000000.mp4 :: 7$" good.txt || fail "no label in $(cat good.txt)"
mkdir elsewhere
mv good.txt elsewhere
run 0 "$JEPA" verify --json elsewhere/good.txt
says out '"items": 4, "usable": 4, "cut_short": 1, "bad": 0, "frames": '
cut=$(sed -n 's/^trunc.mp4: cut short: \([0-9]*\) of.*/\1/p' one)
equal "$(sed 's/.*"frames": \([0-9]*\),.*/\1/' out)" "$((48 + ${cut:-0}))" "frames"
if command -v python3 >/dev/null 2>&1; then
    run 1 "$JEPA" verify --json list.txt
    python3 -c 'import json
o = json.loads(open("out").read())
assert o["bad"] == 6 and len(o["named"]) == 7 and sum(r["count"] for r in o["reasons"]) == 6 and o["named"][0]["path"].endswith("empty.mp4"), o' || fail "--json"
fi

# ---- what a container holds; damage in the middle of a stream is met though the file opens ----
mkdir w
cp "$(clip 3)" w/a.mp4
echo 1 >w/a.cls
: >w/b.mp4
tar --sort=name -C w -cf shard.tar . || fail tar
"$JEPA" frames --raw --frames 16 --stride 1 --quiet -o clips.safetensors "$(clip 0)" "$(clip 1)" >/dev/null || fail frames
"$BUILD/tests/e2e/make_h5" demo.hdf5 data/demo_%d/obs/agentview clips.safetensors || fail make_h5
run 1 "$JEPA" verify shard.tar demo.hdf5 --good both.txt
says out "4 items in .*: 3 usable (48 frames"
says out "shard.tar/.*b.mp4"
equal "$(sed 's|.*/||' both.txt | tr '\n' ' ')" "shard.tar demo.hdf5 " "containers by name, once"
{
    head -c 2000 rich.mp4
    head -c 3000 /dev/zero
    tail -c +5001 rich.mp4
} >holes.mp4
"$JEPA" verify holes.mp4 rich.mp4 >out 2>err
code=$?
[ $code = 1 ] || [ $code = 0 ] || fail "a file with a hole: exit $code: $(cat err)"
says out "^2 items in"

# ---- wrong use; stopped ----
error 2 "nothing was named" "$JEPA" verify
error 4 "none of the items can be used" "$JEPA" verify empty.mp4 missing.mp4
: >none.txt
error 4 "names no file" "$JEPA" verify none.txt
error 4 "nowhere" "$JEPA" verify "$(clip 0)" --good nowhere/good.txt
cp list.txt before.txt
error 2 "would be overwritten" "$JEPA" verify list.txt --good ./list.txt
same list.txt before.txt
cp "$(clip 0)" before.mp4
error 2 "would be overwritten" "$JEPA" verify d --good "$(clip 0)"
same "$(clip 0)" before.mp4
i=0
while [ $i -lt 400 ]; do
    clip $((i % 6))
    echo
    i=$((i + 1))
done >many.txt
"$JEPA" verify many.txt --workers 1 --good late.txt >out 2>err &
job=$!
sleep 0.3
kill -INT $job
wait $job
code=$?
if [ $code = 0 ]; then
    [ -f late.txt ] || fail "done, but no list"
else
    equal $code 130 "exit after SIGINT"
    says err "stopped after [0-9]* of 400 items"
    [ ! -f late.txt ] || fail "a list of half the items was written"
fi
finish
