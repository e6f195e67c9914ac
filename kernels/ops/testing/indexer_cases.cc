#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <cstdint>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/ops/testing/key_case.h"
#include "kernels/ops/testing/shape_case.h"
#include "kernels/reference/indexer.h"

namespace temper {
namespace {

struct Shape {
  int64_t queries, sequences, heads, dims, top_k;
};

const Shape kShapes[] = {
    {5, 1, 1, 1, 1},    {7, 2, 4, 16, 64},  {9, 2, 3, 29, 13},
    {6, 1, 2, 32, 200}, {33, 3, 5, 24, 65}, {10, 2, 2, 128, 40},
};

constexpr DType kTypes[] = {DType::kF32, DType::kBF16, DType::kF8E4M3};

constexpr int64_t kKeysMax = KeyCase::kLength + 3;

struct Selection {
  std::vector<int32_t> selected;
  std::vector<float> scores;
};

struct Problem {
  explicit Problem(const Shape& s, DType keys_type = DType::kF32)
      : shape(s),
        type(keys_type),
        keys_case(s.queries, s.sequences, 12),
        q(Normals(1, s.queries * s.heads * s.dims)),
        w(Normals(2, s.queries * s.heads)),
        keys(Normals(3, keys_case.logical_keys() * s.dims)) {}

  Selection Run(const Machine& machine, int64_t batch, bool tap) {
    Backend* const backend = machine.backend;
    KeyStrip strip =
        KeyStrip::Index(keys_case.Strip(keys, shape.dims, machine.page_tokens),
                        shape.dims, type);
    Selection out;
    out.selected.resize(shape.queries * shape.top_k, 7);
    if (tap) out.scores.resize(shape.queries * kKeysMax, 7.0f);
    for (int64_t n = 0; n < shape.queries; n += batch) {
      const int64_t end = std::min(n + batch, shape.queries);
      backend->IndexerSelect(
          {.q = View(q, {shape.queries, shape.heads, shape.dims})
                    .Slice(0, n, end),
           .w = View(w, {shape.queries, shape.heads}).Slice(0, n, end),
           .keys = strip.View(),
           .map = keys_case.Map(machine.page_tokens, n, end - n),
           .selected = View(out.selected, {shape.queries, shape.top_k})
                           .Slice(0, n, end),
           .scores = tap ? View(out.scores, {shape.queries, kKeysMax})
                               .Slice(0, n, end)
                         : Tensor()});
    }
    return out;
  }

  Shape shape;
  DType type;
  KeyCase keys_case;
  std::vector<float> q, w, keys;
};

TEST(IndexerTest, ScoresAgreeWithTheReferenceAndEndAtThePosition) {
  for (const Shape& shape : kShapes) {
    Problem problem(shape);
    const Selection got = problem.Run(Machines().back(), shape.queries, true);
    const reference::IndexerShape index = {shape.heads, shape.dims};
    for (int64_t n = 0; n < shape.queries; ++n) {
      const KeyCase& keys = problem.keys_case;
      for (int64_t j = 0; j < kKeysMax; ++j) {
        const float score = got.scores[n * kKeysMax + j];
        if (j > keys.position(n)) {
          ASSERT_EQ(score, -HUGE_VALF);
          continue;
        }
        const auto row =
            static_cast<int32_t>(keys.sequence(n) * KeyCase::kLength + j);
        const double want = reference::IndexScore(
            index, As<double>(problem.q), As<double>(problem.w),
            As<double>(problem.keys), n, row);
        ASSERT_EQ(score, reference::IndexScore(index, problem.q, problem.w,
                                               problem.keys, n, row));
        ASSERT_NEAR(score, want,
                    6e-8 * static_cast<double>(shape.dims + shape.heads) *
                        std::sqrt(static_cast<double>(shape.dims)) * 16);
      }
    }
  }
}

TEST(IndexerTest, ScoresOfNarrowKeysHaveTheBitsOfTheReference) {
  using reference::Narrow;
  for (const Shape& shape : kShapes) {
    Problem problem(shape, DType::kBF16);
    const Selection got = problem.Run(Machines().front(), shape.queries, true);
    const KeyCase& keys = problem.keys_case;
    for (int64_t n = 0; n < shape.queries; ++n) {
      for (int64_t j = 0; j <= keys.position(n); ++j) {
        ASSERT_EQ(
            got.scores[n * kKeysMax + j],
            reference::IndexScore(
                {shape.heads, shape.dims}, As<Narrow>(problem.q),
                As<Narrow>(problem.w), As<Narrow>(problem.keys), n,
                static_cast<int32_t>(keys.sequence(n) * KeyCase::kLength + j))
                .value);
      }
    }
  }
}

TEST(IndexerTest, ScoresOfQuantisedKeysHaveTheBitsOfTheReference) {
  using reference::QuantiseRows;
  for (const Shape& shape : kShapes) {
    Problem problem(shape, DType::kF8E4M3);
    for (size_t i = 0; i < problem.w.size(); i += 5) problem.w[i] = 0x1p-110f;
    const Selection got = problem.Run(Machines().front(), shape.queries, true);
    const KeyCase& keys = problem.keys_case;
    const int64_t each = shape.heads * shape.dims;
    for (int64_t n = 0; n < shape.queries; ++n) {
      const auto q = problem.q.begin() + n * each;
      const auto w = problem.w.begin() + n * shape.heads;
      const auto k = problem.keys.begin() +
                     keys.sequence(n) * KeyCase::kLength * shape.dims;
      const int64_t seen = keys.position(n) + 1;
      ExpectSameBits(
          {got.scores.begin() + n * kKeysMax,
           got.scores.begin() + n * kKeysMax + seen},
          reference::IndexScores(
              QuantiseRows({q, q + each}, shape.dims), {w, w + shape.heads},
              QuantiseRows({k, k + seen * shape.dims}, shape.dims)),
          "I");
    }
  }
}

void ExpectTopKOfItsScores(const Problem& problem, const Selection& got,
                           const std::string& machine) {
  const int64_t top_k = problem.shape.top_k;
  for (int64_t n = 0; n < problem.shape.queries; ++n) {
    const float* row = got.scores.data() + n * kKeysMax;
    std::vector<int32_t> want = reference::TopK(
        std::vector<float>(row, row + problem.keys_case.position(n) + 1),
        top_k);
    want.resize(top_k, -1);
    const auto begin = got.selected.begin() + n * top_k;
    ASSERT_EQ(std::vector<int32_t>(begin, begin + top_k), want)
        << machine << ", query " << n;
  }
}

TEST(IndexerTest, SelectsTheTopKOfItsOwnScoresExactly) {
  for (const Shape& shape : kShapes) {
    Problem problem(shape, kTypes[shape.queries % 3]);
    const Machine machine = Machines(problem.type).back();
    ExpectTopKOfItsScores(problem, problem.Run(machine, shape.queries, true),
                          machine.name);
  }
}

TEST(IndexerTest, TiesGoToTheLowestPositionAndZeroHasNoSign) {
  Problem problem({40, 1, 1, 2, 5});
  // Scores of few values, zeros from the ReLU and from -0 * x among them.
  for (size_t i = 0; i < problem.keys.size(); ++i) {
    problem.keys[i] = i % 2 == 0 ? static_cast<float>(i / 2 % 3) - 1 : 0.0f;
  }
  for (size_t i = 0; i < problem.w.size(); ++i) {
    problem.w[i] = i % 3 == 0 ? -1.0f : i % 3 == 1 ? -0.0f : 1.0f;
  }
  for (const Machine& machine : Machines()) {
    ExpectTopKOfItsScores(problem, problem.Run(machine, 40, true),
                          machine.name);
  }
}

// Whatever sign and payload a device gives what is no number.
TEST(IndexerTest, NansTieBelowAllNumbers) {
  constexpr int64_t kQueries = 40;
  Problem problem({kQueries, 1, 3, 2, 5});
  for (int64_t n = 0; n < kQueries; ++n) {
    float* const w = &problem.w[n * 3];
    w[n % 3] = HUGE_VALF;  // of a product that is 0, no number
    if (n % 4 == 1) w[(n + 1) % 3] = std::bit_cast<float>(0x7fffffffu);
    if (n % 4 == 2) w[(n + 1) % 3] = std::bit_cast<float>(0xffc12345u);
    if (n % 4 == 3) w[(n + 1) % 3] = -HUGE_VALF;
  }
  const Selection want = problem.Run(Machines().front(), kQueries, true);
  for (const Machine& machine : Machines()) {
    const Selection got = problem.Run(machine, kQueries, true);
    ExpectTopKOfItsScores(problem, got, machine.name);
    ASSERT_EQ(got.selected, want.selected) << machine.name;
  }
}

TEST(IndexerTest, BitsDependOnNeitherTierThreadsPagesBatchNorTap) {
  for (const auto& [shape, type] : InEveryType(kShapes)) {
    Problem problem(shape, type);
    const Selection want = problem.Run(Machines().front(), shape.queries, true);
    for (const Machine& machine : Machines(problem.type)) {
      for (const int64_t batch : {1, 2, 3, 8, 33}) {
        const Selection got = problem.Run(machine, batch, true);
        ExpectSameBits(got.scores, want.scores, "scores");
        ASSERT_EQ(got.selected, want.selected);
        ASSERT_EQ(problem.Run(machine, batch, false).selected, want.selected);
      }
    }
  }
}

// --- The KL loss -----------------------------------------------------------

struct KlShape {
  int64_t queries, sequences, heads, dims, index_heads, index_dims, top_k;
};

struct KlResult {
  std::vector<float> kl, dq, dw, dkeys;
};

struct KlProblem {
  explicit KlProblem(const KlShape& s, DType keys_type = DType::kF32)
      : shape(s),
        type(keys_type),
        keys_case(s.queries, s.sequences, 13),
        q(Normals(1, s.queries * s.heads * s.dims)),
        keys(Normals(2, keys_case.logical_keys() * s.dims)),
        index_q(Normals(3, s.queries * s.index_heads * s.index_dims)),
        index_w(Normals(4, s.queries * s.index_heads)),
        index_keys(Normals(5, keys_case.logical_keys() * s.index_dims)),
        dkl(Normals(6, s.queries)),
        selected(keys_case.Selection(s.top_k)),
        scale(1.0f / std::sqrt(static_cast<float>(s.dims))) {}

  KlResult Run(const Machine& machine, int64_t batch) {
    Backend* const backend = machine.backend;
    const int32_t page = machine.page_tokens;
    const int64_t total = shape.queries;
    KeyStrip strip = KeyStrip::Latent(keys_case.Strip(keys, shape.dims, page),
                                      shape.dims, shape.dims - 1, type);
    KeyStrip index_strip =
        KeyStrip::Index(keys_case.Strip(index_keys, shape.index_dims, page),
                        shape.index_dims, type);
    std::vector<float> dstrip(keys_case.rows() * shape.index_dims, 0.0f);
    std::vector<float> z(total * shape.heads);
    std::vector<float> lse(total * shape.heads);
    KlResult out;
    out.kl.resize(total, 7.0f);
    out.dq.resize(index_q.size(), 7.0f);
    out.dw.resize(index_w.size(), 7.0f);
    for (int64_t n = 0; n < total; n += batch) {
      const int64_t end = std::min(n + batch, total);
      const auto part = [&](Tensor x) { return x.Slice(0, n, end); };
      const KeyMap map = keys_case.Map(page, n, end - n);
      const Tensor query = part(View(q, {total, shape.heads, shape.dims}));
      const Tensor key = strip.View();
      const Tensor chosen = part(View(selected, {total, shape.top_k}));
      const Tensor sums = part(View(lse, {total, shape.heads}));
      const Tensor iq =
          part(View(index_q, {total, shape.index_heads, shape.index_dims}));
      const Tensor iw = part(View(index_w, {total, shape.index_heads}));
      const Tensor ik = index_strip.View();
      backend->SparseMla({.q = query,
                          .keys = key,
                          .map = map,
                          .selected = chosen,
                          .scale = scale,
                          .z = part(View(z, {total, shape.heads, 1})),
                          .lse = sums});
      backend->IndexerKl({.q = query,
                          .keys = key,
                          .scale = scale,
                          .lse = sums,
                          .index_q = iq,
                          .index_w = iw,
                          .index_keys = ik,
                          .map = map,
                          .selected = chosen,
                          .kl = part(View(out.kl, {total})),
                          .rope = shape.dims - 1});
      backend->IndexerKlBackward(
          {.q = query,
           .keys = key,
           .scale = scale,
           .lse = sums,
           .index_q = iq,
           .index_w = iw,
           .index_keys = ik,
           .map = map,
           .selected = chosen,
           .dkl = part(View(dkl, {total})),
           .dindex_q =
               part(View(out.dq, {total, shape.index_heads, shape.index_dims})),
           .dindex_w = part(View(out.dw, {total, shape.index_heads})),
           .dindex_keys = View(dstrip, {keys_case.rows(), shape.index_dims}),
           .rope = shape.dims - 1});
    }
    out.dkeys = keys_case.Logical(dstrip, shape.index_dims, page);
    return out;
  }

  template <typename T>
  std::vector<T> Reference(const std::vector<T>& iq, const std::vector<T>& iw,
                           const std::vector<T>& ik) const {
    return reference::IndexerKl<T>(
        {shape.heads, 1, shape.dims - 1, scale}, As<double>(q),
        As<double>(keys), {shape.index_heads, shape.index_dims}, iq, iw, ik,
        keys_case.LogicalRows(selected, shape.top_k));
  }

  KlShape shape;
  DType type;
  KeyCase keys_case;
  std::vector<float> q, keys, index_q, index_w, index_keys, dkl;
  std::vector<int32_t> selected;
  float scale;
};

const KlShape kKlShapes[] = {
    {5, 1, 1, 2, 1, 1, 1},
    {9, 2, 3, 39, 3, 13, 17},
    {33, 3, 4, 48, 2, 16, 70},
    {6, 1, 5, 24, 4, 32, KeyCase::kLength},  // dense: every causal key
};

TEST(IndexerKlTest, AgreesWithTheReference) {
  for (const KlShape& shape : kKlShapes) {
    KlProblem problem(shape);
    const auto want = problem.Reference(As<double>(problem.index_q),
                                        As<double>(problem.index_w),
                                        As<double>(problem.index_keys));
    const KlResult got = problem.Run(Machines().back(), shape.queries);
    for (int64_t n = 0; n < shape.queries; ++n) {
      ASSERT_NEAR(got.kl[n], want[n],
                  6e-8 *
                      static_cast<double>(shape.dims + shape.index_dims +
                                          shape.top_k + 64) *
                      16 * std::max(1.0, want[n]));
    }
  }
}

TEST(IndexerKlTest, BackwardAgreesWithComplexStep) {
  using Complex = std::complex<double>;
  constexpr double kStep = 1e-40;
  KlProblem problem({7, 2, 2, 6, 3, 4, 9});
  const KlResult got = problem.Run(Machines().back(), 7);
  std::vector<Complex> inputs[] = {As<Complex>(problem.index_q),
                                   As<Complex>(problem.index_w),
                                   As<Complex>(problem.index_keys)};
  const std::vector<float>* gradients[] = {&got.dq, &got.dw, &got.dkeys};
  for (int which = 0; which < 3; ++which) {
    for (size_t i = 0; i < inputs[which].size(); ++i) {
      inputs[which][i] += Complex(0, kStep);
      const auto kl = problem.Reference(inputs[0], inputs[1], inputs[2]);
      inputs[which][i] -= Complex(0, kStep);
      double want = 0;
      for (int64_t n = 0; n < 7; ++n) {
        want += kl[n].imag() / kStep * problem.dkl[n];
      }
      ASSERT_NEAR((*gradients[which])[i], want, 2e-5)
          << "input " << which << " element " << i;
    }
  }
}

void ExpectSame(const KlResult& got, const KlResult& want) {
  ExpectSameBits(got.kl, want.kl, "kl");
  ExpectSameBits(got.dq, want.dq, "dq");
  ExpectSameBits(got.dw, want.dw, "dw");
  ExpectSameBits(got.dkeys, want.dkeys, "dkeys");
}

// A loss, and gradients, of what the codes of keys and queries stand for.
TEST(IndexerKlTest, OfQuantisedKeysItIsThatOfWhatTheyStandFor) {
  for (const KlShape& shape : kKlShapes) {
    KlProblem quantised(shape, DType::kF8E4M3);
    KlProblem narrow(shape, DType::kBF16);
    narrow.keys = KeyStrip::Latent(narrow.keys, shape.dims, shape.dims - 1,
                                   DType::kF8E4M3)
                      .read();
    narrow.index_keys =
        reference::QuantiseRows(narrow.index_keys, shape.index_dims)
            .Dequantised();
    narrow.index_q =
        reference::QuantiseRows(narrow.index_q, shape.index_dims).Dequantised();
    ExpectSame(quantised.Run(Machines().front(), shape.queries),
               narrow.Run(Machines().front(), shape.queries));
  }
}

TEST(IndexerKlTest, BitsDependOnNeitherTierThreadsPagesNorBatch) {
  for (const auto& [shape, type] : InEveryType(kKlShapes)) {
    KlProblem problem(shape, type);
    const KlResult want = problem.Run(Machines().front(), shape.queries);
    for (const Machine& machine : Machines(problem.type)) {
      for (const int64_t batch : {1, 2, 3, 8, 33}) {
        ExpectSame(problem.Run(machine, batch), want);
      }
    }
  }
}

// What the KL loss and its backward both read.
template <typename Args>
Args KlOperands(Memory* m) {
  using namespace sizes;
  Args args;
  args.q = m->F({N, H, C + R});
  args.keys = m->F({Rows, C + R});
  args.lse = m->F({N, H});
  args.index_q = m->F({N, Hi, Di});
  args.index_w = m->F({N, Hi});
  args.index_keys = m->F({Rows, Di});
  args.map = FirstKey(m);
  args.selected = Selected(m);
  return args;
}

TEST(IndexerTest, ShapesAreHeld) {
  using namespace sizes;
  Memory m;
  using S = IndexerSelectArgs;
  ExpectShapesAreHeld<S>(&Backend::IndexerSelect,
                         {.q = m.F({N, Hi, Di}),
                          .w = m.F({N, Hi}),
                          .keys = m.F({Rows, Di}),
                          .map = FirstKey(&m),
                          .selected = m.I({N, K}),
                          .scores = m.F({N, 64})},
                         {{"q", &S::q, {0, 1, 2}},
                          {"w", &S::w, {0, 1}},
                          {"keys", &S::keys, {1}},
                          {"selected", &S::selected, {0}},
                          {"scores", &S::scores, {0}}});
  KeyStrip codes = KeyStrip::Index(Floats(Rows * Di), Di, DType::kF8E4M3);
  ExpectShapesAreHeld<S>(&Backend::IndexerSelect,
                         {.q = m.F({N, Hi, Di}),
                          .w = m.F({N, Hi}),
                          .keys = codes.View(),
                          .map = FirstKey(&m),
                          .selected = m.I({N, K})},
                         {{"q", &S::q, {2}}, {"keys", &S::keys, {1}}},
                         /*weight=*/{}, DType::kF8E4M3);
  using L = IndexerKlArgs;
  L loss = KlOperands<L>(&m);
  loss.kl = m.F({N});
  ExpectShapesAreHeld<L>(&Backend::IndexerKl, loss,
                         {{"q", &L::q, {0, 1, 2}},
                          {"keys", &L::keys, {0, 1}},
                          {"lse", &L::lse, {0, 1}},
                          {"index_q", &L::index_q, {0, 1, 2}},
                          {"index_w", &L::index_w, {0, 1}},
                          {"index_keys", &L::index_keys, {0, 1}},
                          {"selected", &L::selected, {0}},
                          {"kl", &L::kl, {0}}});
  using B = IndexerKlBackwardArgs;
  B back = KlOperands<B>(&m);
  back.dkl = m.F({N});
  back.dindex_q = m.F({N, Hi, Di});
  back.dindex_w = m.F({N, Hi});
  back.dindex_keys = m.F({Rows, Di});
  ExpectShapesAreHeld<B>(&Backend::IndexerKlBackward, back,
                         {{"dkl", &B::dkl, {0}},
                          {"dindex_q", &B::dindex_q, {0, 1, 2}},
                          {"dindex_w", &B::dindex_w, {0, 1}},
                          {"dindex_keys", &B::dindex_keys, {0, 1}}});
}

}  // namespace
}  // namespace temper
