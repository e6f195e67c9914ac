#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "kernels/base/log.h"
#include "kernels/tensor/bf16.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

// A tile's outputs are loaded and stored once a cut of the depth, which costs
// more than reading a deep panel from L2; the rows beside it stay there while
// all panels pass by. (Measured on Zen 4: 0.77 of peak at a depth of 256, 0.90
// at 1024.) Rows are whole tiles of every tier: of 6, 12, 4 and 32.
constexpr int64_t kDepthBlock = 1024;
constexpr int64_t kRowBlock = 96;
// What rounded rows may take, on the stack: 256 of 1024 elements and a line.
constexpr int64_t kPackedBytes = 256 * (1024 * 2 + 64);
// Rows of a whose distance is a multiple of this many floats share a few sets
// of an L1 cache; such rows are copied first, at a distance that spreads them.
constexpr int64_t kSharedSets = 256;
constexpr int64_t kCopiedRow = kDepthBlock + 16;
// Fewer columns than this do not pay for the copy.
constexpr int64_t kColumnsWorthACopy = 64;

}  // namespace

int64_t PieceGrain(int64_t multiplications) {
  constexpr int64_t kSerialWork = 1 << 15;
  return std::max<int64_t>(1,
                           kSerialWork / std::max<int64_t>(1, multiplications));
}

void PackPanels(const float* b, int64_t columns, int64_t depth,
                int64_t column_stride, int64_t depth_stride, float* packed) {
  for (int64_t first = 0; first < columns; first += kPanel) {
    const int64_t width = std::min(kPanel, columns - first);
    const float* from = b + first * column_stride;
    if (width < kPanel) std::fill_n(packed, depth * kPanel, 0.0f);
    if (column_stride == 1) {
      for (int64_t k = 0; k < depth; ++k) {
        std::copy_n(from + k * depth_stride, width, packed + k * kPanel);
      }
    } else {
      for (int64_t j = 0; j < width; ++j) {
        for (int64_t k = 0; k < depth; ++k) {
          packed[k * kPanel + j] = from[j * column_stride + k * depth_stride];
        }
      }
    }
    packed += depth * kPanel;
  }
}

void GemmSerial(const TierKernels& tier, const GemmBlock& whole) {
  const bool copy = whole.a_k == 1 && whole.a_row % kSharedSets == 0 &&
                    whole.rows > 1 && whole.columns >= kColumnsWorthACopy;
  alignas(64) float copied[kRowBlock * kCopiedRow];
  // Depth 0 still writes: an empty sum is zero.
  const int64_t cuts =
      std::max<int64_t>(1, (whole.depth + kDepthBlock - 1) / kDepthBlock);
  for (int64_t row = 0; row < whole.rows; row += kRowBlock) {
    GemmBlock block = whole;
    block.rows = std::min(kRowBlock, whole.rows - row);
    block.c = whole.c + row * whole.c_row;
    for (int64_t cut = 0; cut < cuts; ++cut) {
      const int64_t begin = whole.depth * cut / cuts;
      block.depth = whole.depth * (cut + 1) / cuts - begin;
      block.a = whole.a + row * whole.a_row + begin * whole.a_k;
      if (copy) {
        for (int64_t i = 0; i < block.rows; ++i) {
          std::copy_n(block.a + i * whole.a_row, block.depth,
                      copied + i * kCopiedRow);
        }
        block.a = copied;
        block.a_row = kCopiedRow;
      }
      block.b = whole.b + begin * kPanel;
      block.accumulate = whole.accumulate || cut > 0;
      tier.gemm(block);
    }
  }
}

namespace {

// Calls serial(part) for shares of a product: rows where there are enough of
// them, else columns by whole panels, which start where b_panel says.
template <typename Product, typename Serial>
void InShares(ThreadPool* pool, const Product& whole, Serial serial) {
  const int64_t threads = pool->threads();
  if (whole.rows >= 12 * threads) {
    const int64_t rows = PieceGrain(whole.columns * whole.depth);
    const int64_t grain = (rows + 11) / 12 * 12;
    pool->ParallelFor(whole.rows, grain, [&](int, int64_t begin, int64_t end) {
      Product part = whole;
      part.rows = end - begin;
      part.a = whole.a + begin * whole.a_row;
      part.c = whole.c + begin * whole.c_row;
      serial(part);
    });
    return;
  }
  const int64_t columns = PieceGrain(whole.rows * whole.depth);
  const int64_t grain = (columns + kPanel - 1) / kPanel * kPanel;
  pool->ParallelFor(whole.columns, grain, [&](int, int64_t begin, int64_t end) {
    Product part = whole;
    part.columns = end - begin;
    part.b = whole.b + begin / kPanel * whole.b_panel;
    part.c = whole.c + begin;
    serial(part);
  });
}

}  // namespace

void GemmParallel(const TierKernels& tier, ThreadPool* pool,
                  const GemmBlock& whole) {
  InShares(pool, whole, [&](const GemmBlock& part) { GemmSerial(tier, part); });
}

template <typename T>
void PackPairs(const T* b, int64_t columns, int64_t depth,
               int64_t column_stride, int64_t depth_stride, uint32_t* packed) {
  const auto bits = [&](int64_t j, int64_t k) -> uint32_t {
    if (k >= depth) return 0;
    const T value = b[j * column_stride + k * depth_stride];
    if constexpr (sizeof(T) == sizeof(float)) {
      return BF16FromFloat(value).bits;
    } else {
      return value;
    }
  };
  for (int64_t j = 0; j < columns; ++j) {
    uint32_t* to = packed + j / kPanel * PairPanel(depth) + j % kPanel;
    for (int64_t k = 0; k < PaddedDepth(depth); k += 2) {
      to[k / 2 * kPanel] = bits(j, k) | bits(j, k + 1) << 16;
    }
  }
}
template void PackPairs(const float*, int64_t, int64_t, int64_t, int64_t,
                        uint32_t*);
template void PackPairs(const uint16_t*, int64_t, int64_t, int64_t, int64_t,
                        uint32_t*);

// A cut of the depth is whole blocks, so the total rests in c between blocks as
// it rests in a register.
void PairGemmSerial(const TierKernels& tier, const PairGemm& whole) {
  // Rows begin on a line each, one line beyond a multiple of what shares sets.
  constexpr int64_t kLine = 64;
  const int64_t row_bytes = tier.pair_depth * tier.pack_a_bytes + kLine;
  CHECK_LE(tier.pair_block_rows * row_bytes, kPackedBytes);
  alignas(kLine) char packed[kPackedBytes];
  PairBlock block;
  block.columns = whole.columns;
  block.a = packed;
  block.a_row = row_bytes;
  block.b_panel = whole.b_panel;
  block.c_row = whole.c_row;
  for (int64_t row = 0; row < whole.rows; row += tier.pair_block_rows) {
    block.rows = std::min(tier.pair_block_rows, whole.rows - row);
    block.c = whole.c + row * whole.c_row;
    // Depth 0 still writes: an empty sum is zero.
    for (int64_t k = 0; k == 0 || k < whole.depth; k += tier.pair_depth) {
      block.depth = std::min(tier.pair_depth, whole.depth - k);
      tier.pack_a(whole.a + row * whole.a_row + k * whole.a_k, whole.a_row,
                  whole.a_k, block.rows, block.depth, packed, row_bytes);
      block.b = whole.b + k / 2 * block.b_pair;
      block.into = whole.accumulate || k > 0 ? Into::kContinue : Into::kStore;
      tier.pair_product(block);
    }
  }
}

void PairGemmParallel(const TierKernels& tier, ThreadPool* pool,
                      const PairGemm& whole) {
  InShares(pool, whole,
           [&](const PairGemm& part) { PairGemmSerial(tier, part); });
}

void PackCodes(const uint8_t* b, int64_t columns, int64_t depth,
               int64_t column_stride, uint8_t* packed) {
  for (int64_t j = 0; j < columns; ++j) {
    const int64_t in_panel = j % kPanel;
    uint8_t* const to = packed + j / kPanel * CodePanel(depth) +
                        in_panel / 4 * 16 + in_panel % 4 * 2;
    for (int64_t k = 0; k < PaddedDepth(depth); ++k) {
      to[k / 4 * kCodeFour + k % 4 / 2 * 8 + k % 2] =
          k < depth ? b[j * column_stride + k] : 0;
    }
  }
}

namespace {

// A row block of one cut of the depth, as the tier takes it: block by block of
// what shares its scales.
struct PackedRows {
  static constexpr int64_t kRows = 512;
  static constexpr int64_t kBlocks = 8;

  alignas(64) char packed[kBlocks * kRows * kScaleBlock * 2];
  float scales[kBlocks * kRows];
  int64_t rows = 0;
  int64_t row_bytes = 0;

  int64_t block_bytes() const { return rows * row_bytes; }
  // Whether all of [begin, begin + count) have scales.
  bool HaveScales(int64_t begin, int64_t count) const {
    return std::none_of(scales + begin, scales + begin + count,
                        [](float scale) { return std::isnan(scale); });
  }
};

// A square of b, as the tier takes it, and what its columns have come to.
struct CodeColumns {
  alignas(64) char b[kScaleBlock * kScaleBlock * sizeof(float)];
  alignas(64) float totals[PackedRows::kRows * kTotalsRow];
};

// What lies at block k of the depth: as long, but for the last.
int64_t BlockDepth(const CodeGemm& g, int64_t k) {
  return std::min(kScaleBlock, g.depth - k * kScaleBlock);
}

// Calls visit(first, last) for the columns of each square of b.
template <typename Visit>
void ForEachSquare(const CodeGemm& g, Visit visit) {
  for (int64_t first = 0; first < g.columns;) {
    const int64_t in_square = (g.column + first) % kScaleBlock;
    const int64_t last = std::min(g.columns, first + kScaleBlock - in_square);
    visit(first, last);
    first = last;
  }
}

const float* SquareScales(const CodeGemm& g, int64_t first) {
  return g.scales + (g.column + first) / kScaleBlock * g.scales_row;
}

void CopyRows(int64_t rows, int64_t columns, const float* from,
              int64_t from_row, float* to, int64_t to_row) {
  for (int64_t i = 0; i < rows; ++i) {
    std::copy_n(from + i * from_row, columns, to + i * to_row);
  }
}

// Columns [first, last) of c, which are of one square's, for rows from `row`
// on, over blocks [begin, end) of the depth.
void MultiplySquares(const TierKernels& tier, const CodeGemm& g, int64_t row,
                     int64_t begin, int64_t end, int64_t first, int64_t last,
                     const PackedRows& a, CodeColumns* work) {
  const float* const scales = SquareScales(g, first);
  float* const c = g.c + row * g.c_row + first;
  float factors[PackedRows::kRows];
  if (begin > 0) {
    CopyRows(a.rows, last - first, c, g.c_row, work->totals, kTotalsRow);
  }
  for (int64_t k = begin; k < end; ++k) {
    const int64_t depth = PaddedDepth(BlockDepth(g, k));
    const int64_t panel = depth * kPanel * tier.code_b_bytes;
    for (int64_t j = first; j < last; j += kPanel) {
      tier.widen_fours(g.b + j / kPanel * g.b_panel + k * kScaleBlock * kPanel,
                       depth / 4, work->b + (j - first) / kPanel * panel);
    }
    for (int64_t i = 0; i < a.rows; ++i) {
      factors[i] = a.scales[(k - begin) * a.rows + i] * scales[k];
    }
    tier.code_product({.rows = a.rows,
                       .columns = last - first,
                       .depth = BlockDepth(g, k),
                       .a = a.packed + (k - begin) * a.block_bytes(),
                       .a_row = a.row_bytes,
                       .b = reinterpret_cast<const uint32_t*>(work->b),
                       .b_panel = panel / 4,
                       .c = work->totals,
                       .c_row = kTotalsRow,
                       .into = k == 0 ? Into::kScaled : Into::kAddScaled,
                       .factors = factors});
  }
  CopyRows(a.rows, last - first, work->totals, kTotalsRow, c, g.c_row);
}

// Rows too few to widen weights for: they pass by these as they are read.
bool MultiplyFewRows(const TierKernels& tier, const CodeGemm& g) {
  PackedRows a;
  auto* const x = reinterpret_cast<float*>(a.packed);
  constexpr int64_t kBlocks = sizeof(a.packed) / sizeof(float) / kScaleBlock;
  static_assert(kBlocks * sizeof(float) <= sizeof(a.scales));
  const int64_t blocks = ScaleBlocks(g.depth);
  const int64_t cut = kBlocks / kCodeRowsMax;
  bool all = true;
  for (int64_t k = 0; k < blocks; k += cut) {
    const int64_t count = std::min(cut, blocks - k);
    for (int64_t i = 0; i < g.rows; ++i) {
      for (int64_t block = 0; block < count; ++block) {
        const int64_t first = (k + block) * kScaleBlock;
        float codes[kScaleBlock] = {};
        a.scales[i * count + block] = tier.quantise(
            g.a + i * g.a_row + first, 0, codes, BlockDepth(g, k + block));
        for (int64_t four = 0; four < kScaleBlock; four += 4) {
          std::copy_n(codes + four, 4,
                      x + (block * kScaleBlock + four) * g.rows + i * 4);
        }
      }
    }
    all = a.HaveScales(0, g.rows * count) && all;
    ForEachSquare(g, [&](int64_t first, int64_t last) {
      tier.code_rows(
          {.rows = g.rows,
           .columns = last - first,
           .depth = std::min(count * kScaleBlock, g.depth - k * kScaleBlock),
           .x = x,
           .x_scales = a.scales,
           .scales_row = count,
           .codes = g.b + first / kPanel * g.b_panel + k * kScaleBlock * kPanel,
           .panel = g.b_panel,
           .scales = SquareScales(g, first) + k,
           .y = g.c + first,
           .y_row = g.c_row,
           .accumulate = k > 0});
    });
  }
  return all;
}

}  // namespace

bool CodeGemmSerial(const TierKernels& tier, const CodeGemm& whole) {
  if (whole.rows == 0) return true;
  if (whole.rows <= kCodeRowsMax) return MultiplyFewRows(tier, whole);
  PackedRows a;
  CodeColumns work;
  a.row_bytes = kScaleBlock * tier.pack_a_bytes;
  CHECK_LE(PackedRows::kBlocks * tier.code_block_rows * a.row_bytes,
           static_cast<int64_t>(sizeof(a.packed)));
  const int64_t blocks = ScaleBlocks(whole.depth);
  bool all = true;
  for (int64_t row = 0; row < whole.rows; row += tier.code_block_rows) {
    a.rows = std::min(tier.code_block_rows, whole.rows - row);
    for (int64_t k = 0; k < blocks; k += PackedRows::kBlocks) {
      const int64_t end = std::min(k + PackedRows::kBlocks, blocks);
      for (int64_t i = 0; i < a.rows; ++i) {
        tier.pack_codes(
            whole.a + (row + i) * whole.a_row + k * kScaleBlock,
            std::min(end * kScaleBlock, whole.depth) - k * kScaleBlock,
            a.packed + i * a.row_bytes, a.block_bytes(), a.scales + i, a.rows);
      }
      all = a.HaveScales(0, (end - k) * a.rows) && all;
      ForEachSquare(whole, [&](int64_t first, int64_t last) {
        MultiplySquares(tier, whole, row, k, end, first, last, a, &work);
      });
    }
  }
  return all;
}

bool CodeGemmParallel(const TierKernels& tier, ThreadPool* pool,
                      const CodeGemm& whole) {
  std::atomic<bool> all{true};
  InShares(pool, whole, [&](CodeGemm part) {
    part.column += (part.b - whole.b) / whole.b_panel * kPanel;
    if (!CodeGemmSerial(tier, part)) all = false;
  });
  return all;
}

}  // namespace temper
