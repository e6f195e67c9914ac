// The way back over a tape: gradients of the model, and the indexer's own loss.

#include <utility>

#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/arena.h"
#include "kernels/model/transformer_impl.h"
#include "kernels/model/transformer_memory.h"

namespace temper {

void TransformerImpl::RecomputeInputs(int64_t l, const LayerActivations& a) {
  // Two norms in place of two more tensors a layer.
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
  const BlockContext context = Context(impl->map, impl->activations.slot);
  backend_->RmsNormBackward({.x = a.layers.back().h_out,
                             .w = weights_.norm(),
                             .eps = eps(),
                             .dy = dhidden,
                             .dx = d.dh,
                             .dw = gradients->norm()});
  // d.dh is the gradient of the residual stream all the way down; each layer
  // adds to it what its two branches bring.
  for (int64_t l = config_.num_hidden_layers - 1; l >= 0; --l) {
    BackwardLayer(l, context, a.layers[l], d, *gradients);
  }
  // A scatter that adds tokens in order: a row of the table may have many.
  backend_->EmbedBackward(a.tokens, d.dh, gradients->embed_tokens());
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
  MlaBackward(context, weights, a.mla, scratch_.x, scratch_.qr, a.keys.latent,
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
  const BlockContext context = Context(impl->map, impl->activations.slot);
  kl->assign(config_.num_hidden_layers, std::vector<float>(n));
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    const LayerActivations& a = impl->activations.layers[l];
    backend_->IndexerKl({.q = a.mla.q,
                         .keys = a.keys.latent,
                         .scale = static_cast<float>(config_.softmax_scale()),
                         .lse = a.mla.lse,
                         .index_q = a.indexer.q,
                         .index_w = a.indexer.w,
                         .index_keys = a.keys.index_keys,
                         .map = context.map,
                         .selected = a.indexer.selected,
                         .kl = d.kl,
                         .rope = config_.qk_rope_head_dim});
    RETURN_IF_ERROR(backend_->Read(d.kl, (*kl)[l].data()));
    if (gradients == nullptr) continue;
    RecomputeInputs(l, a);
    IndexerBackward(context, weights_.layer(l), a.indexer, a.mla, a.keys,
                    scratch_.x, scratch_.qr, d.dkl, d.indexer,
                    gradients->layer(l));
  }
  return absl::OkStatus();
}

}  // namespace temper
