// A Backend that passes every operation on to another and counts what it was
// asked for: what a plan promises and a steady step must not do.

#ifndef KERNELS_OPS_TESTING_COUNTING_BACKEND_H_
#define KERNELS_OPS_TESTING_COUNTING_BACKEND_H_

#include <cstdint>
#include <memory>

#include "kernels/ops/testing/forwarding_backend.h"

namespace temper {

// Counts rise from construction on; weights that it makes are not counted, for
// only the device knows their size.
class CountingBackend : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) override {
    ++allocations_;
    bytes_ += bytes;
    return ForwardingBackend::Allocate(bytes);
  }

  int64_t allocations() const { return allocations_; }
  int64_t allocated_bytes() const { return bytes_; }

 private:
  int64_t allocations_ = 0;
  int64_t bytes_ = 0;
};

}  // namespace temper

#endif  // KERNELS_OPS_TESTING_COUNTING_BACKEND_H_
