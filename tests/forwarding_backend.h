// A Backend that passes every operation on to another: what a test overrides,
// it breaks or watches. `inner` must outlive the object.

#ifndef TESTS_FORWARDING_BACKEND_H_
#define TESTS_FORWARDING_BACKEND_H_

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
  absl::Status CopyToHost(const Tensor& from, void* host) override {
    return inner_->CopyToHost(from, host);
  }
  absl::Status Sync() override { return inner_->Sync(); }
  void Zero(const Tensor& x) override { inner_->Zero(x); }
  absl::StatusOr<std::unique_ptr<Weight>> NewWeight(int64_t groups, int64_t out,
                                                    int64_t in,
                                                    DType dtype) override {
    return inner_->NewWeight(groups, out, in, dtype);
  }
  void SetWeight(const Tensor& values, Weight* weight) override {
    inner_->SetWeight(values, weight);
  }
  void Linear(const Tensor& x, const Weight& w, Use use,
              const Tensor& y) override {
    inner_->Linear(x, w, use, y);
  }
  void LinearWeightGrad(const Tensor& x, const Tensor& dy,
                        const Tensor& dw) override {
    inner_->LinearWeightGrad(x, dy, dw);
  }
  void HeadLinear(const Tensor& x, const Weight& w, Use use,
                  const Tensor& y) override {
    inner_->HeadLinear(x, w, use, y);
  }
  void HeadLinearWeightGrad(const Tensor& x, const Tensor& dy,
                            const Tensor& dw) override {
    inner_->HeadLinearWeightGrad(x, dy, dw);
  }
  void GroupedLinear(const Tensor& x, const Tensor& offsets, const Weight& w,
                     Use use, const Tensor& y) override {
    inner_->GroupedLinear(x, offsets, w, use, y);
  }
  void GroupedLinearWeightGrad(const Tensor& x, const Tensor& dy,
                               const Tensor& offsets,
                               const Tensor& dw) override {
    inner_->GroupedLinearWeightGrad(x, dy, offsets, dw);
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
  void RmsNormBackward(const Tensor& x, const Tensor& w, float eps,
                       const Tensor& dy, const Tensor& dx,
                       const Tensor& dw) override {
    inner_->RmsNormBackward(x, w, eps, dy, dx, dw);
  }
  void LayerNorm(const Tensor& x, const Tensor& w, const Tensor& b, float eps,
                 const Tensor& y) override {
    inner_->LayerNorm(x, w, b, eps, y);
  }
  void LayerNormBackward(const Tensor& x, const Tensor& w, float eps,
                         const Tensor& dy, const Tensor& dx, const Tensor& dw,
                         const Tensor& db) override {
    inner_->LayerNormBackward(x, w, eps, dy, dx, dw, db);
  }
  void Rope(const Tensor& x, const Tensor& position, const Tensor& cos_sin,
            RopeStyle style, RopeDirection direction) override {
    inner_->Rope(x, position, cos_sin, style, direction);
  }
  void SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& h) override {
    inner_->SwiGlu(gate, up, h);
  }
  void SwiGluBackward(const Tensor& gate, const Tensor& up, const Tensor& dh,
                      const Tensor& dgate, const Tensor& dup) override {
    inner_->SwiGluBackward(gate, up, dh, dgate, dup);
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
  void IndexerSelect(const Tensor& q, const Tensor& w, const Tensor& keys,
                     const KeyMap& map, const Tensor& selected,
                     const Tensor& scores) override {
    inner_->IndexerSelect(q, w, keys, map, selected, scores);
  }
  void SparseMla(const Tensor& q, const Tensor& keys, const KeyMap& map,
                 const Tensor& selected, float scale, const Tensor& z,
                 const Tensor& lse) override {
    inner_->SparseMla(q, keys, map, selected, scale, z, lse);
  }
  void SparseMlaBackward(const Tensor& q, const Tensor& keys, const KeyMap& map,
                         const Tensor& selected, float scale, const Tensor& z,
                         const Tensor& lse, const Tensor& dz, const Tensor& dq,
                         const Tensor& dkeys) override {
    inner_->SparseMlaBackward(q, keys, map, selected, scale, z, lse, dz, dq,
                              dkeys);
  }
  void IndexerKl(const Tensor& q, const Tensor& keys, float scale,
                 const Tensor& lse, const Tensor& index_q,
                 const Tensor& index_w, const Tensor& index_keys,
                 const KeyMap& map, const Tensor& selected,
                 const Tensor& kl) override {
    inner_->IndexerKl(q, keys, scale, lse, index_q, index_w, index_keys, map,
                      selected, kl);
  }
  void IndexerKlBackward(const Tensor& q, const Tensor& keys, float scale,
                         const Tensor& lse, const Tensor& index_q,
                         const Tensor& index_w, const Tensor& index_keys,
                         const KeyMap& map, const Tensor& selected,
                         const Tensor& dkl, const Tensor& dindex_q,
                         const Tensor& dindex_w,
                         const Tensor& dindex_keys) override {
    inner_->IndexerKlBackward(q, keys, scale, lse, index_q, index_w, index_keys,
                              map, selected, dkl, dindex_q, dindex_w,
                              dindex_keys);
  }
  void MoeGate(const Tensor& logits, const Tensor& bias,
               const GateOptions& options, const Tensor& scores,
               const Tensor& routes, const Tensor& gates) override {
    inner_->MoeGate(logits, bias, options, scores, routes, gates);
  }
  void MoeGateBackward(const Tensor& scores, const Tensor& routes,
                       const GateOptions& options, const Tensor& dgates,
                       const Tensor& dlogits) override {
    inner_->MoeGateBackward(scores, routes, options, dgates, dlogits);
  }
  void MoePlan(const Tensor& routes, const Tensor& offsets, const Tensor& rows,
               const Tensor& place) override {
    inner_->MoePlan(routes, offsets, rows, place);
  }
  void MoeCombine(const Tensor& x, const Tensor& place, const Tensor& gates,
                  const Tensor& y) override {
    inner_->MoeCombine(x, place, gates, y);
  }
  void MoeCombineBackward(const Tensor& x, const Tensor& place,
                          const Tensor& gates, const Tensor& dy,
                          const Tensor& dx, const Tensor& dgates) override {
    inner_->MoeCombineBackward(x, place, gates, dy, dx, dgates);
  }
  void LogProb(const Tensor& x, const Weight& w, const Tensor& targets,
               const Tensor& kept_offsets, const Tensor& kept_ids,
               float temperature, const Tensor& logp, const Tensor& lse,
               const Tensor& entropy) override {
    inner_->LogProb(x, w, targets, kept_offsets, kept_ids, temperature, logp,
                    lse, entropy);
  }
  void LogProbBackward(const Tensor& x, const Weight& w, const Tensor& targets,
                       const Tensor& kept_offsets, const Tensor& kept_ids,
                       float temperature, const Tensor& lse,
                       const Tensor& dlogp, const Tensor& dx,
                       const Tensor& dw) override {
    inner_->LogProbBackward(x, w, targets, kept_offsets, kept_ids, temperature,
                            lse, dlogp, dx, dw);
  }
  void Sample(const Tensor& logits, const Tensor& uniforms,
              const SampleOptions& options, const Tensor& ids,
              const Tensor& logp, const Tensor& kept_ids,
              const Tensor& kept_counts) override {
    inner_->Sample(logits, uniforms, options, ids, logp, kept_ids, kept_counts);
  }
  void SumSquares(const Tensor& x, const Tensor& out) override {
    inner_->SumSquares(x, out);
  }
  void AdamW(const AdamWOptions& options, const Tensor& grad, const Tensor& p,
             const Tensor& m, const Tensor& v) override {
    inner_->AdamW(options, grad, p, m, v);
  }

 private:
  Backend* const inner_;
};

}  // namespace temper

#endif  // TESTS_FORWARDING_BACKEND_H_
