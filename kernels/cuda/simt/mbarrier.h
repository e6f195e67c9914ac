// Barriers in shared memory, which count arrivals and bytes copied. A phase
// ends when both counts are reached; then the next begins, of the other parity.
//
// Failures, by name: "mbarrier misuse", for one that was never made, too many
// arrivals, counts out of range; those of shadow.h, for one that is used before
// a barrier has told that it is made; "missing proxy fence", for one whose
// making was not fenced when a copy is to arrive at it.

#ifndef KERNELS_CUDA_SIMT_MBARRIER_H_
#define KERNELS_CUDA_SIMT_MBARRIER_H_

#include <cstdint>

#include "kernels/cuda/simt/thread.h"

namespace temper::simt {

void InitMbarrier(uint64_t* mbarrier, uint32_t arrivals, Where where);
// The phase wants `bytes` more, then the arrival counts.
void ExpectBytes(uint64_t* mbarrier, uint32_t bytes, Where where);
void ArriveMbarrier(uint64_t* mbarrier, Where where);
void ArriveExpectingBytes(uint64_t* mbarrier, uint32_t bytes, Where where);
// Waits until the phase of `parity` has ended. A thread that waits for the
// parity before the first phase goes on at once.
void WaitMbarrier(uint64_t* mbarrier, uint32_t parity, Where where);
// Whether it has; what it orders is as if it had waited.
bool TestMbarrier(uint64_t* mbarrier, uint32_t parity, Where where);

// What this thread wrote or made is visible to asynchronous operations.
void FenceProxyAsync();
// The same of the mbarriers alone.
void FenceMbarrierInit();

// By copies: checks when one begins that it may arrive, and arrives when it
// ends.
void CheckArrivalOfCopy(uint64_t* mbarrier, Site site);
void ArriveCopiedBytes(uint64_t* mbarrier, uint32_t bytes, Site site);

// By the block, when it begins.
void BeginMbarriers();

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_MBARRIER_H_
