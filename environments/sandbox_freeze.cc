#include "environments/sandbox_freeze.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <map>
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
};

std::optional<Process> ReadProcess(pid_t pid) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/stat"));
  std::string text;
  std::getline(in, text);
  // "pid (name) state ppid ...": a name may hold anything, but it ends last.
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  Process process;
  process.pid = pid;
  std::string skipped;
  fields >> process.state >> process.parent;
  for (int field = 5; field < 20; ++field) fields >> skipped;
  if (!(fields >> process.threads)) return std::nullopt;
  return process;
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

// What descends from `bwrap`. A process can miss a scan only by being born
// behind it, of one that vanished before it: such a scan tells nothing.
Processes ListByAncestry(pid_t bwrap) {
  DIR* directory = opendir("/proc");
  if (directory == nullptr) return std::nullopt;
  std::map<pid_t, Process> all;
  bool vanished = false;
  while (const dirent* entry = readdir(directory)) {
    const pid_t pid = static_cast<pid_t>(strtol(entry->d_name, nullptr, 10));
    if (pid <= 0) continue;
    const std::optional<Process> process = ReadProcess(pid);
    if (process.has_value()) {
      all[pid] = *process;
    } else {
      vanished = true;
    }
  }
  closedir(directory);
  if (vanished) return std::nullopt;
  std::vector<Process> below;
  for (const auto& [pid, process] : all) {
    const Process* at = &process;
    // Parents that changed during the scan might make a circle.
    for (size_t i = 0; i < all.size() && at->pid != bwrap; ++i) {
      const auto parent = all.find(at->parent);
      if (parent == all.end()) break;
      at = &parent->second;
    }
    if (at->pid == bwrap) below.push_back(process);
  }
  return below;
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
  const auto end = std::chrono::steady_clock::now() + limit;
  // Twice: a thread that ends might have woken the process at the first look.
  int looks = 0;
  pid_t stopped = 0;
  while (std::chrono::steady_clock::now() < end) {
    const std::optional<Process> driver =
        OnlyDriver(cgroup.paths().empty() ? ListByAncestry(bwrap)
                                          : ListByCgroup(cgroup),
                   bwrap);
    if (driver.has_value() && driver->pid == stopped &&
        driver->state == 'T' && driver->threads == 1) {
      if (++looks == 2) return stopped;
      continue;
    }
    looks = 0;
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
