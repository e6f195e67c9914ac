// Kernels that a warp's operations are tested by.

#ifndef KERNELS_CUDA_SIMT_WARP_KERNELS_H_
#define KERNELS_CUDA_SIMT_WARP_KERNELS_H_

#include <cstdint>

namespace temper::simt {

enum class ShuffleWord { kIndex, kUp, kDown, kXor };

// out[lane] of each of the warp's lanes that `mask` names: what the word gives
// for in[lane]; the others do not come. By words of 32 and of 64 bits.
void ShuffleLanes(ShuffleWord word, uint32_t mask, int by, int width,
                  const uint32_t* in, uint32_t* out32, double* out64);

// Each lane below `alive` votes with in[lane]; lanes from `alive` on have ended
// and are named all the same. out: ballot, any, all.
void VoteOfTheAlive(int alive, const int* in, uint32_t* out);

// The even and the odd lanes each sum their numbers, in branches of their own,
// by different words.
void SumEvenAndOdd(const int* in, int* out);

// Lanes of one mask come to a shuffle and to a vote.
void MeetInTwoOperations();
// A lane comes with another mask than the lane that it overlaps with.
void MeetWithTwoMasks();
// mma.sync after lanes have ended.
void MultiplyWithoutAllLanes();

// A block of `threads`: out[i] = the last thread of i's half, told through
// shared memory by named barriers of one half each, while the halves run
// apart; the second half arrives without waiting.
void TellByNamedBarriers(int* out);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_WARP_KERNELS_H_
