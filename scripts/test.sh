#!/usr/bin/env bash
# Everything that the project checks about itself, from nothing, with the time of each part.
#
#   scripts/test.sh           the default: about an hour from nothing on two cores
#   scripts/test.sh --full    all sanitizers over all rooms, LibTorch included, every split of every golden, 200
#                             lost ranks instead of 20, and ten minutes of fuzzing per target; takes hours
#
# XCOMPOSER_FUZZ_SECONDS sets the time per fuzzing target.
# XCOMPOSER_SHARED_DIR names the folder with the reference goldens (default: ../shared); tests that need it
# are skipped by name where it is missing. The last line says how many tests passed and failed.
set -euo pipefail
cd "$(dirname "$0")/.."

full=false
case "${1:-}" in
  "") ;;
  --full) full=true ;;
  *) echo "usage: scripts/test.sh [--full]" >&2; exit 2 ;;
esac
readonly full
readonly logs=$PWD/build/test-logs
readonly shared=${XCOMPOSER_SHARED_DIR:-$PWD/../shared}
jobs=$(nproc)
readonly jobs
rm -rf "$logs"
mkdir -p "$logs"

# One translation unit is compiled once although several builds hold it.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros
export CTEST_OUTPUT_ON_FAILURE=1

passed=0
failed=0
skipped=()
release_built=false
started=$SECONDS

say() { printf '%s\n' "$*"; }

# part NAME COMMAND...: runs the command with its output in a log; prints time and outcome. A part that
# fails counts as one failed test, unless its single tests were counted.
part() {
  local name=$1 from=$SECONDS log=$logs/${1// /-}.log failed_before=$failed
  shift
  printf '%-44s' "$name"
  if "$@" > "$log" 2>&1; then
    printf 'ok      %4d s\n' $((SECONDS - from))
    return 0
  fi
  printf 'FAILED  %4d s\n' $((SECONDS - from))
  if [ "$failed" = "$failed_before" ]; then
    failed=$((failed + 1))
  fi
  tail -n 60 "$log" | sed 's/^/    /'
  say "    (the whole output: $log)"
  return 1
}

build() {
  local preset=$1
  shift
  cmake --preset "$preset" "-DXCOMPOSER_SHARED_DIR=$shared" "$@" && cmake --build --preset "$preset" -j "$jobs"
}

# ctest's own report in JUnit's form is what is counted.
run_ctest() {
  local preset=$1 report=$logs/$1-junit.xml code=0
  shift
  ctest --test-dir "build/$preset" -j "$jobs" --output-junit "$report" --no-tests=error "$@" || code=$?
  count "$report"
  return $code
}

attribute() { sed -n "s/.*[[:space:]]$2=\"\([0-9]*\)\".*/\1/p" "$1" | head -n 1; }

count() {
  local report=$1 tests failures skips name
  [ -e "$report" ] || return 0
  tests=$(grep -c '<testcase ' "$report" || true)
  failures=$(grep -c '<testcase .*status="fail"' "$report" || true)
  skips=$(grep -c '<testcase .*status="notrun"' "$report" || true)
  passed=$((passed + tests - failures - skips))
  failed=$((failed + failures))
  while read -r name; do skipped+=("$name"); done < <(
    sed -n 's/.*<testcase name="\([^"]*\)".*status="notrun".*/\1/p' "$report")
}

# A part that is one test as a whole.
single() {
  if part "$@"; then passed=$((passed + 1)); fi
}

# --- the parts ---------------------------------------------------------------------------------------------
part_setup() { scripts/setup.sh --tests; }

part_release() {
  part "release: build" build release || return 0
  release_built=true
  # The instrumented builds keep to the selection: what they look for does not hide in the repetitions.
  if $full; then export XCOMPOSER_FULL_TESTS=1; fi
  part "release: tests" run_ctest release || true
  unset XCOMPOSER_FULL_TESTS
}

part_address() {
  export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
  if part "address, undefined without LibTorch: build" build asan-torch-free; then
    part "address, undefined without LibTorch: tests" run_ctest asan-torch-free || true
  fi
  unset ASAN_OPTIONS UBSAN_OPTIONS
}

part_thread() {
  export TSAN_OPTIONS="halt_on_error=1 suppressions=$PWD/tests/tsan.supp"
  if $full; then
    part "thread sanitizer: build" build tsan || return 0
  else
    part "thread sanitizer: build" build_threaded_tests || return 0
  fi
  if $full; then
    part "thread sanitizer: tests" run_ctest tsan || true
  else
    part "thread sanitizer: tests" run_labels tsan engine transport workers || true
  fi
  unset TSAN_OPTIONS
}

build_threaded_tests() {
  cmake --preset tsan "-DXCOMPOSER_SHARED_DIR=$shared" &&
    cmake --build --preset tsan -j "$jobs" --target test_engine test_transport test_workers
}

part_fuzz() {
  local seconds=${XCOMPOSER_FUZZ_SECONDS:-$($full && echo 600 || echo 20)}
  if ! command -v clang++ > /dev/null; then
    skipped+=("fuzzing of every parser (clang is not installed)")
    return 0
  fi
  part "fuzzing: build" build fuzz "-DXCOMPOSER_FUZZ_SECONDS=$seconds" || return 0
  part "fuzzing: $seconds s per target" run_ctest fuzz -L fuzz || true
}

# run_labels PRESET LABEL...: the tests of these labels, each of which must exist.
run_labels() {
  local preset=$1 label labels
  shift
  labels=$(ctest --test-dir "build/$preset" --print-labels) || return
  for label in "$@"; do
    if ! grep -qx " *$label" <<< "$labels"; then
      echo "no test of build/$preset has the label '$label'"
      return 1
    fi
  done
  run_ctest "$preset" -L "^($(IFS='|'; echo "$*"))\$"
}

part_minimal() {
  part "no OpenCV, no sentencepiece: build" build minimal || return 0
  part "no OpenCV, no sentencepiece: tests" run_labels minimal \
    input_text input_pictures api cli cli_parts transport || true
}

part_package() {
  local prefix="build/installed copy"  # with a space, which a package must bear
  part "package: install" cmake --install build/release --prefix "$prefix" || return 0
  single "package: consumer through CMake" tests/consumer/run.sh cmake "$prefix"
  single "package: consumer through pkg-config" tests/consumer/run.sh pkg-config "$prefix"
}

# The scripts are read by a linter where there is one.
part_scripts() {
  if ! command -v shellcheck > /dev/null; then
    skipped+=("shell scripts (shellcheck is not installed)")
    return 0
  fi
  single "shell scripts" shellcheck scripts/*.sh .ci/run tests/consumer/run.sh
}

part_address_with_torch() {
  # LibTorch keeps what it allocates until the process ends, so leaks cannot be told apart here; the build
  # without it looks for them.
  export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
  if part "address, undefined with LibTorch: build" build asan; then
    part "address, undefined with LibTorch: tests" run_ctest asan || true
  fi
  unset ASAN_OPTIONS UBSAN_OPTIONS
}

# Whether CUDA was built is what the configuration said, not what this machine has.
note_cuda() {
  $release_built || return 0  # which was told
  local state
  state=$(sed -n 's/^XCOMPOSER_CUDA_STATE:INTERNAL=//p' build/release/CMakeCache.txt)
  if [ "${state%%,*}" != ON ]; then
    skipped+=("the CUDA build (${state#OFF, })")
  elif ! nvidia-smi -L > /dev/null 2>&1; then
    skipped+=("tests on a GPU (this machine has none; the CUDA build was linked, with ${state#ON, })")
  fi
}

summary() {
  say
  if [ ${#skipped[@]} -gt 0 ]; then
    say "Skipped (${#skipped[@]}):"
    printf '  %s\n' "${skipped[@]}" | sort | uniq -c | sed 's/^ *1   /  /; s/^ *\([0-9][0-9]*\)   \(.*\)/  \2 (\1 times)/'
  fi
  say "time: $((SECONDS - started)) s on $jobs processors, logs in build/test-logs"
  say "$passed passed, $failed failed"
  [ "$failed" = 0 ]
}

if ! part "setup" part_setup; then
  summary
  exit 1
fi
part_scripts
part_release
part_package
part_minimal
part_address
part_thread
part_fuzz
if $full; then part_address_with_torch; fi
note_cuda
summary
