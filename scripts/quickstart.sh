#!/usr/bin/env bash
# From a fresh clone to a picture and an answer: installs what is missing, builds, and asks the demo model
# about pictures that it never saw.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly out=build/quickstart
readonly program=build/release/bin/xcomposer
readonly sheet_program=build/release/bin/xcomposer_contact_sheet

scripts/setup.sh

mkdir -p "$out"
# Old object files stand for the same text in another build folder too.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros
echo "quickstart: building (some minutes the first time; the compiler's output is in $out/build.log)"
fail_with_log() {
  tail -n 30 "$out/build.log" >&2
  echo "quickstart: the build failed; the whole output is in $out/build.log" >&2
  exit 1
}
build() {
  cmake --preset release "$@" &&
    cmake --build --preset release --target xcomposer_cli xcomposer_contact_sheet
}
# A newer compiler may warn of what ours do not, and the preset takes warnings for errors.
readonly lenient=-DXCOMPOSER_WERROR=OFF
if grep -qs '^XCOMPOSER_WERROR:.*=OFF' build/release/CMakeCache.txt; then
  build $lenient > "$out/build.log" 2>&1 || fail_with_log
elif ! build > "$out/build.log" 2>&1; then
  grep -qE '\[-Werror|error #[0-9]+-D:' "$out/build.log" || fail_with_log
  echo "quickstart: this compiler has a new warning; building again, with warnings that are no errors"
  build $lenient > "$out/build.log" 2>&1 || fail_with_log
fi

echo
echo "\$ $program generate --model demo/checkpoint --image demo/pictures/fashion-00000.png --prompt 'What is this?' --greedy"
"$program" generate --model demo/checkpoint --image demo/pictures/fashion-00000.png \
  --prompt 'What is this?' --greedy
echo
echo "The questions of demo/pictures/labels.json, about pictures that were held out from training:"
"$sheet_program" demo/checkpoint demo/pictures/labels.json "$out/contact_sheet.png"
echo
echo "Pictures with the answers under them: $out/contact_sheet.png"
echo "Try your own:  $program chat --model demo/checkpoint"
