#!/usr/bin/env bash
# `temper env-host` as a process: it says where it listens, ends with 0 when
# asked to, and with 1, naming why, when its sandbox helper dies.
set -u
temper=$1
dir=$TEST_TMPDIR
fail() { echo "FAILED: $*"; cat "$dir"/*.err; exit 1; }

# within SECONDS COMMAND...: polls until the command succeeds.
within() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.05
  done
}
ended() { ! kill -0 "$host" 2>/dev/null; }

# start NAME: $host is its pid; it listens when this returns.
start() {
  "$temper" env-host --address-file "$dir/$1.address" --sandboxes 2 \
    2>"$dir/$1.err" &
  host=$!
  within 60 test -s "$dir/$1.address" || fail "$1 does not listen"
}

start asked
kill -TERM "$host"
within 30 ended || fail "SIGTERM did not end the host"
wait "$host" || fail "exit $? after SIGTERM, not 0"

start bereft
helper=$(pgrep -P "$host" | head -1)
[ -n "$helper" ] || fail "the host has no helper"
kill -KILL "$helper"
within 30 ended || fail "the host lives on without its helper"
wait "$host"
code=$?
[ "$code" = 1 ] || fail "exit $code without the helper, not 1"
grep -q 'temper env-host: the sandbox helper is gone.*start the host again' \
  "$dir/bereft.err" || fail "stderr does not say that the helper is gone"
