#include "kernels/model/kv_cache.h"

#include <algorithm>
#include <set>

#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/find_backend.h"
#include "kernels/model/test_model.h"

namespace temper {
namespace {

class KvCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SetFlushDenormals();
    backend_ = *FindBackend({.name = "scalar"});
  }
  const ModelConfig config_ = TinyConfig();
  std::unique_ptr<Backend> backend_;
};

TEST_F(KvCacheTest, StripsOfAllLayersHaveARowForEverySlotAndDoNotOverlap) {
  auto cache = KvCache::Create(backend_.get(), config_, kFp32, 3);
  ASSERT_TRUE(cache.ok()) << cache.status();
  float value = 1;
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    const KeyStrip& strip = (*cache)->layer(l);
    EXPECT_EQ(strip.latent.DebugString(), "f32[192, 24]");
    EXPECT_EQ(strip.index_keys.DebugString(), "f32[192, 16]");
    for (const Tensor& x : {strip.latent, strip.index_keys}) {
      for (int64_t i = 0; i < x.elements(); ++i) {
        ASSERT_EQ(x.as<float>()[i], 0) << "written before";
        x.as<float>()[i] = value;
      }
    }
  }
  EXPECT_GE(KvCache::BytesFor(config_, kFp32, 3), 3 * 192 * (24 + 16) * 4);
}

// kernels/ops/cache_rows.h.
TEST_F(KvCacheTest, InFp8StripsAreInThePublishedLayouts) {
  auto cache = KvCache::Create(backend_.get(), config_, kFp8, 3);
  ASSERT_TRUE(cache.ok()) << cache.status();
  const KeyStrip& strip = (*cache)->layer(0);
  EXPECT_EQ(strip.latent.DebugString(), "f8e4m3[192, 36]");  // 16 + 4 + 2 * 8
  EXPECT_EQ(strip.index_keys.DebugString(), "f8e4m3[3, 1280]");
}

TEST_F(KvCacheTest, ATokenOfDeepSeekV32TakesOneHundredthOfItsHeads) {
  ModelConfig v32 = config_;
  v32.num_attention_heads = v32.qk_nope_head_dim = v32.v_head_dim = 128;
  v32.kv_lora_rank = 512;
  v32.qk_rope_head_dim = 64;
  v32.index_head_dim = 128;
  EXPECT_EQ(KvCache::TokenBytes(v32, kFp8), 656 + 132);
  EXPECT_EQ(KvCache::TokenBytes(v32, kBf16), 2 * (576 + 128));
  EXPECT_EQ(KvCache::TokenBytes(v32, kFp32), 4 * (576 + 128));
  EXPECT_EQ(KvCache::MultiHeadTokenBytes(v32), 81920);
  // Rows of no even number of bytes too.
  v32.kv_lora_rank = 131;
  EXPECT_EQ(KvCache::TokenBytes(v32, kFp8), 131 + 8 + 128 + 132);
}

TEST_F(KvCacheTest, RoutesAreReadByTokenHoweverScatteredTheirSlotsAre) {
  for (const int64_t experts : {8, 300}) {
    ModelConfig config = config_;
    config.n_routed_experts = experts;
    constexpr int32_t kPages = 20;  // more slots than one read takes
    auto cache = *KvCache::Create(backend_.get(), config, kFp32, kPages);
    const auto route = [&](int64_t slot, int64_t layer, int64_t a) {
      return static_cast<int32_t>((7 * slot + 3 * layer + a) % experts);
    };
    std::vector<int32_t> slots;
    for (int64_t slot = 0; slot < kPages * kPageTokens; ++slot) {
      slots.push_back(static_cast<int32_t>(slot));
      for (int64_t layer = 0; layer < config.moe_layers(); ++layer) {
        const Tensor& strip = cache->routes(layer);
        for (int64_t a = 0; a < config.num_experts_per_tok; ++a) {
          const int64_t at = slot * config.num_experts_per_tok + a;
          const int32_t value = route(slot, layer, a);
          if (strip.dtype() == DType::kU8) {
            strip.as<uint8_t>()[at] = static_cast<uint8_t>(value);
          } else {
            strip.as<uint16_t>()[at] = static_cast<uint16_t>(value);
          }
        }
      }
    }
    std::reverse(slots.begin(), slots.end());
    std::vector<int32_t> routes = {-7};  // what is there stays
    ASSERT_TRUE(cache->ReadRoutes(slots, &routes).ok());
    ASSERT_EQ(routes.size(), 1 + slots.size() * 2 * 2);
    size_t next = 0;
    EXPECT_EQ(routes[next++], -7);
    for (const int32_t slot : slots) {
      for (int64_t layer = 0; layer < 2; ++layer) {
        for (int64_t a = 0; a < 2; ++a) {
          ASSERT_EQ(routes[next++], route(slot, layer, a)) << slot;
        }
      }
    }
  }
}

TEST_F(KvCacheTest, RefusesACacheOfNoPages) {
  EXPECT_EQ(KvCache::Create(backend_.get(), config_, kFp32, 0).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace temper
