#!/bin/sh
# One job over a list, a folder, tar shards, HDF5 files of frames: rows in the order of what was named, equal to those of the same frames as
# video files, whatever the number of decoders; what is broken in them is listed and stops nothing.
. "$2/tests/e2e/lib.sh"
need tar
model m
digits d 16 5
embed() { "$JEPA" embed -m m/latest --threads 1 --stride 1 "$@"; }
sed 's|^|d/|' d/digit.txt >all.txt
run 0 embed -o videos.safetensors all.txt
row() { "$VALS" "$1" embeddings | awk -v a="$2" -v n="${3:-1}" 'NR > a * 24 && NR <= (a + n) * 24'; } # FILE FIRST [ROWS]
clip() { printf 'd/clips/%06d.mp4' "$1"; }

# ---- tar: clips 4 … 7 with labels as .cls and .json, an image, a broken one, members that are nothing to us; ustar, GNU and pax names ----
mkdir -p w/in/deep
cp "$(clip 4)" w/in/s0.mp4
printf '40' >w/in/s0.cls
cp "$(clip 5)" w/in/s1.mp4
printf '{"label": 41, "caption": "a digit"}' >w/in/s1.json
cp "$(clip 6)" w/in/s2.left.mp4 # a key ends at the first dot
cp "$SRC/tests/data/images/rgb.png" w/in/s3.png
echo "no video" >w/in/s4.mp4
echo "read me" >w/in/notes.txt
long=$(printf 'n%.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20)
long=$long$long$long$long$long$long$long
cp "$(clip 7)" "w/in/deep/$long.mp4"
members="in/s0.mp4 in/s0.cls in/s1.json in/s1.mp4 in/s2.left.mp4 in/notes.txt in/s3.png in/s4.mp4 in/deep/$long.mp4"
for form in gnu pax; do
    # shellcheck disable=SC2086
    tar -C w --format=$form -cf shard-$form.tar $members || fail "tar --format=$form"
done
# shellcheck disable=SC2086
tar -C w --format=ustar -cf shard-ustar.tar in/s0.mp4 in/s0.cls in/s1.json in/s1.mp4 in/s2.left.mp4 || fail "tar"
run 1 embed -o tar.h5 shard-gnu.tar
equal "$("$VALS" tar.h5 path | tr '\n' ' ')" "shard-gnu.tar/in/s0.mp4 shard-gnu.tar/in/s1.mp4 shard-gnu.tar/in/s2.left.mp4 shard-gnu.tar/in/s3.png shard-gnu.tar/in/deep/$long.mp4 " paths
equal "$("$VALS" tar.h5 label | tr '\n' ' ')" "40 41 -1 -1 -1 " labels
equal "$("$VALS" tar.h5 failed/path)" "shard-gnu.tar/in/s4.mp4" failed
equal "$("$VALS" tar.h5 failed/reason)" "not a media file" reason
row videos.safetensors 4 3 >left
row tar.h5 0 3 >right
same left right
row videos.safetensors 7 >left
row tar.h5 4 >right
same left right
run 1 embed -o pax.h5 shard-pax.tar
equal "$("$VALS" --diff tar.h5 embeddings pax.h5 embeddings)" 0 "pax"
run 0 embed -o ustar.h5 shard-ustar.tar
equal "$("$VALS" --shape ustar.h5)" "3 24" ustar
# cut short: what is whole is done, the rest is one failure
head -c $(($(wc -c <shard-gnu.tar) / 2 - 100)) shard-gnu.tar >cut.tar # inside a member
run 1 embed -o cut.h5 cut.tar
row tar.h5 0 >left
row cut.h5 0 >right
same left right

# ---- HDF5: clips 8 … 15 as episodes, twelve of them so that demo_10 follows demo_9 ----
sed -n 9,16p all.txt | sed 's/ .*//' >episodes.txt
sed -n 1,4p all.txt | sed 's/ .*//' >>episodes.txt
run 0 "$JEPA" frames --raw --frames 16 --stride 1 -o clips.safetensors $(cat episodes.txt)
"$BUILD/tests/e2e/make_h5" demo.hdf5 data/demo_%d/obs/agentview clips.safetensors || fail make_h5
"$BUILD/tests/e2e/make_h5" demo.hdf5 data/demo_%d/obs/eye_in_hand clips.safetensors gzip || fail make_h5
"$BUILD/tests/e2e/make_h5" aloha.hdf5 observations/images/cam_high clips.safetensors || fail make_h5
run 0 embed -o demo.h5 demo.hdf5
equal "$("$VALS" demo.h5 path | sed -n '1p;2p;5p;21p;24p' | tr '\n' ' ')" "demo.hdf5:/data/demo_0/obs/agentview demo.hdf5:/data/demo_0/obs/eye_in_hand demo.hdf5:/data/demo_2/obs/agentview demo.hdf5:/data/demo_10/obs/agentview demo.hdf5:/data/demo_11/obs/eye_in_hand " "HDF5 paths"
for k in 0 7; do
    row videos.safetensors $((8 + k)) >left
    row demo.h5 $((2 * k)) >right
    same left right
    row demo.h5 $((2 * k + 1)) >right
    same left right
done
cp demo.hdf5 locked.hdf5
chmod a-w locked.hdf5
run 0 embed -o locked.h5 locked.hdf5
head -c 5000 demo.hdf5 >torn.hdf5

# ---- all of it in one job ----
mkdir folder
cp "$(clip 2)" folder/a.mp4
cp shard-ustar.tar folder/b.tar
printf '# mixed\n%s 1\naloha.hdf5 2\nshard-gnu.tar\nmissing.mp4 5\nmissing.tar\n%s 3\n' "$(clip 0)" "$(clip 1)" >mixed.txt
for decoders in 1 5; do
    run 1 embed -o mixed$decoders.h5 --decoders $decoders mixed.txt folder demo.hdf5 torn.hdf5 "$(clip 3)" bad.png
done
"$VALS" mixed1.h5 path >paths
sed -n '1,2p' paths | tr '\n' ' ' | grep -q "^d/clips/000000.mp4 aloha.hdf5:/observations/images/cam_high $" || fail "first paths: $(head -n 2 paths)"
equal "$(wc -l <paths | tr -d ' ')" "$((1 + 1 + 5 + 1 + 4 + 24 + 1))" rows
equal "$("$VALS" mixed1.h5 label | head -n 4 | tr "\n" " ")" "1 2 40 41 " labels
equal "$("$VALS" mixed1.h5 failed/path | sed 's|.*/||' | tr '\n' ' ')" "s4.mp4 missing.mp4 missing.tar torn.hdf5 bad.png " failed
for name in embeddings label item clip; do
    equal "$("$VALS" --diff mixed1.h5 $name mixed5.h5 $name)" 0 "decoders: $name"
done
row videos.safetensors 3 >left
row mixed1.h5 36 >right
same left right
# in shards
run 1 embed -o m0.h5 --shard 0/2 mixed.txt folder demo.hdf5 torn.hdf5 "$(clip 3)" bad.png
run 1 embed -o m1.h5 --shard 1/2 mixed.txt folder demo.hdf5 torn.hdf5 "$(clip 3)" bad.png
run 1 "$JEPA" merge merged.h5 m0.h5 m1.h5
equal "$("$VALS" --diff mixed1.h5 embeddings merged.h5 embeddings)" 0 "merged"
"$VALS" merged.h5 path >left
same left paths
# standard input names them too
run 1 embed -o stdin.h5 - <mixed.txt
equal "$("$VALS" --shape stdin.h5)" "8 24" "standard input"
finish
