// FP8 (DESIGN.md section 6.6) to the bit of the reference by plain loops, on
// every backend that has it: weights, products, their gradients, the rotation.

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/ops/testing/op_case.h"
#include "kernels/ops/testing/shape_case.h"
#include "kernels/reference/linear.h"
#include "kernels/reference/quantised.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

using reference::Narrow;
using reference::QuantiseRows;
using reference::QuantiseWeight;

constexpr DType kFp8Operand = DType::kF8E4M3;

struct Shape {
  int64_t rows, out, in;
};
// Squares of 128 cut by edges either way; depths beside a block of 32.
const Shape kShapes[] = {{1, 1, 1},    {5, 13, 29},    {3, 130, 128},
                         {33, 37, 64}, {1, 300, 129},  {2, 70, 255},
                         {7, 16, 300}, {90, 150, 257}, {150, 33, 384}};

// Normals of several sizes, so that blocks differ in their scales; zeros and
// denormals among them.
Floats Values(uint64_t seed, int64_t count) {
  Floats x = Normals(seed, count);
  for (int64_t i = 0; i < count; ++i) {
    if (i / 128 % 3 == 1) x[i] *= 0x1p-14f;
    if (i / 128 % 5 == 2) x[i] *= 700;
    if (i % 41 == 7) x[i] = kTinyEdges[i % std::size(kTinyEdges)];
  }
  return x;
}

template <typename Body>
void ForEachFp8Backend(const Body& body) {
  for (const auto& [name, backend] : BackendsUnderTest()) {
    if (!Multiplies(*backend, kFp8Operand)) continue;
    SCOPED_TRACE(name);
    body(*backend);
  }
}

// A stack of matrices [groups, out, in] in codes and scales.
struct Codes {
  Codes(int64_t groups, int64_t out, int64_t in)
      : shape{groups, out, in},
        bytes(groups * out * in, {0x55}),
        scales(groups * ScaleBlocks(out) * ScaleBlocks(in), 7.0f) {}
  Tensor codes() {
    return Tensor(bytes.data(), kFp8Operand, {shape[0], shape[1], shape[2]});
  }
  Tensor scale() {
    return View(scales,
                {shape[0], ScaleBlocks(shape[1]), ScaleBlocks(shape[2])});
  }

  int64_t shape[3];
  std::vector<F8E4M3> bytes;
  Floats scales;
};

TEST(QuantisedWeightTest, CodesAndScalesAreTheReferencesAndComeBackExactly) {
  constexpr int64_t kGroups = 2;
  for (const Shape& s : kShapes) {
    Floats w = Values(2, kGroups * s.out * s.in);
    const int64_t each = s.out * s.in;
    ForEachFp8Backend([&](Backend& backend) {
      Codes got(kGroups, s.out, s.in);
      backend.QuantiseWeight(View(w, {kGroups, s.out, s.in}), got.codes(),
                             got.scale());
      Floats back(w.size());
      backend.DequantiseWeight(got.codes(), got.scale(),
                               View(back, {kGroups, s.out, s.in}));
      Stored narrow(Floats(w.size()), DType::kBF16);
      backend.DequantiseWeight(got.codes(), got.scale(),
                               narrow.View({kGroups, s.out, s.in}));
      Floats halves(w.size());
      backend.Copy(narrow.View({kGroups, s.out, s.in}),
                   View(halves, {kGroups, s.out, s.in}));
      ASSERT_TRUE(backend.Sync().ok());
      Floats scales, values;
      for (int64_t g = 0; g < kGroups; ++g) {
        const auto want = QuantiseWeight(
            {w.begin() + g * each, w.begin() + (g + 1) * each}, s.in);
        scales.insert(scales.end(), want.scales.begin(), want.scales.end());
        const Floats exact = want.Dequantised();
        values.insert(values.end(), exact.begin(), exact.end());
        for (int64_t i = 0; i < each; ++i) {
          ASSERT_EQ(got.bytes[g * each + i].bits,
                    E4M3FromFloat(want.codes[i]).bits);
        }
      }
      ExpectSameBits(got.scales, scales, "scales");
      ExpectSameBits(back, values, "in f32");
      ExpectSameBits(halves, values, "in bf16");
    });
  }
}

TEST(QuantisedWeightTest, WhatHasNoScaleSetsTheErrorWordOnce) {
  for (const float bad : {std::nanf(""), HUGE_VALF, -0x1.fp127f}) {
    Floats w = Normals(2, 2 * 130 * 140), x = Normals(1, 3 * 140);
    w[140 * 130 + 139] = bad;
    ForEachFp8Backend([&](Backend& backend) {
      Codes codes(2, 130, 140);
      backend.QuantiseWeight(View(w, {2, 130, 140}), codes.codes(),
                             codes.scale());
      EXPECT_EQ(backend.Sync(), StatusOf(DeviceFault::kNumbers));
      EXPECT_TRUE(backend.Sync().ok());
      EXPECT_TRUE(std::isnan(codes.scales[5]));  // of the second, its first row
      EXPECT_EQ(codes.bytes[140 * 130 + 139].bits, 0);
      EXPECT_FALSE(std::isnan(codes.scales[4]));
      const auto weight =
          Pack(backend, Normals(3, 4 * 140), 1, 4, 140, kFp8Operand);
      Floats y(12), dw(4 * 140), bad_x = x;
      bad_x[141] = bad;
      backend.Linear(View(bad_x, {3, 140}), *weight, Use::kForward,
                     View(y, {3, 4}));
      EXPECT_EQ(backend.Sync(), StatusOf(DeviceFault::kNumbers));
      EXPECT_FALSE(std::isnan(y[0]));
      EXPECT_TRUE(std::isnan(y[4]));
      backend.LinearWeightGrad({.x = View(bad_x, {3, 140}),
                                .dy = View(y, {3, 4}),
                                .dw = View(dw, {4, 140}),
                                .operand = kFp8Operand});
      EXPECT_EQ(backend.Sync(), StatusOf(DeviceFault::kNumbers));
    });
  }
}

TEST(QuantisedProductTest, ForwardHasTheBitsOfTheReference) {
  for (const Shape& s : kShapes) {
    const Floats w = Values(2, s.out * s.in);
    Floats x = Values(1, s.rows * s.in);
    const OpRun run = [&](Backend& backend, int64_t begin, int64_t end) {
      Floats y((end - begin) * s.out);
      backend.Linear(View(x, {s.rows, s.in}).Slice(0, begin, end),
                     *Pack(backend, w, 1, s.out, s.in, kFp8Operand),
                     Use::kForward, View(y, {end - begin, s.out}));
      return y;
    };
    ExpectSameBits(
        run(Definition(), 0, s.rows),
        reference::Linear(QuantiseRows(x, s.in), QuantiseWeight(w, s.in)),
        "Linear");
    ExpectSameBitsEverywhere(run, s.rows, "Linear", kFp8Operand);
    if (s.rows <= 40) {
      ExpectRowsAloneAsInTheBatch(run, s.rows, "Linear", kFp8Operand);
    }
  }
}

// dx = Wq^T dy, by the rule of bf16 on what the codes stand for.
TEST(QuantisedProductTest, BackwardMultipliesByWhatTheCodesStandFor) {
  for (const Shape& s : kShapes) {
    const Floats w = Values(2, s.out * s.in);
    Floats dy = EdgyNormals(3, s.rows * s.out);
    const OpRun run = [&](Backend& backend, int64_t begin, int64_t end) {
      Floats dx((end - begin) * s.in);
      backend.Linear(View(dy, {s.rows, s.out}).Slice(0, begin, end),
                     *Pack(backend, w, 1, s.out, s.in, kFp8Operand),
                     Use::kTransposed, View(dx, {end - begin, s.in}));
      return dx;
    };
    ExpectSameBits(
        run(Definition(), 0, s.rows),
        FloatsOf(reference::Linear(
            As<Narrow>(dy), As<Narrow>(QuantiseWeight(w, s.in).Dequantised()),
            s.out, s.in, true)),
        "dx");
    ExpectSameBitsEverywhere(run, s.rows, "dx", kFp8Operand);
  }
}

// dw[j, i] of rows [first, first + count) of x and dy, onto `start`.
float WantedGrad(const Floats& quantised, const Floats& dy, int64_t first,
                 int64_t count, const Shape& s, int64_t j, int64_t i,
                 float start) {
  return reference::ProductOnto(
             Narrow(start), count,
             [&](size_t t) { return dy[(first + t) * s.out + j]; },
             [&](size_t t) { return quantised[(first + t) * s.in + i]; })
      .value;
}

// dW = dy^T Q(x), onto what is there.
TEST(QuantisedProductTest, WeightGradsAreOfWhatTheForwardMultiplied) {
  for (const Shape& s : kShapes) {
    Floats x = Values(4, s.rows * s.in), dy = Normals(5, s.rows * s.out);
    const Floats initial = Normals(6, s.out * s.in);
    const OpRun run = [&](Backend& backend, int64_t, int64_t) {
      Floats dw = initial;
      backend.LinearWeightGrad({.x = View(x, {s.rows, s.in}),
                                .dy = View(dy, {s.rows, s.out}),
                                .dw = View(dw, {s.out, s.in}),
                                .operand = kFp8Operand});
      return dw;
    };
    const Floats quantised = QuantiseRows(x, s.in).Dequantised();
    Floats want;
    for (int64_t i = 0; i < s.out * s.in; ++i) {
      want.push_back(WantedGrad(quantised, dy, 0, s.rows, s, i / s.in, i % s.in,
                                initial[i]));
    }
    ExpectSameBits(run(Definition(), 0, s.rows), want, "dw");
    ExpectSameBitsEverywhere(run, s.rows, "dw", kFp8Operand);
  }
}

// An expert's squares begin at its own first row, its tokens' blocks at its
// own first token.
TEST(QuantisedProductTest, GroupsAreProductsOfTheirOwn) {
  Ints offsets = {0, 5, 5, 18, 150, 151};
  const Shape s = {151, 140, 131};
  const int64_t experts = 5, each = s.out * s.in;
  const Floats w = Values(2, experts * each);
  Floats x = Values(1, s.rows * s.in), dy = Normals(3, s.rows * s.out);
  const OpRun run = [&](Backend& backend, int64_t, int64_t) {
    const auto weight = Pack(backend, w, experts, s.out, s.in, kFp8Operand);
    Floats y(s.rows * s.out), dx(s.rows * s.in), dw(w.size(), 0.25f);
    const Tensor groups = View(offsets, {experts + 1});
    backend.GroupedLinear({.x = View(x, {s.rows, s.in}),
                           .offsets = groups,
                           .w = weight.get(),
                           .use = Use::kForward,
                           .y = View(y, {s.rows, s.out})});
    backend.GroupedLinear({.x = View(dy, {s.rows, s.out}),
                           .offsets = groups,
                           .w = weight.get(),
                           .use = Use::kTransposed,
                           .y = View(dx, {s.rows, s.in})});
    backend.GroupedLinearWeightGrad({.x = View(x, {s.rows, s.in}),
                                     .dy = View(dy, {s.rows, s.out}),
                                     .offsets = groups,
                                     .dw = View(dw, {experts, s.out, s.in}),
                                     .operand = kFp8Operand});
    y.insert(y.end(), dx.begin(), dx.end());
    y.insert(y.end(), dw.begin(), dw.end());
    return y;
  };
  const Floats quantised = QuantiseRows(x, s.in).Dequantised();
  Floats y, dx, dw;
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t first = offsets[e], end = offsets[e + 1];
    const auto matrix = QuantiseWeight(
        {w.begin() + e * each, w.begin() + (e + 1) * each}, s.in);
    const Floats part = reference::Linear(
        QuantiseRows({x.begin() + first * s.in, x.begin() + end * s.in}, s.in),
        matrix);
    y.insert(y.end(), part.begin(), part.end());
    const Floats back = FloatsOf(reference::Linear(
        As<Narrow>({dy.begin() + first * s.out, dy.begin() + end * s.out}),
        As<Narrow>(matrix.Dequantised()), s.out, s.in, true));
    dx.insert(dx.end(), back.begin(), back.end());
    for (int64_t i = 0; i < each; ++i) {
      dw.push_back(WantedGrad(quantised, dy, first, end - first, s, i / s.in,
                              i % s.in, 0.25f));
    }
  }
  y.insert(y.end(), dx.begin(), dx.end());
  y.insert(y.end(), dw.begin(), dw.end());
  ExpectSameBits(run(Definition(), 0, s.rows), y, "groups");
  ExpectSameBitsEverywhere(run, s.rows, "groups", kFp8Operand);
}

// Published codes and values that are quantised on the way are one weight.
TEST(QuantisedProductTest, AWeightOfCodesIsThatOfItsValues) {
  const int64_t groups = 2, out = 37, in = 170, rows = 4;
  Floats w = Values(2, groups * out * in), x = Values(1, rows * in);
  Ints offsets = {0, 1, 4};
  ForEachFp8Backend([&](Backend& backend) {
    Codes codes(groups, out, in);
    backend.QuantiseWeight(View(w, {groups, out, in}), codes.codes(),
                           codes.scale());
    auto weight = backend.NewWeight(
        {.groups = groups, .out = out, .in = in, .dtype = kFp8Operand});
    ASSERT_TRUE(weight.ok()) << weight.status();
    backend.SetQuantisedWeight(codes.codes(), codes.scale(), weight->get());
    const auto values = Pack(backend, w, groups, out, in, kFp8Operand);
    Floats got(rows * out), want(rows * out);
    for (const auto& [y, of] :
         {std::pair{&got, weight->get()}, std::pair{&want, values.get()}}) {
      backend.GroupedLinear({.x = View(x, {rows, in}),
                             .offsets = View(offsets, {groups + 1}),
                             .w = of,
                             .use = Use::kForward,
                             .y = View(*y, {rows, out})});
    }
    ExpectSameBits(got, want, "y");
  });
}

TEST(HadamardTest, HasTheBitsOfTheReferenceAndUndoesItself) {
  for (const int64_t n : {1, 2, 16, 128}) {
    const int64_t rows = 33, groups = 3;
    const Floats x = EdgyNormals(8, rows * groups * n);
    const OpRun run = [&](Backend& backend, int64_t begin, int64_t end) {
      Floats y(x.begin() + begin * groups * n, x.begin() + end * groups * n);
      backend.Hadamard(View(y, {end - begin, groups, n}));
      return y;
    };
    ExpectSameBits(run(Definition(), 0, rows),
                   reference::Hadamard(x, static_cast<size_t>(n)), "Hadamard");
    ExpectSameBitsEverywhere(run, rows, "Hadamard", kFp8Operand);
    ExpectRowsAloneAsInTheBatch(run, rows, "Hadamard", kFp8Operand);
  }
}

TEST(QuantisedWeightTest, ShapesAreHeld) {
  using sizes::D;
  Memory m;
  Codes codes(2, D, 130);
  // As Memory has it: who looks at all that a tensor names may do so.
  codes.bytes.resize(1 << 13, {0x55});
  codes.scales.resize(1 << 13, 1.0f);
  const Tensor x = m.F({2, D, 130});
  const Tensor good = codes.codes(), scales = codes.scale();
  Backend& backend = Definition();
  backend.QuantiseWeight(x, good, scales);
  auto weight = backend.NewWeight(
      {.groups = 2, .out = D, .in = 130, .dtype = kFp8Operand});
  ASSERT_TRUE(weight.ok()) << weight.status();
  backend.SetQuantisedWeight(good, scales, weight->get());
  for (int axis = 0; axis < 3; ++axis) {
    EXPECT_DEATH(backend.QuantiseWeight(Grown(x, axis), good, scales), "CHECK");
    EXPECT_DEATH(backend.QuantiseWeight(x, good, Grown(scales, axis)), "CHECK");
    EXPECT_DEATH(backend.DequantiseWeight(good, Grown(scales, axis), x),
                 "CHECK");
    EXPECT_DEATH(backend.DequantiseWeight(good, scales, Grown(x, axis)),
                 "CHECK");
    EXPECT_DEATH(
        backend.SetQuantisedWeight(good, Grown(scales, axis), weight->get()),
        "CHECK");
    EXPECT_DEATH(
        backend.SetQuantisedWeight(Grown(good, axis), scales, weight->get()),
        "CHECK");
  }
  EXPECT_DEATH(backend.Hadamard(m.F({2, 3, 12})), "CHECK");
}

}  // namespace
}  // namespace temper
