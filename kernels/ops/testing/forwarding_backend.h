// A Backend that passes every operation on to another: what a test overrides,
// it breaks or watches. `inner` must outlive the object.

#ifndef KERNELS_OPS_TESTING_FORWARDING_BACKEND_H_
#define KERNELS_OPS_TESTING_FORWARDING_BACKEND_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/ops/backend.h"

namespace temper {

// An operation as it came: `pass` of a ForwardingBackend.
struct PassOn {
  template <typename Operation, typename... Arguments>
  void operator()(Backend* inner, Operation operation,
                  const Arguments&... arguments) const {
    (inner->*operation)(arguments...);
  }
};

// Every operation on tensors goes through `pass`, which is called as PassOn is:
// what is to happen around all of them is said there once.
template <typename Pass>
class ForwardingBackendBy : public Backend {
 public:
  explicit ForwardingBackendBy(Backend* inner, Pass pass = Pass())
      : inner_(inner), pass_(std::move(pass)) {}

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
    pass_(inner_, &Backend::WriteKeys, args);
  }
  void CountEqualRows(const Tensor& a, const Tensor& b,
                      const Tensor& count) override {
    pass_(inner_, &Backend::CountEqualRows, a, b, count);
  }
  void CheckNumbers(const Tensor& x, double limit) override {
    pass_(inner_, &Backend::CheckNumbers, x, limit);
  }
  absl::Status Sync() override { return inner_->Sync(); }
  void Zero(const Tensor& x) override { pass_(inner_, &Backend::Zero, x); }
  absl::StatusOr<std::unique_ptr<Graph>> Capture(
      const std::function<void()>& operations) override {
    return inner_->Capture(operations);
  }
  void Replay(const Graph& graph) override { inner_->Replay(graph); }
  absl::StatusOr<std::unique_ptr<Weight>> NewWeight(
      const WeightSpec& spec) override {
    return inner_->NewWeight(spec);
  }
  void SetWeight(const Tensor& values, Weight* weight) override {
    pass_(inner_, &Backend::SetWeight, values, weight);
  }
  void QuantiseWeight(const Tensor& x, const Tensor& codes,
                      const Tensor& scales) override {
    pass_(inner_, &Backend::QuantiseWeight, x, codes, scales);
  }
  void DequantiseWeight(const Tensor& codes, const Tensor& scales,
                        const Tensor& x) override {
    pass_(inner_, &Backend::DequantiseWeight, codes, scales, x);
  }
  void SetQuantisedWeight(const Tensor& codes, const Tensor& scales,
                          Weight* weight) override {
    pass_(inner_, &Backend::SetQuantisedWeight, codes, scales, weight);
  }
  void Linear(const Tensor& x, const Weight& w, Use use,
              const Tensor& y) override {
    pass_(inner_, &Backend::Linear, x, w, use, y);
  }
  void LinearWeightGrad(const WeightGradArgs& args) override {
    pass_(inner_, &Backend::LinearWeightGrad, args);
  }
  void HeadLinear(const Tensor& x, const Weight& w, Use use,
                  const Tensor& y) override {
    pass_(inner_, &Backend::HeadLinear, x, w, use, y);
  }
  void HeadLinearWeightGrad(const WeightGradArgs& args) override {
    pass_(inner_, &Backend::HeadLinearWeightGrad, args);
  }
  void GroupedLinear(const GroupedLinearArgs& args) override {
    pass_(inner_, &Backend::GroupedLinear, args);
  }
  void GroupedLinearWeightGrad(
      const GroupedLinearWeightGradArgs& args) override {
    pass_(inner_, &Backend::GroupedLinearWeightGrad, args);
  }
  void Embed(const Tensor& table, const Tensor& ids, const Tensor& x) override {
    pass_(inner_, &Backend::Embed, table, ids, x);
  }
  void EmbedBackward(const Tensor& ids, const Tensor& dx,
                     const Tensor& dtable) override {
    pass_(inner_, &Backend::EmbedBackward, ids, dx, dtable);
  }
  void Add(const Tensor& y, const Tensor& x) override {
    pass_(inner_, &Backend::Add, y, x);
  }
  void RmsNorm(const Tensor& x, const Tensor& w, float eps,
               const Tensor& y) override {
    pass_(inner_, &Backend::RmsNorm, x, w, eps, y);
  }
  void RmsNormBackward(const RmsNormBackwardArgs& args) override {
    pass_(inner_, &Backend::RmsNormBackward, args);
  }
  void LayerNorm(const LayerNormArgs& args) override {
    pass_(inner_, &Backend::LayerNorm, args);
  }
  void LayerNormBackward(const LayerNormBackwardArgs& args) override {
    pass_(inner_, &Backend::LayerNormBackward, args);
  }
  void Rope(const Tensor& x, const Tensor& position, const Tensor& cos_sin,
            RopeStyle style, RopeDirection direction) override {
    pass_(inner_, &Backend::Rope, x, position, cos_sin, style, direction);
  }
  void Hadamard(const Tensor& x) override {
    pass_(inner_, &Backend::Hadamard, x);
  }
  void SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& h) override {
    pass_(inner_, &Backend::SwiGlu, gate, up, h);
  }
  void SwiGluBackward(const SwiGluBackwardArgs& args) override {
    pass_(inner_, &Backend::SwiGluBackward, args);
  }
  void Scale(float factor, const Tensor& x) override {
    pass_(inner_, &Backend::Scale, factor, x);
  }
  void Copy(const Tensor& from, const Tensor& to) override {
    pass_(inner_, &Backend::Copy, from, to);
  }
  void ScatterRows(const Tensor& from, const Tensor& rows,
                   const Tensor& to) override {
    pass_(inner_, &Backend::ScatterRows, from, rows, to);
  }
  void GatherRows(const Tensor& from, const Tensor& rows,
                  const Tensor& to) override {
    pass_(inner_, &Backend::GatherRows, from, rows, to);
  }
  void IndexerSelect(const IndexerSelectArgs& args) override {
    pass_(inner_, &Backend::IndexerSelect, args);
  }
  void SparseMla(const SparseMlaArgs& args) override {
    pass_(inner_, &Backend::SparseMla, args);
  }
  void SparseMlaBackward(const SparseMlaBackwardArgs& args) override {
    pass_(inner_, &Backend::SparseMlaBackward, args);
  }
  void IndexerKl(const IndexerKlArgs& args) override {
    pass_(inner_, &Backend::IndexerKl, args);
  }
  void IndexerKlBackward(const IndexerKlBackwardArgs& args) override {
    pass_(inner_, &Backend::IndexerKlBackward, args);
  }
  void MoeGate(const MoeGateArgs& args) override {
    pass_(inner_, &Backend::MoeGate, args);
  }
  void MoeGateBackward(const MoeGateBackwardArgs& args) override {
    pass_(inner_, &Backend::MoeGateBackward, args);
  }
  void MoePlan(const MoePlanArgs& args) override {
    pass_(inner_, &Backend::MoePlan, args);
  }
  void MoeCombine(const MoeCombineArgs& args) override {
    pass_(inner_, &Backend::MoeCombine, args);
  }
  void MoeCombineBackward(const MoeCombineBackwardArgs& args) override {
    pass_(inner_, &Backend::MoeCombineBackward, args);
  }
  void LogProb(const LogProbArgs& args) override {
    pass_(inner_, &Backend::LogProb, args);
  }
  void LogProbBackward(const LogProbBackwardArgs& args) override {
    pass_(inner_, &Backend::LogProbBackward, args);
  }
  void DrawWords(const Tensor& rows, const Tensor& words) override {
    pass_(inner_, &Backend::DrawWords, rows, words);
  }
  void Sample(const SampleArgs& args) override {
    pass_(inner_, &Backend::Sample, args);
  }
  void SumSquares(absl::Span<const Tensor> tensors,
                  const Tensor& out) override {
    pass_(inner_, &Backend::SumSquares, tensors, out);
  }
  void AdamW(const AdamWOptions& options,
             absl::Span<const AdamWTensor> tensors) override {
    pass_(inner_, &Backend::AdamW, options, tensors);
  }

 protected:
  Pass& pass() { return pass_; }

 private:
  Backend* const inner_;
  Pass pass_;
};

using ForwardingBackend = ForwardingBackendBy<PassOn>;

}  // namespace temper

#endif  // KERNELS_OPS_TESTING_FORWARDING_BACKEND_H_
