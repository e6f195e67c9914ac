#include "tools/sft_state.h"

#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr uint64_t kStateBytesMax = 1 << 20;

std::string ConfigPath(const std::string& dir) {
  return absl::StrCat(dir, "/config.textproto");
}

std::string StatePath(const std::string& dir) {
  return absl::StrCat(dir, "/state.json");
}

absl::Status Parse(const nlohmann::json& json, SftState* state) {
  struct Number {
    const char* key;
    int64_t* value;
  };
  for (const auto& [key, value] :
       {Number{"steps", &state->steps}, Number{"step", &state->step},
        Number{"model_updates", &state->updates.model},
        Number{"indexer_updates", &state->updates.indexer}}) {
    if (!json.contains(key) || !json[key].is_number_unsigned()) {
      return absl::DataLossError(
          absl::StrCat("\"", key, "\" is missing or no number"));
    }
    *value = json[key].get<int64_t>();
  }
  struct Text {
    const char* key;
    std::string* value;
  };
  for (const auto& [key, value] :
       {Text{"revision", &state->revision},
        Text{"demonstrations_sha256", &state->demonstrations_sha256},
        Text{"digest_early", &state->digest_early}}) {
    if (!json.contains(key) || !json[key].is_string()) {
      return absl::DataLossError(
          absl::StrCat("\"", key, "\" is missing or no text"));
    }
    *value = json[key].get<std::string>();
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MakePathsAbsolute(SftConfig* config) {
  for (std::string* path : {
           config->has_model() ? config->mutable_model() : nullptr,
           config->has_model_config() ? config->mutable_model_config()
                                      : nullptr,
           config->has_tokenizer() && config->tokenizer() != "train"
               ? config->mutable_tokenizer()
               : nullptr,
           config->demonstrations() != "quickstart"
               ? config->mutable_demonstrations()
               : nullptr,
           config->mutable_output(),
       }) {
    if (path == nullptr) continue;
    ASSIGN_OR_RETURN(*path, AbsolutePath(*path));
  }
  return absl::OkStatus();
}

absl::Status SaveSftState(const std::string& dir, const SftState& state) {
  std::string config;
  CHECK(google::protobuf::TextFormat::PrintToString(state.config, &config));
  RETURN_IF_ERROR(WriteFileDurably(ConfigPath(dir), config));
  const nlohmann::json json = {
      {"steps", state.steps},
      {"revision", state.revision},
      {"demonstrations_sha256", state.demonstrations_sha256},
      {"step", state.step},
      {"model_updates", state.updates.model},
      {"indexer_updates", state.updates.indexer},
      {"digest_early", state.digest_early}};
  return WriteFileDurably(StatePath(dir), json.dump(2) + "\n");
}

absl::StatusOr<SftState> ReadSftState(const std::string& dir) {
  SftState state;
  ASSIGN_OR_RETURN(const std::string text,
                   ReadFile(StatePath(dir), kStateBytesMax));
  const auto json =
      nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const absl::Status parsed = Parse(json, &state);
  if (!parsed.ok()) {
    return absl::DataLossError(
        absl::StrCat(StatePath(dir), ": ", std::string(parsed.message())));
  }
  ASSIGN_OR_RETURN(const std::string config,
                   ReadFile(ConfigPath(dir), kStateBytesMax));
  if (!google::protobuf::TextFormat::ParseFromString(config, &state.config)) {
    return absl::DataLossError(
        absl::StrCat(ConfigPath(dir), " is no SftConfig"));
  }
  return state;
}

absl::Status CheckSameMaking(SftConfig was, SftConfig now) {
  for (SftConfig* config : {&was, &now}) {
    config->clear_threads();
    config->clear_save_interval();
    config->clear_output();
  }
  google::protobuf::util::MessageDifferencer differencer;
  std::string differences;
  differencer.ReportDifferencesToString(&differences);
  if (differencer.Compare(was, now)) return absl::OkStatus();
  // A line each: "modified: stage[1].learning_rate: 0.001 -> 0.002".
  return absl::InvalidArgumentError(
      absl::StrCat("the configuration is not what it began with: ",
                   differences.substr(0, differences.find('\n')),
                   "; only threads and save_interval may change"));
}

}  // namespace temper
