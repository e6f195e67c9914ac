#!/usr/bin/env bash
# Runs tests of sandboxes as an ordinary user, who becomes nobody else and makes
# no cgroup: what root's run of them never does. The arguments are the tests.
set -u
user=65534
skip() {
  echo "skipped: $1"
  # As GoogleTest would say it (tools/test_summary.py).
  printf '<testsuite name="user"><testcase name="suites"><skipped message="%s"/></testcase></testsuite>\n' \
    "$1" >"${XML_OUTPUT_FILE:-/dev/null}"
  exit 0
}
if [ "$(id -u)" != 0 ]; then
  skip "an ordinary user runs all of them so anyway"
fi
as_user() {
  setpriv --reuid "$user" --regid "$user" --clear-groups --inh-caps=-all "$@"
}
if ! as_user bwrap --unshare-all --ro-bind / / true; then
  skip "an ordinary user has no user namespaces here"
fi
# Of the user's own: where Bazel works only root may enter.
home=$(mktemp -d /tmp/temper_ordinary_user.XXXXXX)
trap 'rm -rf "$home"' EXIT
cp -rL environments "$home/"
mkdir "$home/tmp"
chown -R "$user:$user" "$home"
chmod 755 "$home"
cd "$home" || exit 1
failed=0
for test in "$@"; do
  echo "== $test"
  as_user env -i PATH="$PATH" HOME="$home" TEST_TMPDIR="$home/tmp" \
    "$home/$test" --gtest_brief=1 || failed=1
done
exit "$failed"
