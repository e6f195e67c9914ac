#include "learner/train/learner_state.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/model_files.h"
#include "kernels/model/safetensors.h"
#include "kernels/model/weights_file.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

constexpr uint64_t kStateBytesMax = 1 << 16;
// Of what is on its way to a file.
constexpr int64_t kPieceElements = 1 << 20;

constexpr char kMasters[] = "masters", kMoments[] = "moments";
constexpr char kMastersFile[] = "/masters.safetensors";

// A file of one tensor of f32, written piece by piece: a copy of masters or
// moments is not in the memory plan.
absl::Status SaveFloats(const std::string& path, const std::string& name,
                        const std::vector<int64_t>& shape,
                        const ValueSource& source) {
  SafetensorsEntry entry;
  entry.name = name;
  entry.dtype = "F32";
  entry.shape = shape;
  const int64_t end = entry.elements();
  entry.bytes = static_cast<uint64_t>(end) * sizeof(float);
  std::vector<float> piece;
  return WriteSafetensors(
      path, {entry}, [&](size_t, const ByteSink& sink) -> absl::Status {
        for (int64_t begin = 0; begin < end; begin += kPieceElements) {
          piece.resize(std::min(kPieceElements, end - begin));
          RETURN_IF_ERROR(source(begin, &piece));
          RETURN_IF_ERROR(sink(piece.data(), piece.size() * sizeof(float)));
        }
        return absl::OkStatus();
      });
}

// Gives `take` that tensor's values, in a mapped file: so many, or DataLoss.
absl::Status LoadFloats(
    const std::string& path, const std::string& name, int64_t elements,
    const std::function<absl::Status(const std::byte* values)>& take) {
  ASSIGN_OR_RETURN(const auto file, Safetensors::Open(path));
  const SafetensorsEntry* entry = file->Find(name);
  if (entry == nullptr) {
    return absl::DataLossError(absl::StrCat(path, " has no \"", name, "\""));
  }
  if (entry->dtype != "F32" || entry->elements() != elements) {
    return absl::DataLossError(absl::StrCat(
        path, ": \"", name, "\" is ", entry->dtype, entry->ShapeString(),
        ", not ", elements, " values of F32"));
  }
  return take(entry->data);
}

}  // namespace

absl::Status SaveLearnerState(const std::string& dir,
                              const std::string& files_dir,
                              const std::string& dtype,
                              const MasterWeights& weights,
                              const Optimizer& optimizer,
                              const LearnerCounters& counters) {
  const std::string model_dir = absl::StrCat(dir, "/model");
  RETURN_IF_ERROR(MakeDirectories(model_dir));
  RETURN_IF_ERROR(CopyModelFiles(files_dir, model_dir));
  RETURN_IF_ERROR(weights.Save(model_dir, dtype));
  if (dtype != "F32") {
    const Tensor all = weights.all();
    RETURN_IF_ERROR(
        SaveFloats(dir + kMastersFile, kMasters, {all.elements()},
                   [&](int64_t begin, std::vector<float>* piece) {
                     const auto count = static_cast<int64_t>(piece->size());
                     return weights.backend()->Read(
                         all.Slice(0, begin, begin + count), piece->data());
                   }));
  }
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
  return SaveFloats(path, kMoments, {2, optimizer.moments() / 2},
                    [&](int64_t begin, std::vector<float>* piece) {
                      return optimizer.CopyMoments(begin, piece);
                    });
}

absl::Status LoadMoments(const std::string& path, int64_t steps,
                         Optimizer* optimizer) {
  return LoadFloats(path, kMoments, optimizer->moments(),
                    [&](const std::byte* values) {
                      return optimizer->SetState(steps, values);
                    });
}

absl::StatusOr<std::unique_ptr<MasterWeights>> LoadMasters(
    const std::string& dir, const ModelConfig& config, Backend* backend) {
  ASSIGN_OR_RETURN(
      auto weights,
      MasterWeights::Load(backend, config, absl::StrCat(dir, "/model")));
  const std::string path = dir + kMastersFile;
  if (access(path.c_str(), F_OK) != 0 && errno == ENOENT) return weights;
  const Tensor all = weights->all();
  RETURN_IF_ERROR(LoadFloats(path, kMasters, all.elements(),
                             [&](const std::byte* values) -> absl::Status {
                               RETURN_IF_ERROR(
                                   backend->CopyFromHost(values, all));
                               return backend->Sync();
                             }));
  return weights;
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
