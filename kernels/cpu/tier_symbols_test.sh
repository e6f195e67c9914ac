#!/bin/bash
# A tier's objects define nothing that others can take for their own but how the
# tier is set: a weak symbol is an inline function that the linker may keep for
# everyone, compiled for instructions some CPU lacks, and so is a helper outside
# the unnamed namespace. Arguments: the tiers' libraries.
set -eu
checked=0
for library in "$@"; do
  case "${library}" in *.a) ;; *) continue ;; esac
  checked=$((checked + 1))
  # DW.ref. is a pointer that the compiler puts beside code built to be watched.
  seen="$(nm -C --defined-only --extern-only "${library}" |
    grep -E '^[0-9a-f]+ ' |
    grep -vE ' (T temper::Set[A-Za-z0-9]+\(temper::TierKernels\*\)|V DW[.]ref[.].*)$' ||
    true)"
  if [[ -n "${seen}" ]]; then
    echo "${library} defines what others can take for their own:"
    echo "${seen}"
    exit 1
  fi
  nm -C --defined-only "${library}" | grep -q ' T temper::Set.*Kernels(' ||
    { echo "${library} defines no tier: the wrong file was checked"; exit 1; }
done
[[ "${checked}" -ge 5 ]] || { echo "checked ${checked} libraries"; exit 1; }
