#include "tools/config/config_keys.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <utility>

#include "proto/wire/episode_limit.h"

namespace temper {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kUint64 = 18446744073709551615.0;
constexpr OnResume kFixed = OnResume::kFixed;
constexpr OnResume kMayChange = OnResume::kMayChange;

// A number's key, a string's, a bool's.
ConfigKey Number(const char* name, const char* default_text, double min,
                 double max, OnResume on_resume, const char* meaning) {
  return {name, default_text, on_resume, min, max, nullptr, nullptr, meaning};
}
ConfigKey Text(const char* name, const char* default_text, OnResume on_resume,
               const char* meaning) {
  return {name, default_text, on_resume, 0, 0, nullptr, nullptr, meaning};
}
ConfigKey Choice(const char* name, const char* default_text,
                 const char* choices, const char* later, const char* meaning) {
  return {name, default_text, kFixed, 0, 0, choices, later, meaning};
}

std::vector<ConfigKey> RunKeys() {
  return {
      Text("name", "", kFixed,
           "The run's directory is <runs_dir>/<name>. Empty: the "
           "configuration file's name and the time."),
      Text("runs_dir", "runs", kFixed, "Where run directories are made."),
      Number("seed", "1", 0, kUint64, kFixed,
             "Sampling, task order and initialisation all follow from it."),
      Text("model", nullptr, kFixed,
           "Directory in the Hugging Face layout: config.json, safetensors, "
           "tokenizer.json."),
      Text("tasks", nullptr, kFixed,
           "A tasks.jsonl file, or the name of a task generator: quickstart."),
      Text("environments", "", kFixed,
           "Names that the tasks may use, with commas; a generator makes tasks "
           "of these alone. Empty: those that they do use."),
      Choice("numerics", "fp32", "fp32", "bf16|fp8",
             "What the matrix products compute in, the same when sampling and "
             "when training."),
      Number("steps", nullptr, 1, 1e6, kMayChange,
             "Training steps; each samples a batch and trains on it."),
      Number("workers", "1", 1, 64, kMayChange, "Rollout worker processes."),
      Number("threads", "0", 0, 1024, kMayChange,
             "Compute threads of each process. 0: the learner takes all cores, "
             "and the workers, which take turns with it, share them evenly."),
  };
}

std::vector<ConfigKey> ObjectiveKeys() {
  return {
      Number("group_size", "8", 2, 1024, kFixed,
             "Samples of one prompt; their mean reward is the baseline."),
      Number("prompts_per_step", "16", 1, 65536, kFixed,
             "Prompts, that is groups, in a step's batch."),
      Number("minibatches", "1", 1, 64, kFixed,
             "Updates that a batch is split into, by whole groups."),
      Number("clip_ratio_low", "0.2", 0, 1, kFixed,
             "The ratio is clipped below 1 - this."),
      Number("clip_ratio_high", "0.28", 0, 100, kFixed,
             "The ratio is clipped above 1 + this."),
      Number("kl_coef", "0.001", 0, 100, kFixed,
             "Weight of the KL to the frozen reference model. 0 for every "
             "domain: the reference is neither loaded nor run."),
      Choice("kl_estimator", "unbiased_k3", "unbiased_k3|k3|k2|k1", nullptr,
             "Estimator of the KL; unbiased_k3 is k3 times the ratio."),
      Number("off_policy_mask_threshold", "0.1", 0, kInf, kFixed,
             "A sequence of negative advantage whose mean log-ratio (nats a "
             "token) exceeds this is masked. inf is off."),
      Number("max_staleness", "0", 0, 0, kFixed,
             "Updates that a trajectory may be old. Above 0 is asynchronous "
             "mode, which this version does not have."),
      Choice("keep_routing", "true", nullptr, nullptr,
             "Train through the experts that sampling chose."),
      Choice("keep_sampling_mask", "true", nullptr, nullptr,
             "Train over the tokens that top_p, top_k and min_p kept. false: "
             "over the whole vocabulary, the broken case, for ablation."),
      Choice("advantage_norm", "none", "none|std", nullptr,
             "std divides a group's advantages by their deviation."),
      Choice("loss_aggregation", "seq_mean_token_mean",
             "seq_mean_token_mean|token_mean", nullptr,
             "The mean over sequences of the mean over tokens, or the mean "
             "over all tokens."),
  };
}

std::vector<ConfigKey> SamplingKeys() {
  return {
      Number("temperature", "1", 0.01, 100, kFixed, "Divides the logits."),
      Number("top_p", "0.95", 1e-6, 1, kFixed,
             "Keeps the likeliest tokens up to this mass. 1: off."),
      Number("top_k", "0", 0, 512, kFixed,
             "Keeps this many likeliest tokens. 0: off."),
      Number("min_p", "0", 0, 1, kFixed,
             "Keeps tokens of at least this share of the likeliest one's "
             "probability. 0: off."),
      Number("max_tokens", "1024", 1, kEpisodeTokensMax, kFixed,
             "Sampled tokens of an episode, all turns together."),
      Number("max_turns", "8", 1, kEpisodeTurnsMax, kFixed,
             "Assistant messages of an episode."),
      Choice("thinking", "true", nullptr, nullptr,
             "Whether an assistant message opens with a thinking part."),
  };
}

std::vector<ConfigKey> OptimizerKeys() {
  return {
      Number("learning_rate", "1e-6", 0, 1, kFixed,
             "AdamW's step size, after warm-up. 0 trains nothing, for "
             "measuring."),
      Number("weight_decay", "0", 0, 10, kFixed,
             "AdamW's decoupled weight decay."),
      Number("beta1", "0.9", 0, 0.99999, kFixed,
             "AdamW's decay of the gradient's mean."),
      Number("beta2", "0.95", 0, 0.999999, kFixed,
             "AdamW's decay of the squared gradient's mean."),
      Number("adam_eps", "1e-8", 1e-20, 1, kFixed,
             "Added to the root in AdamW's denominator."),
      Number("grad_clip", "1", 1e-9, kInf, kFixed,
             "The gradient's norm is scaled down to this. inf is off."),
      Number("warmup_steps", "0", 0, 1e6, kFixed,
             "The learning rate rises from 0 over so many updates, of which a "
             "step has one for each of its minibatches."),
  };
}

std::vector<ConfigKey> OtherKeys() {
  return {
      Number("save_interval", "20", 1, 1e6, kMayChange,
             "Steps between checkpoints. The last step always saves one."),
      Number("eval_interval", "0", 0, 1e6, kMayChange,
             "Steps between evaluations. 0: before and after only."),
      Number("eval_tasks", "256", 0, 1e6, kFixed,
             "Held-out tasks of an environment in an evaluation. 0: none."),
      Number("rule_weight", "1", -100, 100, kFixed,
             "Weight of being right. Negative rewards being wrong, for "
             "negative controls."),
      Number("format_weight", "0", -100, 100, kFixed,
             "Weight of being well-formed."),
      Number("length_weight", "0", 0, 100, kFixed,
             "Weight of the penalty on long responses."),
      Number("language_weight", "0", 0, 100, kFixed,
             "Weight of keeping to the prompt's language."),
      Number("length_target_tokens", "0", 0, kEpisodeTokensMax, kFixed,
             "Sampled tokens at which the penalty on length starts."),
      Text("domain_name", "", kFixed,
           "A task's domain. On the command line: --set "
           "domain=NAME:KL_COEF."),
      Number("domain_kl_coef", "0.001", 0, 100, kFixed,
             "kl_coef of that domain's tasks."),
  };
}

constexpr std::pair<const char*, const char*> kAliases[] = {
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
    {"model_path", "model"},
    {"dataset", "tasks"},
    {"data", "tasks"},
    {"env", "environments"},
    {"temp", "temperature"},
    {"output_dir", "runs_dir"},
    {"run_name", "name"},
    {"random_seed", "seed"},
};

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
    {"fp8", "FP8"},
    {"bf16", "bf16"},
    {"device", "GPU kernels"},
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

const std::vector<ConfigKey>& ConfigKeys() {
  static const auto* keys = [] {
    auto* all = new std::vector<ConfigKey>;
    for (const auto& part : {RunKeys(), ObjectiveKeys(), SamplingKeys(),
                             OptimizerKeys(), OtherKeys()}) {
      all->insert(all->end(), part.begin(), part.end());
    }
    return all;
  }();
  return *keys;
}

const ConfigKey* FindConfigKey(const std::string& name) {
  for (const ConfigKey& key : ConfigKeys()) {
    if (name == key.name) return &key;
  }
  return nullptr;
}

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
    const size_t limit = std::max(word.size(), candidate.size()) / 2;
    if (distance <= limit && distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace temper
