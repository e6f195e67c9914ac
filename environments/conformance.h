// What every environment promises (environment.h), as one set of checks: of
// those in the table, of a user's own, in this process or in another.
//
// Functions without state.

#ifndef ENVIRONMENTS_CONFORMANCE_H_
#define ENVIRONMENTS_CONFORMANCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "environments/environment.h"

namespace temper {

using NewEpisode =
    std::function<absl::StatusOr<std::unique_ptr<Environment>>()>;

// Plays `task`, which its environment takes, without a model: its facts are
// stated; the prompt and the tools are what may be shown; a call that is
// garbage, and one that is likely, is a result, in order, within its limits,
// and the episode goes on; no answer earns nothing, in scores too; an outcome
// without reward is not graded; what a verdict may hold; a task that is garbage
// is refused; and, if it says that it is deterministic, all of it again is the
// same bytes. The first promise that is broken is Internal, and says which; an
// error of the episode itself is returned as it is.
absl::Status CheckConformance(const Task& task, uint64_t seed,
                              const NewEpisode& new_episode);

// What an episode of `task` says to the same calls and answers each time: a
// text to keep, and to compare with. Of one that is deterministic the same
// bytes for the same seed.
absl::StatusOr<std::string> PlayTranscript(const Task& task, uint64_t seed,
                                           const NewEpisode& new_episode);

}  // namespace temper

#endif  // ENVIRONMENTS_CONFORMANCE_H_
