// That the filter refuses what the table of system calls names.

#include "environments/sandbox_policy.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <string>

#include "environments/denied_calls.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "seccomp.h"

namespace temper {
namespace {

// Of other processors' tables, which are refused whole.
const std::set<std::string> kForeign = {"umount", "stime"};

TEST(SandboxPolicyTest, EveryDeniedCallIsOneOfThisKernels) {
  std::set<std::string> names;
  for (const char* name : kDeniedCalls) {
    const int call = seccomp_syscall_resolve_name(name);
    EXPECT_NE(call, __NR_SCMP_ERROR) << name << " is no system call";
    EXPECT_EQ(call<0, kForeign.count(name)> 0) << name;
    EXPECT_TRUE(names.insert(name).second) << name << " stands there twice";
  }
}

// With arguments that no call takes, should it be reached.
long Call(const char* name) {
  return syscall(seccomp_syscall_resolve_name(name), -1L, -1L, -1L, -1L, -1L,
                 -1L);
}

// In the child: the number of the first denied call that is not refused, from
// 1, or 0. It has no terminal to lose.
int FirstAllowed(const std::string& filter) {
  setsid();
  struct sock_fprog program;
  program.len =
      static_cast<unsigned short>(filter.size() / sizeof(struct sock_filter));
  program.filter =
      reinterpret_cast<struct sock_filter*>(const_cast<char*>(filter.data()));
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    return 255;
  }
  int number = 0;
  for (const char* name : kDeniedCalls) {
    ++number;
    if (kForeign.count(name) > 0) continue;
    if (Call(name) != -1 || errno != EPERM) return number;
  }
  return 0;
}

TEST(SandboxPolicyTest, EveryDeniedCallIsRefused) {
  const auto filter = MakeSeccompFilter();
  ASSERT_TRUE(filter.ok()) << filter.status();
  const pid_t child = fork();
  if (child == 0) _exit(FirstAllowed(*filter));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << status;
  const int number = WEXITSTATUS(status);
  ASSERT_NE(number, 255) << "no filter can be set here";
  EXPECT_EQ(number, 0) << kDeniedCalls[number - 1] << " is not refused";
}

}  // namespace
}  // namespace temper
