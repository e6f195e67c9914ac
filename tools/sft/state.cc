#include "tools/sft/state.h"

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
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

// Of a field that is not repeated.
std::string Value(const google::protobuf::Message& message,
                  const google::protobuf::FieldDescriptor* field) {
  if (!message.GetReflection()->HasField(message, field)) return "unset";
  std::string text;
  google::protobuf::TextFormat::PrintFieldValueToString(message, field,
                                                        /*index=*/-1, &text);
  return text;
}

// The first field that differs, with both values; "" if none does. The fields
// are scalars, but for the repeated `stage`.
std::string Difference(const google::protobuf::Message& was,
                       const google::protobuf::Message& now) {
  const google::protobuf::Descriptor* type = was.GetDescriptor();
  for (int f = 0; f < type->field_count(); ++f) {
    const google::protobuf::FieldDescriptor* field = type->field(f);
    if (!field->is_repeated()) {
      const std::string before = Value(was, field), after = Value(now, field);
      if (before == after) continue;
      return absl::StrCat(field->name(), " is ", after, ", and began as ",
                          before);
    }
    const int count = was.GetReflection()->FieldSize(was, field);
    const int count_now = now.GetReflection()->FieldSize(now, field);
    if (count != count_now) {
      return absl::StrCat("there are ", count_now, " of ", field->name(),
                          ", and it began with ", count);
    }
    for (int i = 0; i < count; ++i) {
      const std::string inner =
          Difference(was.GetReflection()->GetRepeatedMessage(was, field, i),
                     now.GetReflection()->GetRepeatedMessage(now, field, i));
      if (!inner.empty()) {
        return absl::StrCat(field->name(), " ", i + 1, ": ", inner);
      }
    }
  }
  return "";
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
  const std::string difference = Difference(was, now);
  if (difference.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(difference, "; only threads and save_interval may change"));
}

}  // namespace temper
