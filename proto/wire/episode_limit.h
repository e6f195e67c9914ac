// The longest episode, which all that make, carry and train one keep to.

#ifndef PROTO_WIRE_EPISODE_LIMIT_H_
#define PROTO_WIRE_EPISODE_LIMIT_H_

#include <cstdint>

namespace temper {

// Tokens of an episode, read and sampled: rows of the learner's one forward,
// into which an episode must fit whole. The engine samples no further (the
// episode ends TRUNCATED), the learner's door admits no more.
inline constexpr int64_t kEpisodeTokensMax = 16384;

// Bytes of a name that an episode carries: of a tool (an episode whose model
// calls one with more ends MODEL_ERROR), a role, a reward part, a worker.
inline constexpr int64_t kNameBytesMax = 1024;

// Assistant messages of an episode.
inline constexpr uint32_t kEpisodeTurnsMax = 256;

// Bytes of its trajectory, serialised.
inline constexpr int64_t kTrajectoryBytesMax = 256 << 20;

}  // namespace temper

#endif  // PROTO_WIRE_EPISODE_LIMIT_H_
