#include "kernels/model/kv_cache.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr int64_t kAlignElements = 16;  // 64 bytes of fp32

int64_t Aligned(int64_t elements) {
  return (elements + kAlignElements - 1) / kAlignElements * kAlignElements;
}

}  // namespace

int64_t KvCache::BytesFor(const ModelConfig& config, int32_t pages) {
  const int64_t rows = int64_t{pages} * kPageTokens;
  return 4 * config.num_hidden_layers *
         (Aligned(rows * config.latent_dim()) +
          Aligned(rows * config.index_head_dim));
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
  float* next = static_cast<float*>(cache->buffer_->data());
  const auto strip = [&](int64_t width) {
    const Tensor view(next, DType::kF32, {rows, width}, backend->device());
    next += Aligned(rows * width);
    return view;
  };
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const Tensor latent = strip(config.latent_dim());
    cache->strips_.push_back({latent, strip(config.index_head_dim)});
  }
  cache->routes_.assign(rows * cache->routes_per_token_, -1);
  return cache;
}

int32_t* KvCache::routes(int32_t slot) {
  CHECK(slot >= 0 && slot < pages_ * kPageTokens) << "slot " << slot;
  return routes_.data() + slot * routes_per_token_;
}

}  // namespace temper
