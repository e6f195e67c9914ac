// The Python source that runs inside a sandbox, python_driver.py compiled in.

#ifndef ENVIRONMENTS_PYTHON_DRIVER_H_
#define ENVIRONMENTS_PYTHON_DRIVER_H_

#include <cstdint>
#include <string>

namespace temper {

// Output beyond this is not even read; what the model sees is cut shorter.
inline constexpr uint32_t kPythonOutputBytesMax = 65 << 10;

// Its program text: at most `processes_max` processes, itself included.
std::string PythonDriver(uint32_t processes_max);

}  // namespace temper

#endif  // ENVIRONMENTS_PYTHON_DRIVER_H_
