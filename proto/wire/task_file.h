// tasks.jsonl: one Task a line, proto3 JSON with the fields' own names. Whoever
// makes tasks writes it; the learner reads nothing else.

#ifndef PROTO_WIRE_TASK_FILE_H_
#define PROTO_WIRE_TASK_FILE_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/task.pb.h"

namespace temper {

inline constexpr size_t kTaskFileBytesMax = size_t{1} << 30;
inline constexpr size_t kTaskLineBytesMax = 1 << 20;
inline constexpr size_t kTasksMax = 10'000'000;

// What every task must have: an id, an environment, the split train or heldout,
// at least one message, each with a role. InvalidArgument names the field.
absl::Status CheckTask(const Task& task);

// The file's text: the same bytes for equal tasks. InvalidArgument, naming the
// task, for one that CheckTask refuses or an id that is there twice.
absl::StatusOr<std::string> FormatTasks(const std::vector<Task>& tasks);

// Reads a task file line by line, holding one line and the ids. Not
// thread-safe.
class TaskFileReader {
 public:
  // What stands on a line that is not blank. `task` is InvalidArgument, begun
  // with "PATH:LINE: ", where it is none: not JSON, an unknown field, a line
  // too long, CheckTask, an id that an earlier line has. The lines after it can
  // be read all the same.
  struct Line {
    size_t number = 0;  // from 1
    absl::StatusOr<Task> task;
  };

  // Errors as ReadFile's (kernels/base/file.h).
  static absl::StatusOr<std::unique_ptr<TaskFileReader>> Open(
      const std::string& path);

  // The next line, none at the end. An error is the file's, and the last word:
  // InvalidArgument where it holds no task at all or more than kTasksMax, else
  // that the file cannot be read.
  absl::StatusOr<std::optional<Line>> Next();

  uint64_t bytes_read() const { return bytes_read_; }
  uint64_t bytes_total() const { return bytes_total_; }

 private:
  TaskFileReader(const std::string& path, FILE* file, uint64_t bytes_total)
      : path_(path), file_(file, &fclose), bytes_total_(bytes_total) {}
  absl::StatusOr<Task> Parse(const std::string& json);

  const std::string path_;
  const std::unique_ptr<FILE, int (*)(FILE*)> file_;
  const uint64_t bytes_total_;
  uint64_t bytes_read_ = 0;
  size_t number_ = 0;
  size_t tasks_ = 0;                                // lines that were not blank
  absl::flat_hash_map<std::string, size_t> lines_;  // of each id
};

// All tasks of the file `path`, in order, or the reader's first error.
absl::StatusOr<std::vector<Task>> ReadTaskFile(const std::string& path);

// Writes `path` so that a crash leaves the old bytes or the new ones. Nothing
// is written if FormatTasks refuses.
absl::Status WriteTaskFile(const std::string& path,
                           const std::vector<Task>& tasks);

// The tasks that an evaluation plays: the first `count` of split heldout of
// each environment, in the order of `tasks`.
std::vector<Task> HeldOutTasks(const std::vector<Task>& tasks, int64_t count);

}  // namespace temper

#endif  // PROTO_WIRE_TASK_FILE_H_
