// How a trajectory travels: a header, chunks of at most 1 MiB, an end with the
// SHA-256 of all bytes (DESIGN.md section 7). Both ends are here.

#ifndef PROTO_WIRE_TRAJECTORY_STREAM_H_
#define PROTO_WIRE_TRAJECTORY_STREAM_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/learner.pb.h"
#include "proto/trajectory.pb.h"
#include "proto/wire/episode_limit.h"

namespace temper {

constexpr uint32_t kWireVersion = 2;
constexpr int64_t kChunkBytes = 1 << 20;

// Calls `send` for each message in order; stops at its first error and returns
// it. ResourceExhausted if the trajectory is above kTrajectoryBytesMax.
absl::Status SendTrajectory(
    const Trajectory& trajectory,
    const std::function<absl::Status(const WorkerMessage&)>& send);

// Puts one stream's trajectories together. Several may be under way at once, up
// to kOpenMax. Any error drops the trajectory concerned; the stream may go on.
// Not thread-safe.
class TrajectoryAssembler {
 public:
  absl::Status Header(const TrajectoryHeader& header);
  // InvalidArgument: no such header, an offset that does not follow, more bytes
  // than announced.
  absl::Status Chunk(const TrajectoryChunk& chunk);
  // The serialised Trajectory. DataLoss: short, or another SHA-256.
  absl::StatusOr<std::string> End(const TrajectoryEnd& end);

  static constexpr int kOpenMax = 64;

 private:
  using Id = std::pair<uint64_t, uint32_t>;
  struct Open {
    uint64_t size = 0;
    std::string bytes;
  };
  std::map<Id, Open> open_;
};

}  // namespace temper

#endif  // PROTO_WIRE_TRAJECTORY_STREAM_H_
