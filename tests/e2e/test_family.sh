#!/bin/sh
# Every model of the family from its published file form, through the program: told by content, embedded, predicted, written and read again.
. "$2/tests/e2e/lib.sh"
need ffmpeg
V=$SRC/tests/data/vectors
ffmpeg -v error -y -f lavfi -i "testsrc2=s=160x120:r=16:d=2" -c:v libx264 -crf 20 t.mp4
mkdir images && for i in 1 2 3; do ffmpeg -v error -y -f lavfi -i "testsrc2=s=96x80" -vf "hue=h=$((i * 50))" -frames:v 1 "images/$i.png"; done

check() { # NAME FAMILY DIM FILE OPTION…
    name=$1 family=$2 dim=$3 file=$4
    shift 4
    run 0 "$JEPA" info "$file" && says out "family *$family\$"
    run 0 "$JEPA" embed -m "$file" "$@" --clips 2 -o "$name.npy" t.mp4 && equal "$("$VALS" --shape "$name.npy")" "2 $dim" "$name: rows"
    run 0 "$JEPA" embed -m "$file" "$@" -o "$name-i.npy" images && equal "$("$VALS" --shape "$name-i.npy")" "3 $dim" "$name: images"
}
check ijepa ijepa 48 "$V/ijepa-meta-tiny/checkpoint.pth.tar" --heads 3 --pred-heads 2
check vjepa1 vjepa1 40 "$V/vjepa1-meta-tiny/checkpoint-uniform.pth.tar" --heads 4 --pred-heads 4
check vjepa1n vjepa1 48 "$V/vjepa1-meta-tiny/checkpoint-nonuniform.pth.tar" --heads 3 --pred-heads 3
check vjepa2 vjepa2 48 "$V/vjepa2-meta-tiny/checkpoint.pt" --heads 2 --pred-heads 2 --crop 64 --frames 4
check vjepa2l vjepa2 32 "$V/vjepa2-meta-tiny/checkpoint-legacy.pt" --heads 2 --crop 64 --frames 4
check vjepa21 vjepa21 48 "$V/vjepa21-tiny/checkpoint.pt" --heads 3 --pred-heads 2 --crop 64 --frames 4
check student vjepa21 24 "$V/vjepa21-tiny/student.pt" --heads 1 --pred-heads 2 --crop 32 --frames 4

# one frame of V-JEPA 2.1 is an image; rows of whole clips are refused for it by name
run 0 "$JEPA" embed -m "$V/vjepa21-tiny/checkpoint.pt" --heads 3 --crop 64 --frames 1 --pool none -o one.npy images && equal "$("$VALS" --shape one.npy)" "3 16 48" "one frame"
error 4 "none of 3 inputs" "$JEPA" embed -m "$V/vjepa21-tiny/checkpoint.pt" --heads 3 --crop 64 --frames 4 --pool none -o none.npy images
says err "give images apart, with 1 frame"

# another input size: stored tables are resampled, rotary positions need nothing
run 0 "$JEPA" embed -m "$V/vjepa1-meta-tiny/checkpoint-uniform.pth.tar" --heads 4 --crop 64 --pool none -o other.npy t.mp4 && equal "$("$VALS" --shape other.npy)" "1 128 40" "another size"

predict() { # NAME N DIM FILE MASK OPTION…
    name=$1 n=$2 dim=$3 file=$4 mask=$5
    shift 5
    run 0 "$JEPA" predict -m "$file" "$@" --mask "$mask" -o "$name.h5" t.mp4 && equal "$("$VALS" --shape "$name.h5" predicted)" "1 $n $dim" "$name: predicted"
}
predict p1 25 40 "$V/vjepa1-meta-tiny/checkpoint-uniform.pth.tar" future:from=1 --heads 4 --pred-heads 4
predict p2 64 48 "$V/vjepa2-meta-tiny/checkpoint.pt" future:from=1 --heads 2 --pred-heads 2 --crop 64 --frames 4
predict p21 16 192 "$V/vjepa21-tiny/checkpoint.pt" future:from=1 --heads 3 --pred-heads 2 --crop 64 --frames 4
predict ps 4 40 "$V/vjepa21-tiny/student.pt" future:from=1 --heads 1 --pred-heads 2 --crop 32 --frames 4
run 0 "$JEPA" predict -m "$V/ijepa-meta-tiny/checkpoint.pth.tar" --heads 3 --pred-heads 2 --crop 140 --mask multiblock:seed=3 -o pi.h5 images/1.png &&
    equal "$("$VALS" pi.h5 error | awk '$1 > 0 {n++} END {print (n % 4 == 0 && n > 0)}')" 1 "four target blocks"
error 2 "teacher's 40 channels" "$JEPA" predict -m "$V/vjepa21-tiny/student.pt" --heads 1 --pred-heads 2 --crop 32 --frames 4 --mask future:from=1 --png x.png t.mp4
error 3 "attention heads" "$JEPA" embed -m "$V/vjepa2-meta-tiny/checkpoint.pt" -o x.npy t.mp4
[ -e x.png ] || [ -e x.npy ] && fail "something was written after an error"

# written and read again: bit for bit
run 0 "$JEPA" convert "$V/vjepa2-meta-tiny/checkpoint.pt" back.pt --to meta --heads 2 --pred-heads 2
run 0 "$JEPA" convert "$V/ijepa-meta-tiny/checkpoint.pth.tar" folder --to hf --heads 3 --pred-heads 2
run 0 "$JEPA" embed -m folder -o hf.npy images && equal "$("$VALS" --shape hf.npy)" "3 48" "an I-JEPA folder"
run 0 "$JEPA" embed -m back.pt --heads 2 --crop 64 --frames 4 --clips 2 -o back.npy t.mp4 && same vjepa2.npy back.npy
finish
