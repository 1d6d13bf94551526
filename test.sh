#!/bin/sh
# Installs, builds, runs every test: sh test.sh [--long]. --long adds the slow ones.
# Three builds: as users have it; with address and undefined-behaviour sanitizers; with the thread sanitizer (feed and embedding pipeline).
set -eu
cd "$(dirname "$0")"
long=0
for a in "$@"; do
    case "$a" in
    --long) long=1 ;;
    *) echo "sh test.sh [--long]" >&2; exit 2 ;;
    esac
done
sh install.sh tests
jobs=$(nproc 2>/dev/null || echo 2)
target=
build() { # FOLDER OPTION…: $target, or all
    folder=$1
    shift
    generator="Unix Makefiles"
    command -v ninja >/dev/null 2>&1 && generator=Ninja
    cmake -S . -B "$folder" -G "$generator" -DJEPA_WERROR=ON "$@" >"$folder.log" 2>&1 || { tail -n 30 "$folder.log" >&2; exit 1; }
    # shellcheck disable=SC2086
    cmake --build "$folder" --parallel "$jobs" ${target:+--target $target} >>"$folder.log" 2>&1 || { tail -n 60 "$folder.log" >&2; exit 1; }
    rm -f "$folder.log"
}
echo "== building"
build build
build build-asan -DJEPA_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=RelWithDebInfo
target=thread_tests
build build-tsan -DJEPA_SANITIZE=thread -DCMAKE_BUILD_TYPE=RelWithDebInfo
slow="-LE long"
[ $long = 1 ] && slow=""
failed=0
export UBSAN_OPTIONS=print_stacktrace=1 ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1
export LSAN_OPTIONS=suppressions="$PWD/tests/lsan.supp" TSAN_OPTIONS=suppressions="$PWD/tests/tsan.supp:halt_on_error=1"
echo "== address and undefined-behaviour sanitizers"
ctest --test-dir build-asan -j "$jobs" --output-on-failure -L sanitize -LE long || failed=1
echo "== thread sanitizer"
ctest --test-dir build-tsan -j "$jobs" --output-on-failure -L threads -LE long || failed=1
echo "== all tests"
# shellcheck disable=SC2086
ctest --test-dir build -j "$jobs" --output-on-failure $slow || failed=1
exit $failed
