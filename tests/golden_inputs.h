// inputs.json of a golden directory.

#ifndef TESTS_GOLDEN_INPUTS_H_
#define TESTS_GOLDEN_INPUTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/model/config.h"

namespace temper {

struct GoldenGrpoSequence {
  std::vector<int32_t> tokens;
  std::vector<int32_t> loss_mask;
  int64_t group = 0;
  double reward = 0;
  std::vector<int32_t> routes;             // [T, MoE layers, A], ascending
  std::vector<std::vector<int32_t>> keep;  // [T], ascending; empty: all ids
  std::vector<float> logp_sampler;         // [T]
};

struct GoldenInputs {
  std::vector<std::vector<int32_t>> lm_tokens;
  double learning_rate = 0, beta1 = 0, beta2 = 0, eps = 0, weight_decay = 0,
         clip_norm = 0;
  int64_t adamw_steps = 0;
  double clip_low = 0, clip_high = 0, kl_coef = 0, delta = 0, temperature = 1;
  std::vector<GoldenGrpoSequence> sequences;
};

// InvalidArgument if the file is not what the layout says.
absl::StatusOr<GoldenInputs> ReadGoldenInputs(const std::string& dir,
                                              const ModelConfig& config);

}  // namespace temper

#endif  // TESTS_GOLDEN_INPUTS_H_
