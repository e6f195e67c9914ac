// Bulk copies, which the copy unit makes beside the threads: boxes of tensors
// into shared memory, whose bytes arrive at an mbarrier, and out of it, in
// groups that a thread waits for. Elements outside of a tensor are read as
// zeros and not written; they count as bytes all the same.
//
// A copy ends late: when no thread can go on, or when its group is waited for;
// under a random schedule at any time. Until then a destination is poison.
//
// Failures, by name: "tensor copy misuse", for a box or address that the
// hardware refuses; "unfinished", for a copy that a thread or block leaves
// behind; those of shadow.h and mbarrier.h.

#ifndef KERNELS_CUDA_SIMT_TENSOR_COPY_H_
#define KERNELS_CUDA_SIMT_TENSOR_COPY_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/simt/tensor_map.h"
#include "kernels/cuda/simt/thread.h"

namespace temper::simt {

struct TensorMap {
  const void* base = nullptr;
  TensorShape shape;
};

// False where cuTensorMapEncodeTiled refuses: alignments, sizes of the box.
bool MakeTensorMap(const void* base, const TensorShape& shape, TensorMap* map);

// `at` names the box's first element, by dimension. `bytes` of the mbarrier's
// phase arrive: the box's.
void LoadBox(void* shared, const TensorMap* map, int rank, const int32_t* at,
             uint64_t* mbarrier, Where where);
void StoreBox(const TensorMap* map, int rank, const int32_t* at,
              const void* shared, Where where);
// Without a tensor: `bytes`, a multiple of 16, from one place to the other.
void LoadBulk(void* shared, const void* global, uint32_t bytes,
              uint64_t* mbarrier, Where where);

// What the thread has begun to store since its last commit is a group.
void CommitStores();
// Waits until all but the thread's last `pending` groups have ended.
void WaitStores(uint32_t pending);

// Where the byte of a row-major box lies that would lie at `address`.
uintptr_t Swizzled(uintptr_t address, Swizzle swizzle);

// By the block. Ends a copy that may end now; false if there is none.
bool EndSomeCopy();
void BeginTensorCopies();
void EndThreadOfTensorCopies(const Thread& thread);
void EndBlockOfTensorCopies();

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_TENSOR_COPY_H_
