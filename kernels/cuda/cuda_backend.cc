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

// Events of the runtime: those of Record go round, and each half of the staging
// memory has one.
constexpr int kEventsInTurn = 7;
constexpr int kStagingEvent = kEventsInTurn;
static_assert(kStagingEvent + 2 == cuda::kRuntimeEvents);

constexpr int64_t kStagingHalf = int64_t{4} << 20;

// Memory that the runtime gave, and takes back by kFree.
template <typename Base, void (cuda::Runtime::*kFree)(void*)>
class RuntimeMemory final : public Base {
 public:
  RuntimeMemory(std::shared_ptr<cuda::Runtime> runtime, void* data,
                int64_t bytes)
      : runtime_(std::move(runtime)), data_(data), bytes_(bytes) {}
  ~RuntimeMemory() override {
    CHECK(!runtime_->capturing()) << "memory is freed in a capture";
    (runtime_.get()->*kFree)(data_);
  }
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

// Visits x in views of at most `most` bytes, or of one element, that follow one
// another in row-major order.
template <typename Visit>
void InPieces(const Tensor& x, int64_t most, const Visit& visit) {
  const int64_t bytes = BytesOf(x);
  int axis = 0;
  while (axis < x.rank() && x.dim(axis) == 1) ++axis;
  if (bytes <= most || axis == x.rank()) return visit(x);
  const int64_t all = x.dim(axis);
  const int64_t each = std::max<int64_t>(1, most / (bytes / all));
  for (int64_t at = 0; at < all; at += each) {
    InPieces(x.Slice(axis, at, std::min(at + each, all)), most, visit);
  }
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
  ASSIGN_OR_RETURN(faults_, AllocateHost(kEventsInTurn * sizeof(uint32_t)));
  ASSIGN_OR_RETURN(staging_, AllocateHost(2 * kStagingHalf));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Buffer>> CudaBackend::Allocate(int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("a buffer of ", bytes));
  }
  CHECK(!runtime_->capturing()) << "an allocation in a capture";
  ASSIGN_OR_RETURN(void* data, runtime_->Allocate(std::max<int64_t>(bytes, 1)));
  return std::unique_ptr<Buffer>(
      std::make_unique<DeviceBuffer>(runtime_, data, bytes));
}

absl::StatusOr<std::unique_ptr<HostBuffer>> CudaBackend::AllocateHost(
    int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("a buffer of ", bytes));
  }
  CHECK(!runtime_->capturing()) << "an allocation in a capture";
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
  CHECK(!runtime_->capturing()) << "a copy from the host in a capture";
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
  if (to.contiguous()) return Upload(host, to.data(), BytesOf(to));
  const char* from = static_cast<const char*>(host);
  absl::Status status;
  InPieces(to, chunk_bytes_, [&](const Tensor& piece) {
    const int64_t bytes = BytesOf(piece);
    char* const scratch = Scratch(bytes);
    if (scratch == nullptr) status = TakeLack();
    if (status.ok()) status = Upload(from, scratch, bytes);
    if (!status.ok()) return;
    cuda::Copy(DenseView(piece, scratch), cuda::ViewOf(piece),
               cuda::ElementOf(piece, piece), stream());
    from += bytes;
  });
  return status;
}

void CudaBackend::BringDown(const Tensor& x, char* host) {
  if (x.contiguous()) return runtime_->CopyDown(x.data(), host, BytesOf(x));
  InPieces(x, chunk_bytes_, [&](const Tensor& piece) {
    const int64_t bytes = BytesOf(piece);
    char* const scratch = Scratch(bytes);
    if (scratch == nullptr) return;
    cuda::Copy(cuda::ViewOf(piece), DenseView(piece, scratch),
               cuda::ElementOf(piece, piece), stream());
    runtime_->CopyDown(scratch, host, bytes);
    host += bytes;
  });
}

void CudaBackend::CopyToHost(const Tensor& from, HostBuffer* to,
                             int64_t offset) {
  CHECK(from.device() == Device::kCuda) << from.DebugString();
  const int64_t bytes = BytesOf(from);
  CHECK(offset >= 0 && offset + bytes <= to->bytes())
      << from.DebugString() << " at byte " << offset << " of " << to->bytes();
  if (bytes == 0) return;
  BringDown(from, static_cast<char*>(to->data()) + offset);
}

// --- Waits -------------------------------------------------------------------

// The word as it is when the event comes, in the event's own place.
Event CudaBackend::Record() {
  CHECK(!runtime_->capturing()) << "an event in a capture";
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
  CHECK(!runtime_->capturing()) << "a wait in a capture";
  const int place = static_cast<int>(event.number % kEventsInTurn);
  RETURN_IF_ERROR(runtime_->Wait(place));
  RETURN_IF_ERROR(TakeLack());
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

// Through the staging memory: the queue has read what lies there before it
// writes there. Small things come by one wait.
absl::Status CudaBackend::Read(const Tensor& from, void* host) {
  CHECK(from.device() == Device::kCuda) << from.DebugString();
  if (from.elements() == 0) return Sync();
  char* to = static_cast<char*>(host);
  char* const staged = static_cast<char*>(staging_->data());
  absl::Status status;
  InPieces(from, staging_->bytes(), [&](const Tensor& piece) {
    BringDown(piece, staged);
    const absl::Status waited = Sync();
    if (status.ok()) status = waited;
    std::memcpy(to, staged, static_cast<size_t>(BytesOf(piece)));
    to += BytesOf(piece);
  });
  half_filled_ = 0;
  return status;
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
  if (scratch_ != nullptr && scratch_->bytes() >= bytes) {
    return static_cast<char*>(scratch_->data());
  }
  if (runtime_->capturing()) {
    scratch_wanted_ = std::max(scratch_wanted_, bytes);
    return nullptr;
  }
  auto buffer = Allocate(bytes);
  if (!buffer.ok()) {
    if (lack_.ok()) lack_ = buffer.status();
    return nullptr;
  }
  scratch_ = *std::move(buffer);
  return static_cast<char*>(scratch_->data());
}

absl::Status CudaBackend::TakeLack() {
  return std::exchange(lack_, absl::OkStatus());
}

absl::StatusOr<std::unique_ptr<Graph>> CudaBackend::Capture(
    const std::function<void()>& operations) {
  CHECK(!runtime_->capturing()) << "a capture in a capture";
  // Twice at most: by then the scratch is what the first try wanted.
  for (;;) {
    scratch_wanted_ = 0;
    RETURN_IF_ERROR(runtime_->BeginCapture());
    operations();
    ASSIGN_OR_RETURN(void* graph, runtime_->EndCapture());
    auto made = std::make_unique<CudaGraph>(runtime_, graph, scratch_);
    if (scratch_wanted_ == 0) return std::unique_ptr<Graph>(std::move(made));
    ASSIGN_OR_RETURN(scratch_, Allocate(scratch_wanted_));
  }
}

void CudaBackend::Replay(const Graph& graph) {
  CHECK(!runtime_->capturing()) << "a replay in a capture";
  runtime_->Replay(static_cast<const CudaGraph&>(graph).graph());
}

}  // namespace temper
