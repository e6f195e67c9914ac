#include "kernels/base/rng.h"

#include <cmath>
#include <numeric>
#include <utility>

#include "kernels/base/log.h"
#include "kernels/base/math.h"

namespace temper {
namespace {

// Salmon et al. 2011. They are the record's: another constant is another
// sample.
constexpr uint32_t kMultiplier0 = 0xD2511F53u;
constexpr uint32_t kMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kWeyl0 = 0x9E3779B9u;
constexpr uint32_t kWeyl1 = 0xBB67AE85u;
constexpr int kRounds = 10;

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter,
                                   std::array<uint32_t, 2> key) {
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t p0 = uint64_t{kMultiplier0} * counter[0];
    const uint64_t p1 = uint64_t{kMultiplier1} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(p0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

std::array<uint32_t, 4> RandomWords(const RngKey& key) {
  // 128 bits of counter hold ordinal, sample, 48 bits of the group and 16 of
  // the purpose: no two keys share a block.
  CHECK(key.group < (uint64_t{1} << 48)) << "group " << key.group;
  const uint32_t high = static_cast<uint32_t>(key.group >> 32) |
                        static_cast<uint32_t>(key.purpose) << 16;
  return Philox4x32(
      {key.ordinal, key.sample, static_cast<uint32_t>(key.group), high},
      {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)});
}

float Uniform(const RngKey& key) {
  return UniformFromWord(RandomWords(key)[0]);
}

uint64_t UniformBelow(const RngKey& key, uint64_t bound) {
  CHECK(bound >= 1);
  const auto words = RandomWords(key);
  const uint64_t word = uint64_t{words[1]} << 32 | words[0];
  // Lemire's product without its rejection: one draw a key, and a bias below
  // bound / 2^64.
  return static_cast<uint64_t>(static_cast<unsigned __int128>(word) * bound >>
                               64);
}

std::vector<uint32_t> Permutation(RngKey key, uint32_t count) {
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  // Fisher and Yates from the end, a key for each draw: no state is carried.
  for (uint32_t i = count; i > 1; --i) {
    key.ordinal = i;
    std::swap(order[i - 1], order[UniformBelow(key, i)]);
  }
  return order;
}

double Normal(const RngKey& key) {
  const auto words = RandomWords(key);
  // In (0, 1], so that the logarithm is finite.
  const double radius = (words[0] + 1.0) * 0x1p-32;
  const double angle = 2 * 3.14159265358979323846 * 0x1p-32 * words[1];
  return std::sqrt(-2 * Log(radius)) * Cos(angle);
}

}  // namespace temper
