#!/bin/sh
# golden_candidate as it is called: relative paths are the caller's, the
# expected values are not read, TEMPER_ISA picks the tier and tiers agree.
set -eu
candidate=$PWD/$1
model=$PWD/$2
cd "$TEST_TMPDIR"
mkdir -p given
for file in config.json model.safetensors inputs.json ref_overrides.safetensors
do
  cp -L "$model/$file" given/
done
fail() { echo "FAILED: $*"; exit 1; }

# As `bazel run` does: from elsewhere, the caller's directory in a variable.
export BUILD_WORKING_DIRECTORY=$PWD
(cd / && TEMPER_ISA=scalar "$candidate" given scalar.safetensors)
[ -s scalar.safetensors ] || fail "no scalar.safetensors beside the caller"
if grep -qw avx2 /proc/cpuinfo; then
  (cd / && TEMPER_ISA=avx2 "$candidate" given avx2.safetensors)
  cmp scalar.safetensors avx2.safetensors || fail "the tiers differ"
fi
"$candidate" "$PWD/given" "$PWD/best.safetensors"
cmp scalar.safetensors best.safetensors || fail "the best tier differs"

for tier in AVX2 sse2; do
  code=0
  TEMPER_ISA=$tier "$candidate" given other.safetensors 2>err || code=$?
  [ "$code" = 2 ] || fail "TEMPER_ISA=$tier: exit $code"
  grep -q "TEMPER_ISA.*$tier" err || fail "TEMPER_ISA=$tier: $(cat err)"
done
code=0
"$candidate" given 2>err || code=$?
[ "$code" = 2 ] || fail "one argument: exit $code"
rm given/inputs.json
code=0
"$candidate" given other.safetensors 2>err || code=$?
[ "$code" = 1 ] || fail "no inputs.json: exit $code"
grep -q inputs.json err || fail "no inputs.json: $(cat err)"
[ ! -e other.safetensors ] || fail "a failed run left a file"
