#include "environments/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace temper {
namespace {

// Between two looks whether the last process of a group has ended.
constexpr std::chrono::milliseconds kEndPause(2);

bool WriteFile(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool written =
      write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  close(fd);
  errno = error;
  return written;
}

// The number in a file of one; -1 if it cannot be read.
int64_t ReadNumber(const std::string& path) {
  std::ifstream in(path);
  int64_t number = -1;
  in >> number;
  return in ? number : -1;
}

// What stands behind `key` in a file of keys and numbers; 0 if nothing does.
int64_t ReadKey(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  std::string name;
  for (int64_t number = 0; in >> name >> number;) {
    if (name == key) return number;
  }
  return 0;
}

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

// This process's group in v1's `controller`, or in v2 for "". "/" if unknown.
std::string OwnPath(const std::string& controller) {
  std::ifstream in("/proc/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    // Several may be of one hierarchy: "cpu,cpuacct".
    const std::string names = line.substr(first + 1, second - first - 1);
    if (absl::StrContains(absl::StrCat(",", names, ","),
                          absl::StrCat(",", controller, ","))) {
      const std::string path = line.substr(second + 1);
      return path == "/" ? "" : path;
    }
  }
  return "";
}

// Pids tell makers apart within one pid namespace only; machines of several
// share their cgroups.
std::string NamePrefix() {
  struct stat space;
  const uint64_t id = stat("/proc/self/ns/pid", &space) == 0 ? space.st_ino : 0;
  return absl::StrCat("temper_sandbox_", id, "_");
}

// The groups under `parent` by who made them.
std::multimap<pid_t, std::string> MadeUnder(const std::string& parent) {
  std::multimap<pid_t, std::string> made;
  DIR* directory = opendir(parent.c_str());
  if (directory == nullptr) return made;
  const std::string prefix = NamePrefix();
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name;
    if (name.rfind(prefix, 0) != 0) continue;
    const long pid = std::strtol(name.c_str() + prefix.size(), nullptr, 10);
    if (pid > 0) made.emplace(pid, absl::StrCat(parent, "/", name));
  }
  closedir(directory);
  return made;
}

// Removes groups under `parent` whose maker is gone.
void RemoveStale(const std::string& parent) {
  for (const auto& [pid, path] : MadeUnder(parent)) {
    if (kill(pid, 0) != 0 && errno == ESRCH) rmdir(path.c_str());
  }
}

// Whether a group can be made there; notes whether it holds swap and has a
// share of the CPU.
bool Works(CgroupHierarchy* hierarchy) {
  Cgroup probe(*hierarchy);
  if (!probe.Create("probe", 8, 64 << 20).ok()) return false;
  for (const CgroupLimit& limit : CgroupLimits(*hierarchy, 8, 64 << 20)) {
    if (limit.required) continue;
    hierarchy->holds_swap =
        Exists(absl::StrCat(probe.paths()[limit.parent], "/", limit.file));
  }
  // Shares are equal as groups are made.
  hierarchy->shares_cpu = Exists(probe.paths().back() + "/cpu.weight") ||
                          Exists(probe.paths().back() + "/cpu.shares");
  probe.Remove();
  return true;
}

bool TryV2(const std::string& top, CgroupHierarchy* found) {
  for (const std::string& root : {top, absl::StrCat(top, "/unified")}) {
    if (!Exists(root + "/cgroup.controllers")) continue;
    for (const std::string& path : {root + OwnPath(""), root}) {
      // Refused where the group has processes of its own; the probe tells.
      // Each alone: one that is not there refuses its neighbours.
      for (const char* controller : {"+pids", "+memory", "+cpu"}) {
        WriteFile(path + "/cgroup.subtree_control", controller);
      }
      CgroupHierarchy hierarchy = {CgroupMode::kV2, {path}};
      if (!Works(&hierarchy)) continue;
      *found = hierarchy;
      return true;
    }
  }
  return false;
}

bool TryV1(const std::string& top, CgroupHierarchy* found) {
  CgroupHierarchy hierarchy = {CgroupMode::kV1, {}};
  for (const char* controller : {"pids", "memory", "cpu"}) {
    const size_t before = hierarchy.parents.size();
    const std::string root = absl::StrCat(top, "/", controller);
    for (const std::string& path : {root + OwnPath(controller), root}) {
      CgroupHierarchy longer = hierarchy;
      longer.parents.push_back(path);
      if (!Works(&longer)) continue;
      hierarchy = longer;
      break;
    }
    if (hierarchy.parents.empty()) return false;  // no pids: no use
    if (hierarchy.parents.size() == before) break;
  }
  *found = hierarchy;
  return true;
}

}  // namespace

std::string CgroupHierarchy::Describe() const {
  if (mode == CgroupMode::kNone) return "no cgroup (rlimits only)";
  return absl::StrCat(mode == CgroupMode::kV2 ? "cgroup v2" : "cgroup v1",
                      " (pids", holds_memory() ? ", memory" : "",
                      holds_swap ? ", swap" : "", shares_cpu ? ", cpu" : "",
                      ")");
}

CgroupHierarchy DetectCgroups(const std::string& root) {
  CgroupHierarchy found;
  if (!TryV2(root, &found)) TryV1(root, &found);
  for (const std::string& parent : found.parents) RemoveStale(parent);
  return found;
}

bool RemoveGroupsOf(const CgroupHierarchy& hierarchy, pid_t maker,
                    std::chrono::milliseconds wait) {
  const auto end = std::chrono::steady_clock::now() + wait;
  for (const std::string& parent : hierarchy.parents) {
    const auto made = MadeUnder(parent);
    const auto [first, last] = made.equal_range(maker);
    for (auto one = first; one != last; ++one) {
      const Cgroup left(hierarchy, {one->second});
      while (rmdir(one->second.c_str()) != 0 && errno == EBUSY) {
        left.Kill();
        if (std::chrono::steady_clock::now() >= end) return false;
        std::this_thread::sleep_for(kEndPause);
      }
    }
  }
  return true;
}

std::vector<CgroupLimit> CgroupLimits(const CgroupHierarchy& hierarchy,
                                      uint32_t processes_max,
                                      uint64_t memory_bytes_max) {
  std::vector<CgroupLimit> limits;
  if (hierarchy.mode == CgroupMode::kV2) {
    limits = {{0, "pids.max", processes_max, true},
              {0, "memory.max", memory_bytes_max, true},
              {0, "memory.swap.max", 0, false}};
  } else if (hierarchy.mode == CgroupMode::kV1) {
    // memsw is memory and swap, and may not be below memory.
    limits = {{0, "pids.max", processes_max, true},
              {1, "memory.limit_in_bytes", memory_bytes_max, true},
              {1, "memory.memsw.limit_in_bytes", memory_bytes_max, false}};
  }
  while (!limits.empty() && limits.back().parent >= hierarchy.parents.size()) {
    limits.pop_back();
  }
  return limits;
}

absl::Status WriteCgroupLimits(const std::vector<CgroupLimit>& limits,
                               const std::vector<std::string>& paths) {
  for (const CgroupLimit& limit : limits) {
    const std::string file = absl::StrCat(paths[limit.parent], "/", limit.file);
    if (WriteFile(file, absl::StrCat(limit.value))) continue;
    if (errno == ENOENT && !limit.required) continue;
    return absl::UnavailableError(
        absl::StrCat(file, ": ", limit.value, ": ", strerror(errno)));
  }
  return absl::OkStatus();
}

CgroupEvents ReadCgroupEvents(const CgroupHierarchy& hierarchy,
                              const std::vector<std::string>& paths) {
  CgroupEvents events;
  if (paths.empty()) return events;
  events.forks_refused = ReadKey(paths[0] + "/pids.events", "max");
  if (hierarchy.holds_memory()) {
    events.memory_kills =
        hierarchy.mode == CgroupMode::kV2
            ? ReadKey(paths[0] + "/memory.events", "oom_kill")
            : ReadKey(paths[1] + "/memory.oom_control", "oom_kill");
  }
  return events;
}

absl::Status Cgroup::Create(const std::string& name, uint32_t processes_max,
                            uint64_t memory_bytes_max) {
  for (const std::string& parent : hierarchy_.parents) {
    const std::string path =
        absl::StrCat(parent, "/", NamePrefix(), getpid(), "_", name);
    // What is there is of a maker who had this process's number, and was
    // killed.
    rmdir(path.c_str());
    if (mkdir(path.c_str(), 0755) != 0) {
      const absl::Status status = absl::UnavailableError(
          absl::StrCat("mkdir ", path, ": ", strerror(errno)));
      Remove();
      return status;
    }
    paths_.push_back(path);
  }
  const absl::Status limited = WriteCgroupLimits(
      CgroupLimits(hierarchy_, processes_max, memory_bytes_max), paths_);
  if (!limited.ok()) Remove();
  return limited;
}

bool Cgroup::Enter() const { return Add(0); }

bool Cgroup::Add(pid_t pid) const {
  for (const std::string& path : paths_) {
    if (!WriteFile(path + "/cgroup.procs", absl::StrCat(pid))) return false;
  }
  return true;
}

void Cgroup::Kill() const {
  if (paths_.empty()) return;
  // v2 only, and atomic; one by one a fork could slip through, which the end of
  // the pid namespace catches.
  if (WriteFile(paths_[0] + "/cgroup.kill", "1")) return;
  for (const pid_t pid : Processes()) kill(pid, SIGKILL);
}

std::vector<pid_t> Cgroup::Processes() const {
  std::vector<pid_t> pids;
  if (paths_.empty()) return pids;
  std::ifstream in(paths_[0] + "/cgroup.procs");
  for (pid_t pid = 0; in >> pid;) pids.push_back(pid);
  return pids;
}

int64_t Cgroup::HeldBytes() const {
  if (paths_.empty() || !hierarchy_.holds_memory()) return -1;
  return ReadNumber(hierarchy_.mode == CgroupMode::kV2
                        ? paths_[0] + "/memory.current"
                        : paths_[1] + "/memory.usage_in_bytes");
}

int64_t Cgroup::CountTasks() const {
  return paths_.empty() ? -1 : ReadNumber(paths_[0] + "/pids.current");
}

void Cgroup::Remove() {
  for (const std::string& path : paths_) rmdir(path.c_str());
  paths_.clear();
}

}  // namespace temper
