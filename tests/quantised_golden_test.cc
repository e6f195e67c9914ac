// The definition of FP8 (kernels/reference/quantised.h, kernels/tensor/fp8.h)
// against an independent oracle's stage vectors: bytes and scales to the bit.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/reference/quantised.h"
#include "kernels/tensor/fp8.h"
#include "tests/golden_file.h"

namespace temper {
namespace {

using Floats = std::vector<float>;

const GoldenTensor& Golden(const std::string& name) {
  static const auto* const golden = [] {
    auto read = ReadGoldenFile("tests/golden/model/B/golden.safetensors");
    CHECK(read.ok()) << read.status();
    return new GoldenTensors(*std::move(read));
  }();
  const auto found = golden->find("fp8/" + name);
  CHECK(found != golden->end()) << name;
  return found->second;
}

Floats Values(const std::string& name) {
  const std::vector<double>& values = Golden(name).values;
  return Floats(values.begin(), values.end());
}

// The bytes of what a quantiser made.
std::vector<double> Bytes(const Floats& codes) {
  std::vector<double> bytes;
  for (const float code : codes) bytes.push_back(E4M3FromFloat(code).bits);
  return bytes;
}

void ExpectQuantised(const reference::Quantised& q, const std::string& bytes,
                     const std::string& scales) {
  EXPECT_EQ(Bytes(q.codes), Golden(bytes).values) << bytes;
  EXPECT_EQ(q.scales, Values(scales)) << scales;
}

// As the goldens' rules have it: to 1e-5 of the largest.
void ExpectClose(const Floats& got, const std::string& name) {
  const Floats want = Values(name);
  ASSERT_EQ(got.size(), want.size());
  float largest = 0;
  for (const float x : want) largest = std::max(largest, std::fabs(x));
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], want[i], 1e-5f * largest) << name << " " << i;
  }
}

TEST(QuantisedGoldenTest, EveryBoundaryOfE4M3RoundsToTheOraclesByte) {
  EXPECT_EQ(Bytes(Values("e4m3/in")), Golden("e4m3/out").values);
}

TEST(QuantisedGoldenTest, RowsAndWeightsAreTheOraclesAndSoIsTheirProduct) {
  const auto x = reference::QuantiseRows(Values("act/x"), 256);
  const auto w = reference::QuantiseWeight(Values("weight/w"), 256);
  ExpectQuantised(x, "act/q", "act/scale");
  ExpectQuantised(w, "weight/q", "weight/scale_inv");
  ExpectClose(reference::Linear(x, w), "gemm/y");
}

TEST(QuantisedGoldenTest, TheIndexersScoresAreTheOracles) {
  constexpr size_t kHeads = 4, kDims = 128;
  const Floats q = Values("index/q"), weights = Values("index/w");
  const auto keys = reference::QuantiseRows(Values("index/k"), kDims);
  ExpectQuantised(reference::QuantiseRows(q, kDims), "index/q8",
                  "index/q_scale");
  ExpectQuantised(keys, "index/k8", "index/k_scale");
  const auto scale =
      static_cast<float>(1 / std::sqrt(static_cast<double>(kHeads * kDims)));
  Floats scores;
  for (size_t n = 0; n < keys.rows; ++n) {
    Floats w(weights.begin() + n * kHeads, weights.begin() + (n + 1) * kHeads);
    for (float& x : w) x *= scale;
    const auto query = reference::QuantiseRows(
        {q.begin() + n * kHeads * kDims, q.begin() + (n + 1) * kHeads * kDims},
        kDims);
    const Floats row = reference::IndexScores(query, w, keys);
    scores.insert(scores.end(), row.begin(), row.end());
  }
  ExpectClose(scores, "index/scores");
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  temper::SetFlushDenormals();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
