// The goldens' sequences as batches: one sequence alone, row i at position i.

#ifndef TESTS_GOLDEN_BATCHES_H_
#define TESTS_GOLDEN_BATCHES_H_

#include <cstdint>
#include <vector>

#include "kernels/model/config.h"
#include "kernels/model/transformer.h"
#include "learner/train/packer.h"
#include "tests/golden_inputs.h"

namespace temper {

// Live routing.
TokenBatch OneSequence(const ModelConfig& config,
                       const std::vector<int32_t>& tokens);

// Every token but the first is predicted, over the whole vocabulary.
PackedBatch NextTokens(const ModelConfig& config,
                       const std::vector<int32_t>& tokens);

// The tokens of the loss mask are predicted, over their kept sets.
PackedBatch SampledTokens(const ModelConfig& config,
                          const GoldenGrpoSequence& sequence);

// [MoE layers, T, A] from [T, MoE layers, A].
std::vector<double> ByLayer(const std::vector<int32_t>& routes, int64_t tokens,
                            int64_t layers, int64_t chosen);

double Norm(const std::vector<float>& values);

// A per-token vector at its tokens' positions, 0 elsewhere.
template <typename T>
std::vector<double> AtPositions(const PackedBatch& packed,
                                const std::vector<T>& values) {
  std::vector<double> out(packed.batch.tokens.size(), 0);
  for (size_t i = 0; i < packed.sampled.size(); ++i) {
    out[packed.sampled[i].row + 1] = values[i];
  }
  return out;
}

}  // namespace temper

#endif  // TESTS_GOLDEN_BATCHES_H_
