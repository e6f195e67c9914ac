// The CPU backend, in fp32, bf16 and FP8. One file per family of operations
// defines the methods; what each does is stated in kernels/ops/backend.h. Work
// is split over outputs, so bits depend neither on the number of threads nor on
// the tier. Operations run before they return; Sync has nothing to wait for.
//
// The thread that makes and drives a backend must have the float mode of
// kernels/base/float_mode.h (CHECKed).

#ifndef KERNELS_CPU_CPU_BACKEND_H_
#define KERNELS_CPU_CPU_BACKEND_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/log.h"
#include "kernels/base/thread_pool.h"
#include "kernels/cpu/tier.h"
#include "kernels/ops/backend.h"
#include "kernels/ops/rows.h"
#include "kernels/tensor/tensor.h"

namespace temper {

// `tier` as ChooseCpuTier takes it (kernels/cpu/cpu_tier.h), whose errors it
// has; `threads` >= 1 counts the caller. FailedPrecondition if the tier does
// not reproduce the definition bit for bit.
absl::StatusOr<std::unique_ptr<Backend>> NewCpuBackend(const std::string& tier,
                                                       int threads);

// Matrices [groups, out, in] packed (kernels/cpu/gemm.h) for the uses they are
// made for: floats, or pairs of bf16, of codes going forward; counted in
// floats, whatever they are.
struct CpuWeight : public Weight {
  WeightSpec spec;
  int64_t forward_floats = 0;     // per group: columns are outputs; 0: none
  int64_t transposed_floats = 0;  // per group: columns are inputs; 0: none
  int64_t scales = 0;             // per group, of codes
  // Forward packings, then transposed, then scales.
  std::unique_ptr<Buffer> storage;

  // Whether the use multiplies by codes; else, of those, by pairs.
  bool ByCodes(Use use) const {
    return spec.dtype == DType::kF8E4M3 && use == Use::kForward;
  }
  const float* packed(Use use, int64_t group) const {
    CHECK((use == Use::kForward ? forward_floats : transposed_floats) > 0)
        << "a weight that is not packed for this product";
    const auto* first = static_cast<const float*>(storage->data());
    return use == Use::kForward ? first + group * forward_floats
                                : first + spec.groups * forward_floats +
                                      group * transposed_floats;
  }
  float* scales_of(int64_t group) const {
    return static_cast<float*>(storage->data()) +
           spec.groups * (forward_floats + transposed_floats) + group * scales;
  }
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(const TierKernels& tier, int threads);

  Device device() const override;
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
  int64_t BucketRows(int64_t rows) const override { return rows; }
  absl::StatusOr<std::unique_ptr<Graph>> Capture(
      const std::function<void()>& operations) override;
  void Replay(const Graph& graph) override;
  absl::StatusOr<std::unique_ptr<Weight>> NewWeight(
      const WeightSpec& spec) override;
  void SetWeight(const Tensor& values, Weight* weight) override;
  void QuantiseWeight(const Tensor& x, const Tensor& codes,
                      const Tensor& scales) override;
  void DequantiseWeight(const Tensor& codes, const Tensor& scales,
                        const Tensor& x) override;
  void SetQuantisedWeight(const Tensor& codes, const Tensor& scales,
                          Weight* weight) override;
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
  void Hadamard(const Tensor& x) override;
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
  // Each row quantised and dequantised again, into `room`, densely.
  GroupedRows<float> QuantisedRows(const GroupedRows<float>& q, float* room);
  // SetWeight of f32 values to an f8e4m3 weight.
  void QuantiseInto(const Tensor& values, Weight* weight);
  // Columns [first, first + kPanel) of the matrix, dequantised, as pairs.
  void PackTransposed(const CpuWeight& w,
                      const GroupedRows<const F8E4M3>& codes, int64_t group,
                      int64_t first, float* scratch);

  // The error word. From any thread of the pool; the first fault stands.
  void SetFault(DeviceFault fault);

  // At least `floats` floats of 64-byte aligned scratch of one thread of the
  // pool, uninitialised, valid until that thread's next call. Grows, never
  // shrinks, so a steady step allocates nothing.
  float* Scratch(int thread, int64_t floats);

  // Scratch shared by the pieces of one operation, filled by the caller.
  float* SharedScratch(int64_t floats);

  struct AlignedFloats {
    std::unique_ptr<Buffer> buffer;
  };
  float* Grow(AlignedFloats* scratch, int64_t floats);

  const TierKernels tier_;
  ThreadPool pool_;
  std::vector<AlignedFloats> scratch_;  // one per thread
  AlignedFloats shared_scratch_;
  std::atomic<DeviceFault> fault_{DeviceFault::kNone};
  uint64_t events_ = 0;
};

}  // namespace temper

#endif  // KERNELS_CPU_CPU_BACKEND_H_
