#include "kernels/cpu/code_check.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

constexpr int64_t kLengths[] = {1, 7, 8, 16, 31, 33, 64, 97, 127, 128};

// The same bits, but for a NaN's.
bool Same(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) ||
         std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

// Every code, at scales that a quantiser makes and others, from several places.
std::string DifferenceInWidening(const TierKernels& tier) {
  std::array<uint8_t, 512> codes;
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i);
  for (const float scale : {1.0f, 0x1p-22f, 0x1p-7f, 0x1p119f, 0x1p-120f, 0.0f,
                            -0.5f, 0.3f, HUGE_VALF, std::nanf("")}) {
    for (const int64_t n : kLengths) {
      for (size_t first = 0; first < 256; first += 61) {
        std::array<uint16_t, kScaleBlock + 1> got;
        got.fill(0x1234);
        tier.widen_codes(codes.data() + first, scale, got.data(), n);
        for (int64_t i = 0; i < n; ++i) {
          const uint8_t code = codes[first + i];
          const float product = FloatFromE4M3({code}) * scale;
          const auto want = std::bit_cast<float>(
              std::bit_cast<uint32_t>(product) & 0xffff0000u);
          if (!Same(std::bit_cast<float>(uint32_t{got[i]} << 16), want)) {
            return absl::StrCat("widen_codes of ", code, " by ", scale);
          }
        }
        if (got[n] != 0x1234) return absl::StrCat("widen_codes beyond ", n);
      }
    }
  }
  return "";
}

// What quantise and then store_codes make of a block, or a part of one.
std::string DifferenceInBlock(const TierKernels& tier, const float* x,
                              float at_least, int64_t n) {
  float largest = at_least;
  for (int64_t i = 0; i < n; ++i) largest = LargerMagnitude(largest, x[i]);
  const float scale = BlockScale(largest);
  std::array<float, kScaleBlock + 1> got;
  std::array<uint8_t, kScaleBlock + 1> codes;
  got.fill(7);
  codes.fill(0xff);
  const float scaled = tier.quantise(x, at_least, got.data(), n);
  tier.store_codes(got.data(), codes.data(), n);
  const std::string what = absl::StrCat("quantise of ", n, " up to ", largest);
  if (!Same(scaled, scale) || got[n] != 7 || codes[n] != 0xff) return what;
  for (int64_t i = 0; i < n; ++i) {
    const F8E4M3 want =
        std::isnan(scale) ? F8E4M3{0} : E4M3FromFloat(x[i] / scale);
    if (!Same(got[i], FloatFromE4M3(want)) || codes[i] != want.bits) {
      return absl::StrCat(what, " in ", x[i]);
    }
  }
  return "";
}

// One row block and some columns of a product of codes.
struct ProductCase {
  int64_t rows, columns, depth;
};

constexpr int64_t kPanelColumns = 16;

int64_t Padded(int64_t depth) {
  return (depth + kPairBlock - 1) / kPairBlock * kPairBlock;
}

// Of one block of the depth, and the same once more.
std::vector<float> CodeProduct(const TierKernels& tier, const ProductCase& c,
                               const float* x, const uint8_t* codes) {
  const int64_t depth = Padded(c.depth);
  const int64_t row = kScaleBlock * tier.pack_a_bytes + 64;
  std::vector<char> a(c.rows * row);
  std::vector<float> scales(c.rows);
  for (int64_t i = 0; i < c.rows; ++i) {
    tier.pack_codes(x + i * c.depth, c.depth, &a[i * row], 0, &scales[i], 1);
  }
  // Pairs of panels.
  const int64_t panels =
      (c.columns + 2 * kPanelColumns - 1) / (2 * kPanelColumns) * 2;
  std::vector<uint32_t> b(panels * kPanelColumns * depth);
  tier.widen_fours(codes, panels * depth / 4, b.data());
  std::vector<float> totals(c.rows * kTotalsRow), sums;
  for (const Into into : {Into::kScaled, Into::kAddScaled}) {
    tier.code_product({.rows = c.rows,
                       .columns = c.columns,
                       .depth = c.depth,
                       .a = a.data(),
                       .a_row = row,
                       .b = b.data(),
                       .b_panel = kPanelColumns * depth * tier.code_b_bytes / 4,
                       .c = totals.data(),
                       .c_row = kTotalsRow,
                       .into = into,
                       .factors = scales.data()});
    for (int64_t i = 0; i < c.rows; ++i) {
      sums.insert(sums.end(), &totals[i * kTotalsRow],
                  &totals[i * kTotalsRow] + c.columns);
    }
  }
  return sums;
}

// Of whole blocks and one that may be short, twice over.
std::vector<float> FewRows(const TierKernels& tier, const ProductCase& c,
                           const float* x, const uint8_t* codes) {
  const int64_t blocks = ScaleBlocks(c.depth);
  std::vector<float> fours(c.rows * blocks * kScaleBlock);
  std::vector<float> x_scales(c.rows * blocks), scales(blocks, 0x1p-3f);
  for (int64_t i = 0; i < c.rows * blocks; ++i) {
    const int64_t first = i % blocks * kScaleBlock;
    const int64_t n = std::min(kScaleBlock, c.depth - first);
    std::array<float, kScaleBlock> row;
    x_scales[i] =
        tier.quantise(x + i / blocks * c.depth + first, 0, row.data(), n);
    for (int64_t k = 0; k < n; ++k) {
      fours[((first + k) / 4 * c.rows + i / blocks) * 4 + k % 4] = row[k];
    }
  }
  std::vector<float> y(c.rows * c.columns + 1, 7.0f);
  for (const bool accumulate : {false, true}) {
    tier.code_rows({.rows = c.rows,
                    .columns = c.columns,
                    .depth = c.depth,
                    .x = fours.data(),
                    .x_scales = x_scales.data(),
                    .scales_row = blocks,
                    .codes = codes,
                    .panel = Padded(c.depth) * kPanelColumns,
                    .scales = scales.data(),
                    .y = y.data(),
                    .y_row = c.columns,
                    .accumulate = accumulate});
  }
  return y;
}

bool Same(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](float x, float y) { return Same(x, y); });
}

}  // namespace

std::string DifferenceInCodeProducts(const TierKernels& tier,
                                     const TierKernels& definition) {
  constexpr int64_t kMost = 48 * 320;
  std::vector<float> x(kMost);
  std::vector<uint8_t> codes(8 * kMost);
  uint32_t state = 7;
  const auto draw = [&] {
    state = state * 1664525 + 1013904223;
    return state >> 16;
  };
  for (float& value : x) {
    value = (static_cast<float>(draw() % 4096) - 2048) * 0x1p-9f;
    if (draw() % 16 == 0) value *= draw() % 2 == 0 ? 0.0f : 0x1p-12f;
  }
  for (uint8_t& code : codes) {
    code = static_cast<uint8_t>(draw());
    if ((code & 0x7f) == 0x7f && draw() % 16 != 0) code = 0;
  }
  x[300] = HUGE_VALF;  // its block has no scale
  for (const ProductCase& c :
       {ProductCase{1, 128, 128}, ProductCase{2, 37, 70}, ProductCase{5, 16, 1},
        ProductCase{13, 33, 127}, ProductCase{33, 90, 128},
        ProductCase{40, 50, 97}}) {
    if (!Same(CodeProduct(tier, c, x.data(), codes.data()),
              CodeProduct(definition, c, x.data(), codes.data()))) {
      return absl::StrCat("code_product of ", c.rows, " x ", c.columns, " x ",
                          c.depth);
    }
  }
  for (const ProductCase& c :
       {ProductCase{1, 128, 320}, ProductCase{2, 37, 129},
        ProductCase{3, 5, 33}, ProductCase{4, 50, 130}, ProductCase{5, 16, 97},
        ProductCase{6, 16, 32}, ProductCase{7, 33, 1},
        ProductCase{8, 17, 256}}) {
    if (!Same(FewRows(tier, c, x.data(), codes.data()),
              FewRows(definition, c, x.data(), codes.data()))) {
      return absl::StrCat("code_rows of ", c.rows, " x ", c.columns, " x ",
                          c.depth);
    }
  }
  return "";
}

std::string DifferenceInCodes(const TierKernels& tier) {
  std::string different = DifferenceInWidening(tier);
  if (!different.empty()) return different;
  // Every boundary between two codes and its neighbours, at scale 1, after the
  // 448 that makes it so.
  std::vector<float> boundaries;
  for (uint8_t code = 0; code < 0x7e; ++code) {
    const float low = FloatFromE4M3({code});
    const float tie =
        (low + FloatFromE4M3({static_cast<uint8_t>(code + 1)})) / 2;
    for (const float x :
         {low, std::nextafter(tie, 0.0f), tie, std::nextafter(tie, 448.0f)}) {
      boundaries.push_back(code % 2 == 0 ? x : -x);
      boundaries.push_back(code % 2 == 0 ? -x : x);
    }
  }
  std::array<float, kScaleBlock> block;
  for (size_t first = 0; first < boundaries.size(); first += kScaleBlock - 1) {
    const size_t some =
        std::min<size_t>(kScaleBlock - 1, boundaries.size() - first);
    block[0] = 448;
    std::copy_n(boundaries.begin() + first, some, block.begin() + 1);
    different = DifferenceInBlock(tier, block.data(), 0, some + 1);
    if (!different.empty()) return different;
  }
  // Edges of scales, and what has none, at every place of every length.
  for (const float edge :
       {0.0f, -0.0f, 0x1p-140f, 1e-4f, 0x1.a36e3p-14f, 0.4375f, 0.43750003f,
        -448.0f, 450.0f, 1e30f, 0x1.effffep127f, -0x1.fp127f, HUGE_VALF,
        std::nanf("")}) {
    for (const int64_t n : kLengths) {
      for (const int64_t place : {int64_t{0}, n / 2, n - 1}) {
        for (int64_t i = 0; i < n; ++i) {
          block[i] = static_cast<float>(i % 7 - 3) * 0x1.3p-16f;
        }
        block[place] = edge;
        for (const float at_least : {0.0f, 3.0f, HUGE_VALF}) {
          different = DifferenceInBlock(tier, block.data(), at_least, n);
          if (!different.empty()) return different;
        }
      }
    }
  }
  return "";
}

}  // namespace temper
