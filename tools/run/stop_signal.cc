#include "tools/run/stop_signal.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "kernels/base/file.h"
#include "kernels/base/log.h"

namespace temper {
namespace {

constexpr int64_t kWaitMsMax = 3'600'000;
constexpr int64_t kOneSignalMs = 500;

std::atomic<int> count{0};
std::atomic<bool> second_ends{false};
std::atomic<int64_t> first_ms{0};
static_assert(std::atomic<int>::is_always_lock_free &&
              std::atomic<int64_t>::is_always_lock_free);
// Written by the handler, read by whoever waits: poll has no lost wake-ups.
int pipe_fds[2] = {-1, -1};

// As a handler may ask.
int64_t NowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

void OnSignal(int number) {
  // Never the second: shells pass on the one that the kernel has sent.
  if (number == SIGHUP && count.load(std::memory_order_relaxed) > 0) return;
  const int saved = errno;
  // Before it is counted: another thread's handler may be at the second.
  int64_t none = 0;
  first_ms.compare_exchange_strong(none, NowMs(), std::memory_order_relaxed);
  if (count.fetch_add(1, std::memory_order_relaxed) > 0 &&
      second_ends.load(std::memory_order_relaxed) &&
      NowMs() - first_ms.load(std::memory_order_relaxed) > kOneSignalMs) {
    // It comes once the handler has returned, and is not caught then.
    signal(number, SIG_DFL);
    raise(number);
  }
  [[maybe_unused]] const auto written = write(pipe_fds[1], "x", 1);
  errno = saved;
}

}  // namespace

absl::Status InstallStopSignal(SecondStop second) {
  second_ends.store(second == SecondStop::kEnds, std::memory_order_relaxed);
  if (pipe_fds[0] < 0 && pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) != 0) {
    return FileError("make", "a pipe", errno);
  }
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  // Libraries' calls go on; our waits look at the pipe.
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  CHECK_EQ(sigaction(SIGINT, &action, nullptr), 0);
  CHECK_EQ(sigaction(SIGTERM, &action, nullptr), 0);
  struct sigaction hangup = {};
  CHECK_EQ(sigaction(SIGHUP, nullptr, &hangup), 0);
  // nohup ignores it for us, and means it.
  if (hangup.sa_handler != SIG_IGN) {
    CHECK_EQ(sigaction(SIGHUP, &action, nullptr), 0);
  }
  // A reader that has gone is a failed write, not our end.
  signal(SIGPIPE, SIG_IGN);
  return absl::OkStatus();
}

int StopSignalCount() { return count.load(std::memory_order_relaxed); }

bool WaitForStopSignal(int64_t timeout_ms) {
  pollfd entry = {pipe_fds[0], POLLIN, 0};
  const int ready =
      poll(&entry, 1, static_cast<int>(std::min(timeout_ms, kWaitMsMax)));
  char byte;
  return ready == 1 && read(pipe_fds[0], &byte, 1) == 1;
}

}  // namespace temper
