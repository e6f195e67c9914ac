// What `temper train` shows of its run: reads run.db while the learner writes
// it and prints to stdout what is new there, to stderr signs of life between:
// how far the samples are or, where nobody can sample because no worker is
// connected, that, with the last line of each log that may say why.
//
// Not thread-safe.

#ifndef TOOLS_RUN_RUN_WATCHER_H_
#define TOOLS_RUN_RUN_WATCHER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/clock.h"
#include "learner/store/run_db.h"
#include "tools/view/progress.h"

namespace temper {

class RunWatcher {
 public:
  // To be made before the learner is started: what run.db holds by then is of
  // earlier attempts.
  RunWatcher(const std::string& run_dir, int64_t steps_total,
             Clock* clock = SystemClock());

  // A line per step of this attempt that was not printed yet, and a warning per
  // task that got no reward, for the first kFailedTasksShown of them, then of
  // how many they are, once in kFailedToldUs at most. Where nothing was for
  // kQuietUs, a sign of life. One that a wait is in vain comes after
  // twice as long as the one before, up to kQuietUsMax.
  void PrintNew();

  static constexpr int64_t kQuietUs = 20'000'000;
  static constexpr int64_t kQuietUsMax = 320'000'000;
  static constexpr int64_t kFailedToldUs = 60'000'000;

  // The whole run's reward curve, held-out results, tasks that got no reward,
  // and one task's episodes before and after.
  absl::Status PrintSummary();

  // Of the last checkpoint; 0 before the first.
  absl::StatusOr<int64_t> CheckpointStep();

 private:
  bool Open();
  // Whether the attempt being watched has begun. Then steps_ holds, as printed,
  // those that it goes on from.
  bool Begun();
  void PrintStillAlive();
  void WarnOfFailedTasks();
  // "what for 40 s", and the last line of each of these processes' logs.
  void PrintInVain(const std::string& what,
                   const std::vector<std::string>& processes);
  std::vector<std::string> Workers() const;
  int64_t last_step() const { return steps_.empty() ? 0 : steps_.back().step; }

  const std::string run_dir_;
  const std::string path_;
  const int64_t steps_total_;
  Clock* const clock_;
  std::unique_ptr<RunDb> db_;
  int64_t attempt_before_ = 0;
  bool begun_ = false;
  std::vector<StepView> steps_;
  int64_t failure_ = 0;      // the last that was seen
  size_t failed_tasks_ = 0;  // seen in this attempt
  size_t failed_told_ = 0;   // of these, told of
  int64_t failed_told_us_ = 0;
  int64_t printed_us_;
  int64_t well_us_;  // when the run was last seen to be well
  int64_t quiet_us_ = kQuietUs;
};

}  // namespace temper

#endif  // TOOLS_RUN_RUN_WATCHER_H_
