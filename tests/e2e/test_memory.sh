#!/bin/sh
# --memory: the plan is cut down until it fits, said, and refused with exit code 5 when even the smallest does not.
. "$2/tests/e2e/lib.sh"
digits d 8
on() { # DIR [OPTION…]
    into=$1
    shift
    train "$into" --set "data.datasets=[d/clips.txt]" "$@"
}

# ---- training ----
run 0 on no --dry-run
says out "recomputation  *none"
says out "samples that run together  *4 of 4"
together=$(sed -n 's/^memory: together  *\([0-9.]*\) MiB/\1/p' out)
less 0 "$together" "the plan's sum"
run 0 on no --dry-run --memory 10G
says out "chosen for at most 10240.0 MiB"
says out "samples that run together  *4 of 4"
says out "block  *1 "                        # the table of choices
below=$(awk -v t="$together" 'BEGIN { printf "%d", t * 1024 - 200 }')
run 0 on no --dry-run --memory "${below}K" # 0.2 MiB less than the whole group needs
grep -q "samples that run together  *4 of 4" out && grep -q "recomputation  *none" out && fail "nothing was cut down for ${below}K"
less "$(sed -n 's/^memory: together  *\([0-9.]*\) MiB/\1/p' out)" "$together" "the smaller plan"
run 0 on no --dry-run --memory auto
says out "samples that run together  *4 of 4"
run 0 on no --dry-run --set meta.memory=10G --set data.micro_batch=2
says out "samples that run together  *2 of 4"
error 5 "the smallest step needs" on no --memory 8M
error 2 "--memory much" on no --memory much
error 3 "meta.memory" on no --set meta.memory=much
error 3 "data.micro_batch" on no --set data.micro_batch=5
[ -e no ] && fail "a refused or planned run left a folder"

# The same training whatever runs together: steps differ by rounding alone.
run 0 on whole --steps 3
run 0 on parts --steps 3 --set data.micro_batch=1
for f in whole parts; do awk -F, 'NR > 1 { print $2 }' $f/log.csv >$f.loss; done
equal "$(wc -l <whole.loss)" "$(wc -l <parts.loss)" "rows of the logs"
paste whole.loss parts.loss | awk '{ d = $1 - $2; if (d < 0) d = -d; if (!($1 > 0) || d > 1e-4 * $1) exit 1 }' || fail "losses differ: $(paste whole.loss parts.loss)"

# ---- embedding, predicting ----
clip=$(head -n 1 d/clips.txt | cut -d' ' -f1)
[ -e "$clip" ] || clip=d/$clip
run 0 "$JEPA" embed -m whole/latest -o a.npy "$clip"
run 0 "$JEPA" embed -m whole/latest -o b.npy --memory 8G --batch 4 "$clip"
says err "4 clips a call"
same a.npy b.npy
error 5 "one clip at a time needs" "$JEPA" embed -m whole/latest -o c.npy --memory 16M "$clip"
error 2 "--memory" "$JEPA" embed -m whole/latest -o c.npy --memory some "$clip"
error 5 "one clip at a time needs" "$JEPA" predict -m whole/latest --mask future:from=2 -o p.h5 --memory 16M "$clip"
run 0 "$JEPA" predict -m whole/latest --mask future:from=2 -o p.h5 --memory 8G "$clip"
finish
