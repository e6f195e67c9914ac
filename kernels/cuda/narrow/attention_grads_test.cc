// What attention's backward and the indexer's loss do with keys of bf16, on the
// emulator, to the bit: chains of a tensor core's sums where products are
// theirs, the CPU's blocks of 32 heads where they are not.

#include "kernels/cuda/narrow/attention_grads.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/cuda/narrow/key_fixture.h"
#include "kernels/reference/arithmetic.h"

namespace temper::cuda {
namespace {

constexpr int64_t kQueries = 3, kTopK = 70, kLatent = 13, kDims = 18;
constexpr float kScale = 0.21f;

// Queries of several heads, whose records are filled.
class GradTrial {
 public:
  explicit GradTrial(int64_t heads)
      : heads_(heads),
        keys_(kDims, kDims, {150, 150, 150}),
        q_(kQueries * heads * kDims),
        z_(kQueries * heads * kLatent),
        dz_(kQueries * heads * kLatent),
        lse_(kQueries * heads),
        selected_(kQueries * kTopK),
        p_(kQueries * heads * kTopK),
        ds_(kQueries * heads * kTopK),
        rows_(kQueries * kTopK),
        count_(kQueries),
        place_(kQueries * KeysInPages::kRows) {
    Fill(1, &q_);
    Fill(2, &z_);
    Fill(4, &dz_);
    Fill(5, &lse_);
    Fill(6, &p_);
    Fill(7, &ds_);
    for (int64_t i = 0; i < kQueries * kTopK; ++i) {
      const int64_t j = i % kTopK;
      selected_[i] = j < lengths[i / kTopK] ? static_cast<int32_t>(2 * j) : -1;
    }
    FillKeyRecords(keys_.Map(), {selected_.data(), kQueries, kTopK, kTopK},
                   Records(), nullptr);
  }

  KeyRecords Records() {
    return {.p = p_.data(),
            .ds = ds_.data(),
            .rows = rows_.data(),
            .count = count_.data(),
            .place = place_.data(),
            .queries = kQueries,
            .heads = heads_,
            .width = kTopK};
  }
  MlaGrads Grads() {
    return {.q = Q(),
            .keys = {},
            .scale = kScale,
            .z = Latents(&z_),
            .lse = {lse_.data(), kQueries, heads_, heads_},
            .dz = Latents(&dz_)};
  }
  GroupedRows<const float> Q() {
    return {q_.data(), kQueries, heads_, kDims, heads_ * kDims, kDims};
  }
  GroupedRows<const float> Latents(GlobalArray<float>* x) {
    return {x->data(), kQueries, heads_, kLatent, heads_ * kLatent, kLatent};
  }
  const uint16_t* Key(int64_t n, int64_t j) {
    return keys_.Key(n, static_cast<int32_t>(2 * j));
  }
  float Dot(const float* head, const uint16_t* key, int64_t dims) {
    return Chain(
        0, dims, [&](int64_t k) { return Rounded(head[k]); },
        [&](int64_t k) { return key[k]; });
  }

  const int64_t lengths[kQueries] = {70, 0, 65};
  const int64_t heads_;
  KeysInPages keys_;
  GlobalArray<float> q_, z_, dz_, lse_;
  GlobalArray<int32_t> selected_;
  GlobalArray<float> p_, ds_;
  GlobalArray<int32_t> rows_, count_, place_;

 private:
  static void Fill(uint64_t seed, GlobalArray<float>* x) {
    const auto values = Normals(seed, static_cast<int64_t>(x->size()));
    std::copy(values.begin(), values.end(), x->begin());
  }
};

::testing::AssertionResult SameBits(float got, float wanted) {
  if (std::memcmp(&got, &wanted, sizeof(float)) == 0) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << got << ", not " << wanted;
}

class NarrowGradsTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  static void SetUpTestSuite() { SetFlushDenormals(); }
  NarrowGradsTest() { simt::SetSchedule(GetParam()); }
  ~NarrowGradsTest() override { simt::SetSchedule(0); }
};

INSTANTIATE_TEST_SUITE_P(Schedules, NarrowGradsTest,
                         ::testing::Range(uint64_t{0}, simt::kSchedules));

TEST_P(NarrowGradsTest, ScoreGradsAreOfTensorCoresDots) {
  GradTrial trial(19);
  MlaScoreGrads(trial.Grads(), trial.keys_.Strip(), trial.Records(), nullptr);
  for (int64_t at = 0; at < kQueries * trial.heads_ * kTopK; ++at) {
    const int64_t head = at / kTopK, j = at % kTopK, n = head / trial.heads_;
    if (j >= trial.lengths[n]) continue;
    const uint16_t* const key = trial.Key(n, j);
    const float* const dz = &trial.dz_[head * kLatent];
    const float delta =
        reference::DotOf(&trial.z_[head * kLatent], dz, kLatent);
    const float p = reference::ExpOf(
        trial.Dot(&trial.q_[head * kDims], key, kDims) * kScale -
        trial.lse_[head]);
    const float ds = p * (trial.Dot(dz, key, kLatent) - delta) * kScale;
    ASSERT_TRUE(SameBits(trial.p_[at], p)) << at;
    ASSERT_TRUE(SameBits(trial.ds_[at], ds)) << at;
  }
}

TEST_P(NarrowGradsTest, SumsOverAListAreOneChain) {
  GradTrial trial(19);
  GlobalArray<float> dq(kQueries * trial.heads_ * kDims);
  SumKeys(
      trial.Records(), trial.keys_.Strip(),
      {dq.data(), kQueries, trial.heads_, kDims, trial.heads_ * kDims, kDims},
      nullptr);
  for (int64_t at = 0; at < kQueries * trial.heads_ * kDims; ++at) {
    const int64_t head = at / kDims, n = head / trial.heads_;
    const float wanted = Chain(
        0, trial.lengths[n],
        [&](int64_t j) { return Rounded(trial.ds_[head * kTopK + j]); },
        [&](int64_t j) { return trial.Key(n, j)[at % kDims]; });
    ASSERT_TRUE(SameBits(dq[at], wanted)) << at;
  }
}

// sum over heads of a[h] b[h] as the reference adds bf16.
float OverHeads(const float* a, int64_t a_stride, const float* b,
                int64_t b_stride, int64_t heads) {
  return reference::ProductOnto(
             reference::Narrow(0), static_cast<size_t>(heads),
             [&](size_t h) { return a[h * a_stride]; },
             [&](size_t h) { return b[h * b_stride]; })
      .value;
}

TEST_P(NarrowGradsTest, KeysTakeQueriesInOrder) {
  GradTrial trial(35);
  std::vector<float> wanted(KeysInPages::kRows * kDims, 0.5f);
  GlobalArray<float> dkeys(wanted.size());
  std::copy(wanted.begin(), wanted.end(), dkeys.begin());
  AddRoundedToKeys({.records = trial.Records(),
                    .b = trial.Q(),
                    .d = trial.Latents(&trial.dz_),
                    .dkeys = {dkeys.data(), KeysInPages::kRows, kDims, kDims}},
                   nullptr);
  for (int64_t n = 0; n < kQueries; ++n) {
    for (int64_t j = 0; j < trial.lengths[n]; ++j) {
      float* const row = &wanted[trial.rows_[n * kTopK + j] * kDims];
      const int64_t list = n * trial.heads_ * kTopK + j;
      for (int64_t c = 0; c < kDims; ++c) {
        row[c] += OverHeads(&trial.ds_[list], kTopK,
                            &trial.q_[n * trial.heads_ * kDims + c], kDims,
                            trial.heads_);
        if (c >= kLatent) continue;
        row[c] += OverHeads(&trial.p_[list], kTopK,
                            &trial.dz_[n * trial.heads_ * kLatent + c], kLatent,
                            trial.heads_);
      }
    }
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    ASSERT_TRUE(SameBits(dkeys[i], wanted[i])) << i;
  }
}

TEST_P(NarrowGradsTest, TheLossHasTargetsAndScoresOfThoseDots) {
  constexpr int64_t kIndexHeads = 18, kIndexDims = 20;
  GradTrial trial(17);
  KeysInPages index_keys(kIndexDims, kIndexDims, {150, 150, 150});
  const auto q = Normals(8, kQueries * kIndexHeads * kIndexDims);
  const auto w = Normals(9, kQueries * kIndexHeads);
  GlobalArray<float> index_q(q.size()), index_w(w.size());
  std::copy(q.begin(), q.end(), index_q.begin());
  std::copy(w.begin(), w.end(), index_w.begin());
  GlobalArray<float> target(kQueries * kTopK), score(kQueries * kTopK);
  GlobalArray<float> products(kQueries * kIndexHeads * kTopK);
  KlArgs args;
  args.q = trial.Q();
  args.scale = kScale;
  args.lse = {trial.lse_.data(), kQueries, trial.heads_, trial.heads_};
  args.index_q = {index_q.data(),           kQueries,  kIndexHeads, kIndexDims,
                  kIndexHeads * kIndexDims, kIndexDims};
  args.index_w = {index_w.data(), kQueries, kIndexHeads, kIndexHeads};
  args.records = trial.Records();
  args.target = target.data();
  args.score = score.data();
  args.products = products.data();
  KlScores(args, trial.keys_.Strip(), index_keys.Strip(), nullptr);
  for (int64_t at = 0; at < kQueries * kTopK; ++at) {
    const int64_t n = at / kTopK, j = at % kTopK;
    if (j >= trial.lengths[n]) continue;
    float p = 0, sum = 0;
    for (int64_t h = 0; h < trial.heads_; ++h) {
      const int64_t head = n * trial.heads_ + h;
      p += reference::ExpOf(
          trial.Dot(&trial.q_[head * kDims], trial.Key(n, j), kDims) * kScale -
          trial.lse_[head]);
    }
    const uint16_t* const key = index_keys.Key(n, static_cast<int32_t>(2 * j));
    for (int64_t h = 0; h < kIndexHeads; ++h) {
      const int64_t head = n * kIndexHeads + h;
      const float dot = trial.Dot(&q[head * kIndexDims], key, kIndexDims);
      ASSERT_TRUE(SameBits(products[head * kTopK + j], dot)) << at;
      sum = std::fma(w[head], std::max(dot, 0.0f), sum);
    }
    p *= 1.0f / static_cast<float>(trial.heads_);
    ASSERT_TRUE(SameBits(target[at], p)) << at;
    ASSERT_TRUE(SameBits(score[at], sum)) << at;
  }
}

}  // namespace
}  // namespace temper::cuda
