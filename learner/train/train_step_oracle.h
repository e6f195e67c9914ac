// For tests: small whole episodes, and a GRPO step of one update computed again
// by other means than the step's own. Each branch is computed whole and alone,
// the head and its softmax are plain loops in double, and the objective is
// written as DESIGN.md section 5 has it. Only the final hidden states are the
// transformer's, which has tests of its own.

#ifndef LEARNER_TRAIN_TRAIN_STEP_ORACLE_H_
#define LEARNER_TRAIN_TRAIN_STEP_ORACLE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernels/model/gradients.h"
#include "kernels/model/published_weights.h"
#include "kernels/ops/backend.h"
#include "learner/intake/episode.h"
#include "learner/train/train_step_options.h"

namespace temper {

struct DrawnEpisode {
  uint64_t group = 1;  // episodes of a group begin with the same prompt
  uint32_t sample = 0;
  double reward = 0;
  int branches = 1;
  std::string domain;
  bool truncated = true;  // every other sampled token has a kept set of 5
  uint64_t version = 1;
};

// An episode of five tokens of prompt and some sampled ones a branch, at most
// 12, all drawn from `weights`'s vocabulary by (group, sample). Its routes are
// those that `weights` choose; its record is 0 everywhere.
Episode MakeEpisode(Backend* backend, const PublishedWeights& weights,
                    const DrawnEpisode& spec);

struct OracleStep {
  std::map<std::string, double> values;   // under the names of StepMetrics
  std::vector<double> advantages;         // [episodes]
  std::vector<bool> masked;               // [episodes]
  std::vector<std::vector<double>> logp;  // [episodes][sampled tokens]
};

// What a step of one minibatch says of itself before its update: all metrics
// but grad_norm and lr. `options` has estimator unbiased_k3 (CHECKed).
OracleStep ComputeOracleStep(Backend* backend, const PublishedWeights& weights,
                             const PublishedWeights* reference,
                             const std::vector<Episode>& episodes,
                             uint64_t version, const TrainStepOptions& options);

}  // namespace temper

#endif  // LEARNER_TRAIN_TRAIN_STEP_ORACLE_H_
