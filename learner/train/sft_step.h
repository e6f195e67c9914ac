// One step of supervised training: cross-entropy on the tokens that a
// demonstration marks, the indexer's KL loss (DeepSeek-V3.2 section 2.1.1:
// dense warm-up, then sparse), and the auxiliary-loss-free balance bias
// (DeepSeek-V3 section 2.1.2).

#ifndef LEARNER_TRAIN_SFT_STEP_H_
#define LEARNER_TRAIN_SFT_STEP_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/gradients.h"
#include "kernels/model/master_weights.h"
#include "kernels/model/published_weights.h"
#include "kernels/model/transformer.h"
#include "learner/intake/episode.h"
#include "learner/train/optimizer.h"
#include "learner/train/packer.h"
#include "learner/train/token_logprob.h"

namespace temper {

struct SftStepOptions {
  bool dense_attention = false;
  bool train_model = true;
  bool train_indexer = true;
  OptimizerConfig model = UsualOptimizer();  // learning rate included
  OptimizerConfig indexer = UsualOptimizer();
  double bias_update_speed = 0;  // gamma
};

struct SftMetrics {
  double loss = 0;        // mean over the marked tokens, nats
  double indexer_kl = 0;  // mean over rows and layers; 0 if not computed
  double grad_norm = 0;
  double indexer_grad_norm = 0;
  double load_max = 0;  // the busiest expert's share, 1 = balanced, worst layer
  int64_t tokens = 0;   // marked
  int64_t rows = 0;
};

// How often each of the two optimizers stepped.
struct SftUpdates {
  int64_t model = 0;
  int64_t indexer = 0;
};

// Not thread-safe.
class SftStep {
 public:
  // Trains `masters`, which it publishes to itself; others may change them only
  // before. Both pointers must outlive the object.
  static absl::StatusOr<std::unique_ptr<SftStep>> Create(Backend* backend,
                                                         MasterWeights* masters,
                                                         int64_t tokens_max);

  // One update from `demonstrations`: episodes whose `sampled` are the marked
  // tokens; routes, log-probs and kept sets are not read.
  absl::StatusOr<SftMetrics> Run(
      const std::vector<const Episode*>& demonstrations,
      const SftStepOptions& options);

  // The mean loss, with nothing trained.
  absl::StatusOr<double> Evaluate(
      const std::vector<const Episode*>& demonstrations);

  // The optimizers, as a checkpoint keeps them beside the weights: files in an
  // existing directory,
  //   optimizer.safetensors, indexer_optimizer.safetensors
  // of which one that has made no update yet has none. Load's `updates` are
  // those of the object that saved. DataLoss names a file that is damaged; this
  // object is of no use then.
  SftUpdates updates() const;
  absl::Status SaveOptimizers(const std::string& dir) const;
  absl::Status LoadOptimizers(const std::string& dir,
                              const SftUpdates& updates);

 private:
  SftStep() = default;
  absl::Status RunPacked(const PackedBatch& packed, int64_t tokens_total,
                         int64_t rows_total, const SftStepOptions& options,
                         SftMetrics* metrics);
  void CountLoad(const std::vector<int32_t>& routes);
  absl::Status UpdateBias(double speed, SftMetrics* metrics);

  Backend* backend_ = nullptr;
  MasterWeights* masters_ = nullptr;
  int64_t tokens_max_ = 0;
  std::unique_ptr<PublishedWeights> weights_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<Tape> tape_;
  std::unique_ptr<ModelGradients> gradients_;
  std::unique_ptr<Optimizer> model_optimizer_;
  std::unique_ptr<Optimizer> indexer_optimizer_;
  std::unique_ptr<TokenLogProb> logprob_;
  std::vector<int64_t> load_;  // [moe_layers, E], of this step
};

}  // namespace temper

#endif  // LEARNER_TRAIN_SFT_STEP_H_
