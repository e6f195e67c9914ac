// cp.async: copies of a thread's own from global to shared memory, which end
// when it waits for their group and not before.

#ifndef KERNELS_CUDA_SIMT_COPY_H_
#define KERNELS_CUDA_SIMT_COPY_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/simt/thread.h"

namespace temper::simt {

// Begins a copy of `bytes` (4, 8 or 16), of which the first `source_bytes` come
// from `global` and the rest are zeros. Until its group has been waited for the
// destination is poison, and who touches it fails (shadow.h).
void BeginCopy(void* shared, const void* global, uint32_t bytes,
               uint32_t source_bytes, Where where);
// What was begun since the last commit is a group.
void CommitCopies();
// All groups but the last `pending` end; with 0, copies of no group too if
// `all`.
void WaitCopies(uint32_t pending, bool all);

// By the block, when it begins.
void BeginCopies();

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_COPY_H_
