// Atomic reads and changes of memory, by the emulator.

#ifndef KERNELS_CUDA_SIMT_ATOMIC_H_
#define KERNELS_CUDA_SIMT_ATOMIC_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/simt/thread.h"

namespace temper::simt {

enum class AtomicOp { kAdd, kOr, kAnd, kMax, kMin, kExchange, kCompareAndSwap };

// Changes the integer of `bytes` (4 or 8) at `at`; returns what it was. Other
// threads run after one that changes nothing, for it may be a poll.
uint64_t Atomic(AtomicOp op, bool is_signed, void* at, size_t bytes,
                uint64_t value, uint64_t compare, Where where);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_ATOMIC_H_
