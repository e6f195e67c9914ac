#include "tests/golden_inputs.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/strict_json.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kInputsBytesMax = 64 << 20;

GoldenGrpoSequence ReadSequence(const Json& json, const ModelConfig& config) {
  GoldenGrpoSequence sequence;
  sequence.tokens = json.at("tokens").get<std::vector<int32_t>>();
  sequence.loss_mask = json.at("loss_mask").get<std::vector<int32_t>>();
  sequence.group = json.at("group").get<int64_t>();
  sequence.reward = json.at("reward").get<double>();
  sequence.logp_sampler = json.at("logp_sampler").get<std::vector<float>>();
  for (const Json& keep : json.at("keep")) {
    sequence.keep.emplace_back();
    if (keep.is_null()) continue;
    sequence.keep.back() = keep.get<std::vector<int32_t>>();
    std::sort(sequence.keep.back().begin(), sequence.keep.back().end());
  }
  for (size_t t = 0; t < sequence.tokens.size(); ++t) {
    for (int64_t m = 0; m < config.moe_layers(); ++m) {
      std::vector<int32_t> route =
          json.at("routes").at(m).at(t).get<std::vector<int32_t>>();
      std::sort(route.begin(), route.end());
      sequence.routes.insert(sequence.routes.end(), route.begin(), route.end());
    }
  }
  return sequence;
}

GoldenInputs ReadInputs(const Json& json, const ModelConfig& config) {
  GoldenInputs inputs;
  inputs.lm_tokens =
      json.at("lm").at("tokens").get<std::vector<std::vector<int32_t>>>();
  const Json& adamw = json.at("adamw");
  inputs.learning_rate = adamw.at("lr").get<double>();
  inputs.beta1 = adamw.at("betas").at(0).get<double>();
  inputs.beta2 = adamw.at("betas").at(1).get<double>();
  inputs.eps = adamw.at("eps").get<double>();
  inputs.weight_decay = adamw.at("weight_decay").get<double>();
  inputs.clip_norm = adamw.at("clip_norm").get<double>();
  inputs.adamw_steps = adamw.at("steps").get<int64_t>();
  const Json& grpo = json.at("grpo");
  inputs.clip_low = grpo.at("clip_low").get<double>();
  inputs.clip_high = grpo.at("clip_high").get<double>();
  inputs.kl_coef = grpo.at("beta").get<double>();
  inputs.delta = grpo.at("delta").get<double>();
  inputs.temperature = grpo.at("temperature").get<double>();
  for (const Json& sequence : grpo.at("sequences")) {
    inputs.sequences.push_back(ReadSequence(sequence, config));
  }
  return inputs;
}

}  // namespace

absl::StatusOr<GoldenInputs> ReadGoldenInputs(const std::string& dir,
                                              const ModelConfig& config) {
  const std::string path = dir + "/inputs.json";
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kInputsBytesMax));
  ASSIGN_OR_RETURN(const Json json, ParseStrictJson(text, path));
  try {
    return ReadInputs(json, config);
  } catch (const Json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", e.what()));
  }
}

}  // namespace temper
