// One episode's tokens as the engine sees them: what was fed or sampled, which
// pages of the latent cache hold its keys, and the record that training needs.
// Plain data; owned by the Engine, which says when it may change.

#ifndef ROLLOUT_SEQUENCE_H_
#define ROLLOUT_SEQUENCE_H_

#include <cstdint>
#include <vector>

#include "kernels/base/checksum.h"
#include "kernels/ops/backend.h"

namespace temper {

// What training needs of a sequence: T tokens, n of them sampled, F of them
// fed to the model so far (F = T - 1 when generation has just stopped). Routes
// are read when a turn ends; in the middle of one there may be fewer.
struct SequenceRecord {
  std::vector<int32_t> tokens;            // [T]
  std::vector<uint8_t> sampled;           // [T], 1: sampled
  std::vector<float> logprobs;            // [n]
  std::vector<uint32_t> kept_offsets{0};  // [n + 1] into kept_ids
  std::vector<int32_t> kept_ids;          // ascending in each row
  std::vector<uint64_t> versions;         // [n], weights that sampled it
  std::vector<int32_t> routes;            // [F, moe_layers, A], ascending
  std::vector<uint64_t> route_versions;   // [F], weights that fixed its routes

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  int64_t fed() const { return static_cast<int64_t>(route_versions.size()); }
  int64_t sampled_count() const {
    return static_cast<int64_t>(logprobs.size());
  }
};

// Names the random stream of a sequence (kernels/base/rng.h).
struct SequenceKey {
  uint64_t seed = 0;
  uint64_t group = 0;
  uint32_t sample = 0;
};

// What is recorded of tokens whose choice was truncated (DESIGN.md section 5).
enum class SamplingMask : uint8_t {
  kKeep,  // log-probabilities over the kept set, and that set
  kDrop,  // log-probabilities over the whole vocabulary, and no sets
};

struct SequenceOptions {
  SequenceKey key;
  SampleOptions sampling;
  SamplingMask mask = SamplingMask::kKeep;
  int32_t stop_token = 1;  // EOS; it is part of the record
};

struct Sequence {
  int64_t id = 0;  // ascending with age: a smaller id is older
  SequenceOptions options;
  SequenceRecord record;

  bool running = false;     // wants tokens; else idle between turns
  int64_t tokens_left = 0;  // to be sampled before it stops for length

  // The scheduler's and the block manager's.
  std::vector<int32_t> pages;             // cache pages, in order of position
  int64_t computed = 0;                   // tokens whose keys lie in `pages`
  int64_t pages_registered = 0;           // of `pages`, offered to others
  std::vector<Sha256Digest> page_hashes;  // of the first whole pages
  uint64_t hash_version = 0;              // weights the hashes were made under
};

}  // namespace temper

#endif  // ROLLOUT_SEQUENCE_H_
