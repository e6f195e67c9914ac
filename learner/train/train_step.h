// One step of GRPO: forward with the kept routes and kept sets, the objective,
// backward, AdamW, for each minibatch of a batch. Owns no data policy: it gets
// whole groups, in (group, sample) order.

#ifndef LEARNER_TRAIN_TRAIN_STEP_H_
#define LEARNER_TRAIN_TRAIN_STEP_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/model/gradients.h"
#include "kernels/model/published_weights.h"
#include "kernels/model/transformer.h"
#include "kernels/ops/backend.h"
#include "learner/intake/episode.h"
#include "learner/train/optimizer.h"
#include "learner/train/packer.h"
#include "learner/train/token_logprob.h"
#include "learner/train/train_step_options.h"

namespace temper {

// What a step computed of one episode, before the update that it was part of.
struct TrainedEpisode {
  uint64_t group = 0;
  uint32_t sample = 0;
  double advantage = 0;
  bool masked = false;      // by the off-policy mask
  std::vector<float> logp;  // [sampled tokens of all branches]
};

// The metrics that a step may fail to measure: a reference that is not run, no
// token of the learner's version, no kept route. The record then has them
// without a value, so that none is taken for 0 or looked for in vain.
inline constexpr const char* kMayBeUnmeasured[] = {
    "kl", "routing/agreement", "train_rollout_logprob_abs_diff/mean",
    "train_rollout_logprob_abs_diff/max"};

// What a step says of itself, under the names of DESIGN.md section 8.
// routing/agreement is the share of (row, MoE layer) whose kept experts are
// those that the router chooses now; it is there when keep_routing is on.
struct StepMetrics {
  // What was not measured, of kMayBeUnmeasured, is absent.
  std::map<std::string, double> values;
  std::vector<TrainedEpisode> trained;  // in the order of computation
  int64_t rows = 0;                     // computed by the policy's forward
  int64_t rows_unshared = 0;            // would be, without prefix sharing
};

// Not thread-safe.
class TrainStep {
 public:
  // `weights` are those that the optimizer publishes to. `reference` may be
  // null when no beta is above 0 (CHECKed). All pointers must outlive the
  // object.
  static absl::StatusOr<std::unique_ptr<TrainStep>> Create(
      Backend* backend, const PublishedWeights* weights,
      const PublishedWeights* reference, Optimizer* optimizer,
      const TrainStepOptions& options);

  // Trains on `episodes`, whose weights version is compared with `version`
  // (the learner's) for the mismatch metric. `learning_rate` is that after the
  // warm-up, which goes by the optimizer's updates; metric `lr` is the rate of
  // the last update. InvalidArgument or
  // ResourceExhausted names the episode; the weights are then unchanged unless
  // an earlier minibatch of this call was already applied.
  absl::StatusOr<StepMetrics> Run(const std::vector<const Episode*>& episodes,
                                  uint64_t version, double learning_rate);

 private:
  struct Minibatch;
  class MetricsBuilder;

  TrainStep() = default;

  absl::StatusOr<std::vector<std::vector<float>>> ReferenceLogProbs(
      const std::vector<const Episode*>& episodes);
  absl::Status RunMinibatch(const Minibatch& minibatch, double learning_rate,
                            MetricsBuilder* metrics);
  absl::Status RunPacked(const Minibatch& minibatch, PackedBatch* packed,
                         MetricsBuilder* metrics);

  Backend* backend_ = nullptr;
  const PublishedWeights* weights_ = nullptr;
  const PublishedWeights* reference_ = nullptr;
  Optimizer* optimizer_ = nullptr;
  TrainStepOptions options_;
  std::unique_ptr<ModelGradients> gradients_;
  std::unique_ptr<Transformer> policy_model_;
  std::unique_ptr<Transformer> reference_model_;
  std::unique_ptr<Tape> tape_;
  std::unique_ptr<TokenLogProb> logprob_;
  std::unique_ptr<Buffer> agreement_;  // i64 [1]
};

}  // namespace temper

#endif  // LEARNER_TRAIN_TRAIN_STEP_H_
