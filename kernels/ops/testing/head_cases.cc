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
#include "kernels/reference/head.h"

namespace temper {
namespace {

struct Result {
  std::vector<float> logp, lse, entropy, dx, dw;
};

// Rows with kept sets of every size, whole rows between them.
struct Problem {
  Problem(int64_t rows_in, int64_t vocabulary_in, int64_t depth_in,
          float temperature_in)
      : rows(rows_in),
        vocabulary(vocabulary_in),
        depth(depth_in),
        temperature(temperature_in),
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
    auto weight = backend->NewWeight({.out = vocabulary, .in = depth});
    CHECK(weight.ok());
    backend->SetWeight(View(w, {1, vocabulary, depth}), weight->get());
    return std::move(*weight);
  }

  Result Run(const Machine& machine, int64_t batch) {
    Backend* const backend = machine.backend;
    const auto weight = Pack(backend);
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
                        .targets = target,
                        .kept_offsets = offset_view,
                        .kept_ids = kept_view,
                        .temperature = temperature,
                        .logp = part(View(out.logp, {rows})),
                        .lse = lse,
                        .entropy = part(View(out.entropy, {rows}))});
      backend->LogProbBackward({.x = xs,
                                .w = weight.get(),
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

  int64_t rows, vocabulary, depth;
  float temperature;
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
  for (const int64_t depth : {1, 19, 64}) {
    Problem problem(33, 131, depth, 0.85f);
    const Result want = problem.Run(Machines().front(), problem.rows);
    for (const Machine& machine : Machines()) {
      for (const int64_t batch : {1, 2, 3, 8, 33}) {
        const Result got = problem.Run(machine, batch);
        ASSERT_EQ(got.logp, want.logp);
        ASSERT_EQ(got.lse, want.lse);
        ASSERT_EQ(got.entropy, want.entropy);
        ASSERT_EQ(got.dx, want.dx);
        ASSERT_EQ(got.dw, want.dw);
      }
    }
  }
}

// --- Sampler and learner -----------------------------------------------------

struct Sampled {
  std::vector<float> logits, logp;
  std::vector<int32_t> ids, kept, counts;
};

Sampled SampleRows(Problem* problem, const Machine& machine,
                   const SampleOptions& options, int64_t batch) {
  Backend* const backend = machine.backend;
  const auto weight = problem->Pack(backend);
  const int64_t rows = problem->rows;
  std::vector<float> uniforms(rows);
  for (int64_t n = 0; n < rows; ++n) {
    uniforms[n] = Uniform({.seed = 9, .ordinal = static_cast<uint32_t>(n)});
  }
  Sampled out;
  out.logits.resize(rows * problem->vocabulary);
  out.logp.resize(rows);
  out.ids.resize(rows);
  out.kept.resize(rows * options.kept_max);
  out.counts.resize(rows, 7);
  for (int64_t n = 0; n < rows; n += batch) {
    const int64_t end = std::min(n + batch, rows);
    const auto part = [&](Tensor t) { return t.Slice(0, n, end); };
    const Tensor logits = part(View(out.logits, {rows, problem->vocabulary}));
    backend->Linear(part(View(problem->x, {rows, problem->depth})), *weight,
                    Use::kForward, logits);
    backend->Sample({.logits = logits,
                     .uniforms = part(View(uniforms, {rows})),
                     .options = options,
                     .ids = part(View(out.ids, {rows})),
                     .logp = part(View(out.logp, {rows})),
                     .kept_ids = part(View(out.kept, {rows, options.kept_max})),
                     .kept_counts = part(View(out.counts, {rows}))});
  }
  return out;
}

std::vector<SampleOptions> Rules() {
  std::vector<SampleOptions> rules;
  SampleOptions options;
  options.kept_max = 100;
  rules.push_back(options);  // nothing is truncated
  options.temperature = 0.7f;
  options.top_p = 0.9f;
  rules.push_back(options);
  options.top_k = 20;
  rules.push_back(options);
  options.min_p = 0.05f;
  rules.push_back(options);
  options.top_p = 0;
  options.top_k = 0;
  options.min_p = 0.001f;
  rules.push_back(options);
  options = SampleOptions();
  options.top_k = 120;
  options.kept_max = 40;
  options.top_p = 0.999f;
  options.temperature = 3;
  rules.push_back(options);
  return rules;
}

// The zero-mismatch promise at the level of these kernels.
TEST(HeadTest, LearnersLogProbHasTheSamplersBits) {
  for (const SampleOptions& options : Rules()) {
    Problem problem(33, 131, 37, options.temperature);
    for (const Machine& sampler : Machines()) {
      const Sampled sampled = SampleRows(&problem, sampler, options, 3);
      problem.offsets.assign(1, 0);
      problem.ids.clear();
      for (int64_t n = 0; n < problem.rows; ++n) {
        const auto begin = sampled.kept.begin() + n * options.kept_max;
        problem.ids.insert(problem.ids.end(), begin, begin + sampled.counts[n]);
        problem.offsets.push_back(static_cast<int32_t>(problem.ids.size()));
      }
      problem.targets = sampled.ids;
      for (const Machine& learner : {Machines().front(), Machines().back()}) {
        ASSERT_EQ(problem.Run(learner, problem.rows).logp, sampled.logp);
      }
    }
  }
}

TEST(HeadTest, KeptSetsAreThoseOfTheReference) {
  for (const SampleOptions& options : Rules()) {
    Problem problem(33, 131, 37, 1);
    const Sampled sampled =
        SampleRows(&problem, Machines().back(), options, problem.rows);
    for (int64_t n = 0; n < problem.rows; ++n) {
      const auto row = sampled.logits.begin() + n * problem.vocabulary;
      const std::vector<int32_t> want =
          reference::KeptSet(std::vector<double>(row, row + problem.vocabulary),
                             {options.temperature, options.top_k, options.top_p,
                              options.min_p, options.kept_max});
      const int64_t count = sampled.counts[n];
      if (static_cast<int64_t>(want.size()) == problem.vocabulary) {
        ASSERT_EQ(count, 0);
        continue;
      }
      const auto begin = sampled.kept.begin() + n * options.kept_max;
      ASSERT_EQ(std::vector<int32_t>(begin, begin + count), want);
      ASSERT_THAT(want, testing::Contains(sampled.ids[n]));
    }
  }
}

TEST(HeadTest, SamplesDependOnNeitherTierThreadsNorBatch) {
  for (const SampleOptions& options : Rules()) {
    Problem problem(33, 131, 37, 1);
    const Sampled want = SampleRows(&problem, Machines().front(), options, 33);
    for (const Machine& machine : Machines()) {
      for (const int64_t batch : {1, 2, 3, 8, 33}) {
        const Sampled got = SampleRows(&problem, machine, options, batch);
        ASSERT_EQ(got.ids, want.ids);
        ASSERT_EQ(got.logp, want.logp);
        ASSERT_EQ(got.kept, want.kept);
        ASSERT_EQ(got.counts, want.counts);
      }
    }
  }
}

// One row of logits, many uniforms.
struct Draws {
  std::vector<int32_t> ids, counts, kept;
};

Draws DrawEvenly(const std::vector<float>& row, const SampleOptions& options,
                 int64_t draws) {
  Backend* const backend = Machines().back().backend;
  const auto vocabulary = static_cast<int64_t>(row.size());
  std::vector<float> logits;
  std::vector<float> uniforms;
  for (int64_t n = 0; n < draws; ++n) {
    logits.insert(logits.end(), row.begin(), row.end());
    uniforms.push_back((static_cast<float>(n) + 0.5f) /
                       static_cast<float>(draws));
  }
  Draws out;
  out.ids.resize(draws);
  out.counts.resize(draws);
  out.kept.resize(draws * options.kept_max);
  std::vector<float> logp(draws);
  backend->Sample({.logits = View(logits, {draws, vocabulary}),
                   .uniforms = View(uniforms, {draws}),
                   .options = options,
                   .ids = View(out.ids, {draws}),
                   .logp = View(logp, {draws}),
                   .kept_ids = View(out.kept, {draws, options.kept_max}),
                   .kept_counts = View(out.counts, {draws})});
  return out;
}

TEST(HeadTest, EvenUniformsGiveEachTokenItsProbability) {
  const std::vector<float> row = {0.0f, std::log(2.0f), std::log(5.0f),
                                  -INFINITY, std::log(8.0f)};
  const Draws draws = DrawEvenly(row, SampleOptions(), 1600);
  const int64_t want[] = {100, 200, 500, 0, 800};
  for (int32_t id = 0; id < 5; ++id) {
    EXPECT_NEAR(std::count(draws.ids.begin(), draws.ids.end(), id), want[id],
                1);
  }
}

TEST(HeadTest, TheTokenThatCrossesTopPIsKeptAndTiesGoToTheLowerId) {
  SampleOptions options;
  options.top_p = 0.6f;
  options.kept_max = 4;
  // Four equal tokens: 0.25, 0.5, 0.75 >= 0.6.
  const Draws equal = DrawEvenly({1, 1, 1, 1}, options, 1);
  EXPECT_EQ(equal.counts[0], 3);
  EXPECT_THAT(equal.kept, testing::ElementsAre(0, 1, 2, -1));
  options.top_p = 1;
  options.top_k = 2;
  const Draws tied = DrawEvenly({0, 3, -0.0f, 0}, options, 1);
  EXPECT_EQ(tied.counts[0], 2);
  EXPECT_THAT(tied.kept, testing::ElementsAre(0, 1, -1, -1));
}

TEST(HeadTest, KeptMaxLimitsATruncatedRowOnly) {
  SampleOptions options;
  options.kept_max = 3;
  EXPECT_EQ(DrawEvenly({1, 1, 1, 1, 1}, options, 1).counts[0], 0);
  options.top_p = 0.99f;
  EXPECT_EQ(DrawEvenly({1, 1, 1, 1, 1}, options, 1).counts[0], 3);
}

}  // namespace
}  // namespace temper
