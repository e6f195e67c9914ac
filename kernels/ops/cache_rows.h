// Rows of the caches in FP8, byte by byte, as FlashMLA and DeepGEMM have them
// (DESIGN.md section 6). A tensor of such rows is of type f8e4m3, whatever the
// bytes of it are:
//
//   latent  [rows, C + 4 ceil(C / 128) + 2 R]: the codes of the C columns;
//   their
//           scales, f32, one for 128; the R rotary columns in bf16.
//   index   [pages, 64 Di + 64 * 4]: a page is 64 rows; first the codes of all,
//           Di a row, then the scale of each. Di is at most 128.
//
// So f32 and bf16 may lie at odd addresses. Nothing of Abseil, so that kernels
// can include it.

#ifndef KERNELS_OPS_CACHE_ROWS_H_
#define KERNELS_OPS_CACHE_ROWS_H_

#include <cstdint>

#include "kernels/tensor/fp8.h"

namespace temper {

constexpr int64_t LatentRowBytes(int64_t latent, int64_t rope) {
  return latent + 4 * ScaleBlocks(latent) + 2 * rope;
}

inline constexpr int64_t kIndexPageRows = 64;

constexpr int64_t IndexPageBytes(int64_t dims) {
  return kIndexPageRows * (dims + 4);
}

// Pages that hold so many rows.
constexpr int64_t IndexPages(int64_t rows) {
  return (rows + kIndexPageRows - 1) / kIndexPageRows;
}

}  // namespace temper

#endif  // KERNELS_OPS_CACHE_ROWS_H_
