// AdamW over the parameters of some groups. It changes the masters and has them
// published: nobody computes with masters that are ahead.

#ifndef LEARNER_TRAIN_OPTIMIZER_H_
#define LEARNER_TRAIN_OPTIMIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/model/gradients.h"
#include "kernels/model/master_weights.h"
#include "kernels/model/published_weights.h"
#include "kernels/ops/backend.h"
#include "proto/config.pb.h"

namespace temper {

// The usual AdamW, for who has no run's configuration: sft, which has no keys
// for the decays and eps. The numbers are the defaults of tools/config's keys,
// written again because that table lies above; its test holds them equal.
OptimizerConfig UsualOptimizer();

// Not thread-safe.
class Optimizer {
 public:
  // Trains the parameters of `groups`; all others, weight decay included, stay
  // as they are. `published` are those of `masters`; both, and the backend,
  // must outlive the object.
  static absl::StatusOr<std::unique_ptr<Optimizer>> Create(
      Backend* backend, MasterWeights* masters, PublishedWeights* published,
      const std::vector<ParameterGroup>& groups);

  static int64_t BytesFor(const ModelConfig& config);

  // One update by `options`, a resolved configuration's, but at its
  // learning_rate as it is: a warm-up is the caller's. Then
  // published->FollowMasters(). A grad_clip of 0 is off, as inf is. Returns the
  // global norm of the gradients before clipping. A norm that is not finite is
  // Internal and changes nothing. A zero gradient still decays.
  absl::StatusOr<double> Step(const OptimizerConfig& options,
                              const ModelGradients& gradients);

  // Updates made so far; the moments, as one array [2, elements] in parameter
  // order, first moments first. What a checkpoint keeps.
  int64_t steps() const { return steps_; }
  int64_t moments() const { return 2 * elements_; }
  // piece->size() of that array's values from `begin` on, which it must have.
  absl::Status CopyMoments(int64_t begin, std::vector<float>* piece) const;
  // Sets steps and all moments(), fp32 at any alignment.
  absl::Status SetState(int64_t steps, const std::byte* moments);

 private:
  Optimizer() = default;
  Tensor Moment(int index, const Parameter& parameter) const;

  Backend* backend_ = nullptr;
  MasterWeights* masters_ = nullptr;
  PublishedWeights* published_ = nullptr;
  std::vector<Parameter> trained_;
  int64_t elements_ = 0;             // of the whole model
  std::unique_ptr<Buffer> moments_;  // f32 [2, elements]
  std::unique_ptr<Buffer> norm_;     // f64 [1]
  int64_t steps_ = 0;
};

// The factor that brings `norm` within `clip` (off when 0): min(1, clip / (norm
// + 1e-6)).
double ClipFactor(double norm, double clip);

}  // namespace temper

#endif  // LEARNER_TRAIN_OPTIMIZER_H_
