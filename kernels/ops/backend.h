// The operations a V3.2-shaped model is made of: what a device must implement.
//
// One Backend is one device with one in-order queue. Operations take views
// (those of more than three tensors in a struct, whose members state shapes),
// CHECK shapes, types and devices, enqueue and return; only allocation, copies
// and waits return Status. What an operation finds in the values of its
// operands it cannot say at once: it sets the device's error word
// (kernels/ops/device_fault.h), which the next wait returns and clears. Not
// thread-safe: one thread drives a backend.
//
// A blocking read is any wait for the device: Wait, Read, Sync. A step makes
// one at most, so results that are wanted together come down together.
//
// Granularity is that of the kernels to come for Hopper: no [T, T] scores and
// no [T, V] logits exist outside debug taps.
//
// Numerics (DESIGN.md section 6): how an output of a product is added up hangs
// on its depth alone, not on the number of rows; there are no atomic sums.
// Activation gradients overwrite; those of weights and of cached keys
// accumulate with +=, in a fixed order. A product is of bf16 operands where its
// weight, or the keys, are bf16: what is multiplied with them, given as f32, is
// rounded on the way, an incoming gradient too; results are f32. Of an f8e4m3
// weight x is quantised on the way, and backward takes what codes stand for, in
// bf16; what cannot be quantised sets the error word to kNumbers.
//
// Shape letters: N tokens, D hidden_size, H heads, C kv_lora_rank,
// R qk_rope_head_dim, K index_topk, Hi and Di indexer heads and their
// dimension, E routed experts, A experts per token, V vocabulary.

#ifndef KERNELS_OPS_BACKEND_H_
#define KERNELS_OPS_BACKEND_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/ops/attention_arguments.h"
#include "kernels/ops/device_fault.h"
#include "kernels/ops/device_objects.h"
#include "kernels/ops/op_arguments.h"
#include "kernels/ops/sample_arguments.h"
#include "kernels/tensor/tensor.h"

namespace temper {

class Backend {
 public:
  virtual ~Backend() = default;

  // --- Memory -------------------------------------------------------------
  virtual Device device() const = 0;
  virtual absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) = 0;
  virtual absl::StatusOr<std::unique_ptr<HostBuffer>> AllocateHost(
      int64_t bytes) = 0;
  // Stages row-major values, where its room is full by waiting for older ones:
  // `host` may change when it returns, and `to` has them for what comes next.
  virtual absl::Status CopyFromHost(const void* host, const Tensor& to) = 0;
  // Enqueues a copy, row-major, to byte `offset` of `to`: valid once an event
  // recorded later was waited for, and until the next such copy.
  virtual void CopyToHost(const Tensor& from, HostBuffer* to,
                          int64_t offset) = 0;
  // The end of all that is enqueued now.
  virtual Event Record() = 0;
  virtual absl::Status Wait(const Event& event) = 0;
  // CopyToHost, Record and Wait in one, for whoever need not be fast.
  virtual absl::Status Read(const Tensor& from, void* host) = 0;
  virtual absl::Status Sync() = 0;
  virtual void Zero(const Tensor& x) = 0;

  // How many rows a batch of `rows` is given, those beyond it skipped: a device
  // that replays captured steps has few shapes. At least `rows`.
  virtual int64_t BucketRows(int64_t rows) const = 0;

  // --- Graphs ---------------------------------------------------------------
  // Keeps what `operations` enqueues, called now (twice at most) without
  // running it, for Replay: the same operations on the same tensors, with the
  // values that those have then. Operations, Zero and CopyToHost alone, and
  // none over several tensors (SumSquares, AdamW): nothing comes up, is
  // allocated, or waited for (CHECKed). Null, and nothing called, where
  // launches cost nothing: whoever asked enqueues them.
  virtual absl::StatusOr<std::unique_ptr<Graph>> Capture(
      const std::function<void()>& operations) = 0;
  // Enqueues them, at a launch's cost for all of them together.
  virtual void Replay(const Graph& graph) = 0;

  // --- Weights ------------------------------------------------------------
  // A handle to be multiplied by, in the uses that the spec names (CHECKed by
  // the products).
  virtual absl::StatusOr<std::unique_ptr<Weight>> NewWeight(
      const WeightSpec& spec) = 0;
  // Packs values [groups, out, in], any strides; f32 is rounded, or quantised.
  virtual void SetWeight(const Tensor& values, Weight* weight) = 0;
  // Quantises x to codes, f8e4m3, in squares of 128 of each matrix: both
  // [groups, out, in], scales [groups, ceil(out / 128), ceil(in / 128)].
  virtual void QuantiseWeight(const Tensor& x, const Tensor& codes,
                              const Tensor& scales) = 0;
  // x = codes times scales, in f32 or bf16, which hold it exactly.
  virtual void DequantiseWeight(const Tensor& codes, const Tensor& scales,
                                const Tensor& x) = 0;
  // SetWeight of an f8e4m3 weight, by what QuantiseWeight made.
  virtual void SetQuantisedWeight(const Tensor& codes, const Tensor& scales,
                                  Weight* weight) = 0;

  // --- Products -----------------------------------------------------------
  // y[n] = W x[n]   (kForward: x [N, in], y [N, out]; kTransposed: the
  // other way round). Rows may be strided.
  virtual void Linear(const Tensor& x, const Weight& w, Use use,
                      const Tensor& y) = 0;
  // dw[out, in] += sum_n dy[n, out] x[n, in], n ascending.
  virtual void LinearWeightGrad(const WeightGradArgs& args) = 0;
  // The same for each head: x [N, G, in], W [G, out, in], y [N, G, out].
  virtual void HeadLinear(const Tensor& x, const Weight& w, Use use,
                          const Tensor& y) = 0;
  virtual void HeadLinearWeightGrad(const WeightGradArgs& args) = 0;
  // Rows offsets[e] .. offsets[e + 1] of x go through matrix e.
  virtual void GroupedLinear(const GroupedLinearArgs& args) = 0;
  virtual void GroupedLinearWeightGrad(
      const GroupedLinearWeightGradArgs& args) = 0;

  // --- Pointwise (of f32, if no type is named; ids, rows, position i32 [N]) --
  // x[n] = table[ids[n]]: table [V, D], of any type that Copy takes; x [N, D].
  virtual void Embed(const Tensor& table, const Tensor& ids,
                     const Tensor& x) = 0;
  // dtable[ids[n]] += dx[n], n ascending; of the shapes above.
  virtual void EmbedBackward(const Tensor& ids, const Tensor& dx,
                             const Tensor& dtable) = 0;
  // x += y, of one shape, any strides.
  virtual void Add(const Tensor& y, const Tensor& x) = 0;
  // y = x / sqrt(mean(x^2) + eps) * w: x, y [N, n], rows may be strided; w [n].
  virtual void RmsNorm(const Tensor& x, const Tensor& w, float eps,
                       const Tensor& y) = 0;
  virtual void RmsNormBackward(const RmsNormBackwardArgs& args) = 0;
  // y = (x - mean) / sqrt(var + eps) * w + b
  virtual void LayerNorm(const LayerNormArgs& args) = 0;
  virtual void LayerNormBackward(const LayerNormBackwardArgs& args) = 0;
  // Rotates x [N, G, R] in place by position (kBackward: by its negative). R is
  // at most kRopeDimsMax.
  virtual void Rope(const Tensor& x, const Tensor& position,
                    const Tensor& cos_sin,  // [positions_max, R]: cos | sin
                    RopeStyle style, RopeDirection direction) = 0;
  // In place in rows of x [N, G, n]: butterflies (a + b, a - b), strides 1, 2,
  // .. n / 2, then times n^-0.5. Its own inverse, and its own backward.
  virtual void Hadamard(const Tensor& x) = 0;
  // h = silu(gate) * up; all [N, I], rows may be strided.
  virtual void SwiGlu(const Tensor& gate, const Tensor& up,
                      const Tensor& h) = 0;
  virtual void SwiGluBackward(const SwiGluBackwardArgs& args) = 0;
  // x *= factor; any shape and strides.
  virtual void Scale(float factor, const Tensor& x) = 0;
  // to = from, of one shape, any strides and types; from f32 to bf16 it rounds
  // to the nearest even, denormals to zero.
  virtual void Copy(const Tensor& from, const Tensor& to) = 0;
  // to[rows[n]] = from[n]: from [N, ..], to [M, ..], the types as Copy's.
  virtual void ScatterRows(const Tensor& from, const Tensor& rows,
                           const Tensor& to) = 0;
  // to[n] = from[rows[n]]: from [M, ..], to [N, ..], the types as Copy's.
  virtual void GatherRows(const Tensor& from, const Tensor& rows,
                          const Tensor& to) = 0;
  // Keys of a layer, f32, to their slots of its strips, in the type of those
  // (kernels/ops/cache_rows.h); a slot of -1 is a row to be skipped.
  virtual void WriteKeys(const WriteKeysArgs& args) = 0;
  // count[0] += how many rows of a and b, i32 [N, A], are equal.
  virtual void CountEqualRows(const Tensor& a, const Tensor& b,
                              const Tensor& count) = 0;  // i64 [1]
  // Sets the error word to kNumbers unless the root mean square of x is a
  // number of at most `limit`. x is f32 or bf16.
  virtual void CheckNumbers(const Tensor& x, double limit) = 0;

  // --- Attention (MLA in its absorbed form, over selected keys) -------------
  // selected[n] = positions of the min(K, position + 1) keys of largest
  //   I[n, s] = sum_h w[n, h] ReLU(q[n, h] . k[s])
  // ties to the lowest position, ascending, then -1. The order is total: any
  // NaN, whatever its sign, ties with any other, below -inf. A non-empty scores
  // tap [N, keys_max] receives I, -inf beyond the position. Of f8e4m3 keys q is
  // quantised, a scale a row: I = k_scale sum_h (w q_scale) ReLU(their codes').
  virtual void IndexerSelect(const IndexerSelectArgs& args) = 0;
  // z[n, h] = sum_s softmax_s(scale q[n, h] . k[s]) k[s, :C], s over
  // selected[n] ascending in blocks of 64; lse is the natural log-sum-exp. A
  // block b makes m' = max(m, s), c = exp(m - m'), e = exp(s - m'),
  // l = l c + sum e, z = z c + e . k; at the end z / l, and lse = m + log l.
  // No keys: z is 0, lse -inf.
  virtual void SparseMla(const SparseMlaArgs& args) = 0;
  // p = exp(s - lse), ds = p (dz . k - z . dz) scale, dq = ds . k; queries in
  // order add to dkeys first ds . q over the heads, then p . dz, each summed
  // from zero.
  virtual void SparseMlaBackward(const SparseMlaBackwardArgs& args) = 0;
  // kl[n] = KL(p[n] || softmax of I[n] over selected[n]), where p[n, s] is the
  // mean over heads of the attention probabilities (detached).
  // DeepSeek-V3.2 paper, equations 3 and 4.
  virtual void IndexerKl(const IndexerKlArgs& args) = 0;
  // dkl [N] scales each row's gradient. dindex_keys accumulates.
  virtual void IndexerKlBackward(const IndexerKlBackwardArgs& args) = 0;

  // --- Mixture of experts ---------------------------------------------------
  // scores = sigmoid(logits). A row of routes with routes[n, 0] < 0 is filled
  // with the A experts chosen from scores + bias (best topk_group of n_group by
  // the sum of their two largest, the rest -inf; ties to the lowest id),
  // ascending by id; any other row is replayed as it is, unless `live`. The row
  // is also left in row slot[n] of the strip, if there is one and slot[n] >= 0.
  // A row of which some
  // score + bias is not finite gets experts 0 .. A - 1, and NaN for its gates.
  // gates[n, a] = scores[n, routes[n, a]] / sum_a * routed_scaling_factor.
  virtual void MoeGate(const MoeGateArgs& args) = 0;
  virtual void MoeGateBackward(const MoeGateBackwardArgs& args) = 0;
  // Sorts the N * A (token, slot) pairs by expert, then token. rows[r] is the
  // token of sorted row r; place[n, a] the sorted row of token n's slot a.
  virtual void MoePlan(const MoePlanArgs& args) = 0;
  // y[n] += sum_a gates[n, a] x[place[n, a]], slots ascending. Empty gates
  // stand for ones (the backward of GatherRows by `rows`).
  virtual void MoeCombine(const MoeCombineArgs& args) = 0;
  virtual void MoeCombineBackward(const MoeCombineBackwardArgs& args) = 0;

  // --- Head -----------------------------------------------------------------
  // With z_v = (W x[n])_v / temperature over the kept ids of row n, ascending
  // (an empty row: the whole vocabulary):
  //   logp[n] = z_target - lse[n],  entropy[n] = -sum p log p.
  virtual void LogProb(const LogProbArgs& args) = 0;
  // dx = sum_v dlogp (1[v = target] - p_v) / temperature W_v; dw += likewise.
  virtual void LogProbBackward(const LogProbBackwardArgs& args) = 0;
  // words[n] = the first of Philox4x32-10 (kernels/base/rng.h) for the key of
  // row n, with the purpose of sampling tokens.
  virtual void DrawWords(const Tensor& rows,        // i32 [n, kSampleRowInts]
                         const Tensor& words) = 0;  // i32 [n]
  // One token a row: the first of the kept ids, ascending, whose running mass
  // (SampleOptions) exceeds floor(their total words[n] / 2^32).
  // kept_counts[n] = 0 says nothing was truncated, or is not to be recorded
  // (SampleRow::keep). logp as LogProb gives it over the recorded set, bit for
  // bit.
  virtual void Sample(const SampleArgs& args) = 0;

  // --- Optimizer ------------------------------------------------------------
  // out[0] = sum of x^2 over all tensors, f32 or bf16, in double: in order
  // within blocks of 4096 elements of a tensor; a tensor's block sums, then the
  // tensors' sums in their order, are added by neighbours (0 + 1, 2 + 3, ..; an
  // odd last passes up).
  virtual void SumSquares(absl::Span<const Tensor> tensors,
                          const Tensor& out) = 0;  // f64 [1]
  // Loshchilov and Hutter 2019, with g = grad * grad_scale:
  //   p -= lr wd p;  p -= lr mhat / (sqrt(vhat) + eps).
  // Without decay for the tensors that have none. One launch for all of them.
  virtual void AdamW(const AdamWOptions& options,
                     absl::Span<const AdamWTensor> tensors) = 0;
};

}  // namespace temper

#endif  // KERNELS_OPS_BACKEND_H_
