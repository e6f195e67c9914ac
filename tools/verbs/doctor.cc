#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "environments/sandbox.h"
#include "environments/sandbox_supervisor.h"
#include "kernels/base/clock.h"
#include "kernels/find_backend.h"
#include "nlohmann/json.hpp"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_output.h"
#include "tools/cli/print.h"
#include "tools/run/compute.h"
#include "tools/run/open_files.h"
#include "tools/verbs/verbs.h"

namespace temper {
namespace {

constexpr int64_t kProbeMicrosMax = 10'000'000;
constexpr double kGiB = 1 << 30;
constexpr double kMemoryGiBMin = 2;
constexpr double kDiskGiBMin = 1;

struct Finding {
  std::string what;
  bool good = false;
  std::string detail;  // what was found; if not good, the next step too
};

// Runs a program with no input and output and a deadline; its exit code, or
// -1 if it could not be started or did not end by itself.
int ProbeProgram(const std::vector<const char*>& argv) {
  std::vector<char*> args;
  for (const char* arg : argv) args.push_back(const_cast<char*>(arg));
  args.push_back(nullptr);
  // Neither its words nor a question of its own reach the terminal.
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const int fd : {0, 1, 2}) {
    posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
  }
  pid_t pid = -1;
  const int error =
      posix_spawnp(&pid, args[0], &actions, nullptr, args.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return -1;
  const int64_t deadline = SystemClock()->MonotonicMicros() + kProbeMicrosMax;
  int status = 0;
  // A program that hangs is a finding too.
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (SystemClock()->MonotonicMicros() > deadline) {
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
      return -1;
    }
    usleep(1000);
  }
  // What a signal ended did not end by itself.
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// The tier that TEMPER_ISA names or the best; where it names cuda, the best.
Finding CheckCpu() {
  ComputeWish wish;
  wish.device = Device::kCpu;
  auto tier = ChooseComputeBackend(wish);
  if (!tier.ok()) tier = ChooseBackend({.device = Device::kCpu});
  if (!tier.ok()) return {"cpu", false, std::string(tier.status().message())};
  return {
      "cpu", true,
      absl::StrCat(tier->name, " of ", absl::StrJoin(BackendNames(), ", "),
                   " (", tier->why, "); ", sysconf(_SC_NPROCESSORS_ONLN),
                   " cores; computes in ", NumericsThatRunOn(Device::kCpu))};
}

// A run does without one: where it is missing, nothing is.
Finding CheckGpu() { return {"gpu", true, WordsOf(SurveyGpus())}; }

Finding CheckMemory() {
  const double gib = static_cast<double>(sysconf(_SC_PHYS_PAGES)) *
                     static_cast<double>(sysconf(_SC_PAGESIZE)) / kGiB;
  if (gib < kMemoryGiBMin) {
    return {"memory", false,
            absl::StrCat(gib, " GiB; a run needs ", kMemoryGiBMin)};
  }
  return {"memory", true, absl::StrCat(gib, " GiB")};
}

Finding CheckDisk() {
  struct statvfs info;
  if (statvfs(".", &info) != 0) {
    return {"disk", false, "the working directory cannot be examined"};
  }
  const double gib = static_cast<double>(info.f_bavail) *
                     static_cast<double>(info.f_frsize) / kGiB;
  if (gib < kDiskGiBMin) {
    return {"disk", false,
            absl::StrCat(gib, " GiB free here; a run needs ", kDiskGiBMin,
                         "; name another place with --runs-dir")};
  }
  return {"disk", true, absl::StrCat(gib, " GiB free here")};
}

Finding CheckOpenFiles() {
  const auto files = OpenFilesMax();
  if (!files.ok()) {
    return {"files", false, std::string(files.status().message())};
  }
  return {"files", true, absl::StrCat(*files, " open files a process")};
}

Finding CheckProgram(const char* what, const std::vector<const char*>& argv,
                     const char* next_step) {
  const int code = ProbeProgram(argv);
  if (code == 0) return {what, true, "works"};
  return {
      what, false,
      absl::StrCat(argv[0], code < 0 ? " cannot be run" : " does not work here",
                   "; ", next_step)};
}

// A sandbox as a run starts it, with its filter, uid and cgroup.
Finding CheckSandbox() {
  const auto supervisor = SandboxSupervisor::Start(SandboxSupervisorOptions());
  if (!supervisor.ok()) {
    return {"sandbox", false, std::string(supervisor.status().message())};
  }
  const auto pool = SandboxPool::Create(supervisor->get());
  if (!pool.ok()) {
    return {"sandbox", false, std::string(pool.status().message())};
  }
  return {"sandbox", true, (*supervisor)->description()};
}

}  // namespace

int RunDoctorVerb(int argc, char** argv) {
  bool json = false;
  Flags flags("doctor",
              "Checks what a run needs of this machine; exit status 1 where "
              "something is missing.");
  AddJsonFlag(&flags, &json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const Finding findings[] = {
      CheckCpu(),
      CheckMemory(),
      CheckDisk(),
      CheckOpenFiles(),
      // As the sandbox starts it, without the user's own modules.
      CheckProgram("python", {"python3", "-I", "-S", "-c", "pass"},
                   "run tools/setup.sh"),
      // It takes longest, and says most of what the others cannot.
      CheckSandbox(),
      // Last: a GPU's driver makes threads, and the sandbox's helper is forked.
      CheckGpu(),
  };
  bool good = true;
  Json rows = Json::array();
  for (const Finding& finding : findings) {
    good &= finding.good;
    rows.push_back({{"what", finding.what},
                    {"good", finding.good},
                    {"detail", finding.detail}});
    if (json) continue;
    PrintOut("%-8s %-7s %s\n", finding.what, finding.good ? "ok" : "MISSING",
             finding.detail);
  }
  if (json) PrintJson({{"good", good}, {"findings", std::move(rows)}});
  return good ? kExitDone : kExitFailed;
}

}  // namespace temper
