// The op cases' backends for CUDA: the CPU's scalar tier, which defines every
// number, and the kernels: on the emulator, in one order of its blocks and
// threads, or on a GPU; behind a StagingBackend, for cases' tensors are the
// host's, and a ProbingBackend.

#include "kernels/ops/testing/backends_under_test.h"

#include <utility>

#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/testing/test_runtime.h"
#include "kernels/find_backend.h"
#include "kernels/ops/testing/probing_backend.h"
#include "kernels/ops/testing/staging_backend.h"

namespace temper {
namespace {

std::unique_ptr<Backend> NewScalar() {
  SetFlushDenormals();
  auto scalar = FindBackend({.name = "scalar"});
  CHECK(scalar.ok()) << scalar.status();
  return *std::move(scalar);
}

std::unique_ptr<Backend> NewStagedCuda() {
  // Chunks so small that cases have several.
  auto device = NewCudaBackend(cuda::NewTestRuntime(TEMPER_SCHEDULE),
                               /*chunk_bytes=*/int64_t{64} << 10);
  CHECK(device.ok()) << device.status();
  return NewStagingBackend(*std::move(device));
}

}  // namespace

const std::vector<BackendUnderTest>& BackendsUnderTest() {
  static const auto* backends = [] {
    auto* made = new std::vector<BackendUnderTest>;
    made->push_back({"scalar", NewScalar()});
    made->push_back({"cuda", NewProbingBackend("cuda", NewStagedCuda(),
                                               NewStagedCuda(), NewScalar())});
    return made;
  }();
  return *backends;
}

const std::vector<BackendUnderTest>& BareDevices() {
  static const auto* devices = [] {
    auto* made = new std::vector<BackendUnderTest>;
    made->push_back({"scalar", NewScalar()});
    made->push_back({"cuda", NewStagedCuda()});
    return made;
  }();
  return *devices;
}

}  // namespace temper
