#!/usr/bin/env bash
# Installs, builds and runs every test; `--long`, as the first argument, also
# those tagged "long", which take minutes to an hour: whole matrices, and what is
# measured, each alone. Further arguments go to bazel test. Names each skipped test
# with what was missing, and ends with the line `N passed, N failed`. Exit
# status 0: none failed.
set -euo pipefail
. "$(dirname "$0")/prepare.sh"

targets=(//...)
if [ "${1:-}" = --long ]; then
  shift
  mapfile -t -O 1 targets < <(bazel query 'attr(tags, "\blong\b", tests(//...))')
fi

events=$(mktemp)
trap 'rm -f "$events"' EXIT
status=0
bazel test "${targets[@]}" "${cache[@]}" --keep_going \
  --build_event_json_file="$events" "$@" >&2 || status=$?
python3 tools/test_summary.py "$events" "$status"
