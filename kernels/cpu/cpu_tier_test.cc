#include "kernels/cpu/cpu_tier.h"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/cpu/cpu_backend.h"

namespace temper {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

float DotInOrder(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum = __builtin_fmaf(a[i], b[i], sum);
  return sum;
}

TierKernels Definition() { return KernelsOf(CpuTiers().front()); }

TEST(CpuTierTest, ATierThatSumsInAnotherOrderIsRefusedByName) {
  SetFlushDenormals();
  TierKernels other = Definition();
  EXPECT_TRUE(SelfTestTier("other", other).ok());
  other.dot = DotInOrder;
  const absl::Status status = SelfTestTier("other", other);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("tier other"), HasSubstr("dot")));
}

TEST(CpuTierTest, ProductsOverAnIndexAreCheckedToo) {
  SetFlushDenormals();
  TierKernels other = Definition();
  other.rows_product = [](const RowsProduct& product) {
    RowsProduct reversed = product;  // k descending, where it can be
    if (product.b_index == nullptr && product.k > 0) {
      reversed.a += (product.k - 1) * product.a_col;
      reversed.a_col = -product.a_col;
      reversed.b += (product.k - 1) * product.b_row;
      reversed.b_row = -product.b_row;
    }
    KernelsOf(CpuTiers().front()).rows_product(reversed);
  };
  EXPECT_THAT(std::string(SelfTestTier("other", other).message()),
              HasSubstr("rows_product"));
  other = Definition();
  other.gather_transposed = [](const float* keys, int64_t row_stride,
                               const int32_t* rows, int64_t count, int64_t dims,
                               float* out) {
    KernelsOf(CpuTiers().front())
        .gather_transposed(keys, row_stride, rows, count, dims, out);
    out[0] = 0;
  };
  EXPECT_THAT(std::string(SelfTestTier("other", other).message()),
              HasSubstr("gather_transposed"));
}

void LoseSignOfZero(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] += 0.0f;
}

void LoseInfinities(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if (std::isinf(x[i])) x[i] = std::copysign(3e38f, x[i]);
  }
}

template <void (*kLose)(float*, int64_t)>
void LosingGemm(const GemmBlock& block) {
  Definition().gemm(block);
  for (int64_t i = 0; i < block.rows; ++i) {
    kLose(block.c + i * block.c_row, block.columns);
  }
}

template <void (*kLose)(float*, int64_t)>
void LosingRowsProduct(const RowsProduct& product) {
  Definition().rows_product(product);
  for (int64_t i = 0; i < product.m; ++i) {
    const int64_t row = product.y_index == nullptr ? i : product.y_index[i];
    kLose(product.y + row * product.y_row, product.n);
  }
}

TEST(CpuTierTest, SignsOfZeroAndInfinitiesAreChecked) {
  SetFlushDenormals();
  for (const auto gemm :
       {LosingGemm<LoseSignOfZero>, LosingGemm<LoseInfinities>}) {
    TierKernels other = Definition();
    other.gemm = gemm;
    EXPECT_THAT(std::string(SelfTestTier("other", other).message()),
                HasSubstr("gemm"));
  }
  for (const auto rows_product :
       {LosingRowsProduct<LoseSignOfZero>, LosingRowsProduct<LoseInfinities>}) {
    TierKernels other = Definition();
    other.rows_product = rows_product;
    EXPECT_THAT(std::string(SelfTestTier("other", other).message()),
                HasSubstr("rows_product"));
  }
  TierKernels other = Definition();
  other.scale = [](float factor, float* x, int64_t n) {
    LoseInfinities(x, n);
    Definition().scale(factor, x, n);
  };
  EXPECT_THAT(std::string(SelfTestTier("other", other).message()),
              HasSubstr("scale"));
}

TEST(CpuTierTest, ProductsOfPairsAreCheckedToo) {
  SetFlushDenormals();
  TierKernels other = Definition();
  other.pair_product = [](const PairBlock& block) {
    PairBlock shorter = block;
    if (shorter.depth > kPairBlock) shorter.depth = kPairBlock;
    Definition().pair_product(shorter);
  };
  EXPECT_THAT(std::string(SelfTestTier("other", other).message()),
              HasSubstr("pairs of"));
  other = Definition();
  other.round_bf16 = [](const float* x, uint16_t* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {  // toward zero
      uint32_t bits;
      __builtin_memcpy(&bits, &x[i], sizeof(bits));
      y[i] = static_cast<uint16_t>(bits >> 16);
    }
  };
  EXPECT_THAT(std::string(SelfTestTier("other", other).message()),
              HasSubstr("round_bf16"));
}

TEST(CpuTierTest, ProductsOfCodesAreCheckedToo) {
  SetFlushDenormals();
  const auto refusal = [](const TierKernels& other) {
    return std::string(SelfTestTier("other", other).message());
  };
  TierKernels other = Definition();
  other.code_rows = [](const CodeRows& product) {  // forgets what y was
    CodeRows anew = product;
    anew.accumulate = false;
    Definition().code_rows(anew);
  };
  EXPECT_THAT(refusal(other), HasSubstr("code_rows of"));
  other = Definition();
  other.widen_fours = [](const uint8_t* codes, int64_t n, void* b) {
    Definition().widen_fours(codes, n, b);
    auto* const bf16 = static_cast<uint16_t*>(b);
    for (int64_t i = 0; i < n * kCodeFour; ++i) {  // without denormals
      if ((bf16[i] & 0x7fff) < 121 << 7) bf16[i] = 0;
    }
  };
  EXPECT_THAT(refusal(other), HasSubstr("code_product of"));
  other = Definition();
  other.pack_codes = [](const float* x, int64_t depth, void* packed,
                        int64_t block_bytes, float* scales, int64_t step) {
    Definition().pack_codes(x, depth, packed, block_bytes, scales, step);
    *scales *= 2;
  };
  EXPECT_THAT(refusal(other), HasSubstr("code_product of"));
  other = Definition();
  other.code_product = [](const PairBlock& block) {  // one sum for all of it
    PairBlock once = block;
    once.into = Into::kScaled;
    Definition().code_product(once);
  };
  EXPECT_THAT(refusal(other), HasSubstr("code_product of"));
}

TEST(CpuTierTest, ATierThatKeepsDenormalsIsRefused) {
  SetFlushDenormals();
  TierKernels other = Definition();
  other.scale = [](float factor, float* x, int64_t n) {
    _mm_setcsr(_mm_getcsr() & ~kFlushDenormalsBits);
    Definition().scale(factor, x, n);
    SetFlushDenormals();
  };
  EXPECT_FALSE(SelfTestTier("other", other).ok());
}

TEST(CpuTierTest, ExpIsWithinTwoUlpsAndZeroBelowItsRange) {
  SetFlushDenormals();
  std::vector<float> x, y;
  for (float value = -86.5f; value < 88.5f; value += 0.0137f) {
    x.push_back(value);
  }
  y.resize(x.size());
  Definition().exp(x.data(), 0, y.data(), x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = std::exp(static_cast<double>(x[i]));
    EXPECT_NEAR(y[i] / want, 1, 2 * 0x1p-23) << x[i];
  }
  const float edges[] = {0, -0.0f, -86.51f, -INFINITY, 89, INFINITY, NAN};
  float out[7];
  Definition().exp(edges, 0, out, 7);
  EXPECT_EQ(out[0], 1);
  EXPECT_EQ(out[1], 1);
  EXPECT_EQ(out[2], 0);
  EXPECT_EQ(out[3], 0);
  EXPECT_EQ(out[4], INFINITY);
  EXPECT_EQ(out[5], INFINITY);
  EXPECT_TRUE(std::isnan(out[6]));
}

// What arithmetic makes is negative on x86 and positive on a GPU.
TEST(CpuTierTest, AnyNanIsTheLeastInTheOrderOfKeysOnEveryTier) {
  const std::vector<float> x = {std::bit_cast<float>(0x7fffffffu),  // a GPU's
                                -INFINITY,
                                std::bit_cast<float>(0xffc00000u),  // x86's
                                -0.0f,
                                std::bit_cast<float>(0x7f800001u),
                                INFINITY,
                                std::bit_cast<float>(0xffffffffu),
                                0.0f,
                                std::bit_cast<float>(0x7fc12345u)};
  const auto count = static_cast<int64_t>(x.size());
  for (const std::string& name : UsableCpuTiers()) {
    std::vector<uint32_t> keys(kKeyBlock);
    KernelsOf(**CpuTierNamed(name)).order(x.data(), keys.data(), count);
    keys.resize(x.size());
    EXPECT_THAT(keys, ElementsAre(0, 0x7fffff, 0, 0x80000000, 0, 0xff800000, 0,
                                  0x80000000, 0))
        << name;
  }
}

constexpr CpuFeatures kAll = {.fma = true,
                              .avx2 = true,
                              .avx512 = true,
                              .avx512_bf16 = true,
                              .amx = true};
constexpr CpuFeatures kNoAmx = {
    .fma = true, .avx2 = true, .avx512 = true, .avx512_bf16 = true};
constexpr CpuFeatures kNoAvx512 = {.fma = true, .avx2 = true};
constexpr CpuFeatures kFmaOnly = {.fma = true, .avx2 = false};

std::string Refusal(const std::string& name, const CpuFeatures& cpu) {
  const auto tier = CpuTierNamed(name, cpu);
  EXPECT_EQ(tier.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(tier.status().message());
}

// Of the table's rows, the last whose needs the CPU meets.
const char* LastFor(const CpuFeatures& cpu) {
  const char* last = nullptr;
  for (const CpuTier& tier : CpuTiers()) {
    if (tier.cpu_has(cpu)) last = tier.name;
  }
  return last;
}

// A trial in which the tiers of `failing` fail and products take so long.
TierTrial Trial(const std::set<std::string>& failing,
                const std::map<std::string, double>& seconds) {
  return {.self_test =
              [failing](const CpuTier& tier) {
                return failing.count(tier.name) == 0
                           ? absl::OkStatus()
                           : absl::FailedPreconditionError(
                                 absl::StrCat(tier.name, " differs"));
              },
          .seconds =
              [seconds](const CpuTier& tier) {
                const auto found = seconds.find(tier.name);
                return found == seconds.end() ? 1.0 : found->second;
              }};
}

TEST(CpuTierTest, TheBestThatTheCpuHasIsChosen) {
  for (const CpuFeatures& cpu : {kAll, kNoAmx, kNoAvx512, kFmaOnly}) {
    const auto choice = ChooseFastestTier(cpu, Trial({}, {}));
    EXPECT_STREQ(choice->tier->name, LastFor(cpu));
    EXPECT_EQ(choice->why, "the fastest that this CPU has");
    for (const std::string& name : UsableCpuTiers(cpu)) {
      EXPECT_EQ((*CpuTierNamed(name, cpu))->name, name);
    }
  }
  EXPECT_STREQ(LastFor(kFmaOnly), CpuTiers().front().name);
  EXPECT_STRNE(LastFor(kNoAmx), LastFor(kAll));
  EXPECT_STRNE(LastFor(kNoAvx512), LastFor(kNoAmx));
}

TEST(CpuTierTest, WhyATierIsChosenNamesWhatWasPassedOver) {
  CpuFeatures denied = kNoAmx;
  denied.amx_denied = true;
  EXPECT_THAT(ChooseFastestTier(denied, Trial({}, {}))->why,
              HasSubstr("has AMX, but the kernel gives no tiles"));
  const auto choice = ChooseFastestTier(kAll, Trial({"amx"}, {}));
  EXPECT_STREQ(choice->tier->name, "avx512_bf16");
  EXPECT_THAT(choice->why, HasSubstr("amx differs"));
  std::set<std::string> all;
  for (const CpuTier& tier : CpuTiers()) all.insert(tier.name);
  EXPECT_EQ(ChooseFastestTier(kAll, Trial(all, {})).status().message(),
            "amx differs");
}

TEST(CpuTierTest, OfATimedTierAndItsBaseTheFasterThatPassesIsChosen) {
  const std::map<std::string, double> base_faster = {{"avx512", 0.5}};
  const auto base = ChooseFastestTier(kNoAmx, Trial({}, base_faster));
  EXPECT_STREQ(base->tier->name, "avx512");
  EXPECT_EQ(base->why, "timed: faster here than avx512_bf16");
  EXPECT_STREQ(
      ChooseFastestTier(kNoAmx, Trial({"avx512"}, base_faster))->tier->name,
      "avx512_bf16");
  EXPECT_STREQ(
      ChooseFastestTier(kNoAmx, Trial({}, {{"avx512", 2}}))->tier->name,
      "avx512_bf16");
}

// So that every loop is somebody's, and a row can say less than all.
TEST(CpuTierTest, ATierStandsAfterTheOneItBuildsOnAndNeedsAllThatItNeeds) {
  EXPECT_EQ(CpuTiers().front().base, nullptr);
  for (size_t i = 1; i < CpuTiers().size(); ++i) {
    const CpuTier& tier = CpuTiers()[i];
    const CpuTier* base = nullptr;
    for (const CpuTier& earlier : CpuTiers().first(i)) {
      if (std::string(tier.base) == earlier.name) base = &earlier;
    }
    ASSERT_NE(base, nullptr) << tier.name;
    EXPECT_GE(tier.lanes, base->lanes) << tier.name;
    for (const CpuFeatures& cpu : {kAll, kNoAmx, kNoAvx512, kFmaOnly}) {
      EXPECT_LE(tier.cpu_has(cpu), base->cpu_has(cpu)) << tier.name;
    }
  }
}

TEST(CpuTierTest, ATierThatIsMissingIsRefusedNamingThoseThereAre) {
  EXPECT_THAT(
      Refusal("sse2", kAll),
      HasSubstr("can run " + absl::StrJoin(UsableCpuTiers(kAll), ", ")));
  EXPECT_THAT(Refusal("AVX2", kAll), HasSubstr("no CPU tier is called"));
  EXPECT_THAT(Refusal("avx2", kFmaOnly), HasSubstr("AVX2 and FMA"));
  EXPECT_THAT(Refusal("avx512", kNoAvx512), HasSubstr("AVX-512"));
  EXPECT_THAT(Refusal("amx", kNoAmx), HasSubstr("AMX_BF16"));
  EXPECT_EQ(ChooseFastestTier(CpuFeatures(), Trial({}, {})).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(CpuTierDeathTest, ACallerThatKeepsDenormalsIsRefused) {
  EXPECT_DEATH(
      {
        _mm_setcsr(_mm_getcsr() & ~kFlushDenormalsBits);
        NewCpuBackend("scalar", 1).IgnoreError();
      },
      "SetFlushDenormals");
}

}  // namespace
}  // namespace temper
