// The op cases' backends for CUDA: the CPU's scalar tier, which defines every
// number, and the kernels: on the emulator, in one order of its blocks and
// threads, or on a GPU.

#include "kernels/ops/testing/backends_under_test.h"

#include <utility>

#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/testing/test_runtime.h"
#include "kernels/find_backend.h"
#include "kernels/ops/testing/staging_backend.h"

namespace temper {

const std::vector<BackendUnderTest>& BackendsUnderTest() {
  static const auto* backends = [] {
    SetFlushDenormals();
    auto scalar = FindBackend({.name = "scalar"});
    CHECK(scalar.ok()) << scalar.status();
    // Chunks so small that cases have several.
    auto device = NewCudaBackend(cuda::NewTestRuntime(TEMPER_SCHEDULE),
                                 /*chunk_bytes=*/int64_t{64} << 10);
    CHECK(device.ok()) << device.status();
    auto* made = new std::vector<BackendUnderTest>;
    made->push_back({"scalar", *std::move(scalar)});
    made->push_back({"cuda", NewStagingBackend(*std::move(device))});
    return made;
  }();
  return *backends;
}

}  // namespace temper
