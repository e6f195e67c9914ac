// Turns episodes into batches for the transformer. What several branches have
// in common from the first token on (a preamble, a group's prompt, an episode's
// earlier turns) is one run of rows, computed once, forward and backward:
// shared where tokens and routes are equal, for a row depends on nothing else.
// Gradients equal the unshared ones up to the order of addition, which is
// fixed.

#ifndef LEARNER_TRAIN_PACKER_H_
#define LEARNER_TRAIN_PACKER_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/model/config.h"
#include "kernels/model/transformer.h"
#include "learner/intake/episode.h"

namespace temper {

// One sampled token: it is predicted by row `row` of the batch.
struct PackedToken {
  int32_t row = 0;
  int32_t episode = 0;  // index into the packer's input
  int32_t token = 0;    // the sampled id
};

// One forward's worth. Entries stand in the order (episode, branch, position).
struct PackedBatch {
  TokenBatch batch;
  std::vector<PackedToken> sampled;
  std::vector<float> logp_old;        // [sampled]
  std::vector<int32_t> kept_offsets;  // [sampled + 1]
  std::vector<int32_t> kept_ids;
  int64_t tokens_unshared = 0;  // rows there would be without sharing
};

enum class PrefixSharing : uint8_t { kShared, kUnshared };

// Packs episodes, in the given order, into as few batches of at most
// `tokens_max` rows as fit greedily, whose block tables are no larger than a
// Transformer for as many tokens has room for; an episode is never split. The
// last token of a branch predicts nothing and has no row. ResourceExhausted
// names an episode that alone exceeds tokens_max; one whose table alone is
// larger is a batch of its own. With `keep_routing` false the routes ask for
// live routing.
absl::StatusOr<std::vector<PackedBatch>> PackEpisodes(
    const ModelConfig& config, const std::vector<const Episode*>& episodes,
    int64_t tokens_max, bool keep_routing, PrefixSharing sharing);

}  // namespace temper

#endif  // LEARNER_TRAIN_PACKER_H_
