#!/bin/sh
# jepa classify as typed: the stored probabilities, text, JSON and CSV that agree, segments and views, labels of lists, bad inputs.
. "$2/tests/e2e/lib.sh"
need ffmpeg
V=$SRC/tests/data/vectors/vjepa2-hf-tiny
MODEL=$V/classifier # 4 frames of 64x64, 7 classes
digits d 4
ffmpeg -v error -y -f lavfi -i "testsrc2=s=160x90:r=16:d=3" -c:v libx264 -crf 20 t.mp4
bad_files

# ---- clips that somebody prepared: softmax of the stored scores, class by class ----
run 0 "$JEPA" classify -m "$MODEL" --top 7 "$V/io.safetensors" -o p.csv && {
    says err "head: 7 classes, 2 blocks of 2 heads; 1 segment, 1 view"
    "$VALS" "$V/classifier-io.safetensors" logits >logits
    awk -F, 'NR == FNR { logit[NR - 1] = $1; next }
             FNR > 1 { got[$2 * 7 + $4] = $6; n++ }
             END { if (n != 14) { print "rows: " n; exit 1 }
                   for (b = 0; b < 2; b++) { s = 0; for (i = 0; i < 7; i++) s += exp(logit[b * 7 + i]);
                       for (i = 0; i < 7; i++) { d = exp(logit[b * 7 + i]) / s - got[b * 7 + i]; if (d < 0) d = -d; if (d > most) most = d } }
                   print most; exit !(most < 1e-5) }' logits p.csv >most || fail "probabilities of the stored clips: off by $(cat most)"
}
[ -e p.csv.tmp ] && fail "p.csv.tmp was left behind"

# ---- a video: three forms of the same answer ----
run 0 "$JEPA" classify -m "$MODEL" t.mp4 && {
    equal "$(wc -l <out | tr -d ' ')" 5 "lines"
    grep -q "^t.mp4: 0\.[0-9]* LABEL_[0-6]$" out || fail "first line: $(head -n 1 out)"
    best=$(sed -n '1s/.* //p' out)
}
run 0 "$JEPA" classify -m "$MODEL" --top 1 --json t.mp4 d/clips/000001.mp4 -o t.csv && {
    equal "$(wc -l <out | tr -d ' ')" 2 "lines of --json"
    head -n 1 out >first
    says first "\"path\":\"t.mp4\",\"classes\":\[{\"class\":[0-6],\"name\":\"$best\",\"probability\":0\."
    equal "$(wc -l <t.csv | tr -d ' ')" 3 "lines of the CSV"
    says t.csv "^\"t.mp4\",0,1,[0-6],\"$best\",0\.[0-9]*,-1$"
}
# segments and views change the answer, and each repeats itself
for how in "--segments 2" "--views 3" "--segments 2 --views 3" ""; do
    run 0 "$JEPA" classify -m "$MODEL" --top 7 --quiet $how t.mp4 -o a.csv && cp out a
    run 0 "$JEPA" classify -m "$MODEL" --top 7 --quiet $how --device ref t.mp4 -o b.csv
    awk -F, 'NR == FNR { p[$4] = $6; next } FNR > 1 { d = $6 - p[$4]; if (!($4 in p) || d > 1e-5 || d < -1e-5) exit 1 }' a.csv b.csv || fail "$how: another answer on ref"
    [ -e last ] && cmp -s a last && fail "$how says the same as without"
    cp a last
done
run 0 "$JEPA" classify -m "$MODEL" --top 7 --quiet --pooler-heads 4 t.mp4 && cmp -s out last && fail "4 heads say the same as 2"
error 3 "9 heads do not divide embed_dim 56" "$JEPA" classify -m "$MODEL" --pooler-heads 9 t.mp4
# an image, a folder; a list's labels are counted
run 0 "$JEPA" classify -m "$MODEL" --top 1 --quiet "$SRC/tests/data/images/rgb.png"
class=$(sed -n '2s/^[^,]*,[0-9]*,1,\([0-9]\),.*/\1/p' t.csv)
echo "t.mp4 $class" >list.txt
echo "d/clips/000000.mp4 99" >>list.txt
run 0 "$JEPA" classify -m "$MODEL" list.txt && says err "right: 50.00 % (among the best five: 50.00 %) of 2"

# a file that ends early: what is there is classified
run 0 "$JEPA" classify -m "$MODEL" --top 1 --quiet --segments 3 --views 2 trunc.mp4

# ---- bad input ----
run 1 "$JEPA" classify -m "$MODEL" --json text.mp4 t.mp4 none.mp4 && {
    equal "$(grep -c '"error":' out)" 2 "errors in --json"
    says err "jepa: text.mp4: not a media file"
    says err "2 inputs failed:"
}
run 1 "$JEPA" classify -m "$MODEL" t.mp4 p.csv.safetensors && says err "p.csv.safetensors: "
error 4 "none of 1 inputs" "$JEPA" classify -m "$MODEL" text.mp4 -o none.csv
[ -e none.csv ] || [ -e none.csv.tmp ] && fail "something was written for no row"
error 3 "there is no classifier in it" "$JEPA" classify -m "$V/model" t.mp4
equal "$(grep -c '^jepa: ' err)" 1 "lines of the refusal"
error 2 "which inputs" "$JEPA" classify -m "$MODEL"
error 2 "which model" "$JEPA" classify t.mp4
error 2 "no such option" "$JEPA" classify -m "$MODEL" --every 1 t.mp4
error 2 "have no meaning" "$JEPA" classify -m "$MODEL" --views 3 "$V/io.safetensors"
error 4 "cannot be written" "$JEPA" classify -m "$MODEL" t.mp4 -o nowhere/x.csv
finish
