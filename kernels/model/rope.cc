#include "kernels/model/rope.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/base/math.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int64_t kRowsMin = 1024;

// The dimension whose wavelength makes `rotations` turns over the original
// context.
double CorrectionDim(const ModelConfig& config, double rotations) {
  const double length = config.rope_scaling.original_max_position_embeddings;
  return config.qk_rope_head_dim * Log(length / (rotations * 2 * kPi)) /
         (2 * Log(config.rope_theta));
}

}  // namespace

std::vector<double> RopeFrequencies(const ModelConfig& config) {
  const int64_t dim = config.qk_rope_head_dim;
  std::vector<double> frequencies(dim / 2);
  for (int64_t i = 0; i < dim / 2; ++i) {
    frequencies[i] = Pow(config.rope_theta, -2.0 * i / dim);
  }
  if (!config.has_rope_scaling) return frequencies;
  const RopeScaling& yarn = config.rope_scaling;
  const double low =
      std::max(std::floor(CorrectionDim(config, yarn.beta_fast)), 0.0);
  double high =
      std::min(std::ceil(CorrectionDim(config, yarn.beta_slow)), dim - 1.0);
  if (low == high) high += 0.001;  // as DeepSeek's code does
  for (int64_t i = 0; i < dim / 2; ++i) {
    // Between the two dimensions frequencies pass from their own to
    // interpolated ones.
    const double ramp = std::clamp((i - low) / (high - low), 0.0, 1.0);
    frequencies[i] =
        frequencies[i] / yarn.factor * ramp + frequencies[i] * (1 - ramp);
  }
  return frequencies;
}

std::vector<float> RopeTable(const ModelConfig& config, int64_t positions) {
  const std::vector<double> frequencies = RopeFrequencies(config);
  const int64_t half = config.qk_rope_head_dim / 2;
  std::vector<float> table(positions * 2 * half);
  for (int64_t p = 0; p < positions; ++p) {
    float* row = table.data() + p * 2 * half;
    for (int64_t i = 0; i < half; ++i) {
      // In double, and rounded once: a float angle of a late position has lost
      // its fraction.
      const double angle = p * frequencies[i];
      row[i] = static_cast<float>(Cos(angle));
      row[half + i] = static_cast<float>(Sin(angle));
    }
  }
  return table;
}

absl::Status RopeCache::Make(Backend* backend, const ModelConfig& config,
                             int64_t positions) {
  const int64_t rows =
      std::min(std::max(kRowsMin, positions), config.max_position_embeddings);
  const std::vector<float> table = RopeTable(config, rows);
  ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer,
                   backend->Allocate(static_cast<int64_t>(table.size()) * 4));
  const Tensor view(buffer->data(), DType::kF32,
                    {rows, config.qk_rope_head_dim}, backend->device());
  RETURN_IF_ERROR(backend->CopyFromHost(table.data(), view));
  buffer_ = std::move(buffer);
  cos_sin_ = view;
  return absl::OkStatus();
}

int64_t RopeCache::BytesFor(const ModelConfig& config, int64_t positions) {
  return std::min(std::max(kRowsMin, positions),
                  config.max_position_embeddings) *
         config.qk_rope_head_dim * 4;
}

}  // namespace temper
