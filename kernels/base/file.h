// Whole files, read with a limit and written so that a crash leaves the old
// bytes or the new ones. Errors: NotFound, PermissionDenied, InvalidArgument
// for what is wrong with the path or what is there: no regular file, one above
// the limit; ResourceExhausted for a full disk, no more descriptors or memory;
// DataLoss for a file that ends early; Internal for what else the system
// refuses (a disk that fails), with its words. Thread-safe as far as the file
// system is.

#ifndef KERNELS_BASE_FILE_H_
#define KERNELS_BASE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace temper {

// The error that `errno` (as `error`) is, for doing `what` to `path`. Of what
// this machine is to blame for, and not the path, it says what to do.
absl::Status FileError(const std::string& what, const std::string& path,
                       int error);

// The bytes of `path`, at most `limit_bytes`.
absl::StatusOr<std::string> ReadFile(const std::string& path,
                                     uint64_t limit_bytes);

// Gives the bytes of `path` to `piece`, in order and in pieces.
absl::Status ReadPieces(
    const std::string& path, uint64_t limit_bytes,
    const std::function<void(const char* data, size_t size)>& piece);

// A file's bytes, mapped read-only for as long as the object lives. Whoever
// truncates the file meanwhile makes reads fault: map only what is renamed
// into place and never rewritten.
class MappedFile {
 public:
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(
      const std::string& path, uint64_t limit_bytes);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }  // [size()], may be null if 0
  size_t size() const { return size_; }

 private:
  MappedFile(const std::byte* data, size_t size) : data_(data), size_(size) {}
  const std::byte* const data_;
  const size_t size_;
};

// A file written in pieces. Until Commit `path` is as it was, and nothing is
// left of the pieces if there is none; then it is the whole new file, fsynced,
// and its name too. One thread at a time.
class DurableFile {
 public:
  static absl::StatusOr<std::unique_ptr<DurableFile>> Create(
      const std::string& path);
  // Whether a file of this name is what a process that was killed left of one:
  // NAME.tmp.PROCESS.NUMBER.
  static bool IsRemainder(const std::string& name);
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  absl::Status Append(const void* data, size_t size);
  // Once, and nothing is appended after.
  absl::Status Commit();

 private:
  DurableFile(std::string path, std::string temporary, int fd)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}

  const std::string path_;
  const std::string temporary_;
  int fd_;
  bool committed_ = false;
};

// Writes `path` through a temporary file beside it, fsync, rename, fsync of
// the directory. On failure `path` is as it was.
absl::Status WriteFileDurably(const std::string& path, const void* data,
                              size_t size);
inline absl::Status WriteFileDurably(const std::string& path,
                                     const std::string& data) {
  return WriteFileDurably(path, data.data(), data.size());
}

// fsync of a file or directory that exists.
absl::Status SyncPath(const std::string& path);

// Makes `path` and its missing parents.
absl::Status MakeDirectories(const std::string& path);

// Renames and fsyncs the parents of both. `to` must not exist as a non-empty
// directory.
absl::Status RenameDurably(const std::string& from, const std::string& to);

// Names (not paths) inside a directory, ascending, without "." and "..".
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path);

// Removes `path` and all below it; fine if it is not there.
absl::Status RemoveAll(const std::string& path);

// `path` seen from the root, without "." and "..". Internal if the working
// directory is gone.
absl::StatusOr<std::string> AbsolutePath(const std::string& path);

// The directory that holds `path`: "." for a bare name.
std::string ParentOf(const std::string& path);

// Writes all `size` bytes to a descriptor, however the system splits them.
absl::Status WriteAll(int fd, const void* data, size_t size,
                      const std::string& path);

}  // namespace temper

#endif  // KERNELS_BASE_FILE_H_
