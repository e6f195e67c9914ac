// Kernels with one bug each, and their correct twins: what the emulator has to
// find, by name, under every schedule.

#ifndef KERNELS_CUDA_SIMT_BUGS_H_
#define KERNELS_CUDA_SIMT_BUGS_H_

#include <cstdint>

namespace temper::simt {

enum class Bug {
  kNone,
  // The sum of a block, by a warp each and then by the first.
  kNoBarrierBeforeRead,
  kNoBarrierBeforeReuse,
  kNoInitialisation,
  kNoSyncwarp,
  kMaskWithoutTheLane,
  kMaskOfMoreThanCome,
  kBarrierInABranch,
  kOneBarrierTooMany,
  // A product by copies a thread waits for, ldmatrix and mma.sync.
  kWaitsForTooFewGroups,
  kCopiesWithoutCommit,
  kNoBarrierAfterWait,
  kNoBarrierBeforeRefill,
  kReadsTheOtherStage,
  kNamedBarrierOfTooMany,
  kNamedBarrierOfAnother,
  // A product by tensor copies, mbarriers and wgmma.
  kInitNotFenced,
  kInitNotAnnounced,
  kExpectsTooFewBytes,
  kExpectsTooManyBytes,
  kConsumerDoesNotWait,
  kConsumerWaitsForTheOtherParity,
  kProducerDoesNotWait,
  kProducerWaitsForTheOtherParity,
  kConsumerDoesNotArrive,
  kReleasesBeforeItsWgmmaEnds,
  kMultipliesTheWrongStage,
  kNoWgmmaFence,
  kNoWgmmaCommit,
  kNoWgmmaWait,
  // The result by a tensor copy out of shared memory.
  kResultNotFenced,
  kNoBarrierBeforeStore,
  kResultOverwrittenTooEarly,
  kStoreNotCommitted,
  kStoreNotWaitedFor,
};

// out[b] = 1 + the sum of values[b * 256 .. +256), for two blocks.
void SumWithBug(Bug bug, const int* values, int* out);

// c = a b^T of bf16, 32 x 32 of k = 96: rows of a and b are k long.
void CopiedProductWithBug(Bug bug, const uint16_t* a, const uint16_t* b,
                          float* c);

// The same, 64 x 64 of k = 320, by tensor copies. False if the maps are not
// made.
bool TensorProductWithBug(Bug bug, const uint16_t* a, const uint16_t* b,
                          float* c);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_BUGS_H_
