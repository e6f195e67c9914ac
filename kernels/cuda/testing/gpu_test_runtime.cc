#include <utility>

#include "kernels/base/log.h"
#include "kernels/cuda/gpu_runtime.h"
#include "kernels/cuda/testing/test_runtime.h"

namespace temper::cuda {

std::unique_ptr<Runtime> NewTestRuntime(uint64_t) {
  auto runtime = NewGpuRuntime();
  CHECK(runtime.ok()) << runtime.status();
  return *std::move(runtime);
}

}  // namespace temper::cuda
