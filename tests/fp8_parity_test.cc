// The production transformer in FP8 against an independent oracle's goldens: to
// the bit what a quantiser makes of a given value, and whole forwards and
// gradients with what the oracle does not simulate in fp32; then the FP8 that
// is shipped beside that.

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/find_backend.h"
#include "tests/fp8_golden_values.h"
#include "tests/given_backend.h"
#include "tests/golden_file.h"

namespace temper {
namespace {

constexpr char kDir[] = "tests/golden/model/B";
// Gradients of more elements are kept as every so-manyth.
constexpr size_t kSampled = 4096, kStride = 127;

GoldenTensors Read(const std::string& file) {
  auto tensors = ReadGoldenFile(absl::StrCat(kDir, "/", file));
  CHECK(tensors.ok()) << tensors.status();
  return *std::move(tensors);
}

const GoldenTensors& Golden() {
  static const auto* const golden =
      new GoldenTensors(Read("golden.safetensors"));
  return *golden;
}

std::unique_ptr<Backend> NewBackend() {
  SetFlushDenormals();
  auto backend = FindBackend({.threads = 2});
  CHECK(backend.ok()) << backend.status();
  return *std::move(backend);
}

const GoldenTensors& Computed() {
  static const auto* const computed = [] {
    const auto backend = NewBackend();
    auto values = ComputeFp8GoldenValues(backend.get(), kDir);
    CHECK(values.ok()) << values.status();
    return new GoldenTensors(*std::move(values));
  }();
  return *computed;
}

using Doubles = std::vector<double>;

// Infinities must coincide, and count for nothing.
double RelativeRms(const Doubles& got, const Doubles& want) {
  CHECK_EQ(got.size(), want.size());
  double error = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::isinf(want[i]) && got[i] == want[i]) continue;
    error += (got[i] - want[i]) * (got[i] - want[i]);
    size += want[i] * want[i];
  }
  return std::sqrt(error / (size > 0 ? size : 1));
}

// The relative errors of rows, ascending.
Doubles RowErrors(const Doubles& got, const Doubles& want, int64_t columns) {
  Doubles errors;
  for (size_t i = 0; i < want.size(); i += columns) {
    errors.push_back(
        RelativeRms({got.begin() + i, got.begin() + i + columns},
                    {want.begin() + i, want.begin() + i + columns}));
  }
  std::sort(errors.begin(), errors.end());
  return errors;
}

double RowsThatDiffer(const GoldenTensor& got, const GoldenTensor& want) {
  const int64_t columns = want.shape.back();
  int64_t different = 0, rows = 0;
  for (size_t i = 0; i < want.values.size(); i += columns, ++rows) {
    Doubles a(got.values.begin() + i, got.values.begin() + i + columns);
    Doubles b(want.values.begin() + i, want.values.begin() + i + columns);
    std::sort(a.begin(), a.end());
    std::sort(b.begin(), b.end());
    different += a != b;
  }
  return static_cast<double>(different) / static_cast<double>(rows);
}

TEST(Fp8ParityTest, WhatAQuantiserMakesOfAGivenValueIsTheOraclesToTheBit) {
  for (const char* name :
       {"act/q", "act/scale", "weight/q", "weight/scale_inv", "index/q8",
        "index/q_scale", "index/k8", "index/k_scale", "e4m3/out"}) {
    EXPECT_EQ(Computed().at(absl::StrCat("fp8/", name)).values,
              Golden().at(absl::StrCat("fp8/", name)).values)
        << name;
  }
  for (const char* name : {"fp8/gemm/y", "fp8/index/scores"}) {
    EXPECT_LE(RelativeRms(Computed().at(name).values, Golden().at(name).values),
              1e-6)
        << name;
  }
}

// The goldens' own tolerances: one flipped rounding may spread to 1e-2.
TEST(Fp8ParityTest, WholeForwardsAreTheOracles) {
  int compared = 0;
  for (const auto& [name, want] : Golden()) {
    if (!absl::StartsWith(name, "fp8/seq")) continue;
    ++compared;
    const GoldenTensor& got = Computed().at(name);
    ASSERT_EQ(got.shape, want.shape) << name;
    if (absl::EndsWith(name, "topk") || absl::EndsWith(name, "routes")) {
      EXPECT_LE(RowsThatDiffer(got, want), 0.1) << name;
    } else {
      EXPECT_LE(RelativeRms(got.values, want.values), 3e-2) << name;
    }
  }
  EXPECT_EQ(compared, 9);
}

// [L, T, D] of what a layer adds to its golden input.
std::vector<Doubles> Added(const GoldenTensor& outputs) {
  const Doubles& embedded = Golden().at("seq0/hidden").values;
  const GoldenTensor& golden = Golden().at("fp8/seq0/hidden");
  const int64_t each = golden.shape[1] * golden.shape[2];
  std::vector<Doubles> added;
  for (int64_t l = 0; l < golden.shape[0]; ++l) {
    const auto input =
        l == 0 ? embedded.begin() : golden.values.begin() + (l - 1) * each;
    added.emplace_back(outputs.values.begin() + l * each,
                       outputs.values.begin() + (l + 1) * each);
    for (int64_t i = 0; i < each; ++i) added.back()[i] -= input[i];
  }
  return added;
}

TEST(Fp8ParityTest, EachLayerFromItsGoldenInputIsTheOracles) {
  const GoldenTensor& want = Golden().at("fp8/seq0/hidden");
  const auto got = Added(Computed().at("fp8/tf/hidden"));
  const auto all = Added(want);
  for (size_t l = 0; l < all.size(); ++l) {
    const Doubles errors = RowErrors(got[l], all[l], want.shape[2]);
    EXPECT_LE(errors[errors.size() / 2], 1e-4) << "layer " << l;
    EXPECT_LE(errors[errors.size() * 95 / 100], 1e-2) << "layer " << l;
  }
  EXPECT_LE(RelativeRms(Computed().at("fp8/tf/index_scores").values,
                        Golden().at("fp8/seq0/index_scores").values),
            1e-2);
}

// Straight through every quantiser, at the values that are given.
TEST(Fp8ParityTest, GradientsAreTheOracles) {
  const GoldenTensors golden = Read("fp8_grad_sample.safetensors");
  int compared = 0;
  double worst = 0;
  for (const auto& [name, want] : golden) {
    const bool sampled = absl::StartsWith(name, "fp8_grad_sample/");
    if (!sampled && !absl::StartsWith(name, "fp8_grad/")) continue;
    const std::string rest = name.substr(name.find('/') + 1);
    const Doubles& all = Computed().at("fp8_grad/" + rest).values;
    ASSERT_EQ(sampled, all.size() > kSampled) << name;
    Doubles got;
    for (size_t i = 0; i < all.size(); i += sampled ? kStride : 1) {
      got.push_back(all[i]);
    }
    const double ratio = RelativeRms(got, want.values) /
                         golden.at("tolerance/" + rest).values[0];
    EXPECT_LE(ratio, 1) << name;
    worst = std::max(worst, ratio);
    ++compared;
  }
  EXPECT_EQ(compared, 80);
  EXPECT_GT(worst, 0.01) << "nothing was rounded";
  RecordProperty("largest_part_of_a_tolerance", absl::StrCat(worst));
}

// What is shipped rounds to bf16 what the oracle leaves in fp32.
TEST(Fp8ParityTest, WhatIsShippedIsNearIt) {
  const auto backend = NewBackend();
  auto shipped = ComputeLayerwiseFp8(backend.get(), kDir, kFp8);
  ASSERT_TRUE(shipped.ok()) << shipped.status();
  auto wide = ComputeLayerwiseFp8(backend.get(), kDir, kFp8OverFp32);
  ASSERT_TRUE(wide.ok()) << wide.status();
  const GoldenTensor& golden = Golden().at("fp8/seq0/hidden");
  const int64_t tokens = golden.shape[1];
  const auto got = Added(shipped->tensors.at("fp8/tf/hidden"));
  const auto want = Added(golden);
  for (size_t l = 0; l < want.size(); ++l) {
    const auto& a = shipped->attention[l];
    const auto& b = wide->attention[l];
    const Doubles rows = RowErrors({a.begin(), a.end()}, {b.begin(), b.end()},
                                   static_cast<int64_t>(a.size()) / tokens);
    EXPECT_LE(rows[rows.size() / 2], 5e-3) << "attention of layer " << l;
    EXPECT_GT(rows[rows.size() / 2], 1e-5) << "nothing was rounded";
    const Doubles errors = RowErrors(got[l], want[l], golden.shape[2]);
    EXPECT_LE(errors[errors.size() / 2], 4e-2) << "layer " << l;
    RecordProperty(absl::StrCat("layer_", l),
                   absl::StrCat("attention ", rows[rows.size() / 2], ", rows ",
                                errors[errors.size() / 2]));
  }
}

// The oracle's own fp8 is as far from its fp32 as ours: what eight bits cost a
// model of random weights, whose near ties fall otherwise.
TEST(Fp8ParityTest, LogitsOfEachNumericsAreAsNearFp32AsItsOperands) {
  const auto backend = NewBackend();
  double last = 0;
  const auto error = [](const GoldenTensors& got) {
    Doubles ours, oracles;
    for (const char* seq : {"seq0/logits", "seq1/logits"}) {
      const Doubles& values = got.at(absl::StrCat("fp8/", seq)).values;
      ours.insert(ours.end(), values.begin(), values.end());
      const Doubles& wanted = Golden().at(seq).values;
      oracles.insert(oracles.end(), wanted.begin(), wanted.end());
    }
    return RelativeRms(ours, oracles);
  };
  for (const auto& [numerics, most] : {std::pair<Numerics, double>{kFp32, 1e-5},
                                       {kBf16, 3e-2},
                                       {kFp8, 2e-1}}) {
    const auto got = ComputeLiveForwards(backend.get(), kDir, numerics);
    ASSERT_TRUE(got.ok()) << got.status();
    const double now = error(*got);
    EXPECT_LE(now, most) << NameOf(numerics);
    EXPECT_GT(now, last) << NameOf(numerics) << ": nothing was rounded";
    RecordProperty(NameOf(numerics), absl::StrCat(now));
    last = now;
  }
  const double oracles = error(Golden());
  EXPECT_NEAR(last / oracles, 1, 0.5);
  RecordProperty("oracles_fp8", absl::StrCat(oracles));
}

}  // namespace
}  // namespace temper
