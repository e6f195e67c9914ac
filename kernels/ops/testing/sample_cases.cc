#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/ops/testing/key_case.h"
#include "kernels/ops/testing/shape_case.h"
#include "kernels/reference/head.h"

namespace temper {
namespace {

// Hidden states and a head, from which rows are sampled.
struct Problem {
  static constexpr int64_t kRows = 33, kVocabulary = 131, kDepth = 37;

  Floats x = Normals(1, kRows* kDepth);
  Floats w = Normals(2, kVocabulary* kDepth);
};

uint32_t WordOf(int64_t n) {
  return RandomWords({.seed = 9, .ordinal = static_cast<uint32_t>(n)})[0];
}

// As many rows of one kind, as they lie on a device.
Ints RowsOf(const SampleOptions& options, int64_t count, int32_t keep = 1) {
  SampleRow row;
  row.options = options;
  row.keep = keep;
  Ints rows(count * kSampleRowInts);
  for (int64_t n = 0; n < count; ++n) {
    row.ordinal = static_cast<uint32_t>(n);
    std::memcpy(&rows[n * kSampleRowInts], &row, sizeof(row));
  }
  return rows;
}

struct Sampled {
  Floats logits, logp;
  Ints ids, kept, counts;

  Ints Kept(int64_t n, const SampleOptions& options) const {
    const auto begin = kept.begin() + n * options.kept_max;
    return Ints(begin, begin + counts[n]);
  }
};

Sampled SampleRows(Problem* problem, const Machine& machine,
                   const SampleOptions& options, int64_t batch,
                   int32_t keep = 1) {
  constexpr int64_t kRows = Problem::kRows;
  Ints rows = RowsOf(options, kRows, keep);
  Backend* const backend = machine.backend;
  const auto weight =
      Pack(*backend, problem->w, 1, Problem::kVocabulary, Problem::kDepth);
  Ints words;
  for (int64_t n = 0; n < kRows; ++n) {
    words.push_back(static_cast<int32_t>(WordOf(n)));
  }
  Sampled out;
  out.logits.resize(kRows * Problem::kVocabulary);
  out.logp.resize(kRows);
  out.ids.resize(kRows);
  out.kept.resize(kRows * options.kept_max);
  out.counts.resize(kRows, 7);
  for (int64_t n = 0; n < kRows; n += batch) {
    const int64_t end = std::min(n + batch, kRows);
    const auto part = [&](Tensor t) { return t.Slice(0, n, end); };
    const Tensor logits = part(View(out.logits, {kRows, Problem::kVocabulary}));
    backend->Linear(part(View(problem->x, {kRows, Problem::kDepth})), *weight,
                    Use::kForward, logits);
    backend->Sample(
        {.logits = logits,
         .rows = part(View(rows, {kRows, kSampleRowInts})),
         .words = part(View(words, {kRows})),
         .ids = part(View(out.ids, {kRows})),
         .logp = part(View(out.logp, {kRows})),
         .kept_ids = part(View(out.kept, {kRows, options.kept_max})),
         .kept_counts = part(View(out.counts, {kRows}))});
  }
  return out;
}

// What a learner makes of the record.
Floats LearnersLogProbs(Problem* problem, const Machine& machine,
                        const SampleOptions& options, Sampled* sampled) {
  constexpr int64_t kRows = Problem::kRows;
  Backend* const backend = machine.backend;
  const auto weight =
      Pack(*backend, problem->w, 1, Problem::kVocabulary, Problem::kDepth);
  Ints offsets = {0}, ids;
  for (int64_t n = 0; n < kRows; ++n) {
    const Ints kept = sampled->Kept(n, options);
    ids.insert(ids.end(), kept.begin(), kept.end());
    offsets.push_back(static_cast<int32_t>(ids.size()));
  }
  Floats logp(kRows), lse(kRows), entropy(kRows);
  const auto count = static_cast<int64_t>(ids.size());
  backend->LogProb(
      {.x = View(problem->x, {kRows, Problem::kDepth}),
       .w = weight.get(),
       .rows = View(problem->w, {Problem::kVocabulary, Problem::kDepth}),
       .targets = View(sampled->ids, {kRows}),
       .kept_offsets = View(offsets, {kRows + 1}),
       .kept_ids = count == 0 ? Tensor() : View(ids, {count}),
       .temperature = options.temperature,
       .logp = View(logp, {kRows}),
       .lse = View(lse, {kRows}),
       .entropy = View(entropy, {kRows})});
  return logp;
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
  options.top_p = 0.95f;
  options.min_p = 0.02f;
  rules.push_back(options);
  options = SampleOptions();
  options.top_p = 1e-14f;  // floor(top_p 2^40) is 0: the first by rank stays
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
TEST(SampleTest, LearnersLogProbHasTheSamplersBits) {
  for (const SampleOptions& options : Rules()) {
    Problem problem;
    for (const Machine& sampler : Machines()) {
      Sampled sampled = SampleRows(&problem, sampler, options, 3);
      for (const Machine& learner : {Machines().front(), Machines().back()}) {
        ExpectSameBits(LearnersLogProbs(&problem, learner, options, &sampled),
                       sampled.logp, "logp");
      }
    }
  }
}

// What is dropped changes neither the token nor the bits that a learner without
// the set comes to.
TEST(SampleTest, ADroppedSetIsNotRecordedAndLogpIsOverTheWholeVocabulary) {
  for (const SampleOptions& options : Rules()) {
    Problem problem;
    for (const Machine& machine : Machines()) {
      const Sampled kept = SampleRows(&problem, machine, options, 3);
      Sampled dropped = SampleRows(&problem, machine, options, 3, /*keep=*/0);
      EXPECT_EQ(dropped.ids, kept.ids);
      EXPECT_EQ(dropped.counts, Ints(Problem::kRows, 0));
      ExpectSameBits(LearnersLogProbs(&problem, machine, options, &dropped),
                     dropped.logp, "logp of dropped sets");
    }
  }
}

// Rows of unlike kinds in one batch come to what each alone does.
TEST(SampleTest, RowsOfUnlikeOptionsShareABatch) {
  const std::vector<SampleOptions> rules = Rules();
  const Machine machine = Machines().back();
  const auto count = static_cast<int64_t>(rules.size());
  Floats logits = Normals(4, count * Problem::kVocabulary);
  Ints rows, words;
  int32_t widest = 0;
  for (int64_t n = 0; n < count; ++n) {
    const Ints row = RowsOf(rules[n], 1, n % 2);
    rows.insert(rows.end(), row.begin(), row.end());
    words.push_back(static_cast<int32_t>(WordOf(n)));
    widest = std::max(widest, rules[n].kept_max);
  }
  const auto run = [&](int64_t begin, int64_t end) {
    Ints ids(count), counts(count), kept(count * widest);
    Floats logp(count);
    const auto part = [&](Tensor t) { return t.Slice(0, begin, end); };
    machine.backend->Sample(
        {.logits = part(View(logits, {count, Problem::kVocabulary})),
         .rows = part(View(rows, {count, kSampleRowInts})),
         .words = part(View(words, {count})),
         .ids = part(View(ids, {count})),
         .logp = part(View(logp, {count})),
         .kept_ids = part(View(kept, {count, widest})),
         .kept_counts = part(View(counts, {count}))});
    return std::tuple(ids, counts, kept, logp);
  };
  const auto [ids, counts, kept, logp] = run(0, count);
  for (int64_t n = 0; n < count; ++n) {
    const auto [id, one, set, own] = run(n, n + 1);
    EXPECT_EQ(id[n], ids[n]);
    EXPECT_EQ(one[n], counts[n]);
    EXPECT_EQ(std::memcmp(&own[n], &logp[n], sizeof(float)), 0);
    EXPECT_TRUE(std::equal(set.begin() + n * widest,
                           set.begin() + (n + 1) * widest,
                           kept.begin() + n * widest));
  }
}

TEST(SampleTest, ARowThatCannotBeSampledIsAFault) {
  constexpr int64_t kVocabulary = 5, kKept = 3;
  for (const auto& [name, backend] : BackendsUnderTest()) {
    Backend& device = *backend;
    const auto fault = [&](float temperature, int32_t kept_max) {
      SampleOptions options;
      options.temperature = temperature;
      options.kept_max = kept_max;
      Ints rows = RowsOf(options, 1), words = {1}, ids(1), counts(1);
      Ints kept(kKept);
      Floats logits = Normals(4, kVocabulary), logp(1);
      device.Sample({.logits = View(logits, {1, kVocabulary}),
                     .rows = View(rows, {1, kSampleRowInts}),
                     .words = View(words, {1}),
                     .ids = View(ids, {1}),
                     .logp = View(logp, {1}),
                     .kept_ids = View(kept, {1, kKept}),
                     .kept_counts = View(counts, {1})});
      return device.Sync();
    };
    EXPECT_TRUE(fault(1, kKept).ok()) << name;
    for (const float temperature : {0.0f, -1.0f, NAN}) {
      EXPECT_EQ(fault(temperature, kKept), StatusOf(DeviceFault::kSampleRow))
          << name;
    }
    EXPECT_EQ(fault(1, 0), StatusOf(DeviceFault::kSampleRow)) << name;
    EXPECT_EQ(fault(1, kKept + 1), StatusOf(DeviceFault::kSampleRow)) << name;
  }
}

TEST(DrawWordsTest, EachIsTheFirstWordOfItsKey) {
  SampleRow row;
  row.seed = 0x123456789abcdefull;
  row.group = 77;
  row.sample = 5;
  row.ordinal = 9;
  Ints rows(3 * kSampleRowInts), words(3);
  for (int n = 0; n < 3; ++n) {
    row.ordinal += n;
    std::memcpy(&rows[n * kSampleRowInts], &row, sizeof(row));
    const auto want = RandomWords({row.seed, RngPurpose::kSampleToken,
                                   row.group, row.sample, row.ordinal});
    for (const auto& [name, backend] : BackendsUnderTest()) {
      backend->DrawWords(View(rows, {3, kSampleRowInts}), View(words, {3}));
      EXPECT_EQ(static_cast<uint32_t>(words[n]), want[0]) << name;
    }
  }
}

// Masses are integers, so kept sets and tokens are the reference's exactly.
TEST(SampleTest, KeptSetsAndTokensAreThoseOfTheReference) {
  for (const SampleOptions& options : Rules()) {
    Problem problem;
    const Sampled sampled =
        SampleRows(&problem, Machines().back(), options, Problem::kRows);
    for (int64_t n = 0; n < Problem::kRows; ++n) {
      const auto row = sampled.logits.begin() + n * Problem::kVocabulary;
      Floats z(row, row + Problem::kVocabulary);
      for (float& value : z) value /= options.temperature;
      const Ints want = reference::KeptSet(
          z, {options.top_k, options.top_p, options.min_p, options.kept_max});
      ASSERT_EQ(sampled.ids[n], reference::SampledId(z, want, WordOf(n)));
      if (static_cast<int64_t>(want.size()) == Problem::kVocabulary) {
        ASSERT_EQ(sampled.counts[n], 0);
      } else {
        ASSERT_EQ(sampled.Kept(n, options), want);
      }
    }
  }
}

TEST(SampleTest, SamplesDependOnNeitherTierThreadsNorBatch) {
  for (const SampleOptions& options : Rules()) {
    Problem problem;
    const Sampled want =
        SampleRows(&problem, Machines().front(), options, Problem::kRows);
    for (const Machine& machine : Machines()) {
      for (const int64_t batch : {1, 2, 3, 8, 33}) {
        const Sampled got = SampleRows(&problem, machine, options, batch);
        ASSERT_EQ(got.ids, want.ids);
        ExpectSameBits(got.logp, want.logp, "logp");
        ASSERT_EQ(got.kept, want.kept);
        ASSERT_EQ(got.counts, want.counts);
      }
    }
  }
}

// One row of logits, many draws.
struct Draws {
  Ints ids, counts, kept;
};

Draws Draw(const Floats& row, const SampleOptions& options, Ints words,
           Backend* backend = Machines().back().backend) {
  const auto vocabulary = static_cast<int64_t>(row.size());
  const auto draws = static_cast<int64_t>(words.size());
  Floats logits;
  for (int64_t n = 0; n < draws; ++n) {
    logits.insert(logits.end(), row.begin(), row.end());
  }
  Draws out;
  out.ids.resize(draws);
  out.counts.resize(draws);
  out.kept.resize(draws * options.kept_max);
  Floats logp(draws);
  Ints rows = RowsOf(options, draws);
  backend->Sample({.logits = View(logits, {draws, vocabulary}),
                   .rows = View(rows, {draws, kSampleRowInts}),
                   .words = View(words, {draws}),
                   .ids = View(out.ids, {draws}),
                   .logp = View(logp, {draws}),
                   .kept_ids = View(out.kept, {draws, options.kept_max}),
                   .kept_counts = View(out.counts, {draws})});
  return out;
}

// Words spread evenly over all there are.
Ints EvenWords(int64_t count) {
  Ints words;
  for (int64_t n = 0; n < count; ++n) {
    words.push_back(static_cast<int32_t>(
        static_cast<uint32_t>((static_cast<uint64_t>(2 * n + 1) << 31) /
                              static_cast<uint64_t>(count))));
  }
  return words;
}

TEST(SampleTest, EvenWordsGiveEachTokenItsProbability) {
  const Floats row = {0.0f, std::log(2.0f), std::log(5.0f), -INFINITY,
                      std::log(8.0f)};
  const Draws draws = Draw(row, SampleOptions(), EvenWords(1600));
  const int64_t want[] = {100, 200, 500, 0, 800};
  for (int32_t id = 0; id < 5; ++id) {
    EXPECT_NEAR(std::count(draws.ids.begin(), draws.ids.end(), id), want[id],
                1);
  }
}

// Two equal tokens: half of the words each, to the word.
TEST(SampleTest, TheFirstWhoseRunningMassExceedsTheGoalIsTaken) {
  const Draws draws =
      Draw({1, 1}, SampleOptions(), {0, 0x7fffffff, INT32_MIN, -1});
  EXPECT_THAT(draws.ids, testing::ElementsAre(0, 0, 1, 1));
}

TEST(SampleTest, TheTokenThatCrossesTopPIsKeptAndTiesGoToTheLowerId) {
  SampleOptions options;
  options.top_p = 0.6f;
  options.kept_max = 4;
  // Four equal tokens: 0.25, 0.5, 0.75 >= 0.6.
  const Draws equal = Draw({1, 1, 1, 1}, options, {5});
  EXPECT_EQ(equal.counts[0], 3);
  EXPECT_THAT(equal.kept, testing::ElementsAre(0, 1, 2, -1));
  options.top_p = 0.5f;  // reached exactly, and no more is taken
  EXPECT_THAT(Draw({1, 1, 1, 1}, options, {5}).kept,
              testing::ElementsAre(0, 1, -1, -1));
  options.top_p = 1;
  options.top_k = 2;
  const Draws tied = Draw({0, 3, -0.0f, 0}, options, {5});
  EXPECT_EQ(tied.counts[0], 2);
  EXPECT_THAT(tied.kept, testing::ElementsAre(0, 1, -1, -1));
}

TEST(SampleTest, ANanRanksLastWhateverItsSign) {
  const auto no_number = [](uint32_t bits) {
    return std::bit_cast<float>(bits);
  };
  const Floats row = {1,
                      no_number(0x7fffffff),
                      2,
                      no_number(0xffc00000),
                      -INFINITY,
                      no_number(0x7fc12345),
                      no_number(0xffffffff),
                      3};
  SampleOptions options;
  options.kept_max = 5;
  for (const auto& [name, backend] : BackendsUnderTest()) {
    options.top_k = 4;
    EXPECT_THAT(Draw(row, options, {-1}, backend.get()).kept,
                testing::ElementsAre(0, 2, 4, 7, -1))
        << name;
    options.top_k = 5;  // of those that tie, the first
    const Draws five = Draw(row, options, {-1}, backend.get());
    EXPECT_THAT(five.kept, testing::ElementsAre(0, 1, 2, 4, 7)) << name;
    EXPECT_EQ(five.ids[0], 7) << name << ": it has no mass";
  }
}

TEST(SampleTest, KeptMaxLimitsATruncatedRowOnly) {
  SampleOptions options;
  options.kept_max = 3;
  EXPECT_EQ(Draw({1, 1, 1, 1, 1}, options, {5}).counts[0], 0);
  options.top_p = 0.99f;
  EXPECT_EQ(Draw({1, 1, 1, 1, 1}, options, {5}).counts[0], 3);
}

TEST(SampleTest, ShapesAreHeld) {
  using namespace sizes;
  Memory m;
  using S = SampleArgs;
  ExpectShapesAreHeld<S>(&Backend::Sample,
                         {.logits = m.F({N, V}),
                          .rows = m.I({N, kSampleRowInts}, RowsOf({}, N)),
                          .words = m.I({N}),
                          .ids = m.I({N}),
                          .logp = m.F({N}),
                          .kept_ids = m.I({N, kKeptMax}),
                          .kept_counts = m.I({N})},
                         {{"logits", &S::logits, {0}},
                          {"rows", &S::rows, {0, 1}},
                          {"words", &S::words, {0}},
                          {"ids", &S::ids, {0}},
                          {"logp", &S::logp, {0}},
                          {"kept_ids", &S::kept_ids, {0}},
                          {"kept_counts", &S::kept_counts, {0}}});
}

}  // namespace
}  // namespace temper
