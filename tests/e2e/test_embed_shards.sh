#!/bin/sh
# Shards by option and by rank, merged: what one job would have written. Rows that can be read while the job runs, compression, windows.
. "$2/tests/e2e/lib.sh"
model m
digits d 14 5
echo "nothing" >bad.mp4
echo "nothing more" >worse.mp4
sed 's|^|d/|' d/digit.txt >list.txt
sed -i -e '3i worse.mp4 8' -e '8i bad.mp4 7' list.txt # 16 items; both of shard 2 of 3
embed() { "$JEPA" embed -m m/latest --threads 1 --clips 2 "$@" list.txt; }
columns="embeddings item clip label start_seconds end_seconds failed/item failed/line"
alike() { # A.h5 B.h5
    for name in $columns; do
        equal "$("$VALS" --diff "$1" $name "$2" $name)" 0 "$2: $name"
    done
    for name in path failed/path failed/reason; do
        "$VALS" "$1" $name >left
        "$VALS" "$2" $name >right
        same left right
    done
}
for form in h5 safetensors npy; do run 1 embed -o whole.$form; done
equal "$("$VALS" --shape whole.h5)" "28 24" rows
equal "$("$VALS" whole.h5 failed/path | tr '\n' ' ')" "worse.mp4 bad.mp4 " failed
equal "$("$VALS" whole.h5 failed/item | tr '\n' ' ')" "2 8 " "failed items"

# ---- by option ----
for i in 0 1 2; do
    want=0
    [ $i = 2 ] && want=1
    for form in h5 safetensors; do run $want embed --shard $i/3 -o s$i.$form; done
done
run 1 "$JEPA" merge all.h5 s1.h5 s2.h5 s0.h5 # in any order
equal "$(cat out)" "all.h5: 28 x 24"
alike whole.h5 all.h5
run 1 "$JEPA" merge all.safetensors s0.safetensors s1.safetensors s2.safetensors
same whole.safetensors all.safetensors
run 1 "$JEPA" merge all.npy s0.h5 s1.safetensors s2.h5 # mixed
same whole.npy all.npy
run 1 "$JEPA" merge from_h5.safetensors s0.h5 s1.h5 s2.h5
same whole.safetensors from_h5.safetensors
run 1 "$JEPA" merge one.npy whole.h5 # one alone: another form
same whole.npy one.npy
run 0 embed -o all.h5 # a merged output is the job's own
says err "complete already"
run 1 embed --out-type f16 -o half.h5
for i in 0 1 2; do "$JEPA" embed -m m/latest --threads 1 --clips 2 --out-type f16 --gzip 9 --shard $i/3 -o h$i.h5 --quiet list.txt >/dev/null 2>&1; done
run 1 "$JEPA" merge --gzip 6 --json half_all.h5 h0.h5 h1.h5 h2.h5
alike half.h5 half_all.h5
says out '"rows": 28'

# ---- what does not fit ----
error 2 "1 of 3 shards missing: 1 (5 of 16 items); --allow-missing" "$JEPA" merge x.h5 s0.h5 s2.h5
run 1 "$JEPA" merge --allow-missing x.h5 s0.h5 s2.h5
says err "1 of 3 shards missing: 1"
run 1 "$JEPA" merge y.h5 s1.h5 x.h5 # what was missing, later
alike whole.h5 y.h5
rm -f x.h5 y.h5
error 2 "shard 0 of 3 is in s0.h5 and in s0.safetensors" "$JEPA" merge x.npy s0.h5 s0.safetensors s1.h5 s2.h5
run 0 embed --shard 1/2 -o t1.h5
error 2 "t1.h5 is of a job of 2 shards, s1.h5 of one of 3" "$JEPA" merge x.h5 s1.h5 t1.h5
"$JEPA" embed -m m/latest --threads 1 --shard 0/3 --clips 3 --quiet -o u0.h5 list.txt >/dev/null 2>&1
error 2 "u0.h5: has other settings than s1.h5 (clips: 2 there, 3 now)" "$JEPA" merge x.h5 s1.h5 s2.h5 u0.h5
error 2 "out_type" "$JEPA" merge x.h5 h0.h5 s1.h5 s2.h5
error 2 "npy does not say" "$JEPA" merge x.h5 whole.npy
error 2 "does not hold the paths" "$JEPA" merge x.h5 s0.safetensors s1.h5 s2.h5
error 2 "s0.h5: exists already" "$JEPA" merge s0.h5 s1.h5 s2.h5
error 2 "end in" "$JEPA" merge x.txt s0.h5 s1.h5 s2.h5
error 2 "an output and the files" "$JEPA" merge x.h5
error 4 "missing.h5: cannot be opened: No such file" "$JEPA" merge x.npy s0.h5 missing.h5
cp bad.mp4 damaged.h5
error 4 "not HDF5, or damaged" "$JEPA" merge x.npy s0.h5 damaged.h5
head -c 3000 s1.h5 >damaged.h5
error 4 "damaged" "$JEPA" merge x.npy s0.h5 damaged.h5 s2.h5
[ -e x.h5 ] || [ -e x.npy ] || [ -e x.npy.tmp ] && fail "something was written"

# ---- by rank: Open MPI, PMI, Slurm; more ranks than items ----
r=0
while [ $r -lt 3 ]; do
    want=0
    [ $r = 2 ] && want=1
    OMPI_COMM_WORLD_RANK=$r OMPI_COMM_WORLD_SIZE=3 run $want embed -o mpi.h5
    says err "rank $r of 3 (OMPI_COMM_WORLD_RANK): mpi.000$r-of-0003.h5"
    r=$((r + 1))
done
run 1 "$JEPA" merge mpi.h5 mpi.*-of-0003.h5
alike whole.h5 mpi.h5
r=0
while [ $r -lt 18 ]; do
    SLURM_PROCID=$r SLURM_NTASKS=18 embed --quiet -o slurm.safetensors >/dev/null 2>&1
    r=$((r + 1))
done
run 1 "$JEPA" merge slurm.safetensors slurm.*-of-0018.safetensors
same whole.safetensors slurm.safetensors
mkdir a.b
PMI_RANK=1 PMI_SIZE=4 run 0 embed -o a.b/pmi.npy
[ -e a.b/pmi.0001-of-0004.npy ] || fail "no a.b/pmi.0001-of-0004.npy: $(ls a.b)"
SLURM_PROCID=0 SLURM_NTASKS=1 run 1 embed -o single.npy
[ -e single.npy ] || fail "one task is no shard"
SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_NTASKS=4 run 1 embed -o batch.npy # a batch script's own shell
[ -e batch.npy ] || fail "a batch script without srun is no rank"
SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=3 SLURM_PROCID=1 SLURM_NTASKS=4 run 0 embed -o step.npy # srun -n 3 in an allocation of 4
[ -e step.0001-of-0003.npy ] || fail "a step of 3 tasks"
SLURM_PROCID=1 SLURM_NTASKS=4 run 0 embed --shard 1/2 -o mine.npy # what the user says goes before
[ -e mine.npy ] || fail "--shard goes before the ranks"

# ---- rows can be read while the job runs ----
{ EXEC=exec; ${EXEC:-} "$JEPA" embed -m m/latest --threads 1 --clips 400 --crop 96 -o grow.h5 list.txt; } >/dev/null 2>&1 &
pid=$!
some_rows() { [ "$("$VALS" --shape grow.h5 2>/dev/null | cut -d' ' -f1)" -gt 0 ]; }
if wait_for 60 some_rows; then
    if [ -e grow.h5.part ]; then
        "$VALS" grow.h5 path | head -n 1 | grep -q "d/clips/000000.mp4" || fail "the first path while it runs"
        "$VALS" grow.h5 label >seen
        [ -s seen ] || fail "labels while it runs"
        error 2 "is unfinished" "$JEPA" merge x.npy grow.h5
    else
        echo "the job was too fast to look in"
    fi
else
    fail "no rows in grow.h5 while it runs"
fi
kill -TERM $pid 2>/dev/null
wait $pid
rm -f grow.h5.part # without it there is nothing to go on from
[ -e grow.h5 ] && error 2 "is unfinished, and grow.h5.part to go on from is gone" "$JEPA" embed -m m/latest --threads 1 --clips 400 --crop 96 -o grow.h5 list.txt

# ---- windows: the last whole one ends the video; digits are 16 frames at 8 a second ----
head -n 1 list.txt >first.txt
window() { run 0 "$JEPA" embed -m m/latest --threads 1 --frames 4 "$@" first.txt; "$VALS" "${2}" start_seconds | tr '\n' ' '; }
if command -v ffmpeg >/dev/null 2>&1; then
    ffmpeg -v error -y -f lavfi -i "testsrc2=s=64x64:r=10:d=4.1" -c:v libx264 -g 10 w.mp4 # 41 frames, the last at 4.0 s
    echo w.mp4 >first.txt
    equal "$(window -o w1.h5 --fps 10 --every 0.9)" "0 0.9 1.8 2.7 3.6 " "frames to 3.9 s fit"
    equal "$(window -o w2.h5 --fps 10 --every 1.3)" "0 1.3 2.6 " "3.9 to 4.2 s would end behind the video: left out"
    equal "$(window -o w3.h5 --fps 10 --every 3.7)" "0 3.7 " "ends with the last frame"
    equal "$("$VALS" w3.h5 end_seconds | tr '\n' ' ')" "0.3 4 " "end of a window: the time of its last frame"
    equal "$(window -o w4.h5 --fps 0.5 --every 1)" "0 " "shorter than one: one"
fi
finish
