#include "learner/train/objective.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "kernels/base/log.h"
#include "kernels/base/math.h"

namespace temper {
namespace {

// Beyond this, exp(d) - d - 1 times r loses r's small factor to overflow.
constexpr double kLargeLogRatio = 30;

struct KlTerm {
  double value;
  double derivative;  // by logp
};

KlTerm Kl(ObjectiveConfig::KlEstimator estimator, double ratio, double logp,
          double logp_old, double logp_ref) {
  const double d = logp_ref - logp;
  switch (estimator) {
    case ObjectiveConfig::unbiased_k3: {
      const double value = d > kLargeLogRatio
                               ? Exp(logp_ref - logp_old) - ratio * (d + 1)
                               : ratio * (Expm1(d) - d);
      return {value, -ratio * d};
    }
    case ObjectiveConfig::k3:
      // From here on biased as estimates of KL(pi || pi_ref) away from the
      // sampler's policy: kept for comparison with other systems.
      return {Expm1(d) - d, -Expm1(d)};
    case ObjectiveConfig::k2:
      return {d * d / 2, -d};
    case ObjectiveConfig::k1:
      return {-d, 1};
    default:  // the numbers that proto3 keeps for values of a later version
      break;
  }
  CHECK(false) << "kl_estimator " << static_cast<int>(estimator);
  return {};
}

}  // namespace

ObjectiveConfig PaperObjective() {
  ObjectiveConfig objective;
  objective.set_minibatches(1);
  objective.set_clip_ratio_low(0.2);
  objective.set_clip_ratio_high(0.28);
  objective.set_kl_coef(0);
  objective.set_kl_estimator(ObjectiveConfig::unbiased_k3);
  objective.set_off_policy_mask_threshold(0.1);
  objective.set_keep_routing(true);
  objective.set_keep_sampling_mask(true);
  objective.set_advantage_norm(ObjectiveConfig::none);
  objective.set_loss_aggregation(ObjectiveConfig::seq_mean_token_mean);
  return objective;
}

std::vector<double> ComputeAdvantages(const std::vector<double>& rewards,
                                      const std::vector<int64_t>& groups,
                                      ObjectiveConfig::AdvantageNorm norm) {
  CHECK_EQ(rewards.size(), groups.size());
  std::map<int64_t, std::vector<size_t>> members;
  for (size_t i = 0; i < groups.size(); ++i) members[groups[i]].push_back(i);
  std::vector<double> advantages(rewards.size());
  for (const auto& [group, indices] : members) {
    const double first = rewards[indices[0]];
    if (std::all_of(indices.begin(), indices.end(),
                    [&](size_t i) { return rewards[i] == first; })) {
      continue;  // 0: the mean of equal numbers may be rounded away from them
    }
    double sum = 0;
    for (const size_t i : indices) sum += rewards[i];
    const double mean = sum / static_cast<double>(indices.size());
    double squares = 0;
    for (const size_t i : indices) {
      advantages[i] = rewards[i] - mean;
      squares += advantages[i] * advantages[i];
    }
    if (norm == ObjectiveConfig::none) continue;
    // One degree of freedom less, as torch.std has it; 1e-6 keeps rewards that
    // rounding alone sets apart from being blown up.
    const double freedom = static_cast<double>(indices.size()) - 1;
    const double deviation = freedom > 0 ? std::sqrt(squares / freedom) : 0;
    for (const size_t i : indices) advantages[i] /= deviation + 1e-6;
  }
  return advantages;
}

SequenceTerms ComputeSequence(const ObjectiveConfig& options,
                              const BatchShape& shape,
                              const ObjectiveSequence& sequence) {
  const size_t n = sequence.logp.size();
  CHECK_EQ(sequence.logp_old.size(), n);
  const bool has_reference = !sequence.logp_ref.empty();
  CHECK(sequence.kl_coef == 0 || n == 0 || has_reference);
  SequenceTerms terms;
  if (n == 0) return terms;
  for (size_t t = 0; t < n; ++t) {
    terms.drift += static_cast<double>(sequence.logp_old[t]) - sequence.logp[t];
  }
  terms.drift /= static_cast<double>(n);
  terms.masked = sequence.advantage < 0 &&
                 terms.drift > options.off_policy_mask_threshold();

  // A masked sequence keeps its place in the weights below: masking must not
  // make the others' larger.
  const double keep = terms.masked ? 0 : 1;
  const double weight =
      options.loss_aggregation() == ObjectiveConfig::token_mean
          ? 1 / static_cast<double>(shape.tokens)
          : 1 / (static_cast<double>(n) * static_cast<double>(shape.sequences));
  for (size_t t = 0; t < n; ++t) {
    const double logp = sequence.logp[t], logp_old = sequence.logp_old[t];
    const double ratio = Exp(logp - logp_old);
    const double clipped = std::clamp(ratio, 1 - options.clip_ratio_low(),
                                      1 + options.clip_ratio_high());
    const double raw = ratio * sequence.advantage;
    const double bounded = clipped * sequence.advantage;
    const double surrogate = std::min(raw, bounded);
    // d raw / d logp is raw, for d ratio / d logp is ratio; where the clip
    // binds the surrogate does not move. At a tie it is not clipped.
    const double dsurrogate = raw <= bounded ? raw : 0;
    KlTerm kl = {0, 0};
    double k3 = 0, unbiased = 0;
    if (has_reference) {
      const double logp_ref = sequence.logp_ref[t];
      kl = Kl(options.kl_estimator(), ratio, logp, logp_old, logp_ref);
      k3 = Expm1(logp_ref - logp) - (logp_ref - logp);
      unbiased =
          Kl(ObjectiveConfig::unbiased_k3, ratio, logp, logp_old, logp_ref)
              .value;
    }
    // A biased estimator may overflow, and infinity times 0 is no number.
    const KlTerm loss_kl = sequence.kl_coef == 0 ? KlTerm{0, 0} : kl;
    const double token_loss =
        sequence.kl_coef * loss_kl.value - keep * surrogate;
    terms.ratio.push_back(ratio);
    terms.surrogates.push_back(surrogate);
    terms.k3.push_back(k3);
    terms.kls.push_back(kl.value);
    terms.unbiased_kl.push_back(unbiased);
    terms.token_loss.push_back(token_loss);
    // No gradient goes through M, nor through logp_old.
    terms.dlogp.push_back(static_cast<float>(
        weight * (sequence.kl_coef * loss_kl.derivative - keep * dsurrogate)));
    terms.surrogate += keep * surrogate;
    terms.kl += kl.value;
    terms.loss += token_loss;
  }
  terms.surrogate /= static_cast<double>(n);
  terms.kl /= static_cast<double>(n);
  terms.loss /= static_cast<double>(n);
  return terms;
}

BatchLoss SumSequences(const ObjectiveConfig& options, const BatchShape& shape,
                       const std::vector<SequenceTerms>& terms) {
  BatchLoss batch;
  for (const SequenceTerms& sequence : terms) {
    const double n = static_cast<double>(sequence.token_loss.size());
    // An episode cut before its first token still counts in N.
    if (n == 0) continue;
    const double weight =
        options.loss_aggregation() == ObjectiveConfig::token_mean
            ? n / static_cast<double>(shape.tokens)
            : 1 / static_cast<double>(shape.sequences);
    batch.loss += weight * sequence.loss;
    batch.surrogate += weight * sequence.surrogate;
    batch.kl += weight * sequence.kl;
  }
  return batch;
}

}  // namespace temper
