#include "environments/python_driver.h"

#include "absl/strings/str_cat.h"

namespace temper {

// The text of python_driver.py, which BUILD makes a source of: the binary must
// not depend on a file that lies beside it.
extern const char kPythonDriverSource[];

std::string PythonDriver(uint32_t processes_max) {
  return absl::StrCat(kPythonDriverSource, "\n_serve(", processes_max, ")\n");
}

}  // namespace temper
