// Tensors by name, as a golden or candidate safetensors file holds them.

#ifndef TESTS_GOLDEN_FILE_H_
#define TESTS_GOLDEN_FILE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace temper {

struct GoldenTensor {
  std::string dtype;  // F32, F64, I32, I64, U8, F8_E4M3 (as bytes)
  std::vector<int64_t> shape;
  std::vector<double> values;  // exact for every dtype above but large I64
};

using GoldenTensors = std::map<std::string, GoldenTensor>;

absl::StatusOr<GoldenTensors> ReadGoldenFile(const std::string& path);

// Writes F32, F64 and I32 tensors.
absl::Status WriteGoldenFile(const std::string& path,
                             const GoldenTensors& tensors);

}  // namespace temper

#endif  // TESTS_GOLDEN_FILE_H_
