// Ctrl-C, SIGTERM and SIGHUP (the terminal was closed) as something to ask for:
// the first asks for an orderly stop, the second for a hurried one: whoever
// starts other processes counts it and hurries them, one that has only itself
// ends. A hangup is never the second: shells pass on the one that the kernel
// has sent already. Process-wide; main's thread installs it before other
// threads start, any thread may ask.

#ifndef TOOLS_RUN_STOP_SIGNAL_H_
#define TOOLS_RUN_STOP_SIGNAL_H_

#include <cstdint>

#include "absl/status/status.h"

namespace temper {

enum class SecondStop {
  kCounted,
  // The process ends of it, as of one that is not caught; not of one within
  // half a second of the first, for timeout(1) sends two.
  kEnds,
};

// Catches SIGINT and SIGTERM from now on, and SIGHUP unless it is ignored, as
// nohup has it. Ignores SIGPIPE: a broken pipe is a failed write, as one to a
// closed terminal is, and not the end of the process. ResourceExhausted where
// the process may open no more files: then nothing is caught.
absl::Status InstallStopSignal(SecondStop second = SecondStop::kCounted);

// How many of them came.
int StopSignalCount();

// Waits until one more came since InstallStopSignal or the last call that
// returned true, at most `timeout_ms`. One thread at a time.
bool WaitForStopSignal(int64_t timeout_ms);

}  // namespace temper

#endif  // TOOLS_RUN_STOP_SIGNAL_H_
