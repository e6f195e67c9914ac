#include "learner/store/event_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "learner/store/sqlite.h"

namespace temper {
namespace {

// Of one import; the rest waits for the next. A line is far shorter.
constexpr uint64_t kReadBytesMax = 1 << 20;

std::string OneField(std::string text) {
  for (char& c : text) {
    if (c == '\t' || c == '\n') c = ' ';
  }
  return text;
}

// Whether the file's last line was torn: a new one must not be glued to it.
bool EndsTorn(int fd) {
  // A writer that was killed between write and newline.
  const off_t size = lseek(fd, 0, SEEK_END);
  char last = '\n';
  return size > 0 && pread(fd, &last, 1, size - 1) == 1 && last != '\n';
}

// The whole lines of `path` from `offset` on; "" if there is no file.
absl::StatusOr<std::string> ReadLines(const std::string& path,
                                      uint64_t offset) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return std::string();
  if (fd < 0) return FileError("open", path, errno);
  const off_t size = lseek(fd, 0, SEEK_END);
  const uint64_t end = static_cast<uint64_t>(std::max<off_t>(size, 0));
  std::string text(
      end > offset ? std::min<uint64_t>(end - offset, kReadBytesMax) : 0, '\0');
  const ssize_t got =
      pread(fd, text.data(), text.size(), static_cast<off_t>(offset));
  const int error = errno;
  close(fd);
  if (got < 0) return FileError("read", path, error);
  text.resize(static_cast<size_t>(got));
  // rfind's npos + 1 is 0: without a whole line there is nothing yet.
  text.resize(text.rfind('\n') + 1);
  return text;
}

absl::Status ImportLine(const std::string& line, int64_t attempt,
                        Transaction* transaction) {
  const std::vector<std::string> fields = absl::StrSplit(line, '\t');
  int64_t at_us;
  // A torn line, closed by the next writer's newline. To stop at it would be to
  // lose all that follows.
  if (fields.size() != 4 || !absl::SimpleAtoi(fields[0], &at_us)) {
    return absl::OkStatus();
  }
  return transaction->Run(
      // The offset is not kept across learners: a new one reads the file from
      // its start, and what is there already is told by this.
      "INSERT INTO event(at_us, attempt, process, kind, detail) "
      "SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (SELECT 1 FROM event "
      "WHERE at_us = ?1 AND process = ?3 AND kind = ?4)",
      {at_us, attempt, fields[1], fields[2], fields[3]});
}

}  // namespace

absl::Status AppendEvent(const std::string& path, Clock* clock,
                         const std::string& process, const std::string& kind,
                         const std::string& detail) {
  const int fd =
      open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return FileError("open", path, errno);
  const std::string line = absl::StrCat(
      EndsTorn(fd) ? "\n" : "", clock->UnixMicros(), "\t", OneField(process),
      "\t", OneField(kind), "\t", OneField(detail), "\n");
  absl::Status status = WriteAll(fd, line.data(), line.size(), path);
  // The parent may be the next to die, and this line says why the child did.
  if (status.ok() && fsync(fd) != 0) status = FileError("fsync", path, errno);
  close(fd);
  return status;
}

absl::Status ImportEvents(const std::string& path, RunDb* db,
                          uint64_t* offset) {
  for (;;) {
    ASSIGN_OR_RETURN(const std::string text, ReadLines(path, *offset));
    if (text.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const auto transaction, db->sqlite()->Begin());
    ASSIGN_OR_RETURN(const int64_t attempt, CurrentAttempt(transaction.get()));
    const std::vector<std::string> lines = absl::StrSplit(text, '\n');
    for (const std::string& line : lines) {
      RETURN_IF_ERROR(ImportLine(line, attempt, transaction.get()));
    }
    RETURN_IF_ERROR(transaction->Commit());
    // Only now: an import that failed is made again, from the same place.
    *offset += text.size();
  }
}

EventFollower::EventFollower(const std::string& path, RunDb* db)
    : path_(path), db_(db), thread_([this] { Follow(); }) {}

EventFollower::~EventFollower() {
  {
    const MutexLock lock(&mutex_);
    done_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

void EventFollower::Follow() {
  uint64_t offset = 0;
  for (bool last = false;;) {
    const absl::Status status = ImportEvents(path_, db_, &offset);
    if (!status.ok()) LOG(WARNING) << "events not recorded: " << status;
    if (last) return;
    const MutexLock lock(&mutex_);
    if (!done_) {
      changed_.WaitFor(&mutex_, std::chrono::milliseconds(kPollMs));
    }
    last = done_;
  }
}

}  // namespace temper
