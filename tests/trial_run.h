// A run of `temper train` as tests see it: its files, what run.db tells, and
// the bytes in which runs of one seed must agree.
//
// Runs lie under TEST_TMPDIR. Functions that read a run expect it to have been
// started; errors are those of run.db and the file system.

#ifndef TESTS_TRIAL_RUN_H_
#define TESTS_TRIAL_RUN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "learner/store/sqlite.h"
#include "tests/temper_process.h"

namespace temper {

inline constexpr char kTemper[] = "tools/temper";
inline constexpr char kQuickstartModel[] = "tools/quickstart_model";

// <TEST_TMPDIR>/<name>, and the directory of a run called `run`.
std::string TrialPath(const std::string& name);
std::string RunDir(const std::string& run);

// A whole text or weight file; CHECKs that it can be read.
std::string ReadAll(const std::string& path);

// A small run of the quickstart: groups and samples of a step, and its
// configuration, a file whose path is returned, of so many steps with a
// checkpoint every `save_interval`. CHECKs that it can be written.
inline constexpr int64_t kSmallGroups = 3, kSmallSamples = 4;
std::string WriteSmallConfig(int64_t steps, int64_t save_interval);

// `temper train CONFIG --name RUN MORE`, its output in TrialPath(run), with
// `environment`'s "NAME=value" added to ours.
std::unique_ptr<TemperProcess> StartTrain(
    const std::string& config, const std::string& run,
    const std::vector<std::string>& more = {},
    const std::vector<std::string>& environment = {});

// The command that `err`, a train's standard error, says to resume with; ""
// if it says none.
std::string ResumeCommandIn(const std::string& err);

// The commands that `out`, a train's standard output, names as worth trying,
// without the one that lengthens the run.
std::vector<std::string> NextCommandsIn(const std::string& out);

// Runs a command line as it stands, by a shell.
std::unique_ptr<TemperProcess> RunCommandLine(const std::string& line,
                                              const std::string& output);

// Rows of a run's run.db.
absl::StatusOr<std::vector<SqlRow>> Query(const std::string& run,
                                          const char* sql,
                                          const SqlRow& parameters = {});
// The first value of the first row; 0 if there is none yet.
int64_t QueryNumber(const std::string& run, const char* sql,
                    const SqlRow& parameters = {});
int64_t LastStep(const std::string& run);

// What a finished run left behind, as far as runs must agree.
struct RunFacts {
  // Of every trained sample in order: "step/group/sample ", then the bytes of
  // each branch (tokens, sampled, log-probabilities, kept sets, routes) and of
  // the reward.
  std::vector<std::string> samples;
  std::string weights;  // masters.safetensors of the last checkpoint
  int64_t last_step = 0;
};
absl::StatusOr<RunFacts> ReadFacts(const std::string& run);

// Nothing lost, nothing doubled: Ledger::Audit of a run that has ended.
absl::Status AuditRun(const std::string& run);

}  // namespace temper

#endif  // TESTS_TRIAL_RUN_H_
