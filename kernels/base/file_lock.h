// A lock on a file, held by one process at a time: what tells whether somebody
// else is at work in a directory. It lasts as long as the object or its
// process, whichever ends first, kill -9 included. A child must not inherit it
// (the descriptor is closed on exec). Thread-safe.

#ifndef KERNELS_BASE_FILE_LOCK_H_
#define KERNELS_BASE_FILE_LOCK_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace temper {

class FileLock {
 public:
  // Makes the file `path` if it is not there; it stays. FailedPrecondition
  // while another has it; else the errors of kernels/base/file.h.
  static absl::StatusOr<std::unique_ptr<FileLock>> Take(
      const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace temper

#endif  // KERNELS_BASE_FILE_LOCK_H_
