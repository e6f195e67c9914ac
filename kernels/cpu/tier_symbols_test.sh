#!/bin/bash
# A tier's objects define nothing weak: a weak symbol is an inline function that
# the linker may keep for everyone, compiled for instructions some CPU lacks.
# Arguments: the tiers' libraries.
set -eu
checked=0
for library in "$@"; do
  case "${library}" in *.a) ;; *) continue ;; esac
  checked=$((checked + 1))
  # DW.ref. is a pointer that the compiler puts beside code built to be watched.
  weak="$(nm --defined-only "${library}" |
    awk '$2 ~ /^[WVuvw]$/ && $3 !~ /^DW[.]ref[.]/')"
  if [[ -n "${weak}" ]]; then
    echo "${library} defines weak symbols:"
    echo "${weak}" | c++filt
    exit 1
  fi
  nm -C --defined-only "${library}" | grep -q ' T temper::Set.*Kernels(' ||
    { echo "${library} defines no tier: the wrong file was checked"; exit 1; }
done
[[ "${checked}" -ge 5 ]] || { echo "checked ${checked} libraries"; exit 1; }
