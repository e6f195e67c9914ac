#include "environments/python_driver.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace temper {

// The text of python_driver.py, which BUILD makes a source of: the binary must
// not depend on a file that lies beside it.
extern const char kPythonDriverSource[];

std::string ZygoteSource(const SessionWalls& walls) {
  return absl::StrCat(kPythonDriverSource, "\n_zygote(", walls.processes_max,
                      ", ", walls.tmp_bytes_max, ", ", walls.tmp_files_max,
                      ", bytes.fromhex('", absl::BytesToHexString(walls.filter),
                      "'))\n");
}

}  // namespace temper
