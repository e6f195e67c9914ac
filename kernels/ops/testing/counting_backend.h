// A Backend that passes every operation on to another and notes what it was
// asked for: what a plan promises and a steady step must not do.

#ifndef KERNELS_OPS_TESTING_COUNTING_BACKEND_H_
#define KERNELS_OPS_TESTING_COUNTING_BACKEND_H_

#include <bit>
#include <cstdint>
#include <memory>
#include <utility>

#include "kernels/ops/testing/argument_tensors.h"
#include "kernels/ops/testing/forwarding_backend.h"

namespace temper {

// Passes an operation on and digests which tensors it was given: where they
// lie, their types, shapes and strides. A step that is captured once and
// replayed is one whose digest does not change.
class DigestTensors {
 public:
  template <typename Operation, typename... Arguments>
  void operator()(Backend* inner, Operation operation,
                  const Arguments&... arguments) {
    (Note(arguments), ...);
    (inner->*operation)(arguments...);
  }
  void Note(const Tensor& x) {
    Mix(reinterpret_cast<uintptr_t>(x.data()));
    Mix(static_cast<uint64_t>(x.dtype()));
    for (int d = 0; d < x.rank(); ++d) {
      Mix(static_cast<uint64_t>(x.dim(d)));
      Mix(static_cast<uint64_t>(x.stride(d)));
    }
  }
  uint64_t Take() { return std::exchange(digest_, 0); }

 private:
  template <typename Argument>
  void Note(const Argument& x) {
    ForEachTensor(x, [this](const Tensor& tensor) { Note(tensor); });
  }
  template <typename Element>
  void Note(absl::Span<const Element> elements) {
    for (const Element& x : elements) Note(x);
  }
  void Note(const Weight&) {}
  void Mix(uint64_t x) {
    digest_ = (digest_ ^ x) * 0x9E3779B97F4A7C15u;
    digest_ ^= digest_ >> 29;
  }

  uint64_t digest_ = 0;
};

// Counts rise from construction on; weights that it makes are not counted, for
// only the device knows their size.
class CountingBackend : public ForwardingBackendBy<DigestTensors> {
 public:
  // `buckets`: batches are padded to a power of two rows, as a device that
  // replays captured steps has it.
  explicit CountingBackend(Backend* inner, bool buckets = false)
      : ForwardingBackendBy(inner), buckets_(buckets) {}

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) override {
    ++allocations_;
    bytes_ += bytes;
    return ForwardingBackendBy::Allocate(bytes);
  }
  absl::StatusOr<std::unique_ptr<HostBuffer>> AllocateHost(
      int64_t bytes) override {
    ++allocations_;
    bytes_ += bytes;
    return ForwardingBackendBy::AllocateHost(bytes);
  }
  absl::Status Wait(const Event& event) override {
    ++blocking_reads_;
    return ForwardingBackendBy::Wait(event);
  }
  absl::Status Read(const Tensor& from, void* host) override {
    ++blocking_reads_;
    return ForwardingBackendBy::Read(from, host);
  }
  absl::Status Sync() override {
    ++blocking_reads_;
    return ForwardingBackendBy::Sync();
  }
  absl::Status CopyFromHost(const void* host, const Tensor& to) override {
    ++uploads_;
    pass().Note(to);
    return ForwardingBackendBy::CopyFromHost(host, to);
  }
  void CopyToHost(const Tensor& from, HostBuffer* to, int64_t offset) override {
    pass().Note(from);
    ForwardingBackendBy::CopyToHost(from, to, offset);
  }
  int64_t BucketRows(int64_t rows) const override {
    return buckets_ ? static_cast<int64_t>(
                          std::bit_ceil(static_cast<uint64_t>(rows)))
                    : ForwardingBackendBy::BucketRows(rows);
  }

  // Of the operations and copies since the last time.
  uint64_t TakeDigest() { return pass().Take(); }
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
