// A Backend for tests that takes tensors of the host whatever the device: each
// operation's operands are copied up, gaps between strided rows included, and
// back when it has run, so that op cases are written once, over plain arrays,
// and what a kernel writes where it should not is seen.

#ifndef KERNELS_OPS_TESTING_STAGING_BACKEND_H_
#define KERNELS_OPS_TESTING_STAGING_BACKEND_H_

#include <memory>

#include "kernels/ops/backend.h"

namespace temper {

std::unique_ptr<Backend> NewStagingBackend(std::unique_ptr<Backend> device);

}  // namespace temper

#endif  // KERNELS_OPS_TESTING_STAGING_BACKEND_H_
