// Times a model's steps as runs make them: the forward and the backward of a
// training pack, and an engine that decodes. Random tokens, fixed seeds.

#ifndef TOOLS_BENCH_MODEL_BENCH_H_
#define TOOLS_BENCH_MODEL_BENCH_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/base/clock.h"
#include "kernels/cpu/machine_peak.h"
#include "kernels/model/master_weights.h"
#include "kernels/model/published_weights.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/numerics.h"
#include "tools/bench/measurement.h"

namespace temper {

// Published in some numerics, for a forward and a backward.
struct BenchModel {
  std::unique_ptr<MasterWeights> masters;
  std::unique_ptr<PublishedWeights> weights;
};

// The model of a directory; of a config.json alone, one with random weights.
// `backend` outlives the result. Errors are those of tools/run/loaded_model.h.
absl::StatusOr<BenchModel> LoadBenchModel(Backend* backend,
                                          const Numerics& numerics,
                                          const std::string& path);

enum class BenchPass { kForward, kForwardBackward };

// `peak` may be null, here and below: then there is none to be held against.

// Two sequences of 256 tokens: log-probabilities of all of them, and with
// kForwardBackward the gradients of their mean.
absl::StatusOr<Measurements> BenchPack(Backend* backend, MachinePeak* peak,
                                       const PublishedWeights& weights,
                                       BenchPass pass, Clock* clock);

// 1, 8, 32 and 256 sequences that go on from prompts of 128 tokens, sampled
// from the whole distribution. InvalidArgument for a model of no more positions
// than a prompt's.
absl::StatusOr<Measurements> BenchDecode(Backend* backend, MachinePeak* peak,
                                         PublishedWeights* weights,
                                         Clock* clock);

}  // namespace temper

#endif  // TOOLS_BENCH_MODEL_BENCH_H_
