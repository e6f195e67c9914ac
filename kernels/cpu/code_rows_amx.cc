// What reads packed codes in the AMX tier, whose processors look up 128 bytes
// at once: what is made of a code's magnitude, byte by byte. Built with the
// flags of tier_amx.cc.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

// A pair of k's of 16 columns, and the next pair: bf16, two in a dword.
struct Pairs {
  __m512i first;
  __m512i second;
};

// The upper and the lower byte of the bf16 of every magnitude.
struct Bytes {
  alignas(64) uint8_t upper[128];
  alignas(64) uint8_t lower[128];
};

constexpr Bytes BytesOfMagnitudes() {
  Bytes bytes = {};
  for (int m = 0; m < 128; ++m) {
    int bits = (120 << 7) + (m << 4);
    if (m < 8) {  // m 2^-9: as much as 2^e leaves of it stands behind e
      int e = 0;
      while (m >> (e + 1) != 0) ++e;
      bits = m == 0 ? 0 : (127 - 9 + e) << 7 | ((m << (7 - e)) & 0x7f);
    }
    if (m == 127) bits = 0x7fc0;
    bytes.upper[m] = static_cast<uint8_t>(bits >> 8);
    bytes.lower[m] = static_cast<uint8_t>(bits & 0xff);
  }
  return bytes;
}
constexpr Bytes kBytes = BytesOfMagnitudes();

[[gnu::always_inline]] inline Pairs Widened(__m512i codes) {
  // The index's sign is not looked at.
  const __m512i upper =
      _mm512_permutex2var_epi8(_mm512_load_si512(kBytes.upper), codes,
                               _mm512_load_si512(kBytes.upper + 64));
  const __m512i lower =
      _mm512_permutex2var_epi8(_mm512_load_si512(kBytes.lower), codes,
                               _mm512_load_si512(kBytes.lower + 64));
  // (sign & codes) | upper
  const __m512i with_sign = _mm512_ternarylogic_epi32(
      _mm512_set1_epi8(static_cast<char>(0x80)), codes, upper, 0xea);
  return {_mm512_unpacklo_epi8(lower, with_sign),
          _mm512_unpackhi_epi8(lower, with_sign)};
}

#include "kernels/cpu/code_rows_avx512.inc"

}  // namespace

void SetAmxCodeRows(TierKernels* kernels) {
  kernels->widen_fours = WidenFours;
  kernels->code_rows = CodeRowsProduct;
}

}  // namespace temper
