// Whether a forward's numbers stayed where fp32 means something. Weights can be
// finite and so large that products are not; a norm's sum of squares overflows
// long before, and then gives zeros instead of an error. The device watches
// (Backend::CheckNumbers); whose weights they were is said here.
//
// A function without state.

#ifndef KERNELS_MODEL_NUMBER_RANGE_H_
#define KERNELS_MODEL_NUMBER_RANGE_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/published_weights.h"
#include "kernels/ops/backend.h"

namespace temper {

// Of hidden states; those of models that work are below 1e6.
inline constexpr double kRootMeanSquareMax = 1e18;

// DataLoss that names the largest of the weights, for a CheckNumbers of hidden
// states, or of lm_head.weight, that found more; or the error of reading them.
absl::Status OutOfRange(Backend* backend, const PublishedWeights& weights);

}  // namespace temper

#endif  // KERNELS_MODEL_NUMBER_RANGE_H_
