#include "tools/config/config_keys.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/base/log.h"
#include "kernels/ops/sample_arguments.h"
#include "proto/config.pb.h"
#include "proto/sft_config.pb.h"
#include "proto/wire/episode_limit.h"

namespace temper {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
// Rounded up to 2^64, which no text of a uint64 is beyond.
constexpr double kUint64 = 18446744073709551615.0;
constexpr OnResume kFixed = OnResume::kFixed;
constexpr OnResume kMayChange = OnResume::kMayChange;

// A number's key; a text's, a truth value's or an enum's. Whose they are,
// ConfigKeys says.
ConfigKey Number(const char* name, const char* default_text, double min,
                 double max, OnResume on_resume, const char* meaning) {
  return {{}, name, default_text, on_resume, min, max, meaning};
}
ConfigKey Text(const char* name, const char* default_text, OnResume on_resume,
               const char* meaning) {
  return {{}, name, default_text, on_resume, 0, 0, meaning};
}

// What has one meaning, one default and one limit in both.
std::vector<ConfigKey> SharedKeys() {
  return {
      Number("seed", "1", 0, kUint64, kFixed,
             "All that is random follows from it: initialisation, sampling, "
             "the order of tasks and demonstrations."),
      Number("threads", "0", 0, 1024, kMayChange,
             "Compute threads of each process. 0: all cores, but that rollout "
             "workers, which take turns with the learner, share them evenly."),
      Text("device", "auto", kFixed,
           "What computes: this machine's GPU by CUDA, or its CPU. auto: "
           "cuda where there is a GPU for it and this program has it for the "
           "numerics; the plan says which and why, and it stays that."),
      Number("grad_clip", "1", 1e-9, kInf, kFixed,
             "The gradient's norm is scaled down to this. inf is off."),
      Number("save_interval", "20", 1, 1e6, kMayChange,
             "Steps between checkpoints. The last step always saves."),
  };
}

std::vector<ConfigKey> RunKeys() {
  return {
      Text("name", "", kFixed,
           "The run's directory is <runs_dir>/<name>. Empty: the "
           "configuration file's name and the time."),
      Text("runs_dir", "runs", kFixed, "Where run directories are made."),
      Text("model", nullptr, kFixed,
           "Directory in the Hugging Face layout: config.json, safetensors, "
           "tokenizer.json."),
      Text("tasks", nullptr, kFixed,
           "tasks.jsonl files, and the name of a task generator: quickstart. "
           "Several with commas, in a file a line each."),
      Text("environments", "", kFixed,
           "Names that the tasks may use, with commas; a generator makes tasks "
           "of these alone. Empty: those that they do use."),
      Text("numerics", "fp32", kFixed,
           "What matrix products and attention compute in, and caches hold, "
           "the same when sampling and when training. Weights that are "
           "trained are fp32 in each. fp8 is DeepSeek-V3's: e4m3 with a "
           "scale for 128 numbers, and bf16 where DeepSeek has it."),
      Number("steps", nullptr, 1, 1e6, kMayChange,
             "Training steps; each samples a batch and trains on it."),
      Number("workers", "1", 1, 64, kMayChange, "Rollout worker processes."),
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
      Text("kl_estimator", "unbiased_k3", kFixed,
           "Estimator of the KL; unbiased_k3 is k3 times the ratio."),
      Number("off_policy_mask_threshold", "0.1", 0, kInf, kFixed,
             "A sequence of negative advantage whose mean log-ratio (nats a "
             "token) exceeds this is masked. inf is off."),
      // A limit that admits one value says that the others are of a later
      // version.
      Number("max_staleness", "0", 0, 0, kFixed,
             "Steps that a trajectory may be old. Above 0 is asynchronous "
             "mode, which this version does not have."),
      Text("keep_routing", "true", kFixed,
           "Train through the experts that sampling chose."),
      Text("keep_sampling_mask", "true", kFixed,
           "Train over the tokens that top_p, top_k and min_p kept. false: "
           "over the whole vocabulary, the broken case, for ablation."),
      Text("advantage_norm", "none", kFixed,
           "std divides a group's advantages by their deviation."),
      Text("loss_aggregation", "seq_mean_token_mean", kFixed,
           "The mean over sequences of the mean over tokens, or the mean "
           "over all tokens."),
  };
}

std::vector<ConfigKey> SamplingKeys() {
  return {
      // Not 0: greedy sampling has no log-probability to train by.
      Number("temperature", "1", 0.01, 100, kFixed, "Divides the logits."),
      Number("top_p", "0.95", 1e-6, 1, kFixed,
             "Keeps the likeliest tokens up to this mass. 1: off."),
      // kept_max: a token's kept set is recorded whole.
      Number("top_k", "0", 0, kKeptMax, kFixed,
             "Keeps this many likeliest tokens. 0: off."),
      Number("min_p", "0", 0, 1, kFixed,
             "Keeps tokens of at least this share of the likeliest one's "
             "probability. 0: off."),
      Number("max_tokens", "1024", 1, kEpisodeTokensMax, kFixed,
             "Sampled tokens of an episode, all turns together."),
      Number("max_turns", "8", 1, kEpisodeTurnsMax, kFixed,
             "Assistant messages of an episode."),
      Text("thinking", "true", kFixed,
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
      Number("warmup_steps", "0", 0, 1e6, kFixed,
             "The learning rate rises from 0 over so many updates, of which a "
             "step has one for each of its minibatches."),
  };
}

std::vector<ConfigKey> OtherKeys() {
  return {
      Number("eval_interval", "0", 0, 1e6, kMayChange,
             "Steps between evaluations. 0: before and after only."),
      Number("eval_tasks", "256", 0, 1e6, kFixed,
             "Held-out tasks of an environment in an evaluation. 0: none."),
      Text("checkpoint_dtype", "BF16", kMayChange,
           "What a checkpoint's model/ stores matrices in. F8_E4M3: each in "
           "what numerics fp8 publishes it in. A resume goes on from fp32 "
           "values, whatever this is."),
      // What a resume may change is what leaves the objective and the sampled
      // episodes as they are; rewards do not.
      Number("rule_weight", "1", -100, 100, kFixed,
             "Weight of being right. Negative rewards being wrong, for "
             "negative controls."),
      Number("format_weight", "0", -100, 100, kFixed,
             "Weight of being well-formed."),
      Number("length_weight", "0", 0, 100, kFixed,
             "Weight of the penalty on long responses."),
      Number("language_weight", "0", 0, 100, kFixed,
             "Weight of keeping to the prompt's language."),
      Number("score_weight", "0", 0, 100, kFixed,
             "Weight of the scores that environments give beside right and "
             "wrong, times each one's own."),
      Number("length_target_tokens", "0", 0, kEpisodeTokensMax, kFixed,
             "Sampled tokens at which the penalty on length starts."),
      Text("domain_name", "", kFixed,
           "A task's domain. On the command line: --set "
           "domain=NAME:KL_COEF."),
      Number("domain_kl_coef", "0.001", 0, 100, kFixed,
             "kl_coef of that domain's tasks."),
      Number("domain_weight", "0", 0, 1e6, kFixed,
             "Share of that domain's tasks in the prompts, beside the other "
             "domains' weights: all have one or none. 0 in all: each task "
             "comes as often as any other."),
  };
}

std::vector<ConfigKey> SftKeys() {
  return {
      Text("model", "", kFixed,
           "A checkpoint to go on from: a directory in the Hugging Face "
           "layout. Empty: model_config says what to start from."),
      Text("model_config", "", kFixed,
           "A config.json to start from, with weights drawn by the seed. "
           "Empty: model says what to go on from."),
      Text("tokenizer", "", kFixed,
           "A tokenizer.json, or train: it is learnt from the demonstrations. "
           "Empty: the model's own."),
      Text("demonstrations", nullptr, kFixed,
           "A demonstrations.jsonl file, or the name of a generator: "
           "quickstart. They are shown in thinking mode: an assistant message "
           "after the last user message has reasoning_content or tool_calls."),
      // A making goes on wherever its directory lies by then.
      Text("output", nullptr, kMayChange,
           "The directory of the checkpoint, new or empty."),
      Text("output_dtype", "BF16", kFixed,
           "What matrices of the checkpoint are stored in. F8_E4M3: each in "
           "what numerics fp8 publishes it in."),
      Number("demonstrations_per_step", "32", 1, 4096, kFixed,
             "Demonstrations of a step's batch."),
      Number("weight_decay", "0.05", 0, 10, kFixed,
             "AdamW's decoupled weight decay; the indexer has none."),
      Number("initializer_range", "0.02", 1e-9, 10, kFixed,
             "Standard deviation of new weights."),
      Number("bias_update_speed", "0.001", 0, 1, kFixed,
             "By how much a step moves the balance bias of an expert that has "
             "more or less than its share."),
  };
}

// Of a stage. A rate of 0 is none: only what trains nothing may have it.
std::vector<ConfigKey> StageKeys() {
  return {
      Text("name", "", kFixed, "What to call the stage."),
      Number("steps", nullptr, 1, 1e6, kFixed, "Steps of the stage."),
      Text("attention", nullptr, kFixed,
           "sparse: what the indexer chooses; dense: all that came before."),
      Text("train_model", "false", kFixed,
           "Whether the model learns, by the language model's loss."),
      Text("train_indexer", "false", kFixed,
           "Whether the indexer learns, by its KL loss, its inputs detached."),
      Text("mix", "", kFixed,
           "Which demonstrations of a generator: quickstart has clean and "
           "sloppy."),
      Number("learning_rate", "0", 0, 1, kFixed,
             "AdamW's step size for the model, after warm-up."),
      Number("indexer_learning_rate", "0", 0, 1, kFixed,
             "AdamW's step size for the indexer, after warm-up."),
      Number("warmup_steps", "0", 0, 1e6, kFixed,
             "Steps over which the learning rates rise from 0."),
      Number("decay_fraction", "0", 0, 1, kFixed,
             "The last part of the stage, over which the learning rates fall."),
      Number("final_fraction", "0", 0, 1, kFixed,
             "What is left of the learning rates at the end of their fall."),
      // Without them a new model learns to copy sooner: there are fewer keys
      // to look among.
      Text("preamble", "true", kFixed,
           "Whether the system message and the tools are shown."),
  };
}

std::vector<ConfigKey> AllKeys() {
  std::vector<ConfigKey> all;
  const std::pair<KeyOf, std::vector<ConfigKey>> parts[] = {
      {KeyOf::kBoth, SharedKeys()},     {KeyOf::kTrain, RunKeys()},
      {KeyOf::kTrain, ObjectiveKeys()}, {KeyOf::kTrain, SamplingKeys()},
      {KeyOf::kTrain, OptimizerKeys()}, {KeyOf::kTrain, OtherKeys()},
      {KeyOf::kSft, SftKeys()},         {KeyOf::kSft, StageKeys()}};
  for (const auto& [of, keys] : parts) {
    for (const ConfigKey& key : keys) {
      all.push_back(key);
      all.back().of = of;
    }
  }
  return all;
}

}  // namespace

const std::vector<ConfigKey>& ConfigKeys() {
  static const auto* keys = new std::vector<ConfigKey>(AllKeys());
  return *keys;
}

const ConfigKey* FindConfigKey(
    const google::protobuf::Descriptor* configuration,
    const std::string& name) {
  const bool sft = configuration == SftConfig::descriptor();
  CHECK(sft || configuration == RunConfig::descriptor())
      << configuration->full_name();
  const KeyOf of = sft ? KeyOf::kSft : KeyOf::kTrain;
  const std::vector<ConfigKey>& keys = ConfigKeys();
  const auto found =
      std::find_if(keys.begin(), keys.end(), [&](const ConfigKey& key) {
        return (key.of == of || key.of == KeyOf::kBoth) && name == key.name;
      });
  return found == keys.end() ? nullptr : &*found;
}

}  // namespace temper
