#!/bin/sh
# The kernels of the emulator's tests are also what nvcc makes of them: every
# object holds code for sm_90a, so ptxas has taken each wrapper of ptx.h.
set -eu
[ $# -gt 0 ] || { echo "no objects were given"; exit 1; }
for object in "$@"; do
  if ! strings -a "$object" | grep -q sm_90a; then
    echo "$object: no code for sm_90a"
    exit 1
  fi
done
echo "$# objects hold code for sm_90a"
