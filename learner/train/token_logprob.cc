#include "learner/train/token_logprob.h"

#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {

TokenLogProb::TokenLogProb(Backend* backend)
    : backend_(backend),
      targets_(backend),
      hidden_(backend),
      results_(backend),
      lse_(backend),
      dlogp_(backend),
      dx_(backend),
      dhidden_(backend) {}

int64_t TokenLogProb::BytesFor(const ModelConfig& config, int64_t rows) {
  // Hidden states, their gradients by token and by row; what goes up of a token
  // (row, target, offset, kept ids); two results, lse and dlogp.
  const int64_t numbers = rows * (3 * config.hidden_size + 3 + kKeptAToken + 4);
  const int64_t bytes = numbers * static_cast<int64_t>(sizeof(float));
  return bytes + bytes / 4;  // as a DeviceArray grows
}

absl::StatusOr<TokenLogProbs> TokenLogProb::Forward(
    const PublishedWeights& weights, const Tensor& hidden,
    const PackedBatch& packed, double temperature, bool keep_sampling_mask) {
  const auto n = static_cast<int64_t>(packed.sampled.size());
  const auto kept =
      keep_sampling_mask ? static_cast<int64_t>(packed.kept_ids.size()) : 0;
  tokens_ = hidden.dim(0);
  temperature_ = static_cast<float>(temperature);
  // Rows, targets, offsets and ids of the kept sets: one copy.
  std::vector<int32_t>& up = host_targets_;
  up.clear();
  for (const PackedToken& token : packed.sampled) up.push_back(token.row);
  for (const PackedToken& token : packed.sampled) up.push_back(token.token);
  if (keep_sampling_mask) {
    up.insert(up.end(), packed.kept_offsets.begin(), packed.kept_offsets.end());
    up.insert(up.end(), packed.kept_ids.begin(), packed.kept_ids.end());
  } else {
    up.resize(3 * n + 1, 0);  // every set is the whole vocabulary
  }
  ASSIGN_OR_RETURN(const Tensor all, targets_.Upload(up));
  rows_view_ = all.Slice(0, 0, n);
  targets_view_ = all.Slice(0, n, 2 * n);
  kept_offsets_view_ = all.Slice(0, 2 * n, 3 * n + 1);
  kept_ids_view_ = all.Slice(0, 3 * n + 1, 3 * n + 1 + kept);
  ASSIGN_OR_RETURN(hidden_view_,
                   hidden_.Reserve(DType::kF32, {n, hidden.dim(1)}));
  // Log-probabilities, then entropies: they come down together.
  ASSIGN_OR_RETURN(const Tensor results,
                   results_.Reserve(DType::kF32, {2 * n}));
  ASSIGN_OR_RETURN(lse_view_, lse_.Reserve(DType::kF32, {n}));
  if (n == 0) return TokenLogProbs();
  backend_->GatherRows(hidden, rows_view_, hidden_view_);
  backend_->LogProb({.x = hidden_view_,
                     .w = &weights.lm_head(),
                     .rows = weights.lm_head_rows(),
                     .targets = targets_view_,
                     .kept_offsets = kept_offsets_view_,
                     .kept_ids = kept_ids_view_,
                     .temperature = temperature_,
                     .logp = results.Slice(0, 0, n),
                     .lse = lse_view_,
                     .entropy = results.Slice(0, n, 2 * n)});
  const int64_t bytes = 2 * n * static_cast<int64_t>(sizeof(float));
  if (host_results_ == nullptr || host_results_->bytes() < bytes) {
    ASSIGN_OR_RETURN(host_results_, backend_->AllocateHost(bytes + bytes / 4));
  }
  backend_->CopyToHost(results, host_results_.get(), 0);
  RETURN_IF_ERROR(backend_->Wait(backend_->Record()));
  const auto* const values = static_cast<const float*>(host_results_->data());
  const auto count = static_cast<size_t>(n);
  return TokenLogProbs{{values, count}, {values + count, count}};
}

absl::StatusOr<Tensor> TokenLogProb::Backward(const PublishedWeights& weights,
                                              const std::vector<float>& dlogp,
                                              ModelGradients* gradients) {
  const int64_t n = hidden_view_.dim(0), dim = hidden_view_.dim(1);
  CHECK_EQ(static_cast<int64_t>(dlogp.size()), n);
  ASSIGN_OR_RETURN(const Tensor dlogp_view, dlogp_.Upload(dlogp));
  ASSIGN_OR_RETURN(const Tensor dx, dx_.Reserve(DType::kF32, {n, dim}));
  ASSIGN_OR_RETURN(const Tensor dhidden,
                   dhidden_.Reserve(DType::kF32, {tokens_, dim}));
  backend_->Zero(dhidden);
  if (n == 0) return dhidden;
  backend_->LogProbBackward({.x = hidden_view_,
                             .w = &weights.lm_head(),
                             .rows = weights.lm_head_rows(),
                             .targets = targets_view_,
                             .kept_offsets = kept_offsets_view_,
                             .kept_ids = kept_ids_view_,
                             .temperature = temperature_,
                             .lse = lse_view_,
                             .dlogp = dlogp_view,
                             .dx = dx,
                             .dw = gradients->lm_head()});
  // Several tokens may be predicted by one shared row; EmbedBackward is the
  // deterministic scatter-add.
  backend_->EmbedBackward(rows_view_, dx, dhidden);
  return dhidden;
}

}  // namespace temper
