// The backend of an NVIDIA GPU, in fp32: every operation as plain CUDA kernels
// whose bits are the CPU's scalar tier's (DESIGN.md section 6, item 10). One
// file per family of operations defines the methods; what each does is stated
// in kernels/ops/backend.h, what is launched in this folder's headers.
//
// The host never sees the values of operands: what is wrong in them a kernel
// writes into the device's error word, which every event brings down. Tensors
// are of Device::kCuda. bf16 is what rows are copied from and to; a weight or
// keys of it there are not yet.
//
// The thread that makes and drives a backend must have the float mode of
// kernels/base/float_mode.h (CHECKed), for what is worked out on the host.

#ifndef KERNELS_CUDA_CUDA_BACKEND_H_
#define KERNELS_CUDA_CUDA_BACKEND_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/pointwise.h"
#include "kernels/cuda/runtime.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/tensor.h"

namespace temper {

// Scratch of an operation that goes in chunks: what does not fit at once.
inline constexpr int64_t kChunkBytes = int64_t{256} << 20;

// Of a device's runtime: kernels/cuda/gpu_runtime.h, or the emulator's. Where
// chunks are cut does not show; tests have them small.
absl::StatusOr<std::unique_ptr<Backend>> NewCudaBackend(
    std::unique_ptr<cuda::Runtime> runtime, int64_t chunk_bytes = kChunkBytes);

// Matrices [groups, out, in], row-major: a tile is read either way.
struct CudaWeight : public Weight {
  WeightSpec spec;
  std::unique_ptr<Buffer> storage;

  const float* data() const { return static_cast<float*>(storage->data()); }
  // CHECKs that it is there for the use.
  void CheckFor(Use use) const;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::unique_ptr<cuda::Runtime> runtime, int64_t chunk_bytes);
  // Takes what every operation needs of the device.
  absl::Status Start();

  Device device() const override { return Device::kCuda; }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) override;
  absl::StatusOr<std::unique_ptr<HostBuffer>> AllocateHost(
      int64_t bytes) override;
  absl::Status CopyFromHost(const void* host, const Tensor& to) override;
  void CopyToHost(const Tensor& from, HostBuffer* to, int64_t offset) override;
  Event Record() override;
  absl::Status Wait(const Event& event) override;
  absl::Status Read(const Tensor& from, void* host) override;
  absl::Status Sync() override;
  void Zero(const Tensor& x) override;
  // Powers of two, so that steps have few shapes.
  int64_t BucketRows(int64_t rows) const override;
  absl::StatusOr<std::unique_ptr<Graph>> Capture(
      const std::function<void()>& operations) override;
  void Replay(const Graph& graph) override;
  absl::StatusOr<std::unique_ptr<Weight>> NewWeight(
      const WeightSpec& spec) override;
  void SetWeight(const Tensor& values, Weight* weight) override;
  // What FP8 alone needs: our own bug, for NewWeight has refused it.
  void QuantiseWeight(const Tensor& x, const Tensor& codes,
                      const Tensor& scales) override;
  void DequantiseWeight(const Tensor& codes, const Tensor& scales,
                        const Tensor& x) override;
  void SetQuantisedWeight(const Tensor& codes, const Tensor& scales,
                          Weight* weight) override;
  void Hadamard(const Tensor& x) override;
  void Linear(const Tensor& x, const Weight& w, Use use,
              const Tensor& y) override;
  void LinearWeightGrad(const WeightGradArgs& args) override;
  void HeadLinear(const Tensor& x, const Weight& w, Use use,
                  const Tensor& y) override;
  void HeadLinearWeightGrad(const WeightGradArgs& args) override;
  void GroupedLinear(const GroupedLinearArgs& args) override;
  void GroupedLinearWeightGrad(
      const GroupedLinearWeightGradArgs& args) override;
  void Embed(const Tensor& table, const Tensor& ids, const Tensor& x) override;
  void EmbedBackward(const Tensor& ids, const Tensor& dx,
                     const Tensor& dtable) override;
  void Add(const Tensor& y, const Tensor& x) override;
  void RmsNorm(const Tensor& x, const Tensor& w, float eps,
               const Tensor& y) override;
  void RmsNormBackward(const RmsNormBackwardArgs& args) override;
  void LayerNorm(const LayerNormArgs& args) override;
  void LayerNormBackward(const LayerNormBackwardArgs& args) override;
  void Rope(const Tensor& x, const Tensor& position, const Tensor& cos_sin,
            RopeStyle style, RopeDirection direction) override;
  void SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& h) override;
  void SwiGluBackward(const SwiGluBackwardArgs& args) override;
  void Scale(float factor, const Tensor& x) override;
  void Copy(const Tensor& from, const Tensor& to) override;
  void ScatterRows(const Tensor& from, const Tensor& rows,
                   const Tensor& to) override;
  void GatherRows(const Tensor& from, const Tensor& rows,
                  const Tensor& to) override;
  void WriteKeys(const WriteKeysArgs& args) override;
  void CountEqualRows(const Tensor& a, const Tensor& b,
                      const Tensor& count) override;
  void CheckNumbers(const Tensor& x, double limit) override;
  void IndexerSelect(const IndexerSelectArgs& args) override;
  void SparseMla(const SparseMlaArgs& args) override;
  void SparseMlaBackward(const SparseMlaBackwardArgs& args) override;
  void IndexerKl(const IndexerKlArgs& args) override;
  void IndexerKlBackward(const IndexerKlBackwardArgs& args) override;
  void MoeGate(const MoeGateArgs& args) override;
  void MoeGateBackward(const MoeGateBackwardArgs& args) override;
  void MoePlan(const MoePlanArgs& args) override;
  void MoeCombine(const MoeCombineArgs& args) override;
  void MoeCombineBackward(const MoeCombineBackwardArgs& args) override;
  void LogProb(const LogProbArgs& args) override;
  void LogProbBackward(const LogProbBackwardArgs& args) override;
  void DrawWords(const Tensor& rows, const Tensor& words) override;
  void Sample(const SampleArgs& args) override;
  void SumSquares(absl::Span<const Tensor> tensors, const Tensor& out) override;
  void AdamW(const AdamWOptions& options,
             absl::Span<const AdamWTensor> tensors) override;

 private:
  cuda::Stream stream() const { return runtime_->stream(); }

  // Scratch of one operation, uninitialised, valid until the next. Grows, never
  // shrinks, so a steady step allocates nothing. Null, and the operation is
  // left out, if there is none: in a capture, which is then made again, or
  // since the device has no room, which the next wait says.
  char* Scratch(int64_t bytes);
  // That there was no room, once.
  absl::Status TakeLack();

  // Stages `bytes` of the host to the device.
  absl::Status Upload(const void* host, void* device, int64_t bytes);
  // Leaves the half of the staging memory that is being filled, and waits for
  // the other.
  absl::Status TurnStaging();

  // Enqueues a copy, row-major, to page-locked memory; of what has gaps through
  // scratch, as much as a chunk at once.
  void BringDown(const Tensor& x, char* host);
  uint32_t* fault() { return static_cast<uint32_t*>(fault_->data()); }

  // How many items of so much scratch each a chunk holds, at least one.
  int64_t ChunkOf(int64_t items, int64_t bytes_each) const {
    return std::clamp<int64_t>(chunk_bytes_ / std::max<int64_t>(bytes_each, 1),
                               1, std::max<int64_t>(items, 1));
  }

  // One product of a weight, and rows named by an index.
  void Multiply(const CudaWeight& weight, Use use, const float* x,
                int64_t x_row, float* y, int64_t y_row, int64_t rows,
                const uint32_t* unless = nullptr);
  void MoveRows(const Tensor& from, const Tensor& rows, const Tensor& to,
                cuda::Move move);
  // Calls body with the logits of each chunk of a head's rows.
  template <typename Args, typename Body>
  void ForEachHeadChunk(const Args& args, const Body& body);
  // The squares of tensors into *out, or into scratch if it is null; returns
  // where they are, null if they are not there.
  double* Squares(absl::Span<const Tensor> tensors, double* out);

  // Shared with buffers, which may outlive the backend.
  const std::shared_ptr<cuda::Runtime> runtime_;
  const int64_t chunk_bytes_;
  std::unique_ptr<Buffer> fault_;        // the error word
  std::unique_ptr<HostBuffer> faults_;   // its copies, one an event
  std::unique_ptr<HostBuffer> staging_;  // two halves
  std::shared_ptr<Buffer> scratch_;      // graphs hold theirs too
  int64_t scratch_wanted_ = 0;           // in a capture: bytes it lacks
  absl::Status lack_;
  int half_ = 0;             // of the staging memory, being filled
  int64_t half_filled_ = 0;  // its bytes
  uint64_t events_ = 0;
  uint64_t cleared_at_ = 0;  // events up to it have said their fault
};

}  // namespace temper

#endif  // KERNELS_CUDA_CUDA_BACKEND_H_
