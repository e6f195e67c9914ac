// A Backend that passes every operation on to another: what a test overrides,
// it breaks or watches. `inner` must outlive the object.

#ifndef KERNELS_OPS_TESTING_FORWARDING_BACKEND_H_
#define KERNELS_OPS_TESTING_FORWARDING_BACKEND_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/ops/backend.h"

namespace temper {

class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(Backend* inner) : inner_(inner) {}

  Device device() const override { return inner_->device(); }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) override {
    return inner_->Allocate(bytes);
  }
  absl::Status CopyFromHost(const void* host, const Tensor& to) override {
    return inner_->CopyFromHost(host, to);
  }
  absl::StatusOr<std::unique_ptr<HostBuffer>> AllocateHost(
      int64_t bytes) override {
    return inner_->AllocateHost(bytes);
  }
  void CopyToHost(const Tensor& from, HostBuffer* to, int64_t offset) override {
    inner_->CopyToHost(from, to, offset);
  }
  Event Record() override { return inner_->Record(); }
  absl::Status Wait(const Event& event) override { return inner_->Wait(event); }
  absl::Status Read(const Tensor& from, void* host) override {
    return inner_->Read(from, host);
  }
  int64_t BucketRows(int64_t rows) const override {
    return inner_->BucketRows(rows);
  }
  void WriteKeys(const WriteKeysArgs& args) override {
    inner_->WriteKeys(args);
  }
  void CountEqualRows(const Tensor& a, const Tensor& b,
                      const Tensor& count) override {
    inner_->CountEqualRows(a, b, count);
  }
  void CheckNumbers(const Tensor& x, double limit) override {
    inner_->CheckNumbers(x, limit);
  }
  absl::Status Sync() override { return inner_->Sync(); }
  void Zero(const Tensor& x) override { inner_->Zero(x); }
  absl::StatusOr<std::unique_ptr<Weight>> NewWeight(
      const WeightSpec& spec) override {
    return inner_->NewWeight(spec);
  }
  void SetWeight(const Tensor& values, Weight* weight) override {
    inner_->SetWeight(values, weight);
  }
  void Linear(const Tensor& x, const Weight& w, Use use,
              const Tensor& y) override {
    inner_->Linear(x, w, use, y);
  }
  void LinearWeightGrad(const WeightGradArgs& args) override {
    inner_->LinearWeightGrad(args);
  }
  void HeadLinear(const Tensor& x, const Weight& w, Use use,
                  const Tensor& y) override {
    inner_->HeadLinear(x, w, use, y);
  }
  void HeadLinearWeightGrad(const WeightGradArgs& args) override {
    inner_->HeadLinearWeightGrad(args);
  }
  void GroupedLinear(const GroupedLinearArgs& args) override {
    inner_->GroupedLinear(args);
  }
  void GroupedLinearWeightGrad(
      const GroupedLinearWeightGradArgs& args) override {
    inner_->GroupedLinearWeightGrad(args);
  }
  void Embed(const Tensor& table, const Tensor& ids, const Tensor& x) override {
    inner_->Embed(table, ids, x);
  }
  void EmbedBackward(const Tensor& ids, const Tensor& dx,
                     const Tensor& dtable) override {
    inner_->EmbedBackward(ids, dx, dtable);
  }
  void Add(const Tensor& y, const Tensor& x) override { inner_->Add(y, x); }
  void RmsNorm(const Tensor& x, const Tensor& w, float eps,
               const Tensor& y) override {
    inner_->RmsNorm(x, w, eps, y);
  }
  void RmsNormBackward(const RmsNormBackwardArgs& args) override {
    inner_->RmsNormBackward(args);
  }
  void LayerNorm(const LayerNormArgs& args) override {
    inner_->LayerNorm(args);
  }
  void LayerNormBackward(const LayerNormBackwardArgs& args) override {
    inner_->LayerNormBackward(args);
  }
  void Rope(const Tensor& x, const Tensor& position, const Tensor& cos_sin,
            RopeStyle style, RopeDirection direction) override {
    inner_->Rope(x, position, cos_sin, style, direction);
  }
  void SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& h) override {
    inner_->SwiGlu(gate, up, h);
  }
  void SwiGluBackward(const SwiGluBackwardArgs& args) override {
    inner_->SwiGluBackward(args);
  }
  void Scale(float factor, const Tensor& x) override {
    inner_->Scale(factor, x);
  }
  void ScatterRows(const Tensor& from, const Tensor& rows,
                   const Tensor& to) override {
    inner_->ScatterRows(from, rows, to);
  }
  void GatherRows(const Tensor& from, const Tensor& rows,
                  const Tensor& to) override {
    inner_->GatherRows(from, rows, to);
  }
  void IndexerSelect(const IndexerSelectArgs& args) override {
    inner_->IndexerSelect(args);
  }
  void SparseMla(const SparseMlaArgs& args) override {
    inner_->SparseMla(args);
  }
  void SparseMlaBackward(const SparseMlaBackwardArgs& args) override {
    inner_->SparseMlaBackward(args);
  }
  void IndexerKl(const IndexerKlArgs& args) override {
    inner_->IndexerKl(args);
  }
  void IndexerKlBackward(const IndexerKlBackwardArgs& args) override {
    inner_->IndexerKlBackward(args);
  }
  void MoeGate(const MoeGateArgs& args) override { inner_->MoeGate(args); }
  void MoeGateBackward(const MoeGateBackwardArgs& args) override {
    inner_->MoeGateBackward(args);
  }
  void MoePlan(const MoePlanArgs& args) override { inner_->MoePlan(args); }
  void MoeCombine(const MoeCombineArgs& args) override {
    inner_->MoeCombine(args);
  }
  void MoeCombineBackward(const MoeCombineBackwardArgs& args) override {
    inner_->MoeCombineBackward(args);
  }
  void LogProb(const LogProbArgs& args) override { inner_->LogProb(args); }
  void LogProbBackward(const LogProbBackwardArgs& args) override {
    inner_->LogProbBackward(args);
  }
  void DrawWords(const Tensor& rows, const Tensor& words) override {
    inner_->DrawWords(rows, words);
  }
  void Sample(const SampleArgs& args) override { inner_->Sample(args); }
  void SumSquares(absl::Span<const Tensor> tensors,
                  const Tensor& out) override {
    inner_->SumSquares(tensors, out);
  }
  void AdamW(const AdamWOptions& options,
             absl::Span<const AdamWTensor> tensors) override {
    inner_->AdamW(options, tensors);
  }

 private:
  Backend* const inner_;
};

}  // namespace temper

#endif  // KERNELS_OPS_TESTING_FORWARDING_BACKEND_H_
