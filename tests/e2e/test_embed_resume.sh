#!/bin/sh
# An embedding job that was killed or stopped goes on with the same command and gives the file that an uninterrupted one gives.
. "$2/tests/e2e/lib.sh"
model m
digits d 40 5
echo "nothing" >bad.mp4
sed 's|^|d/|' d/digit.txt >list.txt
sed -i '5i bad.mp4 7' list.txt
embed() { ${EXEC:-} "$JEPA" embed -m m/latest --threads 1 --crop 96 --clips 4 "$@" list.txt; }
items() { "$JEPA" info "$1" 2>/dev/null | awk '$1 == "embeddings"'; }
grown() { [ "$(wc -c <"$1" 2>/dev/null || echo 0)" -gt "$2" ]; }
run 1 embed -o whole.h5
run 1 embed -o whole.safetensors
equal "$("$VALS" --shape whole.h5)" "160 24" rows
for how in KILL TERM INT; do
    for form in h5 safetensors; do
        rm -f o.$form o.$form.part
        # the size of OUT.part says how far a job is: some 150 bytes a row beside its path
        { EXEC=exec; embed -o o.$form; } >out 2>err &
        pid=$!
        wait_for 60 grown o.$form.part 4000 || fail "no rows in o.$form.part"
        kill -$how $pid 2>/dev/null
        wait $pid
        code=$?
        if [ -e o.$form ] && [ ! -e o.$form.part ]; then
            echo "$how came too late" # the file is whole then: compared below all the same
        else
            case $how in
            TERM) equal $code 143 "exit code"; tail -n 1 err | grep -q "^jepa: stopped .* goes on" || fail "last line: $(tail -n 1 err)" ;;
            KILL) equal $code 137 "exit code" ;;
            INT) [ $code = 130 ] || echo "SIGINT is ignored in the background here ($code)" ;;
            esac
            [ -e o.$form.part ] || fail "no o.$form.part after $how"
            error 2 "with other settings (frames" embed -o o.$form --frames 8
        fi
        run 1 embed -o o.$form || continue
        [ $code = 0 ] || says err "going on after [0-9]* of 41 items"
        [ -e o.$form.part ] && fail "o.$form.part is left"
    done
    for name in embeddings label clip start_seconds end_seconds; do
        equal "$("$VALS" --diff whole.h5 $name o.h5 $name)" 0 "$how: $name"
    done
    "$VALS" whole.h5 path >left
    "$VALS" o.h5 path >right
    same left right
    equal "$("$VALS" o.h5 failed/reason)" "not a media file" failures
    same whole.safetensors o.safetensors
done
# a job's part file is its own
{ EXEC=exec; embed -o busy.npy; } >/dev/null 2>&1 &
pid=$!
wait_for 60 grown busy.npy.part 2000 || fail "no rows in busy.npy.part"
error 4 "another job is writing" embed -o busy.npy
kill -TERM $pid
wait $pid
echo "something else" >alien.h5.part
error 4 "is not an unfinished job" embed -o alien.h5
equal "$(cat alien.h5.part)" "something else" "a file that is not ours"
# a long video is stopped inside, not at its end
if command -v ffmpeg >/dev/null 2>&1; then
    ffmpeg -v error -y -f lavfi -i "testsrc2=s=96x96:r=10:d=120" -c:v libx264 -g 10 long.mp4
    { EXEC=exec; "$JEPA" embed -m m/latest --threads 1 --every 0.1 --crop 96 -o long.h5 long.mp4; } >/dev/null 2>err &
    pid=$!
    wait_for 60 grown long.h5.part 2000 || fail "no rows in long.h5.part"
    kill -TERM $pid
    start=$(date +%s)
    wait $pid
    equal $? 143 "exit code inside a long video"
    less $(($(date +%s) - start)) 10 "seconds until it stopped"
fi
# no room: the rows are kept, and the job goes on when there is
full() { (
    ulimit -f 8 || exit 99
    embed -o full.h5
); }
error 4 "full.h5.*cannot be written\|cannot be written" full
run 1 embed -o full.h5
equal "$("$VALS" --diff whole.h5 embeddings full.h5 embeddings)" 0 "after a full disk"
finish
