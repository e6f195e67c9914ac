#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/ops/testing/key_case.h"
#include "kernels/ops/testing/shape_case.h"
#include "kernels/reference/head.h"

namespace temper {
namespace {

struct Result {
  std::vector<float> logp, lse, entropy, dx, dw;
};

// Rows with kept sets of every size, whole rows between them.
struct Problem {
  Problem(int64_t rows_in, int64_t vocabulary_in, int64_t depth_in,
          float temperature_in, DType type_in = DType::kF32)
      : rows(rows_in),
        vocabulary(vocabulary_in),
        depth(depth_in),
        temperature(temperature_in),
        type(type_in),
        x(Normals(1, rows * depth)),
        w(Normals(2, vocabulary * depth)),
        dlogp(Normals(3, rows)),
        offsets(1, 0) {
    for (int64_t n = 0; n < rows; ++n) {
      std::vector<int32_t> kept;
      if (n % 3 != 1) {
        for (int64_t v = 0; v < vocabulary; ++v) {
          if (Draw(4, n * vocabulary + v, rows) <= n) {
            kept.push_back(static_cast<int32_t>(v));
          }
        }
      }
      ids.insert(ids.end(), kept.begin(), kept.end());
      offsets.push_back(static_cast<int32_t>(ids.size()));
      const int64_t size = kept.empty() ? vocabulary : kept.size();
      const int64_t place = n * 7 % size;
      targets.push_back(kept.empty() ? static_cast<int32_t>(place)
                                     : kept[place]);
    }
  }

  std::unique_ptr<Weight> Pack(Backend* backend) {
    auto weight =
        backend->NewWeight({.out = vocabulary, .in = depth, .dtype = type});
    CHECK(weight.ok());
    backend->SetWeight(View(w, {1, vocabulary, depth}), weight->get());
    return std::move(*weight);
  }

  Result Run(const Machine& machine, int64_t batch) {
    Backend* const backend = machine.backend;
    const auto weight = Pack(backend);
    Stored stored(w, type);
    const Tensor row_view = stored.View({vocabulary, depth});
    Result out;
    for (auto* values : {&out.logp, &out.lse, &out.entropy}) {
      values->resize(rows, 7.0f);
    }
    out.dx.resize(x.size(), 7.0f);
    out.dw.resize(w.size(), 0.0f);
    for (int64_t n = 0; n < rows; n += batch) {
      const int64_t end = std::min(n + batch, rows);
      std::vector<int32_t> local(offsets.begin() + n,
                                 offsets.begin() + end + 1);
      for (int32_t& offset : local) offset -= offsets[n];
      std::vector<int32_t> kept(ids.begin() + offsets[n],
                                ids.begin() + offsets[end]);
      const auto part = [&](Tensor t) { return t.Slice(0, n, end); };
      const Tensor kept_view =
          kept.empty() ? Tensor()
                       : View(kept, {static_cast<int64_t>(kept.size())});
      const Tensor offset_view = View(local, {end - n + 1});
      const Tensor xs = part(View(x, {rows, depth}));
      const Tensor target = part(View(targets, {rows}));
      const Tensor lse = part(View(out.lse, {rows}));
      backend->LogProb({.x = xs,
                        .w = weight.get(),
                        .rows = row_view,
                        .targets = target,
                        .kept_offsets = offset_view,
                        .kept_ids = kept_view,
                        .temperature = temperature,
                        .logp = part(View(out.logp, {rows})),
                        .lse = lse,
                        .entropy = part(View(out.entropy, {rows}))});
      backend->LogProbBackward({.x = xs,
                                .w = weight.get(),
                                .rows = row_view,
                                .targets = target,
                                .kept_offsets = offset_view,
                                .kept_ids = kept_view,
                                .temperature = temperature,
                                .lse = lse,
                                .dlogp = part(View(dlogp, {rows})),
                                .dx = part(View(out.dx, {rows, depth})),
                                .dw = View(out.dw, {vocabulary, depth})});
    }
    return out;
  }

  std::vector<int32_t> Kept(int64_t n) const {
    return {ids.begin() + offsets[n], ids.begin() + offsets[n + 1]};
  }
  // The ids that a row is normalised over.
  std::vector<int32_t> List(int64_t n) const {
    std::vector<int32_t> list = Kept(n);
    if (!list.empty()) return list;
    list.resize(vocabulary);
    std::iota(list.begin(), list.end(), 0);
    return list;
  }
  // Rows [begin, end) keep the whole vocabulary.
  void MakeWhole(int64_t begin, int64_t end) {
    std::vector<int32_t> fewer, starts = {0};
    for (int64_t n = 0; n < rows; ++n) {
      const std::vector<int32_t> kept =
          n >= begin && n < end ? std::vector<int32_t>() : Kept(n);
      fewer.insert(fewer.end(), kept.begin(), kept.end());
      starts.push_back(static_cast<int32_t>(fewer.size()));
    }
    ids = fewer;
    offsets = starts;
  }
  // dlogp (1[v = target] - p_v) / temperature of row n over its list.
  std::vector<float> Gradient(int64_t n, const Result& forward) const {
    using reference::Narrow;
    const float factor = dlogp[n] / temperature;
    std::vector<float> g;
    for (const int32_t id : List(n)) {
      const Narrow z =
          reference::ProductOnto(
              Narrow(0), depth, [&](size_t d) { return x[n * depth + d]; },
              [&](size_t d) { return w[id * depth + d]; }) /
          Narrow(temperature);
      g.push_back(reference::ExpOf(z.value - forward.lse[n]) * -factor);
      if (id == targets[n]) g.back() += factor;
    }
    return g;
  }

  int64_t rows, vocabulary, depth;
  float temperature;
  DType type;
  std::vector<float> x, w, dlogp;
  std::vector<int32_t> offsets, ids, targets;
};

TEST(HeadTest, LogProbAgreesWithTheReference) {
  for (const float temperature : {1.0f, 0.7f}) {
    Problem problem(23, 131, 19, temperature);
    const Result got = problem.Run(Machines().back(), problem.rows);
    // Logits of size 20 off by 19 half-ulps of theirs, sums of 131.
    const double tolerance = 6e-8 * (19 + 131) * 20;
    for (int64_t n = 0; n < problem.rows; ++n) {
      double entropy = 0;
      const double want = reference::LogProb(
          As<double>(problem.x), As<double>(problem.w), problem.depth, n,
          problem.targets[n], problem.Kept(n), temperature, &entropy);
      ASSERT_NEAR(got.logp[n], want, tolerance) << n;
      ASSERT_NEAR(got.entropy[n], entropy, tolerance) << n;
    }
  }
}

template <typename T>
void ExpectLogProbOfTheReference(DType type, float temperature) {
  Problem problem(23, 131, 67, temperature, type);
  const Result got = problem.Run(Machines().front(), problem.rows);
  Floats want;
  for (int64_t n = 0; n < problem.rows; ++n) {
    want.push_back(static_cast<float>(reference::LogProb<T>(
        As<T>(problem.x), As<T>(problem.w), problem.depth, n,
        problem.targets[n], problem.Kept(n), temperature, nullptr)));
  }
  ExpectSameBits(got.logp, want, "logp");
}

TEST(HeadTest, LogProbHasTheBitsOfTheReference) {
  for (const float temperature : {1.0f, 0.7f}) {
    ExpectLogProbOfTheReference<float>(DType::kF32, temperature);
    ExpectLogProbOfTheReference<reference::Narrow>(DType::kBF16, temperature);
  }
}

// Where the largest logit and the log of the sum nearly cancel, the last bits
// of the log show: this one's differ from a correctly rounded log's.
TEST(HeadTest, AnLseNearZeroHasTheBitsOfTheReference) {
  constexpr float kLargest = -2.3452653884887695f, kSum = 10.436079978942871f;
  Problem problem(1, 11, 1, 1, DType::kF32);
  problem.MakeWhole(0, 1);
  problem.x = {1};
  problem.w.assign(11, kLargest);  // ten times exp(0), and 0.436..
  problem.w[10] = kLargest + std::log(kSum - 10);
  const Result got = problem.Run(Machines().front(), 1);
  ASSERT_EQ(reference::ExpOf(problem.w[10] - kLargest) + 10, kSum);
  const float want = reference::LogOfSum(kLargest, kSum);
  EXPECT_EQ(got.lse[0], want);
  EXPECT_NE(want, static_cast<float>(double{kLargest} + Log(double{kSum})));
}

// The gradients in bf16 by the contract's words: g over the whole vocabulary or
// the kept list, rounded; a run of whole rows in blocks from its first, a
// truncated row a block alone.
TEST(HeadTest, NarrowGradientsHaveTheBitsOfTheReference) {
  using reference::Narrow;
  Problem problem(150, 29, 13, 0.8f, DType::kBF16);
  problem.MakeWhole(40, 121);  // a run of more than two chunks
  const Result got = problem.Run(Machines().front(), problem.rows);
  const int64_t depth = problem.depth, vocabulary = problem.vocabulary;
  Floats dx(problem.x.size()), dw(problem.w.size(), 0.0f);
  std::vector<Floats> g;  // of each row, over its list
  for (int64_t n = 0; n < problem.rows; ++n)
    g.push_back(problem.Gradient(n, got));
  for (int64_t n = 0; n < problem.rows; ++n) {
    const Ints list = problem.List(n);
    for (int64_t d = 0; d < depth; ++d) {
      dx[n * depth + d] =
          reference::ProductOnto(
              Narrow(0), list.size(), [&](size_t i) { return g[n][i]; },
              [&](size_t i) { return problem.w[list[i] * depth + d]; })
              .value;
    }
  }
  for (int64_t n = 0, end = 0; n < problem.rows; n = end) {
    const bool whole = problem.Kept(n).empty();
    for (end = n + 1; whole && end < problem.rows;) {
      if (!problem.Kept(end).empty()) break;
      ++end;
    }
    const Ints list = problem.List(n);
    for (size_t i = 0; i < list.size() * depth; ++i) {
      float& to = dw[list[i / depth] * depth + i % depth];
      to = reference::ProductOnto(
               Narrow(to), end - n,
               [&](size_t r) { return g[n + r][i / depth]; },
               [&](size_t r) { return problem.x[(n + r) * depth + i % depth]; })
               .value;
    }
  }
  ASSERT_EQ(vocabulary, 29);
  ExpectSameBits(got.dx, dx, "dx");
  ExpectSameBits(got.dw, dw, "dw");
}

TEST(HeadTest, BackwardAgreesWithComplexStep) {
  using Complex = std::complex<double>;
  constexpr double kStep = 1e-40;
  Problem problem(7, 21, 5, 0.8f);
  const Result got = problem.Run(Machines().back(), problem.rows);
  std::vector<Complex> inputs[] = {As<Complex>(problem.x),
                                   As<Complex>(problem.w)};
  const std::vector<float>* gradients[] = {&got.dx, &got.dw};
  for (int which = 0; which < 2; ++which) {
    for (size_t i = 0; i < inputs[which].size(); ++i) {
      inputs[which][i] += Complex(0, kStep);
      double want = 0;
      for (int64_t n = 0; n < problem.rows; ++n) {
        const Complex logp = reference::LogProb<Complex>(
            inputs[0], inputs[1], problem.depth, n, problem.targets[n],
            problem.Kept(n), problem.temperature, nullptr);
        want += logp.imag() / kStep * problem.dlogp[n];
      }
      inputs[which][i] -= Complex(0, kStep);
      ASSERT_NEAR((*gradients[which])[i], want, 2e-5)
          << "input " << which << " element " << i;
    }
  }
}

TEST(HeadTest, BitsDependOnNeitherTierThreadsNorBatch) {
  constexpr int64_t kDepths[] = {1, 19, 64};
  for (const auto& [depth, type] : InBothTypes(kDepths)) {
    Problem problem(33, 131, depth, 0.85f, type);
    const Result want = problem.Run(Machines().front(), problem.rows);
    for (const Machine& machine : Machines(problem.type)) {
      for (const int64_t batch : {1, 2, 3, 8, 33}) {
        const Result got = problem.Run(machine, batch);
        ExpectSameBits(got.logp, want.logp, "logp");
        ExpectSameBits(got.lse, want.lse, "lse");
        ExpectSameBits(got.entropy, want.entropy, "entropy");
        ExpectSameBits(got.dx, want.dx, "dx");
        ExpectSameBits(got.dw, want.dw, "dw");
      }
    }
  }
}

TEST(HeadTest, ShapesAreHeld) {
  using namespace sizes;
  Memory m;
  const WeightSpec w = {.out = V, .in = D};
  using L = LogProbArgs;
  ExpectShapesAreHeld<L>(&Backend::LogProb,
                         {.x = m.F({N, D}),
                          .targets = m.I({N}),
                          .kept_offsets = m.I({N + 1}),
                          .kept_ids = m.I({1}),
                          .logp = m.F({N}),
                          .lse = m.F({N}),
                          .entropy = m.F({N})},
                         {{"x", &L::x, {0, 1}},
                          {"targets", &L::targets, {0}},
                          {"kept_offsets", &L::kept_offsets, {0}},
                          {"logp", &L::logp, {0}},
                          {"lse", &L::lse, {0}},
                          {"entropy", &L::entropy, {0}}},
                         w);
  using B = LogProbBackwardArgs;
  ExpectShapesAreHeld<B>(&Backend::LogProbBackward,
                         {.x = m.F({N, D}),
                          .targets = m.I({N}),
                          .kept_offsets = m.I({N + 1}),
                          .kept_ids = m.I({1}),
                          .lse = m.F({N}),
                          .dlogp = m.F({N}),
                          .dx = m.F({N, D}),
                          .dw = m.F({V, D})},
                         {{"x", &B::x, {0, 1}},
                          {"targets", &B::targets, {0}},
                          {"kept_offsets", &B::kept_offsets, {0}},
                          {"lse", &B::lse, {0}},
                          {"dlogp", &B::dlogp, {0}},
                          {"dx", &B::dx, {0, 1}},
                          {"dw", &B::dw, {0, 1}}},
                         w);
}

}  // namespace
}  // namespace temper
