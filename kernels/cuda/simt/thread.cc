#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/words.h"

namespace temper::simt {

uint3 ThreadIndex() { return Block::Get().current()->index; }
uint3 BlockIndex() { return Block::Get().launched().block_index; }
dim3 BlockSize() { return Block::Get().launched().block; }
dim3 GridSize() { return Block::Get().launched().grid; }

}  // namespace temper::simt
