// For tests: what sandboxes may have left on the machine beside processes.

#ifndef ENVIRONMENTS_SANDBOX_REMAINS_FIXTURE_H_
#define ENVIRONMENTS_SANDBOX_REMAINS_FIXTURE_H_

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "environments/cgroup.h"
#include "environments/uid_claim.h"

namespace temper {

// Groups that the keepers with these pids made. (Others' may come and go
// meanwhile.)
inline std::vector<std::string> GroupsOf(const std::set<int>& keepers,
                                         const CgroupHierarchy& hierarchy) {
  std::vector<std::string> groups;
  for (const std::string& parent : hierarchy.parents) {
    DIR* const directory = opendir(parent.c_str());
    while (const dirent* entry = readdir(directory)) {
      const std::vector<std::string> parts =
          absl::StrSplit(entry->d_name, '_');  // temper_sandbox_SPACE_PID_NAME
      int pid = 0;
      if (parts.size() < 5 || parts[1] != "sandbox" ||
          !absl::SimpleAtoi(parts[3], &pid)) {
        continue;
      }
      if (keepers.count(pid) > 0) groups.push_back(entry->d_name);
    }
    closedir(directory);
  }
  return groups;
}

// Files where anybody may make some, and in the test's own directory, that are
// of a user whom only sandboxes become; of an ordinary user none can be told.
inline std::vector<std::string> FilesOfSandboxes() {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  for (const char* place :
       {"/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock",
        static_cast<const char*>(getenv("TEST_TMPDIR"))}) {
    if (place == nullptr) continue;
    std::error_code error;
    fs::recursive_directory_iterator at(
        place, fs::directory_options::skip_permission_denied, error);
    while (!error && at != fs::recursive_directory_iterator()) {
      struct stat info;
      if (lstat(at->path().c_str(), &info) == 0 &&
          info.st_uid >= kSandboxUidFirst && info.st_uid <= kSandboxUidLast) {
        files.push_back(at->path());
      }
      at.increment(error);
    }
  }
  return files;
}

}  // namespace temper

#endif  // ENVIRONMENTS_SANDBOX_REMAINS_FIXTURE_H_
