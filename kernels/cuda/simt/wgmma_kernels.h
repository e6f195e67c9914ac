// Kernels around single wgmma instructions. Operands come as bytes that are
// copied into shared memory as they are: the caller lays them out.

#ifndef KERNELS_CUDA_SIMT_WGMMA_KERNELS_H_
#define KERNELS_CUDA_SIMT_WGMMA_KERNELS_H_

#include <cstdint>

#include "kernels/cuda/simt/tensor_map.h"

namespace temper::simt {

// How an operand lies; `by_rows` if its rows (columns, of B) follow one another
// in memory and not its k.
struct OperandImage {
  const unsigned char* bytes = nullptr;
  uint32_t size = 0;  // a multiple of 1024
  uint32_t skip = 0;  // where in it the operand begins
  uint32_t leading_bytes = 0;
  uint32_t stride_bytes = 0;
  Swizzle swizzle = Swizzle::kNone;
  bool by_rows = false;
};

struct WgmmaCase {
  bool e4m3 = false;
  int columns = 0;
  OperandImage a;
  OperandImage b;
  const uint32_t* a_registers = nullptr;  // [128][4]: instead of a
  bool accumulate = false;
};

// d, [128][columns / 2], is the sum's start and then its end. False if there is
// no kernel for the case.
bool RunWgmma(const WgmmaCase& wgmma, float* d);

// Two products in a group each; the first is waited for and d[thread] its sum.
enum class InFlight { kReadsTheFirst, kReadsTheSecond, kWritesTheSecond };
void WaitForTheFirst(InFlight what, float* d);

// A product of registers of A, which are written before its fence; d[thread] is
// 1, unless they are written again.
enum class WritesA { kBeforeTheFence, kAfterTheFence, kByLdmatrix, kInFlight };
void WriteRegistersOfA(WritesA when, float* d);

enum class WgmmaMisuse {
  kWarpsDisagree,
  kThreeWarps,
  kBeginsWithinAPattern,
  kBeyondSharedMemory,
};
void MisuseWgmma(WgmmaMisuse misuse, float* d);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_WGMMA_KERNELS_H_
