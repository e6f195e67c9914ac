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

}  // namespace

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
