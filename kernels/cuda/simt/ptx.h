// Our words for what CUDA has only as PTX; wrappers.h has the same for the
// emulator, and the headers it includes say what they promise. No PTX stands
// anywhere but here, in ptx_bulk.h and in ptx_wgmma.h.

#ifndef KERNELS_CUDA_SIMT_PTX_H_
#define KERNELS_CUDA_SIMT_PTX_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/simt/cuda_tensor_map.h"

#define TEMPER_PTX __device__ __forceinline__

namespace temper::simt {

enum class Layout { kAsStored, kTransposed };

TEMPER_PTX uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

TEMPER_PTX void NamedBarrierSync(uint32_t barrier, uint32_t threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
TEMPER_PTX void NamedBarrierArrive(uint32_t barrier, uint32_t threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

template <uint32_t kBytes>
TEMPER_PTX void CopyAsyncPadded(void* shared, const void* global,
                                uint32_t source_bytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  if constexpr (kBytes == 16) {  // past the first cache, which has no use of it
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     SharedAddress(shared)),
                 "l"(global), "r"(source_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(
                     SharedAddress(shared)),
                 "l"(global), "n"(kBytes), "r"(source_bytes)
                 : "memory");
  }
}
template <uint32_t kBytes>
TEMPER_PTX void CopyAsync(void* shared, const void* global) {
  CopyAsyncPadded<kBytes>(shared, global, kBytes);
}
TEMPER_PTX void CopyAsyncCommit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <uint32_t kPending>
TEMPER_PTX void CopyAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
TEMPER_PTX void CopyAsyncWaitAll() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

// A matrix instruction of one register list and the address of a row.
#define TEMPER_LDMATRIX(shape, list, address, ...)                     \
  asm volatile("ldmatrix.sync.aligned.m8n8." shape ".shared.b16 " list \
               ", [" address "];"                                      \
               : __VA_ARGS__                                           \
               : "r"(SharedAddress(row))                               \
               : "memory")
#define TEMPER_STMATRIX(shape, list, ...)                                    \
  asm volatile("stmatrix.sync.aligned.m8n8." shape ".shared.b16 [%0], " list \
               ";" ::"r"(SharedAddress(row)),                                \
               __VA_ARGS__                                                   \
               : "memory")

template <int kCount, Layout kLayout = Layout::kAsStored>
TEMPER_PTX void LoadMatrix(uint32_t (&r)[kCount], const void* row) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4);
  constexpr bool kStored = kLayout == Layout::kAsStored;
  if constexpr (kCount == 1 && kStored) {
    TEMPER_LDMATRIX("x1", "{%0}", "%1", "=r"(r[0]));
  } else if constexpr (kCount == 1) {
    TEMPER_LDMATRIX("x1.trans", "{%0}", "%1", "=r"(r[0]));
  } else if constexpr (kCount == 2 && kStored) {
    TEMPER_LDMATRIX("x2", "{%0,%1}", "%2", "=r"(r[0]), "=r"(r[1]));
  } else if constexpr (kCount == 2) {
    TEMPER_LDMATRIX("x2.trans", "{%0,%1}", "%2", "=r"(r[0]), "=r"(r[1]));
  } else if constexpr (kStored) {
    TEMPER_LDMATRIX("x4", "{%0,%1,%2,%3}", "%4", "=r"(r[0]), "=r"(r[1]),
                    "=r"(r[2]), "=r"(r[3]));
  } else {
    TEMPER_LDMATRIX("x4.trans", "{%0,%1,%2,%3}", "%4", "=r"(r[0]), "=r"(r[1]),
                    "=r"(r[2]), "=r"(r[3]));
  }
}

template <int kCount, Layout kLayout = Layout::kAsStored>
TEMPER_PTX void StoreMatrix(void* row, const uint32_t (&r)[kCount]) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4);
  constexpr bool kStored = kLayout == Layout::kAsStored;
  if constexpr (kCount == 1 && kStored) {
    TEMPER_STMATRIX("x1", "{%1}", "r"(r[0]));
  } else if constexpr (kCount == 1) {
    TEMPER_STMATRIX("x1.trans", "{%1}", "r"(r[0]));
  } else if constexpr (kCount == 2 && kStored) {
    TEMPER_STMATRIX("x2", "{%1,%2}", "r"(r[0]), "r"(r[1]));
  } else if constexpr (kCount == 2) {
    TEMPER_STMATRIX("x2.trans", "{%1,%2}", "r"(r[0]), "r"(r[1]));
  } else if constexpr (kStored) {
    TEMPER_STMATRIX("x4", "{%1,%2,%3,%4}", "r"(r[0]), "r"(r[1]), "r"(r[2]),
                    "r"(r[3]));
  } else {
    TEMPER_STMATRIX("x4.trans", "{%1,%2,%3,%4}", "r"(r[0]), "r"(r[1]),
                    "r"(r[2]), "r"(r[3]));
  }
}
#undef TEMPER_LDMATRIX
#undef TEMPER_STMATRIX

#define TEMPER_MMA(shape_and_types)                                     \
  asm volatile("mma.sync.aligned." shape_and_types                      \
               " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])         \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), \
                 "r"(b[1]))
TEMPER_PTX void MmaBf16(float (&d)[4], const uint32_t (&a)[4],
                        const uint32_t (&b)[2]) {
  TEMPER_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
}
TEMPER_PTX void MmaE4m3(float (&d)[4], const uint32_t (&a)[4],
                        const uint32_t (&b)[2]) {
  TEMPER_MMA("m16n8k32.row.col.f32.e4m3.e4m3.f32");
}
#undef TEMPER_MMA

TEMPER_PTX void MbarrierInit(uint64_t* mbarrier, uint32_t arrivals) {
  asm volatile(
      "mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(mbarrier)),
      "r"(arrivals)
      : "memory");
}
TEMPER_PTX void MbarrierExpect(uint64_t* mbarrier, uint32_t bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(
                   SharedAddress(mbarrier)),
               "r"(bytes)
               : "memory");
}
TEMPER_PTX void MbarrierArrive(uint64_t* mbarrier) {
  asm volatile(
      "mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(mbarrier))
      : "memory");
}
TEMPER_PTX void MbarrierArriveExpect(uint64_t* mbarrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                   SharedAddress(mbarrier)),
               "r"(bytes)
               : "memory");
}
TEMPER_PTX bool MbarrierTest(uint64_t* mbarrier, uint32_t parity) {
  uint32_t ended;
  asm volatile(
      "{ .reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p; }"
      : "=r"(ended)
      : "r"(SharedAddress(mbarrier)), "r"(parity)
      : "memory");
  return ended != 0;
}
TEMPER_PTX void MbarrierWait(uint64_t* mbarrier, uint32_t parity) {
  while (!MbarrierTest(mbarrier, parity)) {
  }
}

// A warpgroup's threads have so many registers each from here on: fewer than
// they had, or, waiting until others have given them, more.
template <uint32_t kRegisters>
TEMPER_PTX void GiveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <uint32_t kRegisters>
TEMPER_PTX void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

TEMPER_PTX void FenceProxyAsync() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
TEMPER_PTX void FenceMbarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

}  // namespace temper::simt

#include "kernels/cuda/simt/ptx_bulk.h"
#include "kernels/cuda/simt/ptx_wgmma.h"

#undef TEMPER_PTX

#endif  // KERNELS_CUDA_SIMT_PTX_H_
