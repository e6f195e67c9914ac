#include "learner/train/sft_state.h"

#include "absl/strings/str_cat.h"
#include "google/protobuf/text_format.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"

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

absl::Status SaveSftState(const std::string& dir, const SftState& state) {
  std::string config;
  // As text: a person can read what a making began with, and a version with
  // more keys can read one that began without them.
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
  // The checkpoint's checksums have been verified by now, so what is wrong here
  // was written wrong: DataLoss, and the next older one is tried.
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

}  // namespace temper
