#!/usr/bin/env bash
# Installs, builds and runs every test; further arguments go to bazel test.
# With --long first, those too that take minutes each and are tagged `long`.
# Names each skipped test with what was missing, and ends with the line
# `N passed, N failed`. Exit status 0: none failed.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"

events=$(mktemp)
trap 'rm -f "$events"' EXIT
status=0
targets=(//...)
if [ "${1:-}" = --long ]; then
  shift
  mapfile -t -O 1 targets < <(
    bazel query --noshow_progress 'attr(tags, "[\[ ]long[,\]]", //...)')
fi
bazel test "${targets[@]}" "${cache[@]}" --keep_going \
  --build_event_json_file="$events" "$@" >&2 || status=$?
python3 tools/test_summary.py "$events" "$status"
