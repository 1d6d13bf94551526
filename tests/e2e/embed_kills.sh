# embed_kills.sh: sourced with KILLS set: a job is killed (SIGKILL) so many times at random moments, from its start to its last write, each time
# going on with what the one before left; when it is done its output is compared with an unkilled run's, and it begins anew.
. "$2/tests/e2e/lib.sh"
model m
digits d 24 5
echo "nothing" >bad.mp4
sed 's|^|d/|' d/digit.txt >list.txt
sed -i -e '5i bad.mp4 7' -e '20i missing.mp4 8' list.txt
tar -cf last.tar d/clips/000001.mp4 d/clips/000002.mp4
echo last.tar >>list.txt
seed=${SEED:-$$}
echo "$KILLS kills, SEED=$seed"
random() { # a number in [0,1) from seed and count
    awk -v s="$seed" -v n="$1" 'BEGIN { srand(s * 1009 + n); rand(); print rand() }'
}
options() {
    case $1 in
    dense.h5) echo "--pool none --clips 3" ;;
    gzip.h5) echo "--gzip 3 --clips 6" ;;
    *) echo "--clips 6" ;;
    esac
}
# shellcheck disable=SC2046
embed() { ${EXEC:-} "$JEPA" embed -m m/latest --threads 1 --crop 96 --stride 1 $(options "$1") --quiet -o "$2" list.txt; }
now() { date +%s.%N; }
kills=0 tries=0 runs=0 torn=0
for form in dense.h5 gzip.h5 plain.npy plain.safetensors; do
    start=$(now)
    run 1 embed $form whole.$form || finish
    end=$(now)
    eval "span_${form%.*}_${form#*.}=\$(awk -v a=$start -v b=$end 'BEGIN { print b - a }')"
done
compare() { # FORM: o.FORM is the unkilled run's, row for row
    for name in embeddings item clip label start_seconds end_seconds failed/item; do
        case $1/$name in
        *.npy/embeddings | *.h5/* | *.safetensors/embeddings | *.safetensors/[iclse]*) ;;
        *) continue ;;
        esac
        equal "$("$VALS" --diff whole.$1 $name o.$1 $name)" 0 "$1: $name"
    done
    case $1 in
    *.h5)
        for name in path failed/path failed/reason; do
            "$VALS" whole.$1 $name >left
            "$VALS" o.$1 $name >right
            same left right
        done
        ;;
    *) same whole.$1 o.$1 ;; # byte for byte
    esac
    [ -e o.$1.part ] && fail "o.$1.part is left"
    [ -e o.$1.tmp ] && fail "o.$1.tmp is left"
    rm -f o.$1
    runs=$((runs + 1))
}
while [ $kills -lt "$KILLS" ] && [ $failures = 0 ]; do
    for form in dense.h5 gzip.h5 plain.npy dense.h5 plain.safetensors; do
        [ $kills -lt "$KILLS" ] || break
        [ -e o.$form ] && [ ! -e o.$form.part ] && compare $form # the kill came between the last write and the exit
        eval "span=\$span_${form%.*}_${form#*.}"
        tries=$((tries + 1))
        wait_seconds=$(awk -v r="$(random $tries)" -v s="$span" 'BEGIN { print r * 1.05 * s }')
        { EXEC=exec; embed $form o.$form; } >/dev/null 2>err &
        pid=$!
        sleep "$wait_seconds"
        kill -KILL $pid 2>/dev/null
        wait $pid 2>/dev/null
        code=$?
        case $code in
        137) kills=$((kills + 1)) ;;
        1) compare $form ;; # it was done before the kill
        0) [ -s err ] && fail "$(cat err)"; compare $form ;; # done before, its .part too: it says so
        *) fail "exit code $code: $(tail -n 1 err)" ;;
        esac
        [ -e o.$form ] && [ -e o.$form.part ] && torn=$((torn + 1))
    done
done
for form in dense.h5 gzip.h5 plain.npy plain.safetensors; do
    [ -e o.$form ] && [ ! -e o.$form.part ] && compare $form
    embed $form o.$form >out 2>err
    code=$? # 0: the last kill came when all was written and only the .part was left to remove: "complete already"
    case $code in
    0 | 1) ;;
    *) fail "exit code $code at the end: $(tail -n 1 err)" ;;
    esac
    compare $form
done
echo "$kills kills, $runs finished outputs compared, $torn times an output stood beside its .part"
finish
