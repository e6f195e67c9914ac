#!/usr/bin/env bash
# Installs, builds and runs every test, with --long as the first argument those
# too that are too long for every day; further arguments go to bazel test.
# Names each skipped test with what was missing, and ends with the line
# `N passed, N failed`. Exit status 0: none failed.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"

events=$(mktemp)
trap 'rm -f "$events"' EXIT
tests=(//...)
if [[ "${1:-}" == --long ]]; then
  shift
  # By name: //... leaves out what is tagged manual.
  mapfile -t -O 1 tests < <(bazel query 'attr(tags, "\blong\b", tests(//...))')
fi
status=0
bazel test "${tests[@]}" "${cache[@]}" --keep_going \
  --build_event_json_file="$events" "$@" >&2 || status=$?
python3 tools/test_summary.py "$events" "$status"
