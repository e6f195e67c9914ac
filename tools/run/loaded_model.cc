#include "tools/run/loaded_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/chat/tokens.h"
#include "kernels/model/model_files.h"
#include "kernels/model/tokenizer_file.h"
#include "nlohmann/json.hpp"
#include "tools/cli/next_step.h"
#include "tools/cli/print.h"

namespace temper {

namespace {

// Whether `status` is of what stands in the file at `path`: it says what is
// needed there, and to name another file is no advice.
bool IsOfContent(const absl::Status& status, const std::string& path) {
  return absl::StartsWith(std::string(status.message()), path + ": ");
}

absl::Status CheckRotation(const std::string& dir, const ModelConfig& config,
                           const Numerics& numerics) {
  const absl::Status rotates =
      PublishedWeights::CheckRotation(config, numerics);
  return absl::Status(rotates.code(),
                      absl::StrCat(dir, "/config.json: ", rotates.message()));
}

absl::StatusOr<StoredCodes> CountNamedCodes(const std::string& dir,
                                            const ModelConfig& config) {
  const auto weights = WeightsFile::Open(config, dir);
  RETURN_IF_ERROR(IfUnusable(weights.status(), kNameAModel));
  const auto codes = weights->CountCodes();
  RETURN_IF_ERROR(IfUnusable(codes.status(), kNameAModel));
  return *codes;
}

}  // namespace

absl::Status CheckTokenizerFits(const Tokenizer& tokenizer,
                                const ModelConfig& config) {
  const absl::Status size = CheckVocabulary(tokenizer, config.vocab_size);
  if (!size.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(size.message()), "; ", kNameATokenizer));
  }
  struct Named {
    const char* key;
    int64_t id;
    int64_t missing;  // what it is without the key
    const char* token;
  };
  const ModelConfig none;
  for (const Named& named : {Named{"bos_token_id", config.bos_token_id,
                                   none.bos_token_id, kBosToken},
                             Named{"eos_token_id", config.eos_token_id,
                                   none.eos_token_id, kEosToken}}) {
    const auto id = tokenizer.SpecialId(named.token);
    // Which of the two is right nobody can know: a wrong end token is a model
    // that never stops.
    if (!id.has_value() || *id == named.id) continue;
    // The default is not told from the number that equals it.
    const bool may_lack = named.id == named.missing;
    return absl::InvalidArgumentError(absl::StrCat(
        named.token, " has id ", *id, " in tokenizer.json, but ", named.key,
        " of config.json is ", named.id,
        may_lack ? " (as where the key is missing)" : "", "; make them equal"));
  }
  return absl::OkStatus();
}

absl::Status CheckGenerationConfig(const Tokenizer& tokenizer,
                                   const std::string& path,
                                   const std::string& text) {
  const auto json =
      nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto id = tokenizer.SpecialId(kEosToken);
  if (!json.is_object() || !json.contains("eos_token_id") || !id.has_value()) {
    return absl::OkStatus();
  }
  const nlohmann::json& ends = json["eos_token_id"];
  // One, or a list of which each ends an answer.
  if (ends.is_null() || ends == *id ||
      (ends.is_array() &&
       std::find(ends.begin(), ends.end(), *id) != ends.end())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": eos_token_id is not ", *id, ", which ", kEosToken,
                   " has in tokenizer.json; make them equal, or remove the "
                   "file: it goes into every checkpoint, and other programs "
                   "end an answer by it"));
}

absl::StatusOr<ModelConfig> ReadNamedConfig(const std::string& dir) {
  auto config = ReadModelConfig(dir);
  if (IsOfContent(config.status(), dir + "/config.json")) return config;
  RETURN_IF_ERROR(IfUnusable(config.status(), kNameAModel));
  return config;
}

absl::StatusOr<std::unique_ptr<MasterWeights>> LoadNamedMasters(
    Backend* backend, const std::string& dir) {
  ASSIGN_OR_RETURN(const ModelConfig config, ReadNamedConfig(dir));
  auto weights = MasterWeights::Load(backend, config, dir);
  RETURN_IF_ERROR(IfUnusable(weights.status(), kNameAModel));
  return weights;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadNamedTokenizer(
    const std::string& path, const ModelConfig& config) {
  auto tokenizer = LoadTokenizer(path);
  if (IsOfContent(tokenizer.status(), path)) return tokenizer.status();
  RETURN_IF_ERROR(IfUnusable(tokenizer.status(), kNameATokenizer));
  const absl::Status fits = CheckTokenizerFits(**tokenizer, config);
  if (fits.ok()) return tokenizer;
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": ", std::string(fits.message())));
}

absl::StatusOr<ModelConfig> CheckModelWithoutWeights(const std::string& dir) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadNamedConfig(dir));
  RETURN_IF_ERROR(LoadNamedTokenizer(dir + "/tokenizer.json", config).status());
  return config;
}

absl::StatusOr<NamedModel> CheckNamedModel(const std::string& dir,
                                           const Numerics& numerics) {
  NamedModel model;
  ASSIGN_OR_RETURN(model.config, ReadNamedConfig(dir));
  RETURN_IF_ERROR(CheckRotation(dir, model.config, numerics));
  // By their headers, and scales: whole files are read where they are used.
  ASSIGN_OR_RETURN(model.codes, CountNamedCodes(dir, model.config));
  ASSIGN_OR_RETURN(const auto tokenizer,
                   LoadNamedTokenizer(dir + "/tokenizer.json", model.config));
  const std::string path = dir + "/generation_config.json";
  // One that cannot be read is for those to tell who copy it.
  if (const auto text = ReadFile(path, kModelFileBytesMax); text.ok()) {
    RETURN_IF_ERROR(CheckGenerationConfig(*tokenizer, path, *text));
  }
  return model;
}

std::string WordsOf(const StoredCodes& codes, const Numerics& numerics) {
  if (codes.matrices == 0) return "";
  const std::string stored =
      absl::StrCat(codes.matrices, " matrices stored in F8_E4M3");
  if (numerics != kFp8) return absl::StrCat(stored, ", dequantised");
  if (codes.of_other_scales == 0) {
    return absl::StrCat(stored, ", whose values are kept");
  }
  return absl::StrCat(stored, ", of which ", codes.of_other_scales,
                      " have scales that are no powers of two from 2^-22 on: "
                      "dequantised and quantised again");
}

absl::StatusOr<LoadedModel> LoadModel(Backend* backend,
                                      const Numerics& numerics,
                                      const std::string& dir) {
  LoadedModel model;
  ASSIGN_OR_RETURN(const ModelConfig config, ReadNamedConfig(dir));
  RETURN_IF_ERROR(CheckRotation(dir, config, numerics));
  // Before the weights, which take longest.
  ASSIGN_OR_RETURN(model.tokenizer,
                   LoadNamedTokenizer(dir + "/tokenizer.json", config));
  ASSIGN_OR_RETURN(const StoredCodes codes, CountNamedCodes(dir, config));
  if (const std::string words = WordsOf(codes, numerics); !words.empty()) {
    PrintErr("%s: %s\n", dir, words);
  }
  auto weights =
      PublishedWeights::Load(backend, config, numerics, Passes::kForward, dir);
  RETURN_IF_ERROR(IfUnusable(weights.status(), kNameAModel));
  model.weights = *std::move(weights);
  return model;
}

}  // namespace temper
