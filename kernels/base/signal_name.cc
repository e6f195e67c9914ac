#include "kernels/base/signal_name.h"

#include <signal.h>
#include <string.h>

#include "absl/strings/str_cat.h"

namespace temper {
namespace {

const char* ReasonOf(int number) {
  switch (number) {
    case SIGXFSZ:
      return ": a file grew past the limit on its size, ulimit -f";
    case SIGXCPU:
      return ": past the limit on CPU time, ulimit -t";
    case SIGKILL:
      return ": killed, by the kernel if memory ran out";
    case SIGSEGV:
      return ": a bad memory access, or a stack past its limit, ulimit -s";
    case SIGBUS:
      return ": a bad memory access, or a mapped file that is cut or full";
    case SIGABRT:
      return ": it ended itself over an error";
    case SIGSYS:
      return ": a system call that is denied";
    default:
      return "";
  }
}

}  // namespace

std::string DescribeSignal(int number) {
  // Not strsignal: its text follows the user's language.
  const char* const name = sigabbrev_np(number);
  if (name == nullptr) return absl::StrCat("signal ", number);
  return absl::StrCat("signal ", number, " (SIG", name, ReasonOf(number), ")");
}

}  // namespace temper
