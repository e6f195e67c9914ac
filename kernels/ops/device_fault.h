// What an operation can meet in the values of its operands, where only the
// device sees them. Such an operation stays within its memory, makes
// unspecified values, and sets the backend's error word; the next Wait, Read or
// Sync returns it and clears it. The first fault stands.
//
// A function without state; thread-safe.

#ifndef KERNELS_OPS_DEVICE_FAULT_H_
#define KERNELS_OPS_DEVICE_FAULT_H_

#include <cstdint>

#include "absl/status/status.h"

namespace temper {

enum class DeviceFault : uint32_t {
  kNone = 0,
  kNumbers,    // CheckNumbers: beyond what can be computed with
  kRoute,      // an expert that there is not
  kRow,        // a row, token or key beyond its table
  kTarget,     // a target outside the vocabulary or its kept set
  kKeptSet,    // kept ids that do not ascend within the vocabulary
  kOffsets,    // groups that do not tile the rows
  kSampleRow,  // a temperature that is not above 0, or a kept_max out of range
};

// DataLoss for kNumbers: weights are damaged. All others are our own mistakes,
// which a check on the host should have found: Internal. Ok for kNone.
absl::Status StatusOf(DeviceFault fault);

}  // namespace temper

#endif  // KERNELS_OPS_DEVICE_FAULT_H_
