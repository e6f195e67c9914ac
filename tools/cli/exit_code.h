// How a process of ours ends: what scripts, and the supervisor, read.

#ifndef TOOLS_CLI_EXIT_CODE_H_
#define TOOLS_CLI_EXIT_CODE_H_

namespace temper {

constexpr int kExitDone = 0;
constexpr int kExitFailed = 1;
constexpr int kExitMisused = 2;

}  // namespace temper

#endif  // TOOLS_CLI_EXIT_CODE_H_
