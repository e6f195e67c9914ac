// The `temper` binary as a user runs it, for tests: child processes with their
// output in files, and what /proc tells of the processes below them.
//
// Not thread-safe.

#ifndef TESTS_TEMPER_PROCESS_H_
#define TESTS_TEMPER_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace temper {

// Polls `done` in real time; false after `deadline_ms`, ten times that where
// the test is sanitized, as in Wait.
bool Eventually(int64_t deadline_ms, const std::function<bool()>& done);

// One running command. Killed and reaped on destruction; the kernel kills it if
// the test dies.
class TemperProcess {
 public:
  // Starts `program` with `args`. stdout and stderr go to <output>.out and
  // <output>.err. `environment` holds "NAME=value" to add. CHECKs that a
  // process can be made.
  TemperProcess(const std::string& program,
                const std::vector<std::string>& args, const std::string& output,
                const std::vector<std::string>& environment = {});
  ~TemperProcess();
  TemperProcess(const TemperProcess&) = delete;
  TemperProcess& operator=(const TemperProcess&) = delete;

  pid_t pid() const { return pid_; }
  bool running();
  void Signal(int number);
  // The exit code, or 128 + the signal's number; none after `deadline_ms`.
  std::optional<int> Wait(int64_t deadline_ms);

  std::string out() const;
  std::string err() const;

 private:
  const std::string output_;
  pid_t pid_ = 0;
  std::optional<int> code_;
};

// A process as /proc shows it. `start` tells apart processes of one pid.
struct ProcessInfo {
  pid_t pid = 0;
  pid_t parent = 0;
  char state = '?';
  std::string start;              // ticks since boot
  std::vector<std::string> argv;  // empty for a zombie
};

// Every process below `root`, not itself.
std::vector<ProcessInfo> Descendants(pid_t root);

// Of the children of `root`, the one whose first argument is `verb`; 0 if none.
pid_t ChildByVerb(pid_t root, const std::string& verb);

// Whether that very process still runs; a zombie does not.
bool StillRuns(const ProcessInfo& process);

}  // namespace temper

#endif  // TESTS_TEMPER_PROCESS_H_
