// The main model over a flat batch of tokens. Prefill, decode, log-prob
// recompute and the training forward are this one Forward; Backward is apart.
// A token's outputs depend on its sequence alone, bit for bit: never on what
// else is in the batch, on chunking, paging or threads.
//
//   sampling:  Forward(batch, &cache strips, nullptr, ..) writes keys to slots
//   training:  Forward(batch, nullptr, &tape, ..), then Backward(tape, ..)
//
// DeepSeek-V3.2: reference inference/model.py; MLA in its absorbed form over
// the keys the indexer selects.

#ifndef KERNELS_MODEL_TRANSFORMER_H_
#define KERNELS_MODEL_TRANSFORMER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/config.h"
#include "kernels/model/gradients.h"
#include "kernels/model/kv_cache.h"
#include "kernels/model/published_weights.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/numerics.h"

namespace temper {

// One forward's tokens, on the host. Tokens of a sequence stand in ascending
// position; a key is written before any token of the same batch reads it.
struct TokenBatch {
  std::vector<int32_t> tokens;    // [N]
  std::vector<int32_t> position;  // [N]
  std::vector<int32_t> sequence;  // [N]: row of `blocks`
  std::vector<int32_t> slot;      // [N]: strip row this token's keys go to;
                                  // in training 0 .. N-1; with a cache -1 is a
                                  // row that only fills the batch
  std::vector<int32_t> blocks;    // [sequences, blocks_max], see KeyMap
  int32_t blocks_max = 0;
  int32_t page_tokens = kPageTokens;  // 1 in training
  // [N, moe_layers, A]: -1 in the first slot of a (token, layer) asks for live
  // routing; other rows are replayed. Ascending. Filled where read_routes says.
  std::vector<int32_t> routes;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
};

// Host copies for parity tests, metrics and inspection; null members are not
// filled, others are overwritten.
struct DebugTaps {
  std::vector<float>* hidden = nullptr;        // [layers + 1, N, D]
  std::vector<float>* index_scores = nullptr;  // [layers, N, keys_max]
  std::vector<int32_t>* selected = nullptr;    // [layers, N, selected_width]
  std::vector<float>* gate_weights = nullptr;  // [moe_layers, N, A]
  int64_t keys_max = 0;                        // in: columns of index_scores
  // Out: the index_topk in effect, at most the batch's largest position + 1.
  int64_t selected_width = 0;

  // Empties them for a forward whose `selected` is `width` wide.
  void Begin(int64_t width) {
    selected_width = width;
    const auto clear = [](auto*... tap) {
      ((tap ? tap->clear() : void()), ...);
    };
    clear(hidden, index_scores, selected, gate_weights);
  }
};

struct ForwardOptions {
  // Overrides config.index_topk; >= keys_max is dense attention (warm-up).
  int64_t index_topk = 0;  // 0: the config's
  // Leaves the routes in batch->routes: a blocking read, which a step does not
  // have to spare.
  bool read_routes = true;
  // i64 [1], or empty: grows by the (token, MoE layer) whose experts are those
  // that the router chooses now.
  Tensor agreement;
  DebugTaps* taps = nullptr;  // a blocking read for each of them and layer
};

// Activations of one training forward, kept for Backward; reusable, grows to
// the largest batch it has seen. Opaque. A model of the same dimensions may
// borrow it for a Forward, over which nobody goes back: that takes no memory of
// backward's.
class Tape {
 public:
  virtual ~Tape() = default;
};

class Transformer {
 public:
  virtual ~Transformer() = default;

  // Bounds of a batch, by which memory is laid out once.
  struct Limits {
    int64_t tokens = 0;
    int64_t positions = 0;  // of a sequence; 0: as many as tokens
    int64_t table = 0;      // entries of `blocks`; 0: a pack's, below
  };
  // Of a training pack: what its sequences share has an entry for each of them.
  static constexpr int64_t kPackTableAToken = 8;

  // `backend` and `weights` must outlive the object; the weights may be
  // changed and published between calls. Computes in their numerics, in which
  // any cache that it is given must be.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(
      Backend* backend, const PublishedWeights* weights, const Limits& limits);
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(
      Backend* backend, const PublishedWeights* weights, int64_t tokens_max) {
    return Create(backend, weights, Limits{.tokens = tokens_max});
  }

  // What it allocates for forwards over a cache, for training with one tape
  // (agreement counted), and for forwards on borrowed tapes alone.
  static int64_t InferenceBytes(const ModelConfig& config,
                                const Numerics& numerics, const Limits& limits);
  static int64_t TrainingBytes(const ModelConfig& config,
                               const Numerics& numerics, int64_t tokens_max);
  static int64_t BorrowedTapeBytes(const ModelConfig& config,
                                   int64_t tokens_max);

  virtual absl::StatusOr<std::unique_ptr<Tape>> NewTape(int64_t tokens_max) = 0;

  // Sets *hidden to a view [N, D] of the final hidden states (after
  // model.norm), valid until the next call with the same tape (without one:
  // until the next call). Exactly one of cache and tape is given. With a cache
  // the routes are also left in their slots of its strips. InvalidArgument if
  // the batch is malformed (sizes, ids, positions, routes out of range or not
  // distinct); nothing has run then. Enqueues and returns, but for what
  // `options` ask to be read.
  virtual absl::Status Forward(TokenBatch* batch, KvCache* cache, Tape* tape,
                               const ForwardOptions& options,
                               Tensor* hidden) = 0;

  // The status of a wait for what this model's forwards enqueued. DataLoss, for
  // numbers that left the range that can be computed with, comes to name the
  // largest of the weights; any other stays as it is.
  virtual absl::Status Explained(const absl::Status& status) = 0;

  // Adds the gradients of a scalar whose derivative by the final hidden states
  // is dhidden [N, D] (overwritten) to `gradients`, indexer parameters
  // excepted. The tape is this model's own, and so was the last Forward on it
  // (both CHECKed, here and in IndexerLoss).
  virtual void Backward(Tape* tape, const Tensor& dhidden,
                        ModelGradients* gradients) = 0;

  // The indexer's loss on a tape: kl[layer][n], and if `gradients` is given,
  // the gradient of sum over layers and n of dkl[n] * kl[layer][n], which
  // reaches indexer parameters alone (its inputs are detached).
  virtual absl::Status IndexerLoss(Tape* tape,
                                   const std::vector<float>& dkl,  // [N]
                                   std::vector<std::vector<float>>* kl,
                                   ModelGradients* gradients) = 0;
};

}  // namespace temper

#endif  // KERNELS_MODEL_TRANSFORMER_H_
