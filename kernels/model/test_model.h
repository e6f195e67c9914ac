// Small random models and batches for tests.

#ifndef KERNELS_MODEL_TEST_MODEL_H_
#define KERNELS_MODEL_TEST_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/model/config.h"
#include "kernels/model/master_weights.h"
#include "kernels/model/published_weights.h"
#include "kernels/model/transformer.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/numerics.h"

namespace temper {

// Three layers, two of them MoE, whose indexer keeps 16 keys; YaRN off.
ModelConfig TinyConfig();

// Weights of about unit gain, norms near 1, biases that matter.
std::vector<float> RandomValues(const ModelConfig& config, uint64_t seed);

// Random masters, or the same values published; CHECK that it works.
std::unique_ptr<MasterWeights> RandomMasters(Backend* backend,
                                             const ModelConfig& config,
                                             uint64_t seed);
std::unique_ptr<PublishedWeights> RandomModel(
    Backend* backend, const ModelConfig& config, uint64_t seed,
    Passes passes = Passes::kForwardAndBackward,
    const Numerics& numerics = kFp32);

// Values in the order of the parameters, as the bytes that are published of
// them in fp32, and published.
std::vector<std::byte> BytesOf(const std::vector<float>& values);
std::unique_ptr<PublishedWeights> PublishedOf(
    Backend* backend, const ModelConfig& config,
    const std::vector<float>& values,
    Passes passes = Passes::kForwardAndBackward,
    const Numerics& numerics = kFp32);

// Publishes `values`, in the order of the parameters. CHECKs that it works.
void SetValues(const std::vector<float>& values, PublishedWeights* weights);

// The values that a model publishes in fp32.
std::vector<float> ValuesOf(const PublishedWeights& weights);

// Masters and what is published of them.
struct TrainableModel {
  std::unique_ptr<MasterWeights> masters;
  std::unique_ptr<PublishedWeights> weights;
};
TrainableModel TrainableOf(Backend* backend, const ModelConfig& config,
                           const std::vector<float>& values,
                           const Numerics& numerics = kFp32);

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
