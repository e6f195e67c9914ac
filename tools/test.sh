#!/usr/bin/env bash
# Installs, builds and runs every test; further arguments go to bazel test.
# Names each skipped test with what was missing, and ends with the line
# `N passed, N failed`. Exit status 0: none failed.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"

events=$(mktemp)
trap 'rm -f "$events"' EXIT
status=0
bazel test //... "${cache[@]}" --keep_going \
  --build_event_json_file="$events" "$@" >&2 || status=$?
python3 tools/test_summary.py "$events" "$status"
