#include "learner/train/learner_state.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/model_files.h"
#include "kernels/model/safetensors.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

constexpr uint64_t kStateBytesMax = 1 << 16;
// Of the moments on their way to a file.
constexpr int64_t kPieceElements = 1 << 20;

}  // namespace

absl::Status SaveLearnerState(const std::string& dir,
                              const std::string& files_dir,
                              const MasterWeights& weights,
                              const Optimizer& optimizer,
                              const LearnerCounters& counters) {
  const std::string model_dir = absl::StrCat(dir, "/model");
  RETURN_IF_ERROR(MakeDirectories(model_dir));
  RETURN_IF_ERROR(CopyModelFiles(files_dir, model_dir));
  RETURN_IF_ERROR(weights.Save(model_dir, "F32"));
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
  const int64_t end = optimizer.moments();
  SafetensorsEntry entry;
  entry.name = "moments";
  entry.dtype = "F32";
  // Written piece by piece: both moments are twice the model, and a copy of
  // them is not in the memory plan.
  entry.shape = {2, end / 2};
  entry.bytes = static_cast<uint64_t>(end) * sizeof(float);
  std::vector<float> piece;
  return WriteSafetensors(
      path, {entry}, [&](size_t, const ByteSink& sink) -> absl::Status {
        for (int64_t begin = 0; begin < end; begin += kPieceElements) {
          piece.resize(std::min(kPieceElements, end - begin));
          RETURN_IF_ERROR(optimizer.CopyMoments(begin, &piece));
          RETURN_IF_ERROR(sink(piece.data(), piece.size() * sizeof(float)));
        }
        return absl::OkStatus();
      });
}

absl::Status LoadMoments(const std::string& path, int64_t steps,
                         Optimizer* optimizer) {
  ASSIGN_OR_RETURN(const auto file, Safetensors::Open(path));
  const SafetensorsEntry* entry = file->Find("moments");
  if (entry == nullptr) {
    return absl::DataLossError(absl::StrCat(path, " has no \"moments\""));
  }
  // SetState reads as many values as this model has, from a mapped file.
  if (entry->dtype != "F32" ||
      entry->bytes != uint64_t(optimizer->moments()) * sizeof(float)) {
    return absl::DataLossError(absl::StrCat(
        path, ": \"moments\" is ", entry->dtype, entry->ShapeString(), ", not ",
        optimizer->moments(), " values of F32"));
  }
  return optimizer->SetState(steps, entry->data);
}

absl::StatusOr<LearnerCounters> ReadLearnerCounters(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/state.json");
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kStateBytesMax));
  // A damaged file is data, not a bug: no exception, and the caller tries an
  // older checkpoint.
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
