// A Backend for tests that tries each operation it is asked for, once in each
// shape but huge ones, with operands that the caller did not give: laced with
// the edges of fp32 (kernels/ops/testing/edge_values.h), dense, and as strided
// views of unaligned memory. Each time the device's bits have to be the
// definition's, or both have to find the same fault, or the test fails. Then
// the operation is done as it came. So every op case is a case of these too,
// whatever it looks at itself.
//
// Integers, options and shapes stay as the case has them: with another route,
// row or target an operation could only find a fault.

#ifndef KERNELS_OPS_TESTING_PROBING_BACKEND_H_
#define KERNELS_OPS_TESTING_PROBING_BACKEND_H_

#include <memory>
#include <string>

#include "kernels/ops/backend.h"

namespace temper {

// `twin` is another of the same device, for the trials alone: the device's
// faults are the case's. All take tensors of the host. `name` is for messages.
std::unique_ptr<Backend> NewProbingBackend(std::string name,
                                           std::unique_ptr<Backend> device,
                                           std::unique_ptr<Backend> twin,
                                           std::unique_ptr<Backend> definition);

}  // namespace temper

#endif  // KERNELS_OPS_TESTING_PROBING_BACKEND_H_
