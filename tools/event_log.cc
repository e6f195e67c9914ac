#include "tools/event_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "learner/run_db.h"
#include "learner/sqlite.h"

namespace temper {
namespace {

constexpr uint64_t kLogBytesMax = 64 << 20;

std::string OneField(std::string text) {
  for (char& c : text) {
    if (c == '\t' || c == '\n') c = ' ';
  }
  return text;
}

absl::Status ImportLine(const std::string& line, int64_t attempt,
                        Transaction* transaction) {
  const std::vector<std::string> fields = absl::StrSplit(line, '\t');
  int64_t at_us;
  if (fields.size() != 4 || !absl::SimpleAtoi(fields[0], &at_us)) {
    return absl::OkStatus();
  }
  return transaction->Run(
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
      open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return FileError("open", path, errno);
  const std::string line =
      absl::StrCat(clock->UnixMicros(), "\t", OneField(process), "\t",
                   OneField(kind), "\t", OneField(detail), "\n");
  absl::Status status = WriteAll(fd, line.data(), line.size(), path);
  if (status.ok() && fsync(fd) != 0) status = FileError("fsync", path, errno);
  close(fd);
  return status;
}

absl::Status ImportEvents(const std::string& path, const std::string& run_db,
                          Clock* clock) {
  const auto text = ReadFile(path, kLogBytesMax);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  RETURN_IF_ERROR(text.status());
  if (access(run_db.c_str(), F_OK) != 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto db, RunDb::OpenWriter(run_db, clock));
  ASSIGN_OR_RETURN(const int64_t attempt, db->CurrentAttempt());
  ASSIGN_OR_RETURN(const auto transaction, db->sqlite()->Begin());
  // Only whole lines: the last one may be torn.
  const std::vector<std::string> lines =
      absl::StrSplit(text->substr(0, text->rfind('\n') + 1), '\n');
  for (const std::string& line : lines) {
    RETURN_IF_ERROR(ImportLine(line, attempt, transaction.get()));
  }
  return transaction->Commit();
}

}  // namespace temper
