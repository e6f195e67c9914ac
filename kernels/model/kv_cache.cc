#include "kernels/model/kv_cache.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/arena.h"

namespace temper {
namespace {

// A layer's strips, for each of `rows` slots.
std::vector<KeyStrip> LayOutStrips(const ModelConfig& config, int64_t rows,
                                   Arena* arena) {
  std::vector<KeyStrip> strips;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    strips.push_back({arena->F32({rows, config.latent_dim()}),
                      arena->F32({rows, config.index_head_dim})});
  }
  return strips;
}

}  // namespace

int64_t KvCache::BytesFor(const ModelConfig& config, int32_t pages) {
  Arena counter;
  LayOutStrips(config, int64_t{pages} * kPageTokens, &counter);
  return counter.bytes();
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(
    Backend* backend, const ModelConfig& config, int32_t pages) {
  // Slots are i32.
  if (pages < 1 || pages > INT32_MAX / kPageTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("a cache of ", pages, " pages; 1 to ",
                     INT32_MAX / kPageTokens, " are possible"));
  }
  const int64_t rows = int64_t{pages} * kPageTokens;
  std::unique_ptr<KvCache> cache(new KvCache);
  cache->pages_ = pages;
  cache->routes_per_token_ = config.moe_layers() * config.num_experts_per_tok;
  ASSIGN_OR_RETURN(cache->buffer_, backend->Allocate(BytesFor(config, pages)));
  Arena arena(cache->buffer_->data(), backend->device());
  cache->strips_ = LayOutStrips(config, rows, &arena);
  cache->routes_.assign(rows * cache->routes_per_token_, -1);
  return cache;
}

int32_t* KvCache::routes(int32_t slot) {
  CHECK(slot >= 0 && slot < pages_ * kPageTokens) << "slot " << slot;
  return routes_.data() + slot * routes_per_token_;
}

}  // namespace temper
