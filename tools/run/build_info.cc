#include "tools/run/build_info.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "kernels/base/checksum.h"
#include "kernels/base/file.h"

namespace temper {
namespace {

constexpr uint64_t kProgramBytesMax = uint64_t{1} << 31;
constexpr size_t kDigestDigits = 12;

std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    const size_t colon = line.find(": ");
    // x86's word; there is a line for each core, and they are the same.
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown processor";
}

}  // namespace

std::string Revision() {
  // Of the program itself: it was built from a tree that may have had changes
  // of its own, or outside any.
  const auto program = ReadFile("/proc/self/exe", kProgramBytesMax);
  if (!program.ok()) return "unknown";
  return absl::StrCat("sha256:",
                      HexOf(Sha256Of(*program)).substr(0, kDigestDigits));
}

std::string MachineDescription(const std::string& backend) {
  utsname kernel = {};
  uname(&kernel);
  const int64_t mib =
      int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE) / (1 << 20);
  return absl::StrCat(ProcessorName(), ", ", sysconf(_SC_NPROCESSORS_ONLN),
                      " cores, ", mib, " MiB, ", kernel.sysname, " ",
                      kernel.release, ", tier ", backend);
}

}  // namespace temper
