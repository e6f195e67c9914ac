#include "learner/train/train_step_oracle.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "kernels/base/log.h"
#include "kernels/model/test_model.h"
#include "kernels/model/transformer.h"
#include "learner/train/device_array.h"

namespace temper {
namespace {

constexpr int kPromptTokens = 5;
constexpr int kKept = 5;

struct BranchForward {
  std::vector<float> hidden;    // [T - 1, D]
  std::vector<int32_t> routes;  // [T - 1, moe_layers, A]
};

BranchForward ForwardBranch(Backend* backend, const PublishedWeights& weights,
                            const EpisodeBranch& branch, bool keep_routing) {
  const ModelConfig& config = weights.config();
  const std::vector<int32_t> inputs(branch.tokens.begin(),
                                    branch.tokens.end() - 1);
  const auto n = static_cast<int64_t>(inputs.size());
  TrainingBatch made = MakeTrainingBatch(config, {{inputs}});
  if (keep_routing) made.batch.routes = branch.routes;
  auto model = *Transformer::Create(backend, &weights, n);
  auto tape = *model->NewTape(n);
  Tensor hidden;
  const absl::Status status =
      model->Forward(&made.batch, nullptr, tape.get(), {}, &hidden);
  CHECK(status.ok()) << status;
  return {*Download(backend, hidden), made.batch.routes};
}

struct PlainLogProb {
  double logp = 0;
  double entropy = 0;
};

// Of token `target` by the logits of `hidden` [D] over `kept`, all if empty.
PlainLogProb LogSoftmax(const ModelConfig& config,
                        const std::vector<float>& lm_head, const float* hidden,
                        std::vector<int32_t> kept, int32_t target,
                        double temperature) {
  if (kept.empty()) {
    for (int32_t v = 0; v < config.vocab_size; ++v) kept.push_back(v);
  }
  std::map<int32_t, double> logits;
  double largest = -HUGE_VAL, sum = 0;
  for (const int32_t v : kept) {
    double logit = 0;
    for (int64_t d = 0; d < config.hidden_size; ++d) {
      logit += double{lm_head[v * config.hidden_size + d]} * hidden[d];
    }
    logits[v] = logit / temperature;
    largest = std::max(largest, logits[v]);
  }
  for (const auto& [v, logit] : logits) sum += std::exp(logit - largest);
  const double lse = largest + std::log(sum);
  PlainLogProb result;
  result.logp = logits.at(target) - lse;
  for (const auto& [v, logit] : logits) {
    result.entropy -= std::exp(logit - lse) * (logit - lse);
  }
  return result;
}

std::vector<PlainLogProb> LogProbs(Backend* backend,
                                   const PublishedWeights& weights,
                                   const Episode& episode, bool keep_routing,
                                   const TrainStepOptions& options) {
  const ModelConfig& config = weights.config();
  const std::vector<float> lm_head =
      *Download(backend, weights.value("lm_head.weight"));
  std::vector<PlainLogProb> results;
  for (const EpisodeBranch& branch : episode.branches) {
    const BranchForward forward =
        ForwardBranch(backend, weights, branch, keep_routing);
    for (size_t i = 0; i < branch.sampled.size(); ++i) {
      const int32_t position = branch.sampled[i];
      std::vector<int32_t> kept;
      if (options.objective.keep_sampling_mask()) {
        kept.assign(branch.kept_ids.begin() + branch.kept_offsets[i],
                    branch.kept_ids.begin() + branch.kept_offsets[i + 1]);
      }
      results.push_back(LogSoftmax(
          config, lm_head,
          forward.hidden.data() + (position - 1) * config.hidden_size, kept,
          branch.tokens[position], options.temperature));
    }
  }
  return results;
}

std::vector<double> Advantages(const std::vector<Episode>& episodes,
                               ObjectiveConfig::AdvantageNorm norm) {
  std::vector<double> advantages;
  for (const Episode& one : episodes) {
    double count = 0, mean = 0, squares = 0;
    for (const Episode& other : episodes) {
      if (other.group != one.group) continue;
      ++count;
      mean += other.reward;
    }
    mean /= count;
    for (const Episode& other : episodes) {
      if (other.group == one.group) squares += std::pow(other.reward - mean, 2);
    }
    const double deviation = norm == ObjectiveConfig::std
                                 ? std::sqrt(squares / (count - 1)) + 1e-6
                                 : 1;
    advantages.push_back((one.reward - mean) / deviation);
  }
  return advantages;
}

// Sums over tokens that become means.
struct Sums {
  double tokens = 0, entropy = 0, unbiased_kl = 0, drift = 0, ratio = 0,
         ratio_max = 0, low = 0, high = 0, compared = 0, gap = 0, gap_max = 0,
         pg = 0, kl = 0;
};

struct EpisodeTerms {
  double drift = 0;
  bool masked = false;
};

std::vector<float> RecordOf(const Episode& episode) {
  std::vector<float> record;
  for (const EpisodeBranch& branch : episode.branches) {
    record.insert(record.end(), branch.logprobs.begin(), branch.logprobs.end());
  }
  return record;
}

// Adds one episode whose tokens weigh `weight` each.
EpisodeTerms AddEpisode(const Episode& episode,
                        const std::vector<PlainLogProb>& policy,
                        const std::vector<PlainLogProb>& reference,
                        double advantage, double weight, uint64_t version,
                        const TrainStepOptions& options, Sums* sums) {
  const std::vector<float> old = RecordOf(episode);
  const ObjectiveConfig& objective = options.objective;
  EpisodeTerms terms;
  for (size_t t = 0; t < policy.size(); ++t) {
    terms.drift += (old[t] - policy[t].logp) / static_cast<double>(old.size());
  }
  terms.masked =
      advantage < 0 && terms.drift > objective.off_policy_mask_threshold();
  for (size_t t = 0; t < policy.size(); ++t) {
    const double ratio = std::exp(policy[t].logp - old[t]);
    const double low = 1 - objective.clip_ratio_low();
    const double high = 1 + objective.clip_ratio_high();
    const double surrogate = std::min(
        ratio * advantage, std::min(std::max(ratio, low), high) * advantage);
    if (!terms.masked) sums->pg -= weight * surrogate;
    if (!reference.empty()) {
      const double d = reference[t].logp - policy[t].logp;
      const double k3 = std::exp(d) - d - 1;
      sums->unbiased_kl += ratio * k3;
      sums->kl += weight * options.KlCoef(episode.domain) * ratio * k3;
    }
    sums->tokens += 1;
    sums->entropy += policy[t].entropy;
    sums->drift += old[t] - policy[t].logp;
    sums->ratio += ratio;
    sums->ratio_max = std::max(sums->ratio_max, ratio);
    sums->low += advantage < 0 && ratio < low;
    sums->high += advantage > 0 && ratio > high;
    if (episode.OldestVersion() != version) continue;
    const double gap = std::fabs(policy[t].logp - old[t]);
    sums->compared += 1;
    sums->gap += gap;
    sums->gap_max = std::max(sums->gap_max, gap);
  }
  return terms;
}

std::map<std::string, double> Values(const Sums& sums,
                                     const std::vector<bool>& masked,
                                     std::vector<double> drifts) {
  std::map<std::string, double> values = {
      {"loss", sums.pg + sums.kl},
      {"pg_loss", sums.pg},
      {"kl_loss", sums.kl},
      {"entropy", sums.entropy / sums.tokens},
      {"mismatch_kl", sums.drift / sums.tokens},
      {"ratio/mean", sums.ratio / sums.tokens},
      {"ratio/max", sums.ratio_max},
      {"clip_frac_low", sums.low / sums.tokens},
      {"clip_frac_high", sums.high / sums.tokens},
      {"train_rollout_logprob_abs_diff/tokens", sums.compared}};
  if (sums.compared > 0) {
    values["train_rollout_logprob_abs_diff/mean"] = sums.gap / sums.compared;
    values["train_rollout_logprob_abs_diff/max"] = sums.gap_max;
  }
  std::sort(drifts.begin(), drifts.end());
  const double count = static_cast<double>(drifts.size());
  for (size_t i = 0; i < drifts.size(); ++i) {
    values["opsm/seq_kl/mean"] += drifts[i] / count;
    values["opsm/masked_frac"] += masked[i] / count;
  }
  values["opsm/seq_kl/p90"] = drifts[(drifts.size() - 1) * 9 / 10];
  return values;
}

void AddSampledTokens(const DrawnEpisode& spec, const ModelConfig& config,
                      const std::vector<int32_t>& sampled,
                      EpisodeBranch* branch) {
  branch->kept_offsets.push_back(0);
  for (size_t i = 0; i < sampled.size(); ++i) {
    branch->sampled.push_back(static_cast<int32_t>(branch->tokens.size()));
    branch->tokens.push_back(sampled[i]);
    branch->logprobs.push_back(0);
    if (spec.truncated && i % 2 == 0) {
      std::set<int32_t> kept = {sampled[i]};
      for (int32_t v = sampled[i] + 7; kept.size() < kKept; v += 7) {
        kept.insert(v % static_cast<int32_t>(config.vocab_size));
      }
      branch->kept_ids.insert(branch->kept_ids.end(), kept.begin(), kept.end());
    }
    branch->kept_offsets.push_back(
        static_cast<int32_t>(branch->kept_ids.size()));
  }
}

}  // namespace

Episode MakeEpisode(Backend* backend, const PublishedWeights& weights,
                    const DrawnEpisode& spec) {
  const ModelConfig& config = weights.config();
  Episode episode;
  episode.group = spec.group;
  episode.sample = spec.sample;
  episode.reward = spec.reward;
  episode.domain = spec.domain;
  for (int b = 0; b < spec.branches; ++b) {
    EpisodeBranch branch;
    branch.tokens = RandomTokens(config, 1000 + spec.group, kPromptTokens);
    const std::vector<int32_t> sampled = RandomTokens(
        config, 2000 + spec.group * 100 + spec.sample * 10 + b,
        4 + static_cast<int64_t>(spec.group + spec.sample + b) % 4);
    AddSampledTokens(spec, config, sampled, &branch);
    branch.routes = ForwardBranch(backend, weights, branch, false).routes;
    branch.versions = {
        {0, static_cast<uint32_t>(sampled.size()), spec.version}};
    episode.branches.push_back(std::move(branch));
  }
  return episode;
}

OracleStep ComputeOracleStep(Backend* backend, const PublishedWeights& weights,
                             const PublishedWeights* reference,
                             const std::vector<Episode>& episodes,
                             uint64_t version,
                             const TrainStepOptions& options) {
  CHECK(options.objective.kl_estimator() == ObjectiveConfig::unbiased_k3);
  OracleStep step;
  step.advantages = Advantages(episodes, options.objective.advantage_norm());
  double tokens = 0;
  for (const Episode& episode : episodes) tokens += episode.SampledTokens();
  Sums sums;
  std::vector<double> drifts;
  for (size_t i = 0; i < episodes.size(); ++i) {
    const Episode& episode = episodes[i];
    const auto policy = LogProbs(backend, weights, episode,
                                 options.objective.keep_routing(), options);
    std::vector<PlainLogProb> frozen;
    if (reference != nullptr) {
      frozen = LogProbs(backend, *reference, episode, /*keep_routing=*/false,
                        options);
    }
    const double weight =
        options.objective.loss_aggregation() == ObjectiveConfig::token_mean
            ? 1 / tokens
            : 1 / (static_cast<double>(policy.size()) *
                   static_cast<double>(episodes.size()));
    const EpisodeTerms terms =
        AddEpisode(episode, policy, frozen, step.advantages[i], weight, version,
                   options, &sums);
    drifts.push_back(terms.drift);
    step.masked.push_back(terms.masked);
    std::vector<double>& logp = step.logp.emplace_back();
    for (const PlainLogProb& token : policy) logp.push_back(token.logp);
  }
  step.values = Values(sums, step.masked, drifts);
  if (reference != nullptr) {
    step.values["kl"] = sums.unbiased_kl / sums.tokens;
  }
  return step;
}

}  // namespace temper
