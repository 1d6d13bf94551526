#!/bin/sh
# The installed library: what it exports, its header alone, and the example built against it by pkg-config and by find_package.
. "$2/tests/e2e/lib.sh"
need cmake
need cc
need pkg-config
[ -e "$BUILD/libjepa.so.0" ] || skip "libjepa is not built in $BUILD"
nm -D --defined-only "$BUILD/libjepa.so.0" | awk '$2 ~ /[TDBRVW]/ { print $3 }' | sort >names
grep -v '^jepa_' names >others
[ -s others ] && fail "exported beside jepa_*: $(head -n 5 others | tr '\n' ' ')"
sed -n 's/^JEPA_API.* \**\(jepa_[a-z_]*\)(.*/\1/p' "$SRC/infer/jepa.h" | sort >declared
same declared names
cmake --install "$BUILD" --prefix "$WORK/usr" >install.log 2>&1 || { cat install.log; fail "cmake --install"; }
lib=$(dirname "$(find "$WORK/usr" -name 'libjepa.so' | head -n 1)")
for f in "$lib/libjepa.so.0" "$lib/pkgconfig/jepa.pc" "$lib/cmake/Jepa/JepaConfig.cmake" usr/bin/jepa usr/include/jepa/jepa.h usr/share/doc/jepa/LICENSE; do
    [ -e "$f" ] || fail "not installed: $f"
done
case $(readlink "$lib/libjepa.so") in libjepa.so.0*) ;; *) fail "libjepa.so → $(readlink "$lib/libjepa.so")" ;; esac

# ---- the header by itself ----
printf '#include <jepa/jepa.h>\n' >alone.c
cp alone.c alone.cc
cc -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -Iusr/include alone.c || fail "the header in C11"
if command -v c++ >/dev/null 2>&1; then
    c++ -std=c++11 -Wall -Wextra -Werror -fsyntax-only -Iusr/include alone.cc || fail "the header in C++"
fi
# the error type stands in two headers, so that one can be installed alone: the same lines
lines() { sed -n '/^#ifndef JEPA_ERR_DEFINED/,/^#endif/p' "$1"; }
lines "$SRC/infer/jepa.h" >left
lines "$SRC/base/base.h" >right
[ -s left ] || fail "no error type"
same left right

# ---- the example, both ways, on a model and a clip ----
model m
clip=m.data/clips/000000.mp4
PKG_CONFIG_PATH=$lib/pkgconfig
export PKG_CONFIG_PATH
# a sanitizer's runtime must come first in a program that loads a library built with it
san=$(sed -n 's/^JEPA_SANITIZE:STRING=//p' "$BUILD/CMakeCache.txt")
[ -n "$san" ] && san=-fsanitize=$san
# shellcheck disable=SC2046
cc $san "$SRC/examples/embed/embed.c" $(pkg-config --cflags --libs jepa) -Wl,-rpath,"$lib" -o by_pkg || fail "the example by pkg-config"
run 0 ./by_pkg m/latest $clip
says out "1 x 24:"
cp out first
cmake -S "$SRC/examples/embed" -B found -DCMAKE_PREFIX_PATH="$WORK/usr" -DCMAKE_C_FLAGS="$san" >found.log 2>&1 && cmake --build found >>found.log 2>&1 || { tail -n 20 found.log; fail "the example by find_package(Jepa)"; }
run 0 found/embed m/latest $clip
same first out
run 1 ./by_pkg m/latest none.mp4
says err "none.mp4: not found"
run 1 ./by_pkg none $clip
says err "not found"
# the installed program is the same program
LD_LIBRARY_PATH=$lib usr/bin/jepa --version >out 2>err || fail "the installed program: $(cat err)"
says out "^jepa [0-9]"
finish
