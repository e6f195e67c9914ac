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
#include "kernels/model/transformer_impl.h"
#include "kernels/model/transformer_memory.h"

namespace temper {
namespace {

constexpr int64_t kTokensMax = 1 << 22;
// Shapes come again and again: of rows and sequences the powers of two, of
// pages too.
constexpr size_t kGraphsMax = 256;

}  // namespace

absl::Status TransformerImpl::Init() {
  ASSIGN_OR_RETURN(
      scratch_buffer_,
      backend_->Allocate(ScratchBytes<LayerScratch>(config_, limits_.tokens)));
  return rope_.Make(backend_, config_, limits_.positions);
}

absl::StatusOr<std::unique_ptr<Tape>> TransformerImpl::NewTape(
    int64_t tokens_max) {
  if (tokens_max < 1 || tokens_max > limits_.tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("a tape for ", tokens_max,
                     " tokens; the transformer's limit is ", limits_.tokens));
  }
  auto tape = std::make_unique<TapeImpl>();
  tape->maker = this;
  const ActivationShape shape =
      LargestShape(config_, Filled(config_, {.tokens = tokens_max}));
  RETURN_IF_ERROR(Reserve(backend_,
                          ActivationBytes(config_, weights_.numerics(), shape,
                                          LayerStorage::kPerLayer),
                          &tape->buffer));
  RETURN_IF_ERROR(
      Reserve(backend_, BatchBytes(config_, shape), &tape->batch_buffer));
  host_batch_.reserve(BatchBytes(config_, shape) / sizeof(int32_t));
  RETURN_IF_ERROR(Reserve(backend_,
                          ScratchBytes<BackwardScratch>(config_, tokens_max),
                          &backward_buffer_));
  return std::unique_ptr<Tape>(std::move(tape));
}

BlockContext TransformerImpl::Context(const KeyMap& map,
                                      const Tensor& slot) const {
  BlockContext context;
  context.slot = slot;
  context.backend = backend_;
  context.config = &config_;
  context.map = map;
  context.cos_sin = rope_.cos_sin();
  context.operand = weights_.numerics().operand;
  context.unscaled = weights_.numerics().unscaled;
  context.rotates = weights_.numerics().rotates();
  return context;
}

absl::Status TransformerImpl::Prepare(const TokenBatch& batch,
                                      int64_t selected_width, TapeImpl* tape,
                                      Activations** a) {
  ActivationShape shape;
  shape.tokens = batch.size();
  shape.selected_width = selected_width;
  shape.blocks_max = batch.blocks_max;
  shape.sequences =
      static_cast<int64_t>(batch.blocks.size()) / batch.blocks_max;
  // A tape grows to the largest pack it has seen; sampling's buffer is as large
  // from the first step on as any step within the limits needs.
  const LayerStorage storage =
      tape != nullptr ? LayerStorage::kPerLayer : LayerStorage::kShared;
  std::unique_ptr<Buffer>* const buffer =
      tape != nullptr ? &tape->buffer : &activation_buffer_;
  std::unique_ptr<Buffer>* const batch_buffer =
      tape != nullptr ? &tape->batch_buffer : &batch_buffer_;
  *a = tape != nullptr ? &tape->activations : &activations_;
  if (tape == nullptr && activation_buffer_ == nullptr) {
    const ActivationShape largest = LargestShape(config_, limits_);
    RETURN_IF_ERROR(
        Reserve(backend_,
                ActivationBytes(config_, weights_.numerics(), largest, storage),
                buffer));
    RETURN_IF_ERROR(
        Reserve(backend_, BatchBytes(config_, largest), batch_buffer));
    host_batch_.reserve(BatchBytes(config_, largest) / sizeof(int32_t));
    last_positions_.reserve(limits_.tokens);
  }
  Arena needed, batch_needed;
  (*a)->LayoutBatch(config_, shape, &batch_needed);
  (*a)->Layout(config_, weights_.numerics(), shape, storage, &needed);
  RETURN_IF_ERROR(Reserve(backend_, needed.bytes(), buffer));
  RETURN_IF_ERROR(Reserve(backend_, batch_needed.bytes(), batch_buffer));
  Arena batch_arena((*batch_buffer)->data(), backend_->device());
  (*a)->LayoutBatch(config_, shape, &batch_arena);
  Arena arena((*buffer)->data(), backend_->device());
  (*a)->Layout(config_, weights_.numerics(), shape, storage, &arena);
  Arena scratch_arena(scratch_buffer_->data(), backend_->device());
  scratch_.Layout(config_, batch.size(), &scratch_arena);
  return CopyBatch(batch, **a);
}

absl::Status TransformerImpl::CopyBatch(const TokenBatch& batch,
                                        const Activations& a) {
  const int64_t n = batch.size(), layers = config_.moe_layers();
  const int64_t chosen = config_.num_experts_per_tok;
  host_batch_.resize(a.batch.elements());
  int32_t* next = host_batch_.data();
  for (const std::vector<int32_t>* part :
       {&batch.tokens, &batch.position, &batch.sequence, &batch.slot,
        &batch.blocks}) {
    next = std::copy(part->begin(), part->end(), next);
  }
  // By token on the host, where records are; by layer on the device.
  for (int64_t m = 0; m < layers; ++m) {
    for (int64_t i = 0; i < n; ++i) {
      next = std::copy_n(batch.routes.data() + (i * layers + m) * chosen,
                         chosen, next);
    }
  }
  return backend_->CopyFromHost(host_batch_.data(), a.batch);
}

absl::Status TransformerImpl::Forward(TokenBatch* batch, KvCache* cache,
                                      Tape* tape, const ForwardOptions& options,
                                      Tensor* hidden) {
  // A forward serves a sampler or a learner, never both: keys go to a cache or
  // stay in the tape.
  CHECK_NE(cache == nullptr, tape == nullptr);
  const int64_t rows =
      cache != nullptr ? int64_t{cache->pages()} * kPageTokens : batch->size();
  RETURN_IF_ERROR(CheckBatch(config_, *batch, limits_.tokens, rows,
                             tape != nullptr, &last_positions_));
  const int64_t keys_max = KeysMax(*batch);
  DebugTaps* taps = options.taps;
  if (taps != nullptr && taps->index_scores != nullptr &&
      taps->keys_max < keys_max) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a tap of ", taps->keys_max, " keys for a batch of ", keys_max));
  }
  const int64_t topk =
      options.index_topk > 0 ? options.index_topk : config_.index_topk;
  // Over a cache always the same, so that a step has few shapes; places beyond
  // a query's keys are -1.
  const int64_t selected_width =
      std::min(topk, cache != nullptr ? std::max(keys_max, limits_.positions)
                                      : keys_max);
  // No position is beyond a batch's rows or a cache's: Init made them all.
  CHECK_LE(keys_max, rope_.cos_sin().dim(0));
  auto* impl = static_cast<TapeImpl*>(tape);
  if (impl != nullptr) impl->tokens = 0;
  const bool goes_back = impl != nullptr && impl->maker == this;
  if (goes_back) {
    // Here, where a failure has a status: backward has none.
    RETURN_IF_ERROR(
        Reserve(backend_, ScratchBytes<BackwardScratch>(config_, batch->size()),
                &backward_buffer_));
  }
  Activations* a = nullptr;
  RETURN_IF_ERROR(Prepare(*batch, selected_width, impl, &a));
  KeyMap map;
  map.sequence = a->sequence;
  map.position = a->position;
  map.blocks = a->blocks;
  map.page_tokens = batch->page_tokens;

  if (taps != nullptr) taps->Begin(selected_width);
  const BlockContext context = Context(map, a->slot);
  if (cache != nullptr && taps == nullptr && options.agreement.empty()) {
    RETURN_IF_ERROR(ReplayLayers(context, *a, cache));
  } else {
    RETURN_IF_ERROR(EnqueueLayers(context, *a, cache, options));
  }
  CheckHead();
  if (options.read_routes) {
    RETURN_IF_ERROR(Explained(ReadRoutes(*a, batch)));
  }
  if (goes_back) {
    impl->map = map;
    impl->tokens = batch->size();
  }
  *hidden = a->hidden;
  return absl::OkStatus();
}

absl::Status TransformerImpl::EnqueueLayers(const BlockContext& context,
                                            const Activations& a,
                                            KvCache* cache,
                                            const ForwardOptions& options) {
  backend_->Embed(weights_.embed_tokens(), a.tokens, a.layers[0].h_in);
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    RETURN_IF_ERROR(ForwardLayer(l, context, a, cache, options));
  }
  const Tensor& last = a.layers.back().h_out;
  backend_->RmsNorm(last, weights_.norm(), eps(), a.hidden);
  backend_->CheckNumbers(last, kRootMeanSquareMax);
  backend_->CheckNumbers(a.hidden, kRootMeanSquareMax);
  return absl::OkStatus();
}

absl::Status TransformerImpl::ReplayLayers(const BlockContext& context,
                                           const Activations& a,
                                           KvCache* cache) {
  const auto enqueue = [&] {
    const absl::Status status = EnqueueLayers(context, a, cache, {});
    CHECK(status.ok()) << status;  // no options, so nothing to fail
  };
  const auto at = [](const Tensor& x) {
    return reinterpret_cast<intptr_t>(x.data());
  };
  const GraphKey key = {a.tokens.dim(0),
                        a.blocks.dim(0),
                        a.blocks.dim(1),
                        context.map.page_tokens,
                        a.layers[0].indexer.selected.dim(1),
                        cache->pages(),
                        at(a.batch),
                        at(a.hidden),
                        at(context.cos_sin),
                        at(cache->layer(0).latent)};
  const auto found = graphs_.find(key);
  if (found != graphs_.end()) {
    backend_->Replay(*found->second);
    return absl::OkStatus();
  }
  // The first of a shape goes without: what a device makes ready once, such as
  // a kernel that was never launched, is no matter of a graph.
  enqueue();
  if (!has_graphs_) return absl::OkStatus();
  ASSIGN_OR_RETURN(auto graph, backend_->Capture(enqueue));
  has_graphs_ = graph != nullptr;
  if (graphs_.size() >= kGraphsMax) graphs_.clear();
  if (has_graphs_) graphs_.emplace(key, std::move(graph));
  return absl::OkStatus();
}

// No forward keeps the head's products, so that its weights are looked at
// themselves; which takes as long as a token's product with them, so not every
// forward does.
void TransformerImpl::CheckHead() {
  if (head_checked_ == weights_.publications()) return;
  backend_->CheckNumbers(weights_.lm_head_rows(), kRootMeanSquareMax);
  head_checked_ = weights_.publications();
}

absl::Status TransformerImpl::Explained(const absl::Status& status) {
  if (!absl::IsDataLoss(status)) return status;
  head_checked_ = 0;  // the next forward over these weights says it too
  return OutOfRange(backend_, weights_);
}

absl::Status TransformerImpl::ForwardLayer(int64_t l,
                                           const BlockContext& context,
                                           const Activations& activations,
                                           KvCache* cache,
                                           const ForwardOptions& options) {
  const DebugTaps* const taps = options.taps;
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
      RETURN_IF_ERROR(backend_->Read(a.h_in, taps->hidden->data()));
    }
  }
  backend_->RmsNorm(a.h_in, weights.input_layernorm, eps(), scratch_.x);
  AttentionForward(l, context, activations, cache, score_tap);
  backend_->Add(a.h_in, a.h_mid);

  backend_->RmsNorm(a.h_mid, weights.post_attention_layernorm, eps(),
                    scratch_.x);
  MlpForward(context, weights, scratch_.x, a.mlp, scratch_.mlp, a.h_out);
  if (config_.IsMoe(l)) {
    const Tensor strip = cache != nullptr
                             ? cache->routes(l - config_.first_k_dense_replace)
                             : Tensor();
    MoeForward(context, weights, scratch_.x, a.moe, scratch_.mlp, strip,
               a.h_out);
    if (!options.agreement.empty()) {
      RETURN_IF_ERROR(
          Reserve(backend_, LiveRoutesBytes(config_, n), &tap_buffer_));
      CountLiveAgreement(backend_, config_, weights, scratch_.mlp.logits, a.moe,
                         tap_buffer_.get(), options.agreement);
    }
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
  MlaProject(context, weights, scratch_.x, a.mla, scratch_.qr, scratch_.latent);
  IndexerProject(context, weights, scratch_.x, scratch_.qr, a.indexer,
                 scratch_.index_keys);
  // In training too, where the strip is the batch's own rows: what is read is
  // rounded as a cache's is.
  const KeyStrip& strip = cache != nullptr ? cache->layer(l) : a.keys;
  backend_->WriteKeys({.latent = scratch_.latent,
                       .index_keys = scratch_.index_keys,
                       .slot = activations.slot,
                       .latent_strip = strip.latent,
                       .index_strip = strip.index_keys,
                       .rope = config_.qk_rope_head_dim});
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
    return backend_->Read(from, to->data() + before);
  };
  RETURN_IF_ERROR(append(a.h_out, taps.hidden));
  RETURN_IF_ERROR(append(score_tap, taps.index_scores));
  RETURN_IF_ERROR(append(a.indexer.selected, taps.selected));
  if (!config_.IsMoe(l)) return absl::OkStatus();
  return append(a.moe.gates, taps.gate_weights);
}

absl::Status TransformerImpl::ReadRoutes(const Activations& a,
                                         TokenBatch* batch) {
  const int64_t n = batch->size(), layers = config_.moe_layers();
  // Also where there are none: whoever asked waits, and hears of faults.
  if (layers == 0) return backend_->Sync();
  const int64_t chosen = config_.num_experts_per_tok;
  host_batch_.resize(a.routes.elements());
  RETURN_IF_ERROR(backend_->Read(a.routes, host_batch_.data()));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t m = 0; m < layers; ++m) {
      std::copy_n(host_batch_.data() + (m * n + i) * chosen, chosen,
                  batch->routes.data() + (i * layers + m) * chosen);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Create(
    Backend* backend, const PublishedWeights* weights, const Limits& limits) {
  if (limits.tokens < 1 || limits.tokens > kTokensMax ||
      limits.tokens * std::max(weights->config().num_attention_heads,
                               weights->config().num_experts_per_tok) >
          std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a transformer for batches of ", limits.tokens,
                     " tokens; 1 to ", kTokensMax, " are possible"));
  }
  auto transformer = std::make_unique<TransformerImpl>(
      backend, weights, Filled(weights->config(), limits));
  RETURN_IF_ERROR(transformer->Init());
  return std::unique_ptr<Transformer>(std::move(transformer));
}

}  // namespace temper
