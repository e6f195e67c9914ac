// A wgmma operand as it lies in shared memory: what its descriptor says, and
// where each of its elements is.

#ifndef KERNELS_CUDA_SIMT_OPERAND_TILE_H_
#define KERNELS_CUDA_SIMT_OPERAND_TILE_H_

#include <cstdint>
#include <vector>

#include "kernels/cuda/simt/accumulator.h"
#include "kernels/cuda/simt/wgmma.h"

namespace temper::simt {

// 16 bytes of an operand, which lie together: elements of one row (or of one
// k, if that is how it lies) from `row` and `k` on.
struct OperandPiece {
  unsigned char* at;
  int row;
  int k;
};

// The pieces of `rows` rows (columns, of B) from `first_row` on, for one
// instruction: 32 bytes of k. Fails as "wgmma misuse" for a descriptor that
// does not fit, as "out of bounds" for one that points out of shared memory.
std::vector<OperandPiece> PiecesOf(uint64_t descriptor, Numbers numbers,
                                   Major major, int first_row, int rows,
                                   Site site);

// Decodes them: element (row, k) into operands[(row - first_row) * 32 + k].
void Decode(const std::vector<OperandPiece>& pieces, Numbers numbers,
            Major major, int first_row, Operand* operands);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_OPERAND_TILE_H_
