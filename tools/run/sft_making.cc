#include "tools/run/sft_making.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/base/checksum.h"
#include "kernels/base/file.h"
#include "kernels/base/file_lock.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/tokenizer_file.h"
#include "learner/store/checkpoint.h"
#include "learner/train/sft_state.h"
#include "learner/train/sft_trainer.h"
#include "nlohmann/json.hpp"
#include "tools/cli/next_step.h"
#include "tools/cli/print.h"
#include "tools/config/sft_config.h"
#include "tools/run/compute.h"
#include "tools/run/sft_inputs.h"
#include "tools/run/stop_signal.h"

namespace temper {
namespace {

constexpr uint64_t kModelBytesMax = uint64_t{1} << 40;
constexpr int64_t kDigestStep = 20;
constexpr int64_t kReportEverySteps = 20;
constexpr double kReportEverySeconds = 10;

std::string Unfinished(const std::string& output) {
  return output + "/unfinished";
}

std::string ManifestPath(const std::string& output) {
  return output + "/manifest.json";
}

bool Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

absl::StatusOr<std::unique_ptr<FileLock>> TakeLock(const std::string& output) {
  auto lock = FileLock::Take(Unfinished(output) + "/lock");
  if (!absl::IsFailedPrecondition(lock.status())) return lock;
  return absl::FailedPreconditionError(
      absl::StrCat(output, " is being made by another process; stop it first"));
}

// Whether a new model can be made there: the directory is new or empty.
absl::Status CheckOutput(const std::string& output) {
  const auto names = ListDirectory(output);
  if (!names.ok()) {
    return absl::IsNotFound(names.status())
               ? absl::OkStatus()
               : IfUnusable(names.status(), "name a new directory as --output");
  }
  if (names->empty()) return absl::OkStatus();
  if (Exists(Unfinished(output))) {
    RETURN_IF_ERROR(TakeLock(output).status());  // it may be made just now
    return absl::InvalidArgumentError(
        absl::StrCat(output,
                     " is unfinished; go on with it by `temper sft "
                     "--resume ",
                     output, "`, or give another --output"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(output, " exists and holds ", names->front(),
                   "; give another --output, or remove what is there"));
}

absl::StatusOr<std::string> FileDigest(const std::string& path) {
  Sha256 digest;
  RETURN_IF_ERROR(ReadPieces(
      path, kModelBytesMax,
      [&digest](const char* data, size_t size) { digest.Update(data, size); }));
  return HexOf(digest.Finish());
}

// Removes what a making that was killed in its last writes left beside the
// model: files under the names that kernels/base/file.cc gives them until they
// are whole. The directory was empty, so all of it is ours.
absl::Status ClearTemporaries(const std::string& output) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(output));
  for (const std::string& name : names) {
    const std::vector<std::string> parts = absl::StrSplit(name, '.');
    const size_t n = parts.size();
    uint64_t number;
    if (n > 3 && parts[n - 3] == "tmp" &&
        absl::SimpleAtoi(parts[n - 2], &number) &&
        absl::SimpleAtoi(parts[n - 1], &number)) {
      RETURN_IF_ERROR(RemoveAll(absl::StrCat(output, "/", name)));
    }
  }
  return absl::OkStatus();
}

class Making {
 public:
  absl::Status Begin(const SftRequest& request);
  absl::Status Resume(const SftRequest& request,
                      std::unique_ptr<FileLock> lock);
  // To the last step, or a checkpoint and Cancelled after a stop signal.
  absl::Status Train();
  absl::Status WriteModel();
  const std::string& output() const { return output_; }

 private:
  absl::Status CheckUnchanged(const SftRequest& request);
  // From here on the making is of one kind of device.
  absl::Status SettleDevice(const ComputeWish& wish);
  absl::Status Open();  // the trainer
  absl::Status Save();
  void Report(const SftProgress& progress);

  std::string output_;  // as the user named it
  SftConfig config_;
  SftState state_;
  BackendChoice compute_;
  std::unique_ptr<Backend> backend_;
  SftInputs inputs_;
  std::unique_ptr<SftTrainer> trainer_;
  std::unique_ptr<FileLock> lock_;
  std::unique_ptr<CheckpointStore> store_;
  // For the report: of this process.
  int64_t steps_made_ = 0;
  double seconds_ = 0;
  double seconds_unreported_ = 0;
};

absl::Status Making::Begin(const SftRequest& request) {
  ASSIGN_OR_RETURN(config_, ReadSftConfig(request.config_path, request.output));
  output_ = config_.output();
  RETURN_IF_ERROR(CheckOutput(output_));
  state_.config = config_;
  // A resume may be called from elsewhere. What is printed stays as the user
  // wrote it.
  RETURN_IF_ERROR(MakePathsAbsolute(&state_.config));
  RETURN_IF_ERROR(SettleDevice(WishOf(config_)));
  state_.revision = request.revision;
  state_.steps = TotalSteps(config_);
  if (request.steps > 0) state_.steps = std::min(state_.steps, request.steps);
  ASSIGN_OR_RETURN(backend_, NewComputeBackend(WishOf(config_)));
  ASSIGN_OR_RETURN(inputs_,
                   ReadSftInputs(config_, state_.steps, backend_.get()));
  state_.demonstrations_sha256 = inputs_.source->digest();
  RETURN_IF_ERROR(Open());
  // Again: reading took a while.
  RETURN_IF_ERROR(CheckOutput(output_));
  RETURN_IF_ERROR(IfUnusable(MakeDirectories(Unfinished(output_)),
                             "name a directory that can be made as --output"));
  ASSIGN_OR_RETURN(lock_, TakeLock(output_));
  CheckpointOptions options;
  options.directory = Unfinished(output_);
  ASSIGN_OR_RETURN(store_, CheckpointStore::Create(options));
  return Save();  // step 0: it can be resumed from the start
}

absl::Status Making::Resume(const SftRequest& request,
                            std::unique_ptr<FileLock> lock) {
  output_ = *request.resume;
  lock_ = std::move(lock);
  CheckpointOptions options;
  options.directory = Unfinished(output_);
  ASSIGN_OR_RETURN(store_, CheckpointStore::Create(options));
  auto loaded = store_->LoadNewest([](int64_t, const std::string& directory) {
    return ReadSftState(directory).status();
  });
  // None is left. Else there is one that cannot be read just now.
  if (absl::IsNotFound(loaded.status())) {
    return absl::NotFoundError(
        absl::StrCat(std::string(loaded.status().message()), "; remove ",
                     output_, " and begin anew"));
  }
  RETURN_IF_ERROR(loaded.status());
  for (const std::string& skipped : loaded->skipped) {
    PrintErr("%s\n", skipped);
  }
  ASSIGN_OR_RETURN(state_, ReadSftState(loaded->directory));
  RETURN_IF_ERROR(CheckUnchanged(request));
  RETURN_IF_ERROR(SettleDevice(ToGoOn(WishOf(config_))));
  ASSIGN_OR_RETURN(backend_, NewComputeBackend(WishOf(config_)));
  const std::string model_dir = loaded->directory + "/model";
  ASSIGN_OR_RETURN(const ModelConfig model, ReadModelConfig(model_dir));
  ASSIGN_OR_RETURN(inputs_.weights,
                   MasterWeights::Load(backend_.get(), model, model_dir));
  // The checkpoint has its own copy of all that came from the model: it may
  // have changed, or gone.
  ASSIGN_OR_RETURN(inputs_.tokenizer,
                   LoadTokenizer(model_dir + "/tokenizer.json"));
  ASSIGN_OR_RETURN(inputs_.files, ReadModelFiles(model_dir));
  RETURN_IF_ERROR(Open());
  PrintErr("going on from %s\n", loaded->directory);
  return trainer_->Resume(state_.step, state_.updates, loaded->directory);
}

absl::Status Making::SettleDevice(const ComputeWish& wish) {
  ASSIGN_OR_RETURN(compute_, ChooseComputeBackend(wish));
  config_.set_device(KeyOf(compute_.device));
  state_.config.set_device(config_.device());
  return absl::OkStatus();
}

// Sets the configuration to go on with, and opens the demonstrations.
absl::Status Making::CheckUnchanged(const SftRequest& request) {
  // As this version has it: one that began it may have known fewer keys.
  RETURN_IF_ERROR(ResolveSftConfig(&state_.config));
  // One of before there was a choice.
  if (state_.config.device() == RunConfig::auto_) {
    state_.config.set_device(RunConfig::cpu);
  }
  config_ = state_.config;
  if (!request.config_path.empty()) {
    ASSIGN_OR_RETURN(config_, ReadSftConfig(request.config_path, output_));
    RETURN_IF_ERROR(MakePathsAbsolute(&config_));
    // What auto came to when it began.
    if (config_.device() == RunConfig::auto_) {
      config_.set_device(state_.config.device());
    }
    const absl::Status same = CheckSameMaking(state_.config, config_);
    if (!same.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(request.config_path, ": ", std::string(same.message()),
                       "; leave it out to go on with ", output_,
                       " as it began, or give another --output"));
    }
  }
  ASSIGN_OR_RETURN(inputs_.source, OpenSource(config_));
  const std::string digest = inputs_.source->digest();
  // Positions in the order of training are positions in this file.
  if (digest == state_.demonstrations_sha256) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      config_.demonstrations(), " is not what ", output_,
      " began with: its SHA-256 is ", digest, ", not ",
      state_.demonstrations_sha256,
      "; put the old file back, or begin anew with another --output"));
}

absl::Status Making::Open() {
  ASSIGN_OR_RETURN(
      trainer_,
      SftTrainer::Create(config_, backend_.get(), inputs_.tokenizer.get(),
                         inputs_.source.get(), inputs_.weights.get()));
  const ModelConfig& model = inputs_.weights->config();
  PrintErr("%d parameters, %d of them active; %d tokens; %s (%s), %d threads\n",
           model.parameter_count(), model.active_parameter_count(),
           inputs_.tokenizer->vocab_size(), compute_.name, compute_.why,
           ComputeThreads(static_cast<int>(config_.threads())));
  PrintErr(
      "%d steps; a checkpoint every %d in %s, the model at the end in "
      "%s\n",
      state_.steps, config_.save_interval(), Unfinished(output_), output_);
  return absl::OkStatus();
}

absl::Status Making::Save() {
  state_.step = trainer_->step();
  state_.updates = trainer_->updates();
  ASSIGN_OR_RETURN(
      const std::string saved,
      store_->Save(state_.step, [this](const std::string& dir) -> absl::Status {
        const std::string model = dir + "/model";
        RETURN_IF_ERROR(MakeDirectories(model));
        // Whatever output_dtype says: a resume goes on to the same bits.
        RETURN_IF_ERROR(inputs_.weights->Save(model, "F32"));
        RETURN_IF_ERROR(WriteModelFiles(inputs_.files, model));
        RETURN_IF_ERROR(trainer_->SaveOptimizers(dir));
        return SaveSftState(dir, state_);
      }));
  PrintErr("saved %s\n", saved);
  return absl::OkStatus();
}

void Making::Report(const SftProgress& progress) {
  ++steps_made_;
  seconds_ += progress.seconds;
  seconds_unreported_ += progress.seconds;
  const int64_t step = progress.step;
  if (step % kReportEverySteps != 0 && step != state_.steps &&
      steps_made_ > 1 && seconds_unreported_ < kReportEverySeconds) {
    return;
  }
  seconds_unreported_ = 0;
  const double left = seconds_ / static_cast<double>(steps_made_) *
                      static_cast<double>(state_.steps - step);
  PrintErr(
      "%5d/%d  %-16s loss %.4f  indexer kl %.4f  load %.2f  "
      "%.0f rows/s  eta %.0f s\n",
      step, state_.steps, progress.stage, progress.metrics.loss,
      progress.metrics.indexer_kl, progress.metrics.load_max,
      static_cast<double>(progress.metrics.rows) / progress.seconds, left);
}

absl::Status Making::Train() {
  int64_t saved = trainer_->step();
  while (trainer_->step() < state_.steps) {
    // Between two steps: a step is all or nothing.
    if (StopSignalCount() > 0) {
      if (saved != trainer_->step()) RETURN_IF_ERROR(Save());
      return absl::CancelledError(absl::StrCat(
          "stopped after step ", trainer_->step(), " of ", state_.steps,
          "; go on by `temper sft --resume ", output_, "`"));
    }
    ASSIGN_OR_RETURN(const SftProgress progress, trainer_->Step());
    if (progress.step == kDigestStep) {
      state_.digest_early = WeightsDigest(*inputs_.weights);
    }
    Report(progress);
    // Behind the last step the model itself is saved.
    if (progress.step % config_.save_interval() == 0 &&
        progress.step < state_.steps) {
      RETURN_IF_ERROR(Save());
      saved = progress.step;
    }
  }
  return absl::OkStatus();
}

// The manifest is what another making is compared with, step by step and at its
// end. What was not given or not reached has no key. It comes last: with it the
// model is whole.
absl::Status Making::WriteModel() {
  RETURN_IF_ERROR(ClearTemporaries(output_));
  RETURN_IF_ERROR(WriteModelFiles(inputs_.files, output_));
  RETURN_IF_ERROR(inputs_.weights->Save(
      output_, SftConfig::OutputDtype_Name(config_.output_dtype())));
  nlohmann::json manifest = {{"made_by", "temper sft"},
                             {"steps", state_.steps},
                             {"fp32_sha256", WeightsDigest(*inputs_.weights)},
                             {"files", nlohmann::json::object()}};
  if (!state_.revision.empty()) manifest["revision"] = state_.revision;
  if (!state_.digest_early.empty()) {
    manifest[absl::StrCat("fp32_sha256_after_step_", kDigestStep)] =
        state_.digest_early;
  }
  for (const char* name :
       {"config.json", "model.safetensors", "tokenizer.json"}) {
    ASSIGN_OR_RETURN(manifest["files"][name],
                     FileDigest(absl::StrCat(output_, "/", name)));
  }
  RETURN_IF_ERROR(
      WriteFileDurably(ManifestPath(output_), manifest.dump(2) + "\n"));
  RETURN_IF_ERROR(RemoveAll(Unfinished(output_)));
  PrintErr(
      "saved config.json, model.safetensors (%s), tokenizer.json and "
      "manifest.json in %s\n",
      SftConfig::OutputDtype_Name(config_.output_dtype()), output_);
  return absl::OkStatus();
}

absl::Status CheckRequest(const SftRequest& request) {
  if (!request.resume.has_value()) {
    if (!request.config_path.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "CONFIG is not given; name an SftConfig, as "
        "tools/configs/quickstart_sft.textproto is one");
  }
  // A script's variable that is not set: it did not ask for a new model.
  if (request.resume->empty()) {
    return absl::InvalidArgumentError(
        "--resume is empty; name the unfinished output to go on with, or leave "
        "it out to begin anew");
  }
  if (request.output.empty() && request.revision.empty() &&
      request.steps == 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "--resume goes on with what was begun; leave out --output, --revision "
      "and --steps");
}

// The lock on what is unfinished in `output`; null if the model is there, when
// at most the rest of its making is left to remove.
absl::StatusOr<std::unique_ptr<FileLock>> Reopen(const std::string& output) {
  std::unique_ptr<FileLock> lock;
  if (Exists(Unfinished(output))) {
    ASSIGN_OR_RETURN(lock, TakeLock(output));
    if (!Exists(ManifestPath(output))) return lock;
    RETURN_IF_ERROR(RemoveAll(Unfinished(output)));
  } else if (!Exists(ManifestPath(output))) {
    return absl::NotFoundError(
        absl::StrCat("there is nothing in ", output,
                     " that `temper sft` began; name the --output of one"));
  }
  PrintErr(
      "%s is finished, there is nothing to do; to train it further, name "
      "it as the model of another configuration\n",
      output);
  return nullptr;
}

}  // namespace

absl::StatusOr<std::string> RunSft(const SftRequest& request) {
  RETURN_IF_ERROR(CheckRequest(request));
  Making making;
  if (!request.resume.has_value()) {
    RETURN_IF_ERROR(making.Begin(request));
  } else {
    ASSIGN_OR_RETURN(auto lock, Reopen(*request.resume));
    if (lock == nullptr) return *request.resume;
    RETURN_IF_ERROR(making.Resume(request, std::move(lock)));
  }
  absl::Status made = making.Train();
  if (made.ok()) made = making.WriteModel();
  if (made.ok()) return making.output();
  // Of the machine (a full disk, as a rule), not of what is made: what was
  // trained until then is there still.
  if (!absl::IsResourceExhausted(made) && !absl::IsInternal(made) &&
      !absl::IsPermissionDenied(made)) {
    return made;
  }
  return absl::Status(
      made.code(),
      absl::StrCat(std::string(made.message()),
                   "; once that is mended, go on by `temper sft --resume ",
                   making.output(), "`"));
}

}  // namespace temper
