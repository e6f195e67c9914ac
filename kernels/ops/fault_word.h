// What an operation can meet in the values of its operands, where only the
// device sees them; kernels/ops/device_fault.h says what becomes of it. Nothing
// of Abseil here, so that kernels can include it.

#ifndef KERNELS_OPS_FAULT_WORD_H_
#define KERNELS_OPS_FAULT_WORD_H_

#include <cstdint>

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

}  // namespace temper

#endif  // KERNELS_OPS_FAULT_WORD_H_
