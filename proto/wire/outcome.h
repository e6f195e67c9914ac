// What an Outcome (proto/task.proto) says of its episode and is called: one
// definition for the environments, the learner and every report.
//
// Functions without state; thread-safe.

#ifndef PROTO_WIRE_OUTCOME_H_
#define PROTO_WIRE_OUTCOME_H_

#include <string>

#include "proto/task.pb.h"

namespace temper {

// Whether an episode that ended so is graded: OK, TRUNCATED, MODEL_ERROR,
// TOOL_ERROR, TIMEOUT. The others carry no reward (DESIGN.md section 7).
bool IsGraded(Outcome outcome);

// Whether the model kept to the chat format to the episode's end: the strict
// parser took every message of it, and no limit cut it off. What the messages
// say, right or wrong, is not looked at. Meant for graded outcomes; false for
// those that are no fault of the model.
bool IsWellFormed(Outcome outcome);

// "OK" for OUTCOME_OK; "outcome 99" for a number that is none.
std::string OutcomeName(Outcome outcome);

}  // namespace temper

#endif  // PROTO_WIRE_OUTCOME_H_
