// The GRPO objective of DESIGN.md section 5, on per-token log-probabilities:
// no tensors, no model. DeepSeek-V3.2 (arXiv 2512.02556) equations 5 to 9.
//
//   A_i  = R_i - mean of its group
//   r_t  = exp(logp_t - logp_old_t)
//   M_i  = 0 if A_i < 0 and mean_t(logp_old_t - logp_t) > delta, else 1
//   KL_t = r_t (exp(d_t) - d_t - 1),   d_t = logp_ref_t - logp_t
//   loss = -1/N sum_i 1/n_i sum_t [ M_i min(r_t A_i, clip(r_t) A_i) - beta KL_t
//   ]
//
// Scalars are doubles. Sequence i is one episode, over all its branches.

#ifndef LEARNER_TRAIN_OBJECTIVE_H_
#define LEARNER_TRAIN_OBJECTIVE_H_

#include <cstdint>
#include <vector>

#include "proto/config.pb.h"

namespace temper {

// The paper's objective, of one update a batch and without a reference (kl_coef
// 0): for who has no run's configuration. All else is the defaults of
// tools/config's keys; the test of that table holds them equal.
ObjectiveConfig PaperObjective();

// One episode's sampled tokens, in order over its branches.
struct ObjectiveSequence {
  double advantage = 0;
  double kl_coef = 0;
  std::vector<float> logp;      // [n] policy, over the kept set
  std::vector<float> logp_old;  // [n] the sampler's record
  std::vector<float> logp_ref;  // [n]; may be empty when kl_coef is 0
};

// What one sequence contributes. Entries of the vectors are per token.
struct SequenceTerms {
  double drift = 0;      // mean(logp_old - logp)
  bool masked = false;   // M_i = 0
  double loss = 0;       // 1/n sum of token_loss, whatever the aggregation
  double surrogate = 0;  // 1/n sum of M * surrogate
  double kl = 0;         // 1/n sum of kl
  std::vector<double> ratio, surrogates, k3, kls, token_loss;
  // r k3, whatever kl_estimator is: of tokens that the sampler drew it is the
  // unbiased estimate of KL(pi || pi_ref), and it stays finite where the policy
  // gives a drawn token next to nothing and k3 alone overflows. 0 without a
  // reference.
  std::vector<double> unbiased_kl;
  std::vector<float> dlogp;  // d(batch loss) / d logp
};

// How the batch weighs a sequence's tokens: N and the number of sampled tokens
// over all sequences of the update.
struct BatchShape {
  int64_t sequences = 0;
  int64_t tokens = 0;
};

// A_i of every sequence: rewards[i] belongs to group groups[i]. With std,
// A / (std + 1e-6) with one degree of freedom less; a group of one has A = 0.
// Where all rewards of a group are equal every A is 0 exactly, not what the
// rounding of their mean leaves.
std::vector<double> ComputeAdvantages(const std::vector<double>& rewards,
                                      const std::vector<int64_t>& groups,
                                      ObjectiveConfig::AdvantageNorm norm);

// By `options`, a resolved configuration's. CHECKs that the sizes agree. A
// sequence with no tokens contributes nothing.
SequenceTerms ComputeSequence(const ObjectiveConfig& options,
                              const BatchShape& shape,
                              const ObjectiveSequence& sequence);

// The batch's loss, and its two parts (loss = -surrogate + sum beta kl), from
// the terms of all its sequences.
struct BatchLoss {
  double loss = 0;
  double surrogate = 0;  // pg_loss is its negative
  double kl = 0;         // not multiplied by kl_coef
};
BatchLoss SumSequences(const ObjectiveConfig& options, const BatchShape& shape,
                       const std::vector<SequenceTerms>& terms);

}  // namespace temper

#endif  // LEARNER_TRAIN_OBJECTIVE_H_
