#!/usr/bin/env bash
# From a fresh machine to a trained model: installs, builds, and post-trains
# the shipped base model. Further flags go to `temper train`, for example
#   tools/quickstart.sh --seed 2 --set steps=20
set -euo pipefail
cd "$(dirname "$0")/.."

tools/setup.sh
# Results are kept outside the checkout; a developer's own cache comes first.
cache=()
if ! grep -qs disk_cache .bazelrc.user "$HOME/.bazelrc"; then
  cache=("--disk_cache=${XDG_CACHE_HOME:-$HOME/.cache}/temper-bazel")
fi
bazel build //tools:temper "${cache[@]}" >&2
# By its whole path, so that the commands it prints work from anywhere.
exec "$PWD/bazel-bin/tools/temper" train tools/configs/quickstart.textproto "$@"
