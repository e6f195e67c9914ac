#include "gtest/gtest.h"
#include "kernels/ops/testing/op_case.h"
#include "kernels/ops/testing/shape_case.h"
#include "kernels/reference/pointwise.h"

namespace temper {
namespace {

constexpr int64_t kRows = 35;
constexpr float kEps = 1e-5f;
const int64_t kWidths[] = {1, 13, 16, 37, 64, 128, 201};

Floats operator+(Floats a, const Floats& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Tensor RowsOf(Floats& x, int64_t columns, int64_t begin, int64_t end) {
  return View(x, {static_cast<int64_t>(x.size()) / columns, columns})
      .Slice(0, begin, end);
}

TEST(PointwiseTest, NormsAgreeAndGiveTheSameBitsEverywhere) {
  for (const int64_t n : kWidths) {
    Floats x = Normals(1, kRows * n), w = Normals(2, n), b = Normals(3, n);
    const OpRun rms = [&](Backend& backend, int64_t begin, int64_t end) {
      Floats y((end - begin) * n);
      backend.RmsNorm(RowsOf(x, n, begin, end), View(w, {n}), kEps,
                      View(y, {end - begin, n}));
      return y;
    };
    const OpRun layer = [&](Backend& backend, int64_t begin, int64_t end) {
      Floats y((end - begin) * n);
      backend.LayerNorm({.x = RowsOf(x, n, begin, end),
                         .w = View(w, {n}),
                         .b = View(b, {n}),
                         .eps = kEps,
                         .y = View(y, {end - begin, n})});
      return y;
    };
    for (const OpRun* run : {&rms, &layer}) {
      ExpectSameBitsEverywhere(*run, kRows, "norm");
      ExpectRowsAloneAsInTheBatch(*run, kRows, "norm");
    }
    ExpectSameBits(rms(Definition(), 0, kRows), reference::RmsNorm(x, w, kEps),
                   "RmsNorm");
    ExpectSameBits(layer(Definition(), 0, kRows),
                   reference::LayerNorm(x, w, b, kEps), "LayerNorm");
    ExpectNear(rms(Definition(), 0, kRows),
               reference::RmsNorm(As<double>(x), As<double>(w), kEps), n,
               "RmsNorm");
    ExpectNear(
        layer(Definition(), 0, kRows),
        reference::LayerNorm(As<double>(x), As<double>(w), As<double>(b), kEps),
        n, "LayerNorm");
    x = EdgyNormals(4, kRows * n);
    ExpectSameBits(rms(Definition(), 0, kRows), reference::RmsNorm(x, w, kEps),
                   "RmsNorm of edges");
    ExpectSameBits(layer(Definition(), 0, kRows),
                   reference::LayerNorm(x, w, b, kEps), "LayerNorm of edges");
  }
}

TEST(PointwiseTest, RmsNormBackwardIsTheComplexStepAndAccumulatesDw) {
  for (const int64_t n : {1, 5, 21, 150}) {
    const int64_t rows = 4;
    Floats x = Normals(1, rows * n), w = Normals(2, n);
    const Floats dy = Normals(3, rows * n);
    const OpRun run = [&](Backend& backend, int64_t, int64_t) {
      Floats grad = dy, dw(n, 1.0f);  // in place
      backend.RmsNormBackward({.x = View(x, {rows, n}),
                               .w = View(w, {n}),
                               .eps = kEps,
                               .dy = View(grad, {rows, n}),
                               .dx = View(grad, {rows, n}),
                               .dw = View(dw, {n})});
      return grad + dw;
    };
    ExpectSameBitsEverywhere(run, rows, "RmsNormBackward");
    const auto wc = As<std::complex<double>>(w);
    const auto xc = As<std::complex<double>>(x);
    std::vector<double> want = ComplexStep(
        [&](const Complexes& at) { return reference::RmsNorm(at, wc, kEps); },
        x, dy);
    for (const double d : ComplexStep(
             [&](const Complexes& at) {
               return reference::RmsNorm(xc, at, kEps);
             },
             w, dy)) {
      want.push_back(1 + d);
    }
    ExpectNear(run(Definition(), 0, rows), want, 4 * n, "RmsNormBackward");
  }
}

TEST(PointwiseTest, LayerNormBackwardIsTheComplexStepAndAccumulates) {
  for (const int64_t n : {21, 150}) {
    const int64_t rows = 4;
    Floats x = Normals(1, rows * n), w = Normals(2, n);
    const Floats dy = Normals(3, rows * n), b = Normals(4, n);
    const OpRun run = [&](Backend& backend, int64_t, int64_t) {
      Floats grad = dy, dx(rows * n), dw(n, 1.0f), db(n, 2.0f);
      backend.LayerNormBackward({.x = View(x, {rows, n}),
                                 .w = View(w, {n}),
                                 .eps = kEps,
                                 .dy = View(grad, {rows, n}),
                                 .dx = View(dx, {rows, n}),
                                 .dw = View(dw, {n}),
                                 .db = View(db, {n})});
      return dx + dw + db;
    };
    ExpectSameBitsEverywhere(run, rows, "LayerNormBackward");
    const auto xc = As<std::complex<double>>(x);
    const auto wc = As<std::complex<double>>(w);
    const auto bc = As<std::complex<double>>(b);
    std::vector<double> want = ComplexStep(
        [&](const Complexes& at) {
          return reference::LayerNorm(at, wc, bc, kEps);
        },
        x, dy);
    const auto dw = ComplexStep(
        [&](const Complexes& at) {
          return reference::LayerNorm(xc, at, bc, kEps);
        },
        w, dy);
    const auto db = ComplexStep(
        [&](const Complexes& at) {
          return reference::LayerNorm(xc, wc, at, kEps);
        },
        b, dy);
    for (const double d : dw) want.push_back(1 + d);
    for (const double d : db) want.push_back(2 + d);
    ExpectNear(run(Definition(), 0, rows), want, 4 * n, "LayerNormBackward");
  }
}

TEST(PointwiseTest, RopeRotatesAndItsBackwardIsTheInverse) {
  const int64_t groups = 3, positions = 50;
  for (const int64_t width : {2, 10, 64}) {
    Floats table(positions * width);
    for (int64_t p = 0; p < positions; ++p) {
      for (int64_t j = 0; j < width / 2; ++j) {
        const double angle = p * std::pow(100.0, -2.0 * j / width);
        table[p * width + j] = static_cast<float>(std::cos(angle));
        table[p * width + width / 2 + j] = static_cast<float>(std::sin(angle));
      }
    }
    const Floats x = Normals(1, kRows * groups * width);
    Ints position(kRows);
    for (int64_t n = 0; n < kRows; ++n) position[n] = n * 17 % positions;
    for (const RopeStyle style :
         {RopeStyle::kInterleaved, RopeStyle::kHalfSplit}) {
      using Way = std::vector<RopeDirection>;
      const auto rotate = [&](const Way& way) {
        return [&, way](Backend& backend, int64_t begin, int64_t end) {
          Floats y(x.begin() + begin * groups * width,
                   x.begin() + end * groups * width);
          for (const RopeDirection direction : way) {
            backend.Rope(View(y, {end - begin, groups, width}),
                         View(position, {kRows}).Slice(0, begin, end),
                         View(table, {positions, width}), style, direction);
          }
          return y;
        };
      };
      const OpRun run = rotate({RopeDirection::kForward});
      for (const OpRun& one :
           {run, OpRun(rotate({RopeDirection::kBackward}))}) {
        ExpectSameBitsEverywhere(one, kRows, "Rope");
        ExpectRowsAloneAsInTheBatch(one, kRows, "Rope");
      }
      ExpectNear(
          run(Definition(), 0, kRows),
          reference::Rope(As<double>(x), position, As<double>(table), groups,
                          width, style == RopeStyle::kInterleaved),
          2, "Rope");
      ExpectNear(rotate({RopeDirection::kForward, RopeDirection::kBackward})(
                     Definition(), 0, kRows),
                 As<double>(x), 4, "Rope and back");
    }
  }
}

TEST(PointwiseTest, SwiGluAndItsBackwardAgreeEverywhere) {
  for (const int64_t n : kWidths) {
    Floats gate = Normals(1, kRows * n), up = Normals(2, kRows * n);
    for (float& g : gate) g *= 6;
    const OpRun run = [&](Backend& backend, int64_t begin, int64_t end) {
      Floats h((end - begin) * n);
      backend.SwiGlu(RowsOf(gate, n, begin, end), RowsOf(up, n, begin, end),
                     View(h, {end - begin, n}));
      return h;
    };
    ExpectSameBitsEverywhere(run, kRows, "SwiGlu");
    ExpectRowsAloneAsInTheBatch(run, kRows, "SwiGlu");
    ExpectSameBits(run(Definition(), 0, kRows), reference::SwiGlu(gate, up),
                   "SwiGlu");
    ExpectNear(run(Definition(), 0, kRows),
               reference::SwiGlu(As<double>(gate), As<double>(up)), 8,
               "SwiGlu");
    gate = EdgyNormals(1, kRows * n), up = EdgyNormals(2, kRows * n);
    ExpectSameBits(run(Definition(), 0, kRows), reference::SwiGlu(gate, up),
                   "SwiGlu of edges");
  }
  for (const int64_t n : {19, 150}) {
    const int64_t rows = 3;
    Floats gate = Normals(1, rows * n), up = Normals(2, rows * n);
    Floats dh = Normals(3, rows * n);
    const OpRun backward = [&](Backend& backend, int64_t, int64_t) {
      Floats dgate(rows * n), dup(rows * n);
      backend.SwiGluBackward({.gate = View(gate, {rows, n}),
                              .up = View(up, {rows, n}),
                              .dh = View(dh, {rows, n}),
                              .dgate = View(dgate, {rows, n}),
                              .dup = View(dup, {rows, n})});
      return dgate + dup;
    };
    ExpectSameBitsEverywhere(backward, rows, "SwiGluBackward");
    const auto gc = As<std::complex<double>>(gate);
    const auto uc = As<std::complex<double>>(up);
    std::vector<double> want = ComplexStep(
        [&](const Complexes& at) { return reference::SwiGlu(at, uc); }, gate,
        dh);
    const auto dup = ComplexStep(
        [&](const Complexes& at) { return reference::SwiGlu(gc, at); }, up, dh);
    want.insert(want.end(), dup.begin(), dup.end());
    ExpectNear(backward(Definition(), 0, rows), want, 8, "SwiGluBackward");
  }
}

TEST(PointwiseTest, EmbedGathersAndItsBackwardAddsRepeatedTokensInOrder) {
  const int64_t vocabulary = 7, n = 37;
  Floats table = Normals(1, vocabulary * n);
  const Floats initial = Normals(3, vocabulary * n);
  Floats dx = Normals(2, kRows * n);
  Ints ids(kRows);
  for (int64_t i = 0; i < kRows; ++i) ids[i] = i * i % vocabulary;
  std::vector<double> want = As<double>(initial);
  for (int64_t i = 0; i < kRows * n; ++i) {
    want[ids[i / n] * n + i % n] += dx[i];
  }
  const OpRun backward = [&](Backend& backend, int64_t, int64_t) {
    Floats dtable = initial;
    backend.EmbedBackward(View(ids, {kRows}), View(dx, {kRows, n}),
                          View(dtable, {vocabulary, n}));
    return dtable;
  };
  ExpectSameBitsEverywhere(backward, kRows, "EmbedBackward");
  ExpectNear(backward(Definition(), 0, kRows), want, kRows, "EmbedBackward");
  for (const auto& [name, backend] : BackendsUnderTest()) {
    Floats x(kRows * n);
    backend->Embed(View(table, {vocabulary, n}), View(ids, {kRows}),
                   View(x, {kRows, n}));
    ExpectSameBits(x, reference::Embed(table, ids, n), "Embed");
  }
}

TEST(PointwiseTest, AddScaleAndZeroTouchOnlyTheirViews) {
  for (const auto& [name, backend] : BackendsUnderTest()) {
    Floats x(6 * 5, 1.0f), y(6 * 3, 2.0f);
    const Tensor view = View(x, {6, 5}).Slice(1, 1, 4);
    backend->Add(View(y, {6, 3}), view);
    backend->Scale(3, view);
    backend->Zero(view.Slice(0, 0, 1));
    for (int64_t i = 0; i < 30; ++i) {
      const bool inside = i % 5 >= 1 && i % 5 < 4;
      EXPECT_EQ(x[i], !inside ? 1 : i < 5 ? 0 : 9) << i;
    }
  }
}

TEST(PointwiseTest, AddAndScaleGiveTheSameBitsEverywhere) {
  for (const int64_t n : kWidths) {
    Floats y = EdgyNormals(1, kRows * n);
    const Floats x = EdgyNormals(2, kRows * n);
    const OpRun run = [&](Backend& backend, int64_t, int64_t) {
      Floats sum = x;
      backend.Add(View(y, {kRows, n}), View(sum, {kRows, n}));
      backend.Scale(-0.3f, View(sum, {kRows, n}));
      return sum;
    };
    ExpectSameBitsEverywhere(run, kRows, "Add and Scale");
    Floats want = x;
    for (size_t i = 0; i < want.size(); ++i) {
      want[i] = (want[i] + y[i]) * -0.3f;
    }
    ExpectSameBits(run(Definition(), 0, kRows), want, "Add and Scale");
  }
}

TEST(PointwiseTest, CopyRoundsAndWidensAndTouchesOnlyItsViews) {
  const Floats from = EdgyNormals(3, 6 * 4 * 7);
  for (const auto& [name, backend] : BackendsUnderTest()) {
    for (const DType type : {DType::kF32, DType::kBF16}) {
      Floats source = from;
      Stored narrow(Floats(6 * 4 * 9, 1.0f), type);
      Floats back(6 * 4 * 7, 2.0f);
      const Tensor middle = narrow.View({6, 4, 9}).Slice(2, 1, 8);
      backend->Copy(View(source, {6, 4, 7}), middle);
      backend->Copy(middle.Slice(0, 0, 5),
                    View(back, {6, 4, 7}).Slice(0, 0, 5));
      Floats want = from, all(6 * 4 * 9);
      if (type == DType::kBF16) {
        for (float& x : want) x = reference::RoundToBf16(x);
      }
      std::fill(want.begin() + 5 * 4 * 7, want.end(), 2.0f);
      ExpectSameBits(back, want, name);
      backend->Copy(narrow.View({6, 4, 9}), View(all, {6, 4, 9}));
      for (int64_t row = 0; row < 6 * 4; ++row) {
        EXPECT_EQ(all[row * 9], 1) << name;
        EXPECT_EQ(all[row * 9 + 8], 1) << name;
      }
    }
  }
}

TEST(PointwiseTest, ScatterAndGatherAreInverse) {
  for (const auto& [name, backend] : BackendsUnderTest()) {
    Floats from = Normals(1, 4 * 5), to(9 * 5, 0.0f), back(4 * 5);
    Ints rows = {7, 0, 8, 3};
    backend->ScatterRows(View(from, {4, 5}), View(rows, {4}), View(to, {9, 5}));
    EXPECT_EQ(to[7 * 5 + 2], from[2]);
    EXPECT_EQ(to[1 * 5], 0);
    backend->GatherRows(View(to, {9, 5}), View(rows, {4}), View(back, {4, 5}));
    ExpectSameBits(back, from, "gather of scatter");
  }
}

TEST(PointwiseTest, CopiesHonourStrides) {
  Backend& backend = Definition();
  auto buffer = backend.Allocate(1000);
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>((*buffer)->data()) % 64, 0u);
  const Tensor all((*buffer)->data(), DType::kF32, {4, 6});
  const Floats values = {1, 2, 3, 4, 5, 6, 7, 8};
  ASSERT_TRUE(backend.CopyFromHost(values.data(), all.Slice(1, 2, 4)).ok());
  Floats back(8), whole(24);
  ASSERT_TRUE(backend.Read(all.Slice(1, 2, 4), back.data()).ok());
  ASSERT_TRUE(backend.Read(all, whole.data()).ok());
  EXPECT_EQ(back, values);
  EXPECT_EQ(whole[1], 0);  // zeroed when allocated
  EXPECT_EQ(whole[6 + 2], 3);
}

TEST(PointwiseTest, ShapesAreHeld) {
  using namespace sizes;
  Memory m;
  using B = RmsNormBackwardArgs;
  ExpectShapesAreHeld<B>(&Backend::RmsNormBackward,
                         {.x = m.F({N, D}),
                          .w = m.F({D}),
                          .eps = 1e-6f,
                          .dy = m.F({N, D}),
                          .dx = m.F({N, D}),
                          .dw = m.F({D})},
                         {{"x", &B::x, {0, 1}},
                          {"w", &B::w, {0}},
                          {"dy", &B::dy, {0, 1}},
                          {"dx", &B::dx, {0, 1}},
                          {"dw", &B::dw, {0}}});
  using L = LayerNormArgs;
  ExpectShapesAreHeld<L>(&Backend::LayerNorm,
                         {.x = m.F({N, D}),
                          .w = m.F({D}),
                          .b = m.F({D}),
                          .eps = 1e-6f,
                          .y = m.F({N, D})},
                         {{"x", &L::x, {0, 1}},
                          {"w", &L::w, {0}},
                          {"b", &L::b, {0}},
                          {"y", &L::y, {0, 1}}});
  using G = LayerNormBackwardArgs;
  ExpectShapesAreHeld<G>(&Backend::LayerNormBackward,
                         {.x = m.F({N, D}),
                          .w = m.F({D}),
                          .eps = 1e-6f,
                          .dy = m.F({N, D}),
                          .dx = m.F({N, D}),
                          .dw = m.F({D}),
                          .db = m.F({D})},
                         {{"x", &G::x, {0, 1}},
                          {"w", &G::w, {0}},
                          {"dy", &G::dy, {0, 1}},
                          {"dx", &G::dx, {0, 1}},
                          {"dw", &G::dw, {0}},
                          {"db", &G::db, {0}}});
  using S = SwiGluBackwardArgs;
  ExpectShapesAreHeld<S>(&Backend::SwiGluBackward,
                         {.gate = m.F({N, D}),
                          .up = m.F({N, D}),
                          .dh = m.F({N, D}),
                          .dgate = m.F({N, D}),
                          .dup = m.F({N, D})},
                         {{"gate", &S::gate, {0, 1}},
                          {"up", &S::up, {0, 1}},
                          {"dh", &S::dh, {0, 1}},
                          {"dgate", &S::dgate, {0, 1}},
                          {"dup", &S::dup, {0, 1}}});
}

}  // namespace
}  // namespace temper
