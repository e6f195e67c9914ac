// The models that the invariance tests run on, and conversations to hold with
// them: a tiny random one, golden model C (odd dimensions, YaRN) and the
// shipped quickstart model.

#ifndef TESTS_TRIAL_MODEL_H_
#define TESTS_TRIAL_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/model/config.h"
#include "kernels/model/published_weights.h"
#include "kernels/ops/backend.h"

namespace temper {

// What is not sampled in an episode of two turns.
struct Conversation {
  std::vector<int32_t> prompt;       // begins as all others do
  std::vector<int32_t> tool_result;  // follows the first turn
};

struct TrialModel {
  std::string name;
  ModelConfig config;
  Numerics numerics;
  std::vector<float> values;  // in the order of the parameters
  int32_t stop_token = 1;
  int64_t turn_tokens = 0;  // at most, of a turn
  std::vector<Conversation> conversations;

  // Tokens of the longest conversation.
  int64_t longest() const;
};

inline constexpr int kConversations = 64;

// Each CHECKs that its files are there. Conversations are longer than
// index_topk and than two pages (C, which has positions for no more: than one).
TrialModel TinyTrialModel();     // random tokens
TrialModel GoldenCTrialModel();  // random tokens
// The prompts of its tasks with the tools' preamble, results of its tools.
TrialModel QuickstartTrialModel();

// The model's weights in its numerics, ready to compute. CHECKs that it works.
std::unique_ptr<PublishedWeights> WeightsOf(Backend* backend,
                                            const TrialModel& model);

}  // namespace temper

#endif  // TESTS_TRIAL_MODEL_H_
