// What reads packed codes in the AVX-512 tier. Built with the flags of
// tier_avx512.cc.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

#include "kernels/cpu/code_tables.inc"

// A pair of k's of 16 columns, and the next pair: bf16, two in a dword.
struct Pairs {
  __m512i first;
  __m512i second;
};

__m512i Table(const uint8_t* bytes) {
  return _mm512_broadcast_i32x4(
      _mm_load_si128(reinterpret_cast<const __m128i*>(bytes)));
}

[[gnu::always_inline]] inline Pairs Widened(__m512i codes) {
  const __m512i nibble = _mm512_set1_epi8(0x0f);
  const __m512i magnitude = _mm512_and_si512(codes, _mm512_set1_epi8(0x7f));
  // Its uppermost bit, with which nothing is looked up, is that of what is not
  // small.
  const __m512i small = _mm512_add_epi8(magnitude, _mm512_set1_epi8(0x70));
  // 0xff of a NaN alone.
  const __m512i nan =
      _mm512_sub_epi8(_mm512_setzero_si512(),
                      _mm512_subs_epu8(magnitude, _mm512_set1_epi8(0x7e)));
  const __m512i top = _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble);
  const __m512i upper = _mm512_ternarylogic_epi32(
      _mm512_shuffle_epi8(Table(kUpper), top),
      _mm512_shuffle_epi8(Table(kUpperOfSmall), small), nan, 0xfe);
  // (a & b) ^ c
  const __m512i lower = _mm512_ternarylogic_epi32(
      _mm512_slli_epi16(codes, 4), _mm512_set1_epi8(static_cast<char>(0xf0)),
      _mm512_shuffle_epi8(Table(kLowerOfSmall), small), 0x6a);
  return {_mm512_unpacklo_epi8(lower, upper),
          _mm512_unpackhi_epi8(lower, upper)};
}

#include "kernels/cpu/code_rows_avx512.inc"

}  // namespace

void SetAvx512CodeRows(TierKernels* kernels) {
  kernels->widen_fours = WidenFours;
  kernels->code_b_bytes = sizeof(uint16_t);
  kernels->code_rows = CodeRowsProduct;
}

}  // namespace temper
