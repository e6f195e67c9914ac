#include "kernels/cpu/gemm.h"

#include <algorithm>

#include "kernels/base/log.h"

namespace temper {
namespace {

// A panel of this depth fills half of a 32 KiB L1 cache; the rows beside it
// stay in L2 while all panels pass by.
constexpr int64_t kDepthBlock = 1024;
constexpr int64_t kRowBlock = 48;
// Rows of a whose distance is a multiple of this many floats share a few sets of
// an L1 cache; such rows are copied first, at a distance that spreads them.
constexpr int64_t kSharedSets = 256;
constexpr int64_t kCopiedRow = kDepthBlock + 16;
// Fewer columns than this do not pay for the copy.
constexpr int64_t kColumnsWorthACopy = 64;
// Products below this many multiplications are not worth a second thread.
constexpr int64_t kSerialWork = 1 << 15;

}  // namespace

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
      block.b = whole.b + begin * whole.b_k;
      block.accumulate = whole.accumulate || cut > 0;
      tier.gemm(block);
    }
  }
}

void GemmParallel(const TierKernels& tier, ThreadPool* pool,
                  const GemmBlock& whole) {
  const int64_t row_work = std::max<int64_t>(1, whole.columns * whole.depth);
  const int64_t threads = pool->threads();
  if (whole.rows >= 12 * threads) {
    const int64_t rows = std::max<int64_t>(1, kSerialWork / row_work);
    const int64_t grain = (rows + 5) / 6 * 6;
    pool->ParallelFor(whole.rows, grain, [&](int, int64_t begin, int64_t end) {
      GemmBlock part = whole;
      part.rows = end - begin;
      part.a = whole.a + begin * whole.a_row;
      part.c = whole.c + begin * whole.c_row;
      GemmSerial(tier, part);
    });
    return;
  }
  const int64_t column_work = std::max<int64_t>(1, whole.rows * whole.depth);
  const int64_t columns = std::max<int64_t>(1, kSerialWork / column_work);
  const int64_t grain = (columns + kPanel - 1) / kPanel * kPanel;
  pool->ParallelFor(whole.columns, grain, [&](int, int64_t begin, int64_t end) {
    GemmBlock part = whole;
    part.columns = end - begin;
    part.b = whole.b + begin / kPanel * whole.b_panel;
    part.c = whole.c + begin;
    GemmSerial(tier, part);
  });
}

}  // namespace temper
