// Attention and the indexer's scores over keys of bf16, on the emulator: to the
// bit of the definition with the tensor core's sums in the place of the CPU's,
// wherever keys lie and whoever else is in the batch.

#include "kernels/cuda/narrow/attention.h"

#include <cmath>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/cuda/narrow/key_fixture.h"
#include "kernels/reference/arithmetic.h"

namespace temper::cuda {
namespace {

constexpr int kBlock = 64;

struct MlaShape {
  int64_t heads, latent, rope, top_k;
  int64_t spare = 0;  // elements between keys
};

class MlaTrial {
 public:
  // Lists of every length that matters to blocks of 64, by their positions.
  explicit MlaTrial(const MlaShape& shape)
      : shape_(shape),
        dims_(shape.latent + shape.rope),
        lengths_({1, 63, 64, 65, 150, 0}),
        keys_(dims_, dims_ + shape.spare, Positions()),
        q_(static_cast<size_t>(Count() * shape.heads * dims_)),
        selected_(static_cast<size_t>(Count() * shape.top_k)),
        z_(static_cast<size_t>(Count() * shape.heads * shape.latent)),
        lse_(static_cast<size_t>(Count() * shape.heads)) {
    const auto q = Normals(1, static_cast<int64_t>(q_.size()));
    std::copy(q.begin(), q.end(), q_.begin());
    for (int64_t n = 0; n < Count(); ++n) {
      for (int64_t j = 0; j < shape.top_k; ++j) {
        selected_[n * shape.top_k + j] =
            j < lengths_[n] ? static_cast<int32_t>(j) : -1;
      }
    }
  }

  int64_t Count() const { return static_cast<int64_t>(lengths_.size()); }

  NarrowMla Args(int64_t first, int64_t count) {
    const int64_t heads = shape_.heads;
    return {.q = {q_.data() + first * heads * dims_, count, heads, dims_,
                  heads * dims_, dims_},
            .keys = keys_.Strip(),
            .map = keys_.Map(first),
            .selected = {selected_.data() + first * shape_.top_k, count,
                         shape_.top_k, shape_.top_k},
            .scale = kScale,
            .z = {z_.data() + first * heads * shape_.latent, count, heads,
                  shape_.latent, heads * shape_.latent, shape_.latent},
            .lse = {lse_.data() + first * heads, count, heads, heads}};
  }

  void ExpectTheDefinition() {
    for (int64_t n = 0; n < Count(); ++n) {
      for (int64_t h = 0; h < shape_.heads; ++h) ExpectHead(n, h);
    }
    EXPECT_EQ(keys_.fault(), 0u);
  }

  std::vector<float> Results() {
    std::vector<float> all(z_.begin(), z_.end());
    all.insert(all.end(), lse_.begin(), lse_.end());
    return all;
  }
  void Clear() {
    std::fill(z_.begin(), z_.end(), -7.0f);
    std::fill(lse_.begin(), lse_.end(), -7.0f);
  }

 private:
  static constexpr float kScale = 0.17f;

  std::vector<int> Positions() const {
    return std::vector<int>(lengths_.size(), 150);
  }

  void ExpectHead(int64_t n, int64_t h) {
    const int64_t at = n * shape_.heads + h;
    const float* const q = &q_[at * dims_];
    const int64_t total = std::min<int64_t>(lengths_[n], shape_.top_k);
    std::vector<float> z(shape_.latent);
    float m = -HUGE_VALF, l = 0;
    for (int64_t first = 0; first < total; first += kBlock) {
      const int64_t count = std::min<int64_t>(kBlock, total - first);
      const auto key = [&](int64_t j) {
        return keys_.Key(n, static_cast<int32_t>(first + j));
      };
      std::vector<float> e;
      float largest = m;
      for (int64_t j = 0; j < count; ++j) {
        const uint16_t* const row = key(j);
        e.push_back(kScale * Chain(
                                 0, dims_,
                                 [&](int64_t k) { return Rounded(q[k]); },
                                 [&](int64_t k) { return row[k]; }));
        largest = std::max(largest, e.back());
      }
      const float c = reference::ExpOf(m - largest);
      for (float& value : e) value = reference::ExpOf(value - largest);
      l = std::fma(l, c, reference::SumOf(e));
      for (int64_t i = 0; i < shape_.latent; ++i) {
        // Whole blocks, whose padding adds nothing.
        z[i] = Chain(
            z[i] * c, kBlock,
            [&](int64_t j) { return j < count ? Rounded(e[j]) : uint16_t{0}; },
            [&](int64_t j) { return j < count ? key(j)[i] : uint16_t{0}; });
      }
      m = largest;
    }
    const float lse = reference::LogOfSum(m, l);
    ASSERT_EQ(std::memcmp(&lse_[at], &lse, sizeof(float)), 0)
        << "query " << n << " head " << h << ": " << lse_[at] << ", not "
        << lse;
    for (int64_t i = 0; i < shape_.latent; ++i) {
      const float wanted = total == 0 ? 0.0f : z[i] / l;
      ASSERT_EQ(
          std::memcmp(&z_[at * shape_.latent + i], &wanted, sizeof(float)), 0)
          << "query " << n << " head " << h << " column " << i << ": "
          << z_[at * shape_.latent + i] << ", not " << wanted;
    }
  }

  const MlaShape shape_;
  const int64_t dims_;
  const std::vector<int64_t> lengths_;
  KeysInPages keys_;
  GlobalArray<float> q_;
  GlobalArray<int32_t> selected_;
  GlobalArray<float> z_, lse_;
};

class NarrowAttentionTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  static void SetUpTestSuite() { SetFlushDenormals(); }
  NarrowAttentionTest() { simt::SetSchedule(GetParam()); }
  ~NarrowAttentionTest() override { simt::SetSchedule(0); }
};

INSTANTIATE_TEST_SUITE_P(Schedules, NarrowAttentionTest,
                         ::testing::Range(uint64_t{0}, simt::kSchedules));

TEST_P(NarrowAttentionTest, ItIsTheDefinitionWithATensorCoresSums) {
  for (const MlaShape& shape :
       {MlaShape{3, 24, 8, 150}, {17, 13, 5, 100, 1}, {2, 1, 1, 64, 0}}) {
    MlaTrial trial(shape);
    trial.Clear();
    PlainMla(trial.Args(0, trial.Count()), nullptr);
    trial.ExpectTheDefinition();
  }
}

// One shape a schedule, and few queries: the emulator takes a while for whole
// tiles.
TEST_P(NarrowAttentionTest, WidelyTheBitsAreTheSame) {
  const struct {
    MlaShape shape;
    int64_t first, count;
  } cases[] = {{{66, 24, 8, 150}, 3, 1},  // two blocks of heads
               {{3, 300, 13, 100, 7}, 0, 2},
               {{2, 512, 64, 65}, 3, 1},
               {{17, 60, 4, 150}, 4, 2}};  // three blocks of keys, and none
  const auto& c = cases[GetParam() % std::size(cases)];
  MlaTrial trial(c.shape);
  trial.Clear();
  PlainMla(trial.Args(c.first, c.count), nullptr);
  const std::vector<float> wanted = trial.Results();
  trial.Clear();
  ASSERT_TRUE(WideMla(trial.Args(c.first, c.count), nullptr));
  const std::vector<float> got = trial.Results();
  ASSERT_EQ(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)),
            0);
}

TEST_P(NarrowAttentionTest, WhatIsTooWideOrAskewIsNoWideKernels) {
  for (const MlaShape& shape :
       {MlaShape{1, 24, 8, 64, 1}, {1, 513, 7, 64}, {1, 512, 72, 64}}) {
    MlaTrial trial(shape);
    EXPECT_FALSE(WideMla(trial.Args(0, 1), nullptr));
  }
}

TEST_P(NarrowAttentionTest, AQueryAloneIsAsInTheBatch) {
  MlaTrial trial({5, 24, 8, 100});
  SparseMla(trial.Args(0, trial.Count()), nullptr);
  const std::vector<float> wanted = trial.Results();
  trial.Clear();
  for (int64_t n = 0; n < trial.Count(); ++n) {
    SparseMla(trial.Args(n, 1), nullptr);
  }
  EXPECT_EQ(trial.Results(), wanted);
}

// Of six queries from the second on, by the one kernel and the other.
struct ScoreTrial {
  static constexpr int64_t kKeys = 160, kTopK = 100, kQueries = 7;

  ScoreTrial(int64_t heads, int64_t dims, int64_t spare = 0)
      : heads(heads),
        dims(dims),
        of_q(Normals(1, kQueries * heads * dims)),
        of_w(Normals(2, kQueries * heads)),
        keys(dims, dims + spare, positions),
        q(of_q.size()),
        w(of_w.size()),
        scores((kQueries - 1) * kKeys) {
    std::copy(of_q.begin(), of_q.end(), q.begin());
    std::copy(of_w.begin(), of_w.end(), w.begin());
  }

  NarrowScores Args(bool tap) {
    std::fill(scores.begin(), scores.end(), -7.0f);
    return {.q = {q.data(), kQueries, heads, dims, heads * dims, dims},
            .w = {w.data(), kQueries, heads, heads},
            .keys = keys.Strip(),
            .map = keys.Map(),
            .first = 1,
            .queries = kQueries - 1,
            .top_k = kTopK,
            .tap = tap,
            .scores = {scores.data(), kQueries - 1, kKeys, kKeys}};
  }

  float Wanted(int64_t n, int64_t s, bool tap) {
    if (s > positions[n] || (!tap && positions[n] + 1 <= kTopK)) return -7;
    const uint16_t* const key = keys.Key(n, static_cast<int32_t>(s));
    float sum = 0;
    for (int64_t h = 0; h < heads; ++h) {
      const float* const head = &of_q[(n * heads + h) * dims];
      const float dot = Chain(
          0, dims, [&](int64_t k) { return Rounded(head[k]); },
          [&](int64_t k) { return key[k]; });
      sum = std::fma(of_w[n * heads + h], std::max(dot, 0.0f), sum);
    }
    return sum;
  }

  void ExpectTheChains(bool tap) {
    for (int64_t at = 0; at < (kQueries - 1) * kKeys; ++at) {
      const float wanted = Wanted(at / kKeys + 1, at % kKeys, tap);
      ASSERT_EQ(std::memcmp(&scores[at], &wanted, sizeof(float)), 0)
          << "query " << at / kKeys + 1 << " key " << at % kKeys << ": "
          << scores[at] << ", not " << wanted;
    }
  }

  const std::vector<int> positions = {0, 62, 63, 64, 130, 99, 100};
  const int64_t heads, dims;
  const std::vector<float> of_q, of_w;
  KeysInPages keys;
  GlobalArray<float> q, w, scores;
};

TEST_P(NarrowAttentionTest, ScoresAreChainsOverTheHeads) {
  ScoreTrial trial(19, 22);
  for (const bool tap : {false, true}) {
    PlainScores(trial.Args(tap), nullptr);
    trial.ExpectTheChains(tap);
  }
}

TEST_P(NarrowAttentionTest, AndWidelyToo) {
  const bool tap = GetParam() % 2 == 0;
  ScoreTrial odd(19, 22, 2), whole(64, 128);
  for (ScoreTrial* trial : {&odd, &whole}) {
    ASSERT_TRUE(WideScores(trial->Args(tap), nullptr));
    trial->ExpectTheChains(tap);
  }
  EXPECT_FALSE(WideScores(ScoreTrial(65, 16).Args(tap), nullptr));
  EXPECT_FALSE(WideScores(ScoreTrial(1, 136).Args(tap), nullptr));
  EXPECT_FALSE(WideScores(ScoreTrial(1, 12).Args(tap), nullptr));
}

}  // namespace
}  // namespace temper::cuda
