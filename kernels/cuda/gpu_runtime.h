// The runtime of a GPU: CUDA's own.

#ifndef KERNELS_CUDA_GPU_RUNTIME_H_
#define KERNELS_CUDA_GPU_RUNTIME_H_

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/cuda/gpu_survey.h"
#include "kernels/cuda/runtime.h"

namespace temper::cuda {

// What the driver shows. It is started by this, no device is: that costs memory
// of the GPU.
GpuSurvey SurveyGpus();

// Of the first device that is visible. FailedPrecondition, saying which, if
// there is no driver, no device, or one that is no Hopper (the kernels are
// compiled for sm_90a alone).
absl::StatusOr<std::unique_ptr<Runtime>> NewGpuRuntime();

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_GPU_RUNTIME_H_
