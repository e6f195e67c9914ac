// A Trajectory as rows of run.db and back. The bulk (kept sets, routes) is one
// record of a segment file that the episode's row points to.
//
// Functions without state: the transaction, which one thread has, keeps others
// out. Whatever fails in SQLite is returned as sqlite.h says.

#ifndef LEARNER_STORE_EPISODE_ROWS_H_
#define LEARNER_STORE_EPISODE_ROWS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "learner/store/segment_file.h"
#include "learner/store/sqlite.h"
#include "proto/trajectory.pb.h"

namespace temper {

// What goes into the segment record of `trajectory`.
std::string BulkOf(const Trajectory& trajectory);

// Inserts all rows of `trajectory` within the caller's transaction; returns
// the episode's id.
absl::StatusOr<int64_t> InsertEpisode(Transaction* transaction,
                                      const Trajectory& trajectory,
                                      const SegmentRef& bulk, int64_t attempt,
                                      int64_t received_us);

// The trajectory that InsertEpisode was given, field for field, but for its
// verdict's scores, which are reward parts (rewards/reward.h). `run` fills its
// key. NotFound for an unknown id; DataLoss where the segment is damaged.
absl::StatusOr<Trajectory> LoadEpisode(Transaction* transaction,
                                       const std::string& segment_directory,
                                       const std::string& run, int64_t id);

}  // namespace temper

#endif  // LEARNER_STORE_EPISODE_ROWS_H_
