// What a run's configuration says its products are computed in, as the layouts
// of memory take it.
//
// A function without state; thread-safe.

#ifndef PROTO_WIRE_RUN_NUMERICS_H_
#define PROTO_WIRE_RUN_NUMERICS_H_

#include "kernels/tensor/numerics.h"
#include "proto/config.pb.h"

namespace temper {

inline Numerics NumericsOf(const RunConfig& config) {
  return config.numerics() == RunConfig::bf16 ? kBf16 : kFp32;
}

}  // namespace temper

#endif  // PROTO_WIRE_RUN_NUMERICS_H_
