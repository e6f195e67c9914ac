#include "environments/zygote_launch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace temper {
namespace {

// Of bubblewrap and what it runs.
constexpr int kFdArgs = 3;
constexpr int kFdKeep = 4;  // python_driver.py knows it by this number
constexpr int kFdFirstFree = 16;

void DropTo(uid_t uid, int status) {
  // The groups first: once the uid is gone nothing may be given up any more.
  if (setgroups(0, nullptr) != 0) FailLaunch(status, "setgroups(0)");
  if (setresgid(uid, uid, uid) != 0) {
    FailLaunch(status, absl::StrCat("setresgid(", uid, ")"));
  }
  if (setresuid(uid, uid, uid) != 0) {
    FailLaunch(status, absl::StrCat("setresuid(", uid, ")"));
  }
}

// bubblewrap's options, in a file: /proc/1/cmdline shows arguments.
int WriteArgs(const std::string& options, int status) {
  const int args = memfd_create("args", MFD_CLOEXEC);
  if (args < 0 || write(args, options.data(), options.size()) !=
                      static_cast<ssize_t>(options.size())) {
    FailLaunch(status, "writing bwrap's options");
  }
  lseek(args, 0, SEEK_SET);
  return args;
}

}  // namespace

void FailLaunch(int status, const std::string& what) {
  const std::string text =
      errno == 0 ? what : absl::StrCat(what, ": ", strerror(errno));
  if (write(status, text.data(), text.size()) < 0) _exit(126);
  _exit(127);
}

void BecomeZygote(const ZygoteOptions& options, const Cgroup& cgroup,
                  pid_t keeper, const ZygoteFds& fds, int status) {
  const BwrapCommand command = MakeBwrapCommand(options.script, kFdArgs);
  const int args = WriteArgs(command.options, status);
  if (!cgroup.Enter()) FailLaunch(status, "entering the cgroup");
  // While still root: the limits of a uid's processes are counted by uid.
  if (const char* limit = ApplyRlimits(options.each)) {
    FailLaunch(status, limit);
  }
  if (options.uid.has_value()) DropTo(*options.uid, status);
  // Addresses show in what Python prints; the same code should print the same.
  if (personality(ADDR_NO_RANDOMIZE) < 0) FailLaunch(status, "personality");
  // After the change of uid, which clears it; and the keeper may be gone by
  // now.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != keeper) _exit(127);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    FailLaunch(status, "no_new_privs");
  }
  // Out of the way of 0 to kFdKeep first, for they may lie there.
  constexpr int kFds = kFdKeep + 1;
  const int sources[kFds] = {fds.orders, fds.errors, fds.errors, args,
                             fds.keep};
  int high[kFds];
  for (int i = 0; i < kFds; ++i) {
    high[i] = fcntl(sources[i], F_DUPFD_CLOEXEC, kFdFirstFree);
  }
  const int status_high = fcntl(status, F_DUPFD_CLOEXEC, kFdFirstFree);
  for (int i = 0; i < kFds; ++i) dup2(high[i], i);
  close_range(kFds, ~0u, CLOSE_RANGE_CLOEXEC);
  // A signal mask outlives exec.
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  std::vector<char*> argv;
  for (const std::string& word : command.argv) {
    argv.push_back(const_cast<char*>(word.c_str()));
  }
  argv.push_back(nullptr);
  char* const no_environment[] = {nullptr};
  execve(options.bwrap.c_str(), argv.data(), no_environment);
  FailLaunch(status_high, options.bwrap);
}

}  // namespace temper
