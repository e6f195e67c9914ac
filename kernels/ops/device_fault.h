// What an operation can meet in the values of its operands, where only the
// device sees them. Such an operation stays within its memory, makes
// unspecified values, and sets the backend's error word; the next Wait, Read or
// Sync returns it and clears it. The first fault stands.
//
// A function without state; thread-safe.

#ifndef KERNELS_OPS_DEVICE_FAULT_H_
#define KERNELS_OPS_DEVICE_FAULT_H_

#include "absl/status/status.h"
#include "kernels/ops/fault_word.h"

namespace temper {

// DataLoss for kNumbers: weights are damaged. All others are our own mistakes,
// which a check on the host should have found: Internal. Ok for kNone.
absl::Status StatusOf(DeviceFault fault);

}  // namespace temper

#endif  // KERNELS_OPS_DEVICE_FAULT_H_
