// The Python source that runs inside a sandbox, python_driver.py compiled in.

#ifndef ENVIRONMENTS_PYTHON_DRIVER_H_
#define ENVIRONMENTS_PYTHON_DRIVER_H_

#include <cstdint>
#include <string>

namespace temper {

// The longest text of a reply: what was raised, the value of a call, what came
// of a program.
inline constexpr uint32_t kPythonErrorBytesMax = 4 << 10;
inline constexpr uint32_t kCallReplyBytesMax = 256 << 10;
inline constexpr uint32_t kProgramReplyBytesMax = 4 << 20;

// The program of a zygote, whose sessions have at most `processes_max`
// processes each, their own included, `tmp_bytes_max` of files, and
// `filter`, a BPF program, over their system calls.
std::string ZygoteSource(uint32_t processes_max, uint64_t tmp_bytes_max,
                         const std::string& filter);

}  // namespace temper

#endif  // ENVIRONMENTS_PYTHON_DRIVER_H_
