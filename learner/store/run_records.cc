#include "learner/store/run_records.h"

#include <cerrno>
#include <cstdio>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/checksum.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

// The newest, and one to fall back on where that is damaged.
constexpr int kCheckpointsKept = 2;
constexpr size_t kBlockBytes = 1 << 20;

}  // namespace

absl::StatusOr<std::string> TasksSha256(const std::string& run_dir) {
  const std::string path = run_dir + "/tasks.jsonl";
  // Piece by piece: a task file may be larger than one wants in memory.
  const std::unique_ptr<FILE, int (*)(FILE*)> file(fopen(path.c_str(), "re"),
                                                   &fclose);
  if (file == nullptr) return FileError("open", path, errno);
  Sha256 sha256;
  std::vector<char> block(kBlockBytes);
  for (;;) {
    errno = 0;
    const size_t size = fread(block.data(), 1, block.size(), file.get());
    sha256.Update(block.data(), size);
    if (ferror(file.get()) != 0) return FileError("read", path, errno);
    if (size < block.size()) return HexOf(sha256.Finish());
  }
}

absl::Status CheckSameTasks(const RunInfo& was, const std::string& now,
                            const std::string& run_dir) {
  if (was.tasks_sha256.empty() || was.tasks_sha256 == now) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      run_dir, "/tasks.jsonl has changed since the run began: its SHA-256 is ",
      now, ", run.db has ", was.tasks_sha256,
      "; put it back as it was, or start a new run with the other tasks"));
}

absl::Status CheckSameArithmetic(const RunInfo& was, const RunInfo& now,
                                 const std::string& run_dir) {
  const bool same_numerics =
      was.numerics.empty() || was.numerics == now.numerics;
  if (same_numerics && was.device == now.device) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      run_dir, " was computed in ", was.numerics, " on ", was.device,
      " and would go on in ", now.numerics, " on ", now.device,
      "; go on with it as it was, or start a new run"));
}

absl::StatusOr<std::unique_ptr<RunRecords>> RunRecords::Open(
    const std::string& run_dir, Clock* clock) {
  std::unique_ptr<RunRecords> records(new RunRecords());
  records->run_dir_ = run_dir;
  ASSIGN_OR_RETURN(records->db_,
                   RunDb::OpenWriter(absl::StrCat(run_dir, "/run.db"), clock));
  CheckpointOptions options;
  options.directory = absl::StrCat(run_dir, "/checkpoints");
  options.keep = kCheckpointsKept;
  ASSIGN_OR_RETURN(records->checkpoints_, CheckpointStore::Create(options));
  return records;
}

absl::StatusOr<std::unique_ptr<RunRecords>> RunRecords::Start(
    const std::string& run_dir, const RunInfo& info, Clock* clock) {
  ASSIGN_OR_RETURN(auto records, Open(run_dir, clock));
  RETURN_IF_ERROR(records->db_->StartRun(info));
  RETURN_IF_ERROR(records->OpenLedger());
  records->FollowEvents();
  return records;
}

absl::StatusOr<std::unique_ptr<RunRecords>> RunRecords::Resume(
    const std::string& run_dir, const RunInfo& info, Clock* clock) {
  ASSIGN_OR_RETURN(auto records, Open(run_dir, clock));
  const absl::StatusOr<RunInfo> was = records->db_->ReadRun();
  if (absl::IsNotFound(was.status())) {
    RETURN_IF_ERROR(records->db_->StartRun(info));
  } else {
    RETURN_IF_ERROR(was.status());
    RETURN_IF_ERROR(CheckSameTasks(*was, info.tasks_sha256, run_dir));
    RETURN_IF_ERROR(CheckSameArithmetic(*was, info, run_dir));
  }
  // GoOn begins the attempt, with the configuration of the one before;
  // RecordAttempt then says this one's. A death between the two leaves an
  // attempt that ran nothing.
  RETURN_IF_ERROR(records->OpenLedger());
  RETURN_IF_ERROR(records->GoOn());
  RETURN_IF_ERROR(records->db_->RecordAttempt(info));
  records->FollowEvents();
  return records;
}

absl::Status RunRecords::OpenLedger() {
  ASSIGN_OR_RETURN(
      ledger_, Ledger::Create(db_.get(), absl::StrCat(run_dir_, "/segments")));
  return absl::OkStatus();
}

void RunRecords::FollowEvents() {
  events_ = std::make_unique<EventFollower>(
      absl::StrCat(run_dir_, "/logs/events.log"), db_.get());
}

absl::Status RunRecords::GoOn() {
  // A checkpoint of an attempt that no longer counts is none to go on from.
  const auto in_lineage = [this](int64_t step, const std::string& directory) {
    const auto counters = ReadLearnerCounters(directory);
    if (!counters.ok()) return counters.status();
    const auto survives = db_->InLineage(counters->attempt, step);
    if (!survives.ok()) {
      // Whatever its code: it is of run.db, and no reason to skip a checkpoint.
      return absl::InternalError(std::string(survives.status().message()));
    }
    return *survives ? absl::OkStatus()
                     : absl::FailedPreconditionError(
                           absl::StrCat("attempt ", counters->attempt,
                                        ", step ", step, " was rolled back"));
  };
  // What a checkpoint's own files say is not enough: after a resume from step 4
  // the older attempt's step 6 lies there still, and verifies.
  const auto found = checkpoints_->LoadNewest(in_lineage);
  ASSIGN_OR_RETURN(const bool untouched, IsUntouched());
  if (found.ok()) {
    for (const std::string& skipped : found->skipped) {
      Event(kLearner, EventKind::kCheckpointSkipped, skipped);
    }
    checkpoint_ = found->directory;
    ASSIGN_OR_RETURN(counters_, ReadLearnerCounters(found->directory));
    // It is this very checkpoint that would be saved.
    saved_step_ = counters_.step;
    // None was ever made: a death before the first. Else there is something
    // that cannot be loaded, and to begin anew in its place would throw it
    // away.
  } else if (!absl::IsNotFound(found.status()) || !untouched) {
    return found.status();
  }
  ASSIGN_OR_RETURN(const ResumeSummary summary,
                   ledger_->Resume(counters_.attempt, counters_.step));
  counters_.attempt = summary.attempt;
  Event(kLearner, EventKind::kResumed,
        absl::StrCat("from step ", counters_.step, "; ", summary.steps_undone,
                     " steps undone, ", summary.samples_kept, " samples kept, ",
                     summary.samples_reissued, " issued again"));
  return absl::OkStatus();
}

absl::StatusOr<bool> RunRecords::IsUntouched() {
  ASSIGN_OR_RETURN(const auto transaction, db_->sqlite()->Begin());
  ASSIGN_OR_RETURN(
      const int64_t made,
      transaction->QueryInt("SELECT (SELECT count(*) FROM checkpoint) + "
                            "(SELECT count(*) FROM step)",
                            {}, 0));
  return made == 0;
}

void RunRecords::Event(const std::string& process, EventKind kind,
                       const std::string& detail) {
  LOG(INFO) << process << " " << NameOf(kind) << ": " << detail;
  if (const absl::Status status = db_->RecordEvent(process, kind, detail);
      !status.ok()) {
    LOG(WARNING) << "cannot record an event: " << status;
  }
}

void RunRecords::TaskFailed(const std::string& task_id,
                            const std::string& environment,
                            const std::string& reason) {
  LOG(WARNING) << "task " << task_id << " of " << environment << ": " << reason;
  if (const absl::Status status =
          db_->RecordTaskFailure(task_id, environment, reason);
      !status.ok()) {
    LOG(WARNING) << "cannot record a task's failure: " << status;
  }
}

absl::Status RunRecords::SaveCheckpoint(int64_t step,
                                        const CheckpointStore::Writer& write) {
  // A stop right after a save asks for the same again; checkpoints of large
  // models take minutes.
  if (saved_step_ == step) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string directory,
                   checkpoints_->Save(step, write));
  // After the rename: a row without its directory would promise a resume that
  // is not possible; a directory without its row is found all the same.
  RETURN_IF_ERROR(db_->RecordCheckpoint(step, directory));
  saved_step_ = step;
  return absl::OkStatus();
}

}  // namespace temper
