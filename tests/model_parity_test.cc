// The production transformer, objective and optimizer against an independent
// oracle's goldens, on every tier this CPU has.

#include <cmath>
#include <cstring>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/find_backend.h"
#include "tests/golden_compare.h"
#include "tests/golden_file.h"
#include "tests/golden_values.h"

namespace temper {
namespace {

constexpr char kWithoutMtp[] =
    "mtp|adamw|loss_total|loss_per_layer|layers\\.3\\.";

struct Golden {
  const char* name;
  const char* without;
  int compared_min;  // so that a name scheme gone wrong cannot pass
};

constexpr Golden kGoldens[] = {
    {"A", kWithoutMtp, 1300}, {"B", "", 700}, {"C", "", 900}};

std::string DirOf(const Golden& golden) {
  return std::string("tests/golden/model/") + golden.name;
}

GoldenTensors Expected(const Golden& golden) {
  auto expected = ReadGoldenFile(DirOf(golden) + "/golden.safetensors");
  EXPECT_TRUE(expected.ok()) << expected.status();
  auto switches = ReadGoldenFile(DirOf(golden) + "/switches.safetensors");
  EXPECT_TRUE(switches.ok()) << switches.status();
  expected->merge(*switches);
  return *std::move(expected);
}

const GoldenRules& Rules() {
  static const auto* const rules =
      new GoldenRules(ReadGoldenRules("tests/golden/model/rules.json"));
  return *rules;
}

GoldenTensors Computed(const Golden& golden, const BackendSpec& spec) {
  auto backend = FindBackend(spec);
  EXPECT_TRUE(backend.ok()) << backend.status();
  auto values = ComputeGoldenValues(backend->get(), DirOf(golden));
  EXPECT_TRUE(values.ok()) << values.status();
  return *std::move(values);
}

bool SameBits(const GoldenTensors& a, const GoldenTensors& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a) {
    const auto found = b.find(name);
    // As bits, so that -0 is not +0; no value here is NaN.
    if (found == b.end() ||
        found->second.values.size() != tensor.values.size() ||
        std::memcmp(found->second.values.data(), tensor.values.data(),
                    tensor.values.size() * sizeof(tensor.values[0])) != 0) {
      ADD_FAILURE() << name << " differs";
      return false;
    }
  }
  return true;
}

class ModelParityTest : public ::testing::TestWithParam<Golden> {
 protected:
  void SetUp() override { SetFlushDenormals(); }
};

TEST_P(ModelParityTest, EveryGoldenInScopeIsMetAndTiersAgreeBitForBit) {
  const GoldenTensors computed = Computed(GetParam(), {.name = "scalar"});
  const GoldenReport report = CompareGolden(Rules(), Expected(GetParam()),
                                            computed, GetParam().without);
  EXPECT_GE(report.compared, GetParam().compared_min);
  for (const std::string& name : report.failed) ADD_FAILURE() << name;
  for (const std::string& name : report.missing) {
    ADD_FAILURE() << "missing " << name;
  }
  for (const std::string& name : BackendNames()) {
    if (name == "scalar") continue;
    EXPECT_TRUE(
        SameBits(computed, Computed(GetParam(), {.name = name, .threads = 2})))
        << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, ModelParityTest,
                         ::testing::ValuesIn(kGoldens), [](const auto& info) {
                           return std::string(info.param.name);
                         });

TEST(GoldenCompareTest, CatchesAnErrorInEveryTensorThatItCompares) {
  SetFlushDenormals();
  const Golden& c = kGoldens[2];
  const GoldenTensors golden = Expected(c);
  GoldenTensors computed = Computed(c, {.threads = 2});
  int tried = 0;
  for (auto& [name, tensor] : computed) {
    const auto want = golden.find(name);
    if (want == golden.end()) continue;
    GoldenTensors one = {*want};
    const size_t suffix = name.find("gate_weights");
    if (suffix != std::string::npos) {
      one.insert(*golden.find(name.substr(0, suffix) + "routes"));
    }
    ASSERT_TRUE(CompareGolden(Rules(), one, computed, "").failed.empty())
        << name;
    size_t largest = 0;
    double size = 0;
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      const double value = std::abs(tensor.values[i]);
      if (std::isfinite(value) && value > size) largest = i, size = value;
    }
    const double kept = tensor.values[largest];
    tensor.values[largest] += tensor.dtype == "I32" ? 1000 : 0.01 * size + 1e-3;
    EXPECT_FALSE(CompareGolden(Rules(), one, computed, "").failed.empty())
        << name;
    tensor.values[largest] = kept;
    ++tried;
  }
  EXPECT_GT(tried, 250);
}

TEST(GoldenCompareTest, ReportsWhatIsMissingUnlessLeftOut) {
  const GoldenTensors golden = {{"seq0/logits", {"F32", {1}, {1.0}}},
                                {"seq0/mtp_logits", {"F32", {1}, {1.0}}}};
  const GoldenReport all = CompareGolden(Rules(), golden, {}, "");
  EXPECT_EQ(all.missing.size(), 2u);
  const GoldenReport some = CompareGolden(Rules(), golden, {}, "mtp");
  ASSERT_EQ(some.missing.size(), 1u);
  EXPECT_EQ(some.missing[0], "seq0/logits");
}

}  // namespace
}  // namespace temper
