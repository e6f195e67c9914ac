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
  switch (config.numerics()) {
    case RunConfig::bf16:
      return kBf16;
    case RunConfig::fp8:
      return kFp8;
    default:
      return kFp32;
  }
}

}  // namespace temper

#endif  // PROTO_WIRE_RUN_NUMERICS_H_
