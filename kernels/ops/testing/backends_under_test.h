// The backends that the op cases of this folder are run on. A test binary links
// the cases and exactly one definition of BackendsUnderTest: a device's own.

#ifndef KERNELS_OPS_TESTING_BACKENDS_UNDER_TEST_H_
#define KERNELS_OPS_TESTING_BACKENDS_UNDER_TEST_H_

#include <memory>
#include <string>
#include <vector>

#include "kernels/ops/backend.h"

namespace temper {

struct BackendUnderTest {
  std::string name;                  // for messages: "avx2, 2 threads"
  std::unique_ptr<Backend> backend;  // takes tensors of the host
};

// All whose bits must agree; the first is the definition. A device with memory
// of its own stands behind a StagingBackend; each of all behind a
// ProbingBackend, for operands that no case has. Made at the first call, in the
// float mode that the call sets; drive them from that one thread.
const std::vector<BackendUnderTest>& BackendsUnderTest();

// One of each kind of device among them, without a probe: its definition would
// CHECK shapes before the device does. They too take tensors of the host.
const std::vector<BackendUnderTest>& BareDevices();

}  // namespace temper

#endif  // KERNELS_OPS_TESTING_BACKENDS_UNDER_TEST_H_
