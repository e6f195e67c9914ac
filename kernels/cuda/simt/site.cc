#include "kernels/cuda/simt/site.h"

#include <link.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

// Where the linker put the program's first byte.
extern "C" const char __executable_start[];

namespace temper::simt {
namespace {

constexpr uint32_t kOfCall = 0x80000000u;

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
  // The standard's class is a pointer to what the compiler wrote down.
  static_assert(sizeof(Where) == sizeof(void*));
  const void* written = nullptr;
  std::memcpy(&written, &where, sizeof(written));
  return Site(OffsetOf(written) | kOfCall);
}

std::string Site::Text() const {
  const char* const address = __executable_start + (code_ & ~kOfCall);
  if ((code_ & kOfCall) != 0) {
    Where where;
    std::memcpy(static_cast<void*>(&where), &address, sizeof(where));
    const char* name = std::strrchr(where.file_name(), '/');
    return std::string(name == nullptr ? where.file_name() : name + 1) + ":" +
           std::to_string(where.line());
  }
  const std::string line =
      LineOfInstruction(reinterpret_cast<uintptr_t>(address));
  if (!line.empty() && line[0] != '?') return line;
  char text[32];
  std::snprintf(text, sizeof(text), "instruction 0x%x", code_);
  return text;
}

}  // namespace temper::simt
