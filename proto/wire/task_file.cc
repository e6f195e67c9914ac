#include "proto/wire/task_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <map>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/util/json_util.h"
#include "kernels/base/byte_order_mark.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/json_line.h"

namespace temper {

absl::Status CheckTask(const Task& task) {
  if (task.id().empty()) {
    return absl::InvalidArgumentError(
        "id is empty; give each task a name of its own");
  }
  if (task.environment().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("task ", task.id(),
                     ": environment is empty; name one of `temper env list`"));
  }
  // A misspelt split would be a task that is never played, and nobody would
  // miss it.
  if (task.split() != "train" && task.split() != "heldout") {
    return absl::InvalidArgumentError(
        absl::StrCat("task ", task.id(), ": split is \"", task.split(),
                     "\", not train or heldout"));
  }
  if (task.messages().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("task ", task.id(),
                     ": messages is empty; the prompt has one at least"));
  }
  for (int i = 0; i < task.messages_size(); ++i) {
    if (task.messages(i).role().empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("task ", task.id(), ": message ", i, " has no role"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> FormatTasks(const std::vector<Task>& tasks) {
  google::protobuf::util::JsonPrintOptions options;
  // The names that users write; protobuf's own would be camelCase.
  options.preserve_proto_field_names = true;
  std::string text;
  absl::flat_hash_map<std::string, size_t> places;
  for (size_t i = 0; i < tasks.size(); ++i) {
    RETURN_IF_ERROR(CheckTask(tasks[i]));
    if (!places.try_emplace(tasks[i].id(), i).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("task id ", tasks[i].id(), " is there twice"));
    }
    std::string line;
    const auto status =
        google::protobuf::util::MessageToJsonString(tasks[i], &line, options);
    CHECK(status.ok()) << status.ToString();
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

absl::StatusOr<std::unique_ptr<TaskFileReader>> TaskFileReader::Open(
    const std::string& path) {
  // Not to wait at a FIFO, which is refused below.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return FileError("open", path, errno);
  FILE* const file = fdopen(fd, "r");
  CHECK(file != nullptr) << path;
  struct stat info = {};
  const int error = fstat(fileno(file), &info) == 0 ? 0 : errno;
  std::unique_ptr<TaskFileReader> reader(
      new TaskFileReader(path, file, static_cast<uint64_t>(info.st_size)));
  if (error != 0) return FileError("stat", path, error);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is not a regular file"));
  }
  if (reader->bytes_total_ > kTaskFileBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " has ", reader->bytes_total_, " bytes, more than the limit of ",
        kTaskFileBytesMax, "; take fewer tasks"));
  }
  return reader;
}

absl::StatusOr<std::optional<TaskFileReader::Line>> TaskFileReader::Next() {
  for (;;) {
    char* text = nullptr;
    size_t capacity = 0;
    errno = 0;
    const ssize_t size = getline(&text, &capacity, file_.get());
    const int error = errno;
    // getline gives memory also when it fails.
    const std::unique_ptr<char, void (*)(void*)> owned(text, &free);
    if (size < 0) {
      if (ferror(file_.get()) != 0) return FileError("read", path_, error);
      // An empty file is a mistake more likely than a wish.
      if (tasks_ > 0) return std::optional<Line>();
      return absl::InvalidArgumentError(absl::StrCat(path_, " holds no tasks"));
    }
    ++number_;
    bytes_read_ += static_cast<uint64_t>(size);
    std::string json(text, static_cast<size_t>(size));
    if (json.back() == '\n') json.pop_back();
    if (number_ == 1) RETURN_IF_ERROR(RefuseByteOrderMark(json, path_));
    if (IsBlankLine(json)) continue;
    if (++tasks_ > kTasksMax) {
      return absl::InvalidArgumentError(absl::StrCat(path_, ":", number_,
                                                     ": more than ", kTasksMax,
                                                     " tasks; take fewer"));
    }
    // An error of one line is that line's: whoever checks a file goes on, to
    // tell of all.
    return std::optional<Line>(Line{number_, Parse(json)});
  }
}

absl::StatusOr<Task> TaskFileReader::Parse(const std::string& json) {
  const std::string place = absl::StrCat(path_, ":", number_);
  if (json.size() > kTaskLineBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(place, ": a line of ", json.size(), " bytes, at most ",
                     kTaskLineBytesMax));
  }
  Task task;
  RETURN_IF_ERROR(ParseJsonLine(json, place, &task));
  const absl::Status checked = CheckTask(task);
  if (!checked.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(place, ": ", checked.message()));
  }
  const auto [first, inserted] = lines_.try_emplace(task.id(), number_);
  if (!inserted) {
    return absl::InvalidArgumentError(absl::StrCat(place, ": task id ",
                                                   task.id(), " is on line ",
                                                   first->second, " already"));
  }
  return task;
}

absl::StatusOr<std::vector<Task>> ReadTaskFile(const std::string& path) {
  ASSIGN_OR_RETURN(const auto reader, TaskFileReader::Open(path));
  std::vector<Task> tasks;
  for (;;) {
    ASSIGN_OR_RETURN(auto line, reader->Next());
    if (!line.has_value()) return tasks;
    RETURN_IF_ERROR(line->task.status());
    tasks.push_back(*std::move(line->task));
  }
}

absl::Status WriteTaskFile(const std::string& path,
                           const std::vector<Task>& tasks) {
  ASSIGN_OR_RETURN(const std::string text, FormatTasks(tasks));
  return WriteFileDurably(path, text);
}

std::vector<Task> HeldOutTasks(const std::vector<Task>& tasks, int64_t count) {
  std::map<std::string, int64_t> taken;
  std::vector<Task> held;
  for (const Task& task : tasks) {
    if (task.split() != "heldout") continue;
    if (taken[task.environment()]++ < count) held.push_back(task);
  }
  return held;
}

}  // namespace temper
