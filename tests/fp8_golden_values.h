// What the goldens of FP8 have (tests/golden/model/B), of the production's
// operations and transformer, under the goldens' names.

#ifndef TESTS_FP8_GOLDEN_VALUES_H_
#define TESTS_FP8_GOLDEN_VALUES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/numerics.h"
#include "tests/golden_file.h"

namespace temper {

// Reads of `dir` what ComputeGoldenValues does; of golden.safetensors what goes
// in (fp8/act/x, weight/w, index/q, k and w, e4m3/in) and the layers' inputs
// fp8/seq0/hidden; and fp8_grad_in.safetensors where it is there, without which
// there are no gradients. The whole model is computed in kFp8OverFp32
// (tests/given_backend.h).
absl::StatusOr<GoldenTensors> ComputeFp8GoldenValues(Backend* backend,
                                                     const std::string& dir);

// One forward of sequence 0, each layer from the goldens' input of it.
struct LayerwiseFp8 {
  GoldenTensors tensors;  // fp8/tf/hidden, fp8/tf/index_scores
  std::vector<std::vector<float>> attention;  // by layers, rows before o_proj
};
absl::StatusOr<LayerwiseFp8> ComputeLayerwiseFp8(Backend* backend,
                                                 const std::string& dir,
                                                 const Numerics& numerics);

// Whole forwards of both sequences: fp8/seq0/logits and the like, of whatever
// numerics.
absl::StatusOr<GoldenTensors> ComputeLiveForwards(Backend* backend,
                                                  const std::string& dir,
                                                  const Numerics& numerics);

}  // namespace temper

#endif  // TESTS_FP8_GOLDEN_VALUES_H_
