#!/bin/sh
# jepa embed on what people bring: an awkward list with files that cannot be read, images among videos, every option that changes a row.
. "$2/tests/e2e/lib.sh"
need ffmpeg
model m
mkdir data
cd data || exit 1
numbered numbered.mp4
bad_files
mkdir "my clips"
cp numbered.mp4 "my clips/tea cup.mp4"
cp numbered.mp4 "ü_名.mp4"
printf 'numbered.mp4 3\r\n\n# a comment\nmy clips/tea cup.mp4 4\nü_名.mp4 5\nmissing.mp4 0\nempty.mp4 0\ntext.mp4 0\naudio.mp4 0\ncover.m4a 0\nnomoov.mp4 0\ntrunc.mp4 6\nnumbered.mp4\nmy clips/tea cup.mp4::7\n' >list.txt
cd ..
embed() { "$JEPA" embed -m m/latest "$@"; }
values() { "$VALS" "$@" | tr '\n' ' ' | sed 's/ $//'; }

# ---- the list: 6 rows in order, 6 failures with path, line and reason ----
run 1 embed -o a.h5 data/list.txt
equal "$(cat out)" "a.h5: 6 x 24"
equal "$(values a.h5 label)" "3 4 5 6 -1 7" labels
equal "$("$VALS" --shape a.h5)" "6 24" shape
equal "$("$VALS" a.h5 path | sed 's|.*/||' | tr '\n' '|')" "numbered.mp4|tea cup.mp4|ü_名.mp4|trunc.mp4|numbered.mp4|tea cup.mp4|" paths
equal "$("$VALS" a.h5 failed/path | sed 's|.*/||' | tr '\n' ' ')" "missing.mp4 empty.mp4 text.mp4 audio.mp4 cover.m4a nomoov.mp4 " "failed paths"
"$VALS" a.h5 failed/reason >reasons
i=0
for text in "not found" "empty file" "not a media file" "no video stream" "only a cover picture, no video" "no index (moov atom missing)"; do
    i=$((i + 1))
    sed -n ${i}p reasons | grep -q "^$text" || fail "reason $i: $(sed -n ${i}p reasons), expected $text"
    says err "(line $((i + 5))): $text" # the list's own line numbers
done
says err "trunc.mp4: cut short: 3[345] of 60 frames"
says err "6 input(s) failed"
equal "$(values a.h5 start_seconds)" "0 0 0 0 0 0" start
equal "$(values a.h5 clip)" "0 0 0 0 0 0" clip
"$VALS" --diff a.h5 embeddings a.h5 embeddings | grep -q '^0$' || fail "not finite"
[ -e a.h5.part ] && fail "a.h5.part is left"

# ---- the same through the other forms; other numbers of decoders; batches ----
run 1 embed -o a.npy data/list.txt
run 1 embed -o a.safetensors data/list.txt --decoders 1
run 1 embed -o b.safetensors data/list.txt --decoders 4
same a.safetensors b.safetensors
equal "$("$VALS" --diff a.h5 embeddings a.npy -)" 0 "h5 and npy"
equal "$("$VALS" --diff a.h5 embeddings a.safetensors embeddings)" 0 "h5 and safetensors"
equal "$("$VALS" --shape a.npy)" "6 24" shape
equal "$(values a.safetensors label)" "3 4 5 6 -1 7" labels
run 1 embed -o c.safetensors data/list.txt --batch 4
less "$("$VALS" --diff a.safetensors embeddings c.safetensors embeddings)" 1e-5 "batch 4 against 1"
run 1 embed -o half.h5 --out-type f16 data/list.txt
less "$("$VALS" --diff a.h5 embeddings half.h5 embeddings)" 1e-3 "f16" # 11 bits
run 1 embed -o half.npy --out-type f16 data/list.txt
equal "$("$VALS" --diff half.h5 embeddings half.npy -)" 0 "f16 h5 and npy"

# ---- a finished command says so; other settings are refused, with the difference ----
cp a.h5 kept.h5
run 0 embed -o a.h5 data/list.txt
says err "complete already"
same a.h5 kept.h5
run 0 embed -o a.safetensors data/list.txt --decoders 1
says err "complete already"
error 2 "pool" embed -o a.h5 --pool none data/list.txt
error 2 "frames" embed -o a.h5 --frames 8 data/list.txt
error 2 "encoder" embed -o a.h5 --which context data/list.txt
error 2 "inputs" embed -o a.h5 data/numbered.mp4
error 2 "inputs" embed -o a.safetensors data/numbered.mp4
error 2 "by_time" embed -o a.h5 data/list.txt --by-time
error 2 "exists already" embed -o a.npy data/list.txt
error 2 "end in .h5, .npy or .safetensors" embed -o a.txt data/list.txt
cp data/text.mp4 t.h5
error 2 "not HDF5" embed -o t.h5 data/list.txt
same a.h5 kept.h5

# ---- only bad files: an error, soon, and nothing is written ----
grep -n '0$' data/list.txt | cut -d: -f2- | sed 's|^|data/|' >bad.txt
start=$(date +%s)
error 4 "none of 6 inputs" embed -o bad.h5 bad.txt
less $(($(date +%s) - start)) 20 "seconds"
[ -e bad.h5 ] || [ -e bad.h5.part ] && fail "something was written"
error 4 "not found" embed -o bad.h5 none.txt
: >empty.txt
error 4 "names no file" embed -o bad.h5 empty.txt
error 4 "none of 1 inputs" embed -o bad.h5 missing.mp4
error 4 "" embed -o no/such/folder/out.h5 data/numbered.mp4

# ---- shapes of a row: 8 x 4 x 4 tokens ----
one() { run 0 embed -o "$@" data/numbered.mp4; }
one none.h5 --pool none
equal "$("$VALS" --shape none.h5)" "1 128 24" "--pool none"
one time.npy --pool time
equal "$("$VALS" --shape time.npy)" "1 16 24" "--pool time"
one space.safetensors --pool space
equal "$("$VALS" --shape space.safetensors)" "1 8 24" "--pool space"
one mean.h5
awk_mean() { "$VALS" "$1" | awk -v d=24 '{ s[NR % d] += $1 } END { for (i = 1; i <= d; i++) printf "%.5f\n", s[i % d] / (NR / d) }'; }
awk_mean none.h5 >left
"$VALS" mean.h5 | awk '{ printf "%.5f\n", $1 }' >right
awk 'NR == FNR { a[NR] = $1; next } { d = a[FNR] - $1; if (d > 2e-5 || d < -2e-5) bad = 1 } END { exit bad || FNR != 24 }' left right || fail "mean is not the mean of none"
one layers.h5 --layers 0,1
equal "$("$VALS" --shape layers.h5)" "1 48" "--layers 0,1"
"$VALS" layers.h5 | tail -n 24 >left
"$VALS" mean.h5 >right
same left right # the last block's output through the final norm is the final output
error 2 "ascend within 0 … 1" embed -o x.h5 --layers 0,2 data/numbered.mp4
one context.h5 --which context
[ "$("$VALS" --diff mean.h5 embeddings context.h5 embeddings)" = 0 ] && fail "context and target encoder give the same"

# ---- which clips ----
one clips.h5 --clips 3
equal "$(values clips.h5 clip)" "0 1 2" clips
equal "$("$VALS" --shape clips.h5)" "3 24" clips
one every.h5 --every 0.5 --fps 30
equal "$("$VALS" --shape every.h5)" "3 24" "--every 0.5 of 2 s, clips of 0.5 s"
equal "$(values every.h5 start_seconds | cut -c1-9)" "0 0.5 1" "--every"
one bytime.h5 --by-time --fps 8 --clips 2
equal "$("$VALS" --shape bytime.h5)" "2 24" "--by-time --clips 2"
equal "$(values bytime.h5 start_seconds)" "0 1" "--by-time --clips 2"
error 4 "none of 1" embed -o x.h5 --reject-short --stride 8 data/numbered.mp4
says err "shorter than"
error 2 "multiple of 2" embed -o x.h5 --frames 5 data/numbered.mp4
error 2 "multiple of the patch size" embed -o x.h5 --crop 50 data/numbered.mp4
one big.h5 --crop 96 --frames 8 --pool none
equal "$("$VALS" --shape big.h5)" "1 256 24" "another size: 4 x 8 x 8 tokens"

# ---- images among videos; folders; standard input; shards ----
printf 'data/numbered.mp4 1\n%s 2\n%s 3\n' "$SRC/tests/data/images/rgb.png" "$SRC/tests/data/images/q95.jpg" >mixed.txt
run 0 embed -o mixed.h5 mixed.txt
equal "$("$VALS" --shape mixed.h5)" "3 24" "images and videos"
run 0 embed -o folder.h5 "data/my clips" m.data/clips
equal "$("$VALS" --shape folder.h5)" "9 24" "folders"
run 0 embed -o stdin.h5 - <mixed.txt
equal "$("$VALS" --diff mixed.h5 embeddings stdin.h5 embeddings)" 0 "standard input"
equal "$(values stdin.h5 label)" "1 2 3" "labels from standard input"
run 0 embed -o whole.safetensors m.data/digit.txt
run 0 embed -o s0.safetensors --shard 0/3 m.data/digit.txt
run 0 embed -o s2.safetensors --shard 2/3 m.data/digit.txt
equal "$(values s0.safetensors item) $(values s2.safetensors item)" "0 3 6 2 5" shards
"$VALS" whole.safetensors | awk 'int((NR - 1) / 24) % 3 == 2' >left
"$VALS" s2.safetensors >right
same left right
error 2 "shard" embed -o x.h5 --shard 3/3 data/numbered.mp4
error 2 "shard" embed -o x.h5 --shard 1/2/3 data/numbered.mp4
run 0 embed -o json.h5 --json --quiet data/numbered.mp4
equal "$(wc -l <err | tr -d ' ')" 0 "lines on stderr with --quiet"
says out '"rows": 1'
finish
