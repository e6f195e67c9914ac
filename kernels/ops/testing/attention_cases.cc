#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/ops/testing/key_case.h"
#include "kernels/ops/testing/shape_case.h"
#include "kernels/reference/attention.h"

namespace temper {
namespace {

struct Shape {
  int64_t queries, sequences, heads, latent, rope, top_k;
};

// Odd ones among them; several blocks of 64 keys in the last three.
const Shape kShapes[] = {
    {5, 1, 1, 1, 1, 1},    {7, 2, 4, 32, 16, 16},  {9, 2, 3, 29, 10, 13},
    {6, 1, 5, 16, 8, 100}, {33, 3, 6, 48, 16, 67}, {8, 1, 2, 70, 3, 140},
    {5, 2, 4, 257, 8, 70},  // of FP8, two blocks that share scales and an odd
                            // one
};

struct Result {
  std::vector<float> z, lse, dq, dkeys;
};

struct Problem {
  explicit Problem(const Shape& s, bool edges = false,
                   DType keys_type = DType::kF32)
      : shape(s),
        type(keys_type),
        keys_case(s.queries, s.sequences, 11),
        dims(s.latent + s.rope),
        q(Draws(edges, 1, s.queries * s.heads * dims)),
        // What has no scale is a fault and no key.
        keys(Draws(edges && type != DType::kF8E4M3, 2,
                   keys_case.logical_keys() * dims)),
        dz(Draws(edges, 3, s.queries * s.heads * s.latent)),
        selected(keys_case.Selection(s.top_k)),
        scale(1.0f / std::sqrt(static_cast<float>(dims))) {}

  static Floats Draws(bool edges, uint64_t seed, int64_t count) {
    return edges ? EdgyNormals(seed, count) : Normals(seed, count);
  }

  // The queries in batches of `batch`.
  Result Run(const Machine& machine, int64_t batch) {
    Backend* const backend = machine.backend;
    KeyStrip strip =
        KeyStrip::Latent(keys_case.Strip(keys, dims, machine.page_tokens), dims,
                         shape.rope, type);
    Result out;
    out.z.resize(shape.queries * shape.heads * shape.latent, 7.0f);
    out.lse.resize(shape.queries * shape.heads, 7.0f);
    out.dq.resize(q.size(), 7.0f);
    std::vector<float> dstrip(keys_case.rows() * dims, 0.0f);
    const int64_t h = shape.heads;
    const auto all = [&](std::vector<float>& x, int64_t columns) {
      return View(x, {shape.queries, h, columns});
    };
    for (int64_t n = 0; n < shape.queries; n += batch) {
      const int64_t end = std::min(n + batch, shape.queries);
      const KeyMap map = keys_case.Map(machine.page_tokens, n, end - n);
      const Tensor query = all(q, dims).Slice(0, n, end);
      const Tensor chosen =
          View(selected, {shape.queries, shape.top_k}).Slice(0, n, end);
      const Tensor key = strip.View();
      const Tensor z = all(out.z, shape.latent).Slice(0, n, end);
      const Tensor lse = View(out.lse, {shape.queries, h}).Slice(0, n, end);
      backend->SparseMla({.q = query,
                          .keys = key,
                          .map = map,
                          .selected = chosen,
                          .scale = scale,
                          .z = z,
                          .lse = lse});
      backend->SparseMlaBackward(
          {.q = query,
           .keys = key,
           .map = map,
           .selected = chosen,
           .scale = scale,
           .z = z,
           .lse = lse,
           .dz = all(dz, shape.latent).Slice(0, n, end),
           .dq = all(out.dq, dims).Slice(0, n, end),
           .dkeys = View(dstrip, {keys_case.rows(), dims})});
    }
    out.dkeys = keys_case.Logical(dstrip, dims, machine.page_tokens);
    return out;
  }

  reference::MlaShape mla() const {
    return {shape.heads, shape.latent, shape.rope, scale};
  }
  reference::RowLists rows() const {
    return keys_case.LogicalRows(selected, shape.top_k);
  }

  Shape shape;
  DType type;
  KeyCase keys_case;
  int64_t dims;
  std::vector<float> q, keys, dz;
  std::vector<int32_t> selected;
  float scale;
};

// A chain of k FMAs of terms of size 1 is off by at most k half-ulps of its
// partial sums; exp and the softmax multiply that by the size of a score.
double Tolerance(int64_t dims, int64_t keys) {
  return 6e-8 * static_cast<double>(dims + keys + 64) * 4;
}

void ExpectNear(const std::vector<float>& got, const std::vector<double>& want,
                double tolerance, const char* what) {
  ASSERT_EQ(got.size(), want.size());
  double largest = 0;
  for (const double x : want) largest = std::max(largest, std::fabs(x));
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], tolerance * std::max(largest, 1.0))
        << what << " " << i;
  }
}

TEST(AttentionTest, AgreesWithTheReferenceOnOddShapes) {
  for (const Shape& shape : kShapes) {
    Problem problem(shape);
    std::vector<double> z;
    std::vector<double> lse;
    reference::MlaAbsorbed(problem.mla(), As<double>(problem.q),
                           As<double>(problem.keys), problem.rows(), &z, &lse);
    const Result got = problem.Run(Machines().back(), shape.queries);
    const double tolerance = Tolerance(problem.dims, shape.top_k);
    ExpectNear(got.z, z, tolerance, "z");
    ExpectNear(got.lse, lse, tolerance, "lse");
  }
}

TEST(AttentionTest, AbsorbedFormEqualsExpandedForm) {
  const Shape shape = {6, 2, 3, 7, 4, 20};
  constexpr int64_t kNope = 5;
  constexpr int64_t kValue = 6;
  Problem problem(shape);
  const int64_t h_count = shape.heads;
  const int64_t c_count = shape.latent;
  const auto q_nope = As<double>(Normals(4, 6 * h_count * kNope));
  const auto q_rope = As<double>(Normals(5, 6 * h_count * shape.rope));
  const auto w_uk = As<double>(Normals(6, h_count * kNope * c_count));
  const auto w_uv = As<double>(Normals(7, h_count * kValue * c_count));
  const auto keys = As<double>(problem.keys);
  std::vector<double> q;
  for (int64_t head = 0; head < shape.queries * h_count; ++head) {
    for (int64_t c = 0; c < c_count; ++c) {
      double sum = 0;
      for (int64_t d = 0; d < kNope; ++d) {
        sum += q_nope[head * kNope + d] *
               w_uk[(head % h_count * kNope + d) * c_count + c];
      }
      q.push_back(sum);
    }
    for (int64_t d = 0; d < shape.rope; ++d) {
      q.push_back(q_rope[head * shape.rope + d]);
    }
  }
  std::vector<double> z;
  std::vector<double> lse;
  reference::MlaAbsorbed(problem.mla(), q, keys, problem.rows(), &z, &lse);
  const auto o =
      reference::MlaExpanded(problem.mla(), kNope, kValue, q_nope, q_rope, keys,
                             w_uk, w_uv, problem.rows());
  for (int64_t head = 0; head < shape.queries * h_count; ++head) {
    for (int64_t v = 0; v < kValue; ++v) {
      double sum = 0;
      for (int64_t c = 0; c < c_count; ++c) {
        sum += z[head * c_count + c] *
               w_uv[(head % h_count * kValue + v) * c_count + c];
      }
      ASSERT_NEAR(sum, o[head * kValue + v], 1e-12);
    }
  }
}

TEST(AttentionTest, BackwardAgreesWithComplexStep) {
  using Complex = std::complex<double>;
  constexpr double kStep = 1e-40;
  const Shape shape = {7, 2, 2, 5, 3, 9};
  Problem problem(shape);
  const auto loss_gradient = [&](std::vector<Complex> q,
                                 std::vector<Complex> keys) {
    std::vector<Complex> z;
    std::vector<Complex> lse;
    reference::MlaAbsorbed(problem.mla(), q, keys, problem.rows(), &z, &lse);
    double sum = 0;
    for (size_t i = 0; i < z.size(); ++i) {
      sum += z[i].imag() * problem.dz[i] / kStep;
    }
    return sum;
  };
  const auto q = As<Complex>(problem.q);
  const auto keys = As<Complex>(problem.keys);
  std::vector<double> dq;
  for (size_t i = 0; i < q.size(); ++i) {
    auto moved = q;
    moved[i] += Complex(0, kStep);
    dq.push_back(loss_gradient(moved, keys));
  }
  std::vector<double> dkeys;
  for (size_t i = 0; i < keys.size(); ++i) {
    auto moved = keys;
    moved[i] += Complex(0, kStep);
    dkeys.push_back(loss_gradient(q, moved));
  }
  const Result got = problem.Run(Machines().back(), shape.queries);
  ExpectNear(got.dq, dq, Tolerance(problem.dims, shape.top_k), "dq");
  ExpectNear(got.dkeys, dkeys, Tolerance(problem.dims, shape.queries), "dkeys");
}

template <typename T>
void ExpectBitsOfTheReference(const Shape& shape, bool edges, DType type) {
  Problem problem(shape, edges, type);
  const Result got = problem.Run(Machines().front(), shape.queries);
  std::vector<T> z, lse, dq, dkeys(problem.keys.size(), T(0));
  const auto q = As<T>(problem.q);
  const auto keys = As<T>(
      KeyStrip::Latent(problem.keys, problem.dims, shape.rope, type).read());
  reference::MlaAbsorbed(problem.mla(), q, keys, problem.rows(), &z, &lse);
  ExpectSameBits(got.z, FloatsOf(z), "z");
  ExpectSameBits(got.lse, FloatsOf(lse), "lse");
  reference::MlaBackward(problem.mla(), q, keys, problem.rows(), z, lse,
                         As<T>(problem.dz), &dq, &dkeys);
  ExpectSameBits(got.dq, FloatsOf(dq), "dq");
  ExpectSameBits(got.dkeys, FloatsOf(dkeys), "dkeys");
}

// The definition to the bit, forward and backward: blocks of 64 places with a
// running maximum, and the order in which a key's gradients are added.
TEST(AttentionTest, HasTheBitsOfTheReference) {
  for (const Shape& shape : kShapes) {
    for (const bool edges : {false, true}) {
      ExpectBitsOfTheReference<float>(shape, edges, DType::kF32);
      ExpectBitsOfTheReference<reference::Narrow>(shape, edges, DType::kBF16);
      ExpectBitsOfTheReference<reference::Narrow>(shape, edges, DType::kF8E4M3);
    }
  }
}

TEST(AttentionTest, BitsDependOnNeitherTierThreadsPagesNorBatch) {
  for (const auto& [shape, type] : InEveryType(kShapes)) {
    Problem problem(shape, /*edges=*/shape.heads % 2 == 0, type);
    const Result want = problem.Run(Machines().front(), shape.queries);
    for (const Machine& machine : Machines(problem.type)) {
      for (const int64_t batch : {1, 2, 3, 8, 33}) {
        const Result got = problem.Run(machine, batch);
        SCOPED_TRACE(testing::Message() << "heads " << shape.heads << " "
                                        << machine.name << " batch " << batch);
        ExpectSameBits(got.z, want.z, "z");
        ExpectSameBits(got.lse, want.lse, "lse");
        ExpectSameBits(got.dq, want.dq, "dq");
        ExpectSameBits(got.dkeys, want.dkeys, "dkeys");
      }
    }
  }
}

TEST(AttentionTest, AQueryWithoutKeysGivesZeroAndNoProbability) {
  Problem problem({2, 1, 2, 4, 2, 3});
  std::fill(problem.selected.begin(), problem.selected.end(), -1);
  const Result got = problem.Run(Machines().back(), 2);
  EXPECT_THAT(got.z, testing::Each(0.0f));
  EXPECT_THAT(got.lse, testing::Each(-HUGE_VALF));
  EXPECT_THAT(got.dq, testing::Each(0.0f));
  EXPECT_THAT(got.dkeys, testing::Each(0.0f));
}

// Many queries, so that the backward walks more than one chunk of records.
TEST(AttentionTest, ChunksOfTheBackwardDoNotShow) {
  Problem problem({1200, 2, 8, 16, 8, 64});
  const Result whole = problem.Run(Machines().back(), 1200);
  const Result parts = problem.Run(Machines().back(), 100);
  EXPECT_EQ(whole.dq, parts.dq);
  EXPECT_EQ(whole.dkeys, parts.dkeys);
}

TEST(AttentionTest, ShapesAreHeld) {
  using namespace sizes;
  Memory m;
  using S = SparseMlaArgs;
  ExpectShapesAreHeld<S>(&Backend::SparseMla,
                         {.q = m.F({N, H, C + R}),
                          .keys = m.F({Rows, C + R}),
                          .map = FirstKey(&m),
                          .selected = Selected(&m),
                          .z = m.F({N, H, C}),
                          .lse = m.F({N, H})},
                         {{"q", &S::q, {0, 1, 2}},
                          {"keys", &S::keys, {1}},
                          {"selected", &S::selected, {0}},
                          {"z", &S::z, {0, 1}},
                          {"lse", &S::lse, {0, 1}}});
  KeyStrip codes =
      KeyStrip::Latent(Floats(Rows * (C + R)), C + R, R, DType::kF8E4M3);
  ExpectShapesAreHeld<S>(
      &Backend::SparseMla,
      {.q = m.F({N, H, C + R}),
       .keys = codes.View(),
       .map = FirstKey(&m),
       .selected = Selected(&m),
       .z = m.F({N, H, C}),
       .lse = m.F({N, H})},
      {{"q", &S::q, {2}}, {"keys", &S::keys, {1}}, {"z", &S::z, {2}}},
      /*weight=*/{}, DType::kF8E4M3);
  using B = SparseMlaBackwardArgs;
  ExpectShapesAreHeld<B>(&Backend::SparseMlaBackward,
                         {.q = m.F({N, H, C + R}),
                          .keys = m.F({Rows, C + R}),
                          .map = FirstKey(&m),
                          .selected = Selected(&m),
                          .z = m.F({N, H, C}),
                          .lse = m.F({N, H}),
                          .dz = m.F({N, H, C}),
                          .dq = m.F({N, H, C + R}),
                          .dkeys = m.F({Rows, C + R})},
                         {{"q", &B::q, {0, 1, 2}},
                          {"keys", &B::keys, {0, 1}},
                          {"selected", &B::selected, {0}},
                          {"z", &B::z, {0, 1, 2}},
                          {"lse", &B::lse, {0, 1}},
                          {"dz", &B::dz, {0, 1, 2}},
                          {"dq", &B::dq, {0, 1, 2}},
                          {"dkeys", &B::dkeys, {0, 1}}});
}

}  // namespace
}  // namespace temper
