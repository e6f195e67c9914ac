// The paged latent cache: strips per layer, one page id for all layers. No
// policy: who owns which page is rollout/block_manager's business. The routes
// of a cached token lie beside its keys, so that a prefix hit replays them;
// they are written and kept on the device, and read when somebody wants them.

#ifndef KERNELS_MODEL_KV_CACHE_H_
#define KERNELS_MODEL_KV_CACHE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/arena.h"
#include "kernels/model/config.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/numerics.h"

namespace temper {

constexpr int32_t kPageTokens = 64;

// What attention reads in one layer, in the types of the numerics. In training
// the rows are the batch's own tokens; in sampling they are the cache's slots.
struct KeyStrip {
  // [rows, kv_lora_rank + qk_rope_head_dim], [rows, index_head_dim]; in f8e4m3
  // as kernels/ops/cache_rows.h lays them out.
  Tensor latent;
  Tensor index_keys;

  void Layout(const ModelConfig& config, const Numerics& numerics, int64_t rows,
              Arena* arena);
};

// Not thread-safe: what drives its backend uses it.
class KvCache {
 public:
  // A cache of `pages` empty pages, which a backend that outlives it holds in
  // one buffer. InvalidArgument for less than one page or more slots than i32
  // counts; the backend's error where it has no room.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(
      Backend* backend, const ModelConfig& config, const Numerics& numerics,
      int32_t pages);

  // What a token takes of one layer's strips, routes apart (of DeepSeek-V3.2's
  // dimensions FlashMLA's 656 bytes and DeepGEMM's 132 in fp8); and what plain
  // multi-head attention would keep of it in bf16: every head's key and value.
  // For the printed plan, too.
  static int64_t TokenBytes(const ModelConfig& config,
                            const Numerics& numerics);
  static int64_t MultiHeadTokenBytes(const ModelConfig& config);

  // Bytes that Create will ask for: the printed plan uses it.
  static int64_t BytesFor(const ModelConfig& config, const Numerics& numerics,
                          int32_t pages);

  int32_t pages() const { return pages_; }
  const KeyStrip& layer(int64_t index) const { return strips_[index]; }

  // u8, or u16 above 256 experts, [slots, A]: of the layer that is MoE layer
  // `index`.
  const Tensor& routes(int64_t index) const { return route_strips_[index]; }

  // Appends the routes of the tokens in `slots` (page * 64 + offset), each
  // [moe_layers, A], as the forwards enqueued so far leave them. Blocking
  // reads: one for every kReadTokens slots.
  absl::Status ReadRoutes(const std::vector<int32_t>& slots,
                          std::vector<int32_t>* routes);
  static constexpr int64_t kReadTokens = 1024;

 private:
  struct Layout {
    std::vector<KeyStrip> strips;
    std::vector<Tensor> route_strips;
    Tensor read_slots;   // i32 [kReadTokens]
    Tensor read_routes;  // u8 or u16 [moe_layers, kReadTokens, A]
  };

  KvCache() = default;
  static Layout LayOut(const ModelConfig& config, const Numerics& numerics,
                       int32_t pages, Arena* arena);
  absl::Status ReadSome(const int32_t* slots, int64_t count, int32_t* routes);

  Backend* backend_ = nullptr;
  int32_t pages_ = 0;
  int64_t moe_layers_ = 0;
  int64_t chosen_ = 0;
  std::unique_ptr<Buffer> buffer_;
  std::unique_ptr<HostBuffer> read_buffer_;
  std::vector<KeyStrip> strips_;
  std::vector<Tensor> route_strips_;
  Tensor read_slots_, read_routes_;
};

}  // namespace temper

#endif  // KERNELS_MODEL_KV_CACHE_H_
