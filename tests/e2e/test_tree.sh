#!/bin/sh
# The tree's rules, read off the files: headers that compile alone, who may include whom, which libraries are seen where, nothing that ends
# the process or prints in a library, no writable state at file scope. The checks are run on forged files first: each must be able to fail.
. "$2/tests/e2e/lib.sh"
need cc

# ---- who may include whom (spec of the architecture): arrows point down only ----
allowed() { # FOLDER: the folders whose headers it may include
    case $1 in
    base) echo base ;;
    compute) echo "compute base" ;;
    masking) echo "masking base" ;;
    video) echo "video base" ;;
    checkpoint) echo "checkpoint compute base" ;;
    encoder) echo "encoder compute base" ;;
    predictor) echo "predictor encoder compute base" ;;
    train) echo "train predictor encoder checkpoint video masking compute base" ;;
    infer) echo "infer predictor encoder checkpoint video masking compute base" ;;
    cli) echo "cli train infer predictor encoder checkpoint video masking compute base" ;;
    *) echo "" ;;
    esac
}
includes() { # FOLDER FILE: lines that break a rule, on stdout
    folder=$1 file=$2
    sed -n 's/^[ \t]*#[ \t]*include[ \t]*\([<"]\)\([^>"]*\)[>"].*/\1 \2/p' "$file" | while read -r kind name; do
        if [ "$kind" = '"' ]; then
            to=${name%%/*}
            case " $(allowed "$folder") " in
            *" $to "*) [ -e "$SRC/$name" ] || echo "$file: includes $name, which is not there" ;;
            *) echo "$file: $folder must not include $name" ;;
            esac
        else
            case $name in
            libav*/* | libsw*/* | stb* | stb/*) [ "$folder" = video ] || echo "$file: only video includes $name" ;;
            hdf5* | H5*) [ "$folder" = video ] || [ "$file" = "$SRC/infer/out_h5.c" ] || [ "$file" = "$SRC/infer/out_h5_sets.c" ] || [ "$file" = "$SRC/infer/merge_h5.c" ] || echo "$file: HDF5 is read in video and written in infer/out_h5.c: $name" ;;
            cuda* | nccl*) case $file in "$SRC"/compute/cuda/* | "$SRC"/video/nvdec.c | "$SRC"/train/nccl*) ;; *) echo "$file: no CUDA here: $name" ;; esac ;;
            oneapi/* | dnnl* | omp.h) echo "$file: products and threads are our own: $name" ;;
            pthread.h | threads.h) case $folder in encoder | predictor | masking | checkpoint) echo "$file: $folder never sees a thread: $name" ;; esac ;;
            yaml.h | cjson/* | cJSON.h) [ "$folder" = base ] || echo "$file: YAML and JSON are read through base: $name" ;;
            esac
        fi
    done
}
# Comments and texts are taken out first, so that only code is judged.
code() { sed -e 's://.*$::' -e 's/"\([^"\\]\|\\.\)*"/""/g' "$1" | sed -e ':a' -e 's:/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/::g' -e '/\/\*/{N;ba' -e '}'; }
ends_or_prints() { # FOLDER FILE
    [ "$1" = cli ] && return
    code "$2" | grep -nE '(^|[^a-zA-Z0-9_.>])(exit|_exit|abort|printf|puts|putchar|perror|assert|setlocale|signal|sigaction|system|popen)[ \t]*\(' | sed "s|^|$2:|"
    code "$2" | grep -nE '(^|[^a-zA-Z0-9_])(stdout|stderr)($|[^a-zA-Z0-9_])' | sed "s|^|$2:|"
}
unfinished() { grep -nE '(^|[^a-zA-Z])(TODO|FIXME|XXX|HACK)([^a-zA-Z]|$)' "$1" | sed "s|^|$1:|"; }

# ---- the checks can fail ----
forge() { # FOLDER TEXT: a file in a forged folder; its findings on stdout
    printf '%s\n' "$2" >forged.c
    includes "$1" forged.c
    ends_or_prints "$1" forged.c
    unfinished forged.c
}
must_find() { [ -n "$(forge "$@")" ] || fail "the checker misses, in $1: $2"; }
must_pass() { [ -z "$(forge "$@")" ] || fail "the checker refuses, in $1: $2 → $(forge "$@")"; }
must_find masking '#include "compute/compute.h"'
must_find video '#include "compute/ops.h"'
must_find train '#include "infer/jepa.h"'
must_find infer '#include "train/train.h"'
must_find encoder '#include "predictor/predictor.h"'
must_find base '#include "base/no_such_header.h"'
must_find infer ' # include <libavformat/avformat.h>'
must_find cli '#include <hdf5.h>'
must_find checkpoint '#include <pthread.h>'
must_find compute '#include <oneapi/dnnl/dnnl.h>'
must_find base '#include <omp.h>'
must_find video 'int f(void) { exit(1); }'
must_find base 'int f(void) { printf("x"); return 0; }'
must_find base 'int f(FILE *f) { return fputs("x", stderr); }'
must_find base 'int x; /* a TODO */'
must_pass cli 'int main(void) { printf("x"); exit(0); }'
must_pass base '/* never calls exit(1) or printf("x") */ int snprintf_(char *s) { return snprintf(s, 3, "exit(1) to stderr"); } // abort()'
must_pass infer '#include "video/video.h"'
must_pass video '#include <libavcodec/avcodec.h>'

# ---- the tree ----
for folder in base compute masking video encoder predictor checkpoint train infer cli; do
    find "$SRC/$folder" -name '*.[ch]' | sort >files
    [ -s files ] || fail "$folder is empty"
    while read -r file; do
        includes "$folder" "$file"
        ends_or_prints "$folder" "$file"
        unfinished "$file"
    done <files >>found
done
[ -s found ] && fail "$(cat found)"
for file in $(find "$SRC/base" "$SRC/compute" "$SRC/masking" "$SRC/video" "$SRC/encoder" "$SRC/predictor" "$SRC/checkpoint" "$SRC/train" "$SRC/infer" "$SRC/cli" -name '*.[ch]'); do
    n=$(wc -l <"$file")
    case $file in *digits_data.c) continue ;; esac # data
    [ "$n" -le 800 ] || fail "$file: $n lines"
    awk -v f="$file" 'length($0) > 700 { print f ":" NR ": a line of " length($0) " bytes"; exit 1 }' "$file" || fail "too long a line"
done

# ---- every header alone ----
# *_tmpl.h are bodies: they are compiled once for each instruction set by the files that define their macros.
flags=$(pkg-config --cflags libavformat libavcodec libavutil libswscale hdf5 yaml-0.1 libcjson stb 2>/dev/null)
for header in $(find "$SRC/base" "$SRC/compute" "$SRC/masking" "$SRC/video" "$SRC/encoder" "$SRC/predictor" "$SRC/checkpoint" "$SRC/train" "$SRC/infer" "$SRC/cli" -name '*.h' ! -name '*_tmpl.h'); do
    isa=
    case $header in
    */compute/cpu/vec.h) continue ;; # wants a vector width from the file that includes it
    *_avx2.h) isa="-mavx2 -mfma" ;;
    *_neon.h) [ "$(uname -m)" = aarch64 ] || continue ;; # its header is that processor's compiler's
    *_avx512.h) isa="-mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma" ;;
    esac
    [ -z "$isa" ] || cc $isa -E -x c /dev/null >/dev/null 2>&1 || continue # not this processor's
    printf '#include "%s"\n' "${header#"$SRC"/}" >one.c
    # shellcheck disable=SC2086
    cc -std=c11 -D_GNU_SOURCE -DJEPA_VERSION='"0"' -Wall -Wextra -Wno-unused-parameter -Werror -fsyntax-only -I"$SRC" $isa $flags one.c 2>why || fail "$header does not compile alone: $(head -n 3 why)"
done

# ---- no writable state at file scope ----
# Sections of the library's objects: .data and .bss (and their thread-local forms) are writable; .data.rel.ro holds constant tables of pointers.
writable() { nm -f sysv "$1" 2>/dev/null | awk -F'|' '{ gsub(/ /, "", $1); gsub(/ /, "", $7) } $7 ~ /^(\.t?(data|bss)|COMMON|\*COM\*)/ && $7 !~ /rel\.ro/ { print $1, $7 }'; }
printf 'int counter = 1;\nint next(void) { static int n; static __thread int t; return ++n + counter++ + t++; }\n' >forged.c
cc -fPIC -c forged.c -o forged.o
ar rc forged.a forged.o
equal "$(writable forged.a | wc -l | tr -d ' ')" 3 "writable state that the checker finds in a forged library"
if grep -q '^JEPA_SANITIZE:STRING=$' "$BUILD/CMakeCache.txt"; then
    # h5_one_at_a_time: the lock before the HDF5 library, whose state is the process's (video/h5.h)
    # stb_image's own: a message's text, which it never changes, and its thread-local reason of failure
    writable "$BUILD/libjepa_all.a" | grep -vE '^(invalid_chunk[.0-9]*|stbi__g_failure_reason|h5_one_at_a_time) ' >states
    [ -s states ] && fail "writable state at file scope: $(cat states)"
fi
finish
