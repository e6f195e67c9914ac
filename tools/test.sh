#!/usr/bin/env bash
# Installs, builds and runs every test; further arguments go to bazel test.
# Names each skipped test with what was missing, and ends with the line
# `N passed, N failed`. Exit status 0: none failed.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/setup.sh
# Results are kept outside the checkout; a developer's own cache comes first.
cache=()
if ! grep -qs disk_cache .bazelrc.user "$HOME/.bazelrc"; then
  cache=("--disk_cache=${XDG_CACHE_HOME:-$HOME/.cache}/temper-bazel")
fi
events=$(mktemp)
trap 'rm -f "$events"' EXIT
status=0
bazel test //... "${cache[@]}" --keep_going \
  --build_event_json_file="$events" "$@" >&2 || status=$?
python3 tools/test_summary.py "$events" "$status"
