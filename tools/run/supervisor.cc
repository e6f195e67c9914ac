#include "tools/run/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/signal_name.h"
#include "tools/cli/exit_code.h"

namespace temper {
namespace {

constexpr int64_t kPollMicros = 5'000;
constexpr uint64_t kTailBytesMax = 64 << 10;

// What the child does between fork and exec. Only calls that are safe after
// fork in a process that may have threads.
[[noreturn]] void BecomeChild(const char* program, char* const* argv,
                              char* const* variables, int log_fd,
                              pid_t parent) {
  // A group of its own: Ctrl-C of the terminal reaches the parent alone, which
  // asks the children in its order; and kill(-pid) ends what they started.
  setpgid(0, 0);
  // The parent may have died before the kernel knew to tell us.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) _exit(127);
  // exec keeps what is blocked and what is ignored.
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGINT, SIGTERM, SIGCHLD, SIGPIPE}) {
    signal(number, SIG_DFL);
  }
  // A child that read the terminal would take keys from the shell.
  const int empty = open("/dev/null", O_RDONLY);
  if (empty < 0 || dup2(empty, 0) < 0 || dup2(log_fd, 1) < 0 ||
      dup2(log_fd, 2) < 0) {
    _exit(127);
  }
  // The run's lock and database are the parent's: a child that outlived it for
  // a moment must not hold them.
  close_range(3, ~0U, 0);
  execve(program, argv, variables);
  _exit(127);
}

// This process's environment with `own` beside it or in its place.
std::vector<std::string> WithVariables(const std::vector<std::string>& own) {
  std::vector<std::string> all = own;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string inherited = *at;
    const std::string name = inherited.substr(0, inherited.find('=') + 1);
    const bool replaced =
        std::any_of(own.begin(), own.end(), [&name](const std::string& one) {
          return absl::StartsWith(one, name);
        });
    if (!replaced) all.push_back(inherited);
  }
  return all;
}

// As exec takes them; of the words, which must outlive it.
std::vector<char*> Pointers(std::vector<std::string>* words) {
  std::vector<char*> pointers;
  for (std::string& word : *words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::string HowItEnded(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) return absl::StrCat("exit ", info.si_status);
  return DescribeSignal(info.si_status);
}

std::string ReadTail(const std::string& path, uint64_t bytes_max) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  const off_t size = std::max<off_t>(lseek(fd, 0, SEEK_END), 0);
  const off_t from = std::max<off_t>(0, size - static_cast<off_t>(bytes_max));
  std::string text(static_cast<size_t>(size - from), '\0');
  // What was read is what there is: a log may be trimmed between the two calls.
  const ssize_t got = pread(fd, text.data(), text.size(), from);
  close(fd);
  text.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  return text;
}

}  // namespace

std::string EventKindName(ChildEvent::Kind kind) {
  switch (kind) {
    case ChildEvent::Kind::kStarted:
      return "started";
    case ChildEvent::Kind::kFinished:
      return "finished";
    case ChildEvent::Kind::kFailed:
      return "failed";
    case ChildEvent::Kind::kRestarting:
      return "restarting";
    case ChildEvent::Kind::kSpent:
      return "spent";
  }
  CHECK(false) << "event " << static_cast<int>(kind);
  return "";
}

std::string LastLines(const std::string& path, int lines_max) {
  const std::string text = ReadTail(path, kTailBytesMax);
  size_t begin = text.size();
  if (begin > 0 && text.back() == '\n') --begin;
  for (int line = 0; line < lines_max; ++line) {
    const size_t newline =
        begin == 0 ? std::string::npos : text.rfind('\n', begin - 1);
    if (newline == std::string::npos) return text;
    begin = newline;
  }
  return text.substr(std::min(begin + 1, text.size()));
}

Supervisor::Supervisor(const SupervisorOptions& options, Clock* clock,
                       std::function<void(const ChildEvent&)> on_event)
    : options_(options), clock_(clock), on_event_(std::move(on_event)) {}

Supervisor::~Supervisor() {
  Stop([] { return true; });
}

std::string Supervisor::LogPath(const std::string& name) const {
  return absl::StrCat(options_.log_dir, "/", name, ".log");
}

void Supervisor::Emit(const Child& child, ChildEvent::Kind kind,
                      const std::string& detail) const {
  if (on_event_) on_event_({child.spec.name, kind, detail});
}

absl::Status Supervisor::Start(const ChildSpec& spec) {
  for (const Child& child : children_) {
    CHECK(child.spec.name != spec.name) << spec.name << " is there already";
  }
  Child child;
  child.spec = spec;
  const absl::Status status = Spawn(&child);
  if (status.ok()) children_.push_back(child);
  return status;
}

absl::Status Supervisor::Spawn(Child* child) {
  const std::string path = LogPath(child->spec.name);
  const int log_fd =
      open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log_fd < 0) return FileError("open", path, errno);
  std::vector<std::string> words = {"temper"};
  words.insert(words.end(), child->spec.args.begin(), child->spec.args.end());
  // All that allocates happens before fork.
  const std::vector<char*> argv = Pointers(&words);
  std::vector<std::string> environment = WithVariables(options_.environment);
  const std::vector<char*> variables = Pointers(&environment);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    BecomeChild(options_.program.c_str(), argv.data(), variables.data(), log_fd,
                parent);
  }
  const int error = errno;
  close(log_fd);
  if (pid < 0) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "no process for ", child->spec.name, ": ", strerror(error)));
  }
  // Both sides set the group: whoever comes first, kill(-pid) then works.
  setpgid(pid, pid);
  child->pid = pid;
  child->started_us = clock_->MonotonicMicros();
  child->waiting = false;
  Emit(*child, ChildEvent::Kind::kStarted, absl::StrCat("pid ", pid));
  return absl::OkStatus();
}

void Supervisor::Spent(const Child& child) {
  if (first_failure_.empty()) first_failure_ = child.spec.name;
  Emit(child, ChildEvent::Kind::kSpent,
       absl::StrCat(child.restarts, " restarts"));
}

void Supervisor::Failed(Child* child, const std::string& how) {
  Emit(*child, ChildEvent::Kind::kFailed, how);
  if (stopping_) return;
  // A run lasts for days: what dies now and then is not what dies at once.
  if (clock_->MonotonicMicros() - child->started_us >=
      1000 * options_.restarts_back_ms) {
    child->restarts = 0;
  }
  // Whoever was told something wrong will be told the same again.
  const bool misused = how == absl::StrCat("exit ", kExitMisused);
  const bool counted = child->spec.restarts_max != kRestartsUncounted;
  if (misused || (counted && child->restarts >= child->spec.restarts_max)) {
    Spent(*child);
    return;
  }
  int64_t backoff_ms = options_.backoff_ms;
  // Doubled each time: what dies at once dies of something that lasts.
  for (int i = 0; i < child->restarts; ++i) {
    backoff_ms = std::min(2 * backoff_ms, options_.backoff_ms_max);
  }
  ++child->restarts;
  child->waiting = true;
  child->restart_at_us = clock_->MonotonicMicros() + 1000 * backoff_ms;
  Emit(*child, ChildEvent::Kind::kRestarting,
       absl::StrCat("in ", backoff_ms, " ms, ", child->restarts,
                    counted ? absl::StrCat(" of ", child->spec.restarts_max)
                            : " so far"));
}

bool Supervisor::Reap(Child* child) {
  siginfo_t info = {};
  // Left a zombie at first, so that its group's number is still its own.
  if (waitid(P_PID, static_cast<id_t>(child->pid), &info,
             WEXITED | WNOHANG | WNOWAIT) != 0 ||
      info.si_pid == 0) {
    return false;
  }
  // Its own children go with it.
  kill(-child->pid, SIGKILL);
  waitpid(child->pid, nullptr, 0);
  child->pid = 0;
  // Of a signal 9 that we sent, the kernel and its memory are not suspected.
  const bool by_us = info.si_code != CLD_EXITED && info.si_status == SIGKILL &&
                     !child->killed_for.empty();
  const std::string how =
      by_us ? absl::StrCat("killed ", child->killed_for) : HowItEnded(info);
  if (info.si_code == CLD_EXITED && info.si_status == kExitDone) {
    child->finished = true;
    child->finished_at_us = clock_->MonotonicMicros();
    Emit(*child, ChildEvent::Kind::kFinished, how);
  } else {
    Failed(child, how);
  }
  return true;
}

void Supervisor::UpdateState() {
  if (state_ != RunState::kRunning) return;
  std::set<std::string> ended, alive;
  for (const Child& child : children_) {
    const bool live = child.pid != 0 || child.waiting;
    if (child.spec.essential && !live) {
      state_ = child.finished ? RunState::kFinished : RunState::kFailed;
      if (!child.finished) first_failure_ = child.spec.name;
      return;
    }
    // Whoever finished did its part and is not missed until finish_slack_ms are
    // over.
    (live || child.finished ? alive : ended).insert(child.spec.group);
  }
  if (stopping_) return;
  for (const std::string& group : ended) {
    if (alive.count(group) == 0) state_ = RunState::kFailed;
  }
}

RunState Supervisor::Poll() {
  for (Child& child : children_) {
    if (child.pid != 0) {
      Reap(&child);
      TrimLog(LogPath(child.spec.name));
    } else if (child.waiting &&
               clock_->MonotonicMicros() >= child.restart_at_us) {
      child.waiting = false;
      const absl::Status status = Spawn(&child);
      if (!status.ok()) {
        Failed(&child, std::string(status.message()));
      }
    }
  }
  // Workers end when the learner says so, and are often reaped before it: only
  // if it then goes on have they ended too early.
  for (Child& child : children_) {
    if (child.finished && !child.spec.essential && !stopping_ &&
        clock_->MonotonicMicros() - child.finished_at_us >=
            1000 * options_.finish_slack_ms) {
      child.finished = false;
      Failed(&child, "finished, but the run goes on");
    }
  }
  UpdateState();
  return state_;
}

void Supervisor::Stop(const std::function<bool()>& hurry) {
  stopping_ = true;
  std::set<int> orders;
  for (Child& child : children_) {
    child.waiting = false;
    if (child.pid != 0) orders.insert(child.spec.stop_order);
  }
  for (const int order : orders) {
    // Real time, whatever the clock: processes end in it.
    const int64_t began_us = SystemClock()->MonotonicMicros();
    for (const Child& child : children_) {
      if (child.pid != 0 && child.spec.stop_order == order) {
        kill(child.pid, SIGTERM);
      }
    }
    for (bool any = true; any;) {
      any = false;
      const bool hurried = hurry && hurry();
      const int64_t elapsed_us = SystemClock()->MonotonicMicros() - began_us;
      for (Child& child : children_) {
        if (child.pid == 0) continue;
        const bool now = child.spec.stop_order == order;
        const bool late = elapsed_us >= 1000 * child.spec.stop_grace_ms;
        // Ends its group: a child that does not heed SIGTERM may have some that
        // do not either.
        if (now && (hurried || late)) {
          child.killed_for = late
                                 ? absl::StrCat("when it had not ended ",
                                                child.spec.stop_grace_ms / 1000,
                                                " s after it was asked to")
                                 : "in the hurry that was asked for";
          kill(-child.pid, SIGKILL);
        }
        if (!Reap(&child)) any |= now;
      }
      if (any) usleep(kPollMicros);
    }
  }
  UpdateState();
}

void Supervisor::TrimLog(const std::string& path) const {
  struct stat info;
  if (stat(path.c_str(), &info) != 0 ||
      static_cast<uint64_t>(info.st_size) <= options_.log_bytes_max) {
    return;
  }
  const std::string tail = ReadTail(path, options_.log_bytes_max / 2);
  const absl::Status kept = WriteFileDurably(path + ".1", tail);
  // The child appends, so a shorter file is where it goes on.
  if (!kept.ok() || truncate(path.c_str(), 0) != 0) {
    LOG(WARNING) << "cannot trim " << path << ": " << kept;
  }
}

}  // namespace temper
