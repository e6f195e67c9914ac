// One operation's operands on a device, for the StagingBackend: copied up
// before it, and back after it. Not thread-safe.

#ifndef KERNELS_OPS_TESTING_STAGED_OPERANDS_H_
#define KERNELS_OPS_TESTING_STAGED_OPERANDS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/base/log.h"
#include "kernels/ops/backend.h"

namespace temper {

// First byte and length of the memory from a tensor's first element to its
// last.
struct MemorySpan {
  char* data;
  int64_t bytes;
};

inline MemorySpan SpanOf(const Tensor& x) {
  const auto size = static_cast<int64_t>(DTypeBytes(x.dtype()));
  int64_t last = 0;
  for (int axis = 0; axis < x.rank(); ++axis) {
    last += (x.dim(axis) - 1) * x.stride(axis);
  }
  return {static_cast<char*>(x.data()), (last + 1) * size};
}

// One operation's operands on the device. Operands that share memory on the
// host share it there: they are registered by In before any is looked up. What
// the host's memory is aligned to, the device's is, up to kAlignment.
class Operands {
 public:
  Operands(Backend* device, absl::Status* fault)
      : device_(device), fault_(fault) {}

  void In(const Tensor& x) {
    if (x.empty() || x.elements() == 0) return;
    MemorySpan span = SpanOf(x);
    // Joins every block it overlaps or touches, until none is left.
    for (size_t i = 0; i < blocks_.size();) {
      const Block& block = blocks_[i];
      if (span.data > block.host + block.bytes ||
          block.host > span.data + span.bytes) {
        ++i;
        continue;
      }
      char* const end =
          std::max(span.data + span.bytes, block.host + block.bytes);
      span.data = std::min(span.data, block.host);
      span.bytes = end - span.data;
      blocks_.erase(blocks_.begin() + static_cast<ptrdiff_t>(i));
      i = 0;
    }
    blocks_.push_back({span.data, span.bytes, nullptr, 0});
  }

  void Upload() {
    for (Block& block : blocks_) {
      block.offset = static_cast<int64_t>(
          reinterpret_cast<uintptr_t>(block.host) % kAlignment);
      auto buffer = device_->Allocate(block.offset + block.bytes);
      CHECK(buffer.ok()) << buffer.status();
      block.buffer = *std::move(buffer);
      const absl::Status copied =
          device_->CopyFromHost(block.host, Bytes(block));
      CHECK(copied.ok()) << copied;
    }
  }

  // The same view of the device's copy.
  Tensor operator()(const Tensor& x) const {
    if (x.empty()) return x;
    char* data = static_cast<char*>(x.data());
    for (const Block& block : blocks_) {
      if (data < block.host || data > block.host + block.bytes) continue;
      return x.At(block.on_device() + (data - block.host), device_->device());
    }
    CHECK_EQ(x.elements(), 0) << x.DebugString();
    return x.At(x.data(), device_->device());
  }

  // The device's already.
  const Weight* operator()(const Weight* weight) const { return weight; }

  void Download() {
    for (Block& block : blocks_) {
      const absl::Status copied = device_->Read(Bytes(block), block.host);
      // What a case provokes it asks Sync for.
      if (fault_->ok()) *fault_ = copied;
    }
  }

 private:
  // The widest access of a device.
  static constexpr uintptr_t kAlignment = 16;

  struct Block {
    char* host;
    int64_t bytes;
    std::unique_ptr<Buffer> buffer;
    int64_t offset = 0;  // in the buffer

    char* on_device() const {
      return static_cast<char*>(buffer->data()) + offset;
    }
  };

  Tensor Bytes(const Block& block) const {
    return Tensor(block.on_device(), DType::kU8, {block.bytes},
                  device_->device());
  }

  Backend* const device_;
  absl::Status* const fault_;
  std::vector<Block> blocks_;
};

}  // namespace temper

#endif  // KERNELS_OPS_TESTING_STAGED_OPERANDS_H_
