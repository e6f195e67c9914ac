// The one Transformer, and its tape: forward in transformer.cc, backward in
// transformer_backward.cc. Internal to the transformer.

#ifndef KERNELS_MODEL_TRANSFORMER_IMPL_H_
#define KERNELS_MODEL_TRANSFORMER_IMPL_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/activations.h"
#include "kernels/model/rope.h"
#include "kernels/model/transformer.h"

namespace temper {

struct TapeImpl : public Tape {
  const Transformer* maker = nullptr;  // which alone goes back over it
  std::unique_ptr<Buffer> buffer, batch_buffer;
  Activations activations;
  KeyMap map;
  int64_t tokens = 0;  // of the maker's last forward; 0: none to go back over
};

// All that the operations of a forward over a cache depend on but the values:
// how many tokens, sequences and pages, how wide the selection is, how large
// the cache, and where the buffers lie.
using GraphKey = std::array<int64_t, 10>;

class TransformerImpl : public Transformer {
 public:
  TransformerImpl(Backend* backend, const PublishedWeights* weights,
                  const Limits& limits)
      : backend_(backend),
        weights_(*weights),
        config_(weights->config()),
        limits_(limits) {}

  absl::Status Init();
  absl::StatusOr<std::unique_ptr<Tape>> NewTape(int64_t tokens_max) override;
  absl::Status Forward(TokenBatch* batch, KvCache* cache, Tape* tape,
                       const ForwardOptions& options, Tensor* hidden) override;
  absl::Status Explained(const absl::Status& status) override;
  void Backward(Tape* tape, const Tensor& dhidden,
                ModelGradients* gradients) override;
  absl::Status IndexerLoss(Tape* tape, const std::vector<float>& dkl,
                           std::vector<std::vector<float>>* kl,
                           ModelGradients* gradients) override;

 private:
  void CheckHead();
  BlockContext Context(const KeyMap& map, const Tensor& slot) const;
  float eps() const { return static_cast<float>(config_.rms_norm_eps); }
  absl::Status Prepare(const TokenBatch& batch, int64_t selected_width,
                       TapeImpl* tape, Activations** a);
  absl::Status CopyBatch(const TokenBatch& batch, const Activations& a);
  // From the embedding to the last norm, by operations alone unless `options`
  // ask to be told more.
  absl::Status EnqueueLayers(const BlockContext& context, const Activations& a,
                             KvCache* cache, const ForwardOptions& options);
  // The same over a cache, as one launch where the device has such.
  absl::Status ReplayLayers(const BlockContext& context, const Activations& a,
                            KvCache* cache);
  absl::Status ForwardLayer(int64_t l, const BlockContext& context,
                            const Activations& a, KvCache* cache,
                            const ForwardOptions& options);
  void AttentionForward(int64_t l, const BlockContext& context,
                        const Activations& a, KvCache* cache,
                        const Tensor& score_tap);
  absl::Status CopyTaps(int64_t l, const LayerActivations& a,
                        const Tensor& score_tap, const DebugTaps& taps);
  absl::Status ReadRoutes(const Activations& a, TokenBatch* batch);
  // scratch_.x and scratch_.qr of a layer, as its forward had them.
  void RecomputeInputs(int64_t l, const LayerActivations& a);
  void BackwardLayer(int64_t l, const BlockContext& context,
                     const LayerActivations& a, const BackwardScratch& d,
                     const ModelGradients& gradients);
  absl::Status PrepareBackward(int64_t n, BackwardScratch* d);

  Backend* const backend_;
  const PublishedWeights& weights_;
  const ModelConfig config_;
  const Limits limits_;

  std::unique_ptr<Buffer> activation_buffer_, batch_buffer_;  // sampling
  Activations activations_;                                   // sampling
  std::unique_ptr<Buffer> scratch_buffer_;
  std::unique_ptr<Buffer> backward_buffer_;
  std::unique_ptr<Buffer> tap_buffer_;
  RopeCache rope_;
  uint64_t head_checked_ = 0;  // the publication whose lm_head was looked at
  LayerScratch scratch_;
  std::vector<int32_t> host_batch_;  // as Activations::batch
  bool has_graphs_ = true;  // as far as is known: the device may have none
  std::map<GraphKey, std::unique_ptr<Graph>> graphs_;
  std::vector<int32_t> last_positions_;  // CheckBatch's
};

}  // namespace temper

#endif  // KERNELS_MODEL_TRANSFORMER_IMPL_H_
