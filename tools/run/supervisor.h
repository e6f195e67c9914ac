// The child processes of `temper train`: started, watched, restarted within
// bounds, stopped in order. None outlives this object or, being told by the
// kernel (PR_SET_PDEATHSIG), this process, however it dies.
//
// A child that ends with exit code 0 has finished. The others may finish a
// little before the essential one, at most finish_slack_ms; one that has
// finished for longer while the run goes on has failed, as one has that ends in
// any other way. What failed is started again after a backoff that doubles,
// until its restarts are spent, if they are counted, which are given back to
// one that lived for restarts_back_ms; exit code 2 (misused) would only repeat
// itself and is not retried. The whole is over when the essential child ends,
// or when a group has no member left.
//
// Each child leads its own process group, so that a terminal's Ctrl-C reaches
// this process alone, and what a child leaves behind is killed with it. Its
// stdin is empty; stdout and stderr go to <log_dir>/<name>.log, which keeps
// its newest half in <name>.log.1 when Poll finds it above log_bytes_max.
//
// Not thread-safe. The thread that calls Start and Poll must live as long as
// the children: the kernel ties them to it.

#ifndef TOOLS_RUN_SUPERVISOR_H_
#define TOOLS_RUN_SUPERVISOR_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kernels/base/clock.h"

namespace temper {

inline constexpr int kRestartsUncounted = -1;

struct ChildSpec {
  std::string name;               // unique
  std::string group;              // "learner", "rollout", "env-host"
  std::vector<std::string> args;  // after argv[0]: a verb and its flags
  int restarts_max = 0;  // kRestartsUncounted: as long as the run goes on
  bool essential = false;
  int stop_order = 0;  // Stop ends lower ones first, equal ones together
  int64_t stop_grace_ms = 10'000;  // from Stop's SIGTERM to its SIGKILL
};

// What happened to a child, for run.db and for people.
struct ChildEvent {
  enum class Kind { kStarted, kFinished, kFailed, kRestarting, kSpent };
  std::string child;
  Kind kind = Kind::kStarted;
  std::string detail;  // "pid 12", "exit 1", "signal 15 (SIGTERM)", "in 500 ms"
};
std::string EventKindName(ChildEvent::Kind kind);

struct SupervisorOptions {
  std::string program = "/proc/self/exe";
  std::string log_dir;  // exists
  // "NAME=VALUE" of every child, beside this process's own or in its place.
  std::vector<std::string> environment;
  uint64_t log_bytes_max = 8 << 20;
  int64_t backoff_ms = 500;
  int64_t backoff_ms_max = 10'000;
  int64_t finish_slack_ms = 10'000;
  int64_t restarts_back_ms = 600'000;
};

enum class RunState {
  kRunning,
  kFinished,  // the essential child finished
  kFailed,    // first_failure() says who
};

class Supervisor {
 public:
  // `on_event` is called from Start, Poll and Stop, in the order of events.
  Supervisor(const SupervisorOptions& options, Clock* clock,
             std::function<void(const ChildEvent&)> on_event);
  // Kills what still runs, at once, and reaps it.
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Errors: the log cannot be opened, or no process can be made; then there is
  // no such child.
  absl::Status Start(const ChildSpec& spec);

  // Reaps, restarts what is due, trims logs. Never waits.
  RunState Poll();

  // SIGTERM by stop_order; each child has its stop_grace_ms to end, then is
  // killed, and so is all at once when `hurry` (may be empty) returns true; the
  // event of a child that was killed says which. No child runs when it returns,
  // and state() tells how the essential one ended.
  // Restarts nothing, nor does a Poll after it.
  void Stop(const std::function<bool()>& hurry);

  RunState state() const { return state_; }
  // The name of the essential child if it failed, else of the first child that
  // failed for good; "" if none.
  const std::string& first_failure() const { return first_failure_; }
  std::string LogPath(const std::string& name) const;

 private:
  struct Child {
    ChildSpec spec;
    pid_t pid = 0;
    int64_t started_us = 0;
    int restarts = 0;
    int64_t restart_at_us = 0;  // when waiting to be started again
    bool waiting = false;
    bool finished = false;
    int64_t finished_at_us = 0;
    std::string killed_for;  // why Stop killed it; "" if it did not
  };

  absl::Status Spawn(Child* child);
  // Whether it has ended; if so records how.
  bool Reap(Child* child);
  void Failed(Child* child, const std::string& how);
  void Spent(const Child& child);
  void UpdateState();
  void TrimLog(const std::string& path) const;
  void Emit(const Child& child, ChildEvent::Kind kind,
            const std::string& detail) const;

  const SupervisorOptions options_;
  Clock* const clock_;
  const std::function<void(const ChildEvent&)> on_event_;
  std::vector<Child> children_;
  RunState state_ = RunState::kRunning;
  bool stopping_ = false;
  std::string first_failure_;
};

// The last `lines_max` lines of a text file; "" if it cannot be read.
std::string LastLines(const std::string& path, int lines_max);

}  // namespace temper

#endif  // TOOLS_RUN_SUPERVISOR_H_
