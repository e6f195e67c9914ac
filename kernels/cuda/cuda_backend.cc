#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/cuda/device_rows.h"

namespace temper {
namespace {

// Events of the runtime: those of Record go round, one is of Read and Sync, and
// each half of the staging memory has one.
constexpr int kEventsInTurn = 7;
constexpr int kOwnEvent = kEventsInTurn;
constexpr int kStagingEvent = kOwnEvent + 1;
static_assert(kStagingEvent + 2 == cuda::kRuntimeEvents);

constexpr int64_t kStagingHalf = int64_t{4} << 20;

// Memory that the runtime gave, and takes back by kFree.
template <typename Base, void (cuda::Runtime::*kFree)(void*)>
class RuntimeMemory final : public Base {
 public:
  RuntimeMemory(std::shared_ptr<cuda::Runtime> runtime, void* data,
                int64_t bytes)
      : runtime_(std::move(runtime)), data_(data), bytes_(bytes) {}
  ~RuntimeMemory() override { (runtime_.get()->*kFree)(data_); }
  RuntimeMemory(const RuntimeMemory&) = delete;
  RuntimeMemory& operator=(const RuntimeMemory&) = delete;
  void* data() const override { return data_; }
  int64_t bytes() const override { return bytes_; }

 private:
  const std::shared_ptr<cuda::Runtime> runtime_;
  void* const data_;
  const int64_t bytes_;
};

using DeviceBuffer = RuntimeMemory<Buffer, &cuda::Runtime::Free>;
using LockedBuffer = RuntimeMemory<HostBuffer, &cuda::Runtime::FreeHost>;

// Holds the scratch that its kernels were given.
class CudaGraph final : public Graph {
 public:
  CudaGraph(std::shared_ptr<cuda::Runtime> runtime, void* graph,
            std::shared_ptr<Buffer> scratch)
      : runtime_(std::move(runtime)),
        graph_(graph),
        scratch_(std::move(scratch)) {}
  ~CudaGraph() override { runtime_->FreeGraph(graph_); }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  void* graph() const { return graph_; }

 private:
  const std::shared_ptr<cuda::Runtime> runtime_;
  void* const graph_;
  const std::shared_ptr<Buffer> scratch_;
};

int64_t BytesOf(const Tensor& x) {
  return x.elements() * static_cast<int64_t>(DTypeBytes(x.dtype()));
}

// The same shape, row-major over other memory.
cuda::View DenseView(const Tensor& x, void* data) {
  cuda::View view = cuda::ViewOf(x);
  view.data = data;
  for (int64_t axis = 3, stride = 1; axis >= 0; --axis) {
    view.stride[axis] = stride;
    stride *= view.dim[axis];
  }
  return view;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> NewCudaBackend(
    std::unique_ptr<cuda::Runtime> runtime, int64_t chunk_bytes) {
  CHECK(FlushDenormalsSet()) << "call SetFlushDenormals() in main first";
  auto backend = std::make_unique<CudaBackend>(std::move(runtime), chunk_bytes);
  RETURN_IF_ERROR(backend->Start());
  return std::unique_ptr<Backend>(std::move(backend));
}

CudaBackend::CudaBackend(std::unique_ptr<cuda::Runtime> runtime,
                         int64_t chunk_bytes)
    : runtime_(std::move(runtime)), chunk_bytes_(chunk_bytes) {}

absl::Status CudaBackend::Start() {
  ASSIGN_OR_RETURN(fault_, Allocate(sizeof(uint32_t)));
  ASSIGN_OR_RETURN(faults_,
                   AllocateHost((kEventsInTurn + 1) * sizeof(uint32_t)));
  ASSIGN_OR_RETURN(staging_, AllocateHost(2 * kStagingHalf));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Buffer>> CudaBackend::Allocate(int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("a buffer of ", bytes));
  }
  CHECK(!capturing_) << "an allocation in a capture";
  ASSIGN_OR_RETURN(void* data, runtime_->Allocate(std::max<int64_t>(bytes, 1)));
  return std::unique_ptr<Buffer>(
      std::make_unique<DeviceBuffer>(runtime_, data, bytes));
}

absl::StatusOr<std::unique_ptr<HostBuffer>> CudaBackend::AllocateHost(
    int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("a buffer of ", bytes));
  }
  CHECK(!capturing_) << "an allocation in a capture";
  ASSIGN_OR_RETURN(void* data,
                   runtime_->AllocateHost(std::max<int64_t>(bytes, 1)));
  return std::unique_ptr<HostBuffer>(
      std::make_unique<LockedBuffer>(runtime_, data, bytes));
}

// --- Copies ------------------------------------------------------------------

absl::Status CudaBackend::TurnStaging() {
  runtime_->Record(kStagingEvent + half_);
  half_ = 1 - half_;
  half_filled_ = 0;
  return runtime_->Wait(kStagingEvent + half_);
}

absl::Status CudaBackend::Upload(const void* host, void* device,
                                 int64_t bytes) {
  CHECK(!capturing_) << "a copy from the host in a capture";
  const char* from = static_cast<const char*>(host);
  char* to = static_cast<char*>(device);
  while (bytes > 0) {
    if (half_filled_ == kStagingHalf) RETURN_IF_ERROR(TurnStaging());
    const int64_t piece = std::min(bytes, kStagingHalf - half_filled_);
    char* const staged = static_cast<char*>(staging_->data()) +
                         half_ * kStagingHalf + half_filled_;
    std::memcpy(staged, from, static_cast<size_t>(piece));
    runtime_->CopyUp(staged, to, piece);
    half_filled_ += piece;
    from += piece;
    to += piece;
    bytes -= piece;
  }
  return absl::OkStatus();
}

absl::Status CudaBackend::CopyFromHost(const void* host, const Tensor& to) {
  CHECK(to.device() == Device::kCuda) << to.DebugString();
  if (to.elements() == 0) return absl::OkStatus();
  const int64_t bytes = BytesOf(to);
  if (to.contiguous()) return Upload(host, to.data(), bytes);
  const cuda::View dense = DenseView(to, Scratch(bytes));
  RETURN_IF_ERROR(Upload(host, dense.data, bytes));
  cuda::Copy(dense, cuda::ViewOf(to), cuda::ElementOf(to, to), stream());
  return absl::OkStatus();
}

const void* CudaBackend::RowMajor(const Tensor& x) {
  if (x.contiguous()) return x.data();
  const cuda::View dense = DenseView(x, Scratch(BytesOf(x)));
  cuda::Copy(cuda::ViewOf(x), dense, cuda::ElementOf(x, x), stream());
  return dense.data;
}

void CudaBackend::CopyToHost(const Tensor& from, HostBuffer* to,
                             int64_t offset) {
  CHECK(from.device() == Device::kCuda) << from.DebugString();
  const int64_t bytes = BytesOf(from);
  CHECK(offset >= 0 && offset + bytes <= to->bytes())
      << from.DebugString() << " at byte " << offset << " of " << to->bytes();
  if (bytes == 0) return;
  runtime_->CopyDown(RowMajor(from), static_cast<char*>(to->data()) + offset,
                     bytes);
}

// --- Waits -------------------------------------------------------------------

// The word as it is when the event comes, in the event's own place.
Event CudaBackend::Record() {
  CHECK(!capturing_) << "an event in a capture";
  const int place = static_cast<int>(++events_ % kEventsInTurn);
  runtime_->CopyDown(fault_->data(),
                     static_cast<uint32_t*>(faults_->data()) + place,
                     sizeof(uint32_t));
  runtime_->Record(place);
  return {events_};
}

// An event whose place another took since is waited for in the later one, of
// the same queue.
absl::Status CudaBackend::Wait(const Event& event) {
  CHECK(event.number <= events_) << "an event of another backend";
  CHECK(!capturing_) << "a wait in a capture";
  const int place = static_cast<int>(event.number % kEventsInTurn);
  RETURN_IF_ERROR(runtime_->Wait(place));
  const auto fault = static_cast<DeviceFault>(
      static_cast<const uint32_t*>(faults_->data())[place]);
  if (fault == DeviceFault::kNone || event.number <= cleared_at_) {
    return absl::OkStatus();
  }
  // Said once: what earlier events brought down of it is not said again.
  cleared_at_ = events_;
  runtime_->Zero(fault_->data(), sizeof(uint32_t));
  return StatusOf(fault);
}

absl::Status CudaBackend::Sync() { return Wait(Record()); }

absl::Status CudaBackend::Read(const Tensor& from, void* host) {
  CHECK(from.device() == Device::kCuda) << from.DebugString();
  // Through the staging memory, half by half, each behind what is enqueued.
  RETURN_IF_ERROR(TurnStaging());
  char* to = static_cast<char*>(host);
  const int64_t bytes = BytesOf(from);
  if (bytes == 0) return Sync();
  const char* const dense = static_cast<const char*>(RowMajor(from));
  char* const staged =
      static_cast<char*>(staging_->data()) + half_ * kStagingHalf;
  for (int64_t at = 0; at < bytes; at += kStagingHalf) {
    const int64_t piece = std::min(kStagingHalf, bytes - at);
    runtime_->CopyDown(dense + at, staged, piece);
    runtime_->Record(kOwnEvent);
    RETURN_IF_ERROR(runtime_->Wait(kOwnEvent));
    std::memcpy(to + at, staged, static_cast<size_t>(piece));
  }
  return Sync();
}

void CudaBackend::Zero(const Tensor& x) {
  CHECK(x.device() == Device::kCuda) << x.DebugString();
  if (x.elements() == 0) return;
  if (x.contiguous()) {
    runtime_->Zero(x.data(), BytesOf(x));
  } else {
    cuda::Fill(cuda::ViewOf(x), cuda::ElementOf(x, x), stream());
  }
}

int64_t CudaBackend::BucketRows(int64_t rows) const {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(rows)));
}

// --- Scratch and graphs ------------------------------------------------------

char* CudaBackend::Scratch(int64_t bytes) {
  if (scratch_ == nullptr || scratch_->bytes() < bytes) {
    if (capturing_) {
      // Nothing runs now, so any address does; Capture tries again.
      scratch_wanted_ = std::max(scratch_wanted_, bytes);
      return scratch_ == nullptr ? static_cast<char*>(fault_->data())
                                 : static_cast<char*>(scratch_->data());
    }
    auto buffer = Allocate(bytes);
    CHECK(buffer.ok()) << buffer.status();
    scratch_ = *std::move(buffer);
  }
  return static_cast<char*>(scratch_->data());
}

absl::StatusOr<std::unique_ptr<Graph>> CudaBackend::Capture(
    const std::function<void()>& operations) {
  CHECK(!capturing_) << "a capture in a capture";
  // Twice at most: by then the scratch is what the first try wanted.
  for (;;) {
    scratch_wanted_ = 0;
    RETURN_IF_ERROR(runtime_->BeginCapture());
    capturing_ = true;
    operations();
    capturing_ = false;
    ASSIGN_OR_RETURN(void* graph, runtime_->EndCapture());
    auto made = std::make_unique<CudaGraph>(runtime_, graph, scratch_);
    if (scratch_wanted_ == 0) return std::unique_ptr<Graph>(std::move(made));
    ASSIGN_OR_RETURN(scratch_, Allocate(scratch_wanted_));
  }
}

void CudaBackend::Replay(const Graph& graph) {
  CHECK(!capturing_) << "a replay in a capture";
  runtime_->Replay(static_cast<const CudaGraph&>(graph).graph());
}

}  // namespace temper
