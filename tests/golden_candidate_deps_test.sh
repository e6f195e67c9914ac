#!/bin/sh
# golden_candidate computes by the production code: it links the CPU backend,
# the transformer, the objective and the optimizer, and not the reference.
set -eu
list=$1
for part in //kernels/cpu:cpu_backend //kernels/model:transformer \
    //learner/train:objective //learner/train:optimizer; do
  grep -qx "$part" "$list" || { echo "not linked: $part"; exit 1; }
done
if grep '^//kernels/reference' "$list"; then
  echo "golden_candidate depends on the reference"
  exit 1
fi
