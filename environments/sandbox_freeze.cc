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

// bubblewrap outside, bubblewrap as the first process inside, the driver.
constexpr size_t kProcesses = 3;

struct Process {
  pid_t pid = 0;
  pid_t parent = 0;
  char state = 0;
  int threads = 0;
  uint64_t switches = 0;  // counts on with each time that it stops or sleeps
};

std::optional<Process> ReadProcess(pid_t pid) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/status"));
  Process process;
  process.pid = pid;
  uint64_t switches = 0;
  // "Key: value" each; a name shows no newline of its own.
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string key;
    fields >> key;
    if (key == "State:") fields >> process.state;
    if (key == "PPid:") fields >> process.parent;
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

// All processes of a sandbox, or nothing if they changed meanwhile.
using Processes = std::optional<std::vector<Process>>;

// The cgroup counts every task at one instant.
Processes ListByCgroup(const Cgroup& cgroup) {
  std::vector<Process> listed;
  for (const pid_t pid : cgroup.Processes()) {
    const std::optional<Process> process = ReadProcess(pid);
    if (!process.has_value()) return std::nullopt;
    listed.push_back(*process);
  }
  if (cgroup.CountTasks() != static_cast<int64_t>(listed.size())) {
    return std::nullopt;
  }
  return listed;
}

// Walks down from `bwrap`, so that no other process of the machine matters.
// One whose parent ended after its new parent's children were read is missed;
// not twice, if the driver did not run between (FreezeDriver).
Processes ListByAncestry(pid_t bwrap) {
  std::vector<pid_t> pids = {bwrap};
  std::vector<Process> listed;
  while (listed.size() < pids.size()) {
    const std::optional<Process> process = ReadProcess(pids[listed.size()]);
    if (!process.has_value()) return std::nullopt;
    listed.push_back(*process);
    std::ifstream children(ChildrenPath(process->pid));
    if (!children) return std::nullopt;
    for (pid_t child; children >> child;) pids.push_back(child);
    if (pids.size() > kProcesses) return std::nullopt;
  }
  return listed;
}

// The process of `processes` that is no bubblewrap, if it is the only one.
std::optional<Process> OnlyDriver(const Processes& processes, pid_t bwrap) {
  if (!processes.has_value() || processes->size() != kProcesses) {
    return std::nullopt;
  }
  std::optional<Process> driver;
  for (const Process& process : *processes) {
    if (process.pid == bwrap || process.parent == bwrap) continue;
    if (driver.has_value()) return std::nullopt;
    driver = process;
  }
  return driver;
}

}  // namespace

pid_t FreezeDriver(pid_t bwrap, const Cgroup& cgroup,
                   std::chrono::milliseconds limit) {
  const bool by_cgroup = !cgroup.paths().empty();
  const pid_t self = getpid();
  if (!by_cgroup && access(ChildrenPath(self).c_str(), R_OK) != 0) return 0;
  const auto end = std::chrono::steady_clock::now() + limit;
  // Two looks between which it did not run. After the first it has no child,
  // and gets none; who else lives is then below another child of the sandbox's
  // first process, which adopts orphans, and the second look sees that child.
  // Nor is there a thread left whose end might have woken it.
  pid_t stopped = 0;
  uint64_t switches = 0;  // at the first look
  bool looked = false;
  while (std::chrono::steady_clock::now() < end) {
    const std::optional<Process> driver = OnlyDriver(
        by_cgroup ? ListByCgroup(cgroup) : ListByAncestry(bwrap), bwrap);
    if (driver.has_value() && driver->pid == stopped && driver->state == 'T' &&
        driver->threads == 1) {
      if (looked && switches == driver->switches) return stopped;
      looked = true;
      switches = driver->switches;
      continue;
    }
    looked = false;
    stopped = 0;
    if (driver.has_value() && kill(driver->pid, SIGSTOP) == 0) {
      stopped = driver->pid;
    }
    usleep(500);
  }
  return 0;
}

bool ThawDriver(pid_t driver) {
  const std::optional<Process> process = ReadProcess(driver);
  return process.has_value() && process->state == 'T' &&
         kill(driver, SIGCONT) == 0;
}

}  // namespace temper
