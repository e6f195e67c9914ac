// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random
// numbers: as easy as 1, 2, 3", SC'11). A number is named by (seed, purpose,
// group, sample, ordinal) and by nothing else: there is no state, so who asks,
// when and how often changes nothing. Thread-safe: an Rng is a value.

#ifndef KERNELS_BASE_RNG_H_
#define KERNELS_BASE_RNG_H_

#include <array>
#include <cstdint>

namespace temper {

// What a stream is for; streams of different purposes are independent. Values
// are part of what a seed means: add at the end, never renumber.
enum class RngPurpose : uint8_t {
  kInit = 0,         // weights; group: tensor, ordinal: element
  kSample = 1,       // tokens; ordinal: sampled token in the episode
  kTask = 2,         // order of tasks
  kEnvironment = 3,  // what an environment draws
  kGenerator = 4,    // task and demonstration generators
  kSft = 5,          // order of demonstrations
  kBootstrap = 6,    // error bars
  kTest = 7,
};

// Ten rounds of Philox4x32.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter,
                                   std::array<uint32_t, 2> key);

class Rng {
 public:
  // CHECKs sample < 2^24.
  Rng(uint64_t seed, RngPurpose purpose, uint64_t group = 0,
      uint32_t sample = 0);

  std::array<uint32_t, 4> Block(uint32_t ordinal) const;
  uint64_t Bits(uint32_t ordinal) const;
  // In [0, 1), a multiple of 2^-24.
  float Uniform(uint32_t ordinal) const;
  // In [0, bound); CHECKs bound >= 1. Bias below bound / 2^64.
  int64_t Below(uint32_t ordinal, int64_t bound) const;
  // Standard normal, by Box and Muller with our own log and cosine.
  double Normal(uint32_t ordinal) const;

 private:
  std::array<uint32_t, 2> key_;
  uint32_t purpose_sample_;
  uint64_t group_;
};

}  // namespace temper

#endif  // KERNELS_BASE_RNG_H_
