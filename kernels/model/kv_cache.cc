#include "kernels/model/kv_cache.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/ops/cache_rows.h"

namespace temper {
namespace {

// From [moe_layers, count, A] to [count, moe_layers, A].
template <typename T>
void ByToken(const T* by_layer, int64_t layers, int64_t count, int64_t chosen,
             int32_t* routes) {
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(by_layer + (layer * count + i) * chosen, chosen,
                  routes + (i * layers + layer) * chosen);
    }
  }
}

}  // namespace

void KeyStrip::Layout(const ModelConfig& config, const Numerics& numerics,
                      int64_t rows, Arena* arena) {
  constexpr DType kCodes = DType::kF8E4M3;
  latent =
      numerics.latent_cache == kCodes
          ? arena->Take(kCodes, {rows, LatentRowBytes(config.kv_lora_rank,
                                                      config.qk_rope_head_dim)})
          : arena->Take(numerics.latent_cache, {rows, config.latent_dim()});
  index_keys =
      numerics.index_cache == kCodes
          ? arena->Take(kCodes, {IndexPages(rows),
                                 IndexPageBytes(config.index_head_dim)})
          : arena->Take(numerics.index_cache, {rows, config.index_head_dim});
}

KvCache::Layout KvCache::LayOut(const ModelConfig& config,
                                const Numerics& numerics, int32_t pages,
                                Arena* arena) {
  const int64_t rows = int64_t{pages} * kPageTokens;
  const int64_t chosen = config.num_experts_per_tok;
  // As wide as the record's own routes (DESIGN.md section 7).
  const DType type = config.route_bytes() == 1 ? DType::kU8 : DType::kU16;
  Layout layout;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    layout.strips.emplace_back();
    layout.strips.back().Layout(config, numerics, rows, arena);
  }
  for (int64_t layer = 0; layer < config.moe_layers(); ++layer) {
    layout.route_strips.push_back(arena->Take(type, {rows, chosen}));
  }
  layout.read_slots = arena->I32({kReadTokens});
  layout.read_routes =
      arena->Take(type, {config.moe_layers(), kReadTokens, chosen});
  return layout;
}

int64_t KvCache::TokenBytes(const ModelConfig& config,
                            const Numerics& numerics) {
  // Of a page, for scales of index keys lie behind a page's keys.
  Arena page;
  KeyStrip().Layout(config, numerics, kPageTokens, &page);
  return page.bytes() / kPageTokens;
}

int64_t KvCache::MultiHeadTokenBytes(const ModelConfig& config) {
  return config.num_attention_heads *
         (config.qk_head_dim() + config.v_head_dim) *
         static_cast<int64_t>(DTypeBytes(DType::kBF16));
}

int64_t KvCache::BytesFor(const ModelConfig& config, const Numerics& numerics,
                          int32_t pages) {
  Arena counter;
  LayOut(config, numerics, pages, &counter);
  return counter.bytes();
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(
    Backend* backend, const ModelConfig& config, const Numerics& numerics,
    int32_t pages) {
  // Slots are i32.
  if (pages < 1 || pages > INT32_MAX / kPageTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("a cache of ", pages, " pages; 1 to ",
                     INT32_MAX / kPageTokens, " are possible"));
  }
  std::unique_ptr<KvCache> cache(new KvCache);
  cache->backend_ = backend;
  cache->pages_ = pages;
  cache->moe_layers_ = config.moe_layers();
  cache->chosen_ = config.num_experts_per_tok;
  // One buffer for all strips: it is there or it is not, and a page id means
  // the same row in each.
  ASSIGN_OR_RETURN(cache->buffer_,
                   backend->Allocate(BytesFor(config, numerics, pages)));
  Arena arena(cache->buffer_->data(), backend->device());
  Layout layout = LayOut(config, numerics, pages, &arena);
  cache->strips_ = std::move(layout.strips);
  cache->route_strips_ = std::move(layout.route_strips);
  cache->read_slots_ = layout.read_slots;
  cache->read_routes_ = layout.read_routes;
  ASSIGN_OR_RETURN(
      cache->read_buffer_,
      backend->AllocateHost(config.moe_layers() * kReadTokens *
                            config.num_experts_per_tok *
                            static_cast<int64_t>(config.route_bytes())));
  return cache;
}

absl::Status KvCache::ReadRoutes(const std::vector<int32_t>& slots,
                                 std::vector<int32_t>* routes) {
  if (moe_layers_ == 0) return absl::OkStatus();
  const auto count = static_cast<int64_t>(slots.size());
  size_t next = routes->size();
  routes->resize(next + count * moe_layers_ * chosen_);
  for (int64_t begin = 0; begin < count; begin += kReadTokens) {
    const int64_t some = std::min(kReadTokens, count - begin);
    RETURN_IF_ERROR(
        ReadSome(slots.data() + begin, some, routes->data() + next));
    next += some * moe_layers_ * chosen_;
  }
  return absl::OkStatus();
}

absl::Status KvCache::ReadSome(const int32_t* slots, int64_t count,
                               int32_t* routes) {
  const Tensor rows = read_slots_.Slice(0, 0, count);
  RETURN_IF_ERROR(backend_->CopyFromHost(slots, rows));
  // Gathered on the device, so that a scattered sequence is one copy.
  const Tensor gathered = read_routes_.Slice(1, 0, count);
  for (int64_t layer = 0; layer < moe_layers_; ++layer) {
    backend_->GatherRows(route_strips_[layer], rows,
                         read_routes_.Slice(0, layer, layer + 1)
                             .Reshape({kReadTokens, chosen_})
                             .Slice(0, 0, count));
  }
  backend_->CopyToHost(gathered, read_buffer_.get(), 0);
  RETURN_IF_ERROR(backend_->Wait(backend_->Record()));
  if (read_routes_.dtype() == DType::kU8) {
    ByToken(static_cast<const uint8_t*>(read_buffer_->data()), moe_layers_,
            count, chosen_, routes);
  } else {
    ByToken(static_cast<const uint16_t*>(read_buffer_->data()), moe_layers_,
            count, chosen_, routes);
  }
  return absl::OkStatus();
}

}  // namespace temper
