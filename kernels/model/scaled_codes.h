// Matrices in F8_E4M3 as Hugging Face's files of DeepSeek's models have them: a
// tensor of codes, and a tensor of f32, a factor for each square of 128 x 128,
// which the last row and column cut off. Whatever is read is taken for its
// values; what is written is quantised as DESIGN.md section 6.6 has it.
//
// Functions without state; thread-safe.

#ifndef KERNELS_MODEL_SCALED_CODES_H_
#define KERNELS_MODEL_SCALED_CODES_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/safetensors.h"
#include "kernels/tensor/dtype.h"

namespace temper {

// InvalidArgument, naming the tensor, for a scale that is no finite number
// above 0. `scales` is F32, here and below.
absl::Status CheckScales(const SafetensorsEntry& scales);

// Whether each is a power of two that the quantiser could give, 2^-22 or more.
// Then the values of its codes are the same when they are quantised again.
bool AreQuantisersScales(const SafetensorsEntry& scales);

// The values of codes [out, in]: each times its scale. The shapes are CHECKed.
// CheckScales' error; a code that is no number gives a value that is none.
absl::StatusOr<std::vector<float>> DecodeScaledCodes(
    const SafetensorsEntry& codes, const SafetensorsEntry& scales);

// Appends the codes of `values`, rows of so many columns that begin at a
// matrix's row 0, 128, .., and the scales of their squares. Of the calls for
// one matrix all but the last have a multiple of 128 rows. DataLoss for a value
// that no scale fits (kernels/tensor/fp8.h, BlockScale).
absl::Status AppendScaledCodes(const std::vector<float>& values,
                               int64_t columns, std::vector<F8E4M3>* codes,
                               std::vector<float>* scales);

}  // namespace temper

#endif  // KERNELS_MODEL_SCALED_CODES_H_
