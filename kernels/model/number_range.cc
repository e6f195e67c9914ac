#include "kernels/model/number_range.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/tensor/bf16.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

absl::StatusOr<std::vector<float>> ReadFloats(Backend* backend,
                                              const PublishedWeights& weights,
                                              const std::string& name) {
  const Tensor from = weights.value(name);
  std::vector<float> values(from.elements());
  if (from.dtype() == DType::kF32) {
    RETURN_IF_ERROR(backend->Read(from, values.data()));
    return values;
  }
  if (from.dtype() == DType::kF8E4M3) {
    std::vector<F8E4M3> codes(from.elements());
    RETURN_IF_ERROR(backend->Read(from, codes.data()));
    ASSIGN_OR_RETURN(const std::vector<float> scales,
                     ReadFloats(backend, weights, ScalesName(name)));
    const int64_t columns = from.dim(1);
    for (int64_t i = 0; i < from.elements(); ++i) {
      const int64_t square = i / columns / kScaleBlock * ScaleBlocks(columns) +
                             i % columns / kScaleBlock;
      values[i] = FloatFromE4M3(codes[i]) * scales[square];
    }
    return values;
  }
  std::vector<BF16> narrow(from.elements());
  RETURN_IF_ERROR(backend->Read(from, narrow.data()));
  for (size_t i = 0; i < narrow.size(); ++i) {
    values[i] = FloatFromBF16(narrow[i]);
  }
  return values;
}

}  // namespace

absl::Status OutOfRange(Backend* backend, const PublishedWeights& weights) {
  float largest = -1;
  std::string name;
  for (const Parameter& p : weights.parameters()) {
    ASSIGN_OR_RETURN(const std::vector<float> values,
                     ReadFloats(backend, weights, p.name));
    for (const float x : values) {
      // Written so that a NaN is the largest, and stays it.
      if (!(std::fabs(x) <= largest) && !std::isnan(largest)) {
        largest = std::fabs(x);
        name = p.name;
      }
    }
  }
  // The largest weight is the likeliest culprit, and the one thing a user can
  // look for in a checkpoint.
  return absl::DataLossError(absl::StrCat(
      "the model's hidden states or its lm_head.weight have a root mean square "
      "above the ",
      kRootMeanSquareMax,
      " that fp32 can compute with; the largest of its weights is ", largest,
      ", in \"", name,
      "\". The weights are damaged, or training has diverged: take another "
      "checkpoint"));
}

}  // namespace temper
