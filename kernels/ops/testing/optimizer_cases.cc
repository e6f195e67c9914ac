#include <array>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/ops/testing/op_case.h"
#include "kernels/ops/testing/shape_case.h"
#include "kernels/reference/optimizer.h"

namespace temper {
namespace {

constexpr int64_t kCount = 9 * 1001;

Floats RunAdamW(Backend& backend, const AdamWOptions& options) {
  Floats g = Normals(1, kCount), p = Normals(2, kCount);
  Floats m = Normals(3, kCount), v = Normals(4, kCount);
  for (float& x : v) x *= x;
  backend.AdamW(options, {{.grad = View(g, {kCount}),
                           .p = View(p, {kCount}),
                           .m = View(m, {kCount}),
                           .v = View(v, {kCount})}});
  p.insert(p.end(), m.begin(), m.end());
  p.insert(p.end(), v.begin(), v.end());
  return p;
}

TEST(OptimizerTest, AdamWAgreesAndGivesTheSameBitsEverywhere) {
  const AdamWOptions options = {.learning_rate = 0.01f,
                                .weight_decay = 0.1f,
                                .bias_correction1 = 0.271f,
                                .bias_correction2 = 0.142f,
                                .grad_scale = 0.5f};
  const OpRun run = [&](Backend& backend, int64_t, int64_t) {
    return RunAdamW(backend, options);
  };
  ExpectSameBitsEverywhere(run, kCount, "AdamW");
  auto g = As<double>(Normals(1, kCount)), p = As<double>(Normals(2, kCount));
  auto m = As<double>(Normals(3, kCount)), v = As<double>(Normals(4, kCount));
  for (double& x : v) x *= x;
  reference::AdamW(options, g, &p, &m, &v);
  p.insert(p.end(), m.begin(), m.end());
  p.insert(p.end(), v.begin(), v.end());
  ExpectNear(run(Definition(), 0, kCount), p, 8, "AdamW");
}

TEST(OptimizerTest, WeightDecayMovesWhatHasNoGradient) {
  Floats g(3, 0.0f), p(3, 2.0f), m(3, 0.0f), v(3, 0.0f);
  const AdamWOptions options = {.learning_rate = 0.5f, .weight_decay = 0.25f};
  const auto tensor = [&](bool decays) {
    return AdamWTensor{View(g, {3}), View(p, {3}), View(m, {3}), View(v, {3}),
                       decays};
  };
  Definition().AdamW(options, {tensor(true)});
  EXPECT_EQ(p, Floats(3, 1.75f));
  Definition().AdamW(options, {tensor(false)});
  EXPECT_EQ(p, Floats(3, 1.75f));
}

// However the tensors are cut among threads, each comes to what it alone does.
TEST(OptimizerTest, ManyTensorsInOneGoHaveTheBitsOfEachAlone) {
  const AdamWOptions options = {
      .learning_rate = 0.01f, .weight_decay = 0.1f, .grad_scale = 0.5f};
  const std::vector<int64_t> sizes = {1, 4096, 5000, 3, 4095, 2 * kCount};
  const auto run = [&](Backend& backend, bool together) {
    std::vector<std::array<Floats, 4>> values;
    for (const int64_t size : sizes) {
      const auto seed = static_cast<uint64_t>(8 * values.size());
      values.push_back({Normals(seed, size), Normals(seed + 1, size),
                        Normals(seed + 2, size), Floats(size, 0.5f)});
    }
    std::vector<AdamWTensor> tensors;
    for (auto& [g, p, m, v] : values) {
      const auto size = static_cast<int64_t>(g.size());
      tensors.push_back({View(g, {size}), View(p, {size}), View(m, {size}),
                         View(v, {size}), tensors.size() % 2 == 0});
      if (!together) backend.AdamW(options, {tensors.back()});
    }
    if (together) backend.AdamW(options, tensors);
    Floats all;
    for (const auto& four : values) {
      for (const Floats& x : four) all.insert(all.end(), x.begin(), x.end());
    }
    return all;
  };
  const Floats want = run(Definition(), false);
  for (const auto& [name, backend] : BackendsUnderTest()) {
    ExpectSameBits(run(*backend, true), want, name);
  }
}

// Tensors of less than a block, of whole blocks and of an odd number of them,
// one of them a slice with a stride.
TEST(OptimizerTest, SumSquaresAddsBlocksAndTensorsByNeighbours) {
  std::vector<Floats> values;
  for (const int64_t count : {kCount, int64_t{4096}, int64_t{5}, 5 * kCount}) {
    values.push_back(Normals(values.size() + 1, count));
    // So that the order shows: sizes that go up and down many times a block.
    for (int64_t i = 0; i < count; ++i) {
      values.back()[i] *= static_cast<float>(i % 61 * (i % 7) + 1);
    }
  }
  Floats wide(3 * kCount, 7.0f);  // rows of 27, of which 9 are the tensor's
  for (int64_t i = 0; i < kCount; ++i) wide[i / 9 * 27 + i % 9] = values[0][i];
  const double want = reference::SumSquares(values);
  double in_order = 0;
  for (const Floats& x : values) {
    for (const float value : x) in_order += double{value} * value;
  }
  EXPECT_NE(want, in_order);
  EXPECT_NEAR(want / in_order, 1, 1e-12);
  std::vector<Tensor> tensors;
  for (Floats& x : values) {
    tensors.push_back(View(x, {static_cast<int64_t>(x.size())}));
  }
  tensors[0] = View(wide, {kCount / 9, 27}).Slice(1, 0, 9);
  for (const auto& [name, backend] : BackendsUnderTest()) {
    double out = 0.25;
    backend->SumSquares(tensors, Tensor(&out, DType::kF64, {1}));
    EXPECT_EQ(out, want) << name;
    backend->SumSquares({}, Tensor(&out, DType::kF64, {1}));
    EXPECT_EQ(out, 0) << name;
  }
}

TEST(OptimizerTest, ShapesAreHeld) {
  using namespace sizes;
  Memory m;
  AdamWOptions options;
  options.bias_correction1 = options.bias_correction2 = 0.1f;
  const AdamWTensor good = {
      .grad = m.F({D}), .p = m.F({D}), .m = m.F({D}), .v = m.F({D})};
  for (const auto& [name, device] : BareDevices()) {
    device->AdamW(options, {good, good});
    for (Tensor AdamWTensor::*tensor : {&AdamWTensor::grad, &AdamWTensor::p,
                                        &AdamWTensor::m, &AdamWTensor::v}) {
      AdamWTensor bad = good;
      bad.*tensor = Grown(good.*tensor, 0);
      EXPECT_DEATH(device->AdamW(options, {good, bad}), "CHECK ") << name;
    }
  }
}

}  // namespace
}  // namespace temper
