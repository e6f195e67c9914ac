// Kernels around copies into and out of shared memory, and around mbarriers.

#ifndef KERNELS_CUDA_SIMT_COPY_KERNELS_H_
#define KERNELS_CUDA_SIMT_COPY_KERNELS_H_

#include <cstdint>

#include "kernels/cuda/simt/tensor_map.h"

namespace temper::simt {

// shared[i] for `words` words: by cp.async of 4, 8 and 16 bytes by turns, of
// which the last three quarters of the source are cut off in every fourth.
void CopyPieces(const uint32_t* in, int pieces, uint32_t* out);

// A box at `at` of the tensor of `shape` at `base`, into shared memory, which
// is then dumped, `bytes` of it. `skip` bytes from where it is aligned. False
// if there is no such tensor map.
bool LoadBoxOf(const void* base, const TensorShape& shape, const int32_t* at,
               uint32_t bytes, uint32_t skip, unsigned char* out);
// The same out of shared memory, which holds `in`.
bool StoreBoxOf(void* base, const TensorShape& shape, const int32_t* at,
                uint32_t bytes, const unsigned char* in);
// Loads a box of two dimensions as if it had one.
bool LoadBoxOfOtherRank(const void* base, const TensorShape& shape);
// `bytes` by a bulk copy without a tensor.
void LoadBytes(const unsigned char* in, uint32_t bytes, unsigned char* out);

// Threads hand a counter around by an mbarrier, whole block at a time; out[i]
// is what thread i has counted after `phases`. By waiting or by polling.
void CountPhases(int phases, bool poll, int* out);

enum class Misuse {
  kNeverMade,
  kForNobody,
  kTooManyArrivals,
  kPlainRead,
  kPlainWrite,
  kBytesThatNobodyCopies,
  kPollsForNobody,
};
void MisuseMbarrier(Misuse misuse, uint32_t* out);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_COPY_KERNELS_H_
