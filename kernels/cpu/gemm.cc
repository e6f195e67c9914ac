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
    uint8_t* to = packed + j / kPanel * CodePanel(depth) + 2 * (j % kPanel);
    for (int64_t k = 0; k < PaddedDepth(depth); ++k) {
      to[k / 2 * 2 * kPanel + k % 2] = k < depth ? b[j * column_stride + k] : 0;
    }
  }
}

namespace {

// A cut of the depth: so many blocks of 128 that share scales.
constexpr int64_t kCodeBlocks = 8;

// A row block of one cut of the depth, as the tier takes it: block by block.
struct CodeRows {
  static constexpr int64_t kRows = 256;

  alignas(64) char packed[kCodeBlocks * kRows * (kScaleBlock * 2 + 64)];
  float scales[kCodeBlocks * kRows];
  int64_t rows = 0;
  int64_t row_bytes = 0;

  char* block(int64_t k) { return packed + k * rows * row_bytes; }
};

// Columns that share their scales, as pairs, and what some rows of the block
// are multiplied to.
struct CodeColumns {
  static constexpr int64_t kRows = CodeRows::kRows / 8;
  static constexpr int64_t kBlockPairs = kScaleBlock * kScaleBlock / 2;

  alignas(64) uint32_t pairs[kCodeBlocks * kBlockPairs];
  alignas(64) float sums[kRows * kScaleBlock];
};

// What lies at block k of a cut: as long, but for the last of the depth.
int64_t BlockDepth(const CodeGemm& g, int64_t k) {
  return std::min(kScaleBlock, g.depth - k * kScaleBlock);
}

// Quantises rows [row, row + a->rows) of blocks [begin, end) of the depth.
// False if a block can have no scale.
bool QuantiseRows(const TierKernels& tier, const CodeGemm& g, int64_t row,
                  int64_t begin, int64_t end, CodeRows* a) {
  float codes[kScaleBlock];
  bool all = true;
  for (int64_t i = 0; i < a->rows; ++i) {
    const float* from = g.a + (row + i) * g.a_row;
    for (int64_t k = begin; k < end; ++k) {
      const int64_t depth = BlockDepth(g, k);
      const float scale =
          tier.quantise(from + k * kScaleBlock, 0, codes, depth);
      a->scales[(k - begin) * a->rows + i] = scale;
      all = all && !std::isnan(scale);
      tier.pack_a(codes, depth, 1, 1, depth,
                  a->block(k - begin) + i * a->row_bytes, a->row_bytes);
    }
  }
  return all;
}

// c of those rows += their products with columns [first, end) of one square's
// width, each block's scaled when it is whole.
void AddScaled(const TierKernels& tier, const CodeGemm& g, int64_t row,
               int64_t begin, int64_t end, int64_t first, int64_t last,
               CodeRows* a, CodeColumns* work) {
  for (int64_t k = begin; k < end; ++k) {
    const int64_t panel = PairPanel(BlockDepth(g, k));
    uint32_t* to = work->pairs + (k - begin) * CodeColumns::kBlockPairs;
    for (int64_t j = first; j < last; j += kPanel, to += panel) {
      tier.widen_codes(g.b + j / kPanel * g.b_panel + k * kScaleBlock * kPanel,
                       1, reinterpret_cast<uint16_t*>(to), 2 * panel);
    }
  }
  const float* const scales =
      g.scales + (g.column + first) / kScaleBlock * g.scales_row;
  // An eighth of a block is whole tiles of every tier; its sums and its part of
  // c stay in L1 from one block of the depth to the next.
  const int64_t step = tier.pair_block_rows / 8;
  CHECK_LE(step, CodeColumns::kRows);
  for (int64_t i = 0; i < a->rows; i += step) {
    const int64_t some = std::min(step, a->rows - i);
    for (int64_t k = begin; k < end; ++k) {
      const int64_t depth = BlockDepth(g, k);
      tier.pair_product(
          {.rows = some,
           .columns = last - first,
           .depth = depth,
           .a = a->block(k - begin) + i * a->row_bytes,
           .a_row = a->row_bytes,
           .b = work->pairs + (k - begin) * CodeColumns::kBlockPairs,
           .b_panel = PairPanel(depth),
           .c = work->sums,
           .c_row = kScaleBlock});
      const float* const row_scales = a->scales + (k - begin) * a->rows + i;
      for (int64_t n = 0; n < some; ++n) {
        tier.axpy(row_scales[n] * scales[k], work->sums + n * kScaleBlock,
                  g.c + (row + i + n) * g.c_row + first, last - first);
      }
    }
  }
}

}  // namespace

bool CodeGemmSerial(const TierKernels& tier, const CodeGemm& whole) {
  CodeRows a;
  CodeColumns work;
  a.row_bytes = kScaleBlock * tier.pack_a_bytes + 64;
  const int64_t row_block = std::min<int64_t>(
      tier.pair_block_rows,
      static_cast<int64_t>(sizeof(a.packed)) / (kCodeBlocks * a.row_bytes));
  const int64_t blocks = ScaleBlocks(whole.depth);
  bool all = true;
  for (int64_t row = 0; row < whole.rows; row += row_block) {
    a.rows = std::min(row_block, whole.rows - row);
    for (int64_t i = row; i < row + a.rows; ++i) {
      std::fill_n(whole.c + i * whole.c_row, whole.columns, 0.0f);
    }
    for (int64_t k = 0; k < blocks; k += kCodeBlocks) {
      const int64_t end = std::min(k + kCodeBlocks, blocks);
      all = QuantiseRows(tier, whole, row, k, end, &a) && all;
      for (int64_t j = 0; j < whole.columns;) {
        const int64_t in_square = (whole.column + j) % kScaleBlock;
        const int64_t last =
            std::min(whole.columns, j + kScaleBlock - in_square);
        AddScaled(tier, whole, row, k, end, j, last, &a, &work);
        j = last;
      }
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
