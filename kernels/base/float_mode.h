// The float mode in which every recorded number is computed: denormal inputs
// and results are zero (FTZ and DAZ), rounding is to nearest even. It is a
// property of the thread and is inherited by the threads it starts, so main
// sets it before any other thread exists and thread pools CHECK it.

#ifndef KERNELS_BASE_FLOAT_MODE_H_
#define KERNELS_BASE_FLOAT_MODE_H_

#include <xmmintrin.h>

namespace temper {

// MXCSR bits 15 (flush to zero) and 6 (denormals are zero).
constexpr unsigned kFlushDenormalsBits = 0x8040;

// Sets the mode for the calling thread.
inline void SetFlushDenormals() {
  _mm_setcsr(_mm_getcsr() | kFlushDenormalsBits);
}

inline bool FlushDenormalsSet() {
  return (_mm_getcsr() & kFlushDenormalsBits) == kFlushDenormalsBits;
}

}  // namespace temper

#endif  // KERNELS_BASE_FLOAT_MODE_H_
