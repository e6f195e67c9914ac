#include "kernels/model/config.h"

#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/math.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/quantization_config.h"
#include "kernels/model/strict_json.h"
#include "kernels/ops/op_arguments.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kConfigBytesMax = 1 << 20;
constexpr char kModelType[] = "deepseek_v32";
constexpr char kArchitecture[] = "DeepseekV32ForCausalLM";

// What sizes may come to together: ten times DeepSeek-V3.2. Within them every
// offset, and what a batch of any size takes, fits 64 bits.
constexpr int64_t kTensorsMax = 1 << 19;
constexpr double kParametersMax = 0x1p40;
constexpr double kTokenNumbersMax = 0x1p32;

// Keys that Hugging Face's files carry and that change nothing here.
const std::set<std::string>& IgnoredKeys() {
  static const auto* keys = new std::set<std::string>{
      "_name_or_path", "auto_map",    "aux_loss_alpha",
      "dtype",         "seq_aux",     "initializer_range",
      "pad_token_id",  "torch_dtype", "transformers_version",
      "use_cache",     "ep_size",
  };
  return *keys;
}

absl::Status Refused(const std::string& key, const Json& value,
                     const std::string& allowed) {
  return absl::InvalidArgumentError(absl::StrCat(
      key, " is ", value.dump(-1, ' ', true, Json::error_handler_t::replace),
      "; ", allowed));
}

struct IntKey {
  const char* name;
  int64_t ModelConfig::*field;
  int64_t min;
  int64_t max;
  bool required;
};

// So wide that no model is near it and products of two stay within 64 bits.
constexpr int64_t kWide = 1 << 20;

const std::vector<IntKey>& IntKeys() {
  using C = ModelConfig;
  static const auto* keys = new std::vector<IntKey>{
      {"vocab_size", &C::vocab_size, 2, 1 << 24, true},
      {"hidden_size", &C::hidden_size, 1, kWide, true},
      {"intermediate_size", &C::intermediate_size, 1, kWide, true},
      {"moe_intermediate_size", &C::moe_intermediate_size, 1, kWide, true},
      {"num_hidden_layers", &C::num_hidden_layers, 1, 1024, true},
      {"num_nextn_predict_layers", &C::num_nextn_predict_layers, 0, 16, false},
      {"first_k_dense_replace", &C::first_k_dense_replace, 0, 1024, true},
      {"num_attention_heads", &C::num_attention_heads, 1, 4096, true},
      {"q_lora_rank", &C::q_lora_rank, 1, kWide, true},
      {"kv_lora_rank", &C::kv_lora_rank, 1, kWide, true},
      {"qk_nope_head_dim", &C::qk_nope_head_dim, 1, 4096, true},
      {"qk_rope_head_dim", &C::qk_rope_head_dim, 2, kRopeDimsMax, true},
      {"v_head_dim", &C::v_head_dim, 1, 4096, true},
      {"index_n_heads", &C::index_n_heads, 1, 4096, true},
      {"index_head_dim", &C::index_head_dim, 2, 4096, true},
      {"index_topk", &C::index_topk, 1, 1 << 20, true},
      {"n_routed_experts", &C::n_routed_experts, 1, 65536, true},
      {"n_shared_experts", &C::n_shared_experts, 1, 64, true},
      {"num_experts_per_tok", &C::num_experts_per_tok, 1, 256, true},
      {"n_group", &C::n_group, 1, 65536, true},
      {"topk_group", &C::topk_group, 1, 65536, true},
      {"max_position_embeddings", &C::max_position_embeddings, 1, 1 << 24,
       true},
      {"bos_token_id", &C::bos_token_id, 0, 1 << 24, false},
      {"eos_token_id", &C::eos_token_id, 0, 1 << 24, false},
  };
  return *keys;
}

// Variants that exist elsewhere; only this value is this architecture.
const std::vector<std::pair<const char*, Json>>& FixedKeys() {
  static const auto* keys = new std::vector<std::pair<const char*, Json>>{
      {"architectures", Json::array({kArchitecture})},
      {"model_type", kModelType},
      {"attention_bias", false},
      {"attention_dropout", 0.0},
      {"hidden_act", "silu"},
      {"moe_layer_freq", 1},
      {"norm_topk_prob", true},
      {"pretraining_tp", 1},
      {"scoring_func", "sigmoid"},
      {"tie_word_embeddings", false},
      {"topk_method", "noaux_tc"},
  };
  return *keys;
}

absl::Status ReadInt(const Json& json, const IntKey& key, ModelConfig* config) {
  const auto found = json.find(key.name);
  if (found == json.end()) {
    if (!key.required) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("the key ", key.name, " is missing"));
  }
  const std::string allowed =
      absl::StrCat("an integer from ", key.min, " to ", key.max, " is needed");
  // Unsigned values above int64 would wrap; is_number_unsigned covers them.
  if (!found->is_number_integer() ||
      (found->is_number_unsigned() &&
       found->get<uint64_t>() > static_cast<uint64_t>(key.max)) ||
      found->get<int64_t>() < key.min || found->get<int64_t>() > key.max) {
    return Refused(key.name, *found, allowed);
  }
  config->*key.field = found->get<int64_t>();
  return absl::OkStatus();
}

// `min` itself is excluded.
absl::Status ReadNumber(const Json& json, const char* prefix, const char* name,
                        double min, double max, double* value) {
  const auto found = json.find(name);
  const std::string key = absl::StrCat(prefix, name);
  if (found == json.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the key ", key, " is missing"));
  }
  if (!found->is_number() || !(found->get<double>() > min) ||
      !(found->get<double>() <= max)) {
    return Refused(
        key, *found,
        absl::StrCat("a number above ", min, ", at most ", max, ", is needed"));
  }
  *value = found->get<double>();
  return absl::OkStatus();
}

absl::Status ReadRopeScaling(const Json& json, ModelConfig* config) {
  const auto found = json.find("rope_scaling");
  if (found == json.end() || found->is_null()) return absl::OkStatus();
  if (!found->is_object()) {
    return Refused("rope_scaling", *found, "null or an object is needed");
  }
  static const auto* known = new std::set<std::string>{
      "type",           "rope_type",
      "factor",         "mscale",
      "mscale_all_dim", "beta_fast",
      "beta_slow",      "original_max_position_embeddings"};
  for (const auto& [key, value] : found->items()) {
    if (known->count(key) == 0) {
      return Refused(absl::StrCat("rope_scaling.", key), value,
                     "this key is not known");
    }
  }
  bool typed = false;
  for (const char* name : {"type", "rope_type"}) {
    const auto type = found->find(name);
    if (type == found->end()) continue;
    if (*type != "yarn") {
      return Refused(absl::StrCat("rope_scaling.", name), *type,
                     "\"yarn\" is the only scaling");
    }
    typed = true;
  }
  // Hugging Face's default differs by its version: the file has to say.
  if (!typed) return Refused("rope_scaling", *found, "it must have a type");
  RopeScaling& yarn = config->rope_scaling;
  constexpr char kPrefix[] = "rope_scaling.";
  RETURN_IF_ERROR(
      ReadNumber(*found, kPrefix, "factor", 0.99, 1e6, &yarn.factor));
  RETURN_IF_ERROR(
      ReadNumber(*found, kPrefix, "beta_fast", 0, 1e6, &yarn.beta_fast));
  RETURN_IF_ERROR(
      ReadNumber(*found, kPrefix, "beta_slow", 0, 1e6, &yarn.beta_slow));
  RETURN_IF_ERROR(ReadNumber(*found, kPrefix, "mscale", 0, 1e3, &yarn.mscale));
  RETURN_IF_ERROR(ReadNumber(*found, kPrefix, "mscale_all_dim", 0, 1e3,
                             &yarn.mscale_all_dim));
  double original = 0;
  RETURN_IF_ERROR(ReadNumber(*found, kPrefix,
                             "original_max_position_embeddings", 0, 1 << 24,
                             &original));
  if (original != std::floor(original)) {
    return Refused("rope_scaling.original_max_position_embeddings",
                   (*found)["original_max_position_embeddings"],
                   "an integer is needed");
  }
  // Unequal, cosines and sines would carry their quotient (Hugging Face).
  if (yarn.mscale != yarn.mscale_all_dim) {
    return Refused("rope_scaling.mscale", (*found)["mscale"],
                   "it must equal mscale_all_dim");
  }
  yarn.original_max_position_embeddings = static_cast<int64_t>(original);
  config->has_rope_scaling = true;
  return absl::OkStatus();
}

absl::Status CheckRelations(const ModelConfig& c) {
  const auto refuse = [](const std::string& what) {
    return absl::InvalidArgumentError(what);
  };
  if (c.first_k_dense_replace > c.num_hidden_layers) {
    return refuse(
        absl::StrCat("first_k_dense_replace ", c.first_k_dense_replace,
                     " exceeds num_hidden_layers ", c.num_hidden_layers));
  }
  if (c.qk_rope_head_dim % 2 != 0) {
    return refuse(absl::StrCat("qk_rope_head_dim ", c.qk_rope_head_dim,
                               " is odd; it rotates in pairs"));
  }
  // The indexer rotates as many dimensions as attention does.
  if (c.index_head_dim < c.qk_rope_head_dim) {
    return refuse(absl::StrCat("index_head_dim ", c.index_head_dim,
                               " is below qk_rope_head_dim ",
                               c.qk_rope_head_dim));
  }
  if (c.n_routed_experts % c.n_group != 0) {
    return refuse(absl::StrCat("n_routed_experts ", c.n_routed_experts,
                               " is not a multiple of n_group ", c.n_group));
  }
  const int64_t group_size = c.n_routed_experts / c.n_group;
  if (c.n_group > 1 && group_size < 2) {
    return refuse(absl::StrCat("n_group ", c.n_group, " leaves groups of ",
                               group_size, "; a group's score needs two"));
  }
  if (c.topk_group > c.n_group) {
    return refuse(absl::StrCat("topk_group ", c.topk_group, " exceeds n_group ",
                               c.n_group));
  }
  if (c.num_experts_per_tok > c.topk_group * group_size) {
    return refuse(absl::StrCat("num_experts_per_tok ", c.num_experts_per_tok,
                               " exceeds the ", c.topk_group * group_size,
                               " experts of topk_group groups"));
  }
  if (c.has_rope_scaling && c.rope_scaling.original_max_position_embeddings >
                                c.max_position_embeddings) {
    return refuse(absl::StrCat("rope_scaling.original_max_position_embeddings ",
                               c.rope_scaling.original_max_position_embeddings,
                               " exceeds max_position_embeddings ",
                               c.max_position_embeddings));
  }
  if (c.bos_token_id >= c.vocab_size || c.eos_token_id >= c.vocab_size) {
    return refuse(absl::StrCat("bos_token_id ", c.bos_token_id,
                               " or eos_token_id ", c.eos_token_id,
                               " is not below vocab_size ", c.vocab_size));
  }
  return absl::OkStatus();
}

// Counts of any configuration, in double: they cannot overflow, and are exact
// below 2^53, far above what is allowed.
double Number(int64_t size) { return static_cast<double>(size); }

double AttentionMatrices(const ModelConfig& c) {
  const double hidden = Number(c.hidden_size),
               heads = Number(c.num_attention_heads);
  const double q_lora = Number(c.q_lora_rank);
  return hidden * Number(c.q_lora_rank + c.latent_dim()) +
         q_lora * heads * Number(c.qk_head_dim()) +
         Number(c.kv_lora_rank) * heads *
             Number(c.qk_nope_head_dim + c.v_head_dim) +
         heads * Number(c.v_head_dim) * hidden +
         q_lora * Number(c.index_n_heads) * Number(c.index_head_dim) +
         hidden * Number(c.index_head_dim + c.index_n_heads);
}

// Matrices of the layers' feed-forward parts with `experts` experts counted.
double MlpMatrices(const ModelConfig& c, double experts) {
  const double hidden = Number(c.hidden_size);
  const double expert = 3 * hidden * Number(c.moe_intermediate_size);
  const double moe = hidden * Number(c.n_routed_experts) +
                     (experts + Number(c.n_shared_experts)) * expert;
  return Number(c.first_k_dense_replace) * 3 * hidden *
             Number(c.intermediate_size) +
         Number(c.moe_layers()) * moe;
}

double CountParameters(const ModelConfig& c) {
  const double hidden = Number(c.hidden_size);
  const double vectors = Number(2 * c.hidden_size + c.q_lora_rank +
                                c.kv_lora_rank + 2 * c.index_head_dim);
  const double experts = Number(c.n_routed_experts);
  return 2 * Number(c.vocab_size) * hidden + hidden +
         Number(c.num_hidden_layers) * (AttentionMatrices(c) + vectors) +
         MlpMatrices(c, experts) + Number(c.moe_layers()) * experts;
}

// Activations that training keeps for one token, by their largest parts.
double NumbersOfAToken(const ModelConfig& c) {
  const double heads = Number(c.num_attention_heads);
  const double attention =
      heads * Number(c.latent_dim() + c.qk_head_dim() + c.v_head_dim) +
      Number(c.q_lora_rank + c.index_n_heads * c.index_head_dim);
  const double experts =
      Number(c.n_routed_experts) +
      Number(c.num_experts_per_tok + c.n_shared_experts) *
          Number(2 * c.moe_intermediate_size + c.hidden_size);
  const double layer = 4 * Number(c.hidden_size) + attention +
                       2 * Number(c.intermediate_size) + experts;
  return Number(c.vocab_size) + Number(c.num_hidden_layers) * layer;
}

// Every size is in its own range; together they may still be far too much.
absl::Status CheckTotals(const ModelConfig& c) {
  const auto refuse = [](const std::string& what, double limit) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, "; at most ", static_cast<int64_t>(limit), " are possible"));
  };
  const int64_t tensors = c.moe_layers() * 3 * c.n_routed_experts;
  if (tensors > kTensorsMax) {
    return refuse(absl::StrCat("num_hidden_layers ", c.num_hidden_layers,
                               " with n_routed_experts ", c.n_routed_experts,
                               " are ", tensors, " tensors of experts"),
                  kTensorsMax);
  }
  if (CountParameters(c) > kParametersMax) {
    return refuse(
        absl::StrCat("its sizes (num_hidden_layers ", c.num_hidden_layers,
                     ", hidden_size ", c.hidden_size, ", n_routed_experts ",
                     c.n_routed_experts, ", ...) come to ", CountParameters(c),
                     " parameters"),
        kParametersMax);
  }
  if (NumbersOfAToken(c) > kTokenNumbersMax) {
    return refuse(
        absl::StrCat("its sizes (num_hidden_layers ", c.num_hidden_layers,
                     ", num_attention_heads ", c.num_attention_heads,
                     ", kv_lora_rank ", c.kv_lora_rank, ", ...) come to ",
                     NumbersOfAToken(c), " numbers for each token"),
        kTokenNumbersMax);
  }
  return absl::OkStatus();
}

// What to do about a key that is none of ours.
std::string HintFor(const std::string& key) {
  if (key != "rope_parameters") return "this key is not known";
  return "this key is not read: write its rope_theta as rope_theta and the "
         "rest as rope_scaling (null where rope_type is \"default\")";
}

// A token id that nothing here uses, but that other readers will.
absl::Status CheckPadding(const Json& json, const ModelConfig& config) {
  const auto pad = json.find("pad_token_id");
  if (pad == json.end() || pad->is_null()) return absl::OkStatus();
  if (pad->is_number_integer() && *pad >= Json(0) &&
      *pad < Json(config.vocab_size)) {
    return absl::OkStatus();
  }
  return Refused("pad_token_id", *pad,
                 absl::StrCat("null or a token below vocab_size ",
                              config.vocab_size, " is needed"));
}

absl::Status CheckKeys(const Json& json) {
  // Closed, as the run's configuration is: a key that is not known may be what
  // makes the file another model.
  std::set<std::string> known = IgnoredKeys();
  for (const IntKey& key : IntKeys()) known.insert(key.name);
  for (const auto& [name, value] : FixedKeys()) {
    known.insert(name);
    const auto found = json.find(name);
    if (found != json.end() && *found != value) {
      return Refused(name, *found,
                     absl::StrCat("only ", value.dump(), " is supported"));
    }
  }
  known.insert({"rms_norm_eps", "rope_theta", "rope_scaling",
                "routed_scaling_factor", "num_key_value_heads",
                kQuantizationKey});
  for (const auto& [key, value] : json.items()) {
    if (known.count(key) == 0) {
      return Refused(key, value, HintFor(key));
    }
  }
  if (!json.contains("model_type")) {
    return absl::InvalidArgumentError(
        absl::StrCat("model_type is missing; \"", kModelType, "\" is needed"));
  }
  return absl::OkStatus();
}

}  // namespace

double ModelConfig::softmax_scale() const {
  double m = 1;
  if (has_rope_scaling && rope_scaling.factor > 1) {
    // YaRN's attention temperature (Peng et al. 2023), squared since q and k
    // each carry it.
    m = 0.1 * rope_scaling.mscale * Log(rope_scaling.factor) + 1;
  }
  return m * m / std::sqrt(static_cast<double>(qk_head_dim()));
}

int64_t ModelConfig::parameter_count() const {
  return static_cast<int64_t>(CountParameters(*this));
}

int64_t ModelConfig::active_parameter_count() const {
  return static_cast<int64_t>(Number(vocab_size) * Number(hidden_size) +
                              Number(num_hidden_layers) *
                                  AttentionMatrices(*this) +
                              MlpMatrices(*this, Number(num_experts_per_tok)));
}

absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& text) {
  ASSIGN_OR_RETURN(const Json json, ParseStrictJson(text, "the file"));
  if (!json.is_object()) {
    return absl::InvalidArgumentError("the file is not a JSON object");
  }
  RETURN_IF_ERROR(CheckKeys(json));
  RETURN_IF_ERROR(
      CheckQuantizationConfig(json.value(kQuantizationKey, Json())));
  ModelConfig config;
  for (const IntKey& key : IntKeys()) {
    RETURN_IF_ERROR(ReadInt(json, key, &config));
  }
  RETURN_IF_ERROR(
      ReadNumber(json, "", "rms_norm_eps", 0, 1e-2, &config.rms_norm_eps));
  RETURN_IF_ERROR(
      ReadNumber(json, "", "rope_theta", 1, 1e12, &config.rope_theta));
  RETURN_IF_ERROR(ReadNumber(json, "", "routed_scaling_factor", 0, 1e6,
                             &config.routed_scaling_factor));
  RETURN_IF_ERROR(ReadRopeScaling(json, &config));
  const auto kv_heads = json.find("num_key_value_heads");
  if (kv_heads != json.end() && *kv_heads != config.num_attention_heads) {
    return Refused("num_key_value_heads", *kv_heads,
                   "it must equal num_attention_heads");
  }
  // Before the totals, which divide and multiply what this has found sane.
  RETURN_IF_ERROR(CheckRelations(config));
  RETURN_IF_ERROR(CheckTotals(config));
  RETURN_IF_ERROR(CheckPadding(json, config));
  // What changes nothing here goes back as it came: other readers use it.
  Json carried = Json::object();
  for (const std::string& key : IgnoredKeys()) {
    if (json.contains(key)) carried[key] = json[key];
  }
  config.carried_json = carried.dump();
  return config;
}

absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& model_dir) {
  const std::string path = model_dir + "/config.json";
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kConfigBytesMax));
  absl::StatusOr<ModelConfig> config = ParseModelConfig(text);
  if (!config.ok()) {
    return absl::Status(config.status().code(),
                        absl::StrCat(path, ": ", config.status().message()));
  }
  return config;
}

std::string ModelConfigToJson(const ModelConfig& config,
                              const std::string& file_type) {
  Json json = config.carried_json.empty() ? Json::object()
                                          : Json::parse(config.carried_json);
  if (!file_type.empty()) {
    // Of what has no scales where the matrices are codes, as DeepSeek has it.
    const char* const dtype = file_type == "F32" ? "float32" : "bfloat16";
    // Newer files call it dtype. Both may be there: both are then true.
    if (json.contains("dtype")) json["dtype"] = dtype;
    if (json.contains("torch_dtype") || !json.contains("dtype")) {
      json["torch_dtype"] = dtype;
    }
  }
  for (const auto& [name, value] : FixedKeys()) json[name] = value;
  if (file_type == "F8_E4M3") json[kQuantizationKey] = QuantizationConfig();
  for (const IntKey& key : IntKeys()) json[key.name] = config.*key.field;
  json["num_key_value_heads"] = config.num_attention_heads;
  json["rms_norm_eps"] = config.rms_norm_eps;
  json["rope_theta"] = config.rope_theta;
  json["routed_scaling_factor"] = config.routed_scaling_factor;
  json["rope_scaling"] = nullptr;
  if (config.has_rope_scaling) {
    const RopeScaling& yarn = config.rope_scaling;
    json["rope_scaling"] = {{"type", "yarn"},
                            {"factor", yarn.factor},
                            {"beta_fast", yarn.beta_fast},
                            {"beta_slow", yarn.beta_slow},
                            {"mscale", yarn.mscale},
                            {"mscale_all_dim", yarn.mscale_all_dim},
                            {"original_max_position_embeddings",
                             yarn.original_max_position_embeddings}};
  }
  return json.dump(1) + "\n";
}

}  // namespace temper
