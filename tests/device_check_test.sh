#!/usr/bin/env bash
# tools/device/check.sh where there is no GPU, on a bundle of what this build
# has: what runs, what a failure and a time-out are, and that a GPU that is seen
# and cannot be used fails.
#   device_check_test.sh SCRIPTS_DIR TEMPER DIGESTS_TEST GOLDENS_TEST
set -uo pipefail
scripts=$PWD/$1
programs=("${@:2}")
failures=0
unset TEMPER_ISA
if compgen -G '/dev/nvidia[0-9]*' >/dev/null; then
  why="there is a GPU here, whose check is no test of every day"
  echo "skipped: $why"
  # As GoogleTest would say it (tools/test_summary.py).
  printf '<testsuite name="device"><testcase name="check"><skipped message="%s"/></testcase></testsuite>\n' \
    "$why" >"${XML_OUTPUT_FILE:-/dev/null}"
  exit 0
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/files/bin" "$dir/path" "$dir/device"
cp -L "${programs[@]}" "$dir/files/bin/"
mkdir -p "$dir/files/tests/golden/model" "$dir/files/tools"
cp -rL tests/golden/model/{A,C,rules.json} "$dir/files/tests/golden/model/"
cp -rL tools/configs tools/quickstart_model "$dir/files/tools/"
stand_in() {  # PROGRAM COMMAND: does that, and has a test for every filter but NoFault
  printf '#!/bin/sh\ncase $* in *NoFault*) ;; *list*) printf "T.\\n  One\\n" ;; *) %s ;; esac\n' \
    "$2" >"$dir/files/bin/$1"
  chmod +x "$dir/files/bin/$1"
}
for program in instructions op_conformance cuda_backend cuda_model; do
  stand_in "${program}_on_gpu" 'exit 3'
done
echo stand-in >"$dir/files/revision"
echo 9.9 >"$dir/files/glibc"
cp -L "$scripts"/* "$dir/device/"
# Whatever this machine has.
export CUDA_HOME=$dir/cuda
printf '#!/bin/sh\nexit 9\n' >"$dir/path/nvidia-smi"
chmod +x "$dir/path/nvidia-smi"
PATH=$dir/path:$PATH

# Seven minutes for all there is, ten seconds of them for the unpacking.
. "$scripts/stages.sh"
seconds=10
for stage in "${cpu_stages[@]}" "${gpu_stages[@]}"; do ((seconds += ${stage#*:} + end_seconds)); done
((seconds <= 420)) || { echo "FAILED: all stages may take $seconds s"; failures=1; }

pack() { tar -C "$dir/files" -cf - . | xz -0 >"$dir/device/bundle.tar.xz"; }

# expect CODE ARGUMENTS..: runs check.sh; its output is in $dir/out.
expect() {
  bash "$dir/device/check.sh" "${@:2}" >"$dir/out" 2>&1
  local code=$?
  ((code == $1)) && return
  echo "FAILED: check.sh ${*:2} exited $code and not $1:"
  cat "$dir/out"
  failures=1
}
prints() {
  grep -qE -- "$1" "$dir/out" && return
  echo "FAILED: $1 is not in:"
  cat "$dir/out"
  failures=1
}
lacks() {
  grep -qE -- "$1" "$dir/out" || return 0
  echo "FAILED: $1 is in:"
  cat "$dir/out"
  failures=1
}

expect 64
prints 'no bundle.tar.xz beside it; tools/device/bundle.sh, .*, makes device/'
pack
# A machine with a GPU is there for its check; this one may be busy, or the
# programs sanitized.
sed -i -E 's/(doctor|digests|goldens|programs|generate|train):[0-9]+/\1:600/g' "$dir/device/stages.sh"
expect 0
prints '^revision stand-in, '
for stage in doctor digests goldens programs; do prints "^=== $stage passed, [0-9]+ s"; done
prints '^gpu +ok '
prints '^no GPU here .*: not run: probe conformance backend model generate train '
prints '^0 failed$'
lacks '=== conformance'

# The stages that compare two devices, by one of them.
sed -i "s/^export compared=.*/export compared='cpu cpu' steps=1/" "$dir/device/stages.sh"
expect 0 --only generate
prints '^the same on cpu cpu$'
expect 0 --only train
prints '^runs/train1/run.db: step 1: mismatch 0.0 over [1-9][0-9]* tokens$'
prints '^step 1: weights ([0-9A-F]+) = \1$'
cp "$scripts/stages.sh" "$dir/device/"
sed -i -E 's/(doctor|digests|goldens|programs):[0-9]+/\1:600/g' "$dir/device/stages.sh"

# A filter that names nothing.
sed -i 's/AFault/NoFault/' "$dir/device/stages.sh"
expect 1 --only programs
prints '^bin/cuda_backend_on_gpu: no test is called \*\.NoFault\*$'
sed -i 's/NoFault/AFault/' "$dir/device/stages.sh"

expect 64 --only nothing
prints 'there is no stage nothing; .*doctor digests .* machine_code$'
expect 64 digests

# A failed stage and one without an end: both are counted, the rest runs.
stand_in numerics_digest_test 'exit 3'
stand_in model_parity_test 'sleep 60'
sed -i 's/goldens:[0-9]*/goldens:1/' "$dir/device/stages.sh"
pack
expect 2
prints '^=== doctor passed'
prints '^=== digests FAILED, exit status 3'
prints '^goldens: ended at its limit of 1 s$'
prints '^=== goldens FAILED, exit status 124'
prints '^2 failed$'
expect 1 --only digests
lacks 'doctor|goldens|no GPU'

# Ctrl-C or a kill ends the stage with the check.
printf '#!/bin/sh\necho $$ >"%s"\nexec sleep 60\n' "$dir/pid" >"$dir/files/bin/numerics_digest_test"
pack
bash "$dir/device/check.sh" --only digests >"$dir/out" 2>&1 &
check=$!
for _ in {1..300}; do [[ -s $dir/pid ]] && break; sleep 0.1; done
kill -TERM "$check"
wait "$check"
code=$?
((code == 130)) || { echo "FAILED: interrupted, check.sh exited $code"; failures=1; }
prints 'interrupted$'
stage=/proc/$(cat "$dir/pid")/status
for _ in {1..50}; do grep -q '^State:.[^Z]' "$stage" 2>/dev/null || break; sleep 0.1; done
grep -q '^State:.[^Z]' "$stage" 2>/dev/null && { echo "FAILED: the stage lives on"; failures=1; }

# What cuobjdump lists: nothing, a kernel, one that spills.
mkdir -p "$dir/cuda/bin"
lists() {
  printf '#!/bin/sh\necho "%s"\n' "$1" >"$dir/cuda/bin/cuobjdump"
  chmod +x "$dir/cuda/bin/cuobjdump"
}
lists ''
expect 1 --only machine_code
prints '^0 kernels'
lists 'Function : one'
expect 0 --only machine_code
lists 'Function : one STL [R1], R2'
expect 1 --only machine_code
rm -r "$dir/cuda"

# A GPU that the driver lists and CUDA does not get at.
printf '#!/bin/sh\necho "GPU 0: one"\n' >"$dir/path/nvidia-smi"
expect 1 --only conformance
expect 1 --only generate
prints 'built without CUDA|no GPU that CUDA can use'
stand_in numerics_digest_test 'exit 3'
pack
expect 9
for stage in probe conformance backend model generate train bench; do
  prints "^=== $stage FAILED"
done
prints '^9 failed$'

# What the stage train compares by.
change() {  # FILE SQL
  python3 -c 'import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db: db.execute(sys.argv[2])' "$@"
}
finds() {  # SQL, of one of two runs that were the same
  cp "$dir/one.db" "$dir/other.db"
  change "$dir/other.db" "$1"
  python3 "$scripts/same_runs.py" "$dir/one.db" "$dir/other.db" >"$dir/out" || return 0
  echo "FAILED: same_runs.py finds nothing after $1"
  failures=1
}
cp -L tests/version2_run/run/run.db "$dir/one.db"
chmod u+w "$dir/one.db"
# Its rewards were all alike, so that no weight moved.
finds "UPDATE run SET id = 1"
prints ': nothing was trained$'
change "$dir/one.db" "UPDATE weight_version SET sha256 = x'01' WHERE step = 2"
cp "$dir/one.db" "$dir/other.db"
python3 "$scripts/same_runs.py" "$dir/one.db" "$dir/other.db" >"$dir/out" ||
  { cat "$dir/out"; failures=1; }
prints 'step 2: mismatch 0.0 over [1-9][0-9]* tokens$'
prints '^step 2: weights 01 = 01$'
finds "UPDATE weight_version SET sha256 = x'02' WHERE step = 2"
finds "UPDATE metric SET value = 1e-9 WHERE name = 'train_rollout_logprob_abs_diff/max' AND step = 2"
finds "UPDATE metric SET value = NULL WHERE name = 'train_rollout_logprob_abs_diff/tokens'"
finds "DELETE FROM metric"
exit "$failures"
