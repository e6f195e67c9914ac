// The log-probabilities of a packed batch's sampled tokens, and the way back
// from their derivatives to the final hidden states and lm_head.

#ifndef LEARNER_TRAIN_TOKEN_LOGPROB_H_
#define LEARNER_TRAIN_TOKEN_LOGPROB_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/model/config.h"
#include "kernels/model/gradients.h"
#include "kernels/model/published_weights.h"
#include "kernels/ops/backend.h"
#include "learner/train/device_array.h"
#include "learner/train/packer.h"

namespace temper {

// Valid until the next Forward.
struct TokenLogProbs {
  absl::Span<const float> logp;     // [sampled]
  absl::Span<const float> entropy;  // [sampled], of the distribution in use
};

// Not thread-safe.
class TokenLogProb {
 public:
  // `backend` must outlive the object.
  explicit TokenLogProb(Backend* backend);

  // What it comes to hold of the device for packs of `rows` rows, each of which
  // predicts a sampled token with kKeptAToken kept ids: the printed plan uses
  // it.
  static int64_t BytesFor(const ModelConfig& config, int64_t rows);
  static constexpr int64_t kKeptAToken = 16;

  // `hidden` [N, D] are the final hidden states of packed.batch. With
  // `keep_sampling_mask` false the whole vocabulary is used. One blocking read,
  // whose error may be that of what was enqueued before.
  absl::StatusOr<TokenLogProbs> Forward(const PublishedWeights& weights,
                                        const Tensor& hidden,
                                        const PackedBatch& packed,
                                        double temperature,
                                        bool keep_sampling_mask);

  // Follows Forward of the same batch: a view [N, D] of d/dhidden, valid until
  // the next call; lm_head's gradient is added to `gradients`.
  absl::StatusOr<Tensor> Backward(const PublishedWeights& weights,
                                  const std::vector<float>& dlogp,
                                  ModelGradients* gradients);

 private:
  Backend* const backend_;
  DeviceArray targets_, hidden_, results_, lse_, dlogp_, dx_, dhidden_;
  std::vector<int32_t> host_targets_;  // as they go up
  std::unique_ptr<HostBuffer> host_results_;
  // Of the last Forward.
  Tensor rows_view_, targets_view_, kept_offsets_view_, kept_ids_view_,
      hidden_view_, lse_view_;
  int64_t tokens_ = 0;
  float temperature_ = 1;
};

}  // namespace temper

#endif  // LEARNER_TRAIN_TOKEN_LOGPROB_H_
