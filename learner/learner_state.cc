#include "learner/learner_state.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/safetensors.h"

namespace temper {
namespace {

constexpr uint64_t kStateBytesMax = 1 << 16;
constexpr uint64_t kTokenizerBytesMax = 256 << 20;

}  // namespace

absl::Status SaveLearnerState(const std::string& dir,
                              const std::string& tokenizer_dir,
                              const ModelWeights& weights,
                              const Optimizer& optimizer,
                              const LearnerCounters& counters) {
  const std::string model_dir = absl::StrCat(dir, "/model");
  RETURN_IF_ERROR(MakeDirectories(model_dir));
  RETURN_IF_ERROR(weights.Save(model_dir, "F32"));
  ASSIGN_OR_RETURN(const std::string tokenizer,
                   ReadFile(absl::StrCat(tokenizer_dir, "/tokenizer.json"),
                            kTokenizerBytesMax));
  RETURN_IF_ERROR(
      WriteFileDurably(absl::StrCat(model_dir, "/tokenizer.json"), tokenizer));
  RETURN_IF_ERROR(
      SaveMoments(absl::StrCat(dir, "/optimizer.safetensors"), optimizer));
  const nlohmann::json state = {{"attempt", counters.attempt},
                                {"step", counters.step},
                                {"weight_version", counters.weight_version},
                                {"optimizer_steps", optimizer.steps()}};
  return WriteFileDurably(absl::StrCat(dir, "/state.json"),
                          state.dump(2) + "\n");
}

absl::Status SaveMoments(const std::string& path, const Optimizer& optimizer) {
  ASSIGN_OR_RETURN(const std::vector<float> moments, optimizer.GetMoments());
  SafetensorsEntry entry;
  entry.name = "moments";
  entry.dtype = "F32";
  entry.shape = {2, static_cast<int64_t>(moments.size() / 2)};
  entry.data = reinterpret_cast<const std::byte*>(moments.data());
  entry.bytes = moments.size() * sizeof(float);
  return WriteSafetensors(path, {entry});
}

absl::Status LoadMoments(const std::string& path, int64_t steps,
                         Optimizer* optimizer) {
  ASSIGN_OR_RETURN(const auto file, Safetensors::Open(path));
  const SafetensorsEntry* entry = file->Find("moments");
  if (entry == nullptr) {
    return absl::DataLossError(absl::StrCat(path, " has no \"moments\""));
  }
  ASSIGN_OR_RETURN(const std::vector<float> moments, DecodeFloats(*entry));
  return optimizer->SetState(steps, moments);
}

absl::StatusOr<LearnerCounters> ReadLearnerCounters(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/state.json");
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kStateBytesMax));
  const nlohmann::json state =
      nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  LearnerCounters counters;
  for (const char* key :
       {"attempt", "step", "weight_version", "optimizer_steps"}) {
    if (!state.is_object() || !state.contains(key) ||
        !state[key].is_number_unsigned()) {
      return absl::DataLossError(
          absl::StrCat(path, ": \"", key, "\" is missing or no number"));
    }
  }
  counters.attempt = state["attempt"].get<int64_t>();
  counters.step = state["step"].get<int64_t>();
  counters.weight_version = state["weight_version"].get<uint64_t>();
  counters.optimizer_steps = state["optimizer_steps"].get<int64_t>();
  return counters;
}

absl::Status LoadOptimizerState(const std::string& dir,
                                const LearnerCounters& counters,
                                Optimizer* optimizer) {
  return LoadMoments(absl::StrCat(dir, "/optimizer.safetensors"),
                     counters.optimizer_steps, optimizer);
}

}  // namespace temper
