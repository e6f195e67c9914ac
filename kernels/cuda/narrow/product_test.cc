// Products of bf16 by tensor cores, on the emulator: to the bit of one chain of
// the tensor core's sums over the depth, whatever the tile, and within the
// bound that follows from those sums of the CPU's product.

#include "kernels/cuda/narrow/product.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/rng.h"
#include "kernels/cuda/simt/accumulator.h"
#include "kernels/cuda/simt/testing.h"
#include "kernels/cuda/simt/work.h"
#include "kernels/find_backend.h"
#include "kernels/ops/device_fault.h"
#include "kernels/tensor/bf16.h"

namespace temper::cuda {
namespace {

using simt::GlobalArray;

constexpr float kUntouched = 12345.0f;

struct Shape {
  int64_t rows, columns, depth;
  int64_t groups = 1;
  bool a_by_depth = false, b_by_depth = false;
  bool goes_on = false;
  std::vector<int32_t> offsets = {};
  int64_t odd = 0;  // elements that strides are beside a multiple of eight
};

float Draw(uint64_t seed, int64_t i) {
  const auto ordinal = static_cast<uint32_t>(i);
  return static_cast<float>(Normal({.seed = seed, .ordinal = ordinal}));
}

// An operand in memory, and what its elements are.
class Operand {
 public:
  Operand(uint64_t seed, int64_t groups, int64_t lines, int64_t depth,
          bool by_depth, int64_t odd)
      : lines_(lines),
        depth_(depth),
        stride_(((by_depth ? lines : depth) + 7) / 8 * 8 + odd),
        group_(stride_ * (by_depth ? depth : lines)),
        by_depth_(by_depth),
        bits_(static_cast<size_t>(groups * group_) + 1) {
    for (int64_t i = 0; i < groups * lines * depth; ++i) {
      bits_[PlaceOf(i / depth / lines, i / depth % lines, i % depth)] =
          BF16FromFloat(Draw(seed, i)).bits;
    }
  }

  NarrowOperand View() {
    return {.data = bits_.data(),
            .stride = stride_,
            .group = group_,
            .by_depth = by_depth_};
  }
  uint16_t At(int64_t group, int64_t line, int64_t k) {
    return bits_[PlaceOf(group, line, k)];
  }
  std::vector<simt::Operand> Line(int64_t group, int64_t line) {
    std::vector<simt::Operand> numbers;
    for (int64_t k = 0; k < (depth_ + 15) / 16 * 16; ++k) {
      numbers.push_back(
          simt::OperandOfBf16(k < depth_ ? At(group, line, k) : uint16_t{0}));
    }
    return numbers;
  }

 private:
  size_t PlaceOf(int64_t group, int64_t line, int64_t k) const {
    return static_cast<size_t>(
        group * group_ + (by_depth_ ? k * stride_ + line : line * stride_ + k));
  }

  const int64_t lines_, depth_, stride_, group_;
  const bool by_depth_;
  GlobalArray<uint16_t> bits_;
};

// Operands, what comes of them, and what should.
class Trial {
 public:
  explicit Trial(const Shape& shape)
      : shape_(shape),
        cut_(!shape.offsets.empty()),
        c_row_(shape.columns + 1 + shape.odd),
        a_(1, cut_ ? 1 : shape.groups, shape.rows, shape.depth,
           shape.a_by_depth, shape.odd),
        b_(2, shape.groups, shape.columns, shape.depth, shape.b_by_depth,
           shape.odd),
        c_(static_cast<size_t>((cut_ ? 1 : shape.groups) * shape.rows *
                               c_row_)),
        offsets_(shape.offsets.size() + 1),
        words_(2) {
    std::copy(shape.offsets.begin(), shape.offsets.end(), offsets_.begin());
    words_[0] = words_[1] = 0;
    Refill();
  }

  NarrowProduct Product() {
    return {.a = a_.View(),
            .b = b_.View(),
            .c = c_.data(),
            .c_row = c_row_,
            .c_group = shape_.rows * c_row_,
            .rows = shape_.rows,
            .columns = shape_.columns,
            .depth = shape_.depth,
            .groups = shape_.groups,
            .goes_on = shape_.goes_on,
            .offsets = cut_ ? offsets_.data() : nullptr,
            .fault = &words_[0],
            .unless = &words_[1]};
  }
  // Runs it by the tile, as on one multiprocessor; so blocks have several
  // tiles.
  bool Run(int tile) {
    Refill();
    return MultiplyBy(tile, 1, Product(), nullptr);
  }

  void ExpectTheChain(const std::string& what) {
    const auto wanted = Wanted();
    for (size_t i = 0; i < wanted.size(); ++i) {
      ASSERT_EQ(std::memcmp(&c_[i], &wanted[i], sizeof(float)), 0)
          << what << ": row " << i / c_row_ << " column " << i % c_row_
          << " is " << c_[i] << ", not " << wanted[i];
    }
    ASSERT_EQ(words_[0], 0u);
  }
  void ExpectUntouched() {
    for (const float value : c_) ASSERT_EQ(value, kUntouched);
  }

  GlobalArray<float>& c() { return c_; }
  int64_t c_row() const { return c_row_; }
  uint32_t& fault() { return words_[0]; }
  uint32_t& unless() { return words_[1]; }
  Operand& a() { return a_; }
  Operand& b() { return b_; }

 private:
  void Refill() { std::fill(c_.begin(), c_.end(), kUntouched); }

  int64_t GroupOf(int64_t row) const {
    if (!cut_) return row / shape_.rows;
    int64_t group = 0;
    while (shape_.offsets[group + 1] <= row) ++group;
    return group;
  }

  // All of c, columns that nobody is to write among them.
  const std::vector<float>& Wanted() {
    if (!wanted_.empty()) return wanted_;
    wanted_.assign(c_.size(), kUntouched);
    std::vector<std::vector<simt::Operand>> b;
    for (int64_t i = 0; i < shape_.groups * shape_.columns; ++i) {
      b.push_back(b_.Line(i / shape_.columns, i % shape_.columns));
    }
    for (int64_t row = 0; row < static_cast<int64_t>(c_.size()) / c_row_;
         ++row) {
      const auto a = a_.Line(row / shape_.rows, row % shape_.rows);
      for (int64_t j = 0; j < shape_.columns; ++j) {
        const auto& other = b[GroupOf(row) * shape_.columns + j];
        float sum = 0;
        for (size_t k = 0; k < a.size(); k += 16) {
          sum = simt::DotBf16(&a[k], &other[k], 16, sum);
        }
        wanted_[row * c_row_ + j] = shape_.goes_on ? kUntouched + sum : sum;
      }
    }
    return wanted_;
  }

  const Shape shape_;
  const bool cut_;
  const int64_t c_row_;
  Operand a_, b_;
  GlobalArray<float> c_;
  GlobalArray<int32_t> offsets_;
  GlobalArray<uint32_t> words_;
  std::vector<float> wanted_;
};

class NarrowProductTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  static void SetUpTestSuite() { SetFlushDenormals(); }
  NarrowProductTest() { simt::SetSchedule(GetParam()); }
  ~NarrowProductTest() override { simt::SetSchedule(0); }

  // By every tile that takes such operands; returns how many there are.
  int ExpectTheChainByEveryTile(const Shape& shape) {
    Trial trial(shape);
    int count = 0;
    for (int tile = 0; tile <= kPlainTile; ++tile) {
      if (!trial.Run(tile)) continue;
      trial.ExpectTheChain("tile " + std::to_string(tile));
      ++count;
    }
    return count;
  }
};

INSTANTIATE_TEST_SUITE_P(Schedules, NarrowProductTest,
                         ::testing::Range(uint64_t{0}, simt::kSchedules));

// Several tiles a block, of more steps together than its ring has stages.
TEST_P(NarrowProductTest, EveryTileHasTheBitsOfOneChain) {
  Shape shape = {.rows = 35, .columns = 133, .depth = 5 * 64 - 5};
  shape.goes_on = GetParam() % 2 == 1;
  EXPECT_EQ(ExpectTheChainByEveryTile(shape), kPlainTile + 1);
}

TEST_P(NarrowProductTest, OfOperandsThatLieByTheirDepth) {
  Shape shape = {.rows = 70, .columns = 141, .depth = 60};
  shape.b_by_depth = true;
  EXPECT_EQ(ExpectTheChainByEveryTile(shape), kPlainTile + 1);
  shape.a_by_depth = true;
  shape.goes_on = true;
  EXPECT_EQ(ExpectTheChainByEveryTile(shape), 3);
  shape.b_by_depth = false;
  EXPECT_EQ(ExpectTheChainByEveryTile(shape), 1);
}

TEST_P(NarrowProductTest, GroupsAreProductsOfTheirOwn) {
  const Shape shape = {
      .rows = 11, .columns = 70, .depth = 40, .groups = 3, .b_by_depth = true};
  EXPECT_EQ(ExpectTheChainByEveryTile(shape), kPlainTile + 1);
}

TEST_P(NarrowProductTest, OffsetsCutTheRows) {
  Shape shape = {.rows = 41, .columns = 62, .depth = 40, .groups = 5};
  shape.offsets = {0, 5, 5, 18, 40, 41};
  EXPECT_EQ(ExpectTheChainByEveryTile(shape), kPlainTile + 1);
}

TEST_P(NarrowProductTest, OffsetsOfMoreGroupsThanAWarpHasLanes) {
  Shape shape = {.rows = 4, .columns = 9, .depth = 16, .groups = 70};
  for (int g = 0; g <= 70; ++g) {
    shape.offsets.push_back((g > 21) + (g > 40) + (g > 41) + (g > 69));
  }
  EXPECT_EQ(ExpectTheChainByEveryTile(shape), kPlainTile + 1);
}

TEST_P(NarrowProductTest, OffsetsThatDoNotTileAreAFaultAndNothingMore) {
  for (const std::vector<int32_t>& offsets :
       {std::vector<int32_t>{1, 5, 9}, {0, 5, 8}, {0, 12, 9}}) {
    Trial trial({.rows = 9,
                 .columns = 5,
                 .depth = 16,
                 .groups = 2,
                 .offsets = offsets});
    for (int tile = 0; tile <= kPlainTile; ++tile) {
      trial.fault() = 0;
      ASSERT_TRUE(trial.Run(tile));
      EXPECT_EQ(trial.fault(), static_cast<uint32_t>(DeviceFault::kOffsets));
      trial.ExpectUntouched();
    }
  }
}

TEST_P(NarrowProductTest, NothingIsDoneWhereThatIsAsked) {
  Trial trial({.rows = 9, .columns = 5, .depth = 16});
  trial.unless() = 1;
  for (int tile = 0; tile <= kPlainTile; ++tile) {
    ASSERT_TRUE(trial.Run(tile));
    trial.ExpectUntouched();
  }
}

TEST_P(NarrowProductTest, OfNoDepthASumIsZero) {
  const Shape shape = {.rows = 9, .columns = 5, .depth = 0};
  EXPECT_EQ(ExpectTheChainByEveryTile(shape), kPlainTile + 1);
}

TEST_P(NarrowProductTest, WhatNoTensorCopyCanAddressGoesPlainly) {
  Shape shape = {.rows = 19, .columns = 21, .depth = 50, .odd = 1};
  EXPECT_EQ(ExpectTheChainByEveryTile(shape), 1);
  Trial trial(shape);
  Multiply(trial.Product(), nullptr);
  trial.ExpectTheChain("plainly");
}

class NarrowTileTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { SetFlushDenormals(); }
};

// Rows of a batch, and rows of any part of it, by any tile.
TEST_F(NarrowTileTest, ARowHasTheSameBitsInEveryBatch) {
  constexpr int64_t kRows = 257, kColumns = 40, kDepth = 70;
  Trial whole({.rows = kRows, .columns = kColumns, .depth = kDepth});
  const NarrowProduct product = whole.Product();
  Multiply(product, nullptr);
  const std::vector<float> wanted(whole.c().begin(), whole.c().end());
  for (const int64_t rows : {1, 2, 3, 8, 33, 65, 257}) {
    for (int tile = 0; tile <= kPlainTile; ++tile) {
      const int64_t first = (kRows - rows) / 2;
      std::fill(whole.c().begin(), whole.c().end(), kUntouched);
      NarrowProduct part = product;
      part.rows = rows;
      part.a.data += first * part.a.stride;
      part.c += first * part.c_row;
      ASSERT_TRUE(MultiplyBy(tile, kMultiprocessors, part, nullptr));
      ASSERT_EQ(std::memcmp(part.c, &wanted[first * part.c_row],
                            rows * part.c_row * sizeof(float)),
                0)
          << rows << " rows by tile " << tile;
    }
  }
}

// Which tile is taken at V3.2's shapes.
TEST_F(NarrowTileTest, TilesGrowWithTheRows) {
  const auto tile = [](int64_t rows, int64_t columns, int64_t groups = 0) {
    NarrowProduct p;
    p.rows = rows;
    p.columns = columns;
    p.depth = 7168;
    static constexpr int32_t kOffsets[1] = {};
    if (groups > 0) {
      p.groups = groups;
      p.offsets = kOffsets;
    }
    return TileFor(p);
  };
  EXPECT_EQ(tile(8192, 7168), 0);
  EXPECT_EQ(tile(256, 7168), 1);
  EXPECT_EQ(tile(64, 7168), 2);
  EXPECT_EQ(tile(20, 7168), 3);
  EXPECT_EQ(tile(1, 7168), 5);
  EXPECT_EQ(tile(256 * 8, 2048, 256), 4) << "a decode step's experts";
  EXPECT_EQ(tile(8192 * 8, 2048, 256), 0) << "a pack's";
}

// Bytes and multiplications are the tiles' own, and no more.
TEST_F(NarrowTileTest, NoMoreIsReadAndMultipliedThanTheTilesHave) {
  for (int tile = 0; tile < kPlainTile; ++tile) {
    const NarrowTile& cut = kNarrowTiles[tile];
    const int64_t rows = cut.swapped ? cut.columns : cut.lines;
    const int64_t columns = cut.swapped ? cut.lines : cut.columns;
    Trial trial({.rows = 2 * rows, .columns = columns, .depth = 128});
    simt::TakeWork();
    ASSERT_TRUE(trial.Run(tile));
    const simt::Work work = simt::TakeWork();
    EXPECT_EQ(work.bytes_copied,
              static_cast<uint64_t>((2 * rows + 2 * columns) * 128 * 2));
    EXPECT_EQ(work.multiplications,
              static_cast<uint64_t>(2 * rows * columns * 128));
  }
}

// Of a step of 16 with the sum before it, each of 17 terms loses less than
// 2^-25 of the largest one's power of two, and the result less than 2^-23 of
// itself. No term and no partial sum is above S = sum |a b| but by these
// losses; a power of two is at most its term. So T steps are off by less than
// T (17 / 4 + 1) 2^-23 S. The CPU rounds each of its additions by half as much:
// 18 deep in a block of 32, then once a block.
double Bound(int64_t depth, double magnitude) {
  const double steps = std::ceil(static_cast<double>(depth) / 16);
  const double blocks = std::ceil(static_cast<double>(depth) / 32);
  return (steps * 5.25 * 0x1p-23 + (18 + blocks) * 0x1p-24) * magnitude * 1.001;
}

TEST_F(NarrowTileTest, TheCpusProductIsWithinTheBound) {
  constexpr int64_t kRows = 9, kColumns = 40;
  for (const int64_t depth : {16, 31, 64, 1000, 3000}) {
    Trial trial({.rows = kRows, .columns = kColumns, .depth = depth});
    Multiply(trial.Product(), nullptr);
    std::vector<float> x, w, y(kRows * kColumns);
    for (int64_t i = 0; i < kRows * depth; ++i) x.push_back(Draw(1, i));
    for (int64_t i = 0; i < kColumns * depth; ++i) w.push_back(Draw(2, i));
    const auto cpu = *FindBackend({.name = "scalar"});
    const auto weight =
        *cpu->NewWeight({.out = kColumns, .in = depth, .dtype = DType::kBF16});
    cpu->SetWeight(Tensor(w.data(), DType::kF32, {1, kColumns, depth}),
                   weight.get());
    cpu->Linear(Tensor(x.data(), DType::kF32, {kRows, depth}), *weight,
                Use::kForward,
                Tensor(y.data(), DType::kF32, {kRows, kColumns}));
    double differ = 0, both = 0;
    for (int64_t i = 0; i < kRows * kColumns; ++i) {
      double magnitude = 0;
      for (int64_t k = 0; k < depth; ++k) {
        magnitude += std::fabs(
            double{FloatFromBF16({trial.a().At(0, i / kColumns, k)})} *
            double{FloatFromBF16({trial.b().At(0, i % kColumns, k)})});
      }
      const double got = trial.c()[i / kColumns * trial.c_row() + i % kColumns];
      EXPECT_LE(std::fabs(got - y[i]), Bound(depth, magnitude)) << depth;
      differ += (got - y[i]) * (got - y[i]);
      both += got * got + double{y[i]} * y[i];
    }
    EXPECT_LE(differ / both, 5e-6) << depth;
    EXPECT_GT(differ, 0) << "the CPU's sums are others";
  }
}

}  // namespace
}  // namespace temper::cuda
