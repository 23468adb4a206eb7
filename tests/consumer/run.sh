#!/usr/bin/env bash
# Builds the consumer project against an installed copy of the library and runs it.
#
#   tests/consumer/run.sh cmake|pkg-config PREFIX
set -euo pipefail
readonly how=$1
prefix=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)
model=$(realpath "$here/../../demo/checkpoint")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case $how in
  cmake)
    cmake -S "$here" -B "$work" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release
    cmake --build "$work"
    ;;
  pkg-config)
    pc=$(find "$prefix" -name xcomposer.pc)
    export PKG_CONFIG_PATH=${pc%/*}
    declare -a flags
    eval "flags=($(pkg-config --cflags --libs xcomposer))"  # words of a shell
    "${CXX:-c++}" -std=c++17 -Wall -Wextra -Wpedantic -Werror "$here/main.cpp" -o "$work/consumer" "${flags[@]}"
    ;;
  *)
    echo "usage: $0 cmake|pkg-config PREFIX" >&2
    exit 2
    ;;
esac
"$work/consumer" "$model"
library=$(find "$prefix" -name 'libxcomposer.so.*.*.*')
soname=$(objdump -p "$library" | awk '/SONAME/ {print $2}')
echo "SONAME $soname"
[[ $soname =~ ^libxcomposer\.so\.[0-9] ]]
