// What an Outcome (proto/task.proto) says of its episode: one definition for
// the learner's metrics and for every report.
//
// Functions without state; thread-safe.

#ifndef PROTO_WIRE_OUTCOME_H_
#define PROTO_WIRE_OUTCOME_H_

#include "proto/task.pb.h"

namespace temper {

// Whether the model kept to the chat format to the episode's end: the strict
// parser took every message of it, and no limit cut it off. What the messages
// say, right or wrong, is not looked at. Meant for graded outcomes; false for
// those that are no fault of the model.
inline bool IsWellFormed(Outcome outcome) {
  return outcome == OUTCOME_OK || outcome == OUTCOME_TOOL_ERROR ||
         outcome == OUTCOME_TIMEOUT;
}

}  // namespace temper

#endif  // PROTO_WIRE_OUTCOME_H_
