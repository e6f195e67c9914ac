// A Backend that passes every operation on to another and counts what it was
// asked for: what a plan promises and a steady step must not do.

#ifndef KERNELS_OPS_TESTING_COUNTING_BACKEND_H_
#define KERNELS_OPS_TESTING_COUNTING_BACKEND_H_

#include <bit>
#include <cstdint>
#include <memory>

#include "kernels/ops/testing/forwarding_backend.h"

namespace temper {

// Counts rise from construction on; weights that it makes are not counted, for
// only the device knows their size.
class CountingBackend : public ForwardingBackend {
 public:
  // `buckets`: batches are padded to a power of two rows, as a device that
  // replays captured steps has it.
  explicit CountingBackend(Backend* inner, bool buckets = false)
      : ForwardingBackend(inner), buckets_(buckets) {}

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) override {
    ++allocations_;
    bytes_ += bytes;
    return ForwardingBackend::Allocate(bytes);
  }
  absl::StatusOr<std::unique_ptr<HostBuffer>> AllocateHost(
      int64_t bytes) override {
    ++allocations_;
    bytes_ += bytes;
    return ForwardingBackend::AllocateHost(bytes);
  }
  absl::Status Wait(const Event& event) override {
    ++blocking_reads_;
    return ForwardingBackend::Wait(event);
  }
  absl::Status Read(const Tensor& from, void* host) override {
    ++blocking_reads_;
    return ForwardingBackend::Read(from, host);
  }
  absl::Status Sync() override {
    ++blocking_reads_;
    return ForwardingBackend::Sync();
  }
  absl::Status CopyFromHost(const void* host, const Tensor& to) override {
    ++uploads_;
    return ForwardingBackend::CopyFromHost(host, to);
  }
  int64_t BucketRows(int64_t rows) const override {
    return buckets_ ? static_cast<int64_t>(
                          std::bit_ceil(static_cast<uint64_t>(rows)))
                    : ForwardingBackend::BucketRows(rows);
  }

  int64_t allocations() const { return allocations_; }
  int64_t allocated_bytes() const { return bytes_; }
  int64_t blocking_reads() const { return blocking_reads_; }
  int64_t uploads() const { return uploads_; }

 private:
  const bool buckets_;
  int64_t allocations_ = 0;
  int64_t bytes_ = 0;
  int64_t blocking_reads_ = 0;
  int64_t uploads_ = 0;
};

}  // namespace temper

#endif  // KERNELS_OPS_TESTING_COUNTING_BACKEND_H_
