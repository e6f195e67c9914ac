// CUDA's words, for g++: what a kernel's source calls without an include.

#ifndef KERNELS_CUDA_SIMT_WORDS_H_
#define KERNELS_CUDA_SIMT_WORDS_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cuda/simt/atomic.h"
#include "kernels/cuda/simt/barrier.h"
#include "kernels/cuda/simt/memory.h"
#include "kernels/cuda/simt/vector_types.h"
#include "kernels/cuda/simt/warp.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
// The program's thread-local memory lies together, so that the emulator knows
// it for shared. (A section of its own, g++ 12 forgets in templates.)
#define __shared__ static thread_local

namespace temper::simt {

// A thread's place never changes, so one call may stand for several.
__attribute__((const)) uint3 ThreadIndex();
__attribute__((const)) uint3 BlockIndex();
__attribute__((const)) dim3 BlockSize();
__attribute__((const)) dim3 GridSize();

}  // namespace temper::simt

#define threadIdx (::temper::simt::ThreadIndex())
#define blockIdx (::temper::simt::BlockIndex())
#define blockDim (::temper::simt::BlockSize())
#define gridDim (::temper::simt::GridSize())

inline constexpr int warpSize = 32;

// Barriers, shuffles, votes. Where a word says so, it is a word's line that a
// report names.
#define TEMPER_SIMT_WHERE \
  ::temper::simt::Where where = ::temper::simt::Where::Here()

inline void __syncthreads(TEMPER_SIMT_WHERE) {
  temper::simt::BarrierSync(0, temper::simt::kWholeBlock, where);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, TEMPER_SIMT_WHERE) {
  temper::simt::SyncWarp(mask, where);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace temper::simt {

template <typename T>
T ShuffleAs(ShuffleKind kind, unsigned mask, T value, unsigned by, int width,
            Where where) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA shuffles words");
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  const uint64_t got =
      Shuffle(kind, mask, std::bit_cast<Bits>(value), by, width, where);
  return std::bit_cast<T>(static_cast<Bits>(got));
}

}  // namespace temper::simt

#define TEMPER_SIMT_SHUFFLE(word, kind, type)                                  \
  template <typename T>                                                        \
  T word(unsigned mask, T value, type by, int width = 32, TEMPER_SIMT_WHERE) { \
    return temper::simt::ShuffleAs(temper::simt::ShuffleKind::kind, mask,      \
                                   value, static_cast<unsigned>(by), width,    \
                                   where);                                     \
  }
TEMPER_SIMT_SHUFFLE(__shfl_sync, kIndex, int)
TEMPER_SIMT_SHUFFLE(__shfl_up_sync, kUp, unsigned)
TEMPER_SIMT_SHUFFLE(__shfl_down_sync, kDown, unsigned)
TEMPER_SIMT_SHUFFLE(__shfl_xor_sync, kXor, int)
#undef TEMPER_SIMT_SHUFFLE

inline unsigned __ballot_sync(unsigned mask, int predicate, TEMPER_SIMT_WHERE) {
  return temper::simt::Ballot(mask, predicate != 0, where);
}
inline int __any_sync(unsigned mask, int predicate, TEMPER_SIMT_WHERE) {
  return temper::simt::Ballot(mask, predicate != 0, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, TEMPER_SIMT_WHERE) {
  return temper::simt::Ballot(mask, predicate == 0, where) == 0;
}

// Arithmetic. The host rounds to nearest even, and flushes denormals or not, as
// the thread's float mode says (kernels/base/float_mode.h); the device, with
// -ftz=true, floats alone and never doubles.
inline float __fmaf_rn(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
inline double __fma_rn(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return __builtin_sqrt(a); }

inline unsigned __float_as_uint(float a) { return std::bit_cast<unsigned>(a); }
inline int __float_as_int(float a) { return std::bit_cast<int>(a); }
inline float __uint_as_float(unsigned a) { return std::bit_cast<float>(a); }
inline float __int_as_float(int a) { return std::bit_cast<float>(a); }
inline long long __double_as_longlong(double a) {
  return std::bit_cast<long long>(a);
}
inline double __longlong_as_double(long long a) {
  return std::bit_cast<double>(a);
}

inline int __popc(unsigned a) { return std::popcount(a); }
inline int __popcll(unsigned long long a) { return std::popcount(a); }
inline int __clz(int a) { return std::countl_zero(static_cast<unsigned>(a)); }
inline int __clzll(long long a) {
  return std::countl_zero(static_cast<unsigned long long>(a));
}
inline int __ffs(int a) { return __builtin_ffs(a); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(uint64_t{a} * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a,
                                     unsigned long long b) {
  return static_cast<unsigned long long>(
      static_cast<unsigned __int128>(a) * b >> 64);
}

template <typename T>
T __ldg(const T* address) {
  return *address;
}

#define TEMPER_SIMT_MIN_MAX(type)                           \
  inline type min(type a, type b) { return b < a ? b : a; } \
  inline type max(type a, type b) { return a < b ? b : a; }
TEMPER_SIMT_MIN_MAX(int)
TEMPER_SIMT_MIN_MAX(unsigned)
TEMPER_SIMT_MIN_MAX(long)
TEMPER_SIMT_MIN_MAX(unsigned long)
TEMPER_SIMT_MIN_MAX(long long)
TEMPER_SIMT_MIN_MAX(unsigned long long)
#undef TEMPER_SIMT_MIN_MAX
// A NaN is left out, as the device does.
inline float min(float a, float b) { return __builtin_fminf(a, b); }
inline float max(float a, float b) { return __builtin_fmaxf(a, b); }
inline double min(double a, double b) { return __builtin_fmin(a, b); }
inline double max(double a, double b) { return __builtin_fmax(a, b); }

// Atomics, of integers alone: sums of floats would have no order.
#define TEMPER_SIMT_ATOMIC(word, op, type)                                    \
  inline type word(type* at, type value, TEMPER_SIMT_WHERE) {                 \
    return static_cast<type>(temper::simt::Atomic(                            \
        temper::simt::AtomicOp::op, std::is_signed_v<type>, at, sizeof(type), \
        static_cast<uint64_t>(value), 0, where));                             \
  }
#define TEMPER_SIMT_ATOMICS(type)                                            \
  TEMPER_SIMT_ATOMIC(atomicAdd, kAdd, type)                                  \
  TEMPER_SIMT_ATOMIC(atomicOr, kOr, type)                                    \
  TEMPER_SIMT_ATOMIC(atomicAnd, kAnd, type)                                  \
  TEMPER_SIMT_ATOMIC(atomicMax, kMax, type)                                  \
  TEMPER_SIMT_ATOMIC(atomicMin, kMin, type)                                  \
  TEMPER_SIMT_ATOMIC(atomicExch, kExchange, type)                            \
  inline type atomicCAS(type* at, type compare, type value,                  \
                        TEMPER_SIMT_WHERE) {                                 \
    return static_cast<type>(temper::simt::Atomic(                           \
        temper::simt::AtomicOp::kCompareAndSwap, std::is_signed_v<type>, at, \
        sizeof(type), static_cast<uint64_t>(value),                          \
        static_cast<uint64_t>(compare), where));                             \
  }
TEMPER_SIMT_ATOMICS(int)
TEMPER_SIMT_ATOMICS(unsigned)
TEMPER_SIMT_ATOMICS(unsigned long long)
#undef TEMPER_SIMT_ATOMICS
#undef TEMPER_SIMT_ATOMIC

#endif  // KERNELS_CUDA_SIMT_WORDS_H_
