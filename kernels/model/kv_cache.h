// The paged latent cache: strips per layer, one page id for all layers. No
// policy: who owns which page is rollout/block_manager's business. The routes
// of a cached token lie beside its keys, so that a prefix hit replays them.

#ifndef KERNELS_MODEL_KV_CACHE_H_
#define KERNELS_MODEL_KV_CACHE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/model/config.h"
#include "kernels/ops/backend.h"

namespace temper {

constexpr int32_t kPageTokens = 64;

// What attention reads in one layer. In training the rows are the batch's own
// tokens; in sampling they are the cache's slots.
struct KeyStrip {
  Tensor latent;      // [rows, kv_lora_rank + qk_rope_head_dim]
  Tensor index_keys;  // [rows, index_head_dim]
};

class KvCache {
 public:
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(
      Backend* backend, const ModelConfig& config, int32_t pages);

  // Bytes that Create will ask for: the printed plan uses it.
  static int64_t BytesFor(const ModelConfig& config, int32_t pages);

  int32_t pages() const { return pages_; }
  const KeyStrip& layer(int64_t index) const { return strips_[index]; }

  // Routes of the token in `slot` (page * 64 + offset): [moe_layers, A], host.
  int32_t* routes(int32_t slot);

 private:
  KvCache() = default;

  int32_t pages_ = 0;
  int64_t routes_per_token_ = 0;
  std::unique_ptr<Buffer> buffer_;
  std::vector<KeyStrip> strips_;
  std::vector<int32_t> routes_;
};

}  // namespace temper

#endif  // KERNELS_MODEL_KV_CACHE_H_
