#include "kernels/model/scaled_codes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

// A tensor of a file may begin at any byte.
std::vector<float> ReadFloats(const SafetensorsEntry& entry) {
  std::vector<float> values(entry.elements());
  CHECK_EQ(entry.bytes, values.size() * sizeof(float)) << entry.name;
  if (!values.empty()) std::memcpy(values.data(), entry.data, entry.bytes);
  return values;
}

std::array<float, 256> ValuesOfCodes() {
  std::array<float, 256> values = {};
  for (int code = 0; code < 256; ++code) {
    values[code] = FloatFromE4M3({static_cast<uint8_t>(code)});
  }
  return values;
}

}  // namespace

absl::Status CheckScales(const SafetensorsEntry& scales) {
  for (const float scale : ReadFloats(scales)) {
    if (std::isfinite(scale) && scale > 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", scales.name, "\" holds the scale ", scale,
                     "; a finite number above 0 is needed"));
  }
  return absl::OkStatus();
}

bool AreQuantisersScales(const SafetensorsEntry& scales) {
  const std::vector<float> values = ReadFloats(scales);
  return std::all_of(values.begin(), values.end(), [](float scale) {
    int exponent = 0;
    return scale >= BlockScale(0) && std::frexp(scale, &exponent) == 0.5f;
  });
}

absl::StatusOr<std::vector<float>> DecodeScaledCodes(
    const SafetensorsEntry& codes, const SafetensorsEntry& scales) {
  CHECK_EQ(codes.shape.size(), 2u) << codes.name;
  const int64_t rows = codes.shape[0], columns = codes.shape[1];
  const int64_t blocks = ScaleBlocks(columns);
  CHECK_EQ(scales.elements(), ScaleBlocks(rows) * blocks) << scales.name;
  const absl::Status checked = CheckScales(scales);
  if (!checked.ok()) return checked;
  static const std::array<float, 256> kValues = ValuesOfCodes();
  const std::vector<float> factors = ReadFloats(scales);
  const auto* code = reinterpret_cast<const uint8_t*>(codes.data);
  std::vector<float> values;
  values.reserve(codes.elements());
  for (int64_t row = 0; row < rows; ++row) {
    const float* factor = factors.data() + row / kScaleBlock * blocks;
    for (int64_t k = 0; k < columns; ++k, ++code) {
      values.push_back(kValues[*code] * factor[k / kScaleBlock]);
    }
  }
  return values;
}

absl::Status AppendScaledCodes(const std::vector<float>& values,
                               int64_t columns, std::vector<F8E4M3>* codes,
                               std::vector<float>* scales) {
  const auto rows = static_cast<int64_t>(values.size()) / columns;
  std::vector<float> of_blocks;  // largest magnitudes, then scales
  for (int64_t first = 0; first < rows; first += kScaleBlock) {
    const float* const begin = values.data() + first * columns;
    const float* const end =
        values.data() + std::min(first + kScaleBlock, rows) * columns;
    of_blocks.assign(ScaleBlocks(columns), 0);
    for (const float* row = begin; row < end; row += columns) {
      for (int64_t k = 0; k < columns; ++k) {
        float& so_far = of_blocks[k / kScaleBlock];
        so_far = LargerMagnitude(so_far, row[k]);
      }
    }
    for (float& of_block : of_blocks) {
      if (!(of_block < kQuantisedMax)) {
        return absl::DataLossError(
            absl::StrCat("holds the magnitude ", of_block,
                         ", for which F8_E4M3 has no scale"));
      }
      of_block = BlockScale(of_block);
    }
    scales->insert(scales->end(), of_blocks.begin(), of_blocks.end());
    // Powers of two: the quotients are exact.
    for (const float* row = begin; row < end; row += columns) {
      for (int64_t k = 0; k < columns; ++k) {
        codes->push_back(E4M3FromFloat(row[k] / of_blocks[k / kScaleBlock]));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace temper
