// A program to run in a sandbox (fresh_runs.h): an argument vector, in a tree
// of files that has three layers,
//
//   base      the machine's programs and libraries (sandbox_policy.h), which
//             nobody there can change: sh, git, g++ and what else is installed
//   snapshot  the task's files. They are copied into the scratch before the
//             program runs, and are its own there: it may change all that it
//             sees, and nothing of what they were copied from
//   scratch   /tmp, where it starts and alone may write; it goes with the run,
//             and its bytes and files are bounded, those of the snapshot with
//             them (SandboxLimits)
//
// Functions without state; thread-safe.

#ifndef ENVIRONMENTS_PROGRAM_H_
#define ENVIRONMENTS_PROGRAM_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "environments/sandbox_policy.h"

namespace temper {

struct SnapshotEntry {
  enum class Kind : char {
    kFile = 'f',
    kExecutable = 'x',
    kDirectory = 'd',
    kLink = 'l',
  };
  Kind kind = Kind::kFile;
  std::string path;      // below /tmp
  std::string contents;  // of a file; of a link, where it leads
};

struct Program {
  std::vector<std::string> argv;  // argv[0] is its path in the sandbox
  std::string stdin_text;
  std::vector<SnapshotEntry> snapshot;  // a directory before what is in it
  std::string artifact;  // a file below /tmp to bring back, or empty
};

// The first, as they stand here, of the limits that a run ran into.
enum class ProgramLimit {
  kNone,
  kTime,
  kMemory,     // of all its processes: the kernel ended one of them. A single
               // allocation beyond it is refused, and the program's to tell
  kOutput,     // it was cut
  kBytes,      // of the scratch, which was full in the end
  kFiles,      // likewise
  kProcesses,  // one was refused
};
// "memory"; "" for none.
const char* ProgramLimitName(ProgramLimit limit);

// InvalidArgument if a scratch of `limits` does not hold it beside stdin.
absl::Status CheckFits(const Program& program, const SandboxLimits& limits);

// As the driver reads it (driver_exchange.h).
std::string EncodeProgram(const Program& program);

}  // namespace temper

#endif  // ENVIRONMENTS_PROGRAM_H_
