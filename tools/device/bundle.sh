#!/usr/bin/env bash
# Makes device/, all that tools/device/check.sh takes to a machine with a GPU,
# where neither Bazel nor a network is: the program and what tests it on a GPU,
# built with CUDA, the shared libraries they need but libc, the quickstart's
# model, goldens A and C. Needs nvcc. Further arguments go to `bazel build`:
#   tools/device/bundle.sh --jobs=4
#   ... copy device/ there, and on it: device/check.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
. tools/device/stages.sh

limit_bytes=$((32 << 20))
# What lies beside a program is found by every library too: an rpath that is
# inherited, not an environment that Python and compilers would inherit as well.
bazel build --config=cuda \
  '--linkopt=-Wl,-rpath,$ORIGIN/../lib,--disable-new-dtags' "$@" \
  "${program_targets[@]}"

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
mkdir -p "$made/bin" "$made/lib" "$made/tests/golden/model" "$made/tools"
for target in "${program_targets[@]}"; do
  path=${target#//}
  strip -o "$made/bin/${target##*:}" "bazel-bin/${path/:/\/}"
done
# "libfoo.so.1 => /usr/lib/libfoo.so.1 (0x..)": libc and what comes with it is
# the machine's own.
ldd "$made"/bin/* | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
  grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv)\.so\.|/ld-linux' |
  while read -r library; do strip -o "$made/lib/$(basename "$library")" "$library"; done
cp -rL tests/golden/model/{A,C,rules.json} "$made/tests/golden/model/"
cp -rL tools/configs tools/quickstart_model "$made/tools/"
git describe --always --dirty >"$made/revision" 2>/dev/null || echo unknown >"$made/revision"
objdump -T "$made"/bin/* | grep -oE 'GLIBC_[0-9.]+' | sort -V | tail -1 |
  cut -d_ -f2 >"$made/glibc"

rm -rf device
mkdir device
cp tools/device/{check.sh,stages.sh,ceilings.py,same_runs.py} device/
tar -C "$made" -cf - . | xz -T0 -6 >device/bundle.tar.xz
bytes=$(du -sb device | cut -f1)
if ((bytes > limit_bytes)); then
  echo "bundle.sh: device/ has $bytes bytes; at most $limit_bytes" >&2
  exit 1
fi
echo "device/ has $((bytes >> 20)) MiB, of revision $(cat "$made/revision")"
