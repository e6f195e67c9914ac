#include <map>
#include <memory>

#include "gtest/gtest.h"
#include "kernels/ops/testing/op_case.h"
#include "kernels/ops/testing/shape_case.h"
#include "kernels/reference/linear.h"

namespace temper {
namespace {

struct Shape {
  int64_t rows, out, in;
};
// Odd ones; depths of several blocks; more rows than a block.
const Shape kShapes[] = {{1, 1, 1},     {5, 13, 29},   {33, 37, 64},
                         {7, 16, 300},  {200, 50, 31}, {35, 128, 96},
                         {34, 29, 601}, {300, 18, 13}};

// A matrix of a stream's values.
using Draws = Floats (*)(uint64_t seed, int64_t rows, int64_t columns);
Floats Plain(uint64_t seed, int64_t rows, int64_t columns) {
  return Normals(seed, rows * columns);
}

// Operands both ways, drawn once.
struct Product {
  explicit Product(const Shape& s, Draws draw = Plain)
      : shape(s),
        forward_x(draw(1, s.rows, s.in + 1)),
        transposed_x(draw(1, s.rows, s.out + 1)),
        w(draw(2, s.out, s.in)) {
    for (const auto& [name, backend] : BackendsUnderTest()) {
      packed[backend.get()] = Pack(*backend, w, 1, s.out, s.in);
    }
  }

  int64_t from(Use use) const {
    return use == Use::kForward ? shape.in : shape.out;
  }
  Floats& x(Use use) { return use == Use::kForward ? forward_x : transposed_x; }

  // Rows of y for x rows [begin, end), with a stride of one to spare.
  Floats Run(Backend& backend, Use use, int64_t begin, int64_t end) {
    const int64_t in = from(use), out = shape.in + shape.out - in;
    Floats y(shape.rows * (out + 1), 7.0f);
    backend.Linear(
        View(x(use), {shape.rows, in + 1}).Slice(0, begin, end).Slice(1, 0, in),
        *packed[&backend], use,
        View(y, {shape.rows, out + 1}).Slice(0, begin, end).Slice(1, 0, out));
    Floats dense;
    for (int64_t n = begin; n < end; ++n) {
      EXPECT_EQ(y[n * (out + 1) + out], 7.0f) << "wrote beyond the row";
      dense.insert(dense.end(), y.begin() + n * (out + 1),
                   y.begin() + n * (out + 1) + out);
    }
    return dense;
  }

  Shape shape;
  Floats forward_x, transposed_x, w;
  std::map<const Backend*, std::unique_ptr<Weight>> packed;
};

Floats Dense(const Floats& x, int64_t rows, int64_t columns) {
  Floats dense;
  for (int64_t n = 0; n < rows; ++n) {
    dense.insert(dense.end(), x.begin() + n * (columns + 1),
                 x.begin() + n * (columns + 1) + columns);
  }
  return dense;
}

TEST(LinearTest, AgreesWithTheReferenceBothWays) {
  for (const Shape& s : kShapes) {
    Product product(s), edgy(s, SomeEdges);
    for (const Use use : {Use::kForward, Use::kTransposed}) {
      const int64_t from = product.from(use);
      for (Product* p : {&product, &edgy}) {
        ExpectSameBits(p->Run(Definition(), use, 0, s.rows),
                       reference::Linear(Dense(p->x(use), s.rows, from), p->w,
                                         s.out, s.in, use == Use::kTransposed),
                       "Linear");
      }
      ExpectNear(
          product.Run(Definition(), use, 0, s.rows),
          reference::Linear(As<double>(Dense(product.x(use), s.rows, from)),
                            As<double>(product.w), s.out, s.in,
                            use == Use::kTransposed),
          from, "Linear");
    }
  }
}

TEST(LinearTest, TiersThreadsAndBatchesGiveTheSameBits) {
  for (const Shape& s : kShapes) {
    Product product(s);
    for (const Use use : {Use::kForward, Use::kTransposed}) {
      const OpRun run = [&](Backend& backend, int64_t begin, int64_t end) {
        return product.Run(backend, use, begin, end);
      };
      ExpectSameBitsEverywhere(run, s.rows, "Linear");
      if (s.rows <= 40) ExpectRowsAloneAsInTheBatch(run, s.rows, "Linear");
    }
  }
}

TEST(LinearTest, AWeightPackedForOneUseGivesTheBitsOfOnePackedForBoth) {
  for (const Shape& s : kShapes) {
    Product both(s);
    for (const Use use : {Use::kForward, Use::kTransposed}) {
      Product one(s);
      for (const auto& [name, backend] : BackendsUnderTest()) {
        one.packed[backend.get()] =
            Pack(*backend, one.w, 1, s.out, s.in, DType::kF32,
                 use == Use::kForward ? PackedFor::kForward
                                      : PackedFor::kTransposed);
        ExpectSameBits(one.Run(*backend, use, 0, s.rows),
                       both.Run(*backend, use, 0, s.rows), name);
      }
    }
  }
}

TEST(LinearTest, WeightGradAddsTokensInOrderOntoWhatIsThere) {
  for (const Shape& s : kShapes) {
    Floats x = Normals(3, s.rows * s.in), dy = Normals(4, s.rows * s.out);
    const Floats initial = Normals(5, s.out * s.in);
    const OpRun run = [&](Backend& backend, int64_t begin, int64_t end) {
      Floats dw = initial;
      backend.LinearWeightGrad(
          {.x = View(x, {s.rows, s.in}).Slice(0, begin, end),
           .dy = View(dy, {s.rows, s.out}).Slice(0, begin, end),
           .dw = View(dw, {s.out, s.in})});
      return dw;
    };
    ExpectSameBitsEverywhere(run, s.rows, "LinearWeightGrad");
    // d sum(dy . W x) / dW, plus the initial value; and one chain: tokens one
    // by one give the bits of all at once.
    auto want = As<double>(initial);
    Floats one_by_one = initial;
    for (int64_t n = 0; n < s.rows; ++n) {
      for (int64_t i = 0; i < s.out * s.in; ++i) {
        want[i] += double{dy[n * s.out + i / s.in]} * x[n * s.in + i % s.in];
      }
      Definition().LinearWeightGrad(
          {.x = View(x, {s.rows, s.in}).Slice(0, n, n + 1),
           .dy = View(dy, {s.rows, s.out}).Slice(0, n, n + 1),
           .dw = View(one_by_one, {s.out, s.in})});
    }
    const Floats got = run(Definition(), 0, s.rows);
    ExpectNear(got, want, s.rows, "LinearWeightGrad");
    ExpectSameBits(one_by_one, got, "tokens one by one");
  }
}

TEST(LinearTest, LinearBackwardsAreTheComplexStepOfTheForward) {
  const Shape s = {4, 5, 3};
  Floats x = Normals(1, s.rows * s.in), w = Normals(2, s.out * s.in);
  Floats dy = Normals(3, s.rows * s.out);
  Floats dx(x.size()), dw(w.size(), 0.0f);
  Backend& backend = *BackendsUnderTest().back().backend;
  backend.Linear(View(dy, {s.rows, s.out}), *Pack(backend, w, 1, s.out, s.in),
                 Use::kTransposed, View(dx, {s.rows, s.in}));
  backend.LinearWeightGrad({.x = View(x, {s.rows, s.in}),
                            .dy = View(dy, {s.rows, s.out}),
                            .dw = View(dw, {s.out, s.in})});
  const auto wc = As<std::complex<double>>(w);
  const auto xc = As<std::complex<double>>(x);
  ExpectNear(dx,
             ComplexStep(
                 [&](const Complexes& at) {
                   return reference::Linear(at, wc, s.out, s.in, false);
                 },
                 x, dy),
             s.out, "dx");
  ExpectNear(dw,
             ComplexStep(
                 [&](const Complexes& at) {
                   return reference::Linear(xc, at, s.out, s.in, false);
                 },
                 w, dy),
             s.rows, "dw");
}

constexpr int64_t kGroups = 3;

TEST(LinearTest, HeadLinearAndItsGradientsAgreeEverywhere) {
  for (const Shape& s : {Shape{35, 13, 29}, Shape{100, 32, 48}}) {
    const Floats w = Normals(2, kGroups * s.out * s.in);
    Floats x = Normals(1, s.rows * kGroups * s.in);
    Floats dy = Normals(3, s.rows * kGroups * s.out);
    const auto run = [&](Use use) {
      return [&, use](Backend& backend, int64_t begin, int64_t end) {
        const bool forward = use == Use::kForward;
        const int64_t to = forward ? s.out : s.in;
        Floats y((end - begin) * kGroups * to);
        const Tensor from = forward ? View(x, {s.rows, kGroups, s.in})
                                    : View(dy, {s.rows, kGroups, s.out});
        backend.HeadLinear(from.Slice(0, begin, end),
                           *Pack(backend, w, kGroups, s.out, s.in), use,
                           View(y, {end - begin, kGroups, to}));
        return y;
      };
    };
    for (const Use use : {Use::kForward, Use::kTransposed}) {
      ExpectSameBitsEverywhere(run(use), s.rows, "HeadLinear");
      if (s.rows < 40) {
        ExpectRowsAloneAsInTheBatch(run(use), s.rows, "HeadLinear");
      }
      ExpectNear(run(use)(Definition(), 0, s.rows),
                 reference::HeadLinear(
                     As<double>(use == Use::kForward ? x : dy), As<double>(w),
                     kGroups, s.out, s.in, use == Use::kTransposed),
                 s.in + s.out, "HeadLinear");
    }
    const OpRun grad = [&](Backend& backend, int64_t, int64_t) {
      Floats dw(w.size(), 0.5f);
      backend.HeadLinearWeightGrad({.x = View(x, {s.rows, kGroups, s.in}),
                                    .dy = View(dy, {s.rows, kGroups, s.out}),
                                    .dw = View(dw, {kGroups, s.out, s.in})});
      return dw;
    };
    ExpectSameBitsEverywhere(grad, s.rows, "HeadLinearWeightGrad");
    std::vector<double> want(w.size(), 0.5);
    for (int64_t i = 0; i < s.rows * kGroups; ++i) {
      double* to = want.data() + i % kGroups * s.out * s.in;
      for (int64_t j = 0; j < s.out * s.in; ++j) {
        to[j] += double{dy[i * s.out + j / s.in]} * x[i * s.in + j % s.in];
      }
    }
    ExpectNear(grad(Definition(), 0, s.rows), want, s.rows, "head dw");
  }
}

TEST(LinearTest, GroupedLinearAndItsGradientsAgreeEverywhere) {
  // An expert without rows, one with many.
  Ints offsets = {0, 5, 5, 18, 150, 151};
  const int64_t rows = 151, experts = 5, out = 13, in = 29;
  const Floats w = Normals(2, experts * out * in);
  Floats x = Normals(1, rows * in), dy = Normals(3, rows * out);
  for (const Use use : {Use::kForward, Use::kTransposed}) {
    const bool forward = use == Use::kForward;
    const OpRun run = [&](Backend& backend, int64_t, int64_t) {
      Floats y(rows * (forward ? out : in));
      backend.GroupedLinear(
          {.x = forward ? View(x, {rows, in}) : View(dy, {rows, out}),
           .offsets = View(offsets, {experts + 1}),
           .w = Pack(backend, w, experts, out, in).get(),
           .use = use,
           .y = View(y, {rows, forward ? out : in})});
      return y;
    };
    ExpectSameBitsEverywhere(run, rows, "GroupedLinear");
    ExpectNear(run(Definition(), 0, rows),
               reference::GroupedLinear(As<double>(forward ? x : dy), offsets,
                                        As<double>(w), out, in, !forward),
               in + out, "GroupedLinear");
  }
  const OpRun grad = [&](Backend& backend, int64_t, int64_t) {
    Floats dw(w.size(), 0.25f);
    backend.GroupedLinearWeightGrad({.x = View(x, {rows, in}),
                                     .dy = View(dy, {rows, out}),
                                     .offsets = View(offsets, {experts + 1}),
                                     .dw = View(dw, {experts, out, in})});
    return dw;
  };
  ExpectSameBitsEverywhere(grad, rows, "GroupedLinearWeightGrad");
  std::vector<double> want(w.size(), 0.25);
  for (int64_t e = 0; e < experts; ++e) {
    for (int64_t n = offsets[e]; n < offsets[e + 1]; ++n) {
      for (int64_t i = 0; i < out * in; ++i) {
        want[e * out * in + i] +=
            double{dy[n * out + i / in]} * x[n * in + i % in];
      }
    }
  }
  ExpectNear(grad(Definition(), 0, rows), want, rows, "grouped dw");
}

// The order of one row is that of GroupedLinear and Linear alike.
TEST(LinearTest, AnExpertsRowEqualsTheSameRowThroughItsMatrixAlone) {
  const int64_t rows = 9, out = 37, in = 70;
  const Floats w = Normals(2, 2 * out * in);
  Floats x = Normals(1, rows * in);
  Ints offsets = {0, 4, rows};
  for (const auto& [name, backend] : BackendsUnderTest()) {
    Floats grouped(rows * out), alone(rows * out);
    backend->GroupedLinear({.x = View(x, {rows, in}),
                            .offsets = View(offsets, {3}),
                            .w = Pack(*backend, w, 2, out, in).get(),
                            .use = Use::kForward,
                            .y = View(grouped, {rows, out})});
    for (int64_t n = 0; n < rows; ++n) {
      const int64_t begin = n < 4 ? 0 : out * in;
      const Floats matrix(w.begin() + begin, w.begin() + begin + out * in);
      backend->Linear(View(x, {rows, in}).Slice(0, n, n + 1),
                      *Pack(*backend, matrix, 1, out, in), Use::kForward,
                      View(alone, {rows, out}).Slice(0, n, n + 1));
    }
    ExpectSameBits(grouped, alone, "a row of an expert");
  }
}

TEST(LinearTest, ShapesAreHeld) {
  using namespace sizes;
  Memory m;
  const Ints ends = {0, 1, 2, 2, 2, 2, N};
  using L = GroupedLinearArgs;
  ExpectShapesAreHeld<L>(
      &Backend::GroupedLinear,
      {.x = m.F({N, in}), .offsets = m.I({E + 1}, ends), .y = m.F({N, out})},
      {{"x", &L::x, {0, 1}},
       {"offsets", &L::offsets, {0}},
       {"y", &L::y, {0, 1}}},
      {.groups = E, .out = out, .in = in});
  using W = WeightGradArgs;
  ExpectShapesAreHeld<W>(
      &Backend::LinearWeightGrad,
      {.x = m.F({N, in}), .dy = m.F({N, out}), .dw = m.F({out, in})},
      {{"x", &W::x, {0, 1}}, {"dy", &W::dy, {0, 1}}, {"dw", &W::dw, {0, 1}}});
  ExpectShapesAreHeld<W>(
      &Backend::HeadLinearWeightGrad,
      {.x = m.F({N, H, in}), .dy = m.F({N, H, out}), .dw = m.F({H, out, in})},
      {{"x", &W::x, {0, 1, 2}},
       {"dy", &W::dy, {0, 1, 2}},
       {"dw", &W::dw, {0, 1, 2}}});
  using G = GroupedLinearWeightGradArgs;
  ExpectShapesAreHeld<G>(&Backend::GroupedLinearWeightGrad,
                         {.x = m.F({N, in}),
                          .dy = m.F({N, out}),
                          .offsets = m.I({E + 1}, ends),
                          .dw = m.F({E, out, in})},
                         {{"x", &G::x, {0, 1}},
                          {"dy", &G::dy, {0, 1}},
                          {"offsets", &G::offsets, {0}},
                          {"dw", &G::dw, {0, 1, 2}}});
}

}  // namespace
}  // namespace temper
