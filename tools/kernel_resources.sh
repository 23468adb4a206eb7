#!/usr/bin/env bash
# What ptxas -v says of every kernel, one line each: architecture, registers, bytes of stack, of spill
# stores and of spill loads, name. Shared memory is dynamic: the launchers say how much.
#
#   tools/kernel_resources.sh LOG...             prints the table
#   tools/kernel_resources.sh --check TABLE LOG...  compares it with a kept one
#
# The logs are written beside the objects when the kernels are compiled (cmake/keep_ptxas_log.sh).
set -euo pipefail

table=""
if [ "${1:-}" = --check ]; then
  table=$2
  shift 2
fi
[ $# -gt 0 ] || { echo "usage: kernel_resources.sh [--check TABLE] LOG..." >&2; exit 2; }

print_table() {
  awk '
    /Compiling entry function/ { split($0, q, "\047"); name = q[2]; arch = q[4] }
    /bytes stack frame/ { stack = $1; stores = $5; loads = $9 }
    /Used [0-9]+ registers/ {
      match($0, /Used [0-9]+/)
      printf "%-7s %4d %6d %6d %6d  %s\n", arch, substr($0, RSTART + 5, RLENGTH - 5), stack, stores, loads, name
    }' "$@" | c++filt | sed -e 's/xcomposer::cuda:://g' -e 's/(anonymous namespace):://g' -e 's/void //' -e 's/(.*)$//' | LC_ALL=C sort -k6 -k1,1
}

if [ -z "$table" ]; then
  echo "# arch  regs  stack  spill stores, loads  kernel"
  print_table "$@"
  exit 0
fi

found=$(print_table "$@")
[ -n "$found" ] || { echo "the logs name no kernel" >&2; exit 1; }
code=0
if ! diff <(grep -v '^#' "$table") <(printf '%s\n' "$found"); then
  echo "kernels use other resources than $table says (<); if the change is meant, write the new table" >&2
  code=1
fi
# Whatever the table says: no kernel may spill.
if spills=$(printf '%s\n' "$found" | awk '$4 + $5 > 0' | grep .); then
  printf 'spills:\n%s\n' "$spills" >&2
  code=1
fi
exit $code
