// Whether a forward's numbers stayed where fp32 means something. Weights can be
// finite and so large that products are not; a norm's sum of squares overflows
// long before, and then gives zeros instead of an error.
//
// Not thread-safe. The backend outlives it.

#ifndef KERNELS_MODEL_NUMBER_RANGE_H_
#define KERNELS_MODEL_NUMBER_RANGE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/published_weights.h"
#include "kernels/ops/backend.h"

namespace temper {

// Of a tensor; those of models that work are below 1e6.
inline constexpr double kRootMeanSquareMax = 1e18;

class NumberRange {
 public:
  static constexpr int64_t kBytes = sizeof(double);  // that Init asks for
  absl::Status Init(Backend* backend);

  // DataLoss if the root mean square of some tensor (f32, contiguous), or of
  // lm_head.weight in fp32, whose products no forward keeps, is above
  // kRootMeanSquareMax or not a number. It names the largest of the weights
  // that they were computed with. One object is for one `weights`.
  absl::Status Check(const PublishedWeights& weights,
                     const std::vector<Tensor>& tensors);

 private:
  absl::StatusOr<double> RootMeanSquare(const Tensor& tensor);

  Backend* backend_ = nullptr;
  std::unique_ptr<Buffer> squares_;  // f64 [1]
  uint64_t head_checked_ = 0;        // the publication whose lm_head is good
};

}  // namespace temper

#endif  // KERNELS_MODEL_NUMBER_RANGE_H_
