// What the emulator says of a kernel that is wrong. A failure has a name, which
// tests look for, and says where: kernel, block, thread and line.

#ifndef KERNELS_CUDA_SIMT_REPORT_H_
#define KERNELS_CUDA_SIMT_REPORT_H_

#include <string>

#include "kernels/cuda/simt/thread.h"

namespace temper::simt {

// Ends the launch that runs: the process, unless a FailureCatcher lives. From
// within a thread it does not return.
[[noreturn]] void Fail(const char* name, const std::string& what, Site site);

// "thread (0,1,2)".
std::string NameOf(const Thread& thread);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_REPORT_H_
