#include "kernels/cuda/simt/site.h"

#include <link.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <vector>

// Where the linker put the program's first byte.
extern "C" const char __executable_start[];

namespace temper::simt {
namespace {

constexpr uint32_t kOfCall = 0x80000000u;

// The lines of calls, by their numbers, and numbers by a hash of the line.
std::vector<Where> calls;
std::array<uint32_t, 256> numbers = {};

uint32_t OffsetOf(const void* address) {
  return static_cast<uint32_t>(static_cast<const char*>(address) -
                               __executable_start);
}

// By how much the program was moved when it was loaded.
uintptr_t LoadBias() {
  uintptr_t bias = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* result) {
        *static_cast<uintptr_t*>(result) = info->dlpi_addr;
        return 1;  // the program comes first
      },
      &bias);
  return bias;
}

// Of addr2line's lines, one a frame of inlined calls, innermost first.
std::string LineOfInstruction(uintptr_t address) {
  char command[96];
  std::snprintf(command, sizeof(command),
                "addr2line -i -s -e /proc/%d/exe 0x%zx 2>/dev/null",
                static_cast<int>(getpid()), address - LoadBias());
  std::string first, kernel;
  if (FILE* pipe = popen(command, "r")) {
    char line[512];
    while (std::fgets(line, sizeof(line), pipe) != nullptr) {
      line[std::strcspn(line, " \n")] = '\0';
      if (first.empty()) first = line;
      if (kernel.empty() && std::strstr(line, ".cu:") != nullptr) kernel = line;
    }
    pclose(pipe);
  }
  return kernel.empty() ? first : kernel;
}

}  // namespace

Site Site::OfInstruction(const void* return_address) {
  // The call, not what comes after it, which may be another line's.
  return Site(OffsetOf(return_address) - 1);
}

Site Site::OfCall(const Where& where) {
  // Most calls are of a line that was met before.
  const size_t hash =
      (reinterpret_cast<uintptr_t>(where.file) + where.line * size_t{31}) %
      numbers.size();
  uint32_t& number = numbers[hash];
  if (number >= calls.size() || calls[number].file != where.file ||
      calls[number].line != where.line) {
    number = 0;
    while (number < calls.size() && (calls[number].file != where.file ||
                                     calls[number].line != where.line)) {
      ++number;
    }
    if (number == calls.size()) calls.push_back(where);
  }
  return Site(number | kOfCall);
}

std::string Site::Text() const {
  if ((code_ & kOfCall) != 0) {
    const Where& where = calls[code_ & ~kOfCall];
    const char* name = std::strrchr(where.file, '/');
    return std::string(name == nullptr ? where.file : name + 1) + ":" +
           std::to_string(where.line);
  }
  const std::string line = LineOfInstruction(
      reinterpret_cast<uintptr_t>(__executable_start + code_));
  if (!line.empty() && line[0] != '?') return line;
  char text[32];
  std::snprintf(text, sizeof(text), "instruction 0x%x", code_);
  return text;
}

}  // namespace temper::simt
