#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/simt/copy_kernels.h"
#include "kernels/cuda/simt/emulator.h"
#include "kernels/cuda/simt/testing.h"

namespace temper::simt {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class CopyTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  CopyTest() { SetSchedule(GetParam()); }
  ~CopyTest() override { SetSchedule(0); }
};

INSTANTIATE_TEST_SUITE_P(Schedules, CopyTest,
                         ::testing::Range(uint64_t{0}, kSchedules));

TEST_P(CopyTest, CopiesOfEverySizeArrive) {
  constexpr int kPieces = 40;
  GlobalArray<uint32_t> in(kPieces * 4), out(kPieces * 4);
  for (int i = 0; i < kPieces * 4; ++i) in[i] = i * 7 + 1;
  CopyPieces(in.data(), kPieces, out.data());
  for (int i = 0; i < kPieces * 4; ++i) {
    const bool padded = i / 4 % 4 == 3 && i % 4 != 0;
    EXPECT_EQ(out[i], padded ? 0 : in[i]) << i;
  }
}

// A tensor of bytes, [10][20][96] with rows 112 bytes apart, that tells each
// byte's place.
constexpr int kPlanes = 10, kRows = 20, kColumns = 96, kPitch = 112;
unsigned char ByteAt(int plane, int row, int column) {
  return static_cast<unsigned char>(1 + (plane * 89 + row * 23 + column) % 251);
}

class Tensor {
 public:
  Tensor() : bytes_(kPlanes * kRows * kPitch) {
    std::fill(bytes_.begin(), bytes_.end(), 0xee);
    for (int i = 0; i < kPlanes * kRows * kColumns; ++i) {
      const int column = i % kColumns, row = i / kColumns;
      bytes_[row * kPitch + column] = ByteAt(row / kRows, row % kRows, column);
    }
  }
  unsigned char* data() { return bytes_.data(); }

  static TensorShape Shape(uint32_t columns, uint32_t rows, uint32_t planes,
                           Swizzle swizzle) {
    TensorShape shape;
    shape.rank = 3;
    shape.sizes[0] = kColumns;
    shape.sizes[1] = kRows;
    shape.sizes[2] = kPlanes;
    shape.stride_bytes[0] = kPitch;
    shape.stride_bytes[1] = kPitch * kRows;
    shape.box[0] = columns;
    shape.box[1] = rows;
    shape.box[2] = planes;
    shape.swizzle = swizzle;
    return shape;
  }

 private:
  GlobalArray<unsigned char> bytes_;
};

// Where byte `column` of line `line` of a box lies, as NVIDIA's pictures of the
// swizzles show it: 16-byte pieces of a line are exchanged by its number.
uint32_t PlaceInBox(Swizzle swizzle, uint32_t width, uint32_t line,
                    uint32_t column) {
  uint32_t exchanged = 0;
  if (swizzle == Swizzle::k32Bytes) exchanged = line / 4 % 2;
  if (swizzle == Swizzle::k64Bytes) exchanged = line / 2 % 4;
  if (swizzle == Swizzle::k128Bytes) exchanged = line % 8;
  return line * width + ((column / 16) ^ exchanged) * 16 + column % 16;
}

// What the tensor holds there, or the zero that stands for nothing.
unsigned char Expected(int plane, int row, int column) {
  const bool inside = plane >= 0 && plane < kPlanes && row >= 0 &&
                      row < kRows && column >= 0 && column < kColumns;
  return inside ? ByteAt(plane, row, column) : 0;
}

struct BoxCase {
  Swizzle swizzle;
  uint32_t width;
};
constexpr BoxCase kBoxes[] = {{Swizzle::kNone, 48},
                              {Swizzle::k32Bytes, 32},
                              {Swizzle::k64Bytes, 64},
                              {Swizzle::k128Bytes, 128}};
constexpr int32_t kCorners[][3] = {{0, 0, 0},   {16, 3, 2}, {-7, -2, -1},
                                   {75, 15, 8}, {90, 0, 9}, {-500, 0, 0}};
constexpr uint32_t kBoxRows = 9, kBoxPlanes = 2;

TEST_P(CopyTest, BoxesAreSwizzledAndFilledWithZeros) {
  Tensor tensor;
  for (const auto& [swizzle, width] : kBoxes) {
    const TensorShape shape =
        Tensor::Shape(width, kBoxRows, kBoxPlanes, swizzle);
    const uint32_t bytes = width * kBoxRows * kBoxPlanes;
    for (const auto& at : kCorners) {
      GlobalArray<unsigned char> out(bytes);
      ASSERT_TRUE(
          LoadBoxOf(tensor.data(), shape, at, bytes, /*skip=*/0, out.data()));
      for (uint32_t line = 0; line < kBoxRows * kBoxPlanes; ++line) {
        for (uint32_t i = 0; i < width; ++i) {
          ASSERT_EQ(out[PlaceInBox(swizzle, width, line, i)],
                    Expected(at[2] + line / kBoxRows, at[1] + line % kBoxRows,
                             at[0] + static_cast<int>(i)))
              << width << " " << line << " " << i;
        }
      }
    }
  }
}

TEST_P(CopyTest, BoxesThatAreStoredChangeTheTensorAlone) {
  for (const auto& [swizzle, width] : kBoxes) {
    const TensorShape shape =
        Tensor::Shape(width, kBoxRows, kBoxPlanes, swizzle);
    const uint32_t bytes = width * kBoxRows * kBoxPlanes;
    for (const auto& at : kCorners) {
      Tensor tensor, before;
      GlobalArray<unsigned char> in(bytes);
      for (uint32_t i = 0; i < bytes; ++i) in[i] = 255 - i % 200;
      ASSERT_TRUE(StoreBoxOf(tensor.data(), shape, at, bytes, in.data()));
      for (uint32_t line = 0; line < kBoxRows * kBoxPlanes; ++line) {
        for (uint32_t i = 0; i < width; ++i) {
          const int plane = at[2] + static_cast<int>(line / kBoxRows);
          const int row = at[1] + static_cast<int>(line % kBoxRows);
          const int column = at[0] + static_cast<int>(i);
          if (Expected(plane, row, column) == 0) continue;  // outside
          unsigned char& byte =
              before.data()[(plane * kRows + row) * kPitch + column];
          byte = in[PlaceInBox(swizzle, width, line, i)];
        }
      }
      ASSERT_EQ(
          std::memcmp(tensor.data(), before.data(), kPlanes * kRows * kPitch),
          0);
    }
  }
}

TEST_P(CopyTest, BoxesOfOneAndTwoDimensions) {
  GlobalArray<float> in(64), out(32);
  for (int i = 0; i < 64; ++i) in[i] = static_cast<float>(i);
  TensorShape shape;
  shape.rank = 1;
  shape.sizes[0] = 64;
  shape.box[0] = 32;
  shape.type = ElementType::kF32;
  const int32_t at[2] = {40, 1};
  ASSERT_TRUE(LoadBoxOf(in.data(), shape, at, 128, 0,
                        reinterpret_cast<unsigned char*>(out.data())));
  for (int i = 0; i < 32; ++i) EXPECT_EQ(out[i], i < 24 ? 40 + i : 0);
  shape.rank = 2;
  shape.sizes[0] = 16;
  shape.sizes[1] = 4;
  shape.stride_bytes[0] = 64;
  shape.box[0] = 8;
  shape.box[1] = 4;
  const int32_t corner[2] = {4, 1};
  ASSERT_TRUE(LoadBoxOf(in.data(), shape, corner, 128, 0,
                        reinterpret_cast<unsigned char*>(out.data())));
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(out[i], i < 24 ? (i / 8 + 1) * 16 + 4 + i % 8 : 0);
  }
}

TEST_P(CopyTest, BulkCopiesNeedNoTensor) {
  GlobalArray<unsigned char> in(160), out(160);
  for (int i = 0; i < 160; ++i) in[i] = static_cast<unsigned char>(i);
  LoadBytes(in.data(), 160, out.data());
  EXPECT_EQ(std::memcmp(in.data(), out.data(), 160), 0);
}

TEST_P(CopyTest, ABulkCopyIsOfPiecesOf16Bytes) {
  GlobalArray<unsigned char> in(160), out(160);
  FailureCatcher failures;
  LoadBytes(in.data(), 152, out.data());
  EXPECT_THAT(failures.message(), StartsWith("tensor copy misuse: "));
}

TEST_P(CopyTest, ABoxLiesAt128BytesAndHasItsTensorsRank) {
  Tensor tensor;
  const TensorShape shape = Tensor::Shape(64, 4, 2, Swizzle::kNone);
  GlobalArray<unsigned char> out(512);
  {
    FailureCatcher failures;
    LoadBoxOf(tensor.data(), shape, kCorners[0], 512, 16, out.data());
    EXPECT_THAT(failures.message(), StartsWith("misaligned: "));
  }
  FailureCatcher failures;
  LoadBoxOfOtherRank(tensor.data(), shape);
  EXPECT_THAT(failures.message(), StartsWith("tensor copy misuse: "));
}

TEST(TensorMapTest, WhatTheHardwareRefusesHasNoMap) {
  Tensor tensor;
  const auto refused = [&](const TensorShape& shape, int skip = 0) {
    GlobalArray<unsigned char> out(16);
    return !LoadBoxOf(tensor.data() + skip, shape, kCorners[0], 16, 0,
                      out.data());
  };
  const TensorShape good = Tensor::Shape(16, 1, 1, Swizzle::kNone);
  EXPECT_FALSE(refused(good));
  EXPECT_TRUE(refused(good, /*skip=*/8));
  TensorShape shape = good;
  shape.stride_bytes[0] = 120;
  EXPECT_TRUE(refused(shape));
  shape = good;
  shape.box[0] = 24;
  EXPECT_TRUE(refused(shape));
  shape = good;
  shape.box[1] = 257;
  EXPECT_TRUE(refused(shape));
  shape = good;
  shape.swizzle = Swizzle::k128Bytes;
  shape.box[0] = 144;
  EXPECT_TRUE(refused(shape));
  shape = good;
  shape.rank = 6;
  EXPECT_TRUE(refused(shape));
  shape = good;
  shape.sizes[2] = 0;
  EXPECT_TRUE(refused(shape));
}

TEST_P(CopyTest, PhasesFollowOneAnother) {
  for (const bool poll : {false, true}) {
    GlobalArray<int> out(40);
    CountPhases(50, poll, out.data());
    for (int i = 0; i < 40; ++i) EXPECT_EQ(out[i], 50);
  }
}

TEST_P(CopyTest, MisusedMbarriersAreNamed) {
  const struct {
    Misuse misuse;
    const char* failure;
  } cases[] = {
      {Misuse::kNeverMade, "mbarrier misuse: none was made"},
      {Misuse::kForNobody, "mbarrier misuse: made for 0 arrivals"},
      {Misuse::kTooManyArrivals, "mbarrier misuse: more arrivals"},
      {Misuse::kPlainRead, "object: "},
      {Misuse::kPlainWrite, "object: "},
      {Misuse::kBytesThatNobodyCopies,
       "deadlock: nobody can go on: 1 wait for an mbarrier (which lacks 0 "
       "arrivals and 48 bytes) at copy_kernels.cu:"},
      {Misuse::kPollsForNobody, "starvation: "},
  };
  for (const auto& c : cases) {
    GlobalArray<uint32_t> out(1);
    FailureCatcher failures;
    MisuseMbarrier(c.misuse, out.data());
    EXPECT_THAT(failures.message(), StartsWith(c.failure));
    EXPECT_THAT(failures.message(), HasSubstr("copy_kernels.cu:"));
  }
}

}  // namespace
}  // namespace temper::simt
