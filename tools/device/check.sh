#!/usr/bin/env bash
# Checks the CUDA kernels on the GPU of this machine, by what bundle.sh packed
# beside this file. Each stage has its own time-out and prints as it goes; one
# that fails does not stop the next; the exit status is how many failed. Without
# a GPU the stages of the CPU run, which is one more kind to hold to the
# committed digests, and that there is none is said.
#   check.sh                all of it, in at most 7 minutes
#   check.sh --only train   one stage, GPU or not
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/stages.sh"

usage() {
  echo "check.sh: $1; usage: check.sh [--only STAGE], of" \
    "$(stage_names "${cpu_stages[@]}" "${gpu_stages[@]}")" >&2
  exit 64
}

stage_names() { printf '%s\n' "$@" | cut -d: -f1 | paste -sd' '; }

only=
if (($# > 0)); then
  [[ $# == 2 && $1 == --only ]] || usage "what are the arguments \"$*\""
  only=$2
  [[ " $(stage_names "${cpu_stages[@]}" "${gpu_stages[@]}") " == *" $only "* ]] ||
    usage "there is no stage $only"
fi

[[ -f $here/bundle.tar.xz ]] || {
  echo "check.sh: no bundle.tar.xz beside it; tools/device/bundle.sh, run where nvcc and Bazel are, makes device/ with both" >&2
  exit 64
}
work=$(mktemp -d "${TMPDIR:-/tmp}/temper-check.XXXXXX") || exit 64
trap 'rm -rf "$work"' EXIT
tar -C "$work" -xJf "$here/bundle.tar.xz" || { echo "check.sh: bundle.tar.xz cannot be unpacked into $work" >&2; exit 64; }
cd "$work" || exit 64
# A libc that is older than the C++ library packed has a fitting one beside it.
bin/temper --version >/dev/null 2>&1 || rm -f lib/libstdc++.so.6 lib/libgcc_s.so.1
bin/temper --version >/dev/null || { echo "check.sh: temper does not start here; it is for x86-64 with glibc $(cat glibc) or newer" >&2; exit 64; }

# One that CUDA cannot use is to be seen to fail.
has_gpu() { compgen -G '/dev/nvidia[0-9]*' >/dev/null || nvidia-smi -L 2>/dev/null | grep -q "^GPU"; }

# ---- stages: what each prints is its table ----

doctor() {
  # A report: what sandboxes lack is no matter of these stages.
  bin/temper doctor
  if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv
  fi
  return 0
}

digests() { bin/numerics_digest_test --gtest_brief=1; }

goldens() { bin/model_parity_test --gtest_brief=1 "--gtest_filter=$golden_tests"; }

# What tests on a GPU was packed whole and starts, on any machine, and every
# pattern of a filter names a test: one that names none would pass unseen.
programs() {
  names bin/model_parity_test "$golden_tests" &&
    names bin/instructions_on_gpu "$probe_tests" &&
    names bin/op_conformance_on_gpu "$conformance_tests" &&
    names bin/cuda_backend_on_gpu "$backend_tests:$repeated_tests:$sanitizer_tests" &&
    names bin/cuda_model_on_gpu "$model_tests"
}

names() {  # PROGRAM FILTER
  local patterns pattern count
  IFS=: read -ra patterns <<<"${2//-/}"
  for pattern in "${patterns[@]}"; do
    count=$("$1" --gtest_list_tests "--gtest_filter=$pattern" | grep -c '^  ')
    ((count > 0)) || { echo "$1: no test is called $pattern"; return 1; }
  done
  echo "$1: ${#patterns[@]} patterns"
}

# First, on a GPU that was never seen: whether single instructions do what the
# emulator does. What tests misuse is the emulator's alone to find.
probe() { bin/instructions_on_gpu --gtest_brief=1 "--gtest_filter=$probe_tests"; }

# Every case of every operation, to the bits of the scalar tier. Left out: what
# the host looks at before a launch, and dies of in a fork.
conformance() { bin/op_conformance_on_gpu --gtest_brief=1 "--gtest_filter=$conformance_tests"; }

# Left out: what may not be there yet before a wait, a GPU may have brought. A
# process that has a GPU cannot be forked, so what is to die is started anew.
backend() {
  bin/cuda_backend_on_gpu --gtest_brief=1 --gtest_death_test_style=threadsafe \
    "--gtest_filter=$backend_tests" || return 1
  # Twenty times over: a race need not show in the first.
  bin/cuda_backend_on_gpu --gtest_brief=1 --gtest_repeat=20 \
    "--gtest_filter=$repeated_tests"
}

# Goldens, committed digests of logits, samples and three steps of training,
# zero mismatch on the device and across devices.
model() { bin/cuda_model_on_gpu "--gtest_filter=$model_tests"; }

# Exit status 1 is that no sample is well-formed: this model calls tools, and
# there are none. What was sampled is compared.
generate() {
  local device made=() code
  for device in $compared; do
    made+=("generated${#made[@]}.json")
    bin/temper generate tools/quickstart_model --prompt 'What is 17 + 25?' \
      --samples 4 --seed 1 --device "$device" --json >"${made[-1]}"
    code=$?
    ((code <= 1)) || return "$code"
  done
  [[ -s ${made[0]} ]] || return 1
  cat "${made[0]}"
  cmp "${made[@]}" && echo "the same on $compared"
}

train() {
  local device made=()
  for device in $compared; do
    made+=("runs/train${#made[@]}/run.db")
    bin/temper train tools/configs/quickstart.textproto \
      --name "$(basename "$(dirname "${made[-1]}")")" --runs-dir "$work/runs" \
      --set environments=math --set steps="$steps" --set eval_tasks=8 \
      --set device="$device" || return 1
  done
  python3 "$here/same_runs.py" "${made[@]}"
}

# The machine's own first, for whatever is not reached.
bench() {
  local code=0
  python3 "$here/ceilings.py" || code=1
  bin/temper bench gemm --device cuda || code=1
  bin/temper bench train --model tools/configs/bench_60m.json --device cuda || code=1
  bin/temper bench decode --model tools/quickstart_model --device cuda || code=1
  return "$code"
}

# Of what launches little. A tool that is not there is said, and is no failure.
sanitizer() {
  local tool=${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer kind
  [[ -x $tool ]] || { echo "no $tool"; return 0; }
  for kind in memcheck racecheck; do
    "$tool" --tool "$kind" --error-exitcode 9 bin/cuda_backend_on_gpu --gtest_brief=1 \
      "--gtest_filter=$sanitizer_tests" || return 1
  done
}

# Spills to local memory are in no plan; a listing without a kernel shows none.
machine_code() {
  local tool=${CUDA_HOME:-/usr/local/cuda}/bin/cuobjdump kernels spills
  [[ -x $tool ]] || { echo "no $tool"; return 0; }
  "$tool" -sass bin/temper >sass || return 1
  spills=$(grep -cE '\<(LDL|STL)' sass)
  kernels=$(grep -c 'Function :' sass)
  echo "$kernels kernels, $spills accesses of local memory"
  ((kernels > 0 && spills == 0))
}

# ---- how they run ----

failed=0
stage_pid=
# A stage is in a process group of its own, which no Ctrl-C reaches.
interrupted() {
  trap '' INT TERM
  if [[ -n $stage_pid ]]; then
    kill -TERM "$stage_pid"
    wait "$stage_pid"
    kill -KILL -- "-$stage_pid"
  fi 2>/dev/null
  echo "check.sh: interrupted" >&2
  exit 130
}
trap interrupted INT TERM

run_stage() {  # NAME:SECONDS
  local name=${1%:*} seconds=${1#*:} start=$SECONDS code
  [[ -z $only || $only == "$name" ]] || return 0
  echo "=== $name (at most $seconds s)"
  # By a shell of its own, which a time-out ends with all that it started.
  timeout -k "$end_seconds" "$seconds" bash -c "$name" 2>&1 &
  stage_pid=$!
  wait "$stage_pid"
  code=$?
  stage_pid=
  if ((code == 0)); then
    echo "=== $name passed, $((SECONDS - start)) s"
  else
    ((code == 124 || code == 137)) && echo "$name: ended at its limit of $seconds s"
    echo "=== $name FAILED, exit status $code, $((SECONDS - start)) s"
    ((++failed))
  fi
}
export work here
export -f doctor digests goldens programs names probe conformance backend model generate \
  train bench sanitizer machine_code

echo "revision $(cat revision), $(nproc) cores, $(date -u +%Y-%m-%dT%H:%MZ)"
for stage in "${cpu_stages[@]}"; do run_stage "$stage"; done
if [[ -n $only ]] || has_gpu; then
  for stage in "${gpu_stages[@]}"; do run_stage "$stage"; done
else
  echo "no GPU here (no /dev/nvidia[0-9]*, and nvidia-smi lists none): not run: $(stage_names "${gpu_stages[@]}")"
fi
echo "$failed failed"
exit "$failed"
