#include "environments/python_driver.h"

#include "absl/strings/str_cat.h"

namespace temper {

extern const char kPythonDriverSource[];  // python_driver_source.cc, generated

std::string PythonDriver(uint32_t processes_max) {
  return absl::StrCat(kPythonDriverSource, "\n_serve(", processes_max, ")\n");
}

}  // namespace temper
