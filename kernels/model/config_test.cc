#include "kernels/model/config.h"

#include <cmath>
#include <map>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

using Json = nlohmann::json;

// DeepSeek-V3.2's own, without its quantization_config.
Json V32Config() {
  return Json::parse(R"({
    "architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32",
    "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 0,
    "eos_token_id": 1, "ep_size": 1, "first_k_dense_replace": 3,
    "hidden_act": "silu", "hidden_size": 7168, "intermediate_size": 18432,
    "index_head_dim": 128, "index_n_heads": 64, "index_topk": 2048,
    "initializer_range": 0.02, "max_position_embeddings": 163840,
    "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "moe_intermediate_size": 2048,
    "moe_layer_freq": 1, "n_routed_experts": 256, "n_shared_experts": 1,
    "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4,
    "topk_method": "noaux_tc", "scoring_func": "sigmoid",
    "norm_topk_prob": true, "routed_scaling_factor": 2.5,
    "num_attention_heads": 128, "num_key_value_heads": 128,
    "num_hidden_layers": 61, "num_nextn_predict_layers": 1,
    "rms_norm_eps": 1e-6, "rope_scaling": {"type": "yarn", "factor": 40,
    "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1,
    "mscale": 1.0, "mscale_all_dim": 1.0}, "rope_theta": 10000,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "transformers_version": "4.44.2", "use_cache": true, "vocab_size": 129280
  })");
}

std::string Refusal(const Json& json) {
  const auto config = ParseModelConfig(json.dump());
  if (config.ok()) return "";
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(config.status().message());
}

// The refusal must name both.
void ExpectRefused(const std::string& key, const Json& value) {
  Json json = V32Config();
  json[key] = value;
  const std::string message = Refusal(json);
  EXPECT_TRUE(absl::StrContains(message, key)) << key << ": " << message;
  EXPECT_TRUE(absl::StrContains(message, value.dump()))
      << key << ": " << message;
}

TEST(ModelConfigTest, ReadsDeepSeekV32AndItsPublishedSizes) {
  const auto config = ParseModelConfig(V32Config().dump());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->moe_layers(), 58);
  EXPECT_EQ(config->latent_dim(), 576);
  EXPECT_EQ(config->route_bytes(), 1);
  EXPECT_NEAR(config->softmax_scale(), 0.13523378, 1e-8);
  // 671.88 billion with the indexer, about 37 billion of them active.
  EXPECT_NEAR(config->parameter_count() / 1e9, 671.88, 0.01);
  EXPECT_NEAR(config->active_parameter_count() / 1e9, 37, 1);
}

TEST(ModelConfigTest, ScaleHasNoYarnFactorWithoutRopeScaling) {
  Json json = V32Config();
  json["rope_scaling"] = nullptr;
  const auto config = ParseModelConfig(json.dump());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_DOUBLE_EQ(config->softmax_scale(), 1 / std::sqrt(192.0));
}

TEST(ModelConfigTest, WhatItWritesReadsBackEqual) {
  for (const bool yarn : {true, false}) {
    Json json = V32Config();
    json["rms_norm_eps"] = 1.1e-6;
    if (!yarn) json["rope_scaling"] = nullptr;
    const auto config = ParseModelConfig(json.dump());
    ASSERT_TRUE(config.ok()) << config.status();
    const std::string written = ModelConfigToJson(*config);
    const auto again = ParseModelConfig(written);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(ModelConfigToJson(*again), written);
    EXPECT_EQ(again->rms_norm_eps, 1.1e-6);
    EXPECT_EQ(again->has_rope_scaling, yarn);
    EXPECT_EQ(again->rope_scaling.factor, config->rope_scaling.factor);
  }
}

TEST(ModelConfigTest, RefusesVariantsOfTheArchitectureByName) {
  ExpectRefused("hidden_act", "gelu");
  ExpectRefused("scoring_func", "softmax");
  ExpectRefused("topk_method", "group_limited_greedy");
  ExpectRefused("attention_bias", true);
  ExpectRefused("norm_topk_prob", false);
  ExpectRefused("tie_word_embeddings", true);
  ExpectRefused("moe_layer_freq", 2);
  ExpectRefused("model_type", "deepseek_v3");
  ExpectRefused("num_key_value_heads", 1);
}

TEST(ModelConfigTest, RefusesUnknownMissingMistypedAndOutOfRangeKeys) {
  ExpectRefused("index_topkk", 4);
  ExpectRefused("index_topk", 0);
  ExpectRefused("hidden_size", "7168");
  ExpectRefused("hidden_size", 7168.0);
  ExpectRefused("vocab_size", uint64_t{18446744073709551615u});
  ExpectRefused("rms_norm_eps", 0);
  ExpectRefused("qk_rope_head_dim", 63);
  ExpectRefused("n_group", 7);
  ExpectRefused("topk_group", 9);
  ExpectRefused("first_k_dense_replace", 62);
  for (const char* key : {"kv_lora_rank", "model_type", "rope_theta"}) {
    Json json = V32Config();
    json.erase(key);
    EXPECT_TRUE(absl::StrContains(Refusal(json), key)) << Refusal(json);
  }
}

TEST(ModelConfigTest, SizesAreBoundedTogetherNotOneByOneOnly) {
  const auto refusal = [](const Json& changes) {
    Json json = V32Config();
    json.update(changes);
    json["num_key_value_heads"] = json["num_attention_heads"];
    return Refusal(json);
  };
  // 201 million tensors, which would be listed before one is missed.
  const std::string many = refusal({{"num_hidden_layers", 1024},
                                    {"n_routed_experts", 65536},
                                    {"moe_intermediate_size", 1},
                                    {"hidden_size", 1}});
  EXPECT_TRUE(absl::StrContains(many, "num_hidden_layers 1024")) << many;
  EXPECT_TRUE(absl::StrContains(many, "n_routed_experts 65536")) << many;
  // 2^64 and more parameters.
  const std::string large = refusal({{"num_hidden_layers", 512},
                                     {"hidden_size", 1 << 20},
                                     {"intermediate_size", 1 << 20},
                                     {"moe_intermediate_size", 1 << 20}});
  EXPECT_TRUE(absl::StrContains(large, "parameters")) << large;
  // Few parameters, but more numbers for a token than can be laid out.
  const std::string wide = refusal({{"num_hidden_layers", 1024},
                                    {"first_k_dense_replace", 1024},
                                    {"num_attention_heads", 4096},
                                    {"kv_lora_rank", 1 << 14},
                                    {"hidden_size", 1},
                                    {"q_lora_rank", 1},
                                    {"intermediate_size", 1},
                                    {"qk_nope_head_dim", 1},
                                    {"v_head_dim", 1}});
  EXPECT_TRUE(absl::StrContains(wide, "for each token")) << wide;
}

TEST(ModelConfigTest, SizesThatContradictEachOtherAreRefused) {
  Json json = V32Config();
  json["rope_scaling"]["original_max_position_embeddings"] = 163841;
  EXPECT_TRUE(absl::StrContains(Refusal(json), "163841")) << Refusal(json);
  json = V32Config();
  json["pad_token_id"] = 129280;
  EXPECT_TRUE(absl::StrContains(Refusal(json), "pad_token_id"))
      << Refusal(json);
}

TEST(ModelConfigTest, ARotaryPartThatNoKernelTakesIsRefused) {
  Json json = V32Config();
  json["index_head_dim"] = 4096;
  json["qk_rope_head_dim"] = 512;
  EXPECT_EQ(Refusal(json), "");
  for (const int dims : {514, 4096}) {
    json["qk_rope_head_dim"] = dims;
    EXPECT_TRUE(absl::StrContains(Refusal(json), "from 2 to 512"))
        << Refusal(json);
  }
}

TEST(ModelConfigTest, RopeParametersAreSentToTheKeysThatAreRead) {
  Json json = V32Config();
  json["rope_parameters"] = {{"rope_type", "yarn"}, {"rope_theta", 10000}};
  const std::string message = Refusal(json);
  for (const char* key : {"rope_parameters", "rope_scaling", "rope_theta"}) {
    EXPECT_TRUE(absl::StrContains(message, key)) << message;
  }
}

TEST(ModelConfigTest, AByteOrderMarkIsRefusedByName) {
  const auto config = ParseModelConfig("\xEF\xBB\xBF" + V32Config().dump());
  ASSERT_FALSE(config.ok());
  EXPECT_TRUE(absl::StrContains(std::string(config.status().message()),
                                "byte-order mark"))
      << config.status();
}

TEST(ModelConfigTest, KeysThatChangeNothingHereAreCarried) {
  Json json = V32Config();
  json["pad_token_id"] = 2;
  json["auto_map"] = {{"AutoConfig", "configuration_deepseek.DeepseekV3"}};
  const auto config = ParseModelConfig(json.dump());
  ASSERT_TRUE(config.ok()) << config.status();
  const Json written = Json::parse(ModelConfigToJson(*config));
  for (const auto& [key, value] : json.items()) {
    EXPECT_TRUE(written.contains(key) && written[key] == value) << key;
  }
}

Json V32Quantization() {
  return Json::parse(R"({
    "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
    "scale_fmt": "ue8m0", "weight_block_size": [128, 128]})");
}

TEST(ModelConfigTest, ADirectoryInF8E4M3SaysSoAsDeepSeeksDo) {
  Json json = V32Config();
  json["quantization_config"] = V32Quantization();
  const auto config = ParseModelConfig(json.dump());
  ASSERT_TRUE(config.ok()) << config.status();
  const auto written = [&](const char* file_type) {
    return Json::parse(ModelConfigToJson(*config, file_type));
  };
  EXPECT_EQ(written("F8_E4M3")["quantization_config"], V32Quantization());
  EXPECT_EQ(written("F8_E4M3")["torch_dtype"], "bfloat16");
  for (const char* file_type : {"BF16", "F32"}) {
    EXPECT_FALSE(written(file_type).contains("quantization_config"));
  }
  // V3's own has no scale_fmt; null is none.
  json["quantization_config"].erase("scale_fmt");
  EXPECT_TRUE(ParseModelConfig(json.dump()).ok());
  json["quantization_config"] = nullptr;
  EXPECT_TRUE(ParseModelConfig(json.dump()).ok());
}

TEST(ModelConfigTest, OtherQuantizationIsRefusedByItsKey) {
  const auto refusal = [](const std::string& key, const Json& value) {
    Json json = V32Config();
    json["quantization_config"] = V32Quantization();
    if (key.empty()) {
      json["quantization_config"] = value;
    } else if (value.is_null()) {
      json["quantization_config"].erase(key);
    } else {
      json["quantization_config"][key] = value;
    }
    return Refusal(json);
  };
  for (const auto& [key, value] : std::map<std::string, Json>{
           {"quant_method", "gptq"},
           {"fmt", "e5m2"},
           {"scale_fmt", "float"},
           {"activation_scheme", "static"},
           {"weight_block_size", Json::array({64, 128})},
           {"bits", 8}}) {
    EXPECT_TRUE(absl::StrContains(
        refusal(key, value),
        absl::StrCat("quantization_config.", key, " is ", value.dump())))
        << refusal(key, value);
  }
  EXPECT_TRUE(absl::StrContains(
      refusal("weight_block_size", nullptr),
      "the key quantization_config.weight_block_size is missing"));
  EXPECT_TRUE(
      absl::StrContains(refusal("", "fp8"), "quantization_config is \"fp8\""));
}

TEST(ModelConfigTest, RefusesRopeScalingThatItDoesNotCompute) {
  const auto refused = [](const std::string& key, const Json& value) {
    Json json = V32Config();
    json["rope_scaling"][key] = value;
    return absl::StrContains(Refusal(json), key);
  };
  EXPECT_TRUE(refused("type", "linear"));
  EXPECT_TRUE(refused("rope_type", "dynamic"));
  EXPECT_TRUE(refused("mscale", 0.7));  // unlike mscale_all_dim
  EXPECT_TRUE(refused("truncate", false));
  EXPECT_TRUE(refused("factor", 0));
}

}  // namespace
}  // namespace temper
