#include "tools/bench/sandbox_bench.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "environments/python_session.h"
#include "environments/sandbox.h"
#include "environments/sandbox_policy.h"
#include "environments/sandbox_supervisor.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr char kCell[] = "1";
constexpr int kWarmUpRuns = 5;
// Long enough for the zygote to fork ahead, as between the turns of a model.
constexpr useconds_t kPauseMicros = 20'000;

// The least that a zygote can do: no namespace, no mount, no cgroup, no keeper.
constexpr char kBareZygote[] = R"(
import ctypes, posix
libc = ctypes.CDLL(None)
code = ctypes.create_string_buffer(filter, len(filter))
program = (ctypes.c_uint64 * 2)(len(filter) // 8, ctypes.addressof(code))
libc.prctl(38, 1, 0, 0, 0)
while True:
    cell = posix.read(0, 4096)
    if not cell:
        break
    if posix.fork() == 0:
        libc.prctl(22, 2, program, 0, 0)
        exec(compile(cell, "<cell>", "exec"), {})
        posix._exit(0)
    posix.waitpid(-1, 0)
    posix.write(1, b"k")
)";

// Starts a program with `in` and `out` for its stdin and stdout; -1 if it could
// not be.
pid_t Spawn(const std::vector<std::string>& argv, int in, int out) {
  std::vector<char*> args;
  for (const std::string& arg : argv) {
    args.push_back(const_cast<char*>(arg.c_str()));
  }
  args.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in, 0);
  posix_spawn_file_actions_adddup2(&actions, out, 1);
  pid_t pid = -1;
  const int error =
      posix_spawn(&pid, args[0], &actions, nullptr, args.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  return error == 0 ? pid : -1;
}

// Milliseconds that `run` takes.
absl::StatusOr<double> Time(const std::function<absl::Status()>& run) {
  const auto begin = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(run());
  return std::chrono::duration<double, std::milli>(
             std::chrono::steady_clock::now() - begin)
      .count();
}

double Quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share *
                                    static_cast<double>(values.size() - 1))];
}

absl::Status RunBwrap(int null) {
  const pid_t pid =
      Spawn({"/usr/bin/bwrap", "--unshare-all", "--die-with-parent",
             "--new-session",  "--ro-bind",     "/usr",
             "/usr",           "--symlink",     "usr/lib",
             "/lib",           "--symlink",     "usr/lib64",
             "/lib64",         "--proc",        "/proc",
             "--dev",          "/dev",          "--tmpfs",
             "/tmp",           "--clearenv",    "/usr/bin/true"},
            null, null);
  int status = -1;
  if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
    return absl::UnavailableError("bwrap could not run /usr/bin/true");
  }
  return absl::OkStatus();
}

absl::Status RunSession(SandboxPool* pool) {
  PythonSession session(pool, /*seed=*/1, PythonSessionLimits());
  const absl::StatusOr<ToolResult> result = session.Run(kCell);
  RETURN_IF_ERROR(result.status());
  if (result->outcome() == OUTCOME_OK) return absl::OkStatus();
  return absl::UnavailableError("a session could not run a cell: " +
                                result->content());
}

// A bare zygote while it lives.
class BareZygote {
 public:
  static absl::StatusOr<std::unique_ptr<BareZygote>> Start() {
    ASSIGN_OR_RETURN(const std::string filter, MakeSeccompFilter());
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
      return absl::UnavailableError(
          absl::StrCat("socketpair: ", strerror(errno)));
    }
    const pid_t pid =
        Spawn({"/usr/bin/python3", "-s", "-S", "-u", "-X", "utf8", "-c",
               absl::StrCat("filter = bytes.fromhex('",
                            absl::BytesToHexString(filter), "')", kBareZygote)},
              ends[1], ends[1]);
    close(ends[1]);
    std::unique_ptr<BareZygote> zygote(new BareZygote(ends[0], pid));
    if (pid < 0) return absl::UnavailableError("python3 does not start");
    return zygote;
  }
  ~BareZygote() {
    close(fd_);
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
  }

  absl::Status Run() {
    char reply;
    if (send(fd_, kCell, strlen(kCell), MSG_NOSIGNAL) < 0 ||
        read(fd_, &reply, 1) != 1) {
      return absl::UnavailableError("the bare zygote is gone");
    }
    return absl::OkStatus();
  }

 private:
  BareZygote(int fd, pid_t pid) : fd_(fd), pid_(pid) {}
  const int fd_;
  const pid_t pid_;
};

absl::StatusOr<double> RunsPerSecond(int runs,
                                     const std::function<absl::Status()>& run) {
  for (int i = 0; i < kWarmUpRuns; ++i) RETURN_IF_ERROR(run());
  ASSIGN_OR_RETURN(const double ms, Time([&] {
                     for (int i = 0; i < runs; ++i) RETURN_IF_ERROR(run());
                     return absl::OkStatus();
                   }));
  return 1000.0 * runs / ms;
}

// The processor that this process and what it starts from here on run on.
class OneCore {
 public:
  OneCore() {
    sched_getaffinity(0, sizeof(before_), &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof(one), &one);
  }
  ~OneCore() { sched_setaffinity(0, sizeof(before_), &before_); }

 private:
  cpu_set_t before_;
};

SandboxSupervisorOptions OneSlot() {
  SandboxSupervisorOptions options;
  options.slots_max = 1;
  return options;
}

absl::Status MeasureTimes(int runs, SandboxSpeed* speed) {
  ASSIGN_OR_RETURN(const auto supervisor, SandboxSupervisor::Start(OneSlot()));
  ASSIGN_OR_RETURN(const auto pool, SandboxPool::Create(supervisor.get()));
  speed->walls = supervisor->description();
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  std::vector<double> sessions, bwraps;
  absl::Status failed;
  for (int i = -kWarmUpRuns; i < runs && failed.ok(); ++i) {
    const auto bwrap = Time([null] { return RunBwrap(null); });
    usleep(kPauseMicros);
    const auto session = Time([&pool] { return RunSession(pool.get()); });
    failed = bwrap.ok() ? session.status() : bwrap.status();
    if (!failed.ok() || i < 0) continue;
    bwraps.push_back(*bwrap);
    sessions.push_back(*session);
  }
  close(null);
  RETURN_IF_ERROR(failed);
  speed->run_p50_ms = Quantile(sessions, 0.5);
  speed->run_p95_ms = Quantile(sessions, 0.95);
  speed->bwrap_p50_ms = Quantile(bwraps, 0.5);
  return absl::OkStatus();
}

absl::Status MeasureRates(int runs, SandboxSpeed* speed) {
  const OneCore one;
  ASSIGN_OR_RETURN(const auto supervisor, SandboxSupervisor::Start(OneSlot()));
  ASSIGN_OR_RETURN(const auto pool, SandboxPool::Create(supervisor.get()));
  ASSIGN_OR_RETURN(const auto bare, BareZygote::Start());
  ASSIGN_OR_RETURN(speed->bare_runs_per_core,
                   RunsPerSecond(runs, [&bare] { return bare->Run(); }));
  ASSIGN_OR_RETURN(speed->runs_per_core, RunsPerSecond(runs, [&pool] {
                     return RunSession(pool.get());
                   }));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SandboxSpeed> BenchSandbox(int runs) {
  SandboxSpeed speed;
  RETURN_IF_ERROR(MeasureTimes(runs, &speed));
  RETURN_IF_ERROR(MeasureRates(runs, &speed));
  return speed;
}

}  // namespace temper
