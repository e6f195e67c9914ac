# Sourced by quickstart.sh and test.sh: goes to the checkout, installs what the
# build needs, and sets `cache`, the flags for bazel's cache.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools/setup.sh
# Results are kept outside the checkout; a developer's own cache comes first.
cache=()
if ! grep -qs disk_cache .bazelrc.user "$HOME/.bazelrc"; then
  cache=("--disk_cache=${XDG_CACHE_HOME:-$HOME/.cache}/temper-bazel")
fi
