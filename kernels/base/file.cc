#include "kernels/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr size_t kPieceBytes = 1 << 20;
constexpr char kTemporary[] = ".tmp.";

// Closes on every path out.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int Close() {
    const int fd = fd_;
    fd_ = -1;
    return close(fd);
  }

 private:
  int fd_;
};

// For reading. A FIFO, which CheckedSize refuses, is not waited at; to a
// regular file O_NONBLOCK is nothing.
int OpenToRead(const std::string& path) {
  return open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

// The size of what OpenToRead gave, refusing what is no regular file.
absl::StatusOr<size_t> CheckedSize(int fd, const std::string& path,
                                   uint64_t limit_bytes) {
  if (fd < 0) return FileError("open", path, errno);
  struct stat info;
  if (fstat(fd, &info) != 0) return FileError("stat", path, errno);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is not a regular file"));
  }
  const auto size = static_cast<uint64_t>(info.st_size);
  if (size > limit_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " has ", size, " bytes, more than the limit of ", limit_bytes));
  }
  return static_cast<size_t>(size);
}

}  // namespace

absl::Status FileError(const std::string& what, const std::string& path,
                       int error) {
  std::string message = absl::StrCat(what, " ", path, ": ",
                                     std::generic_category().message(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(message);
    case EEXIST:
    case ENOTEMPTY:
      return absl::AlreadyExistsError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case EINVAL:
    case ENXIO:
      return absl::InvalidArgumentError(message);
    case EMFILE:
      absl::StrAppend(&message,
                      " in this process; raise its limit with `ulimit -n`");
      return absl::ResourceExhaustedError(message);
    case ENFILE:
      absl::StrAppend(&message,
                      " on this machine; raise fs.file-max or end what has "
                      "them open");
      return absl::ResourceExhaustedError(message);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    // Of a mapping or a directory: room of the machine's, like the disk's.
    case ENOMEM:
      return absl::ResourceExhaustedError(message);
    case EIO:
      absl::StrAppend(&message,
                      "; the disk or its file system failed, which `dmesg` "
                      "tells more of");
      return absl::InternalError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::StatusOr<std::string> ReadFile(const std::string& path,
                                     uint64_t limit_bytes) {
  Descriptor fd(OpenToRead(path));
  ASSIGN_OR_RETURN(const size_t size, CheckedSize(fd.get(), path, limit_bytes));
  std::string data(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t got = read(fd.get(), data.data() + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError("read", path, errno);
    if (got == 0) {
      // A file that shrinks while it is read is being written: half of it would
      // pass for the whole.
      return absl::DataLossError(absl::StrCat(
          path, " ended after ", done, " of ", size, " bytes; it changed"));
    }
    done += static_cast<size_t>(got);
  }
  return data;
}

absl::Status ReadPieces(
    const std::string& path, uint64_t limit_bytes,
    const std::function<void(const char* data, size_t size)>& piece) {
  Descriptor fd(OpenToRead(path));
  RETURN_IF_ERROR(CheckedSize(fd.get(), path, limit_bytes).status());
  std::vector<char> bytes(kPieceBytes);
  // To the end of the file, not to the size that was seen: who appends
  // meanwhile gets a whole copy.
  for (;;) {
    const ssize_t got = read(fd.get(), bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError("read", path, errno);
    if (got == 0) return absl::OkStatus();
    piece(bytes.data(), static_cast<size_t>(got));
  }
}

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(
    const std::string& path, uint64_t limit_bytes) {
  Descriptor fd(OpenToRead(path));
  ASSIGN_OR_RETURN(const size_t size, CheckedSize(fd.get(), path, limit_bytes));
  void* data = nullptr;
  if (size > 0) {
    // A mapping of nothing is an error to the system; an empty file is none to
    // us.
    data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (data == MAP_FAILED) return FileError("map", path, errno);
  }
  return std::unique_ptr<MappedFile>(
      new MappedFile(static_cast<const std::byte*>(data), size));
}

MappedFile::~MappedFile() {
  if (size_ > 0) munmap(const_cast<std::byte*>(data_), size_);
}

absl::Status WriteAll(int fd, const void* data, size_t size,
                      const std::string& path) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t put = write(fd, bytes, size);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return FileError("write", path, errno);
    bytes += put;
    size -= static_cast<size_t>(put);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<DurableFile>> DurableFile::Create(
    const std::string& path) {
  static std::atomic<uint64_t> next_suffix{0};
  // Beside the target, since a rename does not cross file systems; by process
  // and number, since two writers of one name may race.
  const std::string temporary =
      absl::StrCat(path, kTemporary, getpid(), ".", next_suffix++);
  const int fd =
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return FileError("create", temporary, errno);
  return std::unique_ptr<DurableFile>(new DurableFile(path, temporary, fd));
}

bool DurableFile::IsRemainder(const std::string& name) {
  const size_t at = name.rfind(kTemporary);
  if (at == std::string::npos) return false;
  const std::pair<std::string, std::string> parts = absl::StrSplit(
      name.substr(at + strlen(kTemporary)), absl::MaxSplits('.', 1));
  uint64_t process = 0, number = 0;
  return absl::SimpleAtoi(parts.first, &process) &&
         absl::SimpleAtoi(parts.second, &number);
}

DurableFile::~DurableFile() {
  if (fd_ >= 0) close(fd_);
  // On every failure, so that a full disk is not kept full by what failed.
  if (!committed_) unlink(temporary_.c_str());
}

absl::Status DurableFile::Append(const void* data, size_t size) {
  return WriteAll(fd_, data, size, temporary_);
}

absl::Status DurableFile::Commit() {
  // The bytes before the name: else a crash may leave a name over nothing.
  if (fsync(fd_) != 0) return FileError("fsync", temporary_, errno);
  const int fd = fd_;
  fd_ = -1;
  // Network file systems report a full disk here.
  if (close(fd) != 0) return FileError("close", temporary_, errno);
  RETURN_IF_ERROR(RenameDurably(temporary_, path_));
  committed_ = true;
  return absl::OkStatus();
}

absl::Status WriteFileDurably(const std::string& path, const void* data,
                              size_t size) {
  ASSIGN_OR_RETURN(const auto file, DurableFile::Create(path));
  RETURN_IF_ERROR(file->Append(data, size));
  return file->Commit();
}

absl::Status SyncPath(const std::string& path) {
  Descriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return FileError("open", path, errno);
  if (fsync(fd.get()) != 0) return FileError("fsync", path, errno);
  return absl::OkStatus();
}

absl::Status MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return FileError("make directory", path, error.value());
  return absl::OkStatus();
}

absl::Status RenameDurably(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) != 0) {
    return FileError(absl::StrCat("rename ", from, " to"), to, errno);
  }
  // The rename itself is in the directory, and durable when that is.
  RETURN_IF_ERROR(SyncPath(ParentOf(to)));
  if (ParentOf(from) != ParentOf(to)) return SyncPath(ParentOf(from));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ListDirectory(
    const std::string& path) {
  std::error_code error;
  std::vector<std::string> names;
  std::filesystem::directory_iterator entry(path, error);
  for (; !error && entry != std::filesystem::directory_iterator();
       entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) return FileError("list", path, error.value());
  // The system's order differs from one file system to the next.
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status RemoveAll(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return FileError("remove", path, error.value());
  return absl::OkStatus();
}

absl::StatusOr<std::string> AbsolutePath(const std::string& path) {
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error);
  if (error) {
    return absl::InternalError(
        absl::StrCat(path, ": the working directory is gone: ", error.message(),
                     "; change to one that exists"));
  }
  return absolute.lexically_normal().string();
}

std::string ParentOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace temper
