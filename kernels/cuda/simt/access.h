// Every load and store of a kernel, looked at. Emulated kernels are compiled
// with g++'s instrumentation for ThreadSanitizer, which calls a function before
// each access to memory that is more than a register; the functions are ours.
// Words and wrappers that touch memory for a kernel say so here themselves.
//
// A thread may touch global memory within its allocations, its block's shared
// memory, its own stack, the launch's arguments, and read the program's data.
// Failures, by name: "out of bounds", "misaligned", and those of shadow.h.
//
// Not thread-safe.

#ifndef KERNELS_CUDA_SIMT_ACCESS_H_
#define KERNELS_CUDA_SIMT_ACCESS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/simt/site.h"

namespace temper::simt {

enum class AccessKind { kRead, kWrite, kAtomic };

// Checks what the current thread does to `bytes` at `at`.
void CheckAccess(const void* at, size_t bytes, AccessKind kind, Site site);

// CHECKs for what has to lie in the block's shared memory, and be aligned to
// `alignment`. Returns its place there, as SharedOffset of memory.h counts.
size_t CheckShared(const void* at, size_t bytes, size_t alignment, Site site);

// That `bytes` at `at` are global memory: fails as "out of bounds" if not.
void CheckGlobal(const void* at, size_t bytes, size_t alignment, Site site);

// While one lives, the emulator's own accesses are nobody's. Each word and
// wrapper that a kernel calls makes one.
class InEmulator {
 public:
  InEmulator();
  ~InEmulator();
  InEmulator(const InEmulator&) = delete;
  InEmulator& operator=(const InEmulator&) = delete;
};

// By the block: whose accesses are looked at from here on; nobody's if null.
void WatchThread(const struct Thread* thread);
// When it begins, and when an allocation changes: forgets where things lay.
void ForgetRegions();

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_ACCESS_H_
