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

// What a session builds around itself.
struct SessionWalls {
  // Of its user in its user namespace, of which two are bubblewrap's init and
  // the zygote.
  uint32_t processes_max = 0;
  uint64_t tmp_bytes_max = 0;
  uint32_t tmp_files_max = 0;
  std::string filter;  // a BPF program, over its system calls
};

// The program of a zygote, whose sessions have these walls.
std::string ZygoteSource(const SessionWalls& walls);

}  // namespace temper

#endif  // ENVIRONMENTS_PYTHON_DRIVER_H_
