// Our words for what CUDA has only as PTX, by the emulator; ptx.h has the same
// under nvcc, and says what each is in PTX. All are of namespace temper::simt.

#ifndef KERNELS_CUDA_SIMT_WRAPPERS_H_
#define KERNELS_CUDA_SIMT_WRAPPERS_H_

#include <cstdint>

#include "kernels/cuda/simt/barrier.h"
#include "kernels/cuda/simt/copy.h"
#include "kernels/cuda/simt/matrix.h"
#include "kernels/cuda/simt/mbarrier.h"
#include "kernels/cuda/simt/tensor_copy.h"
#include "kernels/cuda/simt/wgmma.h"

#define TEMPER_SIMT_WHERE \
  ::temper::simt::Where where = ::temper::simt::Where::Here()

namespace temper::simt {

inline void NamedBarrierSync(uint32_t barrier, uint32_t threads,
                             TEMPER_SIMT_WHERE) {
  BarrierSync(barrier, threads, where);
}
inline void NamedBarrierArrive(uint32_t barrier, uint32_t threads,
                               TEMPER_SIMT_WHERE) {
  BarrierArrive(barrier, threads, where);
}

template <uint32_t kBytes>
void CopyAsync(void* shared, const void* global, TEMPER_SIMT_WHERE) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  BeginCopy(shared, global, kBytes, kBytes, where);
}
template <uint32_t kBytes>
void CopyAsyncPadded(void* shared, const void* global, uint32_t source_bytes,
                     TEMPER_SIMT_WHERE) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  BeginCopy(shared, global, kBytes, source_bytes, where);
}
inline void CopyAsyncCommit() { CommitCopies(); }
template <uint32_t kPending>
void CopyAsyncWait() {
  WaitCopies(kPending, /*all=*/false);
}
inline void CopyAsyncWaitAll() { WaitCopies(0, /*all=*/true); }

template <int kCount, Layout kLayout = Layout::kAsStored>
void LoadMatrix(uint32_t (&registers)[kCount], const void* row,
                TEMPER_SIMT_WHERE) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4);
  LoadMatrices(registers, kCount, kLayout, row, where);
}
template <int kCount, Layout kLayout = Layout::kAsStored>
void StoreMatrix(void* row, const uint32_t (&registers)[kCount],
                 TEMPER_SIMT_WHERE) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4);
  StoreMatrices(row, kCount, kLayout, registers, where);
}
inline void MmaBf16(float (&d)[4], const uint32_t (&a)[4],
                    const uint32_t (&b)[2], TEMPER_SIMT_WHERE) {
  MultiplyBf16(d, a, b, where);
}
inline void MmaE4m3(float (&d)[4], const uint32_t (&a)[4],
                    const uint32_t (&b)[2], TEMPER_SIMT_WHERE) {
  MultiplyE4m3(d, a, b, where);
}

inline void MbarrierInit(uint64_t* mbarrier, uint32_t arrivals,
                         TEMPER_SIMT_WHERE) {
  InitMbarrier(mbarrier, arrivals, where);
}
inline void MbarrierExpect(uint64_t* mbarrier, uint32_t bytes,
                           TEMPER_SIMT_WHERE) {
  ExpectBytes(mbarrier, bytes, where);
}
inline void MbarrierArrive(uint64_t* mbarrier, TEMPER_SIMT_WHERE) {
  ArriveMbarrier(mbarrier, where);
}
inline void MbarrierArriveExpect(uint64_t* mbarrier, uint32_t bytes,
                                 TEMPER_SIMT_WHERE) {
  ArriveExpectingBytes(mbarrier, bytes, where);
}
inline void MbarrierWait(uint64_t* mbarrier, uint32_t parity,
                         TEMPER_SIMT_WHERE) {
  WaitMbarrier(mbarrier, parity, where);
}
inline bool MbarrierTest(uint64_t* mbarrier, uint32_t parity,
                         TEMPER_SIMT_WHERE) {
  return TestMbarrier(mbarrier, parity, where);
}

// The emulator's threads have what they need.
template <uint32_t kRegisters>
void GiveRegisters() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}
template <uint32_t kRegisters>
void TakeRegisters() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}

template <int kRank>
void TensorLoad(void* shared, const TensorMap* map, uint64_t* mbarrier,
                const int32_t (&at)[kRank], TEMPER_SIMT_WHERE) {
  LoadBox(shared, map, kRank, at, mbarrier, where);
}
template <int kRank>
void TensorStore(const TensorMap* map, const int32_t (&at)[kRank],
                 const void* shared, TEMPER_SIMT_WHERE) {
  StoreBox(map, kRank, at, shared, where);
}
inline void BulkLoad(void* shared, const void* global, uint32_t bytes,
                     uint64_t* mbarrier, TEMPER_SIMT_WHERE) {
  LoadBulk(shared, global, bytes, mbarrier, where);
}
inline void BulkCommit() { CommitStores(); }
template <uint32_t kPending>
void BulkWait() {
  WaitStores(kPending);
}

inline void WgmmaFence(TEMPER_SIMT_WHERE) { FenceMultiplies(where); }
inline void WgmmaCommit(TEMPER_SIMT_WHERE) { CommitMultiplies(where); }
template <uint32_t kPending>
void WgmmaWait(TEMPER_SIMT_WHERE) {
  WaitMultiplies(kPending, where);
}
template <typename T, int kCount>
void HoldRegisters(T (&)[kCount]) {}

template <int kColumns, Major kAMajor = Major::kK, Major kBMajor = Major::kK>
void WgmmaBf16(float (&d)[kColumns / 2], uint64_t a, uint64_t b,
               bool accumulate, TEMPER_SIMT_WHERE) {
  Multiply(
      d,
      {Numbers::kBf16, kColumns, nullptr, a, b, kAMajor, kBMajor, accumulate},
      where);
}
template <int kColumns, Major kBMajor = Major::kK>
void WgmmaBf16(float (&d)[kColumns / 2], const uint32_t (&a)[4], uint64_t b,
               bool accumulate, TEMPER_SIMT_WHERE) {
  Multiply(d,
           {Numbers::kBf16, kColumns, a, 0, b, Major::kK, kBMajor, accumulate},
           where);
}
template <int kColumns>
void WgmmaE4m3(float (&d)[kColumns / 2], uint64_t a, uint64_t b,
               bool accumulate, TEMPER_SIMT_WHERE) {
  Multiply(d,
           {Numbers::kE4m3, kColumns, nullptr, a, b, Major::kK, Major::kK,
            accumulate},
           where);
}
template <int kColumns>
void WgmmaE4m3(float (&d)[kColumns / 2], const uint32_t (&a)[4], uint64_t b,
               bool accumulate, TEMPER_SIMT_WHERE) {
  Multiply(
      d, {Numbers::kE4m3, kColumns, a, 0, b, Major::kK, Major::kK, accumulate},
      where);
}

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_WRAPPERS_H_
