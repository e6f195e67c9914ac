#include "tools/run/address_wait.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "tools/cli/print.h"
#include "tools/run/stop_signal.h"

namespace temper {
namespace {

constexpr uint64_t kAddressBytesMax = 256;
constexpr int64_t kPollMs = 100;
constexpr int64_t kTellMs = 30'000;

int64_t NowMs() { return SystemClock()->MonotonicMicros() / 1000; }

}  // namespace

absl::StatusOr<std::string> ReadAddress(const std::string& path) {
  ASSIGN_OR_RETURN(std::string address, ReadFile(path, kAddressBytesMax));
  absl::StripTrailingAsciiWhitespace(&address);
  return address;
}

absl::StatusOr<std::string> AwaitAddress(const AddressWait& wait) {
  const int64_t began_ms = NowMs();
  int64_t absent_ms = began_ms;  // since when nobody was seen at work
  int64_t tell_ms = began_ms;
  for (;;) {
    // Whatever goes wrong with the file now may be right in a moment.
    const auto address = ReadAddress(wait.path);
    if (address.ok() && !address->empty()) return *address;
    if (StopSignalCount() > 0) return absl::CancelledError("stopped");
    const int64_t now = NowMs();
    // Asked only when the time is up: the look may cost something.
    if (wait.at_work && now - absent_ms > wait.absent_ms_max &&
        wait.at_work()) {
      absent_ms = now;
    }
    if (now - absent_ms > wait.absent_ms_max ||
        now - began_ms > wait.total_ms_max) {
      return absl::DeadlineExceededError(absl::StrCat(
          wait.path, " did not appear in ", (now - began_ms) / 1000,
          " s; is the process that writes it running?"));
    }
    // To the worker's log, whose last line `temper train` shows when no worker
    // has come.
    if (now >= tell_ms) {
      PrintErr("waiting for %s, %d s so far, up to %d\n", wait.path,
               (now - began_ms) / 1000,
               (wait.at_work ? wait.total_ms_max : wait.absent_ms_max) / 1000);
      tell_ms = now + kTellMs;
    }
    WaitForStopSignal(kPollMs);
  }
}

}  // namespace temper
