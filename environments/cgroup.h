// One control group per sandbox, for what rlimits cannot hold: the memory, swap
// included, and the number of all its processes together; and so that all of
// them together have no more of a busy CPU than one other process. Speaks
// cgroup v2, cgroup v1, or says that there is none.
//
// Not thread-safe: groups are named by their maker's process, so no two of a
// process are detected, or made by one name, at a time.

#ifndef ENVIRONMENTS_CGROUP_H_
#define ENVIRONMENTS_CGROUP_H_

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace temper {

enum class CgroupMode { kNone, kV1, kV2 };

// Where groups can be made: found by making one, not by reading what should be.
struct CgroupHierarchy {
  CgroupMode mode = CgroupMode::kNone;
  // v2: {unified}; v1: {pids, memory, cpu}, cut at the first that is not
  // writable.
  std::vector<std::string> parents;
  // Whether a group has a share of the CPU however many its processes are.
  bool shares_cpu = false;
  // Whether what is swapped out is held too. A kernel without the file that
  // says so either has no swap or does not count it.
  bool holds_swap = false;

  bool holds_processes() const { return mode != CgroupMode::kNone; }
  bool holds_memory() const {
    return mode == CgroupMode::kV2 || parents.size() >= 2;
  }
  // For people: "cgroup v1 (pids, memory, swap, cpu)".
  std::string Describe() const;
};

// Looks for the hierarchy in force below `root`. Leaves nothing behind, and
// removes groups that dead supervisors left.
CgroupHierarchy DetectCgroups(const std::string& root = "/sys/fs/cgroup");

// Removes the groups that the process `maker`, which was reaped, did not, once
// what is in them has ended; it is killed. False if one is there after `wait`.
bool RemoveGroupsOf(const CgroupHierarchy& hierarchy, pid_t maker,
                    std::chrono::milliseconds wait);

// A limit of a group: `value`, written to `file`, of the parent with that index
// in CgroupHierarchy::parents.
struct CgroupLimit {
  size_t parent;
  const char* file;
  uint64_t value;
  bool required;  // false: the kernel may lack the file
};

// The limits of a group, in the order in which they are to be written; those of
// parents that are not there are left out.
std::vector<CgroupLimit> CgroupLimits(const CgroupHierarchy& hierarchy,
                                      uint32_t processes_max,
                                      uint64_t memory_bytes_max);

// Writes `limits` to the groups at `paths`, one of each parent. Unavailable,
// with the file, if one is refused, or is not there and required.
absl::Status WriteCgroupLimits(const std::vector<CgroupLimit>& limits,
                               const std::vector<std::string>& paths);

// What the limits of a group have refused since it was made; 0 where the kernel
// does not say.
struct CgroupEvents {
  int64_t memory_kills = 0;   // processes ended, for all had too much
  int64_t forks_refused = 0;  // for they were too many
};

// Of the group at `paths`, one of each parent.
CgroupEvents ReadCgroupEvents(const CgroupHierarchy& hierarchy,
                              const std::vector<std::string>& paths);

// A group, made empty. Its name is unique to (this process, `name`).
class Cgroup {
 public:
  explicit Cgroup(const CgroupHierarchy& hierarchy) : hierarchy_(hierarchy) {}
  // One that is there, at one directory of each parent.
  Cgroup(const CgroupHierarchy& hierarchy, std::vector<std::string> paths)
      : hierarchy_(hierarchy), paths_(std::move(paths)) {}

  // Makes the group with its limits; no group where the mode is kNone. On an
  // error nothing is left.
  absl::Status Create(const std::string& name, uint32_t processes_max,
                      uint64_t memory_bytes_max);

  // Puts the calling process in. Async-signal-safe but for allocation; returns
  // false, errno set, if the kernel refuses.
  bool Enter() const;
  // The same for the process `pid`, which has one thread.
  bool Add(pid_t pid) const;

  // Sends SIGKILL to all processes in it.
  void Kill() const;

  // Its processes, and the number of its tasks (every thread is one) at one
  // instant; empty, and -1, where there is no group.
  std::vector<pid_t> Processes() const;
  int64_t CountTasks() const;
  // What its memory is charged with; -1 where that is not known.
  int64_t HeldBytes() const;
  CgroupEvents Events() const { return ReadCgroupEvents(hierarchy_, paths_); }

  // Removes the group, whose processes must have been reaped.
  void Remove();

  // Its directories, one of each parent; empty before Create.
  const std::vector<std::string>& paths() const { return paths_; }

 private:
  const CgroupHierarchy hierarchy_;
  std::vector<std::string> paths_;
};

}  // namespace temper

#endif  // ENVIRONMENTS_CGROUP_H_
