#!/usr/bin/env bash
# Installs the packages of Debian 12 or 13 that Temper builds and runs with. Run
# it as root, or as a user who has sudo. Quick when everything is there already.
set -euo pipefail

packages=(
  # The build.
  bazel-bootstrap bazel-rules-java g++ pkg-config ca-certificates git
  # Libraries.
  cppzmq-dev libabsl-dev libcli11-dev libgmock-dev
  libgrpc++-dev libgrpc-dev libgtest-dev libpcre2-dev libprotobuf-dev
  libseccomp-dev libsqlite3-dev libssl-dev libzmq3-dev
  nlohmann-json3-dev protobuf-compiler protobuf-compiler-grpc zlib1g-dev
  # Sandboxes, environments in Python, the tests' oracles, and the layout that
  # tidy_test asks for.
  bubblewrap clang-format procps python3 python3-grpcio sqlite3 xz-utils
)

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} = 0 ]; then
  echo "setup: all ${#packages[@]} packages are installed" >&2
  exit 0
fi

# A subshell, for os-release sets VERSION and others.
release=$(. /etc/os-release 2>/dev/null; echo "${ID:-unknown} ${VERSION_ID:-}")
case $release in
  "debian 12" | "debian 13") ;;
  *)
    echo "setup: this is ${release% }; Temper is built with the packages of" \
         "Debian 12 or 13. Missing here: ${missing[*]}" >&2
    exit 1 ;;
esac

as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup: missing ${missing[*]}; run tools/setup.sh as root," \
         "or install sudo" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "setup: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get
         -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends)
"${as_root[@]}" apt-get -qq update >&2
"${install[@]}" "${missing[@]}" >&2
