// A warp's matrices: ldmatrix, stmatrix and mma.sync. All lanes take part.
//
// Fragments, of a lane with g = lane / 4 and t = lane % 4, two bf16 (or four
// e4m3) of neighbouring columns a register, the lower column in the lower bits:
//   8 x 8 of 16 bits     r[0]: row g, columns 2t, 2t + 1
//   A, 16 x 16 of bf16   a[0], a[1]: rows g, g + 8; columns 2t, 2t + 1
//                        a[2], a[3]: the same with 8 added to the columns
//   B, 16 x 8 of bf16    b[0]: rows 2t, 2t + 1; b[1]: 8 more; column g
//   C, D, 16 x 8         d[0], d[1]: row g, columns 2t, 2t + 1; d[2], d[3]: row
//                        g + 8
// For e4m3 the k of A and B are 4t .. 4t + 3 and 16 more.

#ifndef KERNELS_CUDA_SIMT_MATRIX_H_
#define KERNELS_CUDA_SIMT_MATRIX_H_

#include <cstdint>

#include "kernels/cuda/simt/thread.h"

namespace temper::simt {

enum class Layout { kAsStored, kTransposed };

// `count` (1, 2 or 4) matrices of 8 x 8 elements of 16 bits. Row i of matrix m,
// 16 bytes, lies where lane 8 m + i says.
void LoadMatrices(uint32_t* registers, int count, Layout layout,
                  const void* row, Where where);
void StoreMatrices(void* row, int count, Layout layout,
                   const uint32_t* registers, Where where);

// d += a * b, 16 x 8 x 16 of bf16 or 16 x 8 x 32 of e4m3.
void MultiplyBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                  Where where);
void MultiplyE4m3(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                  Where where);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_MATRIX_H_
