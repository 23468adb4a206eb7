#!/usr/bin/env bash
# What ptxas says of every kernel, one line each: architecture, registers, bytes of stack, of spill stores
# and of spill loads, name. Shared memory is dynamic: the launchers say how much.
#
#   tools/kernel_resources.sh NVCC_VERSION OBJECT...                prints the table
#   tools/kernel_resources.sh --check TABLE NVCC_VERSION OBJECT...  compares it with a kept one
#
# OBJECT.ptxas.log is written when the object is compiled (cmake/keep_ptxas_log.sh). Another nvcc allots
# registers in another way: then only spills are an error.
set -euo pipefail

table=""
if [ "${1:-}" = --check ]; then
  table=$2
  shift 2
fi
[ $# -gt 1 ] || { echo "usage: kernel_resources.sh [--check TABLE] NVCC_VERSION OBJECT..." >&2; exit 2; }
version=$1
shift
logs=("${@/%/.ptxas.log}")

print_table() {
  echo "# nvcc $version"
  echo "# arch  regs  stack  spill stores, loads  kernel"
  awk '
    /Compiling entry function/ { split($0, quoted, "\047"); name = quoted[2]; arch = quoted[4] }
    /bytes stack frame/ { stack = $1; stores = $5; loads = $9 }
    /Used [0-9]+ registers/ {
      match($0, /Used [0-9]+/)
      printf "%-7s %5d %6d %6d %6d  %s\n", arch, substr($0, RSTART + 5, RLENGTH - 5), stack, stores, loads, name
    }' "${logs[@]}" | c++filt |
    sed -e 's/xcomposer::cuda:://g' -e 's/(anonymous namespace):://g' -e 's/void //' -e 's/([^(]*)$//' |
    LC_ALL=C sort -k6 -k1,1
}

found=$(print_table)
if [ -z "$table" ]; then
  printf '%s\n' "$found"
  exit 0
fi
grep -q '^sm_' <<< "$found" || { echo "the logs name no kernel: ${logs[*]}" >&2; exit 1; }
code=0
if awk '/^sm_/ && $4 + $5 > 0' <<< "$found" | grep . >&2; then
  echo "these kernels spill registers to memory" >&2
  code=1
fi
if [ "$(head -n 1 "$table")" != "# nvcc $version" ]; then
  echo "$table is of another nvcc ($(head -n 1 "$table")): registers are not compared"
elif ! diff "$table" - <<< "$found"; then
  echo "registers differ from $table (<); if the change is meant, write the new table" >&2
  code=1
fi
exit $code
