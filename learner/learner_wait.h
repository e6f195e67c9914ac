// One wait of the learner's loop: it has a name and a deadline, and while it
// lasts run.db's wait table shows it as process "learner" (promise P9).
//
//   LearnerWait wait(context, "trajectories of step 3", 600'000);
//   while (!ready()) {
//     if (wait.Stopping()) return false;
//     if (wait.Expired()) return absl::DeadlineExceededError(...);
//     ...  // sleep kPollUs at most
//   }
//
// The deadline counts from the start or from the last Progress. A wait shorter
// than kQuietMs is not written: that would cost a disk sync. One wait at a
// time, of one thread: a report replaces the one before.

#ifndef LEARNER_LEARNER_WAIT_H_
#define LEARNER_LEARNER_WAIT_H_

#include <cstdint>
#include <functional>
#include <string>

#include "kernels/base/clock.h"
#include "learner/store/run_db.h"

namespace temper {

// What every wait of one learner needs; the pointers outlive the waits.
struct WaitContext {
  RunDb* db = nullptr;
  Clock* clock = nullptr;
  std::function<bool()> stop;  // may be empty: never
};

class LearnerWait {
 public:
  LearnerWait(const WaitContext& context, std::string name,
              int64_t deadline_ms);
  // The wait is over: takes its row back.
  ~LearnerWait();
  LearnerWait(const LearnerWait&) = delete;
  LearnerWait& operator=(const LearnerWait&) = delete;

  // What is waited for came nearer: the deadline counts from now on.
  void Progress();
  // Whether the run is to stop.
  bool Stopping() const;
  // Whether the deadline has passed. Reports the wait when that is due; a row
  // that cannot be written is logged, no error.
  bool Expired();

  static constexpr int64_t kPollUs = 200'000;  // ask Expired this often
  static constexpr int64_t kQuietMs = 500;     // before the first report
  static constexpr int64_t kReportMs = 2000;   // between reports
  static constexpr char kProcess[] = "learner";

 private:
  void Report(int64_t now_us);

  const WaitContext& context_;
  const std::string name_;
  const int64_t deadline_ms_;
  const int64_t started_us_;
  int64_t since_us_;
  int64_t reported_us_ = 0;
  bool reported_ = false;
};

}  // namespace temper

#endif  // LEARNER_LEARNER_WAIT_H_
