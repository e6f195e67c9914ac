// The Python source that runs inside a sandbox, python_driver.py compiled in.

#ifndef ENVIRONMENTS_PYTHON_DRIVER_H_
#define ENVIRONMENTS_PYTHON_DRIVER_H_

#include <cstdint>
#include <string>

namespace temper {

// The longest text of a reply.
inline constexpr uint32_t kPythonErrorBytesMax = 4 << 10;

// Its program text: at most `processes_max` processes, itself included.
std::string PythonDriver(uint32_t processes_max);

}  // namespace temper

#endif  // ENVIRONMENTS_PYTHON_DRIVER_H_
