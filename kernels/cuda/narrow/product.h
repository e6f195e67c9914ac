// Launches of products of bf16 operands by tensor cores. Every output is one
// chain over the depth, ascending, in steps of 16 of which a tensor core makes
// one sum (kernels/cuda/README.md): on what tile an output lies, by which
// instruction, beside which others, does not show in its bits. All enqueue and
// return; operands were checked.

#ifndef KERNELS_CUDA_NARROW_PRODUCT_H_
#define KERNELS_CUDA_NARROW_PRODUCT_H_

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace temper::cuda {

// Bits of bf16, [groups, lines, depth]; `by_depth`: lines of one depth lie
// together, [groups, depth, lines]. What lies together is dense; `stride` goes
// to the next. Tensor copies want 16-byte strides and an address as good; else
// a kernel of plain loads is taken.
struct NarrowOperand {
  const uint16_t* data = nullptr;
  int64_t stride = 0;
  int64_t group = 0;
  bool by_depth = false;
};

// c[g][i, j] = sum_k a[g][i, k] b[g][j, k], in floats; with goes_on that is
// added to what is there, rounded once. Where there are `offsets`
// [groups + 1], the rows of a and c of group g are those from offsets[g] on;
// what does not tile `rows` sets the fault kOffsets and does nothing.
struct NarrowProduct {
  NarrowOperand a, b;
  float* c = nullptr;
  int64_t c_row = 0, c_group = 0;
  int64_t rows = 0, columns = 0, depth = 0, groups = 1;
  bool goes_on = false;
  const int32_t* offsets = nullptr;
  uint32_t* fault = nullptr;
  // Nothing is done where this is set.
  const uint32_t* unless = nullptr;
};

// By the tile that is likely the fastest.
void Multiply(const NarrowProduct& product, Stream stream);

// How a product can be cut. Few rows change places with the columns, so that
// the 64 lines that an instruction has at least are those of b.
struct NarrowTile {
  int lines;    // of the operand that comes first
  int columns;  // lines of the other
  bool swapped;
};
// Those of a product: for few rows, for many, and last the plain kernel.
inline constexpr NarrowTile kNarrowTiles[] = {
    {128, 256, false}, {128, 128, false}, {64, 64, true}, {64, 32, true},
    {64, 16, true},    {64, 8, true},     {16, 8, false}};
inline constexpr int kPlainTile = 6;

// The index in kNarrowTiles of what Multiply takes.
int TileFor(const NarrowProduct& product);
// On so many multiprocessors. False if the operands do not lie as that tile
// wants them.
bool MultiplyBy(int tile, int64_t multiprocessors, const NarrowProduct& product,
                Stream stream);

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_NARROW_PRODUCT_H_
