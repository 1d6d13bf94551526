#!/bin/sh
# jepa frames: exact frames of B-frame, variable-rate and turned videos, short clips and low rates, as numbers that the pictures tell.
. "$2/tests/e2e/lib.sh"
need ffmpeg
frames() { "$JEPA" frames --quiet "$@"; }
numbered numbered.mp4
# the number that each frame of the first clip shows: from the grey level of its middle
numbers() { # FILE.safetensors
    shape=$("$VALS" --shape "$1" frames)
    set -- "$1" $shape
    "$VALS" "$1" frames | awk -v n="$3" -v size=$(($4 * $5 * 3)) -v at=$((($4 / 2 * $5 + $5 / 2) * 3)) \
        'NR > n * size { exit } (NR - 1) % size == at { printf "%s%d", c++ ? " " : "", int($1 * 219 / 765 + 0.5) }'
}
index() { "$VALS" "$1" index | tr '\n' ' ' | sed 's/ $//'; }
first() { index "$1" | cut -d' ' -f"1-$2"; }
repeat() { awk -v x="$1" -v n="$2" 'BEGIN { while (n-- > 0) printf " %d", x }'; }

# ---- any order, alone or together ----
run 0 frames numbered.mp4 --index 59,0,31,30,11,12,13,13 --raw -o some.safetensors
equal "$(numbers some.safetensors)" "59 0 31 30 11 12 13 13" "frames by number"
equal "$(index some.safetensors)" "59 0 31 30 11 12 13 13" index
equal "$("$VALS" some.safetensors seconds | head -n 3 | cut -c1-6 | tr '\n' ' ')" "1.9666 0 1.0333 " seconds
run 0 frames numbered.mp4 --index 47 --raw -o one.safetensors
equal "$(numbers one.safetensors)" 47 "a frame read alone"
run 0 frames numbered.mp4 --index 59,0,31 --raw -o pngs
equal "$(ls pngs | wc -l | tr -d ' ')" 3 pictures
run 0 "$JEPA" info pngs/*frame000059.png
says out "320"
run 0 frames pngs/*frame000059.png --index 0 --raw -o back.safetensors
equal "$(numbers back.safetensors)" 59 "a PNG read back"
error 4 "none of the inputs" frames numbered.mp4 --index 0,60 --raw -o x.safetensors
says err "frame 60 was asked, it has 60 (0 … 59)"
error 2 "numbers with commas" frames numbered.mp4 --index -1 -o x.safetensors
error 2 "whole" frames numbered.mp4 --index 1.5 -o x.safetensors
error 2 "at most one of" frames numbered.mp4 --index 1 --time 1 -o x.safetensors
[ -e x.safetensors ] && fail "something was written"

# ---- variable frame rate ----
ffmpeg -v error -y -i numbered.mp4 -vf "select='lt(n,30)+not(mod(n,5))'" -vsync vfr -c:v libx264 -crf 4 -bf 0 -g 250 vfr.mp4
run 0 frames vfr.mp4 --fps 4 --raw -o vfr.safetensors
equal "$(index vfr.safetensors)" "0 6 12 18 24 30$(repeat 35 10)" "index-based, 4 fps: published"
equal "$(numbers vfr.safetensors)" "0 6 12 18 24 30$(repeat 55 10)" "index-based, 4 fps: numbers"
run 0 frames vfr.mp4 --time 0,0.25,0.5,0.75,1,1.25,1.5,1.75 --raw -o time.safetensors
equal "$(numbers time.safetensors)" "0 7 15 22 30 35 45 50" "by time"
run 0 frames vfr.mp4 --by-time --fps 4 --frames 8 --raw -o bytime.safetensors
equal "$(numbers bytime.safetensors)" "0 7 15 22 30 35 45 50" "--by-time"

# ---- short clips: 16 frames, step 4 ----
short() { # FRAMES INDICES
    ffmpeg -v error -y -i numbered.mp4 -vf "trim=end_frame=$1" -c:v libx264 -crf 4 n$1.mp4
    run 0 frames n$1.mp4 --stride 4 --raw -o n.safetensors
    equal "$(index n.safetensors)" "$2" "$1 frames, step 4"
}
short 1 "0$(repeat 0 15)"
short 2 "1$(repeat 1 15)"
short 3 "2$(repeat 2 15)"
short 4 "0$(repeat 3 15)"
short 5 "0$(repeat 4 15)"
short 8 "0$(repeat 7 15)"
short 16 "0 5 10$(repeat 15 13)"
short 17 "0 5 11$(repeat 16 13)"
short 40 "0 4 8 13 17 22 26 31 35$(repeat 39 7)"
run 0 frames n40.mp4 --stride 4 --clips 2 --raw -o n.safetensors
equal "$(first n.safetensors 5)" "0 5 10 15 19" "first of two clips"
equal "$(index n.safetensors | cut -d' ' -f17-21)" "20 25 30 35 39" "second of two clips"
run 0 frames n1.mp4 --stride 4 --clips 2 --raw -o n.safetensors
equal "$(index n.safetensors)" "0$(repeat 0 31)" "two clips of one frame"
ffmpeg -v error -y -i numbered.mp4 -vf trim=end_frame=7 -c:v libx264 -crf 4 n7.mp4
run 0 frames n7.mp4 --stride 1 --raw -o n.safetensors
equal "$(index n.safetensors)" "0 1 2 3 4 5 6$(repeat 6 9)" "7 frames, step 1"
ffmpeg -v error -y -i numbered.mp4 -vf fps=2 -c:v libx264 -crf 4 slow.mp4
run 0 "$JEPA" frames slow.mp4 --fps 4 --raw -o n.safetensors
equal "$(index n.safetensors)" "0 1 2 3$(repeat 3 12)" "2 fps asked at 4"
says err "slower"
error 4 "" frames n7.mp4 --stride 4 --reject-short --raw -o x.safetensors
says err "shorter than"

# ---- turned videos: upright ----
ffmpeg -v error -y -f lavfi -i "color=c=black:s=320x240:r=10:d=1,format=yuv420p,drawbox=x=0:y=0:w=320:h=60:color=red:t=fill,drawbox=x=0:y=60:w=80:h=180:color=blue:t=fill" -c:v libx264 -crf 4 up.mp4
corners() { # FILE: which colours stand 5 pixels in: top left, top right, bottom left, bottom right
    set -- "$1" $("$VALS" --shape "$1" frames)
    h=$4 w=$5
    "$VALS" "$1" frames | awk -v a=$(((5 * w + 5) * 3)) -v b=$(((5 * w + w - 6) * 3)) -v c=$((((h - 6) * w + 5) * 3)) -v d=$((((h - 6) * w + w - 6) * 3)) '
        function name(i) { return v[i] > 200 ? "red" : v[i + 2] > 200 ? "blue" : "black" }
        NR <= d + 3 { v[NR - 1] = $1 } END { print name(a), name(b), name(c), name(d) }'
}
for r in "0 240x320 red red blue black" "90 320x240 red black red blue" "180 240x320 black blue red red" "270 320x240 blue red black red"; do
    set -- $r
    if [ $1 = 0 ]; then cp up.mp4 rot.mp4; else ffmpeg -v error -y -i up.mp4 -c copy -metadata:s:v:0 rotate=$1 rot.mp4; fi
    run 0 frames rot.mp4 --index 0 --raw -o rot.safetensors
    equal "$("$VALS" --shape rot.safetensors frames)" "1 1 $(echo $2 | tr x ' ') 3" "size at $1 degrees"
    equal "$(corners rot.safetensors)" "$3 $4 $5 $6" "corners at $1 degrees"
done
run 0 frames rot.mp4 --index 0 --raw --as-stored -o rot.safetensors
equal "$(corners rot.safetensors)" "red red blue black" "as stored"
error 2 "do not fit one tensor" frames up.mp4 pngs numbered.mp4 rot.mp4 --index 0 --raw -o x.safetensors

# ---- what the model sees: a clip through embed, and its own frames through embed again ----
model m
run 0 frames -m m/latest m.data/clips/000001.mp4 -o seen.safetensors
equal "$("$VALS" --shape seen.safetensors pixel_values)" "1 16 3 48 48" "pixel_values"
run 0 "$JEPA" embed -m m/latest -o a.h5 m.data/clips/000001.mp4
run 0 "$JEPA" embed -m m/latest -o b.h5 seen.safetensors
less "$("$VALS" --diff a.h5 embeddings b.h5 embeddings)" 1e-5 "embedding of the frames that were seen"
echo no >bad.mp4
run 1 frames -m m/latest bad.mp4 m.data/clips/000001.mp4 -o seen2.safetensors
same seen.safetensors seen2.safetensors
error 4 "none of the inputs" frames bad.mp4 -o x.safetensors
error 2 "-o" frames numbered.mp4
error 4 "" frames numbered.mp4 --index 0 -o bad.mp4/pngs
finish
