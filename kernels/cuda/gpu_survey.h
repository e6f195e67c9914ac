// What GPUs a machine has, as CUDA says it without taking one.

#ifndef KERNELS_CUDA_GPU_SURVEY_H_
#define KERNELS_CUDA_GPU_SURVEY_H_

#include <cstdint>
#include <string>
#include <vector>

namespace temper {

struct GpuDevice {
  std::string name;  // "NVIDIA H100 80GB HBM3"
  int64_t memory_bytes = 0;
  std::string lack;  // why the kernels cannot run on it; empty: they can
};

struct GpuSurvey {
  std::string driver;              // "580.159.04, CUDA 13.0"; empty: none
  std::vector<GpuDevice> devices;  // as CUDA numbers them; the first is taken
  // Why the kernels cannot run on the first, and what to do; empty: they can.
  std::string missing;
  std::string remedy;
};

// Why the kernels cannot run on a GPU of a compute capability and in a compute
// mode, as CUDA numbers them; empty: they can.
std::string LackOf(int major, int minor, int compute_mode);

}  // namespace temper

#endif  // KERNELS_CUDA_GPU_SURVEY_H_
