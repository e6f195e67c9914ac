#!/usr/bin/env bash
# From a fresh machine to a trained model: installs, builds, and post-trains
# the shipped base model. Further flags go to `temper train`, for example
#   tools/quickstart.sh --seed 2 --set steps=20
set -euo pipefail
. "$(dirname "$0")/prepare.sh"

bazel build //tools:temper "${cache[@]}" >&2
# By its whole path, so that the commands it prints work from anywhere.
exec "$PWD/bazel-bin/tools/temper" train tools/configs/quickstart.textproto "$@"
