#include "proto/wire/task_file.h"

#include <google/protobuf/util/json_util.h>

#include <map>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/json_line.h"

namespace temper {

absl::Status CheckTask(const Task& task) {
  if (task.id().empty()) return absl::InvalidArgumentError("id is empty");
  if (task.environment().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("task ", task.id(), ": environment is empty"));
  }
  if (task.split() != "train" && task.split() != "heldout") {
    return absl::InvalidArgumentError(
        absl::StrCat("task ", task.id(), ": split is \"", task.split(),
                     "\", not train or heldout"));
  }
  if (task.messages().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("task ", task.id(), ": messages is empty"));
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

absl::StatusOr<std::vector<Task>> ParseTasks(const std::string& text,
                                             const std::string& source) {
  if (text.size() > kTaskFileBytesMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat(source, ": ", text.size(), " bytes of tasks, at most ",
                     kTaskFileBytesMax));
  }
  std::vector<Task> tasks;
  absl::flat_hash_map<std::string, size_t> lines;  // of each id
  size_t line = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string json = text.substr(at, end - at);
    at = end + 1;
    const std::string place = absl::StrCat(source, ":", ++line);
    const std::string where = place + ": ";
    if (IsBlankLine(json)) continue;
    if (json.size() > kTaskLineBytesMax || tasks.size() == kTasksMax) {
      return absl::ResourceExhaustedError(absl::StrCat(
          where, json.size(), " bytes of task ", tasks.size(), "; at most ",
          kTaskLineBytesMax, " bytes and ", kTasksMax, " tasks"));
    }
    Task task;
    RETURN_IF_ERROR(ParseJsonLine(json, place, &task));
    const absl::Status checked = CheckTask(task);
    if (!checked.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(where, checked.message()));
    }
    const auto [first, inserted] = lines.try_emplace(task.id(), line);
    if (!inserted) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, "task id ", task.id(), " is on line ",
                       first->second, " already"));
    }
    tasks.push_back(std::move(task));
  }
  if (tasks.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(source, " holds no tasks"));
  }
  return tasks;
}

absl::StatusOr<std::vector<Task>> ReadTaskFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kTaskFileBytesMax));
  return ParseTasks(text, path);
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
