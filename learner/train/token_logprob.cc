#include "learner/train/token_logprob.h"

#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {

TokenLogProb::TokenLogProb(Backend* backend)
    : backend_(backend),
      rows_(backend),
      targets_(backend),
      kept_offsets_(backend),
      kept_ids_(backend),
      hidden_(backend),
      logp_(backend),
      lse_(backend),
      entropy_(backend),
      dlogp_(backend),
      dx_(backend),
      dhidden_(backend) {}

absl::StatusOr<TokenLogProbs> TokenLogProb::Forward(
    const PublishedWeights& weights, const Tensor& hidden,
    const PackedBatch& packed, double temperature, bool keep_sampling_mask) {
  std::vector<int32_t> rows, targets;
  for (const PackedToken& token : packed.sampled) {
    rows.push_back(token.row);
    targets.push_back(token.token);
  }
  const auto n = static_cast<int64_t>(rows.size());
  const int64_t dim = hidden.dim(1);
  tokens_ = hidden.dim(0);
  temperature_ = static_cast<float>(temperature);
  // Empty rows mean the whole vocabulary: the objective's broken case, for
  // ablation.
  const std::vector<int32_t> no_offsets(n + 1, 0), no_ids;
  ASSIGN_OR_RETURN(rows_view_, rows_.Upload(rows));
  ASSIGN_OR_RETURN(targets_view_, targets_.Upload(targets));
  ASSIGN_OR_RETURN(kept_offsets_view_,
                   kept_offsets_.Upload(keep_sampling_mask ? packed.kept_offsets
                                                           : no_offsets));
  ASSIGN_OR_RETURN(
      kept_ids_view_,
      kept_ids_.Upload(keep_sampling_mask ? packed.kept_ids : no_ids));
  ASSIGN_OR_RETURN(hidden_view_, hidden_.Reserve(DType::kF32, {n, dim}));
  ASSIGN_OR_RETURN(const Tensor logp, logp_.Reserve(DType::kF32, {n}));
  ASSIGN_OR_RETURN(lse_view_, lse_.Reserve(DType::kF32, {n}));
  ASSIGN_OR_RETURN(const Tensor entropy, entropy_.Reserve(DType::kF32, {n}));
  TokenLogProbs result;
  // Behind the reservations: Backward reads the views even if there is nothing
  // in them.
  if (n == 0) return result;
  backend_->GatherRows(hidden, rows_view_, hidden_view_);
  backend_->LogProb({.x = hidden_view_,
                     .w = &weights.lm_head(),
                     .rows = weights.value("lm_head.weight"),
                     .targets = targets_view_,
                     .kept_offsets = kept_offsets_view_,
                     .kept_ids = kept_ids_view_,
                     .temperature = temperature_,
                     .logp = logp,
                     .lse = lse_view_,
                     .entropy = entropy});
  ASSIGN_OR_RETURN(result.logp, Download(backend_, logp));
  ASSIGN_OR_RETURN(result.entropy, Download(backend_, entropy));
  return result;
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
                             .rows = weights.value("lm_head.weight"),
                             .targets = targets_view_,
                             .kept_offsets = kept_offsets_view_,
                             .kept_ids = kept_ids_view_,
                             .temperature = temperature_,
                             .lse = lse_view_,
                             .dlogp = dlogp_view,
                             .dx = dx,
                             .dw = gradients->grad("lm_head.weight")});
  // Several tokens may be predicted by one shared row; EmbedBackward is the
  // deterministic scatter-add.
  backend_->EmbedBackward(rows_view_, dx, dhidden);
  return dhidden;
}

}  // namespace temper
