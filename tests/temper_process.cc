#include "tests/temper_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/sanitized.h"

namespace temper {
namespace {

constexpr useconds_t kPollMicros = 2000;
constexpr uint64_t kTextBytesMax = 64 << 20;
constexpr size_t kProcBytesMax = 4096;
constexpr int64_t kSlower = kSanitized ? 10 : 1;

std::string ReadText(const std::string& path) {
  const auto text = ReadFile(path, kTextBytesMax);
  return text.ok() ? *text : "";
}

// Files of /proc do not say how long they are.
std::string ReadProcFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  std::string text(kProcBytesMax, '\0');
  const ssize_t got = read(fd, text.data(), text.size());
  close(fd);
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return text;
}

// A process that is gone by now is none.
std::optional<ProcessInfo> ReadProcess(pid_t pid) {
  const std::string dir = absl::StrCat("/proc/", pid);
  const std::string stat = ReadProcFile(dir + "/stat");
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  // After "pid (name) ": state, parent, ...; the start is the 22nd of all.
  const std::vector<std::string> fields =
      absl::StrSplit(stat.substr(name_end + 2), ' ');
  if (fields.size() < 20) return std::nullopt;
  ProcessInfo info;
  info.pid = pid;
  info.state = fields[0][0];
  info.parent = static_cast<pid_t>(atoi(fields[1].c_str()));
  info.start = fields[19];
  info.argv =
      absl::StrSplit(ReadProcFile(dir + "/cmdline"), '\0', absl::SkipEmpty());
  return info;
}

std::vector<ProcessInfo> AllProcesses() {
  std::vector<ProcessInfo> all;
  const auto names = ListDirectory("/proc");
  CHECK(names.ok()) << names.status();
  for (const std::string& name : *names) {
    int pid = 0;
    if (!absl::SimpleAtoi(name, &pid)) continue;
    if (auto info = ReadProcess(pid)) all.push_back(*std::move(info));
  }
  return all;
}

}  // namespace

bool Eventually(int64_t deadline_ms, const std::function<bool()>& done) {
  const int64_t deadline =
      SystemClock()->MonotonicMicros() + 1000 * kSlower * deadline_ms;
  while (!done()) {
    if (SystemClock()->MonotonicMicros() > deadline) return false;
    usleep(kPollMicros);
  }
  return true;
}

TemperProcess::TemperProcess(const std::string& program,
                             const std::vector<std::string>& args,
                             const std::string& output,
                             const std::vector<std::string>& environment)
    : output_(output) {
  std::vector<std::string> words = {program};
  words.insert(words.end(), args.begin(), args.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::vector<std::string> settings = environment;
  std::vector<char*> envp;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    envp.push_back(*entry);
  }
  for (std::string& setting : settings) envp.push_back(setting.data());
  envp.push_back(nullptr);
  const int out = open((output + ".out").c_str(),
                       O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  const int err = open((output + ".err").c_str(),
                       O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  CHECK(out >= 0 && err >= 0) << output;
  const pid_t parent = getpid();
  pid_ = fork();
  CHECK(pid_ >= 0) << "no process for " << program;
  if (pid_ == 0) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent ||
        dup2(out, 1) < 0 || dup2(err, 2) < 0) {
      _exit(127);
    }
    execve(program.c_str(), argv.data(), envp.data());
    _exit(127);
  }
  close(out);
  close(err);
}

TemperProcess::~TemperProcess() {
  if (!running()) return;
  Signal(SIGKILL);
  int status = 0;
  waitpid(pid_, &status, 0);
}

bool TemperProcess::running() {
  if (code_.has_value()) return false;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == 0) return true;
  code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return false;
}

void TemperProcess::Signal(int number) {
  if (running()) kill(pid_, number);
}

std::optional<int> TemperProcess::Wait(int64_t deadline_ms) {
  Eventually(deadline_ms, [this] { return !running(); });
  return code_;
}

std::string TemperProcess::out() const { return ReadText(output_ + ".out"); }
std::string TemperProcess::err() const { return ReadText(output_ + ".err"); }

std::vector<ProcessInfo> Descendants(pid_t root) {
  const std::vector<ProcessInfo> all = AllProcesses();
  std::vector<ProcessInfo> found;
  std::set<pid_t> below = {root};
  for (bool grew = true; grew;) {
    grew = false;
    for (const ProcessInfo& process : all) {
      if (below.count(process.parent) == 0) continue;
      if (!below.insert(process.pid).second) continue;
      found.push_back(process);
      grew = true;
    }
  }
  return found;
}

pid_t ChildByVerb(pid_t root, const std::string& verb) {
  for (const ProcessInfo& process : Descendants(root)) {
    if (process.parent == root && process.argv.size() >= 2 &&
        process.argv[1] == verb) {
      return process.pid;
    }
  }
  return 0;
}

bool StillRuns(const ProcessInfo& process) {
  // The first thread may be dead while others still hold files and locks.
  const auto threads =
      ListDirectory(absl::StrCat("/proc/", process.pid, "/task"));
  const auto now = ReadProcess(process.pid);
  if (!now.has_value() || now->start != process.start) return false;
  return (now->state != 'Z' && now->state != 'X') ||
         (threads.ok() && threads->size() > 1);
}

}  // namespace temper
