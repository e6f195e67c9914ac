// Holds the emulator to the tables of the PTX ISA, "Matrix fragments for ..",
// which are written down here as they stand there: by element i of a thread.

#include <bit>
#include <cstring>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/simt/emulator.h"
#include "kernels/cuda/simt/matrix_kernels.h"
#include "kernels/cuda/simt/testing.h"

namespace temper::simt {
namespace {

using ::testing::StartsWith;

class MatrixTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  MatrixTest() { SetSchedule(GetParam()); }
  ~MatrixTest() override { SetSchedule(0); }
};

INSTANTIATE_TEST_SUITE_P(Schedules, MatrixTest,
                         ::testing::Range(uint64_t{0}, kSchedules));

// A thread holds two elements of its row, in the order of the row.
uint32_t HeldBy(const uint16_t* matrix, int lane, bool transposed) {
  uint32_t word = 0;
  for (int row = 0; row < 8; ++row) {
    for (int column = 0; column < 8; ++column) {
      if (lane != row * 4 + column / 2) continue;
      const uint32_t element =
          transposed ? matrix[column * 8 + row] : matrix[row * 8 + column];
      word |= element << (16 * (column % 2));
    }
  }
  return word;
}

TEST_P(MatrixTest, LdmatrixAndStmatrixFollowTheTable) {
  for (const int count : {1, 2, 4}) {
    for (const bool transposed : {false, true}) {
      GlobalArray<uint16_t> matrices(64 * count), stored(64 * count);
      GlobalArray<uint32_t> registers(32 * count);
      for (int i = 0; i < 64 * count; ++i) {
        matrices[i] = static_cast<uint16_t>(i * 257 + 3);
      }
      LoadFragments(count, transposed, matrices.data(), registers.data());
      for (int lane = 0; lane < 32; ++lane) {
        for (int m = 0; m < count; ++m) {
          EXPECT_EQ(registers[lane * count + m],
                    HeldBy(matrices.data() + 64 * m, lane, transposed));
        }
      }
      StoreFragments(count, transposed, registers.data(), stored.data());
      EXPECT_EQ(std::memcmp(stored.data(), matrices.data(), 128 * count), 0);
    }
  }
}

TEST_P(MatrixTest, RowsLieAtMultiplesOfSixteenBytes) {
  GlobalArray<uint32_t> registers(32);
  FailureCatcher failures;
  LoadMisaligned(registers.data());
  EXPECT_THAT(failures.message(), StartsWith("misaligned: "));
}

struct Place {
  int row, column;
};

// mma.m16n8k16 with .bf16: of thread `lane` element i of A, B, C.
Place A16(int lane, int i) {
  const int group = lane >> 2, thread = lane % 4;
  const bool upper = (0 <= i && i < 2) || (4 <= i && i < 6);
  return {upper ? group : group + 8,
          i < 4 ? thread * 2 + (i & 1) : thread * 2 + (i & 1) + 8};
}
Place B16(int lane, int i) {
  const int group = lane >> 2, thread = lane % 4;
  return {i < 2 ? thread * 2 + (i & 1) : thread * 2 + (i & 1) + 8, group};
}
Place C(int lane, int i) {
  const int group = lane >> 2, thread = lane % 4;
  return {i < 2 ? group : group + 8, thread * 2 + (i & 1)};
}
// mma.m16n8k32 with .e4m3.
Place A32(int lane, int i) {
  const int group = lane >> 2, thread = lane % 4;
  const bool upper = (0 <= i && i < 4) || (8 <= i && i < 12);
  return {upper ? group : group + 8,
          i < 8 ? thread * 4 + (i & 3) : thread * 4 + (i & 3) + 16};
}
Place B32(int lane, int i) {
  const int group = lane >> 2, thread = lane % 4;
  return {i < 4 ? thread * 4 + (i & 3) : thread * 4 + (i & 3) + 16, group};
}

// The bits of a small integer.
uint32_t Bf16(int value) {
  return std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16;
}
uint32_t E4m3(int value) {  // -3 .. 3
  constexpr uint32_t kBits[] = {0x00, 0x38, 0x40, 0x44};
  return value < 0 ? kBits[-value] | 0x80 : kBits[value];
}

// The product by the instruction against the product of the matrices, with
// numbers that are exact in any order.
void ExpectProduct(bool e4m3) {
  const int depth = e4m3 ? 32 : 16, per = e4m3 ? 4 : 2;
  const auto a_at = [](int row, int k) { return (row * 5 + k * 3) % 7 - 3; };
  const auto b_at = [](int k, int column) {
    return (k * 2 + column * 11) % 7 - 3;
  };
  const auto c_at = [](int row, int column) { return row * 8 + column; };
  GlobalArray<uint32_t> a(128), b(64);
  GlobalArray<float> d(128);
  std::fill(a.begin(), a.end(), 0);
  std::fill(b.begin(), b.end(), 0);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4 * per; ++i) {
      const Place p = e4m3 ? A32(lane, i) : A16(lane, i);
      const int value = a_at(p.row, p.column);
      a[lane * 4 + i / per] |= (e4m3 ? E4m3(value) : Bf16(value))
                               << (32 / per * (i % per));
    }
    for (int i = 0; i < 2 * per; ++i) {
      const Place p = e4m3 ? B32(lane, i) : B16(lane, i);
      const int value = b_at(p.row, p.column);
      b[lane * 2 + i / per] |= (e4m3 ? E4m3(value) : Bf16(value))
                               << (32 / per * (i % per));
    }
    for (int i = 0; i < 4; ++i) {
      const Place p = C(lane, i);
      d[lane * 4 + i] = static_cast<float>(c_at(p.row, p.column));
    }
  }
  MultiplyFragments(e4m3, a.data(), b.data(), d.data());
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const Place p = C(lane, i);
      int expected = c_at(p.row, p.column);
      for (int k = 0; k < depth; ++k) {
        expected += a_at(p.row, k) * b_at(k, p.column);
      }
      EXPECT_EQ(d[lane * 4 + i], static_cast<float>(expected));
    }
  }
}

TEST_P(MatrixTest, MmaOfBf16FollowsTheTables) { ExpectProduct(false); }

TEST_P(MatrixTest, MmaOfE4m3FollowsTheTables) { ExpectProduct(true); }

}  // namespace
}  // namespace temper::simt
