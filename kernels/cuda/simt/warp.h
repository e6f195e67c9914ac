// Operations of a warp: its lanes meet, the last to come computes what each of
// them gets, and all go on.

#ifndef KERNELS_CUDA_SIMT_WARP_H_
#define KERNELS_CUDA_SIMT_WARP_H_

#include <array>
#include <cstdint>

#include "kernels/cuda/simt/thread.h"

namespace temper::simt {

inline constexpr uint32_t kAllLanes = 0xffffffffu;

// Where lanes meet. What a lane brings and gets lies with the lane, which
// waits.
struct Meeting {
  const char* operation = nullptr;
  uint32_t warp = 0;
  bool whole = false;  // it needs every lane, ended or not
  uint32_t named = 0;  // the lanes that the operation's mask names
  uint32_t came = 0;
  std::array<const void*, kWarpLanes> in = {};  // null: the lane has ended
  std::array<void*, kWarpLanes> out = {};
  void (*combine)(const Meeting& meeting) = nullptr;
};

// The current lane meets the others that `mask` names and that have not ended.
// `operation` is its name, by pointer: lanes meet in one alone. Fails by the
// name
//   "wrong mask"            if the mask does not name the lane itself, or is
//                           another than who came before had;
//   "divergent operations"  if lanes of one mask meet in different ones.
void Meet(const char* operation, uint32_t mask, const void* in, void* out,
          void (*combine)(const Meeting&), Site site);

// The same of all lanes of a warp, none of which may have ended: for operations
// that PTX calls .aligned. Else it fails as "divergent operations".
void MeetWhole(const char* operation, const void* in, void* out,
               void (*combine)(const Meeting&), Site site);

enum class ShuffleKind { kIndex, kUp, kDown, kXor };

// `bits` of the lane that `kind`, `by` and `width` say; its own where that is
// outside of its part of `width` lanes. From a lane that the mask does not name
// or that has ended it is all ones, a NaN: the hardware's is undefined.
uint64_t Shuffle(ShuffleKind kind, uint32_t mask, uint64_t bits, uint32_t by,
                 uint32_t width, Where where);

// A bit for each lane whose predicate holds.
uint32_t Ballot(uint32_t mask, bool predicate, Where where);
void SyncWarp(uint32_t mask, Where where);

// By the block: when it begins, and when a thread of it has ended.
void BeginWarps();
void EndThreadOfWarp(const Thread& thread);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_WARP_H_
