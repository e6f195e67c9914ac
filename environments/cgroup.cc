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
#include <sstream>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr char kRoot[] = "/sys/fs/cgroup";

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

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

// This process's group in v1's `controller`, or in v2 for "". "/" if unknown.
std::string OwnPath(const std::string& controller) {
  std::ifstream in("/proc/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    if (line.substr(first + 1, second - first - 1) == controller) {
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

// Removes groups under `parent` whose maker, named by its pid, is gone.
void RemoveStale(const std::string& parent) {
  DIR* directory = opendir(parent.c_str());
  if (directory == nullptr) return;
  const std::string prefix = NamePrefix();
  std::vector<std::string> stale;
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name;
    if (name.rfind(prefix, 0) != 0) continue;
    const long pid = std::strtol(name.c_str() + prefix.size(), nullptr, 10);
    if (pid > 0 && kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) {
      stale.push_back(absl::StrCat(parent, "/", name));
    }
  }
  closedir(directory);
  for (const std::string& path : stale) rmdir(path.c_str());
}

bool Works(const CgroupHierarchy& hierarchy) {
  Cgroup probe(hierarchy);
  const bool works = probe.Create(9999, 8, 64 << 20).ok();
  if (works) probe.Remove();
  return works;
}

bool TryV2(CgroupHierarchy* found) {
  for (const std::string& root :
       {std::string(kRoot), absl::StrCat(kRoot, "/unified")}) {
    if (!Exists(root + "/cgroup.controllers")) continue;
    for (const std::string& path : {root + OwnPath(""), root}) {
      // Refused where the group has processes of its own; the probe tells.
      WriteFile(path + "/cgroup.subtree_control", "+pids +memory");
      const CgroupHierarchy hierarchy = {CgroupMode::kV2, {path}};
      if (!Works(hierarchy)) continue;
      *found = hierarchy;
      return true;
    }
  }
  return false;
}

bool TryV1(CgroupHierarchy* found) {
  CgroupHierarchy hierarchy = {CgroupMode::kV1, {}};
  for (const char* controller : {"pids", "memory"}) {
    const std::string root = absl::StrCat(kRoot, "/", controller);
    for (const std::string& path : {root + OwnPath(controller), root}) {
      CgroupHierarchy longer = hierarchy;
      longer.parents.push_back(path);
      if (!Works(longer)) continue;
      hierarchy = longer;
      break;
    }
    if (hierarchy.parents.empty()) return false;  // no pids: no use
  }
  *found = hierarchy;
  return true;
}

}  // namespace

std::string CgroupHierarchy::Describe() const {
  if (mode == CgroupMode::kNone) return "no cgroup (rlimits only)";
  if (mode == CgroupMode::kV2) return "cgroup v2 (pids, memory)";
  return holds_memory() ? "cgroup v1 (pids, memory)" : "cgroup v1 (pids)";
}

CgroupHierarchy DetectCgroups() {
  CgroupHierarchy found;
  if (!TryV2(&found)) TryV1(&found);
  for (const std::string& parent : found.parents) RemoveStale(parent);
  return found;
}

absl::Status Cgroup::Create(uint32_t slot, uint32_t processes_max,
                            uint64_t memory_bytes_max) {
  struct Limit {
    size_t parent;
    const char* file;
    uint64_t value;
  };
  std::vector<Limit> limits;
  if (hierarchy_.mode == CgroupMode::kV2) {
    limits = {{0, "pids.max", processes_max},
              {0, "memory.max", memory_bytes_max}};
  } else if (hierarchy_.mode == CgroupMode::kV1) {
    limits = {{0, "pids.max", processes_max},
              {1, "memory.limit_in_bytes", memory_bytes_max}};
  }
  for (const std::string& parent : hierarchy_.parents) {
    const std::string path =
        absl::StrCat(parent, "/", NamePrefix(), getpid(), "_", slot);
    if (mkdir(path.c_str(), 0755) != 0) {
      const absl::Status status = absl::UnavailableError(
          absl::StrCat("mkdir ", path, ": ", strerror(errno)));
      Remove();
      return status;
    }
    paths_.push_back(path);
  }
  for (const Limit& limit : limits) {
    if (limit.parent >= paths_.size()) continue;
    const std::string file =
        absl::StrCat(paths_[limit.parent], "/", limit.file);
    if (WriteFile(file, absl::StrCat(limit.value))) continue;
    const absl::Status status =
        absl::UnavailableError(absl::StrCat(file, ": ", strerror(errno)));
    Remove();
    return status;
  }
  return absl::OkStatus();
}

bool Cgroup::Enter() const {
  for (const std::string& path : paths_) {
    if (!WriteFile(path + "/cgroup.procs", "0")) return false;
  }
  return true;
}

void Cgroup::Kill() const {
  if (paths_.empty()) return;
  if (WriteFile(paths_[0] + "/cgroup.kill", "1")) return;
  std::ifstream in(paths_[0] + "/cgroup.procs");
  for (pid_t pid = 0; in >> pid;) kill(pid, SIGKILL);
}

void Cgroup::Remove() {
  for (const std::string& path : paths_) rmdir(path.c_str());
  paths_.clear();
}

}  // namespace temper
