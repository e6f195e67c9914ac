#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "gtest/gtest.h"
#include "kernels/ops/testing/op_case.h"
#include "kernels/ops/testing/shape_case.h"
#include "kernels/reference/moe.h"

namespace temper {
namespace {

constexpr int64_t kRows = 35;

struct Shape {
  int64_t experts, slots;
  int32_t groups, topk_group;
};
const Shape kShapes[] = {
    {4, 1, 1, 1}, {12, 3, 4, 2}, {37, 5, 1, 1}, {64, 8, 8, 4}, {6, 2, 6, 3}};

struct Gate {
  Floats scores, gates;
  Ints routes;
};

Gate RunGate(Backend& backend, const Shape& s, Floats logits, Floats bias,
             Ints routes) {
  const int64_t rows = static_cast<int64_t>(logits.size()) / s.experts;
  Gate out = {Floats(logits.size()), Floats(rows * s.slots), routes};
  backend.MoeGate({.logits = View(logits, {rows, s.experts}),
                   .bias = View(bias, {s.experts}),
                   .options = {s.groups, s.topk_group, 2.5f},
                   .scores = View(out.scores, {rows, s.experts}),
                   .routes = View(out.routes, {rows, s.slots}),
                   .gates = View(out.gates, {rows, s.slots})});
  return out;
}

TEST(MoeTest, TheGateChoosesAsTheReferenceDoesAndGivesTheSameBits) {
  for (const Shape& s : kShapes) {
    const Floats logits = Normals(1, kRows * s.experts);
    Floats bias = Normals(2, s.experts);
    for (float& b : bias) b *= 0.1f;
    const Ints unset(kRows * s.slots, -1);
    const Gate want = RunGate(Definition(), s, logits, bias, unset);
    for (int64_t n = 0; n < kRows; ++n) {
      std::vector<double> biased(s.experts);
      for (int64_t e = 0; e < s.experts; ++e) {
        biased[e] = want.scores[n * s.experts + e] + bias[e];
      }
      const Ints chosen =
          reference::ChooseExperts(biased, s.groups, s.topk_group, s.slots);
      EXPECT_EQ(Ints(want.routes.begin() + n * s.slots,
                     want.routes.begin() + (n + 1) * s.slots),
                chosen);
    }
    ExpectNear(want.gates,
               reference::Gates(As<double>(logits), s.experts, want.routes,
                                s.slots, 2.5),
               s.slots, "gates");
    for (const auto& [name, backend] : BackendsUnderTest()) {
      const Gate got = RunGate(*backend, s, logits, bias, unset);
      EXPECT_EQ(got.routes, want.routes);
      ExpectSameBits(got.gates, want.gates, "gates");
      ExpectSameBits(got.scores, want.scores, "scores");
      // Replayed, the same rows give the same gates.
      const Gate replayed = RunGate(*backend, s, logits, bias, want.routes);
      ExpectSameBits(replayed.gates, want.gates, "replayed gates");
    }
    const OpRun rows = [&](Backend& backend, int64_t begin, int64_t end) {
      return RunGate(backend, s,
                     {logits.begin() + begin * s.experts,
                      logits.begin() + end * s.experts},
                     bias, Ints((end - begin) * s.slots, -1))
          .gates;
    };
    ExpectRowsAloneAsInTheBatch(rows, kRows, "gates");
  }
}

TEST(MoeTest, TiesGoToTheLowestExpertAndRecordedRoutesAreKept) {
  const Shape s = {6, 2, 3, 2};
  const Gate tied =
      RunGate(Definition(), s, Floats(6, 0.5f), Floats(6, 0.0f), {-1, -1});
  EXPECT_EQ(tied.routes, (Ints{0, 1}));
  const Gate replayed =
      RunGate(Definition(), s, {9, 9, 9, 9, -1, -2}, Floats(6, 0.0f), {4, 5});
  EXPECT_EQ(replayed.routes, (Ints{4, 5}));
}

TEST(MoeTest, ARowThatIsNotANumberGetsSomeExpertsAndNoFiniteGate) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Shape& s : kShapes) {
    Floats logits = Normals(1, 3 * s.experts);
    std::fill_n(logits.begin() + s.experts, s.experts, nan);  // row 1
    logits[3 * s.experts - 1] = nan;                          // of row 2
    const Ints unset(3 * s.slots, -1);
    const Floats bias(s.experts, 0.0f);
    const Gate want = RunGate(Definition(), s, logits, bias, unset);
    for (const auto& [name, backend] : BackendsUnderTest()) {
      const Gate got = RunGate(*backend, s, logits, bias, unset);
      EXPECT_EQ(got.routes, want.routes);
      for (int64_t i = 0; i < 3 * s.slots; ++i) {
        EXPECT_EQ(std::isnan(got.gates[i]), i >= s.slots) << i;
        const int32_t before = i % s.slots > 0 ? got.routes[i - 1] : -1;
        EXPECT_TRUE(got.routes[i] > before && got.routes[i] < s.experts);
      }
    }
  }
}

TEST(MoeTest, BiasesWhoseSumOverflowsStillChooseGroups) {
  const float low = std::numeric_limits<float>::lowest();
  for (const auto& [name, backend] : BackendsUnderTest()) {
    const Gate gate = RunGate(*backend, {12, 3, 4, 2}, Normals(1, 12),
                              Floats(12, low), {-1, -1, -1});
    EXPECT_EQ(gate.routes, (Ints{0, 1, 2}));
  }
}

TEST(MoeTest, TheGatesBackwardIsTheComplexStep) {
  const Shape s = {12, 3, 4, 2};
  const int64_t rows = 5;
  const Floats logits = Normals(1, rows * s.experts);
  Gate gate = RunGate(Definition(), s, logits, Floats(s.experts, 0.0f),
                      Ints(rows * s.slots, -1));
  Floats dgates = Normals(3, rows * s.slots);
  const OpRun run = [&](Backend& backend, int64_t, int64_t) {
    Floats dlogits(logits.size(), 7.0f);
    backend.MoeGateBackward({.scores = View(gate.scores, {rows, s.experts}),
                             .routes = View(gate.routes, {rows, s.slots}),
                             .options = {s.groups, s.topk_group, 2.5f},
                             .dgates = View(dgates, {rows, s.slots}),
                             .dlogits = View(dlogits, {rows, s.experts})});
    return dlogits;
  };
  ExpectSameBitsEverywhere(run, rows, "MoeGateBackward");
  ExpectNear(run(Definition(), 0, rows),
             ComplexStep(
                 [&](const Complexes& at) {
                   return reference::Gates(at, s.experts, gate.routes, s.slots,
                                           2.5);
                 },
                 logits, dgates),
             8, "MoeGateBackward");
}

struct Plan {
  Ints offsets, rows, place;
};

Plan MakePlan(Backend& backend, Ints routes, int64_t tokens, int64_t slots,
              int64_t experts) {
  Plan plan = {Ints(experts + 1), Ints(tokens * slots), Ints(tokens * slots)};
  backend.MoePlan({.routes = View(routes, {tokens, slots}),
                   .offsets = View(plan.offsets, {experts + 1}),
                   .rows = View(plan.rows, {tokens * slots}),
                   .place = View(plan.place, {tokens, slots})});
  return plan;
}

TEST(MoeTest, ThePlanSortsByExpertThenToken) {
  for (const auto& [name, backend] : BackendsUnderTest()) {
    const Plan plan = MakePlan(*backend, {0, 2, 2, 3, 0, 3}, 3, 2, 5);
    EXPECT_EQ(plan.offsets, (Ints{0, 2, 2, 4, 6, 6})) << name;
    EXPECT_EQ(plan.rows, (Ints{0, 2, 0, 1, 1, 2})) << name;
    EXPECT_EQ(plan.place, (Ints{0, 2, 3, 4, 1, 5})) << name;
  }
}

// More pairs than a device takes at once; an expert that nobody chose.
TEST(MoeTest, APlanOfManyPairsIsTheSortOfThem) {
  constexpr int64_t kTokens = 301, kSlots = 3, kExperts = 7;
  Ints routes;
  for (int64_t n = 0; n < kTokens; ++n) {
    for (const int64_t slot : {0, 1, 2}) {
      routes.push_back(static_cast<int32_t>((n * n + slot) % 5 + slot / 2));
    }
  }
  Ints order(routes.size()), offsets(kExperts + 1), rows, place(routes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return routes[a] < routes[b]; });
  for (const int32_t pair : order) {
    place[pair] = static_cast<int32_t>(rows.size());
    rows.push_back(static_cast<int32_t>(pair / kSlots));
    for (int64_t e = routes[pair] + 1; e <= kExperts; ++e) ++offsets[e];
  }
  for (const auto& [name, backend] : BackendsUnderTest()) {
    const Plan plan = MakePlan(*backend, routes, kTokens, kSlots, kExperts);
    EXPECT_EQ(plan.offsets, offsets) << name;
    EXPECT_EQ(plan.rows, rows) << name;
    EXPECT_EQ(plan.place, place) << name;
  }
}

TEST(MoeTest, CombineAndItsBackwardAgreeEverywhere) {
  const int64_t tokens = 5, slots = 3, columns = 21;
  Ints routes = {0, 1, 2, 1, 2, 3, 0, 2, 3, 0, 1, 3, 1, 2, 3};
  Plan plan = MakePlan(Definition(), routes, tokens, slots, 4);
  Floats x = Normals(1, tokens * slots * columns);
  Floats gates = Normals(2, tokens * slots);
  Floats dy = Normals(4, tokens * columns);
  const Floats initial = Normals(3, tokens * columns);
  const auto forward = [&](Backend& backend, bool with_gates) {
    Floats y = initial;
    backend.MoeCombine(
        {.x = View(x, {tokens * slots, columns}),
         .place = View(plan.place, {tokens, slots}),
         .gates = with_gates ? View(gates, {tokens, slots}) : Tensor(),
         .y = View(y, {tokens, columns})});
    return y;
  };
  const OpRun backward = [&](Backend& backend, int64_t, int64_t) {
    Floats dx(x.size()), dgates(gates.size());
    backend.MoeCombineBackward({.x = View(x, {tokens * slots, columns}),
                                .place = View(plan.place, {tokens, slots}),
                                .gates = View(gates, {tokens, slots}),
                                .dy = View(dy, {tokens, columns}),
                                .dx = View(dx, {tokens * slots, columns}),
                                .dgates = View(dgates, {tokens, slots})});
    dx.insert(dx.end(), dgates.begin(), dgates.end());
    return dx;
  };
  for (const auto& [name, backend] : BackendsUnderTest()) {
    for (const bool with_gates : {true, false}) {
      ExpectSameBits(forward(*backend, with_gates),
                     forward(Definition(), with_gates), "MoeCombine");
    }
  }
  ExpectSameBitsEverywhere(backward, tokens, "MoeCombineBackward");
  const auto initial_d = As<double>(initial);
  ExpectNear(forward(Definition(), true),
             reference::Combine(As<double>(x), plan.place, As<double>(gates),
                                initial_d, columns),
             slots, "MoeCombine");
  ExpectNear(forward(Definition(), false),
             reference::Combine(As<double>(x), plan.place,
                                std::vector<double>(gates.size(), 1), initial_d,
                                columns),
             slots, "MoeCombine of ones");
  const auto xc = As<std::complex<double>>(x);
  const auto gc = As<std::complex<double>>(gates);
  const auto ic = As<std::complex<double>>(initial);
  std::vector<double> want = ComplexStep(
      [&](const Complexes& at) {
        return reference::Combine(at, plan.place, gc, ic, columns);
      },
      x, dy);
  const auto dgates = ComplexStep(
      [&](const Complexes& at) {
        return reference::Combine(xc, plan.place, at, ic, columns);
      },
      gates, dy);
  want.insert(want.end(), dgates.begin(), dgates.end());
  ExpectNear(backward(Definition(), 0, tokens), want, columns,
             "MoeCombineBackward");
}

TEST(MoeTest, ShapesAreHeld) {
  using namespace sizes;
  Memory m;
  const Ints routes = {0, 1, 2, 3, 4, 5};
  using G = MoeGateArgs;
  ExpectShapesAreHeld<G>(&Backend::MoeGate,
                         {.logits = m.F({N, E}),
                          .bias = m.F({E}),
                          .scores = m.F({N, E}),
                          .routes = m.I({N, A}, routes),
                          .gates = m.F({N, A})},
                         {{"logits", &G::logits, {0, 1}},
                          {"bias", &G::bias, {0}},
                          {"scores", &G::scores, {0, 1}},
                          {"routes", &G::routes, {0, 1}},
                          {"gates", &G::gates, {0, 1}}});
  using B = MoeGateBackwardArgs;
  ExpectShapesAreHeld<B>(&Backend::MoeGateBackward,
                         {.scores = m.F({N, E}),
                          .routes = m.I({N, A}, routes),
                          .dgates = m.F({N, A}),
                          .dlogits = m.F({N, E})},
                         {{"scores", &B::scores, {0, 1}},
                          {"routes", &B::routes, {0, 1}},
                          {"dgates", &B::dgates, {0, 1}},
                          {"dlogits", &B::dlogits, {0, 1}}});
  using P = MoePlanArgs;
  ExpectShapesAreHeld<P>(&Backend::MoePlan,
                         {.routes = m.I({N, A}, routes),
                          .offsets = m.I({E + 1}),
                          .rows = m.I({N * A}),
                          .place = m.I({N, A})},
                         {{"routes", &P::routes, {0, 1}},
                          {"rows", &P::rows, {0}},
                          {"place", &P::place, {0, 1}}});
  using M = MoeCombineArgs;
  ExpectShapesAreHeld<M>(&Backend::MoeCombine,
                         {.x = m.F({N * A, D}),
                          .place = m.I({N, A}),
                          .gates = m.F({N, A}),
                          .y = m.F({N, D})},
                         {{"x", &M::x, {1}},
                          {"place", &M::place, {0, 1}},
                          {"gates", &M::gates, {0, 1}},
                          {"y", &M::y, {0, 1}}});
  using D2 = MoeCombineBackwardArgs;
  ExpectShapesAreHeld<D2>(&Backend::MoeCombineBackward,
                          {.x = m.F({N * A, D}),
                           .place = m.I({N, A}),
                           .gates = m.F({N, A}),
                           .dy = m.F({N, D}),
                           .dx = m.F({N * A, D}),
                           .dgates = m.F({N, A})},
                          {{"x", &D2::x, {0, 1}},
                           {"place", &D2::place, {0, 1}},
                           {"gates", &D2::gates, {0, 1}},
                           {"dy", &D2::dy, {0, 1}},
                           {"dx", &D2::dx, {0, 1}},
                           {"dgates", &D2::dgates, {0, 1}}});
}

}  // namespace
}  // namespace temper
