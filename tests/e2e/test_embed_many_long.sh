#!/bin/sh
# A job over 100,000 items: what it holds in memory beyond a job over 1,000 is the list of its items.
. "$2/tests/e2e/lib.sh"
[ -x /usr/bin/time ] || [ -r /proc/self/status ] || skip "no way to measure memory"
model m
cp "$SRC/tests/data/images/rgb.png" i.png
job() { # NAME ITEMS FORM: peak resident KiB → peak
    awk -v n="$2" 'BEGIN { for (i = 0; i < n; i++) print (i % 1000 == 7 ? "missing.mp4" : "i.png"), i }' >$1.txt
    { exec "$JEPA" embed -m m/latest --threads 1 --crop 12 --frames 2 --quiet -o $1.$3 $1.txt; } >/dev/null 2>$1.err &
    pid=$!
    peak=0
    while kill -0 $pid 2>/dev/null; do
        now=$(awk '/^VmHWM/ { print $2 }' /proc/$pid/status 2>/dev/null)
        [ -n "$now" ] && peak=$now
        sleep 0.02
    done
    wait $pid
    equal $? 1 "exit code ($2 items, $(tail -n 1 $1.err))"
}
for form in h5 npy; do
    case $form in h5) most=50000 ;; *) most=32000 ;; esac
    job few 1000 $form
    few=$peak
    start=$(date +%s)
    job many 100000 $form
    equal "$("$VALS" --shape many.$form | cut -d' ' -f1)" 99900 rows
    echo "$form: $few KiB with 1,000 items, $peak KiB with 100,000, $(($(date +%s) - start)) s"
    # an item: its record of 56 bytes (once more while the list grows) and its path, in 64-byte pieces: some 250 bytes, 25,000 KiB in all. Of a
    # file that grows HDF5 keeps what it knows about it in a cache of its own, at most 32 MiB.
    less $((peak - few)) $most "KiB more for 99,000 items ($form)"
done
finish
