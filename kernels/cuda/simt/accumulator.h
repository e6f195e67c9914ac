// What a tensor core of Hopper makes of a dot product, bit for bit, as the
// probe of DESIGN.md section 12 measured it. Every term is cut, toward zero, to
// some fraction bits below the largest term's exponent; the cut terms are
// summed exactly; the sum is cut to a float. A product's exponent is the sum of
// its operands', as their bits say it, and zero products have none.
//
// Pure functions of bits: the thread's float mode does not matter.

#ifndef KERNELS_CUDA_SIMT_ACCUMULATOR_H_
#define KERNELS_CUDA_SIMT_ACCUMULATOR_H_

#include <cstdint>

namespace temper::simt {

// An operand: significand * 2^(exponent - the format's fraction bits).
struct Operand {
  int16_t significand = 0;
  int16_t exponent = 0;  // kNotFinite: infinity, or NaN if significand is 0
};
inline constexpr int16_t kNotFinite = 1024;

Operand OperandOfBf16(uint16_t bits);
Operand OperandOfE4m3(uint8_t bits);

// d = a.b + c over `count` (at most 32) operands. Of
// wgmma, and of mma.sync for bf16.
float DotBf16(const Operand* a, const Operand* b, int count, float c);
// Of wgmma: 13 fraction bits are kept of terms and result.
float DotE4m3(const Operand* a, const Operand* b, int count, float c);
// Of mma.sync: k mod 4 in {0, 1} from zero, then {2, 3} onto that, with 25
// fraction bits; c by an addition of floats, rounded to nearest.
float DotE4m3OfMmaSync(const Operand* a, const Operand* b, int count, float c);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_ACCUMULATOR_H_
