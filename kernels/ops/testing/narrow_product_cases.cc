// Products of bf16 operands (DESIGN.md section 6.2) to the bit of the reference
// by plain loops, on every backend, over odd sizes and the edges of fp32.

#include <cmath>

#include "gtest/gtest.h"
#include "kernels/ops/testing/op_case.h"
#include "kernels/reference/linear.h"

namespace temper {
namespace {

using reference::Narrow;

struct Shape {
  int64_t rows, out, in;
};
// Depths below, at and above a block of 32; rows and columns beside a tile's.
const Shape kShapes[] = {{1, 1, 1},    {5, 13, 29},   {33, 37, 64},
                         {1, 150, 33}, {2, 70, 31},   {3, 16, 300},
                         {90, 50, 47}, {35, 128, 96}, {17, 33, 1100}};

Floats Stride(Floats x, int64_t rows, int64_t columns) {
  Floats wide(rows * (columns + 1), 7.0f);
  for (int64_t i = 0; i < rows * columns; ++i) {
    wide[i / columns * (columns + 1) + i % columns] = x[i];
  }
  return wide;
}

TEST(NarrowProductTest, LinearHasTheBitsOfTheReferenceBothWays) {
  for (const Shape& s : kShapes) {
    const Floats w = SomeEdges(2, s.out, s.in);
    for (const Use use : {Use::kForward, Use::kTransposed}) {
      const bool forward = use == Use::kForward;
      const int64_t from = forward ? s.in : s.out;
      const int64_t to = forward ? s.out : s.in;
      const Floats x = SomeEdges(1, s.rows, from);
      Floats wide = Stride(x, s.rows, from);
      const OpRun run = [&](Backend& backend, int64_t begin, int64_t end) {
        Floats y((end - begin) * to);
        backend.Linear(View(wide, {s.rows, from + 1})
                           .Slice(0, begin, end)
                           .Slice(1, 0, from),
                       *Pack(backend, w, 1, s.out, s.in, DType::kBF16), use,
                       View(y, {end - begin, to}));
        return y;
      };
      ExpectSameBits(run(Definition(), 0, s.rows),
                     FloatsOf(reference::Linear(As<Narrow>(x), As<Narrow>(w),
                                                s.out, s.in, !forward)),
                     "Linear");
      ExpectSameBitsEverywhere(run, s.rows, "Linear", DType::kBF16);
      if (s.rows <= 40)
        ExpectRowsAloneAsInTheBatch(run, s.rows, "Linear", DType::kBF16);
    }
  }
}

// Published bytes and values that are rounded on the way are one weight.
TEST(NarrowProductTest, AWeightOfNarrowValuesIsThatOfTheirFloats) {
  const int64_t out = 37, in = 70, rows = 3;
  const Floats w = EdgyNormals(2, out * in);
  Floats x = Normals(1, rows * in);
  Stored stored(w, DType::kBF16);
  for (const auto& [name, backend] : BackendsUnderTest()) {
    if (!Multiplies(*backend, DType::kBF16)) continue;
    auto weight =
        backend->NewWeight({.out = out, .in = in, .dtype = DType::kBF16});
    ASSERT_TRUE(weight.ok()) << weight.status();
    backend->SetWeight(stored.View({1, out, in}), weight->get());
    Floats narrow(rows * out), rounded(rows * out);
    backend->Linear(View(x, {rows, in}), **weight, Use::kForward,
                    View(narrow, {rows, out}));
    backend->Linear(View(x, {rows, in}),
                    *Pack(*backend, w, 1, out, in, DType::kBF16), Use::kForward,
                    View(rounded, {rows, out}));
    ExpectSameBits(narrow, rounded, name);
  }
}

// dw[j, i] goes on from what is there, tokens in blocks of 32 from the first.
Narrow WantedGrad(const Floats& x, const Floats& dy, int64_t first,
                  int64_t tokens, const Shape& s, int64_t j, int64_t i,
                  float start) {
  return reference::ProductOnto(
      Narrow(start), tokens,
      [&](size_t t) { return dy[(first + t) * s.out + j]; },
      [&](size_t t) { return x[(first + t) * s.in + i]; });
}

TEST(NarrowProductTest, WeightGradsTakeTokensInBlocksOntoWhatIsThere) {
  for (const Shape& s : kShapes) {
    // Down the tokens, so by columns.
    Floats x = EdgyNormals(3, s.rows * s.in), dy = Normals(4, s.rows * s.out);
    const Floats plain = Normals(3, s.rows * s.in);
    for (size_t i = 0; i < x.size(); i += 2) x[i] = plain[i];
    const Floats initial = Normals(5, s.out * s.in);
    const OpRun run = [&](Backend& backend, int64_t, int64_t) {
      Floats dw = initial;
      backend.LinearWeightGrad({.x = View(x, {s.rows, s.in}),
                                .dy = View(dy, {s.rows, s.out}),
                                .dw = View(dw, {s.out, s.in}),
                                .operand = DType::kBF16});
      return dw;
    };
    Floats want;
    for (int64_t i = 0; i < s.out * s.in; ++i) {
      want.push_back(
          WantedGrad(x, dy, 0, s.rows, s, i / s.in, i % s.in, initial[i])
              .value);
    }
    ExpectSameBits(run(Definition(), 0, s.rows), want, "LinearWeightGrad");
    ExpectSameBitsEverywhere(run, s.rows, "LinearWeightGrad", DType::kBF16);
  }
}

// A product too small for fp32 leaves -0 in a chain; the padding's FMAs make it
// +0, which shows where the total goes on from -0. A whole block has none.
TEST(NarrowProductTest, ThePaddingOfABlockTurnsANegativeZero) {
  for (const int64_t tokens : {1, 2, 5, 31, 32, 33, 64}) {
    Floats x(tokens, 0x1p-70f), dy(tokens, -0x1p-70f);
    const float want = tokens % 32 == 0 ? -0.0f : 0.0f;
    for (const auto& [name, backend] : BackendsUnderTest()) {
      if (!Multiplies(*backend, DType::kBF16)) continue;
      Floats dw = {-0.0f};
      backend->LinearWeightGrad({.x = View(x, {tokens, 1}),
                                 .dy = View(dy, {tokens, 1}),
                                 .dw = View(dw, {1, 1}),
                                 .operand = DType::kBF16});
      EXPECT_EQ(std::signbit(dw[0]), std::signbit(want))
          << tokens << " tokens on " << name;
      EXPECT_EQ(dw[0], 0);
    }
  }
}

TEST(NarrowProductTest, HeadsAreProductsOfTheirOwn) {
  constexpr int64_t kHeads = 3, kRows = 35, kOut = 13, kIn = 45;
  const Floats w = Normals(2, kHeads * kOut * kIn);
  Floats x = Normals(1, kRows * kHeads * kIn);
  Floats dy = Normals(3, kRows * kHeads * kOut);
  for (const Use use : {Use::kForward, Use::kTransposed}) {
    const bool forward = use == Use::kForward;
    const int64_t to = forward ? kOut : kIn;
    const OpRun run = [&](Backend& backend, int64_t begin, int64_t end) {
      Floats y((end - begin) * kHeads * to);
      backend.HeadLinear((forward ? View(x, {kRows, kHeads, kIn})
                                  : View(dy, {kRows, kHeads, kOut}))
                             .Slice(0, begin, end),
                         *Pack(backend, w, kHeads, kOut, kIn, DType::kBF16),
                         use, View(y, {end - begin, kHeads, to}));
      return y;
    };
    ExpectSameBits(run(Definition(), 0, kRows),
                   FloatsOf(reference::HeadLinear(As<Narrow>(forward ? x : dy),
                                                  As<Narrow>(w), kHeads, kOut,
                                                  kIn, !forward)),
                   "HeadLinear");
    ExpectSameBitsEverywhere(run, kRows, "HeadLinear", DType::kBF16);
    ExpectRowsAloneAsInTheBatch(run, kRows, "HeadLinear", DType::kBF16);
  }
  const OpRun grad = [&](Backend& backend, int64_t, int64_t) {
    Floats dw(w.size(), 0.5f);
    backend.HeadLinearWeightGrad({.x = View(x, {kRows, kHeads, kIn}),
                                  .dy = View(dy, {kRows, kHeads, kOut}),
                                  .dw = View(dw, {kHeads, kOut, kIn}),
                                  .operand = DType::kBF16});
    return dw;
  };
  Floats want;
  for (int64_t i = 0; i < static_cast<int64_t>(w.size()); ++i) {
    const int64_t head = i / (kOut * kIn), j = i / kIn % kOut, k = i % kIn;
    want.push_back(
        reference::ProductOnto(
            Narrow(0.5f), kRows,
            [&](size_t t) { return dy[(t * kHeads + head) * kOut + j]; },
            [&](size_t t) { return x[(t * kHeads + head) * kIn + k]; })
            .value);
  }
  ExpectSameBits(grad(Definition(), 0, kRows), want, "HeadLinearWeightGrad");
  ExpectSameBitsEverywhere(grad, kRows, "HeadLinearWeightGrad", DType::kBF16);
}

// An expert's tokens are in blocks from its own first, wherever it begins.
TEST(NarrowProductTest, GroupsAreProductsOfTheirOwn) {
  Ints offsets = {0, 5, 5, 18, 150, 151};
  const Shape s = {151, 13, 29};
  const int64_t experts = 5;
  const Floats w = Normals(2, experts * s.out * s.in);
  Floats x = Normals(1, s.rows * s.in), dy = Normals(3, s.rows * s.out);
  for (const Use use : {Use::kForward, Use::kTransposed}) {
    const bool forward = use == Use::kForward;
    const int64_t to = forward ? s.out : s.in;
    const OpRun run = [&](Backend& backend, int64_t, int64_t) {
      Floats y(s.rows * to);
      backend.GroupedLinear(
          {.x = forward ? View(x, {s.rows, s.in}) : View(dy, {s.rows, s.out}),
           .offsets = View(offsets, {experts + 1}),
           .w = Pack(backend, w, experts, s.out, s.in, DType::kBF16).get(),
           .use = use,
           .y = View(y, {s.rows, to})});
      return y;
    };
    ExpectSameBits(run(Definition(), 0, s.rows),
                   FloatsOf(reference::GroupedLinear(
                       As<Narrow>(forward ? x : dy), offsets, As<Narrow>(w),
                       s.out, s.in, !forward)),
                   "GroupedLinear");
    ExpectSameBitsEverywhere(run, s.rows, "GroupedLinear", DType::kBF16);
  }
  const OpRun grad = [&](Backend& backend, int64_t, int64_t) {
    Floats dw(w.size(), 0.25f);
    backend.GroupedLinearWeightGrad({.x = View(x, {s.rows, s.in}),
                                     .dy = View(dy, {s.rows, s.out}),
                                     .offsets = View(offsets, {experts + 1}),
                                     .dw = View(dw, {experts, s.out, s.in}),
                                     .operand = DType::kBF16});
    return dw;
  };
  Floats want;
  for (int64_t i = 0; i < static_cast<int64_t>(w.size()); ++i) {
    const int64_t e = i / (s.out * s.in);
    want.push_back(WantedGrad(x, dy, offsets[e], offsets[e + 1] - offsets[e], s,
                              i / s.in % s.out, i % s.in, 0.25f)
                       .value);
  }
  ExpectSameBits(grad(Definition(), 0, s.rows), want, "grouped dw");
  ExpectSameBitsEverywhere(grad, s.rows, "grouped dw", DType::kBF16);
}

TEST(NarrowProductTest, RowsThatAreCopiedToAnotherTypeAreRoundedOnce) {
  const int64_t rows = 6, columns = 21;
  Floats x = EdgyNormals(1, rows * columns);
  Stored rounded(x, DType::kBF16);
  Ints order = {5, 0, 3, 1, 2, 4};
  Floats want(rows * columns);
  for (int64_t i = 0; i < rows * columns; ++i) {
    want[order[i / columns] * columns + i % columns] =
        FloatFromBF16(BF16FromFloat(x[i]));
  }
  for (const auto& [name, backend] : BackendsUnderTest()) {
    Stored to(Floats(rows * columns), DType::kBF16);
    const Tensor strip = to.View({rows, columns});
    backend->ScatterRows(View(x, {rows, columns}), View(order, {rows}), strip);
    Ints all = {0, 1, 2, 3, 4, 5};
    Floats back(rows * columns), embedded(rows * columns);
    backend->GatherRows(strip, View(all, {rows}), View(back, {rows, columns}));
    ExpectSameBits(back, want, "scattered and gathered on " + name);
    backend->Embed(strip, View(all, {rows}), View(embedded, {rows, columns}));
    ExpectSameBits(embedded, want, "embedded on " + name);
  }
}

}  // namespace
}  // namespace temper
