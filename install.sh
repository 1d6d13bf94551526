#!/bin/sh
# Installs what jepa needs on Debian or Ubuntu: sh install.sh [tests]. Without root it prints the line and goes on with what is there.
set -eu
packages="gcc g++ make cmake ninja-build pkg-config libavformat-dev libavcodec-dev libavutil-dev libswscale-dev
 libhdf5-dev libyaml-dev libcjson-dev libstb-dev liblapacke-dev zlib1g-dev"
[ "${1:-}" = tests ] && packages="$packages ffmpeg libcmocka-dev libsimde-dev python3"
missing=""
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "not Debian: install what these Debian packages bring:$missing" >&2
elif [ "$(id -u)" = 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "not root: please run   sudo apt-get install$missing" >&2
    echo "going on with what is there" >&2
fi
