#include "kernels/model/number_range.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

absl::Status OutOfRange(Backend* backend, const PublishedWeights& weights,
                        const char* what, double size) {
  float largest = -1;
  std::string name;
  std::vector<float> values;
  for (const Parameter& p : weights.parameters()) {
    const Tensor value = weights.value(p);
    values.resize(value.elements());
    RETURN_IF_ERROR(backend->CopyToHost(value, values.data()));
    for (const float x : values) {
      // Written so that a NaN is the largest, and stays it.
      if (!(std::fabs(x) <= largest) && !std::isnan(largest)) {
        largest = std::fabs(x);
        name = p.name;
      }
    }
  }
  return absl::DataLossError(absl::StrCat(
      what, " a root mean square of ", size, ", above the ", kRootMeanSquareMax,
      " that fp32 can compute with; the largest of its weights is ", largest,
      ", in \"", name,
      "\". The weights are damaged, or training has diverged: take another "
      "checkpoint"));
}

}  // namespace

absl::Status NumberRange::Init(Backend* backend) {
  backend_ = backend;
  ASSIGN_OR_RETURN(squares_, backend->Allocate(kBytes));
  return absl::OkStatus();
}

absl::Status NumberRange::Check(const PublishedWeights& weights,
                                const std::vector<Tensor>& tensors) {
  for (const Tensor& tensor : tensors) {
    ASSIGN_OR_RETURN(const double size, RootMeanSquare(tensor));
    if (!(size <= kRootMeanSquareMax)) {
      return OutOfRange(backend_, weights, "the model's hidden states have",
                        size);
    }
  }
  // Reading the head takes as long as a token's product with it, so not every
  // forward does.
  if (head_checked_ == weights.publications()) return absl::OkStatus();
  const Tensor head = weights.value("lm_head.weight");
  // SumSquares, which the optimizer's norm is made of, reads fp32 alone.
  if (head.dtype() != DType::kF32) return absl::OkStatus();
  ASSIGN_OR_RETURN(const double size, RootMeanSquare(head));
  if (!(size <= kRootMeanSquareMax)) {
    return OutOfRange(backend_, weights, "lm_head.weight has", size);
  }
  head_checked_ = weights.publications();
  return absl::OkStatus();
}

absl::StatusOr<double> NumberRange::RootMeanSquare(const Tensor& tensor) {
  const Tensor squares(squares_->data(), DType::kF64, {1}, backend_->device());
  backend_->SumSquares({tensor}, squares);
  double sum = 0;
  RETURN_IF_ERROR(backend_->CopyToHost(squares, &sum));
  RETURN_IF_ERROR(backend_->Sync());
  return std::sqrt(sum / static_cast<double>(tensor.elements()));
}

}  // namespace temper
