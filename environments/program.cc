#include "environments/program.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "environments/driver_exchange.h"

namespace temper {
namespace {

constexpr uint64_t kPageBytes = 4096;

}  // namespace

const char* ProgramLimitName(ProgramLimit limit) {
  switch (limit) {
    case ProgramLimit::kNone:
      return "";
    case ProgramLimit::kTime:
      return "time";
    case ProgramLimit::kMemory:
      return "memory";
    case ProgramLimit::kOutput:
      return "output";
    case ProgramLimit::kBytes:
      return "bytes of files";
    case ProgramLimit::kFiles:
      return "number of files";
    case ProgramLimit::kProcesses:
      return "processes";
  }
  return "";
}

absl::Status CheckFits(const Program& program, const SandboxLimits& limits) {
  const auto pages = [](const std::string& text) {
    return (text.size() + kPageBytes - 1) / kPageBytes;
  };
  uint64_t taken = pages(program.stdin_text);
  for (const SnapshotEntry& entry : program.snapshot) {
    taken += pages(entry.contents);
  }
  // The scratch itself, stdin and stderr are files, too.
  const uint64_t files = program.snapshot.size() + 3;
  if (taken * kPageBytes <= limits.file_bytes_max &&
      files <= limits.files_max) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "a snapshot of ", taken * kPageBytes, " bytes, in whole pages, and ",
      files, " files; a scratch holds ", limits.file_bytes_max, " and ",
      limits.files_max));
}

std::string EncodeProgram(const Program& program) {
  std::string arguments;
  for (const std::string& argument : program.argv) {
    arguments += argument;
    arguments.push_back('\0');
  }
  std::vector<std::string> parts = {arguments, program.stdin_text,
                                    program.artifact};
  for (const SnapshotEntry& entry : program.snapshot) {
    parts.push_back(absl::StrCat(std::string(1, static_cast<char>(entry.kind)),
                                 entry.path));
    parts.push_back(entry.contents);
  }
  return JoinParts(parts);
}

}  // namespace temper
