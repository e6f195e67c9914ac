// Holds wgmma to the PTX ISA: its fragments, as the tables say them by element
// i of a thread, and its canonical layouts, in units of 16 bytes as CUTLASS
// spells them. The sums are those of accumulator_test.

#include <bit>
#include <cstring>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/rng.h"
#include "kernels/cuda/simt/accumulator.h"
#include "kernels/cuda/simt/emulator.h"
#include "kernels/cuda/simt/testing.h"
#include "kernels/cuda/simt/wgmma_kernels.h"

namespace temper::simt {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class WgmmaTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  WgmmaTest() { SetSchedule(GetParam()); }
  ~WgmmaTest() override { SetSchedule(0); }
};

INSTANTIATE_TEST_SUITE_P(Schedules, WgmmaTest,
                         ::testing::Range(uint64_t{0}, uint64_t{4}));

uint32_t Across(Swizzle swizzle) {  // units in a row of the pattern
  switch (swizzle) {
    case Swizzle::kNone:
      return 1;
    case Swizzle::k32Bytes:
      return 2;
    case Swizzle::k64Bytes:
      return 4;
    case Swizzle::k128Bytes:
      return 8;
  }
  return 0;
}

// Strides without gaps, so that the operand is as small as it can be.
OperandImage Dense(Swizzle swizzle, bool by_rows) {
  OperandImage image;
  image.swizzle = swizzle;
  image.by_rows = by_rows;
  const uint32_t atom = Across(swizzle) * 128;  // eight rows of the pattern
  if (swizzle == Swizzle::kNone) {
    image.leading_bytes = 128;
    image.stride_bytes = 256;
  } else {
    image.leading_bytes = 2 * atom;
    image.stride_bytes = atom;
  }
  return image;
}

// The byte at which element (mn, k) begins, of `bytes` bytes each.
uint32_t ByteOf(const OperandImage& image, uint32_t mn, uint32_t k,
                uint32_t bytes) {
  const uint32_t leading = image.leading_bytes / 16;
  const uint32_t stride = image.stride_bytes / 16;
  const uint32_t w = Across(image.swizzle), t = 16 / bytes;
  uint32_t units = 0, within = 0;
  if (image.by_rows) {
    within = mn % t * bytes;
    units =
        image.swizzle == Swizzle::kNone
            // ((1,n),(8,k)):((X,SBO),(1,LBO))
            ? mn / t * stride + k % 8 + k / 8 * leading
            // ((w,n),(8,k)):((1,LBO),(w,SBO))
            : mn / t % w + mn / t / w * leading + k % 8 * w + k / 8 * stride;
  } else {
    within = k % t * bytes;
    units = image.swizzle == Swizzle::kNone
                // ((8,n),2):((1,SBO),LBO)
                ? mn % 8 + mn / 8 * stride + k / t * leading
                // ((8,n),2):((w,SBO),1)
                : mn % 8 * w + mn / 8 * stride + k / t;
  }
  // Swizzle<log2 w, 4, 3>: bits from 7 on are mixed into those from 4 on.
  const uint32_t byte = units * 16 + within;
  return byte ^ ((byte >> 3) & ((w - 1) << 4));
}

// An operand's numbers, drawn, as bits.
std::vector<uint16_t> Draw(uint32_t sample, int count, bool e4m3) {
  std::vector<uint16_t> bits(count);
  for (int i = 0; i < count; ++i) {
    const auto words = RandomWords(
        {.seed = 9, .sample = sample, .ordinal = static_cast<uint32_t>(i)});
    if (e4m3) {
      bits[i] = words[0] % 0x7f | (words[1] & 0x80);
    } else {  // signs, and exponents of 2^-8 to 2^7
      bits[i] =
          (words[0] & 0x8000) | (119 + words[1] % 16) << 7 | (words[2] & 127);
    }
  }
  return bits;
}

Operand Decoded(uint16_t bits, bool e4m3) {
  return e4m3 ? OperandOfE4m3(static_cast<uint8_t>(bits)) : OperandOfBf16(bits);
}

// Runs the case with operands drawn, [64][k] and [columns][k], laid out as the
// images say, and compares the sum bit for bit.
class Trial {
 public:
  Trial(bool e4m3, int columns, bool registers, OperandImage a, OperandImage b)
      : depth_(e4m3 ? 32 : 16),
        a_(Draw(1, 64 * depth_, e4m3)),
        b_(Draw(2, columns * depth_, e4m3)),
        a_bytes_(64 * 1024),
        b_bytes_(columns * 256 + 1024),
        registers_(128 * 4),
        d_(128 * columns / 2) {
    wgmma_.e4m3 = e4m3;
    wgmma_.columns = columns;
    wgmma_.a = Lay(a, a_, 64, &a_bytes_);
    wgmma_.b = Lay(b, b_, columns, &b_bytes_);
    if (registers) {
      FillRegisters();
      wgmma_.a_registers = registers_.data();
    }
  }

  void Expect(bool accumulate) {
    const auto c = [](int row, int column) {
      return static_cast<float>((row * 31 + column * 17) % 101 - 50) * 0.37f;
    };
    const int columns = wgmma_.columns;
    wgmma_.accumulate = accumulate;
    for (int i = 0; i < 64 * columns; ++i) {
      const auto [row, column] = PlaceOf(i);
      d_[i] = c(row, column);
    }
    ASSERT_TRUE(RunWgmma(wgmma_, d_.data()));
    for (int i = 0; i < 64 * columns; ++i) {
      const auto [row, column] = PlaceOf(i);
      std::vector<Operand> x, y;
      for (int k = 0; k < depth_; ++k) {
        x.push_back(Decoded(a_[row * depth_ + k], wgmma_.e4m3));
        y.push_back(Decoded(b_[column * depth_ + k], wgmma_.e4m3));
      }
      const float start = accumulate ? c(row, column) : 0;
      const float expected = wgmma_.e4m3
                                 ? DotE4m3(x.data(), y.data(), depth_, start)
                                 : DotBf16(x.data(), y.data(), depth_, start);
      ASSERT_EQ(std::bit_cast<uint32_t>(d_[i]),
                std::bit_cast<uint32_t>(expected))
          << "row " << row << " column " << column;
    }
  }

 private:
  struct Place {
    int row, column;
  };

  // Of register i of all threads' sums.
  Place PlaceOf(int register_of_all) const {
    const int each = wgmma_.columns / 2;
    const int thread = register_of_all / each, i = register_of_all % each;
    const int warp = thread / 32, group = thread % 32 >> 2,
              in_group = thread % 4;
    const int row = i % 4 < 2 ? group : group + 8;
    return {16 * warp + row, 8 * (i / 4) + in_group * 2 + (i & 1)};
  }

  OperandImage Lay(OperandImage image, const std::vector<uint16_t>& numbers,
                   int rows, GlobalArray<unsigned char>* bytes) const {
    const uint32_t each = wgmma_.e4m3 ? 1 : 2;
    std::memset(bytes->data(), 0x7f, bytes->size());  // NaN where nothing is
    uint32_t end = 0;
    for (int row = 0; row < rows; ++row) {
      for (int k = 0; k < depth_; ++k) {
        const uint32_t at = image.skip + ByteOf(image, row, k, each);
        std::memcpy(bytes->data() + at, &numbers[row * depth_ + k], each);
        end = std::max(end, at + 16);
      }
    }
    image.bytes = bytes->data();
    image.size = (end + 1023) / 1024 * 1024;
    return image;
  }

  void FillRegisters() {
    const int per = wgmma_.e4m3 ? 4 : 2;
    std::fill(registers_.begin(), registers_.end(), 0);
    for (int thread = 0; thread < 128; ++thread) {
      const int group = thread % 32 >> 2, in_group = thread % 4;
      for (int i = 0; i < 4 * per; ++i) {
        const bool upper = i / per % 2 == 0;
        const int row = thread / 32 * 16 + (upper ? group : group + 8);
        const int k = in_group * per + i % per + (i < 2 * per ? 0 : 4 * per);
        registers_[thread * 4 + i / per] |= uint32_t{a_[row * depth_ + k]}
                                            << (32 / per * (i % per));
      }
    }
  }

  const int depth_;
  const std::vector<uint16_t> a_, b_;
  GlobalArray<unsigned char> a_bytes_, b_bytes_;
  GlobalArray<uint32_t> registers_;
  GlobalArray<float> d_;
  WgmmaCase wgmma_;
};

constexpr Swizzle kSwizzles[] = {Swizzle::kNone, Swizzle::k32Bytes,
                                 Swizzle::k64Bytes, Swizzle::k128Bytes};

TEST_P(WgmmaTest, EveryWidthOfBf16) {
  const OperandImage image = Dense(Swizzle::k128Bytes, /*by_rows=*/false);
  for (const int columns : {8, 16, 32, 64, 96, 128, 192, 256}) {
    Trial trial(false, columns, false, image, image);
    trial.Expect(/*accumulate=*/true);
  }
}

TEST_P(WgmmaTest, EveryWidthOfE4m3) {
  const OperandImage image = Dense(Swizzle::k128Bytes, /*by_rows=*/false);
  for (const int columns : {8, 64, 256}) {
    Trial trial(true, columns, false, image, image);
    trial.Expect(/*accumulate=*/true);
  }
}

TEST_P(WgmmaTest, EveryLayoutOfBf16) {
  for (const Swizzle a : kSwizzles) {
    for (const Swizzle b : kSwizzles) {
      for (const int majors : {0, 1, 2, 3}) {
        Trial trial(false, 64, false, Dense(a, (majors & 1) != 0),
                    Dense(b, (majors & 2) != 0));
        trial.Expect(/*accumulate=*/false);
      }
    }
  }
}

TEST_P(WgmmaTest, EveryLayoutOfE4m3) {
  for (const Swizzle swizzle : kSwizzles) {
    Trial trial(true, 64, false, Dense(swizzle, false), Dense(swizzle, false));
    trial.Expect(/*accumulate=*/false);
  }
}

TEST_P(WgmmaTest, StridesAreHeeded) {
  OperandImage image = Dense(Swizzle::kNone, false);
  image.leading_bytes = 144;
  image.stride_bytes = 304;
  Trial apart(false, 64, false, image, image);
  apart.Expect(true);
  image = Dense(Swizzle::k64Bytes, true);
  image.leading_bytes = 4096;
  image.stride_bytes = 1536;
  Trial by_rows(false, 64, false, image, image);
  by_rows.Expect(true);
}

TEST_P(WgmmaTest, AFromRegisters) {
  for (const bool by_rows : {false, true}) {
    Trial trial(false, 64, true, Dense(Swizzle::kNone, false),
                Dense(Swizzle::k128Bytes, by_rows));
    trial.Expect(true);
    trial.Expect(false);
  }
  Trial trial(true, 64, true, Dense(Swizzle::kNone, false),
              Dense(Swizzle::k128Bytes, false));
  trial.Expect(true);
}

TEST_P(WgmmaTest, AGroupThatWasWaitedForIsDoneAndNoOther) {
  GlobalArray<float> d(128);
  WaitForTheFirst(InFlight::kReadsTheFirst, d.data());
  for (int i = 0; i < 128; ++i) EXPECT_EQ(d[i], 3);
  for (const InFlight what :
       {InFlight::kReadsTheSecond, InFlight::kWritesTheSecond}) {
    FailureCatcher failures;
    WaitForTheFirst(what, d.data());
    EXPECT_THAT(failures.message(), StartsWith("read before its wait: "));
    EXPECT_THAT(failures.message(), HasSubstr("wgmma_kernels.cu:"));
  }
}

TEST_P(WgmmaTest, RegistersOfAAreWrittenBeforeTheFence) {
  GlobalArray<float> d(128);
  WriteRegistersOfA(WritesA::kBeforeTheFence, d.data());
  for (int i = 0; i < 128; ++i) EXPECT_EQ(d[i], 1);
  const struct {
    WritesA when;
    const char* failure;
  } cases[] = {
      {WritesA::kAfterTheFence, "missing wgmma fence: "},
      {WritesA::kByLdmatrix, "missing wgmma fence: "},
      {WritesA::kInFlight, "overwritten too early: "},
  };
  for (const auto& c : cases) {
    FailureCatcher failures;
    WriteRegistersOfA(c.when, d.data());
    EXPECT_THAT(failures.message(), StartsWith(c.failure));
    EXPECT_THAT(failures.message(), HasSubstr("wgmma_kernels.cu:"));
  }
}

TEST_P(WgmmaTest, MisuseIsNamed) {
  const struct {
    WgmmaMisuse misuse;
    const char* failure;
  } cases[] = {
      {WgmmaMisuse::kWarpsDisagree, "wgmma misuse: a warpgroup's threads ask"},
      {WgmmaMisuse::kThreeWarps, "wgmma misuse: the block's last warps"},
      {WgmmaMisuse::kBeginsWithinAPattern, "wgmma misuse: an operand that"},
      {WgmmaMisuse::kBeyondSharedMemory, "out of bounds: "},
  };
  GlobalArray<float> d(128);
  for (const auto& c : cases) {
    FailureCatcher failures;
    MisuseWgmma(c.misuse, d.data());
    EXPECT_THAT(failures.message(), StartsWith(c.failure));
  }
}

}  // namespace
}  // namespace temper::simt
