#include "kernels/model/transformer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/activations.h"
#include "kernels/model/batch_check.h"
#include "kernels/model/number_range.h"
#include "kernels/model/rope.h"
#include "kernels/model/transformer_memory.h"

namespace temper {
namespace {

constexpr int64_t kTokensMax = 1 << 22;

struct TapeImpl : public Tape {
  const Transformer* maker = nullptr;  // which alone goes back over it
  std::unique_ptr<Buffer> buffer;
  Activations activations;
  KeyMap map;
  int64_t tokens = 0;  // of the maker's last forward; 0: none to go back over
};

class TransformerImpl : public Transformer {
 public:
  TransformerImpl(Backend* backend, const PublishedWeights* weights,
                  int64_t tokens_max)
      : backend_(backend),
        weights_(*weights),
        config_(weights->config()),
        tokens_max_(tokens_max) {}

  absl::Status Init();
  absl::StatusOr<std::unique_ptr<Tape>> NewTape(int64_t tokens_max) override;
  absl::Status Forward(TokenBatch* batch, KvCache* cache, Tape* tape,
                       const ForwardOptions& options, Tensor* hidden) override;
  void Backward(Tape* tape, const Tensor& dhidden,
                ModelGradients* gradients) override;
  absl::Status IndexerLoss(Tape* tape, const std::vector<float>& dkl,
                           std::vector<std::vector<float>>* kl,
                           ModelGradients* gradients) override;

 private:
  BlockContext Context(const KeyMap& map) const;
  float eps() const { return static_cast<float>(config_.rms_norm_eps); }
  absl::Status Prepare(const TokenBatch& batch, int64_t selected_width,
                       std::unique_ptr<Buffer>* buffer, LayerStorage storage,
                       Activations* a);
  absl::Status CopyBatch(const TokenBatch& batch, const Activations& a);
  absl::Status ForwardLayer(int64_t l, const BlockContext& context,
                            const Activations& a, KvCache* cache,
                            const DebugTaps* taps);
  void AttentionForward(int64_t l, const BlockContext& context,
                        const Activations& a, KvCache* cache,
                        const Tensor& score_tap);
  absl::Status CopyTaps(int64_t l, const LayerActivations& a,
                        const Tensor& score_tap, const DebugTaps& taps);
  absl::Status ReadRoutes(const Activations& a, KvCache* cache,
                          TokenBatch* batch);
  // scratch_.x and scratch_.qr of a layer, as its forward had them.
  void RecomputeInputs(int64_t l, const LayerActivations& a);
  void BackwardLayer(int64_t l, const BlockContext& context,
                     const LayerActivations& a, const BackwardScratch& d,
                     const ModelGradients& gradients);
  absl::Status PrepareBackward(int64_t n, BackwardScratch* d);

  Backend* const backend_;
  const PublishedWeights& weights_;
  const ModelConfig config_;
  const int64_t tokens_max_;

  std::unique_ptr<Buffer> activation_buffer_;  // sampling
  std::unique_ptr<Buffer> scratch_buffer_;
  std::unique_ptr<Buffer> backward_buffer_;
  std::unique_ptr<Buffer> identity_buffer_;
  std::unique_ptr<Buffer> tap_buffer_;
  Tensor identity_;  // i32 [tokens_max * H]
  RopeCache rope_;
  NumberRange range_;
  LayerScratch scratch_;
  std::vector<int32_t> host_routes_;  // [moe_layers, N, A]
};

absl::Status TransformerImpl::Init() {
  const int64_t rows = tokens_max_ * config_.num_attention_heads;
  ASSIGN_OR_RETURN(identity_buffer_, backend_->Allocate(rows * 4));
  identity_ =
      Tensor(identity_buffer_->data(), DType::kI32, {rows}, backend_->device());
  std::vector<int32_t> identity(rows);
  for (int64_t i = 0; i < rows; ++i) identity[i] = static_cast<int32_t>(i);
  RETURN_IF_ERROR(backend_->CopyFromHost(identity.data(), identity_));
  RETURN_IF_ERROR(backend_->Sync());
  ASSIGN_OR_RETURN(
      scratch_buffer_,
      backend_->Allocate(ScratchBytes<LayerScratch>(config_, tokens_max_)));
  RETURN_IF_ERROR(range_.Init(backend_));
  return rope_.Reserve(backend_, config_, 1);
}

absl::StatusOr<std::unique_ptr<Tape>> TransformerImpl::NewTape(
    int64_t tokens_max) {
  if (tokens_max < 1 || tokens_max > tokens_max_) {
    return absl::InvalidArgumentError(
        absl::StrCat("a tape for ", tokens_max,
                     " tokens; the transformer's limit is ", tokens_max_));
  }
  auto tape = std::make_unique<TapeImpl>();
  tape->maker = this;
  ActivationShape shape = PlannedShape(config_, tokens_max);
  shape.selected_width = std::min(shape.selected_width, tokens_max);
  RETURN_IF_ERROR(Reserve(
      backend_, ActivationBytes(config_, shape, LayerStorage::kPerLayer),
      &tape->buffer));
  RETURN_IF_ERROR(Reserve(backend_,
                          ScratchBytes<BackwardScratch>(config_, tokens_max),
                          &backward_buffer_));
  return std::unique_ptr<Tape>(std::move(tape));
}

BlockContext TransformerImpl::Context(const KeyMap& map) const {
  BlockContext context;
  context.backend = backend_;
  context.config = &config_;
  context.map = map;
  context.cos_sin = rope_.cos_sin();
  context.identity = identity_;
  return context;
}

absl::Status TransformerImpl::Prepare(const TokenBatch& batch,
                                      int64_t selected_width,
                                      std::unique_ptr<Buffer>* buffer,
                                      LayerStorage storage, Activations* a) {
  RETURN_IF_ERROR(rope_.Reserve(backend_, config_, KeysMax(batch)));
  ActivationShape shape;
  shape.tokens = batch.size();
  shape.selected_width = selected_width;
  shape.blocks_max = batch.blocks_max;
  shape.sequences =
      static_cast<int64_t>(batch.blocks.size()) / batch.blocks_max;
  RETURN_IF_ERROR(
      Reserve(backend_, ActivationBytes(config_, shape, storage), buffer));
  Arena arena((*buffer)->data(), backend_->device());
  a->Layout(config_, shape, storage, &arena);
  Arena scratch_arena(scratch_buffer_->data(), backend_->device());
  scratch_.Layout(config_, batch.size(), &scratch_arena);
  return CopyBatch(batch, *a);
}

absl::Status TransformerImpl::CopyBatch(const TokenBatch& batch,
                                        const Activations& a) {
  RETURN_IF_ERROR(backend_->CopyFromHost(batch.tokens.data(), a.tokens));
  RETURN_IF_ERROR(backend_->CopyFromHost(batch.position.data(), a.position));
  RETURN_IF_ERROR(backend_->CopyFromHost(batch.sequence.data(), a.sequence));
  RETURN_IF_ERROR(backend_->CopyFromHost(batch.slot.data(), a.slot));
  RETURN_IF_ERROR(backend_->CopyFromHost(batch.blocks.data(), a.blocks));
  const int64_t n = batch.size(), layers = config_.moe_layers();
  const int64_t chosen = config_.num_experts_per_tok;
  host_routes_.resize(batch.routes.size());
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t m = 0; m < layers; ++m) {
      std::copy_n(batch.routes.data() + (i * layers + m) * chosen, chosen,
                  host_routes_.data() + (m * n + i) * chosen);
    }
  }
  for (int64_t m = 0; m < layers; ++m) {
    RETURN_IF_ERROR(backend_->CopyFromHost(
        host_routes_.data() + m * n * chosen,
        a.layers[config_.first_k_dense_replace + m].moe.routes));
  }
  return absl::OkStatus();
}

absl::Status TransformerImpl::Forward(TokenBatch* batch, KvCache* cache,
                                      Tape* tape, const ForwardOptions& options,
                                      Tensor* hidden) {
  CHECK_NE(cache == nullptr, tape == nullptr);
  const int64_t rows =
      cache != nullptr ? int64_t{cache->pages()} * kPageTokens : batch->size();
  RETURN_IF_ERROR(
      CheckBatch(config_, *batch, tokens_max_, rows, tape != nullptr));
  const int64_t keys_max = KeysMax(*batch);
  DebugTaps* taps = options.taps;
  if (taps != nullptr && taps->index_scores != nullptr &&
      taps->keys_max < keys_max) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a tap of ", taps->keys_max, " keys for a batch of ", keys_max));
  }
  const int64_t topk =
      options.index_topk > 0 ? options.index_topk : config_.index_topk;
  const int64_t selected_width = std::min(topk, keys_max);

  Activations sampling;
  auto* impl = static_cast<TapeImpl*>(tape);
  Activations* a = impl != nullptr ? &impl->activations : &sampling;
  if (impl != nullptr) impl->tokens = 0;
  const bool goes_back = impl != nullptr && impl->maker == this;
  if (goes_back) {
    // Here, where a failure has a status: backward has none.
    RETURN_IF_ERROR(
        Reserve(backend_, ScratchBytes<BackwardScratch>(config_, batch->size()),
                &backward_buffer_));
  }
  RETURN_IF_ERROR(Prepare(
      *batch, selected_width,
      impl != nullptr ? &impl->buffer : &activation_buffer_,
      impl != nullptr ? LayerStorage::kPerLayer : LayerStorage::kShared, a));
  KeyMap map;
  map.sequence = a->sequence;
  map.position = a->position;
  map.blocks = a->blocks;
  map.page_tokens = batch->page_tokens;

  if (taps != nullptr) taps->Begin(selected_width);
  const BlockContext context = Context(map);
  backend_->Embed(weights_.embed_tokens(), a->tokens, a->layers[0].h_in);
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    RETURN_IF_ERROR(ForwardLayer(l, context, *a, cache, taps));
  }
  const Tensor& last = a->layers.back().h_out;
  backend_->RmsNorm(last, weights_.norm(), eps(), a->hidden);
  RETURN_IF_ERROR(range_.Check(weights_, {last, a->hidden}));
  RETURN_IF_ERROR(ReadRoutes(*a, cache, batch));
  if (goes_back) {
    impl->map = map;
    impl->tokens = batch->size();
  }
  *hidden = a->hidden;
  return absl::OkStatus();
}

absl::Status TransformerImpl::ForwardLayer(int64_t l,
                                           const BlockContext& context,
                                           const Activations& activations,
                                           KvCache* cache,
                                           const DebugTaps* taps) {
  const LayerActivations& a = activations.layers[l];
  const LayerWeights& weights = weights_.layer(l);
  const int64_t n = a.h_in.dim(0);
  Tensor score_tap;
  if (taps != nullptr) {
    if (taps->index_scores != nullptr) {
      RETURN_IF_ERROR(Reserve(backend_, n * taps->keys_max * 4, &tap_buffer_));
      score_tap = Tensor(tap_buffer_->data(), DType::kF32, {n, taps->keys_max},
                         backend_->device());
    }
    if (l == 0 && taps->hidden != nullptr) {
      taps->hidden->resize(a.h_in.elements());
      RETURN_IF_ERROR(backend_->CopyToHost(a.h_in, taps->hidden->data()));
    }
  }
  backend_->RmsNorm(a.h_in, weights.input_layernorm, eps(), scratch_.x);
  AttentionForward(l, context, activations, cache, score_tap);
  backend_->Add(a.h_in, a.h_mid);

  backend_->RmsNorm(a.h_mid, weights.post_attention_layernorm, eps(),
                    scratch_.x);
  MlpForward(context, weights, scratch_.x, a.mlp, scratch_.mlp, a.h_out);
  if (config_.IsMoe(l)) {
    MoeForward(context, weights, scratch_.x, a.moe, scratch_.mlp, a.h_out);
  }
  backend_->Add(a.h_mid, a.h_out);
  return taps == nullptr ? absl::OkStatus() : CopyTaps(l, a, score_tap, *taps);
}

void TransformerImpl::AttentionForward(int64_t l, const BlockContext& context,
                                       const Activations& activations,
                                       KvCache* cache,
                                       const Tensor& score_tap) {
  const LayerActivations& a = activations.layers[l];
  const LayerWeights& weights = weights_.layer(l);
  MlaProject(context, weights, scratch_.x, a.mla, scratch_.qr);
  IndexerProject(context, weights, scratch_.x, scratch_.qr, a.indexer);
  KeyStrip strip = {a.mla.keys, a.indexer.keys};
  if (cache != nullptr) {
    strip = cache->layer(l);
    backend_->ScatterRows(a.mla.keys, activations.slot, strip.latent);
    backend_->ScatterRows(a.indexer.keys, activations.slot, strip.index_keys);
  }
  backend_->IndexerSelect({.q = a.indexer.q,
                           .w = a.indexer.w,
                           .keys = strip.index_keys,
                           .map = context.map,
                           .selected = a.indexer.selected,
                           .scores = score_tap});
  MlaAttend(context, weights, strip.latent, a.indexer.selected, a.mla, a.h_mid);
}

absl::Status TransformerImpl::CopyTaps(int64_t l, const LayerActivations& a,
                                       const Tensor& score_tap,
                                       const DebugTaps& taps) {
  const auto append = [this](const Tensor& from, auto* to) -> absl::Status {
    if (to == nullptr) return absl::OkStatus();
    const size_t before = to->size();
    to->resize(before + from.elements());
    return backend_->CopyToHost(from, to->data() + before);
  };
  RETURN_IF_ERROR(append(a.h_out, taps.hidden));
  RETURN_IF_ERROR(append(score_tap, taps.index_scores));
  RETURN_IF_ERROR(append(a.indexer.selected, taps.selected));
  if (!config_.IsMoe(l)) return absl::OkStatus();
  RETURN_IF_ERROR(append(a.moe.gates, taps.gate_weights));
  if (taps.live_routes == nullptr) return absl::OkStatus();
  RETURN_IF_ERROR(
      Reserve(backend_, LiveRoutesBytes(config_, a.h_in.dim(0)), &tap_buffer_));
  return AppendLiveRoutes(backend_, config_, weights_.layer(l),
                          scratch_.mlp.logits, tap_buffer_.get(),
                          taps.live_routes);
}

absl::Status TransformerImpl::ReadRoutes(const Activations& a, KvCache* cache,
                                         TokenBatch* batch) {
  const int64_t n = batch->size(), layers = config_.moe_layers();
  const int64_t chosen = config_.num_experts_per_tok;
  for (int64_t m = 0; m < layers; ++m) {
    RETURN_IF_ERROR(backend_->CopyToHost(
        a.layers[config_.first_k_dense_replace + m].moe.routes,
        host_routes_.data() + m * n * chosen));
  }
  for (int64_t i = 0; i < n; ++i) {
    int32_t* routes = batch->routes.data() + i * layers * chosen;
    for (int64_t m = 0; m < layers; ++m) {
      std::copy_n(host_routes_.data() + (m * n + i) * chosen, chosen,
                  routes + m * chosen);
    }
    if (cache != nullptr) {
      std::copy_n(routes, layers * chosen, cache->routes(batch->slot[i]));
    }
  }
  return absl::OkStatus();
}

void TransformerImpl::RecomputeInputs(int64_t l, const LayerActivations& a) {
  const LayerWeights& weights = weights_.layer(l);
  backend_->RmsNorm(a.h_in, weights.input_layernorm, eps(), scratch_.x);
  backend_->RmsNorm(a.mla.q_a, weights.q_a_layernorm, eps(), scratch_.qr);
}

absl::Status TransformerImpl::PrepareBackward(int64_t n, BackwardScratch* d) {
  RETURN_IF_ERROR(Reserve(backend_, ScratchBytes<BackwardScratch>(config_, n),
                          &backward_buffer_));
  Arena arena(backward_buffer_->data(), backend_->device());
  d->Layout(config_, n, &arena);
  Arena scratch_arena(scratch_buffer_->data(), backend_->device());
  scratch_.Layout(config_, n, &scratch_arena);
  return absl::OkStatus();
}

void TransformerImpl::Backward(Tape* tape, const Tensor& dhidden,
                               ModelGradients* gradients) {
  auto* impl = static_cast<TapeImpl*>(tape);
  CHECK(impl->maker == this && impl->tokens > 0)
      << "backward needs this model's forward on its own tape";
  const Activations& a = impl->activations;
  BackwardScratch d;
  // Cannot grow: the forward on this tape has reserved it.
  const absl::Status prepared = PrepareBackward(impl->tokens, &d);
  CHECK(prepared.ok()) << prepared;
  const BlockContext context = Context(impl->map);
  backend_->RmsNormBackward({.x = a.layers.back().h_out,
                             .w = weights_.norm(),
                             .eps = eps(),
                             .dy = dhidden,
                             .dx = d.dh,
                             .dw = gradients->grad("model.norm.weight")});
  for (int64_t l = config_.num_hidden_layers - 1; l >= 0; --l) {
    BackwardLayer(l, context, a.layers[l], d, *gradients);
  }
  backend_->EmbedBackward(a.tokens, d.dh,
                          gradients->grad("model.embed_tokens.weight"));
}

void TransformerImpl::BackwardLayer(int64_t l, const BlockContext& context,
                                    const LayerActivations& a,
                                    const BackwardScratch& d,
                                    const ModelGradients& gradients) {
  const LayerWeights& weights = weights_.layer(l);
  const LayerGradients& g = gradients.layer(l);
  backend_->RmsNorm(a.h_mid, weights.post_attention_layernorm, eps(),
                    scratch_.x);
  MlpBackward(context, weights, a.mlp, scratch_.x, d.dh, scratch_.mlp, d.mlp, g,
              d.dx);
  if (config_.IsMoe(l)) {
    MoeBackward(context, weights, a.moe, scratch_.x, d.dh, scratch_.mlp, d.mlp,
                g, d.dx);
  }
  backend_->RmsNormBackward({.x = a.h_mid,
                             .w = weights.post_attention_layernorm,
                             .eps = eps(),
                             .dy = d.dx,
                             .dx = d.sum,
                             .dw = g.post_attention_layernorm});
  backend_->Add(d.sum, d.dh);

  RecomputeInputs(l, a);
  MlaBackward(context, weights, a.mla, scratch_.x, scratch_.qr,
              a.indexer.selected, d.dh, d.mla, g, d.dx);
  backend_->RmsNormBackward({.x = a.h_in,
                             .w = weights.input_layernorm,
                             .eps = eps(),
                             .dy = d.dx,
                             .dx = d.sum,
                             .dw = g.input_layernorm});
  backend_->Add(d.sum, d.dh);
}

absl::Status TransformerImpl::IndexerLoss(Tape* tape,
                                          const std::vector<float>& dkl,
                                          std::vector<std::vector<float>>* kl,
                                          ModelGradients* gradients) {
  auto* impl = static_cast<TapeImpl*>(tape);
  const int64_t n = impl->tokens;
  CHECK(impl->maker == this && n > 0)
      << "the indexer's loss needs this model's forward on its own tape";
  CHECK_EQ(static_cast<int64_t>(dkl.size()), n);
  BackwardScratch d;
  RETURN_IF_ERROR(PrepareBackward(n, &d));
  RETURN_IF_ERROR(backend_->CopyFromHost(dkl.data(), d.dkl));
  const BlockContext context = Context(impl->map);
  kl->assign(config_.num_hidden_layers, std::vector<float>(n));
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    const LayerActivations& a = impl->activations.layers[l];
    backend_->IndexerKl({.q = a.mla.q,
                         .keys = a.mla.keys,
                         .scale = static_cast<float>(config_.softmax_scale()),
                         .lse = a.mla.lse,
                         .index_q = a.indexer.q,
                         .index_w = a.indexer.w,
                         .index_keys = a.indexer.keys,
                         .map = context.map,
                         .selected = a.indexer.selected,
                         .kl = d.kl});
    RETURN_IF_ERROR(backend_->CopyToHost(d.kl, (*kl)[l].data()));
    if (gradients == nullptr) continue;
    RecomputeInputs(l, a);
    IndexerBackward(context, weights_.layer(l), a.indexer, a.mla, scratch_.x,
                    scratch_.qr, d.dkl, d.indexer, gradients->layer(l));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Create(
    Backend* backend, const PublishedWeights* weights, int64_t tokens_max) {
  if (tokens_max < 1 || tokens_max > kTokensMax ||
      tokens_max * std::max(weights->config().num_attention_heads,
                            weights->config().num_experts_per_tok) >
          std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a transformer for batches of ", tokens_max,
                     " tokens; 1 to ", kTokensMax, " are possible"));
  }
  auto transformer =
      std::make_unique<TransformerImpl>(backend, weights, tokens_max);
  RETURN_IF_ERROR(transformer->Init());
  return std::unique_ptr<Transformer>(std::move(transformer));
}

}  // namespace temper
