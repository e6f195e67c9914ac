// Quantising to e4m3 in the AVX-512 tier. Built with the flags of
// tier_avx512.cc.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

#include "kernels/cpu/codes_vector.inc"
#include "kernels/cpu/quantise_avx512.inc"

float Quantise(const float* x, float at_least, float* y, int64_t n) {
  return QuantiseBlock(x, at_least, n, [=](int64_t i, __m512 low, __m512 high) {
    _mm512_mask_storeu_ps(y + i, Lanes(n - i), low);
    _mm512_mask_storeu_ps(y + i + 16, Lanes(n - i - 16), high);
  });
}

// As floats.
void PackCodes(const float* x, int64_t depth, void* packed, int64_t block_bytes,
               float* scales, int64_t scales_step) {
  QuantiseRow(x, depth, scales, scales_step,
              [=](int64_t block, int64_t i, __m512 low, __m512 high) {
                auto* to = reinterpret_cast<float*>(static_cast<char*>(packed) +
                                                    block * block_bytes) +
                           i;
                _mm512_storeu_ps(to, low);
                _mm512_storeu_ps(to + 16, high);
              });
}

void StoreCodes(const float* x, uint8_t* codes, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 some = Lanes(n - i);
    const __m512i bits = _mm512_maskz_loadu_epi32(some, x + i);
    const __m512i sign = _mm512_and_si512(bits, _mm512_set1_epi32(kSign));
    const __m512i magnitude = _mm512_xor_si512(bits, sign);
    const __m512i normal = _mm512_sub_epi32(_mm512_srli_epi32(magnitude, 20),
                                            _mm512_set1_epi32(120 << 3));
    const __m512i denormal = _mm512_cvttps_epi32(
        _mm512_mul_ps(_mm512_castsi512_ps(magnitude), _mm512_set1_ps(512.0f)));
    const __m512i code = _mm512_mask_blend_epi32(
        _mm512_cmplt_epi32_mask(magnitude, _mm512_set1_epi32(kLeastNormal)),
        normal, denormal);
    _mm512_mask_cvtepi32_storeu_epi8(
        codes + i, some, _mm512_or_si512(code, _mm512_srli_epi32(sign, 24)));
  }
}

// bf16 of 32 codes, as words: a normal one's exponent and fraction as they are,
// seven denormals by a table. `power` is the scale's exponent, where bf16 has
// its own.
__m512i Widened(__m512i codes, __m512i power) {
  // m 2^-9 in bf16; what follows is not looked up.
  const __m512i denormals = _mm512_zextsi128_si512(_mm_setr_epi16(
      0, 0x3b00, 0x3b80, 0x3bc0, 0x3c00, 0x3c20, 0x3c40, 0x3c60));
  const __m512i seven = _mm512_set1_epi16(0x7f);
  const __m512i m = _mm512_and_si512(codes, seven);
  const __m512i normal =
      _mm512_add_epi16(_mm512_slli_epi16(m, 4), _mm512_set1_epi16(120 << 7));
  const __m512i value = _mm512_mask_permutexvar_epi16(
      normal, _mm512_cmplt_epi16_mask(m, _mm512_set1_epi16(8)), m, denormals);
  const __m512i scaled =
      _mm512_mask_add_epi16(value, _mm512_test_epi16_mask(m, m), value, power);
  const __m512i number = _mm512_mask_mov_epi16(
      scaled, _mm512_cmpeq_epi16_mask(m, seven), _mm512_set1_epi16(0x7fc0));
  const __m512i sign = _mm512_slli_epi16(_mm512_xor_si512(codes, m), 8);
  return _mm512_or_si512(number, sign);
}

void WidenCodes(const uint8_t* codes, float scale, uint16_t* y, int64_t n) {
  if (!IsPlain(scale)) return WidenByFloats(codes, scale, y, n);
  const int exponent = static_cast<int>(BitsOf(scale) >> 23) - 127;
  const __m512i power =
      _mm512_set1_epi16(static_cast<int16_t>(exponent * (1 << 7)));
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m512i words = _mm512_cvtepu8_epi16(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i)));
    _mm512_storeu_si512(y + i, Widened(words, power));
  }
  if (i == n) return;
  const auto some = static_cast<__mmask32>((1u << (n - i)) - 1);
  const __m512i words =
      _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(some, codes + i));
  _mm512_mask_storeu_epi16(y + i, some, Widened(words, power));
}

}  // namespace

void SetAvx512Codes(TierKernels* kernels) {
  kernels->quantise = Quantise;
  kernels->store_codes = StoreCodes;
  kernels->widen_codes = WidenCodes;
  kernels->pack_codes = PackCodes;
  SetAvx512CodeRows(kernels);
}

}  // namespace temper
