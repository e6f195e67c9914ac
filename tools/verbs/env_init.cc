#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "environments/described_facts.h"
#include "environments/example_python/example_files.h"
#include "environments/registry.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/task_file.h"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/print.h"
#include "tools/quickstart/tasks.h"
#include "tools/verbs/env_verbs.h"

namespace temper {
namespace {

constexpr char kProtoc[] = "/usr/bin/protoc";
constexpr char kPlugin[] = "/usr/bin/grpc_python_plugin";
constexpr char kRegistry[] = "environments/registry.cc";
constexpr char kRegistryBuild[] = "environments/BUILD";
constexpr char kGolden[] = "environments/golden";
constexpr uint64_t kSourceBytesMax = 1 << 20;
constexpr uint32_t kTrainTasks = 256;
constexpr uint32_t kHeldOutTasks = 64;

bool Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

// The file's text, which is behind a line end.
std::string FileText(const char* embedded) { return embedded + 1; }

// Runs protoc in `dir`, on the two files that it has there.
absl::Status MakeStubs(const std::string& dir) {
  for (const char* tool : {kProtoc, kPlugin}) {
    if (access(tool, X_OK) != 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          tool, " is missing, which makes an environment's stubs; run ",
          "tools/setup.sh, or apt-get install protobuf-compiler ",
          "protobuf-compiler-grpc"));
    }
  }
  const std::string plugin = absl::StrCat("--plugin=protoc-gen-grpc=", kPlugin);
  const pid_t pid = fork();
  if (pid == 0) {
    if (chdir(dir.c_str()) != 0) _exit(126);
    execl(kProtoc, "protoc", "-I.", "--python_out=.", "--grpc_out=.",
          plugin.c_str(), "proto/environment.proto", "proto/task.proto",
          static_cast<char*>(nullptr));
    _exit(127);
  }
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
    return absl::InternalError(absl::StrCat("protoc made no stubs in ", dir,
                                            "/proto; what it says is above"));
  }
  return absl::OkStatus();
}

// The sums of the quickstart, which its model can try.
std::vector<Task> SumTasks(const std::string& name) {
  std::vector<Task> tasks;
  for (const auto& [split, count] :
       {std::pair<TaskSplit, uint32_t>{TaskSplit::kTrain, kTrainTasks},
        {TaskSplit::kHeldOut, kHeldOutTasks}}) {
    uint32_t left = count;
    // One of three kinds is a sum.
    for (Task& task : QuickstartTasks(/*seed=*/0, split, 3 * count)) {
      if (task.environment() != "math" || left == 0) continue;
      --left;
      task.set_environment(name);
      tasks.push_back(std::move(task));
    }
  }
  return tasks;
}

absl::Status WritePython(const std::string& dir, const std::string& name) {
  RETURN_IF_ERROR(MakeDirectories(dir + "/proto"));
  const std::string program = absl::StrReplaceAll(
      FileText(kExamplePython), {{"name=\"sums\"", "name=\"" + name + "\""}});
  for (const auto& [file, text] :
       {std::pair<std::string, std::string>{"environment.py", program},
        {"proto/environment.proto", FileText(kEnvironmentProto)},
        {"proto/task.proto", FileText(kTaskProto)},
        // A package, before another of the name that may be installed.
        {"proto/__init__.py", ""}}) {
    RETURN_IF_ERROR(WriteFileDurably(absl::StrCat(dir, "/", file), text));
  }
  RETURN_IF_ERROR(MakeStubs(dir));
  return WriteTaskFile(dir + "/tasks.jsonl", SumTasks(name));
}

absl::Status InitPython(const std::string& dir, const std::string& name) {
  if (Exists(dir)) {
    return absl::InvalidArgumentError(dir + " exists; name a new directory");
  }
  const absl::Status written = WritePython(dir, name);
  if (!written.ok()) {
    // Whole or not at all: it can be tried again.
    RemoveAll(dir).IgnoreError();
    return written;
  }
  PrintOut(
      "%s is an environment: environment.py, and tasks.jsonl for it. Next:\n"
      "  temper env register %s --directory %s\n"
      "  temper env test %s --tasks %s/tasks.jsonl\n",
      dir, name, dir, name, dir);
  return absl::OkStatus();
}

// `line` among the lines of `text` that begin with `prefix`, in their order,
// from `from` on.
absl::StatusOr<std::string> InsertLine(const std::string& text, size_t from,
                                       const std::string& prefix,
                                       const std::string& line) {
  size_t at = text.find("\n" + prefix, from);
  if (from == std::string::npos || at == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "no line begins with ", prefix, "; is this the root of its sources?"));
  }
  for (++at; text.compare(at, prefix.size(), prefix) == 0 &&
             text.substr(at, text.find('\n', at) - at) < line;) {
    at = text.find('\n', at) + 1;
  }
  return absl::StrCat(text.substr(0, at), line, "\n", text.substr(at));
}

absl::Status AddToRegistry(const std::string& name, const std::string& camel) {
  ASSIGN_OR_RETURN(std::string table, ReadFile(kRegistry, kSourceBytesMax));
  ASSIGN_OR_RETURN(std::string build,
                   ReadFile(kRegistryBuild, kSourceBytesMax));
  ASSIGN_OR_RETURN(table, InsertLine(table, 0, "#include \"environments/",
                                     absl::StrCat("#include \"environments/",
                                                  name, "/", name, ".h\"")));
  ASSIGN_OR_RETURN(
      table, InsertLine(table, table.find("kEnvironments[]"), "    {&k",
                        absl::StrCat("    {&k", camel, "Facts, &New", camel,
                                     "Environment},")));
  ASSIGN_OR_RETURN(build, InsertLine(build, build.find("name = \"registry\""),
                                     "        \"//environments/",
                                     absl::StrCat("        \"//environments/",
                                                  name, "\",")));
  RETURN_IF_ERROR(WriteFileDurably(kRegistry, table));
  return WriteFileDurably(kRegistryBuild, build);
}

// `text` without what begins so, to the end of the paragraph.
std::string Without(const std::string& text, const std::string& begin) {
  const size_t from = text.find(begin);
  if (from == std::string::npos) return text;
  const size_t end = text.find("\n\n", from + 1);
  return text.substr(0, from) + text.substr(end + 1);
}

// A copy of environments/example under another name.
absl::Status InitCpp(const std::string& name) {
  if (name.find('-') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is to be a name in C++: use _, not -"));
  }
  if (!Exists(kRegistry) || !Exists(kRegistryBuild)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "there is no ", kRegistry,
        " here; an environment in C++ is a part of Temper: run this in the "
        "root of its sources"));
  }
  const std::string dir = "environments/" + name;
  if (Exists(dir)) {
    return absl::InvalidArgumentError(dir + " exists; choose another name");
  }
  std::string camel;
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '_') continue;
    const bool first = i == 0 || name[i - 1] == '_';
    camel += first ? absl::ascii_toupper(static_cast<unsigned char>(name[i]))
                   : name[i];
  }
  const std::vector<std::pair<std::string, std::string>> names = {
      {"example", name},
      {"Example", camel},
      {"EXAMPLE", absl::AsciiStrToUpper(name)}};
  // Without what they say of being copied, which is done.
  const std::string header =
      Without(FileText(kExampleCppHeader), "//\n// To make an environment");
  const std::string build =
      Without(FileText(kExampleCppBuild), "\n# For `temper env init --cpp`.");
  RETURN_IF_ERROR(MakeDirectories(dir));
  RETURN_IF_ERROR(MakeDirectories(kGolden));
  for (const auto& [file, text] :
       {std::pair<std::string, std::string>{absl::StrCat(dir, "/", name, ".h"),
                                            header},
        {absl::StrCat(dir, "/", name, ".cc"), FileText(kExampleCppSource)},
        {dir + "/BUILD", build},
        {absl::StrCat(kGolden, "/", name, ".txt"),
         FileText(kExampleCppGolden)}}) {
    RETURN_IF_ERROR(WriteFileDurably(file, absl::StrReplaceAll(text, names)));
  }
  RETURN_IF_ERROR(AddToRegistry(name, camel));
  PrintOut(
      "%s is an environment, and a line of %s. Next: write what yours does, "
      "and\n"
      "  bazel test //environments:conformance_test\n",
      dir, kRegistry);
  return absl::OkStatus();
}

absl::Status Init(const std::string& dir, bool cpp) {
  const std::string name = dir.substr(dir.rfind('/') + 1);
  RETURN_IF_ERROR(CheckEnvironmentName(name));
  if (FindEnvironment(name) != nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "environment ", name, " is built in; choose another name"));
  }
  if (!cpp) return InitPython(dir, name);
  if (name == dir) return InitCpp(name);
  return absl::InvalidArgumentError(absl::StrCat(
      "with --cpp give a name alone: it will be environments/", name));
}

}  // namespace

int RunEnvInit(int argc, char** argv) {
  std::string dir;
  bool cpp = false;
  Flags flags("env init",
              "Writes an environment to begin with, in Python: a directory, "
              "whose last part is its name, with a program of 60 lines and "
              "tasks.");
  flags.Text("DIR", &dir, "The directory to make.");
  flags.Require();
  flags.Switch("--cpp", &cpp,
               "In C++ instead: environments/DIR of Temper's own sources, in "
               "whose root this is run, and its line of the table.");
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const absl::Status status = Init(dir, cpp);
  return status.ok() ? kExitDone : ReportError("env init", status);
}

}  // namespace temper
