#include "kernels/model/kv_cache.h"

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
  auto cache = KvCache::Create(backend_.get(), config_, 3);
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
  EXPECT_GE(KvCache::BytesFor(config_, 3), 3 * 192 * (24 + 16) * 4);
}

TEST_F(KvCacheTest, RoutesOfASlotAreItsOwnAndBeginUnset) {
  auto cache = KvCache::Create(backend_.get(), config_, 1);
  ASSERT_TRUE(cache.ok()) << cache.status();
  for (int32_t slot = 0; slot < kPageTokens; ++slot) {
    for (int i = 0; i < 4; ++i) {  // [2 MoE layers, 2 experts]
      ASSERT_EQ((*cache)->routes(slot)[i], -1);
      (*cache)->routes(slot)[i] = slot;
    }
  }
  EXPECT_EQ((*cache)->routes(5)[3], 5);
}

TEST_F(KvCacheTest, RefusesACacheOfNoPages) {
  EXPECT_EQ(KvCache::Create(backend_.get(), config_, 0).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace temper
