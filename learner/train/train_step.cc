#include "learner/train/train_step.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "learner/train/objective.h"

namespace temper {
namespace {

struct PackedRange {
  size_t begin = 0, end = 0;  // of PackedBatch::sampled, one episode's
};

// packed.sampled stands in episode order, so an episode's tokens are one range.
std::map<int32_t, PackedRange> EpisodeRanges(const PackedBatch& packed) {
  std::map<int32_t, PackedRange> ranges;
  for (size_t i = 0; i < packed.sampled.size(); ++i) {
    auto [it, inserted] =
        ranges.try_emplace(packed.sampled[i].episode, PackedRange{i, i});
    it->second.end = i + 1;
  }
  return ranges;
}

// Splits at group borders into `parts` runs of nearly equal numbers of groups.
std::vector<PackedRange> SplitByGroup(
    const std::vector<const Episode*>& episodes, int parts) {
  std::vector<size_t> starts;
  for (size_t i = 0; i < episodes.size(); ++i) {
    if (i == 0 || episodes[i]->group != episodes[i - 1]->group) {
      starts.push_back(i);
    }
  }
  const size_t groups = starts.size();
  starts.push_back(episodes.size());
  std::vector<PackedRange> ranges;
  for (int p = 0; p < parts; ++p) {
    const PackedRange range = {starts[groups * p / parts],
                               starts[groups * (p + 1) / parts]};
    if (range.begin < range.end) ranges.push_back(range);
  }
  return ranges;
}

}  // namespace

struct TrainStep::Minibatch {
  std::vector<const Episode*> episodes;
  std::vector<double> advantages;            // [episodes]
  std::vector<std::vector<float>> logp_ref;  // [episodes], may be empty
  BatchShape shape;
  bool first = false;  // no update of this step was made before it
  uint64_t version = 0;
};

// Sums over tokens and sequences, turned into means at the end.
class TrainStep::MetricsBuilder {
 public:
  explicit MetricsBuilder(bool has_reference) : has_reference_(has_reference) {}

  void AddSequence(const Minibatch& minibatch, const Episode& episode,
                   const ObjectiveConfig& options,
                   const ObjectiveSequence& sequence,
                   const SequenceTerms& terms) {
    terms_.push_back(terms);
    drifts_.push_back(terms.drift);
    masked_ += terms.masked;
    for (size_t t = 0; t < terms.ratio.size(); ++t) {
      const double ratio = terms.ratio[t];
      ratio_sum_ += ratio;
      ratio_max_ = std::max(ratio_max_, ratio);
      // Only where the clip binds: min(r A, clip(r) A) takes the clipped term
      // on this side of 1 for this sign of A alone.
      clip_low_ +=
          ratio < 1 - options.clip_ratio_low() && sequence.advantage < 0;
      clip_high_ +=
          ratio > 1 + options.clip_ratio_high() && sequence.advantage > 0;
      mismatch_kl_ +=
          static_cast<double>(sequence.logp_old[t]) - sequence.logp[t];
      kl_ += terms.unbiased_kl[t];
    }
    tokens_ += static_cast<double>(terms.ratio.size());
    metrics_.trained.push_back({episode.group, episode.sample,
                                sequence.advantage, terms.masked,
                                sequence.logp});
    // Behind an update the weights are no longer those that sampled, and a
    // difference would say nothing of numerics (promise P1).
    if (minibatch.first) AddMismatch(episode, minibatch.version, sequence);
  }

  void AddEntropy(absl::Span<const float> entropy) {
    for (const float value : entropy) entropy_ += value;
  }

  // `agreed` of the pack's (row, MoE layer).
  void AddRoutes(const ModelConfig& config, const TokenBatch& kept,
                 int64_t agreed) {
    agreed_ += static_cast<double>(agreed);
    routed_ += static_cast<double>(kept.size() * config.moe_layers());
  }

  void AddRows(const PackedBatch& packed) {
    metrics_.rows += packed.batch.size();
    metrics_.rows_unshared += packed.tokens_unshared;
  }

  void EndMinibatch(const ObjectiveConfig& options, const BatchShape& shape,
                    double grad_norm) {
    const BatchLoss loss = SumSequences(options, shape, terms_);
    loss_ += loss.loss;
    pg_loss_ -= loss.surrogate;
    // What is left of the loss is beta KL, each domain by its own beta.
    kl_loss_ += loss.loss + loss.surrogate;
    grad_norm_ += grad_norm;
    ++updates_;
    terms_.clear();
  }

  StepMetrics Finish(double learning_rate) {
    // A batch without a sampled token has sums of 0, not 0 / 0.
    const double tokens = std::max(tokens_, 1.0);
    const double updates = std::max(updates_, 1);
    auto& values = metrics_.values;
    values["loss"] = loss_ / updates;
    values["pg_loss"] = pg_loss_ / updates;
    values["kl_loss"] = kl_loss_ / updates;
    values["grad_norm"] = grad_norm_ / updates;
    values["lr"] = learning_rate;
    if (has_reference_) values["kl"] = kl_ / tokens;
    values["entropy"] = entropy_ / tokens;
    values["mismatch_kl"] = mismatch_kl_ / tokens;
    values["ratio/mean"] = ratio_sum_ / tokens;
    values["ratio/max"] = ratio_max_;
    values["clip_frac_low"] = clip_low_ / tokens;
    values["clip_frac_high"] = clip_high_ / tokens;
    values["train_rollout_logprob_abs_diff/tokens"] = compared_;
    if (compared_ > 0) {  // none compared is no value, never 0
      values["train_rollout_logprob_abs_diff/mean"] = difference_ / compared_;
      values["train_rollout_logprob_abs_diff/max"] = difference_max_;
    }
    if (routed_ > 0) values["routing/agreement"] = agreed_ / routed_;
    if (!drifts_.empty()) {
      std::sort(drifts_.begin(), drifts_.end());
      double sum = 0;
      for (const double drift : drifts_) sum += drift;
      values["opsm/masked_frac"] = masked_ / drifts_.size();
      values["opsm/seq_kl/mean"] = sum / drifts_.size();
      values["opsm/seq_kl/p90"] = drifts_[(drifts_.size() - 1) * 9 / 10];
    }
    return metrics_;
  }

 private:
  void AddMismatch(const Episode& episode, uint64_t version,
                   const ObjectiveSequence& sequence) {
    size_t t = 0;
    for (const EpisodeBranch& branch : episode.branches) {
      for (const EpisodeSpan& span : branch.versions) {
        for (uint32_t i = span.begin; i < span.end; ++i, ++t) {
          // A token of another version is off-policy by right.
          if (span.version != version) continue;
          const double difference = std::fabs(
              static_cast<double>(sequence.logp[t]) - sequence.logp_old[t]);
          difference_ += difference;
          difference_max_ = std::max(difference_max_, difference);
          ++compared_;
        }
      }
    }
  }

  const bool has_reference_;
  StepMetrics metrics_;
  std::vector<SequenceTerms> terms_;
  std::vector<double> drifts_;
  double masked_ = 0, ratio_sum_ = 0, ratio_max_ = 0, clip_low_ = 0,
         clip_high_ = 0, mismatch_kl_ = 0, kl_ = 0, tokens_ = 0, entropy_ = 0,
         loss_ = 0, pg_loss_ = 0, kl_loss_ = 0, grad_norm_ = 0, difference_ = 0,
         difference_max_ = 0, compared_ = 0, agreed_ = 0, routed_ = 0;
  int updates_ = 0;
};

absl::StatusOr<std::unique_ptr<TrainStep>> TrainStep::Create(
    Backend* backend, const PublishedWeights* weights,
    const PublishedWeights* reference, Optimizer* optimizer,
    const TrainStepOptions& options) {
  CHECK(reference != nullptr || !options.NeedsReference());
  auto step = std::unique_ptr<TrainStep>(new TrainStep());
  step->backend_ = backend;
  step->weights_ = weights;
  // With every beta 0 it is not run, even where it was loaded.
  step->reference_ = options.NeedsReference() ? reference : nullptr;
  step->optimizer_ = optimizer;
  step->options_ = options;
  ASSIGN_OR_RETURN(step->gradients_,
                   ModelGradients::Create(backend, weights->config()));
  ASSIGN_OR_RETURN(step->policy_model_,
                   Transformer::Create(backend, weights, options.tokens_max));
  ASSIGN_OR_RETURN(step->tape_,
                   step->policy_model_->NewTape(options.tokens_max));
  if (step->reference_ != nullptr) {
    ASSIGN_OR_RETURN(
        step->reference_model_,
        Transformer::Create(backend, step->reference_, options.tokens_max));
  }
  step->logprob_ = std::make_unique<TokenLogProb>(backend);
  ASSIGN_OR_RETURN(step->agreement_, backend->Allocate(sizeof(int64_t)));
  return step;
}

absl::StatusOr<std::vector<std::vector<float>>> TrainStep::ReferenceLogProbs(
    const std::vector<const Episode*>& episodes) {
  std::vector<std::vector<float>> logp(episodes.size());
  if (reference_ == nullptr) return logp;
  ASSIGN_OR_RETURN(
      std::vector<PackedBatch> batches,
      // The reference routes by itself (DESIGN.md section 5): the record is of
      // another model's router.
      PackEpisodes(reference_->config(), episodes, options_.tokens_max,
                   /*keep_routing=*/false, PrefixSharing::kShared));
  for (PackedBatch& packed : batches) {
    Tensor hidden;
    // The policy's tape, borrowed: it holds nothing between steps.
    RETURN_IF_ERROR(reference_model_->Forward(
        &packed.batch, nullptr, tape_.get(), {.read_routes = false}, &hidden));
    const auto result =
        logprob_->Forward(*reference_, hidden, packed, options_.temperature,
                          options_.objective.keep_sampling_mask());
    RETURN_IF_ERROR(reference_model_->Explained(result.status()));
    for (size_t i = 0; i < packed.sampled.size(); ++i) {
      logp[packed.sampled[i].episode].push_back(result->logp[i]);
    }
  }
  return logp;
}

absl::StatusOr<StepMetrics> TrainStep::Run(
    const std::vector<const Episode*>& episodes, uint64_t version,
    double learning_rate) {
  std::vector<double> rewards;
  std::vector<int64_t> groups;
  for (const Episode* episode : episodes) {
    rewards.push_back(episode->reward);
    groups.push_back(static_cast<int64_t>(episode->group));
  }
  const std::vector<double> advantages =
      ComputeAdvantages(rewards, groups, options_.objective.advantage_norm());
  // Of the whole batch before its first update, with the groups' rewards:
  // neither depends on the weights that are trained.
  ASSIGN_OR_RETURN(std::vector<std::vector<float>> logp_ref,
                   ReferenceLogProbs(episodes));
  MetricsBuilder metrics(/*has_reference=*/reference_ != nullptr);
  bool first = true;
  double rate = learning_rate;
  for (const PackedRange range : SplitByGroup(
           episodes, static_cast<int>(options_.objective.minibatches()))) {
    Minibatch minibatch;
    minibatch.first = std::exchange(first, false);
    minibatch.version = version;
    for (size_t i = range.begin; i < range.end; ++i) {
      minibatch.episodes.push_back(episodes[i]);
      minibatch.advantages.push_back(advantages[i]);
      minibatch.logp_ref.push_back(std::move(logp_ref[i]));
      minibatch.shape.tokens += episodes[i]->SampledTokens();
    }
    minibatch.shape.sequences = static_cast<int64_t>(range.end - range.begin);
    // By the optimizer's count, which a resume restores, so that a warm-up that
    // was cut goes on where it was.
    rate = WarmedUp(learning_rate, options_.optimizer.warmup_steps(),
                    optimizer_->steps() + 1);
    RETURN_IF_ERROR(RunMinibatch(minibatch, rate, &metrics));
  }
  return metrics.Finish(rate);
}

absl::Status TrainStep::RunMinibatch(const Minibatch& minibatch,
                                     double learning_rate,
                                     MetricsBuilder* metrics) {
  ASSIGN_OR_RETURN(
      std::vector<PackedBatch> batches,
      PackEpisodes(weights_->config(), minibatch.episodes, options_.tokens_max,
                   options_.objective.keep_routing(), PrefixSharing::kShared));
  // Gradients of all its batches add up to one update: shape holds the whole
  // minibatch's totals, by which each is weighed.
  gradients_->Zero();
  for (PackedBatch& packed : batches) {
    RETURN_IF_ERROR(RunPacked(minibatch, &packed, metrics));
  }
  OptimizerConfig optimizer = options_.optimizer;
  optimizer.set_learning_rate(learning_rate);
  ASSIGN_OR_RETURN(const double grad_norm,
                   optimizer_->Step(optimizer, *gradients_));
  metrics->EndMinibatch(options_.objective, minibatch.shape, grad_norm);
  return absl::OkStatus();
}

absl::Status TrainStep::RunPacked(const Minibatch& minibatch, PackedBatch* pack,
                                  MetricsBuilder* metrics) {
  const PackedBatch& packed = *pack;
  const Tensor agreement(agreement_->data(), DType::kI64, {1},
                         backend_->device());
  // Nobody here wants the routes: those that are kept are known.
  ForwardOptions forward;
  forward.read_routes = false;
  if (options_.objective.keep_routing()) {
    backend_->Zero(agreement);
    forward.agreement = agreement;
  }
  Tensor hidden;
  RETURN_IF_ERROR(policy_model_->Forward(&pack->batch, nullptr, tape_.get(),
                                         forward, &hidden));
  const auto forwarded =
      logprob_->Forward(*weights_, hidden, packed, options_.temperature,
                        options_.objective.keep_sampling_mask());
  RETURN_IF_ERROR(policy_model_->Explained(forwarded.status()));
  const TokenLogProbs& result = *forwarded;
  metrics->AddRows(packed);
  if (options_.objective.keep_routing()) {
    int64_t agreed = 0;
    RETURN_IF_ERROR(backend_->Read(agreement, &agreed));
    metrics->AddRoutes(weights_->config(), packed.batch, agreed);
  }
  metrics->AddEntropy(result.entropy);
  std::vector<float> dlogp(packed.sampled.size(), 0.0f);
  for (const auto& [index, range] : EpisodeRanges(packed)) {
    ObjectiveSequence sequence;
    sequence.advantage = minibatch.advantages[index];
    sequence.kl_coef = options_.KlCoef(minibatch.episodes[index]->domain);
    sequence.logp.assign(result.logp.begin() + range.begin,
                         result.logp.begin() + range.end);
    sequence.logp_old.assign(packed.logp_old.begin() + range.begin,
                             packed.logp_old.begin() + range.end);
    sequence.logp_ref = minibatch.logp_ref[index];
    const SequenceTerms terms =
        ComputeSequence(options_.objective, minibatch.shape, sequence);
    std::copy(terms.dlogp.begin(), terms.dlogp.end(),
              dlogp.begin() + range.begin);
    metrics->AddSequence(minibatch, *minibatch.episodes[index],
                         options_.objective, sequence, terms);
  }
  // All advantages and betas zero: nothing to learn, and nothing to compute.
  if (std::all_of(dlogp.begin(), dlogp.end(),
                  [](float value) { return value == 0; })) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const Tensor dhidden,
                   logprob_->Backward(*weights_, dlogp, gradients_.get()));
  policy_model_->Backward(tape_.get(), dhidden, gradients_.get());
  return absl::OkStatus();
}

}  // namespace temper
