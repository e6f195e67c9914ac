// Kernels around single matrix instructions of a warp. Registers lie by lane,
// lane 0's first.

#ifndef KERNELS_CUDA_SIMT_MATRIX_KERNELS_H_
#define KERNELS_CUDA_SIMT_MATRIX_KERNELS_H_

#include <cstdint>

namespace temper::simt {

// `count` matrices of 8 x 8, row by row: by ldmatrix into registers
// [32][count], and by stmatrix from them.
void LoadFragments(int count, bool transposed, const uint16_t* matrices,
                   uint32_t* registers);
void StoreFragments(int count, bool transposed, const uint32_t* registers,
                    uint16_t* matrices);

// d += a b by mma.sync: a [32][4], b [32][2], d [32][4].
void MultiplyFragments(bool e4m3, const uint32_t* a, const uint32_t* b,
                       float* d);

// ldmatrix of rows that lie 2 bytes from where they may.
void LoadMisaligned(uint32_t* registers);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_MATRIX_KERNELS_H_
