#!/usr/bin/env bash
# What tools/device/check.sh runs of the tests of single instructions: every name
# of its filter is that of a test, and every program has some.
#   probe_filter_test.sh STAGES_SH TEST..
set -ufo pipefail
. "$1"
filter=$probe_tests
programs=("${@:2}")
failures=0
# count PROGRAM FILTER: its tests.
count() { "$1" --gtest_list_tests "--gtest_filter=$2" | grep -c '^ '; }

IFS=: read -ra names <<<"$filter"
((${#names[@]} > 10)) || { echo "FAILED: the filter is \"$filter\""; failures=1; }
for name in "${names[@]}"; do
  tests=0
  for program in "${programs[@]}"; do ((tests += $(count "$program" "$name"))); done
  ((tests > 0)) || { echo "FAILED: no test is called $name"; failures=1; }
done
for program in "${programs[@]}"; do
  (($(count "$program" "$filter") > 0)) || { echo "FAILED: nothing runs of $program"; failures=1; }
done
exit "$failures"
