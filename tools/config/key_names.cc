#include "tools/config/key_names.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <limits>
#include <utility>

namespace temper {
namespace {

// What TRL, verl, OpenRLHF, slime, NeMo-RL and others call what we have.
constexpr std::pair<const char*, const char*> kAliases[] = {
    // A name may stand here only if no key of ours has it (config_test).
    {"lr", "learning_rate"},
    {"beta", "kl_coef"},
    {"num_generations", "group_size"},
    {"num_generations_per_prompt", "group_size"},
    {"n_samples_per_prompt", "group_size"},
    {"n_samples", "group_size"},
    {"num_return_sequences_in_group", "group_size"},
    {"train_batch_size", "prompts_per_step"},
    {"rollout_batch_size", "prompts_per_step"},
    {"num_prompts_per_step", "prompts_per_step"},
    {"generation_batch_size", "prompts_per_step"},
    {"batch_size", "prompts_per_step"},
    {"ppo_n_minibatches", "minibatches"},
    {"num_minibatches", "minibatches"},
    {"steps_per_generation", "minibatches"},
    {"eps_clip", "clip_ratio_low"},
    {"clip_range", "clip_ratio_low"},
    {"epsilon", "clip_ratio_low"},
    {"ratio_clip_min", "clip_ratio_low"},
    {"eps_clip_high", "clip_ratio_high"},
    {"epsilon_high", "clip_ratio_high"},
    {"ratio_clip_max", "clip_ratio_high"},
    {"kl_loss_coef", "kl_coef"},
    {"kl_ctl", "kl_coef"},
    {"kl_tau", "kl_coef"},
    {"init_kl_coef", "kl_coef"},
    {"reference_policy_kl_penalty", "kl_coef"},
    {"kl_loss_type", "kl_estimator"},
    {"kl_estimator_type", "kl_estimator"},
    {"use_unbiased_kl", "kl_estimator"},
    {"use_bias_correction_kl", "kl_estimator"},
    {"opsm_delta", "off_policy_mask_threshold"},
    {"max_weight_staleness", "max_staleness"},
    {"staleness_threshold", "max_staleness"},
    {"max_head_offpolicyness", "max_staleness"},
    {"max_off_policy_steps", "max_staleness"},
    {"use_rollout_routing_replay", "keep_routing"},
    {"enable_router_replay", "keep_routing"},
    {"loss_agg_mode", "loss_aggregation"},
    {"loss_type", "loss_aggregation"},
    {"loss_reduction", "loss_aggregation"},
    {"token_level_loss", "loss_aggregation"},
    {"scale_rewards", "advantage_norm"},
    {"normalize_rewards", "advantage_norm"},
    {"grpo_norm_by_std", "advantage_norm"},
    {"max_new_tokens", "max_tokens"},
    {"max_completion_length", "max_tokens"},
    {"max_response_length", "max_tokens"},
    {"response_length", "max_tokens"},
    {"max_grad_norm", "grad_clip"},
    {"clip_grad", "grad_clip"},
    {"wd", "weight_decay"},
    {"adam_beta1", "beta1"},
    {"adam_beta2", "beta2"},
    {"adam_epsilon", "adam_eps"},
    {"eps", "adam_eps"},
    {"save_steps", "save_interval"},
    {"save_freq", "save_interval"},
    {"eval_steps", "eval_interval"},
    {"test_freq", "eval_interval"},
    {"max_steps", "steps"},
    {"num_steps", "steps"},
    {"total_steps", "steps"},
    {"num_workers", "workers"},
    {"num_threads", "threads"},
    {"dtype", "numerics"},
    {"precision", "numerics"},
    {"bf16", "numerics"},
    {"fp8", "numerics"},
    {"model_path", "model"},
    {"dataset", "tasks"},
    {"data", "tasks"},
    {"env", "environments"},
    {"temp", "temperature"},
    {"output_dir", "runs_dir"},
    {"run_name", "name"},
    {"random_seed", "seed"},
};

// What DESIGN.md promises for later and others have now: refused by what it is,
// not as a misspelling.
constexpr std::pair<const char*, const char*> kLater[] = {
    {"train_indexer", "training the indexer during RL"},
    {"train_mtp", "training the MTP layers"},
    {"mtp_loss_coef", "training the MTP layers"},
    {"mtp", "training the MTP layers"},
    {"lora", "LoRA"},
    {"lora_rank", "LoRA"},
    {"lora_alpha", "LoRA"},
    {"ranks", "a learner of several ranks"},
    {"learner_ranks", "a learner of several ranks"},
    {"async", "asynchronous mode"},
    {"asynchronous", "asynchronous mode"},
    {"teacher", "distillation"},
    {"teacher_model", "distillation"},
    {"rubric", "rubric rewards"},
    {"distillation_coef", "distillation"},
    {"rubric_weight", "rubric rewards"},
    {"tls_cert", "transport security"},
};

// Case and '-' against '_' are not what makes a key wrong.
std::string Normal(const std::string& name) {
  std::string normal = name;
  for (char& c : normal) {
    c = c == '-' ? '_' : static_cast<char>(tolower(c));
  }
  return normal;
}

// Insertions, deletions, substitutions and swaps of neighbours, one each.
size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1,
                                        std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  // Optimal string alignment (Damerau 1964): most slips of the hand are one of
  // these.
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t swap = a[i - 1] == b[j - 1] ? 0 : 1;
      cost[i][j] = std::min(
          {cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + swap});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::string KeyOfAlias(const std::string& name) {
  for (const auto& [alias, key] : kAliases) {
    if (Normal(name) == alias) return key;
  }
  return "";
}

std::string LaterFeature(const std::string& name) {
  for (const auto& [key, feature] : kLater) {
    if (Normal(name) == key) return feature;
  }
  return "";
}

std::string Nearest(const std::string& word,
                    const std::vector<std::string>& candidates) {
  const std::string normal = Normal(word);
  std::string best;
  size_t best_distance = std::numeric_limits<size_t>::max();
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(normal, Normal(candidate));
    // Beyond half of the letters it is another word, and a guess would mislead.
    const size_t limit = std::max(word.size(), candidate.size()) / 2;
    if (distance <= limit && distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace temper
