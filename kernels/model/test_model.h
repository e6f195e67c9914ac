// Small random models and batches for tests.

#ifndef KERNELS_MODEL_TEST_MODEL_H_
#define KERNELS_MODEL_TEST_MODEL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/model/config.h"
#include "kernels/model/transformer.h"
#include "kernels/model/weights.h"
#include "kernels/ops/backend.h"

namespace temper {

// Three layers, two of them MoE, whose indexer keeps 16 keys; YaRN off.
ModelConfig TinyConfig();

// Weights of about unit gain, norms near 1, biases that matter.
std::vector<float> RandomValues(const ModelConfig& config, uint64_t seed);

// CHECKs that it works.
std::unique_ptr<ModelWeights> RandomModel(Backend* backend,
                                          const ModelConfig& config,
                                          uint64_t seed);

std::vector<int32_t> RandomTokens(const ModelConfig& config, uint64_t seed,
                                  int64_t count);

// A training batch of sequences with live routes. A sequence may begin with
// rows of an earlier one: its first `shared` tokens are those of `parent`.
struct TrainingSequence {
  std::vector<int32_t> tokens;
  int32_t parent = -1;
  int32_t shared = 0;
};
struct TrainingBatch {
  TokenBatch batch;
  std::vector<std::vector<int32_t>> rows;  // [sequence][position]
};
TrainingBatch MakeTrainingBatch(const ModelConfig& config,
                                const std::vector<TrainingSequence>& sequences);

}  // namespace temper

#endif  // KERNELS_MODEL_TEST_MODEL_H_
