#include "environments/python_driver.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace temper {

// The text of python_driver.py, which BUILD makes a source of: the binary must
// not depend on a file that lies beside it.
extern const char kPythonDriverSource[];

std::string ZygoteSource(uint32_t processes_max, uint64_t tmp_bytes_max,
                         const std::string& filter) {
  return absl::StrCat(kPythonDriverSource, "\n_zygote(", processes_max, ", ",
                      tmp_bytes_max, ", bytes.fromhex('",
                      absl::BytesToHexString(filter), "'))\n");
}

}  // namespace temper
