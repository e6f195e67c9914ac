#include "kernels/base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"

namespace temper {

absl::StatusOr<std::unique_ptr<FileLock>> FileLock::Take(
    const std::string& path) {
  // O_CLOEXEC: a child that outlives this process would otherwise keep the
  // lock.
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return FileError("open", path, errno);
  std::unique_ptr<FileLock> lock(new FileLock(fd));
  // flock, not fcntl: record locks fall when any descriptor of the file is
  // closed in this process.
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno != EWOULDBLOCK) return FileError("lock", path, errno);
  return absl::FailedPreconditionError(
      absl::StrCat(path, " is locked by another process"));
}

FileLock::~FileLock() { close(fd_); }

}  // namespace temper
