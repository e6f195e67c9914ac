#!/usr/bin/env bash
# `temper env test` of an environment that grades code: it says that all known
# answers came out as they should before it plays tasks, and plays them.
set -u
temper=$1
tasks=$2
fail() { echo "FAILED: $*"; cat "$TEST_TMPDIR"/*; exit 1; }

"$temper" env test code --tasks "$tasks" --count 3 >"$TEST_TMPDIR/out" \
  2>"$TEST_TMPDIR/err" || fail "exit $?"
grep -qE '^code: [0-9]+ right answers are correct; [0-9]+ wrong, [0-9]+ empty and [0-9]+ attacks are not$' \
  "$TEST_TMPDIR/out" || fail "no word of the self-test"
grep -q '^code: 3 tasks keep its promises$' "$TEST_TMPDIR/out" ||
  fail "no word of the tasks"
"$temper" env list | grep -q '^code .*sandbox .*hidden tests' ||
  fail "code is not listed"

"$temper" bench sandbox --runs 3 --json >"$TEST_TMPDIR/out" \
  2>"$TEST_TMPDIR/err" || fail "bench sandbox: exit $?"
grep -q '"run_p95_ms": [0-9]' "$TEST_TMPDIR/out" || fail "no time of a run"
"$temper" bench sandbox --runs 3 | grep -q 'of a bare zygote' ||
  fail "no rate"
