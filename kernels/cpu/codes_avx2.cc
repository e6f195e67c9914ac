// Quantising to e4m3 in the AVX2 tier: eight floats at a time, sixteen codes.
// Built with the flags of tier_avx2.cc.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

#include "kernels/cpu/codes_vector.inc"

// Of n lanes the first; the others are 0, and neither read nor written.
__m256i FirstOf(int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
}

__m256i LoadBits(const float* x, int64_t n) {
  if (n >= 8) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm256_castps_si256(_mm256_maskload_ps(x, FirstOf(n)));
}

void StoreFirst(float* y, int64_t n, __m256 v) {
  if (n >= 8) {
    _mm256_storeu_ps(y, v);
  } else {
    _mm256_maskstore_ps(y, FirstOf(n), v);
  }
}

uint32_t LargestMagnitude(const float* x, int64_t n) {
  __m256i largest = _mm256_setzero_si256();
  const __m256i magnitude = _mm256_set1_epi32(INT32_MAX);
  for (int64_t i = 0; i < n; i += 8) {
    largest = _mm256_max_epu32(
        largest, _mm256_and_si256(LoadBits(x + i, n - i), magnitude));
  }
  __m128i four = _mm_max_epu32(_mm256_castsi256_si128(largest),
                               _mm256_extracti128_si256(largest, 1));
  four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
  four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(four));
}

// The scale's exponent, as a float has it, of a block whose largest magnitude,
// and what it is at least, have these bits; 0 if it has no scale.
uint32_t ScaleExponent(uint32_t largest, uint32_t at_least) {
  if (largest < at_least) largest = at_least;
  if (largest >= kNoScale) return 0;
  if (largest < kLeastAmax) largest = kLeastAmax;
  const uint32_t above = (largest & 0x7fffffu) > 0x600000u ? 1 : 0;
  return (largest >> 23) + above - 8;
}

// Of a block without one.
float NoScale(float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = 0;
  return FloatOf(0x7fc00000u);
}

float Quantise(const float* x, float at_least, float* y, int64_t n) {
  const uint32_t exponent =
      ScaleExponent(LargestMagnitude(x, n), BitsOf(at_least));
  if (exponent == 0) return NoScale(y, n);
  const __m256 inverse = _mm256_set1_ps(FloatOf((254 - exponent) << 23));
  for (int64_t i = 0; i < n; i += 8) {
    const __m256i bits = LoadBits(x + i, n - i);
    const __m256i sign = _mm256_and_si256(bits, _mm256_set1_epi32(kSign));
    const __m256 magnitude = _mm256_mul_ps(
        _mm256_castsi256_ps(_mm256_xor_si256(bits, sign)), inverse);
    const __m256i place = _mm256_add_epi32(
        _mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(magnitude),
                                          _mm256_set1_epi32(0x7f800000)),
                         _mm256_set1_epi32(kLeastNormal)),
        _mm256_set1_epi32(20 << 23));
    const __m256 rounded =
        _mm256_sub_ps(_mm256_add_ps(magnitude, _mm256_castsi256_ps(place)),
                      _mm256_castsi256_ps(place));
    StoreFirst(y + i, n - i, _mm256_or_ps(rounded, _mm256_castsi256_ps(sign)));
  }
  return FloatOf(exponent << 23);
}

// As floats, zeros up to the end of the last block of pairs.
void PackCodes(const float* x, int64_t depth, void* packed, int64_t block_bytes,
               float* scales, int64_t scales_step) {
  auto* block = static_cast<char*>(packed);
  for (int64_t k = 0; k < depth; k += 128, block += block_bytes) {
    const int64_t n = depth - k < 128 ? depth - k : 128;
    auto* to = reinterpret_cast<float*>(block);
    scales[k / 128 * scales_step] = Quantise(x + k, 0, to, n);
    for (int64_t i = n; i % kPairBlock != 0; ++i) to[i] = 0;
  }
}

// The codes of eight floats, as dwords.
__m256i CodesOf(__m256i bits) {
  const __m256i sign = _mm256_and_si256(bits, _mm256_set1_epi32(kSign));
  const __m256i magnitude = _mm256_xor_si256(bits, sign);
  const __m256i normal = _mm256_sub_epi32(_mm256_srli_epi32(magnitude, 20),
                                          _mm256_set1_epi32(120 << 3));
  const __m256i denormal = _mm256_cvttps_epi32(
      _mm256_mul_ps(_mm256_castsi256_ps(magnitude), _mm256_set1_ps(512.0f)));
  const __m256i small =
      _mm256_cmpgt_epi32(_mm256_set1_epi32(kLeastNormal), magnitude);
  return _mm256_or_si256(_mm256_blendv_epi8(normal, denormal, small),
                         _mm256_srli_epi32(sign, 24));
}

void StoreCodes(const float* x, uint8_t* codes, int64_t n) {
  for (int64_t i = 0; i < n; i += 8) {
    const __m256i dwords = CodesOf(LoadBits(x + i, n - i));
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(dwords),
                                           _mm256_extracti128_si256(dwords, 1));
    const auto bytes = static_cast<uint64_t>(
        _mm_cvtsi128_si64(_mm_packus_epi16(words, words)));
    const int64_t some = n - i < 8 ? n - i : 8;
    __builtin_memcpy(codes + i, &bytes, static_cast<size_t>(some));
  }
}

// bf16 of sixteen codes, as words: a normal one's exponent and fraction as they
// are, seven of a denormal by a table. `power` is the scale's exponent in the
// place of bf16's.
__m256i Widened(__m256i codes, __m256i power) {
  // Of words 0 .. 7 of it, m 2^-9 in bf16.
  const __m256i denormals = _mm256_broadcastsi128_si256(_mm_setr_epi16(
      0, 0x3b00, 0x3b80, 0x3bc0, 0x3c00, 0x3c20, 0x3c40, 0x3c60));
  const __m256i m = _mm256_and_si256(codes, _mm256_set1_epi16(0x7f));
  const __m256i normal =
      _mm256_add_epi16(_mm256_slli_epi16(m, 4), _mm256_set1_epi16(120 << 7));
  // Bytes 2 m and 2 m + 1.
  const __m256i at =
      _mm256_add_epi16(_mm256_mullo_epi16(m, _mm256_set1_epi16(0x0202)),
                       _mm256_set1_epi16(0x0100));
  const __m256i is_small = _mm256_cmpgt_epi16(_mm256_set1_epi16(8), m);
  const __m256i value =
      _mm256_blendv_epi8(normal, _mm256_shuffle_epi8(denormals, at), is_small);
  const __m256i is_zero = _mm256_cmpeq_epi16(m, _mm256_setzero_si256());
  const __m256i scaled =
      _mm256_add_epi16(value, _mm256_andnot_si256(is_zero, power));
  const __m256i is_nan = _mm256_cmpeq_epi16(m, _mm256_set1_epi16(0x7f));
  const __m256i sign =
      _mm256_slli_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(0x80)), 8);
  return _mm256_or_si256(
      _mm256_blendv_epi8(scaled, _mm256_set1_epi16(0x7fc0), is_nan), sign);
}

void WidenCodes(const uint8_t* codes, float scale, uint16_t* y, int64_t n) {
  if (!IsPlain(scale)) return WidenByFloats(codes, scale, y, n);
  const int exponent = static_cast<int>(BitsOf(scale) >> 23) - 127;
  const __m256i power =
      _mm256_set1_epi16(static_cast<int16_t>(exponent * (1 << 7)));
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256i words = _mm256_cvtepu8_epi16(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i),
                        Widened(words, power));
  }
  if (i == n) return;
  alignas(16) uint8_t part[16] = {};
  alignas(32) uint16_t widened[16];
  for (int64_t j = i; j < n; ++j) part[j - i] = codes[j];
  _mm256_store_si256(reinterpret_cast<__m256i*>(widened),
                     Widened(_mm256_cvtepu8_epi16(_mm_load_si128(
                                 reinterpret_cast<const __m128i*>(part))),
                             power));
  for (int64_t j = i; j < n; ++j) y[j] = widened[j - i];
}

}  // namespace

void SetAvx2Codes(TierKernels* kernels) {
  kernels->quantise = Quantise;
  kernels->store_codes = StoreCodes;
  kernels->widen_codes = WidenCodes;
  kernels->pack_codes = PackCodes;
  SetAvx2CodeRows(kernels);
}

}  // namespace temper
