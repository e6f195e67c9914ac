// Matrix products on packed panels: how a Weight is laid out on the CPU, and
// the driver that cuts a product into blocks of a size that suits the
// caches. Cutting never changes bits: each output is one ascending chain whose
// partial sum may rest in c between blocks.

#ifndef KERNELS_CPU_GEMM_H_
#define KERNELS_CPU_GEMM_H_

#include <cstdint>

#include "kernels/base/thread_pool.h"
#include "kernels/cpu/tier.h"

namespace temper {

constexpr int64_t kPanel = 16;

// Floats of a packed matrix of `columns` outputs over `depth`.
constexpr int64_t PackedFloats(int64_t columns, int64_t depth) {
  return (columns + kPanel - 1) / kPanel * kPanel * depth;
}

// Pieces of a product, each of so many multiplications, below which a second
// thread costs more than it saves.
int64_t PieceGrain(int64_t multiplications);

// packed[(j / 16) * 16 * depth + k * 16 + j % 16] =
//   b[j * column_stride + k * depth_stride], zero where j >= columns.
// So b_panel is 16 * depth.
void PackPanels(const float* b, int64_t columns, int64_t depth,
                int64_t column_stride, int64_t depth_stride, float* packed);

// c[i, j] (+)= sum_k a[i a_row + k a_k] b[j, k] for a packed b, cut for the
// caches, in the calling thread. Any sizes, zeros included.
void GemmSerial(const TierKernels& tier, const GemmBlock& whole);

// The same, over rows or columns by the pool's threads.
void GemmParallel(const TierKernels& tier, ThreadPool* pool,
                  const GemmBlock& whole);

// A product of bf16 operands (tier.h), a of which is given as floats and
// rounded on the way. b is packed in pairs, panels of kPanel columns.
struct PairGemm {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t depth = 0;
  const float* a = nullptr;
  int64_t a_row = 0;
  int64_t a_k = 1;
  const uint32_t* b = nullptr;
  int64_t b_panel = 0;  // dwords
  float* c = nullptr;
  int64_t c_row = 0;
  bool accumulate = false;
};

// Depth up to the end of its last block of pairs.
constexpr int64_t PaddedDepth(int64_t depth) {
  return (depth + kPairBlock - 1) / kPairBlock * kPairBlock;
}

// Dwords of a panel of pairs, and of a packed matrix.
constexpr int64_t PairPanel(int64_t depth) {
  return PaddedDepth(depth) / 2 * kPanel;
}
constexpr int64_t PackedPairs(int64_t columns, int64_t depth) {
  return (columns + kPanel - 1) / kPanel * PairPanel(depth);
}

// As PackPanels, of bf16 elements into pairs; T is float, which is rounded, or
// uint16_t, the bits of a bf16.
template <typename T>
void PackPairs(const T* b, int64_t columns, int64_t depth,
               int64_t column_stride, int64_t depth_stride, uint32_t* packed);

void PairGemmSerial(const TierKernels& tier, const PairGemm& whole);
void PairGemmParallel(const TierKernels& tier, ThreadPool* pool,
                      const PairGemm& whole);

// A product of e4m3 operands: a is given as floats and quantised on the way, b
// is packed codes and the scales of its squares of 128.
struct CodeGemm {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t depth = 0;
  const float* a = nullptr;
  int64_t a_row = 0;
  const uint8_t* b = nullptr;
  int64_t b_panel = 0;            // bytes
  const float* scales = nullptr;  // of b's first square
  int64_t scales_row = 0;         // from 128 columns to the next
  int64_t column = 0;             // the first, within the first square
  float* c = nullptr;
  int64_t c_row = 0;
};

// Bytes of a panel of codes: pairs as PackPairs has them, a byte for a bf16.
constexpr int64_t CodePanel(int64_t depth) {
  return PaddedDepth(depth) * kPanel;
}
void PackCodes(const uint8_t* b, int64_t columns, int64_t depth,
               int64_t column_stride, uint8_t* packed);

// False if a block of a can have no scale (kernels/tensor/fp8.h): what depends
// on it is NaN then.
bool CodeGemmSerial(const TierKernels& tier, const CodeGemm& whole);
bool CodeGemmParallel(const TierKernels& tier, ThreadPool* pool,
                      const CodeGemm& whole);

}  // namespace temper

#endif  // KERNELS_CPU_GEMM_H_
