// tasks.jsonl: one Task a line, proto3 JSON with the fields' own names. Whoever
// makes tasks writes it; the learner reads nothing else.

#ifndef PROTO_WIRE_TASK_FILE_H_
#define PROTO_WIRE_TASK_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

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

// The tasks of `text`, in order; blank lines are skipped. Messages begin with
// "source:line: ". InvalidArgument: not JSON, an unknown field, CheckTask, an
// id that is there twice, no task at all. ResourceExhausted: a limit above.
absl::StatusOr<std::vector<Task>> ParseTasks(const std::string& text,
                                             const std::string& source);

// As ParseTasks, of the file `path`; NotFound if there is none.
absl::StatusOr<std::vector<Task>> ReadTaskFile(const std::string& path);

// Writes `path` so that a crash leaves the old bytes or the new ones. Nothing
// is written if FormatTasks refuses.
absl::Status WriteTaskFile(const std::string& path,
                           const std::vector<Task>& tasks);

// The tasks that an evaluation plays: the first `count` of split heldout of each
// environment, in the order of `tasks`.
std::vector<Task> HeldOutTasks(const std::vector<Task>& tasks, int64_t count);

}  // namespace temper

#endif  // PROTO_WIRE_TASK_FILE_H_
