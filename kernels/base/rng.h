// Counter-based randomness: a number is a function of what it is for, so it
// does not depend on threads, batching, workers or the order of calls
// (promise P8). Philox4x32-10 of Salmon et al., "Parallel Random Numbers: As
// Easy as 1, 2, 3" (SC 2011), checked against the authors' vectors.
//
// Everything here is a pure function; thread-safe.

#ifndef KERNELS_BASE_RNG_H_
#define KERNELS_BASE_RNG_H_

#include <array>
#include <cstdint>
#include <vector>

namespace temper {

// What a stream of numbers is for. The values are part of the recorded
// behaviour of a seed: append, never renumber.
enum class RngPurpose : uint16_t {
  kSampleToken = 1,
  kTaskOrder = 2,
  kWeightInit = 3,
  kTaskGenerator = 4,
  kEpisode = 5,
  kTest = 6,
  kDemonstrationOrder = 7,
};

// Names one random number. `group` is below 2^48. `ordinal` counts within
// (group, sample): for kSampleToken, the sampled token in the episode.
struct RngKey {
  uint64_t seed = 0;
  RngPurpose purpose = RngPurpose::kTest;
  uint64_t group = 0;
  uint32_t sample = 0;
  uint32_t ordinal = 0;
};

// The ten rounds: four words from a 128-bit counter and a 64-bit key.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter,
                                   std::array<uint32_t, 2> key);

// The four words of `key`; different keys never share a counter and a key.
std::array<uint32_t, 4> RandomWords(const RngKey& key);

// The top 24 bits of a word as a float in [0, 1): every value is exact.
constexpr float UniformFromWord(uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24f;
}

// One uniform in [0, 1), from the first word of `key`.
float Uniform(const RngKey& key);

// One integer in [0, bound), bound >= 1, by multiplication of the first two
// words (bias below bound / 2^64).
uint64_t UniformBelow(const RngKey& key, uint64_t bound);

// The numbers 0 .. count - 1 in an order drawn by `key`, whose ordinal is not
// looked at: the shuffle of Fisher and Yates, from the last place down.
std::vector<uint32_t> Permutation(RngKey key, uint32_t count);

// One standard normal, from the first two words of `key` by Box and Muller
// with our own log and cosine (kernels/base/math.h).
double Normal(const RngKey& key);

}  // namespace temper

#endif  // KERNELS_BASE_RNG_H_
