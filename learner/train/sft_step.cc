#include "learner/train/sft_step.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "learner/train/learner_state.h"

namespace temper {
namespace {

std::string ModelFile(const std::string& dir) {
  return absl::StrCat(dir, "/optimizer.safetensors");
}

std::string IndexerFile(const std::string& dir) {
  return absl::StrCat(dir, "/indexer_optimizer.safetensors");
}

}  // namespace

absl::StatusOr<std::unique_ptr<SftStep>> SftStep::Create(Backend* backend,
                                                         MasterWeights* masters,
                                                         int64_t tokens_max) {
  auto step = std::unique_ptr<SftStep>(new SftStep());
  step->backend_ = backend;
  step->masters_ = masters;
  step->tokens_max_ = tokens_max;
  ASSIGN_OR_RETURN(
      step->weights_,
      PublishedWeights::Of(masters, kFp32, Passes::kForwardAndBackward));
  PublishedWeights* const weights = step->weights_.get();
  ASSIGN_OR_RETURN(step->model_,
                   Transformer::Create(backend, weights, tokens_max));
  ASSIGN_OR_RETURN(step->tape_, step->model_->NewTape(tokens_max));
  ASSIGN_OR_RETURN(step->gradients_,
                   ModelGradients::Create(backend, weights->config()));
  ASSIGN_OR_RETURN(
      step->model_optimizer_,
      Optimizer::Create(backend, masters, weights, {ParameterGroup::kMain}));
  ASSIGN_OR_RETURN(
      step->indexer_optimizer_,
      Optimizer::Create(backend, masters, weights, {ParameterGroup::kIndexer}));
  step->logprob_ = std::make_unique<TokenLogProb>(backend);
  return step;
}

absl::StatusOr<SftMetrics> SftStep::Run(
    const std::vector<const Episode*>& demonstrations,
    const SftStepOptions& options) {
  const ModelConfig& config = weights_->config();
  ASSIGN_OR_RETURN(
      std::vector<PackedBatch> batches,
      // Routes are chosen anew: there is no sampler whose choice is to be kept.
      PackEpisodes(config, demonstrations, tokens_max_,
                   /*keep_routing=*/false, PrefixSharing::kShared));
  // First the totals: every part of the step is weighed by them, so that how a
  // step is cut into batches changes no more than the order of addition.
  SftMetrics metrics;
  for (const PackedBatch& packed : batches) {
    metrics.tokens += static_cast<int64_t>(packed.sampled.size());
    metrics.rows += packed.batch.size();
  }
  gradients_->Zero();
  load_.assign(config.moe_layers() * config.n_routed_experts, 0);
  for (const PackedBatch& packed : batches) {
    RETURN_IF_ERROR(
        RunPacked(packed, metrics.tokens, metrics.rows, options, &metrics));
  }
  // Both losses have gone into one set of gradients, but of disjoint
  // parameters: the indexer's inputs are detached, and it chooses only keys in
  // the model's loss.
  if (options.train_model) {
    ASSIGN_OR_RETURN(metrics.grad_norm,
                     model_optimizer_->Step(options.model, *gradients_));
    RETURN_IF_ERROR(UpdateBias(options.bias_update_speed, &metrics));
  }
  if (options.train_indexer) {
    ASSIGN_OR_RETURN(metrics.indexer_grad_norm,
                     indexer_optimizer_->Step(options.indexer, *gradients_));
  }
  return metrics;
}

absl::Status SftStep::RunPacked(const PackedBatch& packed, int64_t tokens_total,
                                int64_t rows_total,
                                const SftStepOptions& options,
                                SftMetrics* metrics) {
  TokenBatch batch = packed.batch;
  ForwardOptions forward;
  // Dense attention is the sparse path that keeps every key there is (DESIGN.md
  // section 11): no sequence is longer than the block table is wide.
  if (options.dense_attention) forward.index_topk = batch.blocks_max;
  Tensor hidden;
  RETURN_IF_ERROR(
      model_->Forward(&batch, nullptr, tape_.get(), forward, &hidden));
  // Forward has written what it chose into the batch's copy.
  CountLoad(batch.routes);
  const auto forwarded =
      logprob_->Forward(*weights_, hidden, packed, /*temperature=*/1,
                        /*keep_sampling_mask=*/false);
  RETURN_IF_ERROR(model_->Explained(forwarded.status()));
  const TokenLogProbs& result = *forwarded;
  for (const float logp : result.logp) {
    metrics->loss -=
        static_cast<double>(logp) / static_cast<double>(tokens_total);
  }
  if (options.train_model) {
    // d of -(1 / tokens_total) sum logp, over the tokens of the whole step.
    const std::vector<float> dlogp(result.logp.size(),
                                   -1.0f / static_cast<float>(tokens_total));
    ASSIGN_OR_RETURN(const Tensor dhidden,
                     logprob_->Backward(*weights_, dlogp, gradients_.get()));
    model_->Backward(tape_.get(), dhidden, gradients_.get());
  }
  // After the model's backward: the tape is used up by neither.
  if (!options.train_indexer) return absl::OkStatus();
  const std::vector<float> dkl(batch.size(),
                               1.0f / static_cast<float>(rows_total));
  std::vector<std::vector<float>> kl;
  RETURN_IF_ERROR(model_->IndexerLoss(tape_.get(), dkl, &kl, gradients_.get()));
  const double scale =
      static_cast<double>(rows_total) * static_cast<double>(kl.size());
  for (const std::vector<float>& layer : kl) {
    for (const float value : layer) metrics->indexer_kl += value / scale;
  }
  return absl::OkStatus();
}

absl::StatusOr<double> SftStep::Evaluate(
    const std::vector<const Episode*>& demonstrations) {
  SftStepOptions options;
  options.train_model = false;
  options.train_indexer = false;
  ASSIGN_OR_RETURN(const SftMetrics metrics, Run(demonstrations, options));
  return metrics.loss;
}

SftUpdates SftStep::updates() const {
  return {model_optimizer_->steps(), indexer_optimizer_->steps()};
}

absl::Status SftStep::SaveOptimizers(const std::string& dir) const {
  // Moments of no update are all 0, and of the size of the model each: they are
  // not written, and `updates` tells the reader so.
  if (model_optimizer_->steps() > 0) {
    RETURN_IF_ERROR(SaveMoments(ModelFile(dir), *model_optimizer_));
  }
  if (indexer_optimizer_->steps() > 0) {
    RETURN_IF_ERROR(SaveMoments(IndexerFile(dir), *indexer_optimizer_));
  }
  return absl::OkStatus();
}

absl::Status SftStep::LoadOptimizers(const std::string& dir,
                                     const SftUpdates& updates) {
  if (updates.model > 0) {
    RETURN_IF_ERROR(
        LoadMoments(ModelFile(dir), updates.model, model_optimizer_.get()));
  }
  if (updates.indexer > 0) {
    RETURN_IF_ERROR(LoadMoments(IndexerFile(dir), updates.indexer,
                                indexer_optimizer_.get()));
  }
  return absl::OkStatus();
}

void SftStep::CountLoad(const std::vector<int32_t>& routes) {
  const ModelConfig& config = weights_->config();
  const int64_t slots = config.num_experts_per_tok;
  const int64_t width = config.moe_layers() * slots;
  for (size_t i = 0; i < routes.size(); ++i) {
    // [rows, moe_layers, slots], as a trajectory has its routes.
    const int64_t layer = static_cast<int64_t>(i) % width / slots;
    ++load_[layer * config.n_routed_experts + routes[i]];
  }
}

absl::Status SftStep::UpdateBias(double speed, SftMetrics* metrics) {
  const ModelConfig& config = weights_->config();
  const int64_t experts = config.n_routed_experts;
  for (int64_t m = 0; m < config.moe_layers(); ++m) {
    const int64_t* const load = load_.data() + m * experts;
    int64_t total = 0;
    for (int64_t e = 0; e < experts; ++e) total += load[e];
    const double mean =
        static_cast<double>(total) / static_cast<double>(experts);
    if (total == 0) continue;
    metrics->load_max = std::max(
        metrics->load_max,
        static_cast<double>(*std::max_element(load, load + experts)) / mean);
    if (speed == 0) continue;
    // A vector: what is published of it is the masters' memory itself.
    const Tensor bias = masters_->value(
        absl::StrCat("model.layers.", config.first_k_dense_replace + m,
                     ".mlp.gate.e_score_correction_bias"));
    ASSIGN_OR_RETURN(std::vector<float> values, Download(backend_, bias));
    for (int64_t e = 0; e < experts; ++e) {
      // DeepSeek-V3 section 2.1.2: by a fixed step towards balance, whatever
      // the size of the gap.
      const double gap = mean - static_cast<double>(load[e]);
      values[e] += static_cast<float>(gap > 0 ? speed : gap < 0 ? -speed : 0);
    }
    RETURN_IF_ERROR(backend_->CopyFromHost(values.data(), bias));
  }
  return absl::OkStatus();
}

}  // namespace temper
