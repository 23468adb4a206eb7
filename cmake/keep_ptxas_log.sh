#!/bin/sh
# keep_ptxas_log.sh OBJECT COMPILER ARGUMENTS...
# Runs the compiler. What `ptxas -v` says goes to OBJECT.ptxas.log, all else to standard error.
object=$1
shift
log=$object.ptxas.log
"$@" 2> "$log"
code=$?
grep -v -e '^ptxas info' -e 'bytes stack frame' "$log" >&2
exit $code
