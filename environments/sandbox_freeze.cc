#include "environments/sandbox_freeze.h"

#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace temper {
namespace {

struct Process {
  char state = 0;
  int threads = 0;
  uint64_t switches = 0;  // counts on with each time that it stops or sleeps
};

std::optional<Process> ReadProcess(pid_t pid) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/status"));
  Process process;
  uint64_t switches = 0;
  // "Key: value" each; a name shows no newline of its own.
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string key;
    fields >> key;
    if (key == "State:") fields >> process.state;
    if (key == "Threads:") fields >> process.threads;
    if (key == "voluntary_ctxt_switches:" ||
        key == "nonvoluntary_ctxt_switches:") {
      fields >> switches;
      process.switches += switches;
    }
  }
  if (process.state == 0 || process.threads == 0) return std::nullopt;
  return process;
}

// Of the children of `pid`'s first thread. A process of several threads is
// refused whatever its others have.
std::string ChildrenPath(pid_t pid) {
  return absl::StrCat("/proc/", pid, "/task/", pid, "/children");
}

// Whether the cgroup, which counts every task at one instant, has `driver`
// alone.
bool IsAloneInCgroup(pid_t driver, const Cgroup& cgroup) {
  return cgroup.Processes() == std::vector<pid_t>{driver} &&
         cgroup.CountTasks() == 1;
}

// Whether `driver` has no child. Everything else in its pid namespace descends
// from it: who lost a parent there is its child.
bool IsChildless(pid_t driver) {
  std::ifstream children(ChildrenPath(driver));
  pid_t child;
  return children && !(children >> child);
}

}  // namespace

bool FreezeDriver(pid_t driver, const Cgroup& cgroup,
                  std::chrono::milliseconds limit) {
  const bool by_cgroup = !cgroup.paths().empty();
  if (!by_cgroup && access(ChildrenPath(getpid()).c_str(), R_OK) != 0) {
    return false;
  }
  const auto end = std::chrono::steady_clock::now() + limit;
  // Two looks between which it did not run: what the first found held at one
  // moment, and only itself could have changed it.
  uint64_t switches = 0;  // at the first look
  bool looked = false;
  while (std::chrono::steady_clock::now() < end) {
    const std::optional<Process> process = ReadProcess(driver);
    if (!process.has_value()) return false;
    const bool still =
        process->state == 'T' && process->threads == 1 &&
        (by_cgroup ? IsAloneInCgroup(driver, cgroup) : IsChildless(driver));
    if (still && looked && switches == process->switches) return true;
    looked = still;
    switches = process->switches;
    if (still) continue;
    if (kill(driver, SIGSTOP) != 0) return false;
    usleep(500);
  }
  return false;
}

bool ThawDriver(pid_t driver) {
  const std::optional<Process> process = ReadProcess(driver);
  return process.has_value() && process->state == 'T' &&
         kill(driver, SIGCONT) == 0;
}

}  // namespace temper
