#include "kernels/ops/device_fault.h"

namespace temper {

absl::Status StatusOf(DeviceFault fault) {
  switch (fault) {
    case DeviceFault::kNone:
      return absl::OkStatus();
    case DeviceFault::kNumbers:
      return absl::DataLossError(
          "the model's hidden states left the range that can be computed with");
    case DeviceFault::kRoute:
      return absl::InternalError("a route names an expert that there is not");
    case DeviceFault::kRow:
      return absl::InternalError("an index lies beyond the rows of its table");
    case DeviceFault::kTarget:
      return absl::InternalError(
          "a target is not in the vocabulary, or not in its row's kept set");
    case DeviceFault::kKeptSet:
      return absl::InternalError(
          "kept ids do not ascend within the vocabulary");
    case DeviceFault::kOffsets:
      return absl::InternalError("offsets of groups do not tile the rows");
    case DeviceFault::kSampleRow:
      return absl::InternalError(
          "a row to be sampled has a temperature that is not above 0, or a "
          "kept_max out of its range");
  }
  return absl::InternalError("an unknown fault of the device");
}

}  // namespace temper
