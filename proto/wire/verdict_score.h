// What the scores of a Verdict (proto/task.proto) may be: one definition for
// who makes rewards of them and for who tests an environment.
//
// Functions without state; thread-safe.

#ifndef PROTO_WIRE_VERDICT_SCORE_H_
#define PROTO_WIRE_VERDICT_SCORE_H_

#include "absl/status/status.h"
#include "proto/task.pb.h"

namespace temper {

// InvalidArgument names the score that is not finite, out of its limits, not
// the only one of its name, or one too many.
absl::Status CheckScores(const Verdict& verdict);

}  // namespace temper

#endif  // PROTO_WIRE_VERDICT_SCORE_H_
