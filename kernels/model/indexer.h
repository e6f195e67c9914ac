// The lightning indexer (DeepSeek-V3.2, arXiv 2512.02556, equation 1):
//   q = W_q_b qr,  k = LayerNorm(W_k x),  w = W_w x / sqrt(Hi Di),
// q and k rotated (half-split) on their first R dimensions. Its inputs are
// detached: no gradient leaves it. The Hadamard rotation of q and k changes no
// score without quantisation and is left out but in FP8.

#ifndef KERNELS_MODEL_INDEXER_H_
#define KERNELS_MODEL_INDEXER_H_

#include <cstdint>

#include "kernels/model/arena.h"
#include "kernels/model/config.h"
#include "kernels/model/layer_tensors.h"
#include "kernels/model/mla.h"
#include "kernels/ops/backend.h"

namespace temper {

struct IndexerActivations {
  Tensor q;         // [N, Hi, Di], rotated, in FP8 by Hadamard's matrix too
  Tensor w;         // [N, Hi], scaled
  Tensor k;         // [N, Di], before norm and rotation
  Tensor selected;  // i32 [N, K]

  void Layout(const ModelConfig& config, int64_t n, int64_t selected_width,
              Arena* arena);
};

struct IndexerBackwardScratch {
  Tensor q, w, k, keys;  // gradients, shapes as above; keys [N, Di]

  void Layout(const ModelConfig& config, int64_t n, Arena* arena);
};

// Fills a.q, w, k and keys [N, Di], the tokens' own, from x [N, D] and qr [N,
// q_lora_rank].
void IndexerProject(const BlockContext& context, const LayerWeights& weights,
                    const Tensor& x, const Tensor& qr,
                    const IndexerActivations& a, const Tensor& keys);

// Adds the gradient of sum_n dkl[n] kl[n] to the indexer's parameters. `keys`
// are the batch's own rows.
void IndexerBackward(const BlockContext& context, const LayerWeights& weights,
                     const IndexerActivations& a, const MlaActivations& mla,
                     const KeyStrip& keys, const Tensor& x, const Tensor& qr,
                     const Tensor& dkl, const IndexerBackwardScratch& d,
                     const LayerGradients& gradients);

}  // namespace temper

#endif  // KERNELS_MODEL_INDEXER_H_
