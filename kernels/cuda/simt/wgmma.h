// wgmma: products of a warpgroup, 64 x N, by the tensor core that works beside
// its threads. They are asked for one after another, committed in groups, and
// done when a thread waits for its group and not before; until then what they
// read must not be written, and the registers of the sum are poison.
//
// Failures, by name:
//   "missing wgmma fence"   registers of the sum or of A were the threads' own,
//                           or were written, and no fence has given them to the
//                           tensor core since.
//   "read before its wait"  a load or store of registers of the sum before it.
//   "overwritten too early" a store to registers of A before it.
//   "unfinished"            a thread ends before its product.
//   "wgmma misuse"          a descriptor that the hardware does not have; warps
//                           of a warpgroup that ask for different products.
//   and those of shadow.h: operands that threads wrote want a proxy fence.

#ifndef KERNELS_CUDA_SIMT_WGMMA_H_
#define KERNELS_CUDA_SIMT_WGMMA_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/simt/tensor_map.h"
#include "kernels/cuda/simt/thread.h"

namespace temper::simt {

inline constexpr int kProductRows = 64;
inline constexpr int kProductColumnsMax = 256;

enum class Numbers { kBf16, kE4m3 };

// How an operand lies: its k one after another, or its rows (of A) or columns
// (of B). bf16 alone may have the latter.
enum class Major { kK, kRow };

// A matrix descriptor, as PTX lays it out: address, leading and stride
// dimension byte offsets, swizzle.
uint64_t DescribeMatrix(const void* shared, uint32_t leading_bytes,
                        uint32_t stride_bytes, Swizzle swizzle);

struct Product {
  Numbers numbers = Numbers::kBf16;
  int columns = 0;                        // N
  const uint32_t* a_registers = nullptr;  // a lane's four; else a descriptor
  uint64_t a = 0;
  uint64_t b = 0;
  Major a_major = Major::kK;
  Major b_major = Major::kK;
  bool accumulate = false;  // else the sum starts at zero
};

// Asks for d = a * b (+ d); d are the lane's columns / 2 registers: of rows
// 16 w + g and 8 more, for warp w of the four, columns 8 j + 2 t and the next
// (matrix.h) in d[4 j], d[4 j + 1], and of the other row in the two after them.
void Multiply(float* d, const Product& product, Where where);
void FenceMultiplies(Where where);
void CommitMultiplies(Where where);
void WaitMultiplies(uint32_t pending, Where where);

// By accesses to the thread's stack, where its registers lie: fails if some of
// a product in flight lie there, and knows of what is written after a fence.
void CheckRegisters(const Thread& thread, uintptr_t at, size_t bytes,
                    bool write, Site site);
// Whether that is to be asked.
bool HasMultiplies(const Thread& thread);

// By the block.
void BeginMultiplies();
void EndThreadOfMultiplies(const Thread& thread);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_WGMMA_H_
