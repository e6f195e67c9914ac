#include "kernels/model/rope.h"

#include <cmath>

#include "gtest/gtest.h"

namespace temper {
namespace {

ModelConfig V32Rope() {
  ModelConfig config;
  config.qk_rope_head_dim = 64;
  config.rope_theta = 10000;
  config.max_position_embeddings = 163840;
  config.has_rope_scaling = true;
  config.rope_scaling.factor = 40;
  config.rope_scaling.original_max_position_embeddings = 4096;
  return config;
}

TEST(RopeTest, YarnKeepsFastDimensionsAndDividesSlowOnesByTheFactor) {
  const ModelConfig config = V32Rope();
  const std::vector<double> f = RopeFrequencies(config);
  ASSERT_EQ(f.size(), 32u);
  // DeepSeek-V3.2: the ramp runs from dimension 10 to 23.
  for (int i = 0; i < 32; ++i) {
    const double base = std::pow(10000.0, -i / 32.0);
    const double ramp = i <= 10 ? 0 : i >= 23 ? 1 : (i - 10) / 13.0;
    EXPECT_NEAR(f[i] / base, ramp / 40 + 1 - ramp, 1e-12) << i;
  }
}

TEST(RopeTest, WithoutScalingFrequenciesArePlain) {
  ModelConfig config = V32Rope();
  config.has_rope_scaling = false;
  const std::vector<double> f = RopeFrequencies(config);
  EXPECT_NEAR(f[0], 1, 1e-15);
  EXPECT_NEAR(f[16], 0.01, 1e-15);
}

TEST(RopeTest, RowsAreCosinesThenSinesAndDoNotDependOnTheTablesLength) {
  const ModelConfig config = V32Rope();
  const std::vector<double> f = RopeFrequencies(config);
  const std::vector<float> longer = RopeTable(config, 300);
  const std::vector<float> shorter = RopeTable(config, 7);
  for (size_t i = 0; i < shorter.size(); ++i) {
    EXPECT_EQ(shorter[i], longer[i]) << i;
  }
  for (int i = 0; i < 32; ++i) {
    EXPECT_NEAR(longer[299 * 64 + i], std::cos(299 * f[i]), 1e-7);
    EXPECT_NEAR(longer[299 * 64 + 32 + i], std::sin(299 * f[i]), 1e-7);
  }
}

}  // namespace
}  // namespace temper
