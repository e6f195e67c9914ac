#include "kernels/cpu/cpu_backend.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/cpu/cpu_tier.h"
#include "kernels/cpu/row_walk.h"

namespace temper {
namespace {

constexpr int64_t kAlignment = 64;
// A product walks over more small pages than a CPU holds translations of: in
// large ones it is up to 1.35 times as fast (Intel Emerald Rapids).
constexpr int64_t kLargePage = int64_t{2} << 20;

int64_t RoundUp(int64_t x, int64_t multiple) {
  return (x + multiple - 1) / multiple * multiple;
}

class CpuBuffer : public Buffer {
 public:
  CpuBuffer(void* data, int64_t bytes) : data_(data), bytes_(bytes) {}
  ~CpuBuffer() override { std::free(data_); }
  CpuBuffer(const CpuBuffer&) = delete;
  CpuBuffer& operator=(const CpuBuffer&) = delete;
  void* data() const override { return data_; }
  int64_t bytes() const override { return bytes_; }

 private:
  void* const data_;
  const int64_t bytes_;
};

class CpuHostBuffer : public HostBuffer {
 public:
  explicit CpuHostBuffer(std::unique_ptr<Buffer> buffer)
      : buffer_(std::move(buffer)) {}
  void* data() const override { return buffer_->data(); }
  int64_t bytes() const override { return buffer_->bytes(); }

 private:
  const std::unique_ptr<Buffer> buffer_;
};

void CopyRowMajor(const Tensor& from, char* to) {
  const RowWalk walk(from);
  for (int64_t i = 0; i < walk.rows(); ++i) {
    std::memcpy(to, walk.row(i), static_cast<size_t>(walk.row_bytes()));
    to += walk.row_bytes();
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> NewCpuBackend(const std::string& tier,
                                                       int threads) {
  if (threads < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads is ", threads, "; it must be at least 1"));
  }
  CHECK(FlushDenormalsSet()) << "call SetFlushDenormals() in main first";
  ASSIGN_OR_RETURN(const TierChoice choice, ChooseCpuTier(tier));
  const TierKernels kernels = KernelsOf(*choice.tier);
  RETURN_IF_ERROR(SelfTestTier(choice.tier->name, kernels));
  return std::unique_ptr<Backend>(
      std::make_unique<CpuBackend>(kernels, threads));
}

CpuBackend::CpuBackend(const TierKernels& tier, int threads)
    : tier_(tier), pool_(threads), scratch_(threads) {}

Device CpuBackend::device() const { return Device::kCpu; }

absl::StatusOr<std::unique_ptr<Buffer>> CpuBackend::Allocate(int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("a buffer of ", bytes));
  }
  // One line beyond, so that a whole panel can be read at any end.
  const int64_t padded = RoundUp(bytes, kAlignment) + kAlignment;
  const int64_t alignment = padded < kLargePage ? kAlignment : kLargePage;
  void* data = std::aligned_alloc(
      alignment, static_cast<size_t>(RoundUp(padded, alignment)));
  if (data == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for a buffer of ", bytes,
                     " bytes; use a smaller batch or model"));
  }
  // Of whole large pages, so that it takes no more memory; a kernel that has
  // none serves small ones.
  madvise(data, static_cast<size_t>(padded / kLargePage * kLargePage),
          MADV_HUGEPAGE);
  std::memset(data, 0, static_cast<size_t>(padded));
  return std::unique_ptr<Buffer>(std::make_unique<CpuBuffer>(data, bytes));
}

absl::StatusOr<std::unique_ptr<HostBuffer>> CpuBackend::AllocateHost(
    int64_t bytes) {
  // Plain memory: there is nothing to lock it for.
  ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, Allocate(bytes));
  return std::unique_ptr<HostBuffer>(
      std::make_unique<CpuHostBuffer>(std::move(buffer)));
}

absl::Status CpuBackend::CopyFromHost(const void* host, const Tensor& to) {
  const char* from = static_cast<const char*>(host);
  const RowWalk walk(to);
  for (int64_t i = 0; i < walk.rows(); ++i) {
    std::memcpy(walk.row(i), from, static_cast<size_t>(walk.row_bytes()));
    from += walk.row_bytes();
  }
  return absl::OkStatus();
}

void CpuBackend::CopyToHost(const Tensor& from, HostBuffer* to,
                            int64_t offset) {
  const int64_t bytes =
      from.elements() * static_cast<int64_t>(DTypeBytes(from.dtype()));
  CHECK(offset >= 0 && offset + bytes <= to->bytes())
      << from.DebugString() << " at byte " << offset << " of " << to->bytes();
  CopyRowMajor(from, static_cast<char*>(to->data()) + offset);
}

// Operations have run when they return, so an event has come when it is made.
Event CpuBackend::Record() { return {++events_}; }

absl::Status CpuBackend::Wait(const Event& event) {
  CHECK(event.number <= events_) << "an event of another backend";
  return Sync();
}

absl::Status CpuBackend::Read(const Tensor& from, void* host) {
  CopyRowMajor(from, static_cast<char*>(host));
  return Sync();
}

absl::Status CpuBackend::Sync() {
  return StatusOf(fault_.exchange(DeviceFault::kNone));
}

void CpuBackend::SetFault(DeviceFault fault) {
  DeviceFault none = DeviceFault::kNone;
  fault_.compare_exchange_strong(none, fault);
}

void CpuBackend::Zero(const Tensor& x) {
  const RowWalk walk(x);
  for (int64_t i = 0; i < walk.rows(); ++i) {
    std::memset(walk.row(i), 0, static_cast<size_t>(walk.row_bytes()));
  }
}

absl::StatusOr<std::unique_ptr<Graph>> CpuBackend::Capture(
    const std::function<void()>&) {
  return std::unique_ptr<Graph>();
}

void CpuBackend::Replay(const Graph&) { CHECK(false) << "no graphs here"; }

float* CpuBackend::Grow(AlignedFloats* scratch, int64_t floats) {
  const int64_t bytes = floats * static_cast<int64_t>(sizeof(float));
  if (scratch->buffer == nullptr || scratch->buffer->bytes() < bytes) {
    auto buffer = Allocate(bytes);
    CHECK(buffer.ok()) << buffer.status();
    scratch->buffer = *std::move(buffer);
  }
  return static_cast<float*>(scratch->buffer->data());
}

float* CpuBackend::Scratch(int thread, int64_t floats) {
  return Grow(&scratch_[thread], floats);
}

float* CpuBackend::SharedScratch(int64_t floats) {
  return Grow(&shared_scratch_, floats);
}

}  // namespace temper
